"""Compare what the program declares with what the state, the roll calls and the clouds have, machine by machine: one pure function.

The fourth set, DNS, is compared with the members of each roll call by `attendance.difference`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from components.model import GOING, Instance, Member, describe


@dataclass(frozen=True, order=True, kw_only=True)
class Held:
    """A machine in the stack's state. `counted`: a roll call has it among its members. `going`: the state has it only until it is
    deleted."""

    member: Member
    counted: bool = True
    going: bool = False


@dataclass(frozen=True, kw_only=True)
class Missing:
    """What each of the sets lacks, as sorted lines that begin with the machine."""

    in_program: tuple[str, ...] = ()
    in_state: tuple[str, ...] = ()
    in_roll_call: tuple[str, ...] = ()
    in_cloud: tuple[str, ...] = ()


def missing(fleet: str, count: int | None, held: Iterable[Held], seen: Iterable[Instance]) -> Missing:
    """What is not everywhere of a fleet that the program declares with `count` machines, None where it does not declare it. `held` are the
    fleet's machines in the state, `seen` all that its cloud lists."""
    state, machines = tuple(held), {each.instance: each for each in seen}
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


def _not_in_program(held: Held, count: int | None) -> str:
    who = describe(held.member)
    if held.going:
        return f"{who} is in the state to be deleted: the last `pulumi up` did not come to it, so run it again"
    number = held.member.machine
    if count is not None and number.isdecimal() and int(number) < count:
        return ""
    return f"{who} is in the state and not in the program: `pulumi up` lets it leave and deletes it"


def _not_in_cloud(held: Held, machines: Mapping[str, Instance]) -> str:
    machine = machines.get(held.member.instance)
    if machine is None or machine.state in GOING:
        return f"{describe(held.member)} is in the state and its cloud does not list it: `pulumi up` makes another"
    return "" if machine.running else f"{describe(held.member)} does not run, its cloud says {machine.state}"


def _sorted(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(filter(None, lines)))
