"""What a zone's own name servers answer, asked one by one (RFC 1034 section 4.3), not what some cache holds.

`ROLLCALL_DNS=HOST:PORT` in the environment names the name server to ask instead: a split-horizon primary, or a rehearsal.
"""

from __future__ import annotations

import os

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.resolver

_TIMEOUT = 3.0


def answered_by_all(zone: str, name: str, rtype: str) -> frozenset[str]:
    """The values of `name` that every name server of `zone` answers with; empty where one says there are none.

    A server that does not answer at all has no say (RFC 2182: a resolver asks the next one), unless none does; then the
    result is empty.
    """
    answers = _answers(zone, name, rtype)
    return frozenset.intersection(*answers) if answers else frozenset()


def answered_by_any(zone: str, name: str, rtype: str) -> frozenset[str]:
    """The values of `name` that one name server of `zone` at least still answers with: a cache may take them up yet."""
    return frozenset().union(*_answers(zone, name, rtype))


def name_servers(zone: str) -> tuple[tuple[str, int], ...]:
    """Address and port of each name server of `zone`."""
    override = os.environ.get("ROLLCALL_DNS")
    if override:
        host, _, port = override.rpartition(":")
        return ((host, int(port)),) if host else ((override, 53),)
    try:
        names = [str(record.target) for record in dns.resolver.resolve(zone, "NS", lifetime=_TIMEOUT * 2)]
        return tuple(
            (record.address, 53) for name in names for record in dns.resolver.resolve(name, "A", lifetime=_TIMEOUT * 2)
        )
    except dns.exception.DNSException:
        return ()


def _answers(zone: str, name: str, rtype: str) -> list[frozenset[str]]:
    return [found for server, port in name_servers(zone) if (found := _ask(server, port, name, rtype)) is not None]


def _ask(server: str, port: int, name: str, rtype: str) -> frozenset[str] | None:
    query = dns.message.make_query(name, rtype)
    query.flags &= ~dns.flags.RD
    try:
        reply, _ = dns.query.udp_with_fallback(query, server, port=port, timeout=_TIMEOUT)
    except (dns.exception.DNSException, OSError):
        return None
    wanted = dns.rdatatype.from_text(rtype)
    return frozenset(item.to_text() for rrset in reply.answer if rrset.rdtype == wanted for item in rrset)
