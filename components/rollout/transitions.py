"""Decide what a roll-out does next: a pure function of what it sees. No I/O and no clock.

Everything that counts is in the settings and the reports of the machines, so a run continues what a killed one has left. The roll-out
remembers only for how long it has waited. docs/releases.md has a drawing, and docs/decisions/0022 the reasons.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from components.rollout import messages
from components.rollout.records import Record, State, last_of
from components.rollout.values import (
    Action,
    End,
    Failure,
    FleetMachine,
    Observation,
    Outcome,
    RollOut,
    Say,
    SetSettings,
    Stage,
)
from rollcall.in_place import FAILED, GATE, WANTED, WantedRelease

_PRINTS_EVERY_S = 10.0
_Step = tuple[RollOut, tuple[Action, ...]]


def after_observation(rollout: RollOut, seen: Observation, now: float) -> _Step:
    """Return what the roll-out remembers after this observation, and what it does."""
    seen = replace(seen, record=last_of((seen.record, rollout.record)))
    record = _wanted_record(rollout, seen)
    rollout = replace(rollout, record=record if record.number else None)
    rollout = _waited(rollout, (*seen.machines, *seen.elsewhere), now)
    written = _written_first(rollout, record, seen)
    if written:
        return rollout, written
    return _back(rollout, record, seen, now) if _goes_back(rollout, record) else _on(rollout, record, seen, now)


# The record


def last_record(seen: Observation) -> Record | None:
    """Return the last roll-out of the fleet. If no machine knows it, make one of what most machines want, or of the state."""
    if seen.record is not None:
        return seen.record
    names = sorted({name for each in seen.machines for name in each.wanted} | {*seen.known})
    releases = {name: _most_common(name, seen) for name in names}
    if not releases:
        return None
    return Record(state=State.DONE, to=releases, former={}, rollout="0" * 8, number=0)


def _most_common(workload: str, seen: Observation) -> str:
    digests = [each.wanted[workload].digest for each in seen.machines if workload in each.wanted]
    return max(sorted(digests), key=digests.count) if digests else seen.known[workload]


def _wanted_record(rollout: RollOut, seen: Observation) -> Record:
    """Return the record that the machines should have now: the last one, or that of a roll-out that begins."""
    last = last_record(seen)
    if last is None:
        return Record(state=State.ROLLING, to=rollout.target, former={}, rollout=rollout.run, number=1)
    if dict(last.to) == dict(rollout.target):
        again = last.state is State.FAILED and not rollout.goes_back and last.rollout != rollout.run
        return _begun(rollout, last) if again and _is_back(last, seen.machines) else last
    if last.goes_back and dict(last.former) == dict(rollout.target):
        return last
    return _begun(rollout, last)


def _begun(rollout: RollOut, last: Record) -> Record:
    former = {name: digest for name, digest in last.base.items() if name in rollout.target}
    return Record(state=State.ROLLING, to=rollout.target, former=former, rollout=rollout.run, number=last.number + 1)


def _is_back(record: Record, machines: Iterable[FleetMachine]) -> bool:
    """Return whether no machine has a release any more that the failed roll-out gave it. A fleet without former releases keeps it."""
    return not record.former or all(each.wants(record.former) or not each.wanted for each in machines)


def _goes_back(rollout: RollOut, record: Record) -> bool:
    return record.goes_back and bool(record.former)


def changed(record: Record, state: State, rollout: str = "") -> Record:
    """Return the record with another state, which replaces it on the machines."""
    return replace(record, state=state, rollout=rollout or record.rollout, number=record.number + 1)


# What comes before each batch: the record on all machines, and a first release for new machines


def _written_first(rollout: RollOut, record: Record, seen: Observation) -> tuple[Action, ...]:
    changes: dict[str, dict[str, str | None]] = {}
    gates = record.settings()
    for machine in seen.machines:
        change: dict[str, str | None] = {key: text for key, text in gates.items() if machine.live.get(key) != text}
        change.update(dict.fromkeys(_surplus(machine, record)))
        if change:
            changes[machine.instance] = change
    begins = record != seen.record and record.number > 0
    if changes and begins:
        # No machine gets its release before all machines know the roll-out.
        return (SetSettings(changes),)
    for machine in seen.machines:
        if not machine.wanted and (first := _first_releases(record)):
            change = changes.setdefault(machine.instance, {})
            change.update(_settings(rollout, first, rollout.run))
    return (SetSettings(changes),) if changes else ()


def _first_releases(record: Record) -> Mapping[str, str]:
    """Return the releases of a machine that has none yet: those that the fleet has, or the new ones if it has none."""
    return record.base or record.to


def _surplus(machine: FleetMachine, record: Record) -> list[str]:
    """Return the live settings of workloads that the fleet does not run any more."""
    names = {*record.to, *record.former}
    return sorted(
        key for key in machine.live for kind in (WANTED, GATE) if key.startswith(kind) and key[len(kind) :] not in names
    )


def _settings(rollout: RollOut, releases: Mapping[str, str], id_: str) -> dict[str, str | None]:
    policy = rollout.policy
    found = (
        WantedRelease(
            workload=name,
            digest=digest,
            rollout=id_,
            drains=name not in policy.undrained,
            healthy_s=policy.healthy_s,
            deadline_s=policy.deadline_s,
        )
        for name, digest in sorted(releases.items())
    )
    return {each.key: each.words() for each in found}


def _given(
    rollout: RollOut, record: Record, machines: Iterable[FleetMachine], releases: Mapping[str, str], id_: str
) -> SetSettings:
    """Give machines these releases. A workload without a release loses its setting."""
    return SetSettings(
        {
            each.instance: {
                **{f"{WANTED}{name}": None for name in each.wanted if name not in releases},
                **_settings(rollout, releases, id_),
            }
            for each in machines
        }
    )


# On to the new release


def _on(rollout: RollOut, record: Record, seen: Observation, now: float) -> _Step:
    """Move the fleet to the releases of the record, batch by batch."""
    if record.goes_back:
        return _end_failed(rollout, record, seen)
    ids = frozenset({rollout.run} if record.state is State.DONE else {rollout.run, record.rollout})
    active = [each for each in seen.machines if not each.on_hold]
    there = [each for each in active if each.wants(record.to) and not _is_tried_before(each, ids)]
    failures = [*_failures(there, record), *_late(rollout, there, now)]
    if failures:
        return _failed(rollout, record, seen, failures)
    moving = [each for each in there if each.stage is Stage.MOVING]
    others = [each for each in active if each not in there]
    between = [each for each in (*others, *seen.elsewhere) if each.is_between and not _is_late(rollout, each, now)]
    if moving or between:
        return _waiting(rollout, record, active, [*moving, *between], now)
    on_hold = [each for each in seen.machines if each.on_hold and _is_out_when_released(each, record.to)]
    on_hold = [each for each in on_hold if not _is_late(rollout, each, now)]
    if others and on_hold:
        return _waiting(rollout, record, active, on_hold, now)
    if others:
        return _next_batch(rollout, record, there, others, len(seen.machines))
    return _completed(rollout, record, seen, ids)


def _is_out_when_released(machine: FleetMachine, goal: Mapping[str, str]) -> bool:
    """Return whether a machine, which someone has put on hold in the middle of its change, would be out of DNS without the hold."""
    if machine.report is None or machine.stage is not Stage.MOVING:
        return False
    return machine.wants(goal) or any(machine.answer_of(each) for each in machine.wanted.values())


def _is_tried_before(machine: FleetMachine, ids: frozenset[str]) -> bool:
    """Return whether the machine failed with these releases in another roll-out. With the id of this one it tries again."""
    return machine.stage is Stage.FAILED and not machine.tried_by(ids)


def _next_batch(
    rollout: RollOut,
    record: Record,
    there: Sequence[FleetMachine],
    others: Sequence[FleetMachine],
    machines: int,
) -> _Step:
    """Give the next machines the new release, in the order of their numbers. A canary waits for its promotion."""
    size, canary = rollout.policy.size(machines), rollout.policy.canary
    if canary and record.state is State.ROLLING and record.former:
        if len(there) >= canary:
            return _canary_waits(rollout, record, others, size)
        size = min(size, canary - len(there))
    batch = sorted(others, key=lambda each: each.number)[:size]
    id_ = rollout.run if record.state is State.DONE else record.rollout
    line = Say(messages.batch(rollout.fleet, record.to, batch, len(there), len(there) + len(others)))
    return rollout, (line, _given(rollout, record, batch, record.to, id_))


def _canary_waits(rollout: RollOut, record: Record, others: Sequence[FleetMachine], size: int) -> _Step:
    """End a run with a canary. Before that, give the fleet's release to machines that have neither this one nor the canary's."""
    foreign = sorted((each for each in others if not each.wants(record.former)), key=lambda each: each.number)[:size]
    if foreign:
        line = Say(messages.batch_back(rollout.fleet, record.former, foreign))
        return rollout, (line, _given(rollout, record, foreign, record.former, rollout.run))
    return rollout, (End(Outcome.CANARY, record, messages.canary_waiting(rollout.fleet, record)),)


def _completed(rollout: RollOut, record: Record, seen: Observation, ids: frozenset[str]) -> _Step:
    """Give the release to the machines on hold, which nothing waits for. Then the roll-out is done.

    One that failed with the release moves no other machine, because nothing waited for it. It is named, and the next run tries again.
    """
    on_hold = [each for each in seen.machines if not each.wants(record.to) or _is_tried_before(each, ids)]
    if on_hold:
        id_ = rollout.run if record.state is State.DONE else record.rollout
        line = Say(messages.on_hold(rollout.fleet, record.to, on_hold))
        return rollout, (line, _given(rollout, record, on_hold, record.to, id_))
    if record.state is not State.DONE:
        return rollout, (_gates(seen.machines, changed(record, State.DONE)),)
    failures = _failures([each for each in seen.machines if each.on_hold], record)
    return rollout, (End(Outcome.DONE, record, messages.failed_on_hold(rollout.fleet, failures)),)


def _gates(machines: Iterable[FleetMachine], record: Record) -> SetSettings:
    return SetSettings({each.instance: dict(record.settings()) for each in machines})


def _failures(machines: Iterable[FleetMachine], record: Record) -> list[Failure]:
    """Return why machines failed with the releases that they want."""
    found = []
    for machine in machines:
        for wanted in machine.wanted.values():
            answer = machine.answer_of(wanted)
            if answer is not None and answer.step == FAILED:
                found.append(
                    Failure(
                        machine=machine.name,
                        instance=machine.instance,
                        workload=wanted.workload,
                        digest=wanted.digest,
                        step=answer.failed_step,
                        reason=answer.reason,
                        log=answer.log,
                    )
                )
    return found


def _failed(rollout: RollOut, record: Record, seen: Observation, failures: Sequence[Failure]) -> _Step:
    """Let the fleet go back. A machine that fails with the release that the fleet has does not move the others."""
    rollout = replace(rollout, failures=tuple(sorted({*rollout.failures, *failures})))
    if record.state is State.DONE:
        return _end_failed(rollout, record, seen)
    lines = tuple(Say(each, warning=True) for each in messages.failed(rollout.fleet, failures))
    return replace(rollout, goes_back=True), (*lines, _gates(seen.machines, changed(record, State.FAILED)))


# Back to the former release


def _back(rollout: RollOut, record: Record, seen: Observation, now: float) -> _Step:
    """Move the fleet back to its former releases, batch by batch.

    First go the machines that are in the middle of the change, because they serve nothing. Machines that failed went back by
    themselves. They come last, so that the reason stays in their reports.
    """
    goal = record.former
    active = [each for each in seen.machines if not each.on_hold]
    away = [each for each in active if not each.wants(goal)]
    rollout = replace(rollout, goes_back=True, failures=_remembered(rollout, record, away))
    returning = [each for each in active if each.wants(goal) and _is_touched(rollout, record, each)]
    moving = [each for each in returning if each.stage is Stage.MOVING]
    moving += [each for each in active if each.is_recovering]
    moving = [each for each in moving if not _is_late(rollout, each, now)]
    again = [each for each in returning if each.stage is Stage.FAILED and not each.tried_by(frozenset({rollout.run}))]
    on_hold = [each for each in seen.machines if each.on_hold and _is_out_when_released(each, goal)]
    moving += [each for each in on_hold if away and not _is_late(rollout, each, now)]
    batch = _batch_back(rollout, away, again, moving, len(seen.machines))
    busy = [each for each in seen.elsewhere if each.is_between and not _is_late(rollout, each, now)]
    if busy and not moving and not any(each.stage is Stage.MOVING for each in away):
        return _waiting(rollout, record, active, busy, now)
    if batch:
        line = Say(messages.batch_back(rollout.fleet, goal, batch))
        retried = [each for each in batch if each in again]
        first = _given(rollout, record, [each for each in batch if each not in again], goal, record.rollout)
        more = _given(rollout, record, retried, goal, rollout.run)
        return rollout, (line, SetSettings({**first.changes, **more.changes}))
    if moving or away:
        return _waiting(rollout, record, active, moving or away, now)
    on_hold = [each for each in seen.machines if not each.wants(goal)]
    if on_hold:
        return rollout, (_given(rollout, record, on_hold, goal, record.rollout),)
    return _end_back(rollout, record, seen, returning)


def _batch_back(
    rollout: RollOut,
    away: Sequence[FleetMachine],
    again: Sequence[FleetMachine],
    moving: Sequence[FleetMachine],
    machines: int,
) -> list[FleetMachine]:
    """Return the machines that go back now: first those that serve nothing, then batches in the order of the machine numbers.

    A machine without a report may serve. So if DNS answers with it, it counts as one that serves.
    """
    size = rollout.policy.size(machines)
    between = sorted((each for each in away if each.stage is Stage.MOVING), key=lambda each: each.number)
    if between:
        out = [each for each in between if not each.answered]
        serving = [each for each in between if each.answered]
        return [*out[: max(0, size - len(moving))], *serving[: max(0, size - len(moving) - len(out))]]
    if moving:
        return []
    order = {Stage.SETTLED: 0, Stage.FAILED: 1}
    waiting = sorted(away, key=lambda each: (order[each.stage], each.number))
    return [*waiting, *again][:size]


def _is_touched(rollout: RollOut, record: Record, machine: FleetMachine) -> bool:
    """Return whether this roll-out gave the machine its release. Others had theirs before, and it does not wait for them."""
    return any(each.rollout in (record.rollout, rollout.run) for each in machine.wanted.values())


def _remembered(rollout: RollOut, record: Record, away: Iterable[FleetMachine]) -> tuple[Failure, ...]:
    failed = [each for each in away if each.stage is Stage.FAILED]
    return tuple(sorted({*rollout.failures, *_failures(failed, record)}))


def _end_back(rollout: RollOut, record: Record, seen: Observation, returning: Iterable[FleetMachine]) -> _Step:
    """End a run that went back, or that found an operator's rollback."""
    stuck = [each for each in returning if each.stage is not Stage.SETTLED]
    if record.state is State.FAILED:
        return _end_failed(rollout, record, seen, stuck)
    if stuck:
        line = messages.not_back(rollout.fleet, record, stuck)
        return rollout, (End(Outcome.FAILED, record, line),)
    if dict(rollout.target) == dict(record.former):
        return rollout, (End(Outcome.DONE, record),)
    return rollout, (End(Outcome.REFUSED, record, messages.refused(rollout.fleet, record)),)


def _end_failed(rollout: RollOut, record: Record, seen: Observation, stuck: Sequence[FleetMachine] = ()) -> _Step:
    if dict(rollout.target) == dict(record.goal) and record.former and not stuck and record.goes_back:
        # The program wants the former releases again, and all machines have them.
        return rollout, (End(Outcome.DONE, record),)
    failures = rollout.failures or tuple(_failures(seen.machines, record))
    line = messages.roll_out_failed(rollout.fleet, record, failures, stuck)
    return rollout, (End(Outcome.FAILED, record, line),)


# Time


def _waited(rollout: RollOut, machines: Iterable[FleetMachine], now: float) -> RollOut:
    """Remember since when each machine has been moving with the settings that it has."""
    found: dict[str, tuple[str, float]] = {}
    for each in machines:
        if each.wanted and (each.stage is Stage.MOVING or each.is_between):
            key = " ".join(f"{one.digest} {one.rollout}" for _, one in sorted(each.wanted.items()))
            before = rollout.waits.get(each.instance)
            found[each.instance] = before if before and before[0] == key else (key, now)
    return replace(rollout, waits=found)


def _is_late(rollout: RollOut, machine: FleetMachine, now: float) -> bool:
    since = rollout.waits.get(machine.instance)
    policy = rollout.policy
    limit = policy.limit_s if machine.report is not None else max(policy.limit_s, policy.boot_s)
    return since is not None and now - since[1] > limit


def _late(rollout: RollOut, machines: Collection[FleetMachine], now: float) -> list[Failure]:
    """Return why machines are late that should be done."""
    late = [each for each in machines if each.stage is Stage.MOVING and _is_late(rollout, each, now)]
    return [messages.late(each, now - rollout.waits[each.instance][1]) for each in late]


def _waiting(
    rollout: RollOut,
    record: Record,
    machines: Sequence[FleetMachine],
    moving: Sequence[FleetMachine],
    now: float,
) -> _Step:
    """Say how far the machines are, but not more often than every few seconds."""
    line = messages.progress(rollout.fleet, record.goal, machines, moving)
    if line == rollout.printed or now - rollout.printed_at < _PRINTS_EVERY_S:
        return rollout, ()
    return replace(rollout, printed=line, printed_at=now), (Say(line),)
