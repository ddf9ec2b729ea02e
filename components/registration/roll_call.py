"""The roll call: wait until every member answers, remove leftover records, end orphaned machines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from components.joyent.pacing import Stall
from components.model import BY_HAND, DesiredState, DnsRecord, Instance, Member
from components.registration.diff import (
    Drift,
    find_drift,
    is_of_another,
    is_safe_delete,
    is_safe_end,
    owned,
    with_doubts,
)
from components.registration.draining import POLL, say_once, see_off
from components.registration.engine import Engine
from components.registration.inventory import Registries
from components.registration.messages import complaint, facts, progress
from components.registration.props import roll_with
from rollcall.escaping import escaped_lines

STEPS_EVERY = 4.0
_BRAKE_MEND = "Nothing was removed. If that is meant, `pulumi config set rollcall:brake false` for one `pulumi up`."


class RollCallError(Exception):
    """A machine does not answer, one that leaves does not go, or too many would go; the message names each and why."""

    def __init__(self, message: str) -> None:
        super().__init__(escaped_lines(message))


def until_answered(
    registries: Registries, props: Mapping[str, Any], *, leaving: tuple[Member, ...], engine: Engine
) -> Drift:
    """Wait until every member answers, remove what is left over, end orphans. Raises RollCallError after the time-out."""
    roll = roll_with(props, leaving=leaving)
    brake = bool(props.get("brake", True))
    stall = Stall(time.monotonic)
    said, looked = "", time.monotonic()
    steps: Mapping[str, str] = {}
    noted: set[str] = set()
    doubts: dict[str, str] = {}
    registries.undrain(roll.stack, roll.members)
    while True:
        seen = registries.seen(roll.stack)
        entries = registries.entries()
        if roll.members and registries.gone:
            raise RollCallError(
                f"{roll.fleet}: the zone {', '.join(registries.gone)} was deleted, so no machine can be in it. Make the zone again, or "
                "name another one, and run `pulumi up` again."
            )
        found = proven(registries, roll, find_drift(roll, entries, seen, registries.answers()), doubts)
        say_once(registries.notes, noted, engine)
        known = [each for each in found.leftovers if each.dead or (each.owner and registries.sees(each.owner.instance))]
        # What has a former id of the stack and runs is on its way out, or of a new stack with that name.
        alive = {each.instance for former in roll.former_stacks for each in registries.seen(former) if each.running}
        known = [each for each in known if each.owner is None or each.owner.instance not in alive]
        by_hand = [each for each in known if each.owner and each.owner.generation == BY_HAND]
        stray = [each for each in known if each not in by_hand]
        _remove_strays(registries, roll, stray, seen, len(entries), brake, engine)
        all_twins = _twins(roll, found.orphans)
        twins = _replaced(roll, all_twins, seen, brake)
        if twins:
            # It has a member's generation, so it stands in that one's way.
            _see_off_and_end(registries, roll, twins, drain_delay(registries, props), engine)
            engine.say(
                f"{roll.fleet}: ended {', '.join(each.instance for each in twins)}, made by an `up` that was interrupted"
            )
        elif found.complete and found.orphans and not all_twins:
            _end_orphans(registries, roll, found.orphans, len(seen), brake, drain_delay(registries, props), engine)
            stall.restart()
        elif found.complete and by_hand:
            # No agent takes them away, and the machine that they lead to goes once we have answered.
            _remove_strays(registries, roll, by_hand, (), len(entries), brake, engine)
            engine.sleep(drain_delay(registries, props))
            stall.restart()
        elif found.complete and not stray and not all_twins:
            return found
        now = time.monotonic()
        if now - looked >= STEPS_EVERY or not said:
            steps, looked = registries.steps([each for each in roll.members if each in found.waiting], seen), now
            line = progress(roll, found, seen, steps)
            if line != said:
                engine.say(line)
                said = line
        # Where only resolvers can be asked, what they keep is no reason to give up.
        limit = float(props["timeout"]) + (registries.delay if found.unanswered else 0)
        if stall.seconds(facts(roll, found, seen, steps)) > limit:
            raise RollCallError(complaint(roll, found, seen, registries, limit))
        engine.sleep(POLL)


def proven(registries: Registries, roll: DesiredState, found: Drift, doubts: dict[str, str] | None = None) -> Drift:
    """The same without the orphans that only their tags say to be the stack's; `doubts` has what was found of each before."""
    known = doubts if doubts is not None else {}
    asked = [each for each in found.orphans if each.instance not in known]
    if asked:
        each_why = [registries.unproven(stack, asked) for stack in roll.stacks]
        why = {each: said for each, said in each_why[0].items() if all(each in other for other in each_why)}
        known.update({each.instance: why.get(each.instance, "") for each in asked})
    return with_doubts(found, {instance: why for instance, why in known.items() if why})


def _remove_strays(
    registries: Registries,
    roll: DesiredState,
    stray: Sequence[DnsRecord],
    seen: Sequence[Instance],
    total: int,
    brake: bool,
    engine: Engine,
) -> None:
    """A left-over entry goes only if its owner does not run; one that runs is an orphan and would come back."""
    running = {machine.instance for machine in seen if machine.running}
    if any(each.owner is not None and each.owner.instance not in running for each in stray):
        running |= registries.running_elsewhere(roll.stack)
    dead = [each for each in stray if each.dead or (each.owner is not None and each.owner.instance not in running)]
    dead = [each for each in dead if not is_of_another(each, seen)]
    if brake and not is_safe_delete(total, len(dead)):
        raise RollCallError(
            f"{roll.fleet}: {len(dead)} of {total} entries are left over and would be removed at once:\n"
            + "\n".join(f"  - {each.value} at {each.key}" for each in dead)
            + f"\n{_BRAKE_MEND}"
        )
    registries.remove(dead)
    # Whoever watches it may have challenged it, and no Deregistration of a machine that is in no state takes that away.
    for owner in sorted({entry.owner for entry in dead if entry.owner is not None}):
        registries.unchallenge(owner)
    for entry in dead:
        engine.say(f"{roll.fleet}: removed {entry.value} from {entry.key}, nobody's machine runs there")


def _twins(roll: DesiredState, orphans: Sequence[Instance]) -> list[Instance]:
    """Machines in no state with the generation of a member: made by an `up` that was killed before it could write it down."""
    generations = {member.generation for member in roll.members}
    return [each for each in orphans if each.generation in generations]


def _replaced(roll: DesiredState, twins: Sequence[Instance], seen: Iterable[Instance], brake: bool) -> list[Instance]:
    """Those twins that may go now: their member runs. Each `up` that is killed leaves one for a member at the most."""
    if brake and len({each.generation for each in twins}) < len(twins):
        raise RollCallError(
            f"{roll.fleet}: {len(twins)} machines have the generation of a member and are in no state, several of them the same one:\n"
            + "\n".join(f"  - {each.instance} ({each.fleet}-{each.machine}, {each.state})" for each in twins)
            + f"\n{_BRAKE_MEND}"
        )
    running = {each.instance for each in seen if each.running}
    replaced = {member.generation for member in roll.members if member.instance in running}
    return [each for each in twins if each.generation in replaced]


def _end_orphans(
    registries: Registries,
    roll: DesiredState,
    orphans: Sequence[Instance],
    total: int,
    brake: bool,
    linger: float,
    engine: Engine,
) -> None:
    """Machines that are in no state leave as any other would, with the drain delay, and are ended then."""
    if brake and not is_safe_end(len(roll.members), len(orphans)):
        raise RollCallError(
            f"{roll.fleet}: {len(orphans)} of {total} machines are tagged with stack {roll.stack} and are in no state:\n"
            + "\n".join(f"  - {each.instance} ({each.fleet}-{each.machine}, {each.state})" for each in orphans)
            + f"\n{_BRAKE_MEND}"
        )
    _see_off_and_end(registries, roll, orphans, linger, engine)
    for each in orphans:
        engine.say(
            f"{roll.fleet}: ended {each.instance} ({each.fleet}-{each.machine}), which was in no state", warning=True
        )


def _see_off_and_end(
    registries: Registries, roll: DesiredState, machines: Sequence[Instance], linger: float, engine: Engine
) -> None:
    members = [
        Member(fleet=each.fleet, machine=each.machine, generation=each.generation, instance=each.instance)
        for each in machines
    ]
    # Caches lead only to what was in DNS.
    stood = bool(owned(registries.entries(), roll.stack, members))
    see_off(registries, roll.stack, members, engine, linger=linger if stood else 0)
    registries.end(member.instance for member in members)


def drain_delay(registries: Registries, props: Mapping[str, Any]) -> float:
    return min(float(props["linger"]), registries.longest_ttl)
