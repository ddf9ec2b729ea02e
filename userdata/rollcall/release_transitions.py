"""Decide the next step of a release in place: pure functions of the progress and of what the agent observes.

    fetching -> leaving -> draining -> switching -> checking -> joining -> done

A release that fails goes through switching, checking and joining again, with the release that ran before. Then its step is `failed`. All
observations are states, not events, so an agent that was restarted continues with the progress that it finds on the disk (docs/agents.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rollcall.in_place import FAILED, STEPS, WantedRelease

FETCHING, LEAVING, DRAINING, SWITCHING, CHECKING, JOINING, DONE = STEPS
# Actions: fetch and verify the target, and run its hook; switch to the target and restart; keep the last lines of the log; delete former
# releases.
PREPARE, SWITCH, READ_LOG, CLEAN_UP = "prepare", "switch", "read-log", "clean-up"
MOST_FAILED = 5


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of a workload's release.

    `good` is the last release that was healthy here, to which the machine goes back; empty if there is none. `away`: the machine stays
    out of DNS. With a `failed_step` the machine goes back, or has gone back. `failed` are the digests and roll-outs that it does not try
    again. What follows is not kept on the disk: `waits` says why the step does not go on, `began` is when the checks began, `well_since`
    when the first of a row of good checks was, and `run` which run of the workload was checked.
    """

    wanted: WantedRelease | None = None
    step: str = DONE
    good: str = ""
    away: bool = False
    failed_step: str = ""
    reason: str = ""
    log: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    waits: str = ""
    began: float | None = None
    well_since: float | None = None
    run: str = ""

    @property
    def target(self) -> str:
        """The digest that `current` should lead to."""
        return self.good if self.failed_step else self.wanted.digest if self.wanted else ""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the agent observes.

    `runs` is the digest that `current` leads to. `tried` are the step and the digest of the last action that has ended, and `fault` why
    it failed; with `is_refused` another try would fail too. `is_out`: the machine is not in DNS; `is_drained`: nor in any cache; `dns`
    says why it cannot leave or join. `unhealthy` says why the workload is not healthy, and `run` identifies the run of its unit.
    """

    now: float
    wanted: WantedRelease | None = None
    runs: str = ""
    tried: tuple[str, str] = ("", "")
    fault: str = ""
    is_refused: bool = False
    is_out: bool = False
    is_drained: bool = False
    is_joined: bool = False
    dns: str = ""
    unhealthy: str = ""
    run: str = ""


Next = tuple[Progress, tuple[str, ...]]


def advance(was: Progress, seen: Seen) -> Next:
    """Return the next progress, and the actions that it needs. The caller keeps the progress on the disk before it acts."""
    wanted = seen.wanted or was.wanted
    if wanted is None:
        return replace(was, waits="" if seen.runs else "reason=no-release-yet"), ()
    if was.wanted is None or _key(was.wanted) != _key(wanted):
        # Another try does not count what an earlier one has found.
        was, seen = _begun(was, wanted, seen.runs), replace(seen, tried=("", ""))
    return _NEXT[was.step](replace(was, wanted=wanted, waits=""), seen)


def _key(wanted: WantedRelease) -> str:
    return f"{wanted.digest} {wanted.rollout}"


def _begun(was: Progress, wanted: WantedRelease, runs: str) -> Progress:
    """Return the progress of another wanted release, or of another roll-out of the same one."""
    if was.wanted and was.wanted.digest == wanted.digest and not was.failed_step:
        return was
    new = Progress(wanted=wanted, good=was.good if was.wanted else runs, failed=was.failed)
    if _key(wanted) in was.failed:
        failed = replace(new, failed_step=CHECKING, reason="reason=failed-before")
        return replace(failed, step=SWITCHING if new.good and runs != new.good else FAILED)
    is_running = was.step in (DONE, FAILED) and wanted.digest == runs == new.good
    return replace(new, step=CHECKING if is_running else FETCHING)


def _fetching(was: Progress, seen: Seen) -> Next:
    assert was.wanted is not None
    if seen.tried != (PREPARE, was.target):
        return was, (PREPARE,)
    if seen.is_refused:
        return _failed(was, seen.fault)
    if seen.fault:
        return replace(was, waits=seen.fault), (PREPARE,)
    drains = was.wanted.drains
    # A machine that runs no release yet has nothing to drain. It joins when its first release is healthy.
    return replace(was, step=LEAVING if drains and seen.runs else SWITCHING, away=drains), ()


def _leaving(was: Progress, seen: Seen) -> Next:
    return (replace(was, step=DRAINING), ()) if seen.is_out else (replace(was, waits=seen.dns), ())


def _draining(was: Progress, seen: Seen) -> Next:
    if not seen.is_out:
        return replace(was, step=LEAVING), ()
    return replace(was, step=SWITCHING if seen.is_drained else DRAINING), ()


def _switching(was: Progress, seen: Seen) -> Next:
    if seen.tried != (SWITCH, was.target):
        return was, (SWITCH,)
    if seen.fault and was.failed_step:
        # There is no other release to go back to.
        return replace(was, waits=seen.fault), (SWITCH,)
    return _failed(was, seen.fault) if seen.fault else (replace(was, step=CHECKING), ())


def _checking(was: Progress, seen: Seen) -> Next:
    assert was.wanted is not None
    # A run that ended, and was started again by systemd, begins a new row of good checks.
    row = was.well_since if was.well_since is not None and was.run == seen.run else seen.now
    well_since = None if seen.unhealthy else row
    now = replace(was, run=seen.run, well_since=well_since, began=seen.now if was.began is None else was.began)
    if well_since is not None and seen.now - well_since >= was.wanted.healthy_s:
        return replace(now, step=JOINING, away=False), ()
    return _overdue(now, seen) or (replace(now, waits=seen.unhealthy), ())


def _joining(was: Progress, seen: Seen) -> Next:
    if seen.is_joined:
        good = was.good if was.failed_step else was.target
        return replace(was, step=FAILED if was.failed_step else DONE, good=good), (CLEAN_UP,)
    return (_overdue(was, seen) if seen.unhealthy else None) or (replace(was, waits=seen.unhealthy or seen.dns), ())


def _done(was: Progress, seen: Seen) -> Next:
    # Something else has changed `current`.
    return (was if seen.runs == was.target else replace(was, step=FETCHING)), ()


def _stays(was: Progress, seen: Seen) -> Next:
    return was, ()


def _overdue(was: Progress, seen: Seen) -> Next | None:
    """Return the failure of a release that is not healthy in time; None if there is time left."""
    assert was.wanted is not None
    if was.began is None or seen.now - was.began < was.wanted.deadline_s:
        return None
    return _failed(was, f"reason=check-failed seconds={was.wanted.deadline_s} check={seen.unhealthy or 'unstable'}")


def _failed(was: Progress, reason: str) -> Next:
    assert was.wanted is not None
    if was.failed_step:
        # The release that ran before is not healthy either. The machine joins as soon as it is.
        return replace(was, step=FAILED, away=False, reason=f"{was.reason} former: {reason}"[:1000]), (CLEAN_UP,)
    failed = replace(
        was, failed_step=was.step, reason=reason, failed=(*was.failed, _key(was.wanted))[-MOST_FAILED:], waits=""
    )
    failed = replace(failed, began=None, well_since=None)
    if was.step == FETCHING or was.good in ("", was.wanted.digest):
        log = () if was.step == FETCHING else (READ_LOG,)
        return replace(failed, step=FAILED, away=False), (*log, CLEAN_UP)
    return replace(failed, step=SWITCHING), (READ_LOG,)


_NEXT: dict[str, Callable[[Progress, Seen], Next]] = {
    FETCHING: _fetching,
    LEAVING: _leaving,
    DRAINING: _draining,
    SWITCHING: _switching,
    CHECKING: _checking,
    JOINING: _joining,
    DONE: _done,
    FAILED: _stays,
}
