"""Find what exists already where the stack's static records and its zones will be: ours and forgotten, or of others.

An `up` that was cut short may have created a record that no state contains, and no DNS API takes the same record twice.
A record of ours is given to the engine as an import. Any other one is refused here, by name and with the fix. What the
state has is not checked here: a difference there is drift, which the engine shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.config.models import FleetSettings, ServiceDiscoverySettings
from components.config.site_zones import ZoneSettings
from components.dns.route53_zones import Sets
from components.preflight.lost_tokens import LostToken
from components.preflight.state import PriorState
from components.resources.existing import ExistingResources, InZone
from components.resources.service_directory import StaticRecord, static_records
from components.resources.site import apex_comment, apex_resource, setting_resource, zone_resource
from components.resources.ssh_drain import leave_name
from rollcall.cloudflare import Record
from rollcall.settings import GENERATION

HOW = "docs/adopting.md has the commands"
DIRECTORY_ZONE = "directory-zone"
_RECORD, _ZONE = "cloudflare:index/dnsRecord:DnsRecord", "cloudflare:index/zone:Zone"
_SET, _HOSTED_ZONE = "aws:route53/record:Record", "aws:route53/zone:Zone"
_INSTANCE = "aws:ec2/instance:Instance"
_SETTING, _COMMAND = "cloudflare:index/zoneSetting:ZoneSetting", "command:local:Command"
_AVAILABILITY_ZONE = "pulumi-python:dynamic/rollcall:AvailabilityZone"
_DEREGISTRATION = "pulumi-python:dynamic/rollcall:Deregistration"
_ROLL_CALL = "pulumi-python:dynamic/rollcall:RollCall"
_RELEASE = "pulumi-python:dynamic/rollcall:Release"
# The types that cannot be beside a CNAME, and CNAME itself.
_IN_THE_WAY = ("A", "AAAA", "CNAME")


@dataclass(frozen=True, kw_only=True)
class ExistingReport(ExistingResources):
    """What exists, and what that means.

    `faults` must be fixed before anything is created. `warnings` and `notes` are shown at a preview. `lost_tokens` are
    Cloudflare tokens that `up` revokes.
    """

    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    lost_tokens: tuple[LostToken, ...] = ()

    def __add__(self, other: ExistingReport) -> ExistingReport:
        return ExistingReport(
            taken={**self.taken, **other.taken},
            by_hand=self.by_hand | other.by_hand,
            fleets=self.fleets | other.fleets,
            by_ssh=self.by_ssh | other.by_ssh,
            uncounted=self.uncounted + other.uncounted,
            renamed=self.renamed | other.renamed,
            in_zones={**self.in_zones, **other.in_zones},
            faults=self.faults + other.faults,
            warnings=self.warnings + other.warnings,
            notes=self.notes + other.notes,
            lost_tokens=self.lost_tokens + other.lost_tokens,
            token_account=self.token_account or other.token_account,
        )


def apex(zone: ZoneSettings, stack: str, present: Iterable[Record], state: PriorState) -> ExistingReport:
    """Compare the zone's apex with `present`, the records that exist there.

    Ours is a CNAME with this stack's comment. A record that the state contains may have another comment; its id
    identifies it. A record with our comment is ours too, if it was made by hand in place of the one in the state.
    """
    if zone.apex is None:
        return ExistingReport()
    resource = apex_resource(zone.zone)
    recorded = state.outputs(_RECORD, resource)
    for record in present:
        if record.type not in _IN_THE_WAY or (recorded is not None and recorded.get("id") in (None, record.id)):
            continue
        if record.type == "CNAME" and record.comment == apex_comment(stack):
            return ExistingReport(
                taken={resource: f"{record.zone}/{record.id}"},
                notes=(f"{record.name} is a CNAME with this stack's comment and in no state: it is taken over",),
            )
        comment = f", with the comment {record.comment!r}" if record.comment else ""
        hand_over = f"Hand it over ({HOW}), d" if record.type == "CNAME" else "D"
        return ExistingReport(
            faults=(
                f"{zone.apex.key}.apex: {record.name} {record.type} {record.content} is there already{comment}, and not this stack's. "
                f"{hand_over}elete it, or set apex: false.",
            )
        )
    return ExistingReport()


def directory(settings: ServiceDiscoverySettings, zone: str, sets: Sets, state: PriorState) -> ExistingReport:
    """Find the directory's records.

    Route53 has no comments: a record with exactly our values and TTL counts as ours.
    """
    found = ExistingReport()
    for each in static_records(settings):
        here = sets(f"{each.name}.").get(each.type)
        if here is None or (_SET, each.resource) in state:
            continue
        if _is_ours(each, here):
            note = f"{each.name} {each.type} has what this stack would write and is in no state: it is taken over"
            found += ExistingReport(taken={each.resource: f"{zone}_{each.name}_{each.type}"}, notes=(note,))
        else:
            found += ExistingReport(faults=(_refused(each, here),))
    return found


def _is_ours(wanted: StaticRecord, here: Mapping[str, Any]) -> bool:
    values = tuple(sorted(each["Value"] for each in here.get("ResourceRecords") or ()))
    return "SetIdentifier" not in here and (values, here.get("TTL")) == (wanted.wire, wanted.ttl)


def _refused(wanted: StaticRecord, here: Mapping[str, Any]) -> str:
    values = ", ".join(each["Value"] for each in here.get("ResourceRecords") or ()) or "an alias"
    other = "set publishServiceTypes: false, " if wanted.resource == "directory-services" else ""
    return (
        f"rollcall:serviceDiscovery: {wanted.name} {wanted.type} is there already with {values} (TTL {here.get('TTL')}), and this stack "
        f"would write {', '.join(wanted.wire)} (TTL {wanted.ttl}). Hand it over ({HOW}), {other}or delete it."
    )


def site_zone(zone: ZoneSettings, id_: str, state: PriorState) -> ExistingReport:
    """Refuse to create a zone that exists, with this id, and is not in the state."""
    return _zone(zone.key("create"), (_ZONE, zone_resource(zone.zone)), zone.zone, id_, state)


def directory_zone(directory: ServiceDiscoverySettings, id_: str, state: PriorState) -> ExistingReport:
    """Refuse to create a hosted zone that exists, with this id, and is not in the state."""
    resource = (_HOSTED_ZONE, DIRECTORY_ZONE)
    return _zone("rollcall:serviceDiscovery.create", resource, directory.zone, id_, state)


def _zone(key: str, resource: tuple[str, str], name: str, id_: str, state: PriorState) -> ExistingReport:
    if resource in state:
        return ExistingReport()
    fix = f"Leave create out to use it as it is, or let the state have it ({HOW})"
    return ExistingReport(faults=(f"{key}: the zone {name} is there already, as {id_}. {fix}.",))


def fleets(state: PriorState) -> ExistingReport:
    """Return the fleets in the state.

    Each machine has a Deregistration, which is created before it and deleted after it.
    """
    return ExistingReport(fleets=frozenset(str(each["fleet"]) for each in state.outputs_of(_DEREGISTRATION)))


def changed_ways(fleets: Iterable[FleetSettings], state: PriorState) -> ExistingReport:
    """Say which fleets change between the two ways to take another release: this replaces their machines once."""
    there = {str(each["fleet"]) for each in state.outputs_of(_DEREGISTRATION)}
    in_place = {str(each["fleet"]) for each in state.outputs_of(_RELEASE)}
    # A first `up` that failed has left machines, and no Release.
    counted = {str(each["fleet"]) for each in state.outputs_of(_ROLL_CALL)}
    changes = [each for each in fleets if each.name in there & counted and each.in_place != (each.name in in_place)]
    return ExistingReport(
        notes=tuple(
            f"{each.name}: `release: {each.release}` is another way to take a release, so all machines of the fleet are replaced once, "
            "successors first"
            for each in changes
        )
    )


def uncounted(state: PriorState) -> ExistingReport:
    """Return the machines of each `up` that failed before its roll calls, since the last one that succeeded.

    They leave like any other machine, if another `up` does not want them. The state gives one resource of each name. Of
    several that failed, the last Deregistration has the machines of the others.
    """
    counted = {
        str(member["generation"]) for each in state.outputs_of(_ROLL_CALL) for member in each.get("members") or ()
    }
    keys = ("stack", "fleet", "machine", "generation")
    missed = [
        {key: str(machine[key]) for key in keys}
        for each in state.outputs_of(_DEREGISTRATION)
        if each["generation"] not in counted
        for machine in (*(each.get("uncounted") or ()), each)
    ]
    return ExistingReport(uncounted=tuple(sorted(missed, key=lambda each: [each[key] for key in keys])))


def renamed(state: PriorState, stack: str) -> ExistingReport:
    """Return the machines that were created under another stack id: the stack, or its project, has been renamed since."""
    made = {f"{each['fleet']}-{each['machine']}": str(each["stack"]) for each in state.outputs_of(_DEREGISTRATION)}
    found = {name: former for name, former in made.items() if former != stack}
    return ExistingReport(
        renamed=frozenset(found),
        notes=tuple(
            f"the machines {', '.join(sorted(name for name in found if found[name] == former))} were made by this stack as {former}: each "
            f"is replaced by one of {stack}, and leaves when its successor answers"
            for former in sorted({*found.values()})
        ),
    )


def settings_left(zone: ZoneSettings, state: PriorState) -> ExistingReport:
    """Report zone settings that the program no longer declares.

    They stay as they are, because the previous values are not stored.
    """
    if zone.proxied or (_SETTING, setting_resource(zone.zone, "ssl")) not in state:
        return ExistingReport()
    return ExistingReport(
        notes=(
            f"{zone.key('proxied')}: is off again. The zone keeps ssl strict and always_use_https on, and the machines answer by http "
            "only, so the proxied apex would fail. Set always_use_https off and ssl as you want it in Cloudflare, or apex: false.",
        )
    )


def drained_by_ssh(machines: Sequence[str], state: PriorState) -> ExistingReport:
    """Return those of `machines` (`web-0`) that have a command in the state that drains them."""
    return ExistingReport(by_ssh=frozenset(each for each in machines if (_COMMAND, leave_name(each)) in state))


def instances(names: Sequence[str], state: PriorState) -> ExistingReport:
    """Return imported instances. User data runs at the first boot only, so each is replaced, successor first."""
    outputs_by_name = {name: state.outputs(_INSTANCE, name) for name in names}
    found = [name for name, outputs in outputs_by_name.items() if outputs is not None and not _is_booted_by_us(outputs)]
    return ExistingReport(
        by_hand=frozenset(found),
        notes=tuple(
            f"{name} was not booted by Rollcall and cannot join: it is replaced, and is removed when its successor answers"
            for name in found
        ),
    )


def in_zones(names: Sequence[str], state: PriorState) -> ExistingReport:
    """Return where the state has these EC2 machines."""
    found = {}
    for name in names:
        instance, choice = state.outputs(_INSTANCE, name), state.outputs(_AVAILABILITY_ZONE, name)
        subnet, zone = (str((instance or {}).get(key) or "") for key in ("subnetId", "availabilityZone"))
        chosen = choice or {}
        # A machine may be elsewhere than its choice says: in the choice's `up` it was not created yet.
        zone_id = str(chosen.get("zone_id") or "") if chosen.get("zone") == zone else ""
        found[name] = InZone(subnet=subnet, zone=zone, zone_id=zone_id, chosen=choice is not None)
    return ExistingReport(in_zones=found)


def _is_booted_by_us(outputs: Mapping[str, Any]) -> bool:
    return bool((outputs.get("tags") or {}).get(GENERATION))
