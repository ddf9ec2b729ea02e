"""Compare what the program declares with what the state, the roll calls and the clouds have, machine by machine: one pure function.

DNS is compared with the members of each roll call by `components.registration.diff.find_drift`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from components.model import GOING, Instance, Member, describe


@dataclass(frozen=True, order=True, kw_only=True)
class StateMachine:
    """A machine in the stack's state.

    `counted`: it is a member of a roll call. `going`: the state has it only until it is deleted. `releases` are the digests of its
    workloads, by workload. A machine that changes in place has none here.
    """

    member: Member
    counted: bool = True
    going: bool = False
    releases: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class Missing:
    """What each of the sets lacks, as sorted lines that begin with the machine."""

    in_program: tuple[str, ...] = ()
    in_state: tuple[str, ...] = ()
    in_roll_call: tuple[str, ...] = ()
    in_cloud: tuple[str, ...] = ()


def missing(fleet: str, count: int | None, state: Iterable[StateMachine], instances: Iterable[Instance]) -> Missing:
    """Return the machines of a fleet that are not everywhere. The program declares `count` machines; None: it does not declare the fleet.

    `state` are the fleet's machines in the state, `instances` all that its cloud lists.
    """
    state, machines = tuple(state), {each.instance: each for each in instances}
    there = {each.member.machine for each in state if not each.going}
    return Missing(
        in_state=tuple(
            f"{fleet}-{at} is in the program and not in the state: `pulumi up` makes it"
            for at in range(count or 0)
            if str(at) not in there
        ),
        in_program=_sorted(_not_in_program(each, count) for each in state),
        in_roll_call=_sorted(
            ""
            if each.counted or each.going
            else f"{describe(each.member)} is in the state and in no roll call: the `pulumi up` that "
            "made it failed, so run it again"
            for each in state
        ),
        in_cloud=_sorted(_not_in_cloud(each, machines) for each in state),
    )


def _not_in_program(machine: StateMachine, count: int | None) -> str:
    name = describe(machine.member)
    if machine.going:
        return f"{name} is in the state to be deleted: the last `pulumi up` did not come to it, so run it again"
    number = machine.member.machine
    if count is not None and number.isdecimal() and int(number) < count:
        return ""
    return f"{name} is in the state and not in the program: `pulumi up` lets it leave and deletes it"


def _not_in_cloud(machine: StateMachine, instances: Mapping[str, Instance]) -> str:
    name, instance = describe(machine.member), instances.get(machine.member.instance)
    if instance is None or instance.state in GOING:
        return f"{name} is in the state and its cloud does not list it: `pulumi up` makes another"
    return "" if instance.running else f"{name} does not run, its cloud says {instance.state}"


def _sorted(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(filter(None, lines)))
