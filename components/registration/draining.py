"""Drain machines: ask them to leave DNS, wait for it, and remove the records of those that cannot do it themselves."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence, Set

from components.joyent.engine import Engine
from components.model import DesiredState, DnsRecord, Instance, Member, RecordKey, describe
from components.registration.diff import is_of_another, owned
from components.registration.inventory import Registries

POLL_S = 1.0
DRAIN_LIMIT_S = 90.0
CHECK_EVERY_S = 3.0
# An agent reads its settings every ten seconds (rollcall.agent), and then leaves the record sets that they no longer name.
DROP_LIMIT_S = 20.0
# How much later than its TTL an agent may remove its host; without rights it never does.
AGENT_REMOVES_WITHIN_S = 10.0


def drain_members(
    registries: Registries, stack: str, leaving: Sequence[Member], engine: Engine, *, drain_delay: float
) -> bool:
    """Ask machines to leave, wait until their records are gone, then `drain_delay` seconds more for answers in caches.

    Return whether all have left. The wait for a machine that hangs ends after DRAIN_LIMIT_S.
    """
    if not leaving:
        return True
    registries.drain(stack, leaving)
    end = time.monotonic() + DRAIN_LIMIT_S
    waited_for, all_left = "", True
    stood: set[DnsRecord] = set()
    noted: set[str] = set()
    while True:
        listed = registries.dns_records()
        there = owned(listed, stack, leaving)
        # The host of a machine that has left its sets serves callers with a cached value, until its agent or its Deregistration removes it.
        staying = [record for record in there if not record.leaving]
        stood.update(staying)
        machines = _machines(registries, stack, leaving) if there else []
        running = {each.instance for each in machines if each.running}
        dead = [record for record in there if record.owner is not None and record.owner.instance not in running]
        dead = [record for record in dead if not is_of_another(record, machines)]
        registries.remove(dead)
        # The member of a twin has the same target. When it has taken the value over, DNS answers with it and always will.
        kept = {(each.key, each.value) for each in listed}
        left = [each for each in stood if (each.key, each.value) not in kept]
        still = [] if staying else registries.still_answered(left)
        say_once(registries.notes, noted, engine)
        if not staying and not still:
            break
        names = ", ".join(sorted({_named(record, leaving) for record in staying or still}))
        forgetful = f"the resolvers, for up to {registries.delay:.0f} s," if registries.delay else "the name servers"
        line = f"waiting for {names} to leave" if staying else f"waiting for {forgetful} to forget {names}"
        if line != waited_for:
            engine.say(line)
            waited_for = line
        # A cache that is asked instead of the name servers forgets a record with its TTL.
        if time.monotonic() > end + (0 if staying else registries.delay):
            # Its agent hangs. Its machine is deleted next, and its Deregistration removes the record then.
            engine.say(
                f"{line}: not within {DRAIN_LIMIT_S:.0f} s, going on; what is left is removed after the machine",
                warning=True,
            )
            all_left = False
            break
        engine.sleep(POLL_S)
    if drain_delay:
        engine.say(f"waiting {drain_delay:.0f} s for answers that caches still hold of {len(leaving)} that leave")
        engine.sleep(drain_delay)
    return all_left


def say_once(lines: Iterable[str], printed: set[str], engine: Engine) -> None:
    """Warn of each line that is not in `printed` yet."""
    for line in (each for each in lines if each not in printed):
        engine.say(line, warning=True)
        printed.add(line)


def _machines(registries: Registries, stack: str, members: Sequence[Member]) -> list[Instance]:
    """Return the machines of all stack ids that `members` were created with."""
    stacks = {stack, *(each.stack for each in members if each.stack)}
    return [machine for each in sorted(stacks) for machine in registries.instances(each)]


def wait_for_caches(registries: Registries, desired: DesiredState, seconds: float, engine: Engine) -> None:
    """Wait up to `seconds` after a whole fleet has left, as long as other machines of the stack are in its record sets.

    A cache may still lead clients to the fleet, and they must not fail while the name has other machines. In `destroy` the others leave
    too, and the wait ends with them.
    """
    ours = {each.key for each in desired.record_sets if not each.shared}
    end = time.monotonic() + seconds
    announced = False
    while time.monotonic() < end:
        here = [each for each in registries.dns_records() if each.key in ours]
        if not any(each.owner is not None and each.owner.stack == desired.stack for each in here):
            return
        if not announced:
            engine.say(
                f"{desired.fleet} has left; waiting {end - time.monotonic():.0f} s at most for answers in caches"
            )
            announced = True
        engine.sleep(CHECK_EVERY_S)


def withdraw(
    registries: Registries,
    keys: Set[RecordKey],
    desired: DesiredState,
    engine: Engine,
    *,
    since: float,
    drain_delay: float,
) -> None:
    """Remove members that continue to run from the record sets `keys`, which they no longer join.

    Their agents leave by themselves once they have read their new settings, which changed at `since`. An agent may have
    lost its rights, or no longer know the record set: then its records are removed after DROP_LIMIT_S. Hosts that have
    left stay for `drain_delay` seconds, because caches lead callers there. Raises the errors of `rollcall.errors`.
    """
    left_at = 0.0
    while there := [
        each for each in owned(registries.dns_records(), desired.stack, desired.members) if each.key in keys
    ]:
        now = time.monotonic()
        staying = [each for each in there if not each.leaving]
        names = ", ".join(sorted({f"{_named(each, desired.members)} at {each.key}" for each in staying or there}))
        if staying:
            left_at = 0.0
            if now - since > DRAIN_LIMIT_S:
                engine.say(f"{names} comes back though it no longer joins that: check its agent", warning=True)
                return
            if now - since >= DROP_LIMIT_S:
                registries.take_out(staying)
                engine.say(f"{desired.fleet}: removed {names}, which joins that no more and did not leave")
        elif not left_at:
            left_at = now
            engine.say(f"{names} has left; waiting {drain_delay:.0f} s for answers in caches")
        elif now - left_at >= drain_delay + AGENT_REMOVES_WITHIN_S:
            registries.remove(there)
            engine.say(f"{desired.fleet}: removed {names}, which no cache leads to any more")
        engine.sleep(POLL_S)


def _named(record: DnsRecord, leaving: Sequence[Member]) -> str:
    owner = record.owner
    return next(
        (describe(each) for each in leaving if owner is not None and each.instance == owner.instance), record.value
    )
