"""Make text for people from findings and from the progress of a roll call. Nothing here is read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from components.model import DesiredState, DnsRecord, Instance, Member, describe
from components.registration.diff import Cause, Drift, Finding, Kind
from components.registration.inventory import Registries
from rollcall.escaping import escaped
from rollcall.in_place import Hold

_RAISE_LIMIT = (
    "Nothing was removed. If you want this, run `pulumi config set rollcall:safeDeletes false` for one `pulumi up`."
)
NOT_PROVEN = "only its tags say that it is this stack's"
_REMOVE_TAGS = "If it is not this stack's, take its rollcall- tags away; if it is and is not needed, terminate it"


def line(finding: Finding) -> str:
    """Describe a finding in one line. Text that a stranger wrote into DNS or a tag is escaped."""
    return escaped(_DESCRIBED[finding.kind](finding))


def lines(drift: Drift, *kinds: Kind) -> list[str]:
    """Describe the findings of these kinds."""
    return [line(each) for each in drift.of(*kinds)]


def on_hold(drift: Drift) -> list[str]:
    """Describe the members that an operator keeps out of DNS, one in a line."""
    return [
        escaped(f"{describe(each.member)}: on hold{since(each.hold)}: {each.hold.reason}") for each in drift.on_hold
    ]


def since(hold: Hold) -> str:
    """Return ` since TIME`; empty where an operator wrote the setting by hand, without a time."""
    return f" since {hold.since}" if hold.since else ""


def properties(drift: Drift) -> dict[str, list[str]]:
    """Return RollCall's properties in the state that show the drift: the lines of each kind of finding."""
    return {kind.value: lines(drift, kind) for kind in Kind}


def _missing(finding: Finding) -> str:
    name, values = _name(finding.member), ", ".join(finding.values)
    if finding.cause is Cause.UNHEALTHY:
        return f"{name} is at {finding.key} and kept although unhealthy"
    if finding.cause is Cause.NOT_ANSWERED:
        return f"{name} is in the zone with {values}, but the name servers do not answer with it at {finding.key}"
    if finding.cause is Cause.NOT_RESOLVED:
        return f"{name} is in the zone with {values}, but not every resolver that machines report answers with it at {finding.key}"
    return f"{name} is not at {finding.key}{f': {Cause.NO_IPV6.value}' if finding.cause is Cause.NO_IPV6 else ''}"


def _stale(finding: Finding) -> str:
    if finding.cause is Cause.ON_HOLD:
        return f"{_name(finding.member)} is on hold, and it is still at {finding.key} with {', '.join(finding.values)}"
    verb = "it should be with" if finding.cause is Cause.OTHER_VALUE else "it has"
    values, expected = ", ".join(finding.values), ", ".join(finding.expected)
    return f"{_name(finding.member)} is at {finding.key} with {values}, {verb} {expected}"


def _leftover(finding: Finding) -> str:
    return f"{', '.join(finding.values)} of {_name(finding.member)} at {finding.key}"


def _foreign(finding: Finding) -> str:
    by = f"stack {finding.member.stack}" if finding.member else "no owner"
    return f"{', '.join(finding.values)} ({by}) at {finding.key}"


def _orphaned(finding: Finding) -> str:
    member = finding.member
    return f"{member.instance} ({', '.join(finding.values)}) is tagged {member.name}" if member else ""


def _unproven(finding: Finding) -> str:
    return f"{_orphaned(finding)}, and {NOT_PROVEN} ({finding.doubt}), so it is not ended. {_REMOVE_TAGS}."


_DESCRIBED = {
    Kind.MISSING: _missing,
    Kind.STALE: _stale,
    Kind.LEFTOVER: _leftover,
    Kind.FOREIGN: _foreign,
    Kind.ORPHANED: _orphaned,
    Kind.UNPROVEN: _unproven,
}


def _name(member: Member | None) -> str:
    return describe(member) if member else "an unknown machine"


def progress(desired: DesiredState, drift: Drift, instances: Sequence[Instance], steps: Mapping[str, str]) -> str:
    """Name the members that do not answer, with the last step that each has reached."""
    waiting = [each for each in desired.members if each in drift.waiting]
    machines = {machine.instance: machine for machine in instances}
    shown = [f"{describe(each)}: {_step(machines.get(each.instance), steps)}" for each in waiting]
    shown += [f"{each} remains" for each in lines(drift, Kind.LEFTOVER)]
    out = {each.member for each in drift.on_hold}
    answering = len({*desired.members} - {*waiting} - out)
    reasons = "; ".join(shown) or "the last check"
    more = f", {len(out)} on hold" if out else ""
    return f"{desired.fleet}: {answering} of {len(desired.members)} answer{more}; waiting for {reasons}"


def _step(machine: Instance | None, steps: Mapping[str, str]) -> str:
    if machine is None:
        return "its cloud does not list it"
    reached = steps.get(machine.instance) or machine.note
    return f"{machine.state}{f', {reached}' if reached else ', booting' if machine.running else ''}"


def facts(
    desired: DesiredState, drift: Drift, instances: Sequence[Instance], steps: Mapping[str, str]
) -> Iterator[tuple[str, ...]]:
    """Yield what shows progress: the members that answer, the state and the last step of the others, and the number of leftover records.

    Only the name of a step counts, which is the text before its first colon. The error after it may change each time.
    """
    waiting = {each.instance for each in drift.waiting}
    yield ("leftover", str(len(drift.leftovers)))
    yield from ((each.instance, "answers") for each in desired.members if each.instance not in waiting)
    for machine in instances:
        if machine.instance in waiting:
            step = steps.get(machine.instance) or machine.note
            yield (machine.instance, machine.state, step.partition(":")[0])


def zones_deleted(desired: DesiredState, zones: Sequence[str]) -> str:
    return (
        f"{desired.fleet}: the zone {', '.join(zones)} was deleted, so no machine can be in it. Make the zone again, or "
        "name another one, and run `pulumi up` again."
    )


def too_many_leftovers(desired: DesiredState, records: Sequence[DnsRecord], total: int) -> str:
    """Say that the safety limit prevents the removal of leftover records. `total` is how many records there are."""
    return _refused(
        f"{desired.fleet}: {len(records)} of {total} records are left over and would be removed at once",
        (f"{each.value} at {each.key}" for each in records),
    )


def several_twins(desired: DesiredState, machines: Sequence[Instance]) -> str:
    """Say that the safety limit prevents the end of several machines with the same generation, which is a member's."""
    return _refused(
        f"{desired.fleet}: {len(machines)} machines have the generation of a member and are in no state, several of them the same one",
        map(_tagged, machines),
    )


def too_many_orphans(desired: DesiredState, machines: Sequence[Instance], total: int) -> str:
    """Say that the safety limit prevents the end of orphaned machines. `total` is how many machines there are."""
    return _refused(
        f"{desired.fleet}: {len(machines)} of {total} machines are tagged with stack {desired.stack} and are in no state",
        map(_tagged, machines),
    )


def _refused(what: str, each: Iterable[str]) -> str:
    return f"{what}:\n" + "\n".join(f"  - {one}" for one in each) + f"\n{_RAISE_LIMIT}"


def _tagged(machine: Instance) -> str:
    return f"{machine.instance} ({machine.fleet}-{machine.machine}, {machine.state})"


def complaint(
    desired: DesiredState, drift: Drift, instances: Sequence[Instance], registries: Registries, timeout: float
) -> str:
    """Say why a roll call gave up: each machine that does not answer, with the last step that it has reached."""
    machines = {machine.instance: machine for machine in instances}
    waiting = [each for each in desired.members if each in drift.waiting]
    steps = registries.steps(waiting, instances)
    text = [f"{desired.fleet}: the roll call was not answered, and nothing changed for {timeout:.0f} s:"]
    for finding in drift.of(Kind.MISSING, Kind.STALE):
        machine = machines.get(finding.member.instance) if finding.member else None
        text.append(f"  - {line(finding)}; {_step(machine, steps)}")
    more = (*lines(drift, Kind.LEFTOVER, Kind.UNPROVEN), *registries.notes, *registries.compared(drift.unanswered))
    text += [f"  - {each}" for each in more]
    text.append("Read /var/log/rollcall.log on the machine, fix the cause, and run `pulumi up` again.")
    return "\n".join(text)
