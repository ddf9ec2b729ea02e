"""What RollCall and Deregistration look at: the records of a place, what name servers answer, and the clouds' machines.

`Place`, `ServicePlace` and `Location` (components/compute/locations.py) are the plain inputs that name them in the state; `Registries`
asks. Credentials come from the stack's config first and the environment second, as the vendors' providers have them, never from the
inputs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from components.compute.base import CloudView
from components.compute.locations import Locations, Places
from components.compute.registry import cloud_of, view_of
from components.dns.base import Records
from components.dns.deleted_zones import PresentRecords
from components.dns.registry import AnyPlace, records_of
from components.model import DnsRecord, Instance, Member, RecordKey
from rollcall.ownership import Owner
from rollcall.zoneview import ZoneView

RESOLVERS = "rollcall:resolvers"


class Registries:
    """All places of one fleet in DNS, and its cloud."""

    def __init__(self, places: Sequence[AnyPlace], realm: Locations, config: Mapping[str, str]) -> None:
        self._places = tuple(places)
        self._cloud = realm.home.cloud
        views = {each: view_of(each.cloud, each.region, config) for each in (realm.home, *realm.others)}
        self._machines = Places(realm, views)
        resolvers = json.loads(config.get(RESOLVERS) or "[]")
        self._views = {domain: ZoneView(domain, resolvers) for domain in sorted({each.domain for each in self._places})}
        self._records = tuple(PresentRecords(each) for each in records_of(self._places, self._views, config))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found wrong with the zones' name servers when they were last asked: those without a vote, or that none has one."""
        return tuple(line for view in self._views.values() for line in view.notes)

    @property
    def delay(self) -> float:
        """Seconds by which the last answers may be behind what the APIs list."""
        return max((view.delay for view in self._views.values()), default=0.0)

    def compared(self, keys: Collection[RecordKey]) -> list[str]:
        """For each of these record sets what each name server and each resolver answers, as one line."""
        return list(dict.fromkeys(line for records in self._records for line in records.compared(keys)))

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

    def entries(self) -> tuple[DnsRecord, ...]:
        """Every entry at the places, ours and foreign; once each, though services share the place of their hosts. None where the zone
        was deleted."""
        return tuple(dict.fromkeys(entry for records in self._records for entry in records.entries()))

    def remove(self, entries: Iterable[DnsRecord]) -> None:
        """Remove these entries; one that is gone already is no error."""
        gone = list(entries)
        for records in self._records:
            records.remove(gone)

    def still_answered(self, entries: Iterable[DnsRecord]) -> list[DnsRecord]:
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

    def answers(self) -> dict[RecordKey, frozenset[str] | None]:
        """For each record set what every name server answers; None where that says nothing about single machines."""
        found: dict[RecordKey, frozenset[str] | None] = {}
        for records in self._records:
            for key, values in records.answers().items():
                before = found.get(key)
                found[key] = values if before is None or values is None else before | values
        return found

    def seen(self, stack: str) -> tuple[Instance, ...]:
        """The stack's machines where this fleet's are, and those that it answers for where fleets have been."""
        return self._machines.machines(stack)

    def unproven(self, stack: str, machines: Sequence[Instance]) -> dict[str, str]:
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

    def steps(self, members: Sequence[Member], seen: Sequence[Instance]) -> dict[str, str]:
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
