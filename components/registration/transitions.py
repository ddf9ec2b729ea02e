"""Decide what a roll call does next: pure functions of the last snapshot and of what the roll call remembers. No I/O and no clock.

A round has four parts. `roll_call.py` takes a snapshot (observe). `after_snapshot` decides what must be done (plan), and `roll_call.py`
does it (apply). Then `after_actions` decides what to say, and whether to give up (report). docs/architecture.md has a drawing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from components.model import BY_HAND, DesiredState, DnsRecord, Instance
from components.registration import messages
from components.registration.diff import Drift, is_of_another, is_safe_delete, is_safe_end

STEPS_EVERY_S = 4.0


@dataclass(frozen=True, kw_only=True)
class Call:
    """The inputs of a roll call.

    `timeout` and `drain_delay` are seconds. `safety_limit`: do not remove many records or machines at once.
    """

    desired: DesiredState
    timeout: float
    drain_delay: float
    safety_limit: bool = True


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What DNS and the clouds have at one moment.

    `records` is how many records the record sets have. Three sets contain instances that leftover records name.
    `invisible` are those on a cloud that this roll call does not ask. `former` are those that run under a former id of
    the stack. `elsewhere` are those that run at another location. `deleted_zones` name zones that no longer exist.
    """

    drift: Drift
    instances: tuple[Instance, ...] = ()
    records: int = 0
    invisible: frozenset[str] = frozenset()
    former: frozenset[str] = frozenset()
    elsewhere: frozenset[str] = frozenset()
    deleted_zones: tuple[str, ...] = ()

    @property
    def running(self) -> frozenset[str]:
        return frozenset(each.instance for each in self.instances if each.running)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a roll call remembers from round to round.

    `facts` are all facts that were ever seen; `since` is when there last was a new one. `steps` has the last step of each waiting
    machine, as it was asked for at `steps_at`. `printed` is the last line of progress. `restart`: the round waited on purpose, so the
    time-out begins again.
    """

    since: float
    steps_at: float
    facts: frozenset[tuple[str, ...]] = frozenset()
    steps: Mapping[str, str] = field(default_factory=dict)
    printed: str = ""
    restart: bool = False

    def wants_steps(self, now: float) -> bool:
        """Return whether it is time to ask the waiting machines for their steps again."""
        return now - self.steps_at >= STEPS_EVERY_S or not self.printed


class EndCause(Enum):
    """Why a machine that is in no state is ended."""

    TWIN = "it has the generation of a member"
    ORPHAN = "it is in no state"


@dataclass(frozen=True)
class RemoveRecords:
    """Remove these leftover records, and the challenges for their machines."""

    records: tuple[DnsRecord, ...]


@dataclass(frozen=True)
class EndMachines:
    """Drain these machines and end them."""

    machines: tuple[Instance, ...]
    cause: EndCause


@dataclass(frozen=True)
class Pause:
    """Wait until caches have forgotten what was removed."""

    seconds: float


@dataclass(frozen=True)
class Fail:
    """End the roll call with this error."""

    message: str


@dataclass(frozen=True)
class Answered:
    """The roll call is complete."""


@dataclass(frozen=True)
class Say:
    """Tell the user how far the members are."""

    line: str


@dataclass(frozen=True)
class GiveUp:
    """End the roll call: nothing changed for so many seconds."""

    seconds: float


Action = RemoveRecords | EndMachines | Pause | Fail | Answered
Report = Say | GiveUp


def needs_elsewhere(snapshot: Snapshot) -> bool:
    """Return whether the other locations of the cloud must be asked, before a leftover record may be removed."""
    leftovers, adopted = _judged(snapshot)
    running = snapshot.running
    return bool(snapshot.drift.complete and adopted) or any(
        each.owner is not None and each.owner.instance not in running for each in leftovers
    )


def after_snapshot(call: Call, progress: Progress, snapshot: Snapshot) -> tuple[Progress, tuple[Action, ...]]:
    """Return what is remembered, and what must be done in this order. The last action is Answered or Fail where the roll call ends."""
    desired = call.desired
    if desired.members and snapshot.deleted_zones:
        return progress, (Fail(messages.zones_deleted(desired, snapshot.deleted_zones)),)
    leftovers, adopted = _judged(snapshot)
    removed = _removable(leftovers, snapshot.instances, snapshot.running | snapshot.elsewhere)
    if not _is_safe(call, snapshot, removed):
        return progress, (Fail(messages.too_many_leftovers(desired, removed, snapshot.records)),)
    then = _after_removal(call, snapshot, leftovers, adopted)
    waits = any(
        isinstance(each, Pause) or (isinstance(each, EndMachines) and each.cause is EndCause.ORPHAN) for each in then
    )
    first = (RemoveRecords(removed),) if removed else ()
    return replace(progress, restart=waits), (*first, *then)


def _after_removal(
    call: Call, snapshot: Snapshot, leftovers: Sequence[DnsRecord], adopted: Sequence[DnsRecord]
) -> tuple[Action, ...]:
    """Return what follows once the leftover records of dead machines are removed."""
    desired, drift = call.desired, snapshot.drift
    twins = _twins(desired, drift.orphans)
    if call.safety_limit and len({each.generation for each in twins}) < len(twins):
        return (Fail(messages.several_twins(desired, twins)),)
    replaced = _replaced(desired, twins, snapshot.running)
    if replaced:
        # They have the generation of a member, and prevent that member from registering.
        return (EndMachines(replaced, EndCause.TWIN),)
    if not drift.complete:
        return ()
    if drift.orphans and not twins:
        if call.safety_limit and not is_safe_end(len(desired.members), len(drift.orphans)):
            return (Fail(messages.too_many_orphans(desired, drift.orphans, len(snapshot.instances))),)
        return (EndMachines(drift.orphans, EndCause.ORPHAN),)
    if adopted:
        return _without_adopted(call, snapshot, adopted)
    return () if leftovers or twins else (Answered(),)


def _without_adopted(call: Call, snapshot: Snapshot, adopted: Sequence[DnsRecord]) -> tuple[Action, ...]:
    """Return the actions that remove the records of machines that Rollcall did not boot.

    No agent removes them, and the machines are deleted after the roll call.
    """
    removed = _removable(adopted, (), snapshot.elsewhere)
    if not _is_safe(call, snapshot, removed):
        return (Fail(messages.too_many_leftovers(call.desired, removed, snapshot.records)),)
    return (RemoveRecords(removed), Pause(call.drain_delay)) if removed else (Pause(call.drain_delay),)


def after_actions(
    call: Call,
    progress: Progress,
    snapshot: Snapshot,
    *,
    now: float,
    steps: Mapping[str, str] | None = None,
    resolver_delay: float = 0.0,
) -> tuple[Progress, tuple[Report, ...]]:
    """Return what is remembered, and what is reported, after the actions of a round.

    `steps` are the steps of the waiting machines, where they were asked for. `resolver_delay` is for how many seconds a
    resolver may keep an old answer, where only resolvers can be asked. During this time the roll call does not give up.
    """
    desired, drift = call.desired, snapshot.drift
    reports: list[Report] = []
    if steps is not None:
        progress = replace(progress, steps=steps, steps_at=now)
        line = messages.progress(desired, drift, snapshot.instances, steps)
        if line != progress.printed:
            progress = replace(progress, printed=line)
            reports.append(Say(line))
    facts = progress.facts.union(messages.facts(desired, drift, snapshot.instances, progress.steps))
    since = now if progress.restart or facts != progress.facts else progress.since
    limit = call.timeout + (resolver_delay if drift.unanswered else 0.0)
    if now - since > limit:
        reports.append(GiveUp(limit))
    return replace(progress, facts=facts, since=since, restart=False), tuple(reports)


def _judged(snapshot: Snapshot) -> tuple[list[DnsRecord], list[DnsRecord]]:
    """Return two lists: the leftover records that this roll call may judge, and those of machines that Rollcall did not boot.

    A machine with a former id of the stack that runs will be deleted, or belongs to a new stack with that name.
    """
    known = [
        each
        for each in snapshot.drift.leftovers
        if (each.dead or (each.owner is not None and each.owner.instance not in snapshot.invisible))
        and (each.owner is None or each.owner.instance not in snapshot.former)
    ]
    adopted = [each for each in known if each.owner is not None and each.owner.generation == BY_HAND]
    return [each for each in known if each not in adopted], adopted


def _removable(
    records: Iterable[DnsRecord], instances: Sequence[Instance], running: frozenset[str]
) -> tuple[DnsRecord, ...]:
    """Return the records of machines that do not run.

    A machine that runs is an orphan, and would write its record again.
    """
    dead = (each for each in records if each.dead or (each.owner is not None and each.owner.instance not in running))
    return tuple(each for each in dead if not is_of_another(each, instances))


def _is_safe(call: Call, snapshot: Snapshot, removed: Sequence[DnsRecord]) -> bool:
    return not call.safety_limit or is_safe_delete(snapshot.records, len(removed))


def _twins(desired: DesiredState, orphans: Iterable[Instance]) -> tuple[Instance, ...]:
    """Return the machines in no state with the generation of a member.

    They were created by an `up` that was killed before it could store them.
    """
    generations = {member.generation for member in desired.members}
    return tuple(each for each in orphans if each.generation in generations)


def _replaced(desired: DesiredState, twins: Iterable[Instance], running: frozenset[str]) -> tuple[Instance, ...]:
    """Return the twins that may be ended now, because their member runs.

    Each `up` that is killed leaves at most one for a member.
    """
    replaced = {member.generation for member in desired.members if member.instance in running}
    return tuple(each for each in twins if each.generation in replaced)
