"""Say what a run would do before it does it: for a preview, for the review of a change, and to find out whether a run is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.rollout import messages
from components.rollout.records import Record, State
from components.rollout.values import FleetMachine, Observation, Policy, Stage
from components.workloads.manifest import changed_files
from rollcall.in_place import FAILED


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`changes`: a run would change something. `lines` say what, and `notice` why a run changes nothing although the program differs."""

    changes: bool
    lines: tuple[str, ...] = ()
    notice: str = ""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far the last roll-out of a fleet is.

    `state` is the word of a State, or `canary waiting`. `line` says the same to people. `to` and `former` are the first digits of the
    releases, by workload. `unfinished`: the next run goes on with the roll-out, whatever release the program has.
    """

    state: str
    line: str
    to: Mapping[str, str]
    former: Mapping[str, str]
    unfinished: bool = False


def progress(fleet: str, seen: Observation, policy: Policy) -> Progress | None:
    """Return how far the last roll-out of a fleet is. None: no machine knows one."""
    record, machines = seen.record, len(seen.machines)
    if record is None:
        return None
    done = taken(seen)
    # With the release that it rolls out itself, the plan says whether a run would go on.
    plan = planned(record, fleet=fleet, target=record.to, policy=policy, machines=machines, taken=done)
    state, waits = record.state.value, bool(plan.notice)
    if record.state is State.ROLLING and waits:
        state, line = messages.CANARY_WAITING, plan.notice.removeprefix(f"{fleet}: {messages.CANARY_WAITING}: ")
    elif record.state is State.REFUSED:
        line = plan.notice
    elif record.state is State.FAILED:
        line = messages.not_rolled_out(record)
    elif record.state is State.DONE:
        line = messages.listed(record.to)
    else:
        line = messages.unfinished(record, done, machines)
    return Progress(
        state=state,
        line=line,
        to=_pasted(record.to),
        former=_pasted(record.former),
        unfinished=record.state in (State.ROLLING, State.PROMOTED) and not waits,
    )


def _pasted(releases: Mapping[str, str]) -> dict[str, str]:
    return {name: digest[: messages.PASTED] for name, digest in sorted(releases.items())}


def differing(seen: Observation) -> list[str]:
    """Name the machines that do not have the release that they should have, each with the reason."""
    return [line for each in seen.machines if (line := _difference(each, seen.record))]


def _difference(machine: FleetMachine, record: Record | None) -> str:
    name = f"{machine.name} ({machine.instance})"
    if record is None or not machine.wanted:
        return f"{name} has no release yet"
    allowed = [record.goal] if record.state is State.DONE or record.goes_back else [record.to, record.former]
    if not any(machine.wants(each) for each in allowed):
        wants = messages.listed({workload: each.digest for workload, each in machine.wanted.items()})
        should = " or ".join(messages.listed(each) for each in allowed if each)
        return f"{name} should have {should}, and its settings name {wants}"
    for wanted in machine.wanted.values():
        answer = machine.answer_of(wanted)
        if answer is not None and answer.step == FAILED:
            return f"{name} failed at {answer.failed_step} of {wanted.workload} {messages.short(wanted.digest)}: {answer.reason}"
        if answer is not None and answer.step == "done" and answer.runs != wanted.digest:
            runs = messages.short(answer.runs)
            return f"{name} should run {wanted.workload} {messages.short(wanted.digest)}, and runs {runs}"
    return ""


def taken(seen: Observation) -> int:
    """Return how many machines have the new release and are done with it, as far as their reports say."""
    record = seen.record
    if record is None:
        return 0
    return sum(each.wants(record.to) and _is_done(each) for each in seen.machines if not each.on_hold)


def _is_done(machine: FleetMachine) -> bool:
    answers = [machine.answer_of(each) for each in machine.wanted.values()]
    return machine.stage is not Stage.FAILED and all(each is not None and each.step == "done" for each in answers)


def planned(
    record: Record | None,
    *,
    fleet: str,
    target: Mapping[str, str],
    policy: Policy,
    machines: int,
    taken: int = 0,
    files: Mapping[str, str] | None = None,
    files_before: Mapping[str, str] | None = None,
) -> Plan:
    """Return what a run would do with a fleet of this many machines that all have the releases that they should have.

    `files` and `files_before` are the manifests of the releases, by workload.
    """
    if record is None:
        return Plan(changes=True, lines=tuple(messages.first(fleet, target, machines)))
    if dict(record.to) == dict(target):
        return _same_release(record, fleet, policy, taken, machines)
    if record.goes_back and dict(record.former) == dict(target):
        return Plan(changes=False)
    lines = _lines(record.base, fleet, target, policy, machines, files or {}, files_before or {})
    return Plan(changes=True, lines=tuple(lines))


def _same_release(record: Record, fleet: str, policy: Policy, taken: int, machines: int) -> Plan:
    if record.state is State.REFUSED:
        return Plan(changes=False, notice=messages.refused(fleet, record))
    if record.state is State.DONE:
        return Plan(changes=False)
    if record.state is State.ROLLING and record.former and policy.canary and policy.canary <= taken < machines:
        return Plan(changes=False, notice=messages.canary_waiting(fleet, record))
    left = machines - taken
    size = policy.size(machines)
    return Plan(changes=True, lines=tuple(messages.begun(fleet, record, left, size)))


def _lines(
    base: Mapping[str, str],
    fleet: str,
    target: Mapping[str, str],
    policy: Policy,
    machines: int,
    files: Mapping[str, str],
    files_before: Mapping[str, str],
) -> Sequence[str]:
    """Say which releases change, `www: release 3f2a1c -> 9b77e0, 4 files changed, 2 machines in batches of 1`."""
    found = []
    for name, digest in sorted(target.items()):
        if base.get(name) == digest:
            continue
        number = changed_files(files_before.get(name, ""), files.get(name, ""))
        size = policy.size(machines)
        found.append(
            messages.change(fleet, name, base.get(name, ""), digest, machines, size, files=number, canary=policy.canary)
        )
    return found


def plan_of(olds: Mapping[str, Any], news: Mapping[str, Any]) -> Plan:
    """Return what a run would do, by the properties of a Release: `olds` as the last refresh read them, `news` the program's."""
    members = news.get("members")
    return planned(
        Record.from_outputs(olds.get("record")),
        fleet=str(news["fleet"]),
        target=news["releases"],
        policy=policy_of(news),
        # Before its machines are there, it may be not known.
        machines=len(members) if isinstance(members, list) else 0,
        taken=int(olds.get("taken") or 0),
        files=news.get("files") or {},
        files_before=olds.get("files") or {},
    )


def policy_of(props: Mapping[str, Any], drain_s: float = 0.0) -> Policy:
    """Return the policy in the properties of a Release."""
    found = props["policy"]
    batch = str(found["batch"])
    return Policy(
        batch=batch if batch.endswith("%") else int(float(batch)),
        healthy_s=int(found["healthy"]),
        deadline_s=int(found["deadline"]),
        canary=int(found["canary"]),
        drain_s=drain_s,
        boot_s=float(found["timeout"]) + float(found["deadline"]),
        undrained=frozenset(found.get("undrained") or ()),
    )
