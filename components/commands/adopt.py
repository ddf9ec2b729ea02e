"""`rollcall adopt`: mark records that were made by hand as records of the stack's machines.

    rollcall adopt [--stack prod] [--json] [--yes]        (the same as python -m components.commands.adopt; default: the selected stack)

Lists every record at the sites' hosts and in the services' sets that no machine of the stack wrote: the machine that it
would belong to, or why it stays foreign. With --yes, the mark of this machine is written: at Cloudflare as the record's
comment, in a zone with dynamic updates as a TXT below the host. Nothing else is changed. Needs what `rollcall status`
needs.

Exit code 0: listed, or written; 1: a record changed meanwhile and was left as it was; 2: it could not be found out
(why, on stderr).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from components.aws import api_errors
from components.aws.region import own_region
from components.commands import site_marks
from components.commands.site_marks import SiteMarks
from components.commands.status import StatusError, exported, program
from components.compute.registry import view_of
from components.config.errors import ConfigurationError
from components.config.models import ServiceDiscoverySettings, Settings
from components.config.servers import at_port
from components.config.site_zones import zones_of
from components.dns.cloudflare import ADDRESS_TYPES
from components.dns.rfc2136 import DynamicServicePlace, required_tsig_key
from components.dns.route53 import ServicePlace
from components.joyent.errors import CloudApiError
from components.model import BY_HAND, RecordKey
from components.preflight import zone_names
from components.resources.tags import named
from rollcall.cloudflare import Record
from rollcall.errors import RollcallError
from rollcall.escaping import escaped, escaped_lines
from rollcall.ownership import Owner
from rollcall.route53 import LABEL
from rollcall.settings import GENERATION
from rollcall.zoneview import ZoneView

_MACHINES = {
    "aws:ec2/instance:Instance": ("aws", "Ec2Fleet"),
    "pulumi-python:dynamic/joyent:Machine": ("joyent", "JoyentFleet"),
}
_BESIDE = "a machine's own value comes beside it, then delete this one"
_WITHIN_SERVICE = f"the host of a member is a name below {LABEL}; {_BESIDE}"


@dataclass(frozen=True, kw_only=True)
class RunningMachine:
    """A machine in the state, as its records would be marked. `addresses` are those of a machine that runs."""

    owner: Owner
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, order=True, kw_only=True)
class Verdict:
    """One record that no machine of the stack wrote.

    `becomes` is the mark that it would get, empty where it stays foreign. `reason` is the reason.
    """

    key: RecordKey
    value: str
    becomes: str
    reason: str


def verdict(record: Record, stack: str, machines: Iterable[RunningMachine], fleets: Collection[str]) -> Verdict | None:
    """Return what will become of a record at a site's host; None for a record that a machine of the stack wrote.

    `fleets` are the names of the fleets that join the site. Machines of other fleets would not keep the record.
    """
    marked = Owner.parse(record.comment)
    if marked is not None and marked.stack == stack:
        return None
    owner = next((each.owner for each in machines if record.content in each.addresses), None)
    mark = ""
    if record.type not in ADDRESS_TYPES:
        reason = "no address record"
    elif marked is not None:
        reason = f"it is of stack {marked.stack}"
    elif record.comment:
        reason = f"it has another comment, {record.comment!r}, which would be lost: clear it first"
    elif owner is None:
        reason = "no running machine of the state has this address"
    elif owner.fleet not in fleets:
        reason = (
            f"the address of {owner.fleet}-{owner.machine} ({owner.instance}), and its fleet does not join this site"
        )
    else:
        mark, reason = str(owner), f"the address of {owner.fleet}-{owner.machine} ({owner.instance})"
    return Verdict(key=RecordKey(record.name, record.type), value=record.content, becomes=mark, reason=reason)


def owners(resources: Iterable[Mapping[str, Any]]) -> list[tuple[str, Owner]]:
    """Return the machines of the fleets in an exported state, each with its cloud.

    An imported machine has no generation.
    """
    found = []
    for each in resources:
        cloud, of = _MACHINES.get(each["type"], ("", ""))
        home = str(each.get("parent", ""))
        if not cloud or each.get("delete") or f"rollcall:index:{of}::" not in home:
            continue
        stack, project = _stack_of(home)
        fleet, name = home.rpartition("::")[2], each["urn"].rpartition("::")[2]
        tags = (each.get("outputs") or {}).get("tags") or {}
        generation = str(tags.get(GENERATION) or BY_HAND)
        found.append(
            (cloud, Owner(named(project, stack), fleet, name.removeprefix(f"{fleet}-"), generation, each["id"]))
        )
    return found


def _stack_of(urn: str) -> tuple[str, str]:
    """Split `urn:pulumi:STACK::PROJECT::…` into (STACK, PROJECT)."""
    head, project = urn.split("::")[:2]
    return head.rpartition(":")[2], project


def running(
    found: Sequence[tuple[str, Owner]], config: Mapping[str, str], regions: Mapping[str, str] | None = None
) -> list[RunningMachine]:
    """Return the same machines with their present addresses. `regions` are those that fleets name, by fleet."""
    own, named_by = {"aws": own_region(config.get)} if any(cloud == "aws" for cloud, _ in found) else {}, regions or {}
    homes = [(cloud, named_by.get(owner.fleet) or own.get(cloud, ""), owner) for cloud, owner in found]
    found_running = []
    for cloud, region in sorted({(cloud, region) for cloud, region, _ in homes}):
        mine = {owner.instance: owner for *home, owner in homes if home == [cloud, region]}
        for instance in view_of(cloud, region, config).of(sorted(mine)):
            if instance.state == "running":
                addresses = (*instance.addresses, *instance.private_addresses)
                found_running.append(RunningMachine(owner=mine[instance.instance], addresses=addresses))
    return found_running


def in_services(
    settings: Settings,
    stack: str,
    config: Mapping[str, str],
) -> list[Verdict]:
    """Return the records in the services' sets that no machine of the stack wrote: they stay foreign."""
    directory, found = settings.service_discovery, []
    kind = _PLACES[directory.provider](directory, config) if directory is not None else None
    if directory is None or kind is None:
        return []
    for service in directory.services:
        for name in (each for incarnation in service.incarnations for each in incarnation.sets):
            place = kind(
                domain=directory.zone, service=service.label, incarnation=name,
                port=service.port, priority=0, weight=0, ttl=service.ttl,
            )  # fmt: skip
            for record in place.records(ZoneView(place.domain), config).dns_records():
                if (
                    record.key != place.record_sets[0].key
                    or record.dead
                    or (record.owner and record.owner.stack == stack)
                ):
                    continue
                reason = f"it is of stack {record.owner.stack}" if record.owner else _WITHIN_SERVICE
                found.append(Verdict(key=record.key, value=record.value, becomes="", reason=reason))
    return found


def write(site: SiteMarks, records: Iterable[Record], marks: Mapping[str, str]) -> dict[str, str]:
    """Write the marks, by a record's id. Return the records that changed after they were listed, by id: they stay as they are."""
    left = {each.id: site.mark(each, marks[each.id]) for each in records if each.id in marks}
    return {record: now for record, now in left.items() if now}


def shown(verdicts: Sequence[Verdict], written: bool) -> str:
    """Return the text for people: which record will belong to which machine, then which stay foreign and why."""
    ours, foreign = ([each for each in verdicts if bool(each.becomes) is wanted] for wanted in (True, False))
    if not verdicts:
        return "Every DNS record belongs to a machine of this stack, so there is nothing to adopt."
    head = "Marked as the stack's" if written else "Would become the stack's (--yes writes the mark)"
    lines = [head, *(f"  {each.key} {each.value}: {each.reason}" for each in ours)] if ours else []
    rest = ["Stay foreign", *(f"  {each.key} {each.value}: {each.reason}" for each in foreign)] if foreign else []
    return "\n".join(map(escaped, [*lines, *rest]))


def _of_route53(directory: ServiceDiscoverySettings, config: Mapping[str, str]) -> Callable[..., ServicePlace] | None:
    from components.aws.session import session_of
    from components.dns.route53_zones import hosted_zone

    zone = hosted_zone(session_of(config.get).client("route53"), directory)
    return None if zone is None else partial(ServicePlace, zone=zone)


def _of_dynamic(directory: ServiceDiscoverySettings, config: Mapping[str, str]) -> Callable[..., ServicePlace]:
    required_tsig_key(config.get, directory.zone)
    return partial(DynamicServicePlace, server=at_port(directory.server or ""))


# The record sets of a service, by the `provider` of the configuration. None: the credentials show no such zone.
_PLACES: dict[str, Callable[[ServiceDiscoverySettings, Mapping[str, str]], Callable[..., ServicePlace] | None]] = {
    "route53": _of_route53,
    "rfc2136": _of_dynamic,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rollcall adopt", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stack", default="", help="default: the selected stack")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--yes", action="store_true", help="write the marks")
    chosen = parser.parse_args(arguments)

    try:
        return _adopt(chosen)
    except (StatusError, ConfigurationError, RollcallError, CloudApiError) as fault:
        print(escaped_lines(f"rollcall adopt: {fault}"), file=sys.stderr)
    except api_errors.failures() as failed:
        print(escaped_lines(f"rollcall adopt: {api_errors.message_of(failed)}"), file=sys.stderr)
    return 2


def _adopt(chosen: argparse.Namespace) -> int:
    resources, config = exported(chosen.stack)
    found = owners(resources)
    if not resources:
        raise StatusError(
            "state: it has no resource. Run `pulumi up` first: `adopt` gives records to machines of the state."
        )
    stack = named(*reversed(_stack_of(str(resources[0]["urn"]))))
    settings = program(stack, config, zone_names.ids_from_apis(config.get))
    verdicts = in_services(settings, stack, config)
    machines = (
        running(found, config, {each.name: each.region or "" for each in settings.fleets}) if settings.sites else []
    )
    written: list[str] = []
    left: dict[str, str] = {}
    for zone in zones_of(settings):
        for site in zone.sites:
            listed = site_marks.marks_of(zone, site, config)
            if listed is None:
                continue
            fleets, records = {each.name for each in settings.fleets_at(site.join)}, listed.list()
            proposed = [(each, verdict(each, stack, machines, fleets)) for each in records]
            verdicts += [each for _, each in proposed if each is not None]
            marks = {record.id: each.becomes for record, each in proposed if each is not None and each.becomes}
            changed = write(listed, records, marks) if chosen.yes else {}
            left |= {f"{site.fqdn} {record}": reason for record, reason in changed.items()}
            written += [mark for record, mark in marks.items() if chosen.yes and record not in changed]
    verdicts.sort()
    if chosen.json:
        print(
            json.dumps(
                {
                    "stack": stack,
                    "records": [asdict(each) for each in verdicts],
                    "written": sorted(written),
                    "left": left,
                }
            )
        )
    else:
        print(
            "\n".join(
                [
                    shown(verdicts, chosen.yes),
                    *(f"Changed meanwhile, and left as it was: {escaped(each)}" for each in left),
                ]
            )
        )
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
