"""What RollCall and Deregistration look at: the records of a place, what name servers answer, and the clouds' machines.

`Place`, `ServicePlace` and `Access` (components/compute/locations.py) are the plain inputs that name them in the state; `Registries`
asks. Credentials come from the stack's config first and the environment second, as the vendors' providers have them, never from the
inputs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from components.compute.base import CloudView, cloud_of, view_of
from components.compute.locations import Access as Access
from components.compute.locations import Places, Realm
from components.dns.cloudflare_access import cloudflare_token, cloudflare_url
from components.dns.cloudflare_store import RecordStore
from components.dns.deleted_zones import PresentRecords
from components.dns.route53 import WITHIN, ServicePlace, ServiceRecords, challenges, families, without_ipv6
from components.registration.diff import Entry, Member, Seen, Stand
from rollcall.cloudflare import CloudflareStore, Record
from rollcall.ownership import KEPT, Owner
from rollcall.retrying import retried
from rollcall.settings import CloudflareJoin, challenge_name
from rollcall.zoneview import ZoneView

ADDRESS_TYPES = ("A", "AAAA")
RESOLVERS = "rollcall:resolvers"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where members stand: a host in a Cloudflare zone. `zone` is the zone's id, `domain` its name, `ttl` in seconds; with `ipv6`
    by both families."""

    zone: str
    domain: str
    host: str
    ttl: int
    proxied: bool
    kind: str = "cloudflare"
    ipv6: bool = False

    def as_inputs(self) -> dict[str, Any]:
        return without_ipv6(asdict(self))

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, Any]) -> Place:
        return cls(
            zone=inputs["zone"],
            domain=inputs["domain"],
            host=inputs["host"],
            ttl=int(inputs["ttl"]),
            proxied=bool(inputs["proxied"]),
            kind=inputs["kind"],
            ipv6=bool(inputs.get("ipv6")),
        )

    @property
    def stands(self) -> tuple[Stand, ...]:
        """The record sets that every member must be in."""
        return tuple(Stand(place=f"{self.host} {rtype}") for rtype in families(self.ipv6))

    @property
    def told(self) -> CloudflareJoin:
        """What the machines that stand here are told, without their token."""
        return CloudflareJoin(
            zone=self.zone, host=self.host, token="", ttl=self.ttl, proxied=self.proxied, ipv6=self.ipv6
        )

    @property
    def lingering(self) -> float:
        return self.told.cached_s


AnyPlace = Place | ServicePlace


def place_of(inputs: Mapping[str, Any]) -> AnyPlace:
    return ServicePlace.from_inputs(inputs) if inputs["kind"] == "route53" else Place.from_inputs(inputs)


class Records(Protocol):
    """What stands at one place. Raises the errors of `rollcall.errors`."""

    def entries(self) -> tuple[Entry, ...]:
        """Every entry there, ours and foreign."""

    def answers(self) -> dict[str, frozenset[str] | None]:
        """For each record set what every name server answers; None where that says nothing about single machines."""

    def remove(self, entries: Iterable[Entry]) -> None:
        """Remove those of `entries` that are of this place; one that is gone already is no error."""

    def still_answered(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those of `entries`, which the API lists no more, that a name server still answers with."""

    def compared(self, places: Collection[str]) -> list[str]:
        """For each of these record sets that is here, what each name server and each resolver answers, as one line."""

    def split(self) -> list[str]:
        """A line for each record set here for which the resolvers have another answer than the name servers."""

    def challenged(self, gone: Owner) -> bool:
        """Whether there may be challenges for `gone`, by what `entries` last found."""

    def unchallenge(self, gone: Owner) -> None:
        """Take away the challenges for `gone`, whatever its instance was; none is no error."""


class SiteRecords:
    """The address records of a host in a Cloudflare zone."""

    def __init__(self, place: Place, store: CloudflareStore, view: ZoneView | None = None) -> None:
        self._place = place
        self._store = store
        self._view = view or ZoneView(place.domain)
        self._listed = frozenset(ADDRESS_TYPES)

    def entries(self) -> tuple[Entry, ...]:
        listed = retried(lambda: self._store.list(self._place.zone, self._place.host), WITHIN)
        self._listed = frozenset(record.type for record in listed)
        return tuple(_entry(record) for record in listed if record.type in ADDRESS_TYPES)

    def answers(self) -> dict[str, frozenset[str] | None]:
        """A proxied name answers with the edge's addresses."""
        place = self._place
        return {
            f"{place.host} {rtype}": None if place.proxied else self._answer(rtype) for rtype in families(place.ipv6)
        }

    def _answer(self, rtype: str) -> frozenset[str]:
        """What is not listed is not asked for: a resolver would keep for long that there is none (RFC 2308)."""
        return self._view.all_of(self._place.host, rtype) if rtype in self._listed else frozenset()

    def compared(self, places: Collection[str]) -> list[str]:
        host, types = self._place.host, families(self._place.ipv6)
        return [self._view.compare(host, rtype) for rtype in types if f"{host} {rtype}" in places]

    def split(self) -> list[str]:
        place = self._place
        types = () if place.proxied else families(place.ipv6)
        return [said for rtype in types if rtype in self._listed and (said := self._view.split(place.host, rtype))]

    def remove(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            zone, _, record = entry.id.partition("/")
            if zone == self._place.zone and entry.place.startswith(f"{self._place.host} "):
                retried(lambda zone=zone, record=record: self._store.delete(zone, record), WITHIN)  # type: ignore[misc]

    def still_answered(self, entries: Iterable[Entry]) -> list[Entry]:
        place = self._place
        mine = [] if place.proxied else [each for each in entries if each.place.startswith(f"{place.host} ")]
        types = {each.place.rpartition(" ")[2] for each in mine}
        known = {rtype: self._view.any_of(place.host, rtype) for rtype in types}
        return [each for each in mine if each.value in known[each.place.rpartition(" ")[2]]]

    def challenged(self, gone: Owner) -> bool:
        """A challenge has a name of its own, at which nothing has looked."""
        return True

    def unchallenge(self, gone: Owner) -> None:
        retried(lambda: self._unchallenge(gone), WITHIN)

    def _unchallenge(self, gone: Owner) -> None:
        for record in self._store.list(self._place.zone, challenge_name(gone, self._place.told)):
            if record.type == "TXT" and challenges(record.content, gone):
                self._store.delete(record.zone, record.id)


class Registries:
    """All places of one fleet in DNS, and its cloud."""

    def __init__(self, places: Sequence[AnyPlace], realm: Realm, config: Mapping[str, str]) -> None:
        self._places = tuple(places)
        self._cloud = realm.home.cloud
        views = {each: view_of(each.cloud, each.region, config) for each in (realm.home, *realm.others)}
        self._machines = Places(realm, views)
        # Whoever asks here retries.
        store = RecordStore(cloudflare_token(config.get), cloudflare_url(config.get), retries=False)
        resolvers = json.loads(config.get(RESOLVERS) or "[]")
        self._views = {domain: ZoneView(domain, resolvers) for domain in sorted({each.domain for each in self._places})}
        self._records: tuple[PresentRecords, ...] = tuple(
            PresentRecords(
                SiteRecords(place, store, self._views[place.domain])
                if isinstance(place, Place)
                else ServiceRecords(place, config=config, view=self._views[place.domain])
            )
            for place in self._places
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found wrong with the zones' name servers when they were last asked: those without a vote, or that none has one."""
        return tuple(line for view in self._views.values() for line in view.notes)

    @property
    def delay(self) -> float:
        """Seconds by which the last answers may be behind what the APIs list."""
        return max((view.delay for view in self._views.values()), default=0.0)

    def compared(self, places: Collection[str]) -> list[str]:
        """For each of these record sets what each name server and each resolver answers, as one line."""
        return list(dict.fromkeys(line for records in self._records for line in records.compared(places)))

    def split(self) -> list[str]:
        """A line for each record set for which the resolvers have another answer than the name servers."""
        return list(dict.fromkeys(line for records in self._records for line in records.split()))

    @property
    def longest_ttl(self) -> float:
        """Seconds for which a resolver may still answer with an entry that is gone."""
        return max((place.lingering for place in self._places), default=0.0)

    @property
    def gone(self) -> tuple[str, ...]:
        """The zones that the last look found deleted, by name and id. They hold no records."""
        found = [place for place, records in zip(self._places, self._records, strict=True) if records.gone]
        return tuple(sorted({f"{each.domain} ({each.zone})" for each in found}))

    def entries(self) -> tuple[Entry, ...]:
        """Every entry at the places, ours and foreign; once each, though services share the place of their hosts. None where the zone
        was deleted."""
        return tuple(dict.fromkeys(entry for records in self._records for entry in records.entries()))

    def remove(self, entries: Iterable[Entry]) -> None:
        """Remove these entries; one that is gone already is no error."""
        gone = list(entries)
        for records in self._records:
            records.remove(gone)

    def still_answered(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those of `entries`, which the APIs list no more, that a name server still answers with."""
        gone = list(entries)
        return [each for records in self._records for each in records.still_answered(gone)]

    def challenged(self, gone: Owner) -> Sequence[Records]:
        """Those places at which there may be challenges for a machine that is gone, by what `entries` last found."""
        return [records for records in self._records if records.challenged(gone)]

    def unchallenge(self, gone: Owner) -> None:
        """Take away the challenges for a machine that is gone, whatever its instance was: their watchers may be gone too."""
        for records in self._records:
            records.unchallenge(gone)

    def answers(self) -> dict[str, frozenset[str] | None]:
        """For each record set what every name server answers; None where that says nothing about single machines."""
        found: dict[str, frozenset[str] | None] = {}
        for records in self._records:
            for place, values in records.answers().items():
                before = found.get(place)
                found[place] = values if before is None or values is None else before | values
        return found

    def seen(self, stack: str) -> tuple[Seen, ...]:
        """The stack's machines where this fleet's are, and those that it answers for where fleets have been."""
        return self._machines.machines(stack)

    def unproven(self, stack: str, machines: Sequence[Seen]) -> dict[str, str]:
        """Why it is not proven that Rollcall made these machines, which have the tags of `stack`; by instance, only of those."""
        return {} if not machines else self._machines.unproven(stack, machines)

    def running_elsewhere(self, stack: str) -> frozenset[str]:
        """The instances of the stack that run elsewhere on this fleet's cloud."""
        return self._machines.running_elsewhere(stack)

    def still_former(self, stack: str) -> list[dict[str, Any]]:
        """Where fleets have been and machines of the stack still are."""
        return self._machines.still_former(stack)

    def sees(self, instance: str) -> bool:
        """Whether `seen` or `running_elsewhere` would show a machine with this id, if it ran: it is of this cloud."""
        return cloud_of(instance) == self._cloud

    def steps(self, members: Sequence[Member], seen: Sequence[Seen]) -> dict[str, str]:
        """The last step that each of these machines has told of, by instance; nothing for those that have told of none."""
        wanted = {member.instance for member in members}
        asked = [machine for machine in seen if machine.instance in wanted]
        return {instance: step for view in self._machines.views for instance, step in view.steps(asked).items()}

    def end(self, instances: Iterable[str]) -> None:
        """Terminate machines for good; one that is gone is no error."""
        wanted = list(instances)
        for view in self._machines.views:
            view.end(wanted)

    def drain(self, stack: str, members: Sequence[Member]) -> None:
        """`members` have the tags of `stack`, unless they name another; so in what follows."""
        for view, tagged, instances in self._of(stack, members):
            view.drain(tagged, instances)

    def undrain(self, stack: str, members: Sequence[Member]) -> None:
        for view, tagged, instances in self._of(stack, members):
            view.undrain(tagged, instances)

    def stop(self, stack: str, members: Sequence[Member]) -> None:
        """Begin to stop machines that have left and are about to be deleted, where a deletion would wait for that."""
        for view, tagged, instances in self._of(stack, members):
            view.stop(tagged, instances)

    def _of(self, stack: str, members: Sequence[Member]) -> Iterator[tuple[CloudView, str, list[str]]]:
        """Each cloud's view with the instances that have the tags of one stack; with those of `stack` first."""
        for tagged in dict.fromkeys((stack, *(each.stack or stack for each in members))):
            instances = [each.instance for each in members if (each.stack or stack) == tagged]
            yield from ((view, tagged, instances) for view in self._machines.views)


def _entry(record: Record) -> Entry:
    owner = Owner.parse(record.comment)
    return Entry(
        place=f"{record.name} {record.type}",
        value=record.content,
        owner=owner,
        id=f"{record.zone}/{record.id}",
        kept=owner is not None and record.comment.endswith(KEPT),
    )
