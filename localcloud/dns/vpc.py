"""The resolver of each VPC: it answers for the private zones of the VPC first, and remembers these answers.

A name in a private zone is never looked up in a public zone, even if the private zone does not have it, and even if a public zone has a
longer name: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/hosted-zone-private-considerations.html . A resolver remembers an
answer for its TTL, and for the lesser of the SOA's TTL and minimum that a name does not exist (RFC 2308 section 5).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from localcloud.dns.data import ZoneSource
from localcloud.dns.server import Resolver
from localcloud.network.faults import Faults


@dataclass(frozen=True, kw_only=True)
class _Remembered:
    """An answer, and when it was given. It is used until `until`."""

    since: float
    until: float
    rcode: dns.rcode.Rcode
    answer: Sequence[dns.rrset.RRset]
    authority: Sequence[dns.rrset.RRset]


class VpcResolver(Resolver):
    """The resolver of one VPC. `private` are its private zones."""

    def __init__(
        self,
        private: ZoneSource,
        sources: Sequence[ZoneSource],
        name_servers: Mapping[str, str],
        hosts: Mapping[str, str],
        faults: Faults | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__((private, *sources), name_servers, hosts, faults)
        self._private, self._clock = private, clock
        self._known: dict[tuple[str, dns.rdatatype.RdataType], _Remembered] = {}

    def _zone_of(self, name: str) -> tuple[str, ZoneSource] | None:
        return self._private_zone_of(name) or super()._zone_of(name)

    def _private_zone_of(self, name: str) -> tuple[str, ZoneSource] | None:
        zones = (each for each in self._private.zones() if name == each or name.endswith(f".{each}"))
        longest = max(zones, key=len, default="")
        return (longest, self._private) if longest else None

    def _fill(self, reply: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> None:
        text = name.to_text(omit_final_dot=True).lower()
        key, now = (text, rdtype), self._clock()
        known = self._known.get(key)
        if known is not None and now < known.until:
            age = int(now - known.since)
            reply.flags |= dns.flags.RA
            reply.set_rcode(known.rcode)
            reply.answer += [_aged(each, age) for each in known.answer]
            reply.authority += [_aged(each, age) for each in known.authority]
            return
        super()._fill(reply, name, rdtype)
        rrsets = reply.answer or reply.authority
        if self._private_zone_of(text) is None or not rrsets:
            return
        self._known[key] = _Remembered(
            since=now,
            until=now + min(each.ttl for each in rrsets),
            rcode=reply.rcode(),
            answer=tuple(copy.copy(each) for each in reply.answer),
            authority=tuple(copy.copy(each) for each in reply.authority),
        )


class VpcResolvers(Resolver):
    """The resolver at the gateway of a network. It answers each machine as the resolver of its VPC does.

    `vpc_at` returns the VPC of an address (empty: none), and `in_vpc` the private zones of a VPC.
    """

    def __init__(
        self,
        sources: Sequence[ZoneSource],
        name_servers: Mapping[str, str],
        hosts: Mapping[str, str],
        faults: Faults | None,
        vpc_at: Callable[[str], str],
        in_vpc: Callable[[str], ZoneSource],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(sources, name_servers, hosts, faults)
        self._vpc_at, self._in_vpc, self._clock = vpc_at, in_vpc, clock
        self._of: dict[str, VpcResolver] = {}

    def answer(self, wire: bytes, *, over_tcp: bool = False, client: str = "") -> bytes | None:
        vpc = self._vpc_at(client) if client else ""
        if not vpc or not self._in_vpc(vpc).zones():
            return super().answer(wire, over_tcp=over_tcp)
        return self._resolver_of(vpc).answer(wire, over_tcp=over_tcp)

    def _resolver_of(self, vpc: str) -> VpcResolver:
        if vpc not in self._of:
            made = VpcResolver(self._in_vpc(vpc), self._sources, self._servers, {}, self._faults, self._clock)
            # A host that is added later is known to all of them.
            made._hosts, made._added = self._hosts, self._added
            self._of[vpc] = made
        return self._of[vpc]


def _aged(rrset: dns.rrset.RRset, seconds: int) -> dns.rrset.RRset:
    made = copy.copy(rrset)
    made.ttl = max(rrset.ttl - seconds, 0)
    return made
