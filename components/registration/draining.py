"""How machines leave DNS: told to, waited for, and taken out where they cannot do it themselves."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence, Set

from components.model import DesiredState, DnsRecord, Instance, Member, RecordKey, describe
from components.registration.diff import is_of_another, owned
from components.registration.engine import Engine
from components.registration.inventory import Registries

POLL = 1.0
DRAIN_BOUND = 90.0
LOOK_AGAIN = 3.0
# An agent reads every ten seconds what it joins (rollcall.agent), and leaves then what it joins no more.
DROP_BOUND = 20.0


def see_off(registries: Registries, stack: str, leaving: Sequence[Member], engine: Engine, *, linger: float) -> bool:
    """Ask `leaving` to leave, wait until their entries are gone, then `linger` seconds for answers still in caches. Whether all
    have left: nobody waits for ever for one that hangs."""
    if not leaving:
        return True
    registries.drain(stack, leaving)
    end = time.monotonic() + DRAIN_BOUND
    said, all_left = "", True
    stood: set[DnsRecord] = set()
    noted: set[str] = set()
    while True:
        staying = owned(registries.entries(), stack, leaving)
        stood.update(staying)
        machines = _machines(registries, stack, leaving) if staying else []
        running = {each.instance for each in machines if each.running}
        dead = [entry for entry in staying if entry.owner is not None and entry.owner.instance not in running]
        dead = [entry for entry in dead if not is_of_another(entry, machines)]
        registries.remove(dead)
        still = [] if staying else registries.still_answered(stood)
        say_once(registries.notes, noted, engine)
        if not staying and not still:
            break
        names = ", ".join(sorted({_named(entry, leaving) for entry in staying or still}))
        forgetful = f"the resolvers, for up to {registries.delay:.0f} s," if registries.delay else "the name servers"
        line = f"waiting for {names} to leave" if staying else f"waiting for {forgetful} to forget {names}"
        if line != said:
            engine.say(line)
            said = line
        # A cache that is asked in their place forgets an entry with its TTL.
        if time.monotonic() > end + (0 if staying else registries.delay):
            # Its agent hangs. Its machine is about to go, and its Deregistration removes the entry then.
            engine.say(
                f"{line}: not within {DRAIN_BOUND:.0f} s, going on; what is left is removed after the machine",
                warning=True,
            )
            all_left = False
            break
        engine.sleep(POLL)
    if linger:
        engine.say(f"waiting {linger:.0f} s for answers that caches still hold of {len(leaving)} that leave")
        engine.sleep(linger)
    return all_left


def say_once(lines: Iterable[str], said: set[str], engine: Engine) -> None:
    """Warn of each of these that was not said before."""
    for line in (each for each in lines if each not in said):
        engine.say(line, warning=True)
        said.add(line)


def _machines(registries: Registries, stack: str, members: Sequence[Member]) -> list[Instance]:
    """The machines of all the stack ids that `members` were made with."""
    stacks = {stack, *(each.stack for each in members if each.stack)}
    return [machine for each in sorted(stacks) for machine in registries.seen(each)]


def wait_for_caches(registries: Registries, roll: DesiredState, seconds: float, engine: Engine) -> None:
    """A fleet that has left whole serves on while others stand in its places: a cache may still lead to it, and who asks it
    must not fail since the name has others. In `destroy` the others leave too, and nobody waits longer than they stand."""
    ours = {stand.key for stand in roll.record_sets if not stand.shared}
    end = time.monotonic() + seconds
    said = False
    while time.monotonic() < end:
        here = [each for each in registries.entries() if each.key in ours]
        if not any(each.owner is not None and each.owner.stack == roll.stack for each in here):
            return
        if not said:
            engine.say(f"{roll.fleet} has left; waiting {end - time.monotonic():.0f} s at most for answers in caches")
            said = True
        engine.sleep(LOOK_AGAIN)


def withdraw(registries: Registries, keys: Set[RecordKey], roll: DesiredState, engine: Engine, *, since: float) -> None:
    """The members of `roll` run on and, told so at `since`, are in the record sets `keys` no more. Their agents leave by themselves;
    who may not, since its rights are gone, or has forgotten it, is taken out. Raises the errors of `rollcall.errors`."""
    while staying := [each for each in owned(registries.entries(), roll.stack, roll.members) if each.key in keys]:
        waited = time.monotonic() - since
        names = ", ".join(sorted({f"{_named(each, roll.members)} at {each.key}" for each in staying}))
        if waited > DRAIN_BOUND:
            engine.say(f"{names} comes back though it joins that no more: look at its agent", warning=True)
            return
        if waited >= DROP_BOUND:
            registries.remove(staying)
            engine.say(f"{roll.fleet}: removed {names}, which joins that no more and did not leave")
        engine.sleep(POLL)


def _named(entry: DnsRecord, leaving: Sequence[Member]) -> str:
    owner = entry.owner
    return next(
        (describe(each) for each in leaving if owner is not None and each.instance == owner.instance), entry.value
    )
