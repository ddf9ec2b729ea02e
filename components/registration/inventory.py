"""Ask for what RollCall and Deregistration compare: the records of a place, the answers of name servers, the clouds' machines.

`Place`, `ServicePlace` and `Location` (components/compute/locations.py) are the plain inputs that name them in the state; `Registries`
asks. Credentials come from the stack's config first and from the environment second, as the vendors' providers read them. They are
never inputs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from components.compute.base import CloudView
from components.compute.locations import FleetMachines, Locations
from components.compute.registry import cloud_of, view_of
from components.dns.base import Place, Records
from components.dns.deleted_zones import PresentRecords
from components.dns.reported_view import ReportedView
from components.model import DnsRecord, Instance, Member, RecordKey, describe, member_of
from components.workloads.release import Release
from rollcall.in_place import ReleaseReport
from rollcall.ownership import Owner
from rollcall.resolver_view import ResolverReport
from rollcall.zoneview import ZoneView

RESOLVERS = "rollcall:resolvers"


class Registries:
    """All places of one fleet in DNS, and the locations of its cloud."""

    def __init__(
        self, places: Sequence[Place], locations: Locations, config: Mapping[str, str], stack: str = ""
    ) -> None:
        self._places, self._stack = tuple(places), stack
        self._cloud = locations.home.cloud
        views = {each: view_of(each.cloud, each.region, config) for each in (locations.home, *locations.others)}
        self._machines = FleetMachines(locations, views)
        resolvers = json.loads(config.get(RESOLVERS) or "[]")
        private = {each.domain: each.cached_seconds for each in self._places if each.private}
        public = sorted({each.domain for each in self._places if not each.private})
        self._views: dict[tuple[str, bool], ZoneView] = {(each, False): ZoneView(each, resolvers) for each in public}
        self._reported = [ReportedView(each, self._resolver_reports, private[each]) for each in sorted(private)]
        self._views.update({(zone, True): view for zone, view in zip(sorted(private), self._reported, strict=True)})
        self._records = tuple(
            PresentRecords(each.records(self._views[each.domain, each.private], config)) for each in self._places
        )

    def _resolver_reports(self) -> dict[str, ResolverReport]:
        """Return what running machines of the stack at this fleet's location report about their resolvers, by machine."""
        listed = {each.instance: each for each in self.instances(self._stack) if each.running}
        found: dict[str, ResolverReport] = {}
        for view in self._machines.views:
            for instance, report in view.resolver_reports(list(listed.values())).items():
                found[describe(member_of(listed[instance]))] = report
        return found

    @property
    def sources(self) -> tuple[str, ...]:
        """Whose answers those for private zones are, one line for each zone."""
        return tuple(each.source for each in self._reported)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was wrong with the zones' name servers when they were last asked: each that has no vote, or that none has one."""
        return tuple(line for view in self._views.values() for line in view.notes)

    @property
    def delay(self) -> float:
        """For how many seconds the last answers may be older than what the APIs list."""
        return max((view.delay for view in self._views.values()), default=0.0)

    def compared(self, keys: Collection[RecordKey]) -> list[str]:
        """Return a line for each of these record sets: what each name server and each resolver answers."""
        return list(dict.fromkeys(line for records in self._records for line in records.compared(keys)))

    def split(self) -> list[str]:
        """Return a line for each record set for which the resolvers have another answer than the name servers."""
        return list(dict.fromkeys(line for records in self._records for line in records.split()))

    @property
    def longest_ttl(self) -> float:
        """For how many seconds a resolver may still answer with a record that is gone."""
        return max((place.cached_seconds for place in self._places), default=0.0)

    @property
    def gone(self) -> tuple[str, ...]:
        """The zones that were found deleted when records were last listed, by name and id. They have no records."""
        found = [place for place, records in zip(self._places, self._records, strict=True) if records.gone]
        return tuple(sorted({f"{each.domain} ({each.zone})" for each in found}))

    def dns_records(self) -> tuple[DnsRecord, ...]:
        """Return every record at the places, ours and foreign, each once, although services share their hosts. A deleted zone has none."""
        return tuple(dict.fromkeys(each for records in self._records for each in records.dns_records()))

    def remove(self, dns_records: Iterable[DnsRecord]) -> None:
        """Remove these records. A record that is gone already is not an error."""
        gone = list(dns_records)
        for records in self._records:
            records.remove(gone)

    def take_out(self, dns_records: Iterable[DnsRecord]) -> None:
        """Remove these DNS records of machines that run. The hosts of their services stay, as `leaving`."""
        out = list(dns_records)
        for records in self._records:
            records.take_out(out)

    def still_answered(self, dns_records: Iterable[DnsRecord]) -> list[DnsRecord]:
        """Return those of `dns_records`, which the APIs no longer list, that a name server still answers with."""
        gone = list(dns_records)
        return [each for records in self._records for each in records.still_answered(gone)]

    def challenged(self, gone: Owner) -> Sequence[Records]:
        """Return the places at which there may be challenges for a machine that is gone, by what `dns_records` last found."""
        return [records for records in self._records if records.challenged(gone)]

    def unchallenge(self, gone: Owner) -> None:
        """Remove the challenges for a machine that is gone, whatever its instance was: their watchers may be gone too."""
        for records in self._records:
            records.unchallenge(gone)

    def answers(self) -> dict[RecordKey, frozenset[str] | None]:
        """Return what every name server answers for each record set; None where the answers do not show single machines."""
        found: dict[RecordKey, frozenset[str] | None] = {}
        for records in self._records:
            for key, values in records.answers().items():
                before = found.get(key)
                found[key] = values if before is None or values is None else before | values
        return found

    def instances(self, stack: str) -> tuple[Instance, ...]:
        """Return the stack's machines at this fleet's location, and those that it is responsible for where fleets have been."""
        return self._machines.machines(stack)

    def unproven(self, stack: str, machines: Sequence[Instance]) -> dict[str, str]:
        """Return why it is not proven that Rollcall created these machines, which have the tags of `stack`, by instance.

        A machine that is proven to be Rollcall's is not in it.
        """
        return {} if not machines else self._machines.unproven(stack, machines)

    def running_elsewhere(self, stack: str) -> frozenset[str]:
        """Return the instances of the stack that run at other locations of this fleet's cloud."""
        return self._machines.running_elsewhere(stack)

    def still_former(self, stack: str) -> list[dict[str, Any]]:
        """Return the locations where fleets have been and machines of the stack still are."""
        return self._machines.still_former(stack)

    def sees(self, instance: str) -> bool:
        """Return whether this machine is on this fleet's cloud.

        Then `instances` or `running_elsewhere` contains it if it runs.
        """
        return cloud_of(instance) == self._cloud

    def steps(self, members: Sequence[Member], instances: Sequence[Instance]) -> dict[str, str]:
        """Return the last step that each of these machines has reported, by instance, without those that have reported none."""
        wanted = {member.instance for member in members}
        machines = [machine for machine in instances if machine.instance in wanted]
        return {instance: step for view in self._machines.views for instance, step in view.steps(machines).items()}

    def end(self, instances: Iterable[str]) -> None:
        """Terminate machines. A machine that is gone already is not an error."""
        wanted = list(instances)
        for view in self._machines.views:
            view.end(wanted)

    def reports(self, machines: Sequence[Instance]) -> dict[str, ReleaseReport]:
        """Return what machines report about their releases in place, by instance."""
        return {
            instance: report for view in self._machines.views for instance, report in view.reports(machines).items()
        }

    def deliver(self, instances: Sequence[str], releases: Sequence[Release]) -> None:
        """Give machines these releases, on a cloud without a store."""
        for view in self._machines.views:
            view.deliver(instances, releases)

    def drain(self, stack: str, members: Sequence[Member]) -> None:
        """Ask machines to leave DNS. Here and below, `members` have the tags of `stack`, unless they name another stack."""
        for view, tagged, instances in self._of(stack, members):
            view.drain(tagged, instances)

    def undrain(self, stack: str, members: Sequence[Member]) -> None:
        for view, tagged, instances in self._of(stack, members):
            view.undrain(tagged, instances)

    def set_settings(self, stack: str, changes: Mapping[str, Mapping[str, str | None]]) -> None:
        """Write live settings of running machines that have the tags of `stack`, by instance. None removes a setting."""
        for view in self._machines.views:
            view.set_settings(stack, changes)

    def console(self, machine: Instance) -> str | None:
        """Return what the console of a machine shows; None where its cloud gives no console."""
        return next((found for view in self._machines.views if (found := view.console(machine)) is not None), None)

    def stop(self, stack: str, members: Sequence[Member]) -> None:
        """Begin to stop machines that have left and are deleted next, on a cloud where a deletion would wait for that."""
        for view, tagged, instances in self._of(stack, members):
            view.stop(tagged, instances)

    def _of(self, stack: str, members: Sequence[Member]) -> Iterator[tuple[CloudView, str, list[str]]]:
        """Yield each cloud's view with the instances that have the tags of one stack; those of `stack` first."""
        for tagged in dict.fromkeys((stack, *(each.stack or stack for each in members))):
            instances = [each.instance for each in members if (each.stack or stack) == tagged]
            yield from ((view, tagged, instances) for view in self._machines.views)
