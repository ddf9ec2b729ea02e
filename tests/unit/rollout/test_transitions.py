"""One step of a roll-out: each row that changes nothing has a twin in which one thing differs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from components.rollout.observing import machine_of
from components.rollout.records import Record, State
from components.rollout.transitions import after_observation
from components.rollout.values import (
    Action,
    End,
    FleetMachine,
    Observation,
    Outcome,
    Policy,
    RollOut,
    Say,
    SetSettings,
)
from rollcall.in_place import FAILED, HOLD, WANTED, ReleaseReport, WantedRelease, WorkloadReport
from tests.simulated_fleet import digest

A, B, X = digest("a"), digest("b"), digest("x")
RUN, ROLLOUT = "00000001", "0123abcd"
RECORD = Record(state=State.ROLLING, to={"www": B}, former={"www": A}, rollout=ROLLOUT, number=3)


def machine(number: int, release: str = A, *, record: Record = RECORD, **more: Any) -> FleetMachine:
    """Return a machine that is done with its release. `step` says what it reports instead; None: nothing."""
    step, hold = more.get("step", "done"), more.get("hold", False)
    rollout = more.get("rollout", ROLLOUT if release == B else "0000000a")
    wanted = WantedRelease(workload="www", digest=release, rollout=rollout)
    report = WorkloadReport(
        wanted=release, rollout=rollout, runs=more.get("runs", release), step=step or "", reason="why"
    )
    return machine_of(
        f"web-{number}",
        number,
        f"i-{number}",
        live={wanted.key: wanted.words(), **record.settings(), **({HOLD: "2026-11-30T19:00:00Z x"} if hold else {})},
        report=ReleaseReport(instance=f"i-{number}", workloads={"www": report}) if step else None,
        answered=more.get("answered", step in ("done", "fetching", FAILED)),
    )


def step(
    *machines: FleetMachine, record: Record | None = RECORD, now: float = 0.0, **more: Any
) -> tuple[RollOut, tuple[Action, ...]]:
    policy = more.get("policy", Policy())
    rollout = more.get("rollout") or RollOut(fleet="web", target={"www": more.get("target", B)}, policy=policy, run=RUN)
    seen = Observation(
        machines=machines, record=record, elsewhere=more.get("elsewhere", ()), known=more.get("known", {})
    )
    return after_observation(rollout, seen, now)


def given(actions: tuple[Action, ...]) -> dict[str, str]:
    """Return the releases that machines get, by instance."""
    return {
        instance: text[:64]
        for action in actions
        if isinstance(action, SetSettings)
        for instance, change in action.changes.items()
        for key, text in change.items()
        if key.startswith(WANTED) and text
    }


def ended(actions: tuple[Action, ...]) -> Outcome | None:
    return next((each.outcome for each in actions if isinstance(each, End)), None)


def state(actions: tuple[Action, ...]) -> set[str]:
    """Return the states of the gates that are written."""
    return {
        str(text).partition(" ")[0]
        for action in actions
        if isinstance(action, SetSettings)
        for change in action.changes.values()
        for key, text in change.items()
        if key.startswith("rollcall-gate-")
    }


class TestBatches:
    def test_the_first_batch_are_the_lowest_numbers(self) -> None:
        _, actions = step(*(machine(each) for each in (10, 2, 9)), policy=Policy(batch=2))
        assert given(actions) == {"i-2": B, "i-9": B}

    @pytest.mark.parametrize(
        ("batch", "machines", "size"), [(1, 4, 1), ("25%", 4, 1), ("25%", 5, 2), ("1%", 3, 1), ("100%", 3, 3)]
    )
    def test_a_share_is_rounded_up(self, batch: int | str, machines: int, size: int) -> None:
        _, actions = step(*map(machine, range(machines)), policy=Policy(batch=batch))
        assert len(given(actions)) == size

    @pytest.mark.parametrize(
        ("first", "next_one"),
        [
            ({}, True),
            ({"step": "joining"}, False),
            ({"step": None}, False),
            ({"answered": False}, False),
            ({"rollout": "deadbeef", "step": "checking"}, False),
        ],
    )
    def test_the_next_batch_begins_when_the_machines_of_the_last_one_are_done_and_answered(
        self, first: dict[str, Any], next_one: bool
    ) -> None:
        _, actions = step(machine(0, B, **first), machine(1))
        assert given(actions) == ({"i-1": B} if next_one else {})

    @pytest.mark.parametrize(("others", "waits"), [([], False), (["checking"], True), (["done"], False)])
    def test_no_batch_begins_while_another_fleet_of_the_service_has_one(self, others: list[str], waits: bool) -> None:
        elsewhere = [machine(7, X, step=each) for each in others]
        _, actions = step(machine(0), elsewhere=elsewhere)
        assert bool(given(actions)) != waits

    @pytest.mark.parametrize(("hold", "expected"), [(True, {"i-1": B}), (False, {"i-0": B})])
    def test_a_machine_on_hold_is_passed_over(self, hold: bool, expected: dict[str, str]) -> None:
        _, actions = step(machine(0, hold=hold), machine(1))
        assert given(actions) == expected

    def test_machines_on_hold_get_the_release_last_and_are_not_waited_for(self) -> None:
        _, actions = step(machine(0, hold=True), machine(1, B))
        assert given(actions) == {"i-0": B}
        _, actions = step(machine(0, B, hold=True, step=None), machine(1, B))
        assert state(actions) == {"done"}

    def test_a_machine_that_was_unhealthy_before_delays_nothing(self) -> None:
        _, actions = step(machine(0, answered=False), machine(1))
        assert given(actions) == {"i-0": B}

    def test_all_workloads_of_a_machine_change_at_once(self) -> None:
        record = replace(RECORD, to={"api": B, "www": B}, former={"api": A, "www": A})
        one = WantedRelease(workload="api", digest=A, rollout="0000000a")
        web = machine(0, record=record)
        assert web.report is not None
        runs = WorkloadReport(wanted=A, rollout="0000000a", runs=A, step="done")
        web = replace(
            web,
            live={**web.live, one.key: one.words()},
            wanted={**web.wanted, "api": one},
            report=replace(web.report, workloads={**web.report.workloads, "api": runs}),
        )
        rollout = RollOut(fleet="web", target=record.to, policy=Policy(undrained=frozenset({"api"})), run=RUN)
        _, actions = step(web, record=record, rollout=rollout)
        change = next(each for each in actions if isinstance(each, SetSettings)).changes["i-0"]
        assert sorted(change) == ["rollcall-wanted-api", "rollcall-wanted-www"]
        assert "drain=no" in str(change["rollcall-wanted-api"]) and "drain=yes" in str(change["rollcall-wanted-www"])


class TestBegin:
    def test_the_gate_is_on_all_machines_before_the_first_one_changes(self) -> None:
        done = Record(state=State.DONE, to={"www": A}, former={}, rollout=ROLLOUT, number=2)
        _, actions = step(machine(0, record=done), machine(1, record=done), record=done)
        assert given(actions) == {} and state(actions) == {"rolling"}

    def test_a_machine_that_lacks_the_gate_gets_it_first(self) -> None:
        lacks = replace(machine(1), live={})
        _, actions = step(machine(0), lacks)
        assert given(actions) == {} and state(actions) == {"rolling"}

    @pytest.mark.parametrize(
        ("last", "release"),
        [(State.ROLLING, A), (State.PROMOTED, A), (State.FAILED, A), (State.REFUSED, A), (State.DONE, B)],
    )
    def test_a_new_machine_gets_what_the_fleet_has(self, last: State, release: str) -> None:
        record = replace(RECORD, state=last)
        there = machine(0, B if last is State.DONE else A, record=record)
        new = machine_of("web-1", 1, "i-1", live=record.settings(), report=None, answered=False)
        _, actions = step(there, new, record=record, target=B if last is not State.FAILED else A)
        assert given(actions) == {"i-1": release}

    def test_a_new_fleet_gets_the_new_release_at_once(self) -> None:
        new = [machine_of(f"web-{each}", each, f"i-{each}", live={}, report=None, answered=False) for each in range(3)]
        _, actions = step(*new, record=None)
        assert state(actions) == {"rolling"}
        record = replace(RECORD, former={}, rollout=RUN, number=1)
        new = [replace(each, live=record.settings()) for each in new]
        _, actions = step(*new, record=record)
        assert given(actions) == {"i-0": B, "i-1": B, "i-2": B}

    def test_settings_of_a_workload_that_the_fleet_no_longer_runs_are_removed(self) -> None:
        extra = WantedRelease(workload="old", digest=X, rollout="0000000a")
        web = machine(0)
        web = replace(web, live={**web.live, extra.key: extra.words()}, wanted={**web.wanted, "old": extra})
        _, actions = step(web)
        change = next(each for each in actions if isinstance(each, SetSettings)).changes["i-0"]
        assert change == {"rollcall-wanted-old": None}

    def test_another_release_in_the_middle_keeps_the_former_one(self) -> None:
        _, actions = step(machine(0, B), machine(1), target=X)
        texts = {
            str(text) for each in actions if isinstance(each, SetSettings) for text in each.changes["i-0"].values()
        }
        assert texts == {f"rolling to={X} from={A} rollout={RUN} number=4"}


class TestFailures:
    @pytest.mark.parametrize(
        ("more", "failed"),
        [
            ({"step": FAILED, "runs": A}, True),
            ({"step": FAILED, "runs": A, "rollout": RUN}, True),
            # Another roll-out gave it the release, so it has not tried yet.
            ({"step": FAILED, "runs": A, "rollout": "deadbeef"}, False),
            ({"step": "checking"}, False),
        ],
    )
    def test_one_machine_that_failed_lets_the_fleet_go_back(self, more: dict[str, Any], failed: bool) -> None:
        rollout, actions = step(machine(0, B), machine(1, B, **more))
        assert (state(actions) == {"failed"}) == failed
        assert bool(rollout.failures) == failed

    @pytest.mark.parametrize(("now", "failed"), [(370.0, True), (300.0, False)])
    def test_a_machine_that_is_late_has_failed(self, now: float, failed: bool) -> None:
        late = machine(0, B, step="checking")
        rollout, _ = step(late)
        _, actions = step(late, rollout=rollout, now=now)
        assert (state(actions) == {"failed"}) == failed

    def test_a_machine_that_failed_and_does_not_come_back_is_late_and_says_why_it_failed(self) -> None:
        back = machine(0, B, step="checking", answered=False)
        assert back.report is not None
        report = replace(
            back.report.workloads["www"], failed_step="checking", reason="reason=check-failed", log=("boom",)
        )
        back = replace(back, report=replace(back.report, workloads={"www": report}))
        rollout, _ = step(back)
        rollout, _ = step(back, rollout=rollout, now=370.0)
        (failure,) = rollout.failures
        assert (failure.step, failure.log) == ("checking", ("boom",))
        assert failure.reason == "reason=check-failed; not done after 370 s: checking"

    def test_a_machine_that_has_never_reported_may_boot_first(self) -> None:
        boots = machine(0, B, step=None, answered=False)
        rollout, _ = step(boots)
        assert state(step(boots, rollout=rollout, now=500.0)[1]) == set()
        assert state(step(boots, rollout=rollout, now=601.0)[1]) == {"failed"}

    def test_a_machine_that_fails_with_the_release_of_the_fleet_moves_no_other(self) -> None:
        record = replace(RECORD, state=State.DONE)
        failed = machine(1, B, record=record, step=FAILED, runs="", rollout=RUN)
        _, actions = step(machine(0, B, record=record), failed, record=record)
        assert ended(actions) is Outcome.FAILED and not state(actions)

    def test_the_machines_of_the_batch_go_back_before_the_others(self) -> None:
        record = replace(RECORD, state=State.FAILED)
        all_of = [
            machine(0, B, record=record),
            machine(1, B, record=record, step="checking"),
            machine(2, record=record),
        ]
        _, actions = step(*all_of, record=record)
        assert given(actions) == {"i-1": A}

    def test_the_machine_that_failed_is_the_last_one(self) -> None:
        record = replace(RECORD, state=State.FAILED)
        failed = machine(0, B, record=record, step=FAILED, runs=A)
        rollout, actions = step(failed, machine(1, B, record=record), record=record)
        assert given(actions) == {"i-1": A}
        assert [each.machine for each in rollout.failures] == ["web-0"]

    def test_a_machine_that_is_not_back_in_dns_counts_as_out(self) -> None:
        record = replace(RECORD, state=State.FAILED)
        failed = machine(0, B, record=record, step=FAILED, runs=A, answered=False)
        _, actions = step(failed, machine(1, B, record=record), record=record)
        assert given(actions) == {}


class TestOutcomes:
    @pytest.mark.parametrize(("canary", "expected"), [(1, Outcome.CANARY), (2, None), (0, None)])
    def test_a_canary_stops_after_its_machines(self, canary: int, expected: Outcome | None) -> None:
        _, actions = step(machine(0, B), machine(1), policy=Policy(canary=canary, batch=5))
        assert ended(actions) is expected
        assert bool(given(actions)) == (expected is None)

    @pytest.mark.parametrize(
        ("release", "corrected"), [(X, {"i-2": A}), (A, {})], ids=["another release", "the fleet's release"]
    )
    def test_a_machine_with_another_release_is_corrected_while_a_canary_waits(
        self, release: str, corrected: dict[str, str]
    ) -> None:
        machines = machine(0, B), machine(1), machine(2, release)
        _, actions = step(*machines, policy=Policy(canary=1))
        assert given(actions) == corrected
        assert ended(actions) is (None if corrected else Outcome.CANARY)
        # The run waits for it, and then the canary waits.
        changing = machine(2, A, step="checking", rollout=RUN)
        assert ended(step(machine(0, B), machine(1), changing, policy=Policy(canary=1))[1]) is None

    def test_no_more_machines_are_corrected_at_a_time_than_a_batch_has(self) -> None:
        machines = machine(0, B), *(machine(each, X) for each in (1, 2, 3))
        _, actions = step(*machines, policy=Policy(canary=1, batch=2))
        assert given(actions) == {"i-1": A, "i-2": A}

    def test_a_machine_of_the_canary_with_another_release_gets_that_of_the_canary(self) -> None:
        _, actions = step(machine(0, X), machine(1), policy=Policy(canary=1))
        assert given(actions) == {"i-0": B}

    @pytest.mark.parametrize(("failed", "message"), [(FAILED, "web-0 (i-0) failed at "), ("done", "")])
    def test_a_machine_on_hold_that_failed_is_named_and_moves_no_other(self, failed: str, message: str) -> None:
        record = replace(RECORD, state=State.DONE)
        on_hold = machine(0, B, record=record, hold=True, step=failed, runs=A, rollout=RUN)
        _, actions = step(on_hold, machine(1, B, record=record), record=record)
        (end,) = actions
        assert isinstance(end, End) and end.outcome is Outcome.DONE
        assert message in end.message and bool(message) == bool(end.message)

    def test_another_run_tries_a_machine_on_hold_again(self) -> None:
        record = replace(RECORD, state=State.DONE)
        on_hold = machine(0, B, record=record, hold=True, step=FAILED, runs=A)
        _, actions = step(on_hold, machine(1, B, record=record), record=record)
        assert given(actions) == {"i-0": B}

    def test_a_promoted_canary_goes_on(self) -> None:
        record = replace(RECORD, state=State.PROMOTED)
        _, actions = step(
            machine(0, B, record=record), machine(1, record=record), record=record, policy=Policy(canary=1)
        )
        assert given(actions) == {"i-1": B}

    def test_a_complete_roll_out_is_written_down_and_then_over(self) -> None:
        _, actions = step(machine(0, B))
        assert state(actions) == {"done"}
        record = replace(RECORD, state=State.DONE)
        _, actions = step(machine(0, B, record=record), record=record)
        assert ended(actions) is Outcome.DONE and len(actions) == 1

    @pytest.mark.parametrize(("target", "expected"), [(B, Outcome.REFUSED), (A, Outcome.DONE)])
    def test_a_refused_release_is_not_rolled_out(self, target: str, expected: Outcome) -> None:
        record = replace(RECORD, state=State.REFUSED)
        _, actions = step(machine(0, record=record), record=record, target=target)
        assert ended(actions) is expected

    def test_a_failed_release_is_tried_again_by_another_run_only(self) -> None:
        record = replace(RECORD, state=State.FAILED)
        back = machine(0, record=record)
        _, actions = step(back, record=record)
        assert state(actions) == {"rolling"}
        same = RollOut(fleet="web", target={"www": B}, policy=Policy(), run=RUN, goes_back=True)
        _, actions = step(back, record=record, rollout=same)
        assert ended(actions) is Outcome.FAILED


def test_progress_is_printed_every_ten_seconds_at_most() -> None:
    moving = machine(0, B, step="fetching")
    rollout, actions = step(moving, now=0.0)
    assert [each.line for each in actions if isinstance(each, Say)] == [
        "web: 0 of 1 machines have www 626262; waiting for web-0: fetching"
    ]
    other = machine(0, B, step="leaving")
    assert step(other, rollout=rollout, now=5.0)[1] == ()
    assert len(step(other, rollout=rollout, now=10.0)[1]) == 1
