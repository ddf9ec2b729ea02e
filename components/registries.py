"""What RollCall and Deregistration look at: the records of a place, what name servers answer, and the clouds' machines.

`Place` and `Access` are the plain inputs that name them in the state; `Registries` does the looking. Credentials come from
the environment first and the stack's config second (`cloudflare:apiToken`), never from the inputs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.attendance import Entry, Member, Seen
from components.clouds import CloudView, view_of
from components.resolving import answered_by_all
from rollcall.cloudflare import CloudflareStore, Record
from rollcall.ownership import Owner

ADDRESS_TYPES = ("A", "AAAA")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where members stand: a host in a Cloudflare zone. `zone` is the zone's id, `domain` its name, `ttl` in seconds."""

    zone: str
    domain: str
    host: str
    ttl: int
    proxied: bool
    kind: str = "cloudflare"

    def as_inputs(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, Any]) -> Place:
        return cls(
            zone=inputs["zone"],
            domain=inputs["domain"],
            host=inputs["host"],
            ttl=int(inputs["ttl"]),
            proxied=bool(inputs["proxied"]),
            kind=inputs["kind"],
        )

    @property
    def record_sets(self) -> tuple[str, ...]:
        """The record sets that every member must be in."""
        return (f"{self.host} A",)


@dataclass(frozen=True, kw_only=True)
class Access:
    """The cloud that a fleet's machines are on. `region` is the AWS region; empty on Joyent."""

    cloud: str
    region: str = ""

    def as_inputs(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, Any]) -> Access:
        return cls(cloud=inputs["cloud"], region=inputs.get("region") or "")


class Registries:
    """All places of one fleet, and its cloud."""

    def __init__(self, places: Sequence[Place], access: Access, config: Mapping[str, str]) -> None:
        self._places = tuple(places)
        self._view: CloudView = view_of(access.cloud, access.region, config)
        token = os.environ.get("CLOUDFLARE_API_TOKEN") or config.get("cloudflare:apiToken", "")
        self._store = CloudflareStore(token)

    @property
    def longest_ttl(self) -> float:
        """Seconds for which a resolver may still answer with an entry that is gone. Cloudflare answers proxied names, and
        those with an automatic TTL, for 300 s, but a proxied name's addresses do not change when a machine leaves."""
        return max(
            (300.0 if place.ttl == 1 else float(place.ttl) for place in self._places if not place.proxied), default=0.0
        )

    def entries(self) -> tuple[Entry, ...]:
        """Every address record at the places, ours and foreign."""
        return tuple(_entry(record) for place in self._places for record in self._records(place))

    def remove(self, entries: Iterable[Entry]) -> None:
        """Remove these entries; one that is gone already is no error."""
        for entry in entries:
            zone, _, record = entry.id.partition("/")
            self._store.delete(zone, record)

    def answers(self) -> dict[str, frozenset[str] | None]:
        """For each place what every name server answers; None for a proxied one, which answers with the edge's addresses."""
        found: dict[str, frozenset[str] | None] = {}
        for place in self._places:
            for name in place.record_sets:
                found[name] = (
                    None if place.proxied else answered_by_all(place.domain, place.host, name.rpartition(" ")[2])
                )
        return found

    def seen(self, stack: str) -> tuple[Seen, ...]:
        """The stack's machines on this fleet's cloud."""
        return self._view.machines(stack)

    def drain(self, stack: str, members: Sequence[Member]) -> None:
        self._view.drain(stack, [member.instance for member in members])

    def undrain(self, stack: str, members: Sequence[Member]) -> None:
        self._view.undrain(stack, [member.instance for member in members])

    def _records(self, place: Place) -> tuple[Record, ...]:
        return tuple(record for record in self._store.list(place.zone, place.host) if record.type in ADDRESS_TYPES)


def _entry(record: Record) -> Entry:
    owner = Owner.parse(record.comment)
    return Entry(
        place=f"{record.name} {record.type}", value=record.content, owner=owner, id=f"{record.zone}/{record.id}"
    )
