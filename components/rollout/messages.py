"""Make text for people from a roll-out. Nothing here is read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from components.rollout.records import Record, State
from components.rollout.values import Failure, FleetMachine
from rollcall.escaping import escaped
from rollcall.in_place import WantedRelease

# Of a digest, lines for people have the first digits, and commands that can be pasted have more.
SHORT, PASTED = 6, 12
_NAMES = 10
# The state of a roll-out that has stopped after its first machines.
CANARY_WAITING = "canary waiting"
_NOT_ANSWERED = "not answered by DNS yet"


def short(digest: str) -> str:
    """Return the first digits of a digest, for people."""
    return digest[:SHORT] or "none"


def listed(releases: Mapping[str, str]) -> str:
    """Name releases: `www 3f2a1c`."""
    return ", ".join(f"{name} {short(digest)}" for name, digest in sorted(releases.items())) or "none"


def moves(record: Record) -> dict[str, str]:
    """Return the releases that a roll-out changes, by workload."""
    return {name: digest for name, digest in record.to.items() if record.former.get(name) != digest}


def names(machines: Iterable[FleetMachine]) -> str:
    found = [each.name for each in sorted(machines, key=lambda each: each.number)]
    more = f" and {len(found) - _NAMES} more" if len(found) > _NAMES else ""
    return ", ".join(found[:_NAMES]) + more


def in_batches(machines: int, size: int) -> str:
    return f"{machines} machine{'' if machines == 1 else 's'} in batches of {size}"


def begun(fleet: str, record: Record, machines: int, size: int) -> Iterator[str]:
    """Say what a roll-out changes, in a line for each workload."""
    yield from (
        change(fleet, name, record.former.get(name, ""), to, machines, size) for name, to in moves(record).items()
    )


def first(fleet: str, releases: Mapping[str, str], machines: int) -> Iterator[str]:
    """Say which releases a new fleet gets. All of its machines get them at the same time."""
    for name, digest in sorted(releases.items()):
        where = "" if name == fleet else f" (fleet {fleet})"
        yield f"{name}: first release {short(digest)}, {machines} machine{'' if machines == 1 else 's'}{where}"


def change(
    fleet: str,
    workload: str,
    before: str,
    after: str,
    machines: int,
    size: int,
    *,
    files: int | None = None,
    canary: int = 0,
) -> str:
    """Say which release a workload gets: `www: release 3f2a1c -> 9b77e0, 4 files changed, 2 machines in batches of 1`."""
    counted = "" if files is None else f"{files} file{'' if files == 1 else 's'} changed, "
    first = f", after a canary of {canary}" if canary else ""
    where = "" if workload == fleet else f" (fleet {fleet})"
    return f"{workload}: release {short(before)} -> {short(after)}, {counted}{in_batches(machines, size)}{first}{where}"


def batch(fleet: str, to: Mapping[str, str], machines: Sequence[FleetMachine], done: int, total: int) -> str:
    return f"{fleet}: {done} of {total} machines have {listed(to)}; {names(machines)} next"


def batch_back(fleet: str, to: Mapping[str, str], machines: Sequence[FleetMachine]) -> str:
    return f"{fleet}: back to {listed(to)}: {names(machines)}"


def on_hold(fleet: str, to: Mapping[str, str], machines: Sequence[FleetMachine]) -> str:
    return f"{fleet}: {names(machines)}: on hold; takes {listed(to)}, and stays out of DNS"


def progress(
    fleet: str, to: Mapping[str, str], machines: Sequence[FleetMachine], moving: Sequence[FleetMachine]
) -> str:
    """Name the machines that a roll-out waits for, with the step of each."""
    done = sum(each.wants(to) and each not in moving for each in machines)
    shown = [f"{each.name}: {step_of(each)}" for each in sorted(moving, key=lambda each: each.number)[:_NAMES]]
    more = f" and {len(moving) - _NAMES} more" if len(moving) > _NAMES else ""
    return escaped(
        f"{fleet}: {done} of {len(machines)} machines have {listed(to)}; waiting for {'; '.join(shown)}{more}"
    )


def step_of(machine: FleetMachine) -> str:
    """Return the step of a machine that is not done: the first one that it reports."""
    return next(filter(None, (step_with(machine, each) for each in machine.wanted.values())), _NOT_ANSWERED)


def step_with(machine: FleetMachine, wanted: WantedRelease) -> str:
    """Return the step of a machine with one wanted release. Empty if it reports that it is done."""
    answer = machine.answer_of(wanted)
    if answer is None:
        return machine.step or (
            "has not read its settings yet" if machine.report else machine.state or "its cloud does not list it"
        )
    return "" if answer.step == "done" else f"{answer.step}{f', {answer.waits}' if answer.waits else ''}"


def late(machine: FleetMachine, seconds: float) -> Failure:
    """Say what a machine was doing when its time was over."""
    wanted = next(iter(machine.wanted.values()))
    for each in machine.wanted.values():
        answer = machine.answer_of(each)
        if answer is None or answer.step != "done":
            wanted = each
            break
    answer = machine.answer_of(wanted)
    failed = answer if answer and answer.failed_step else None
    late_for = f"not done after {seconds:.0f} s: {step_of(machine)}"
    return Failure(
        machine=machine.name,
        instance=machine.instance,
        workload=wanted.workload,
        digest=wanted.digest,
        step=failed.failed_step if failed else answer.step if answer else "waiting",
        # It may have failed, and not have come back with its former release.
        reason=f"{failed.reason}; {late_for}" if failed else late_for,
        log=failed.log if failed else (),
    )


def _failure(failure: Failure) -> str:
    return escaped(
        f"{failure.machine} ({failure.instance}) failed at {failure.step or 'an unknown step'} of {failure.workload} "
        f"{short(failure.digest)}: {failure.reason}"
    )


def failed(fleet: str, failures: Sequence[Failure]) -> Iterator[str]:
    for each in failures:
        yield f"{fleet}: {_failure(each)}"


def failed_on_hold(fleet: str, failures: Sequence[Failure]) -> str:
    """Say which machines on hold failed with the release that the fleet has. Empty if none did."""
    if not failures:
        return ""
    lines = [f"{fleet}: {_failure(each)}" for each in failures]
    return "\n".join(
        [*lines, "No other machine goes back, because a machine on hold serves nothing. `pulumi up` tries it again."]
    )


def roll_out_failed(fleet: str, record: Record, failures: Sequence[Failure], stuck: Sequence[FleetMachine]) -> str:
    """Say why a roll-out failed: each machine, its step, the reason and the last lines of its log."""
    lines = [f"{fleet}: release {listed(moves(record) or record.to)} was not rolled out:"]
    for each in failures:
        lines.append(f"  - {_failure(each)}")
        lines += [f"      {escaped(line)}" for line in each.log]
    if not failures:
        lines.append("  - a run before this one found a machine that failed")
    lines += [f"  - {escaped(f'{each.name} ({each.instance}) did not go back: {step_of(each)}')}" for each in stuck]
    if record.goes_back and record.former:
        lines.append(f"All {'other ' if stuck else ''}machines run {listed(record.former)} again.")
    lines.append("Fix the cause, and run `pulumi up` again.")
    return "\n".join(lines)


def not_back(fleet: str, record: Record, stuck: Sequence[FleetMachine]) -> str:
    shown = "; ".join(f"{each.name} ({each.instance}): {step_of(each)}" for each in stuck)
    return escaped(
        f"{fleet}: not all machines went back to {listed(record.former)}: {shown}. Run the same command again."
    )


def canary_waiting(fleet: str, record: Record) -> str:
    """Say how to let a canary go on. The command can be pasted."""
    changes = sorted((moves(record) or record.to).items())
    text = ", ".join(f"{name} {short(digest)}" for name, digest in changes)
    return (
        f"{fleet}: {CANARY_WAITING}: {text}. Run `rollcall promote {fleet} {changes[0][1][:PASTED]}` and `pulumi up` to "
        f"roll it out, or `rollcall abort {fleet}` to undo it."
    )


def refused(fleet: str, record: Record) -> str:
    """Say that an operator went back from this release. The command can be pasted."""
    name, digest = sorted((moves(record) or record.to).items())[0]
    pasted = digest[:PASTED]
    return (
        f"{name}: release {pasted} was rolled back. Run `rollcall promote {fleet} {pasted}` and `pulumi up` to release it "
        "again."
    )


def unfinished(record: Record, taken: int, machines: int) -> str:
    """Say how far a roll-out is that the next `up` goes on with."""
    fix = (
        "Run `pulumi up` to roll it out"
        if record.state is State.PROMOTED
        else "If no `pulumi up` runs, run it to go on"
    )
    return f"{taken} of {machines} machines have {listed(moves(record) or record.to)}. {fix}."


def not_rolled_out(record: Record) -> str:
    """Say that the last roll-out failed."""
    back = f" The former release is {listed(record.former)}." if record.former else ""
    return f"{listed(moves(record) or record.to)} was not rolled out.{back} Fix the cause, and run `pulumi up`."
