"""unilans.net on a real local name server, for the client's tests: its records, and the queries that it got."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import dns.message
import dns.rdatatype

from localcloud.dns.data import RecordSet
from localcloud.dns.server import Authority, Listener, bound_pair
from localcloud.network.faults import Faults

ZONE = "unilans.net"
SERVICE = f"_theService._tcp.{ZONE}"


@dataclass
class Zone:
    """Record sets that a test may change while the server runs."""

    sets: dict[tuple[str, str], RecordSet] = field(default_factory=dict)

    def put(self, name: str, rtype: str, *values: str, ttl: int = 30) -> None:
        self.sets[name.lower(), rtype] = RecordSet(name.lower(), rtype, ttl, values)

    def drop(self, name: str, rtype: str) -> None:
        del self.sets[name.lower(), rtype]

    def zones(self) -> tuple[str, ...]:
        return (ZONE,)

    def lookup(self, zone: str, name: str) -> tuple[RecordSet, ...] | None:
        found = tuple(each for (owner, _), each in self.sets.items() if owner == name)
        return found or (() if any(owner.endswith(f".{name}") for owner, _ in self.sets) else None)

    def service(self, *incarnations: str, ttl: int = 30) -> None:
        """The static records of theService."""
        self.put(f"_services._dns-sd._udp.{ZONE}", "PTR", f"{SERVICE}.")
        self.put(SERVICE, "PTR", *(f"{each}.{SERVICE}." for each in incarnations), ttl=ttl)
        for each in incarnations:
            self.put(f"{each}.{SERVICE}", "TXT", '"path=/"')

    def live(self, incarnation: str, *values: str, address: str = "127.0.0.1", ttl: int = 30) -> None:
        """Live machines: `PRIORITY WEIGHT PORT GENERATION` each."""
        parts = [value.split() for value in values]
        srv = (f"{' '.join(part[:3])} {part[3]}.rc.{ZONE}." for part in parts)
        self.put(f"{incarnation}.{SERVICE}", "SRV", *srv, ttl=ttl)
        for part in parts:
            self.put(f"{part[3]}.rc.{ZONE}", "A", address)


class Recording(Authority):
    """An authority that keeps what it was asked: `NAME TYPE`, with ` tcp` behind where it came that way."""

    queries: list[str]

    def answer(self, wire: bytes, *, over_tcp: bool = False, client: str = "") -> bytes | None:
        question = dns.message.from_wire(wire).question[0]
        self.queries.append(
            f"{question.name.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(question.rdtype)}" + " tcp" * over_tcp
        )
        return super().answer(wire, over_tcp=over_tcp)


@dataclass(frozen=True)
class Served:
    zone: Zone
    faults: Faults
    queries: list[str]
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextlib.contextmanager
def serving(zone: Zone | None = None) -> Iterator[Served]:
    zone, faults = zone or Zone(), Faults()
    authority = Recording([zone], {"ns.example": "127.0.0.1"}, faults)
    authority.queries = []
    udp, tcp = bound_pair("127.0.0.1")
    listener = Listener(authority, [udp], [tcp])
    listener.start()
    try:
        yield Served(zone, faults, authority.queries, udp.getsockname()[1])
    finally:
        listener.stop()


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Canned:
    """In the place of the network: what each resolver says, from `replies`, by its port. An exception is raised."""

    def __init__(self, *replies: bytes | Exception | dns.message.Message) -> None:
        self.replies: Sequence[bytes | Exception | dns.message.Message] = replies
        self.queries: list[int] = []

    def __call__(self, server: tuple[str, int], query: bytes, timeout: float, over_tcp: bool) -> bytes:
        self.queries.append(server[1])
        reply = self.replies[server[1] - 1]
        if isinstance(reply, Exception):
            raise reply
        wire = reply if isinstance(reply, bytes) else reply.to_wire()
        return query[:2] + wire[2:]
