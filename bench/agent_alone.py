"""`rollcall run` for a bench: `agent_alone.py SETTINGS DNS_PORT`. As on a machine, but told by this file, with the local name
server in the place of the zone's, and the other machines' ports in the place of theirs."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from rollcall.agent import Agent, reachable, run
from rollcall.clouds import File


def answers_of(name: str) -> frozenset[str] | None:
    """As rollcall.answers has it, without the search for the zone's servers."""
    import dns.exception
    import dns.resolver

    types = ["SRV"] if "._" in name else ["TXT"] if ".c.rc." in name else ["A"]
    found: set[str] = set()
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port, resolver.lifetime = ["127.0.0.1"], int(sys.argv[2]), 5
    try:
        for rtype in types:
            answer = resolver.resolve(name, rtype, raise_on_no_answer=False)
            found |= {str(getattr(each, "target", each)).rstrip(".").lower() for each in answer}
    except dns.resolver.NXDOMAIN:
        pass
    except (dns.exception.DNSException, OSError):
        return None
    return frozenset(found)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    logging.disable(logging.INFO)
    settings = Path(sys.argv[1])
    made = Agent(
        File(settings),
        status_file=settings.with_name("status.json"),
        look_up=answers_of,
        reach=lambda _, told: reachable("127.0.0.1", told),
    )
    sys.exit(run(made))
