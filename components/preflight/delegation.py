"""Check whether the parent of a zone delegates it to the provider's name servers, and whether each of these answers for it.

The parent's name servers are asked, because only they have the delegation (RFC 1034 section 4.2.1): a referral has it in the authority
section. A server to which a zone is delegated and that does not answer for it with authority is lame (RFC 8499 section 7). Port 53 must
be open for UDP and for TCP (RFC 7766 section 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype

from rollcall import zoneview
from rollcall.zoneview import Server

_TIMEOUT_S = 1.5
_AT_ONCE = 8
_SILENT = "does not answer"
Ask = Callable[[dns.message.Message, Server], dns.message.Message]


@dataclass(frozen=True, kw_only=True)
class Delegation:
    """The name servers of a zone as its `parent` names them. `fault`: why they are not known. `missing`: the parent has none."""

    parent: str = ""
    names: frozenset[str] = frozenset()
    fault: str = ""
    missing: bool = False


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What each name server of a zone does, by the way it was asked (`UDP` or `TCP`) and its name: why it is no use, or an empty text.

    `unknown`: why a server has no address.
    """

    by_way: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)

    def silent(self, way: str) -> bool:
        """Return whether there are servers, and none of them answers when it is asked in this way."""
        replies = self.by_way.get(way) or {}
        return bool(replies) and all(each == _SILENT for each in replies.values())

    @property
    def faults(self) -> list[str]:
        """One text for each server that is of no use."""
        found = dict(self.unknown)
        for way, replies in self.by_way.items():
            for name, why in replies.items():
                if why and name not in found:
                    found[name] = f"{why} by {way}" if why == _SILENT else why
        return [f"{name} {why}" for name, why in sorted(found.items())]


def delegation_of(zone: str, resolvers: Sequence[Server]) -> Delegation:
    """Return what the parent of a zone says. The resolvers find the parent and its name servers."""
    parent = _parent_of(zone, resolvers)
    if not parent:
        return Delegation(fault="no resolver names a zone above it")
    servers = zoneview.name_servers(parent, resolvers).servers
    query = _question(zone, "NS")
    for server in servers:
        reply = _queried(query, server, _by_udp)
        if reply is None or reply.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            continue
        names = frozenset(_names(reply, zone))
        return Delegation(parent=parent, names=names, missing=not names)
    return Delegation(parent=parent, fault=f"none of the name servers of {parent} can be asked from here")


def answers_of(zone: str, names: Iterable[str], resolvers: Sequence[Server]) -> Answers:
    """Ask each of these name servers for the SOA of the zone, by UDP and by TCP."""
    known, unknown = dict[str, Server](), dict[str, str]()
    for name in sorted(names):
        found = _address(name, resolvers)
        if found is None:
            unknown[name] = "has no address that a resolver knows"
        else:
            known[name] = found
    return Answers(by_way=_queried_both_ways(zone, known), unknown=unknown)


def answers_at(zone: str, servers: Iterable[Server]) -> Answers:
    """Ask these servers as `answers_of` does, where their addresses are given."""
    return Answers(by_way=_queried_both_ways(zone, {str(each): each for each in servers}))


def _queried_both_ways(zone: str, servers: Mapping[str, Server]) -> dict[str, dict[str, str]]:
    query = _question(zone, "SOA")
    pairs = [(way, ask, name) for way, ask in (("UDP", _by_udp), ("TCP", _by_tcp)) for name in servers]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        faults = list(pool.map(lambda pair: _fault(_queried(query, servers[pair[2]], pair[1]), zone), pairs))
    found: dict[str, dict[str, str]] = {}
    for (way, _, name), fault in zip(pairs, faults, strict=True):
        found.setdefault(way, {})[name] = fault
    return found


def _fault(reply: dns.message.Message | None, zone: str) -> str:
    return _SILENT if reply is None else zoneview.judged(reply, zone, "SOA", recursive=False).fault


def _parent_of(zone: str, resolvers: Sequence[Server]) -> str:
    """Return the closest name above a zone that has NS records: the parent. `.` is the root."""
    name = dns.name.from_text(zone)
    while name != dns.name.root:
        name = name.parent()
        if _looked_up(name.to_text(), "NS", resolvers):
            return name.to_text(omit_final_dot=True) or "."
    return ""


def _address(name: str, resolvers: Sequence[Server]) -> Server | None:
    for rtype in ("A", "AAAA"):
        found = sorted(_looked_up(name, rtype, resolvers))
        if found:
            return at(found[0], name)
    return None


def at(address: str, name: str) -> Server:
    """Return the server at an address."""
    return Server(address=address, name=name)


def _looked_up(name: str, rtype: str, resolvers: Sequence[Server]) -> frozenset[str]:
    """Return the values that the first resolver that answers has."""
    query = dns.message.make_query(name, rtype)
    wanted = dns.rdatatype.from_text(rtype)
    for resolver in resolvers:
        reply = _queried(query, resolver, _by_udp)
        if reply is not None and reply.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return frozenset(item.to_text() for each in reply.answer if each.rdtype == wanted for item in each)
    return frozenset()


def _names(reply: dns.message.Message, zone: str) -> Iterable[str]:
    """Yield the names of the NS records of the zone in a reply: in a referral, or where a server has both zones, in the answer."""
    wanted = dns.name.from_text(zone)
    for each in (*reply.answer, *reply.authority):
        if each.rdtype == dns.rdatatype.NS and each.name == wanted:
            yield from (item.target.to_text(omit_final_dot=True).lower() for item in each)


def _question(name: str, rtype: str) -> dns.message.Message:
    query = dns.message.make_query(name, rtype)
    query.flags &= ~dns.flags.RD
    return query


def _queried(query: dns.message.Message, server: Server, ask: Ask) -> dns.message.Message | None:
    """Return the reply; None if there is none."""
    try:
        return ask(query, server)
    except (dns.exception.DNSException, OSError, EOFError):
        # EOFError: the server closed the connection without an answer.
        return None


def _by_udp(query: dns.message.Message, server: Server) -> dns.message.Message:
    reply, _ = dns.query.udp_with_fallback(query, server.address, port=server.port, timeout=_TIMEOUT_S)
    return reply


def _by_tcp(query: dns.message.Message, server: Server) -> dns.message.Message:
    return dns.query.tcp(query, server.address, port=server.port, timeout=_TIMEOUT_S)
