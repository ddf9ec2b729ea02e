"""What name servers answer, as the agent looks at it."""

from __future__ import annotations

import socket


def answers_of(name: str) -> frozenset[str] | None:
    """What the zone's own servers answer: a host's addresses, the targets of a service (`v1._theService._tcp…`), the texts of
    a challenge. A resolver would remember for half an hour that there was nothing. None where nobody answers: nothing
    follows from that."""
    import dns.exception
    import dns.resolver

    types = ["SRV"] if "._" in name else ["TXT"] if ".c.rc." in name else ["A", "AAAA"]
    found: set[str] = set()
    try:
        resolver = dns.resolver.Resolver()
        resolver.lifetime = 5
        servers = resolver.resolve(dns.resolver.zone_for_name(name), "NS")
        resolver.nameservers = [socket.gethostbyname(str(each.target)) for each in servers]
        for rtype in types:
            answer = resolver.resolve(name, rtype, raise_on_no_answer=False)
            found |= {str(getattr(each, "target", each)).rstrip(".").lower() for each in answer}
    except dns.resolver.NXDOMAIN:
        pass
    except (dns.exception.DNSException, OSError):
        return None
    return frozenset(found)
