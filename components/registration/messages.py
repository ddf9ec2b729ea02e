"""What a roll call says while it waits, and when it gives up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from components.model import DesiredState, Instance, Member, describe
from components.registration.diff import (
    Drift,
)
from components.registration.inventory import Registries


def waiting_for(roll: DesiredState, found: Drift) -> list[Member]:
    lines = (*found.missing, *found.stale)
    return [member for member in roll.members if any(member.instance in line for line in lines)]


def progress(roll: DesiredState, found: Drift, seen: Sequence[Instance], steps: Mapping[str, str]) -> str:
    """Who has answered, who has not, and the last step that those have reached."""
    waiting = waiting_for(roll, found)
    machines = {machine.instance: machine for machine in seen}
    shown = [f"{describe(each)}: {_step(machines.get(each.instance), steps)}" for each in waiting]
    shown += [f"{line} to go" for line in found.left_over]
    answering = len(roll.members) - len(waiting)
    return f"{roll.fleet}: {answering} of {len(roll.members)} answer; waiting for {'; '.join(shown) or 'the last look'}"


def _step(machine: Instance | None, steps: Mapping[str, str]) -> str:
    if machine is None:
        return "its cloud does not list it"
    said = steps.get(machine.instance) or machine.note
    return f"{machine.state}{f', {said}' if said else ', booting' if machine.running else ''}"


def facts(
    roll: DesiredState, found: Drift, seen: Sequence[Instance], steps: Mapping[str, str]
) -> Iterator[tuple[str, ...]]:
    """Yield what shows that a roll call gets on: who answers, the state and the last step of who does not, what is left to remove.

    Of a step only its name counts, and not the error behind it, which may be another one each time.
    """
    waiting = {each.instance for each in waiting_for(roll, found)}
    yield ("left over", str(len(found.left_over)))
    yield from ((each.instance, "answers") for each in roll.members if each.instance not in waiting)
    for machine in seen:
        if machine.instance in waiting:
            step = steps.get(machine.instance) or machine.note
            yield (machine.instance, machine.state, step.partition(":")[0])


def complaint(
    roll: DesiredState, found: Drift, seen: Sequence[Instance], registries: Registries, timeout: float
) -> str:
    machines = {machine.instance: machine for machine in seen}
    steps = registries.steps(waiting_for(roll, found), seen)
    lines = [f"{roll.fleet}: the roll call was not answered, and nothing changed for {timeout:.0f} s:"]
    for line in (*found.missing, *found.stale, *found.left_over):
        instance = next((each.instance for each in roll.members if each.instance in line), "")
        lines.append(f"  - {line}; {_step(machines.get(instance), steps)}" if instance else f"  - {line}")
    more = (*found.unproven, *registries.notes, *registries.compared(found.unanswered))
    lines += [f"  - {line}" for line in more]
    lines.append("  Look into /var/log/rollcall.log on the machine; `pulumi up` again once it is mended.")
    return "\n".join(lines)
