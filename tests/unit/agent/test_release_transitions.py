"""rollcall.release_transitions: each step of a release in place, and what each observation leads to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rollcall.in_place import FAILED, STEPS, WantedRelease
from rollcall.release_transitions import (
    CHECKING,
    CLEAN_UP,
    DONE,
    DRAINING,
    FETCHING,
    JOINING,
    LEAVING,
    MOST_FAILED,
    PREPARE,
    READ_LOG,
    SWITCH,
    SWITCHING,
    Progress,
    Seen,
    advance,
)

OLD, NEW, NEXT = ("a" * 64, "b" * 64, "c" * 64)
WANTED = WantedRelease(workload="shop", digest=NEW, rollout="00000001", healthy_s=10, deadline_s=60)
AGAIN = replace(WANTED, rollout="00000002")
OTHER = replace(WANTED, digest=NEXT, rollout="00000003")
BACK_TO_OLD = replace(WANTED, digest=OLD, rollout="00000004")
KEY = f"{NEW} 00000001"


def at(step: str, **more: Any) -> Progress:
    """A release that replaces OLD by NEW, in this step."""
    away = step in (LEAVING, DRAINING, SWITCHING, CHECKING)
    began = {"began": 1000.0} if step in (CHECKING, JOINING) else {}
    return Progress(**{"wanted": WANTED, "good": OLD, "step": step, "away": away, **began, **more})


def backwards(step: str, **more: Any) -> Progress:
    return at(step, **{"failed_step": CHECKING, "reason": "why", "log": ("x",), "failed": (KEY,), **more})


def seen(**more: Any) -> Seen:
    return Seen(**{"now": 1000.0, "wanted": WANTED, "runs": OLD, "run": "1", **more})


# Progress, observation, the next step, what changes with it, and the actions.
Row = tuple[Progress, Seen, str, dict[str, Any], tuple[str, ...]]
ROWS: dict[str, Row] = {
    "no release is wanted and none runs": (
        Progress(),
        Seen(now=1.0),
        DONE,
        {"waits": "reason=no-release-yet"},
        (),
    ),
    "no release is wanted and one runs": (Progress(), Seen(now=1.0, runs=OLD), DONE, {"waits": ""}, ()),
    "the setting is gone in the middle of a release": (
        at(DRAINING),
        seen(wanted=None, is_out=True),
        DRAINING,
        {"wanted": WANTED},
        (),
    ),
    "the first release of a machine": (Progress(), seen(runs=""), FETCHING, {"good": "", "away": False}, (PREPARE,)),
    "another release is wanted": (Progress(), seen(), FETCHING, {"good": OLD, "away": False}, (PREPARE,)),
    "the wanted release runs already": (
        Progress(),
        seen(runs=NEW),
        CHECKING,
        {"good": NEW, "away": False, "began": 1000.0},
        (),
    ),
    "fetching, and it is under way": (at(FETCHING), seen(), FETCHING, {}, (PREPARE,)),
    "fetching, and another release is ready": (
        at(FETCHING),
        seen(tried=(PREPARE, NEXT)),
        FETCHING,
        {},
        (PREPARE,),
    ),
    "fetching, and the store is down": (
        at(FETCHING),
        seen(tried=(PREPARE, NEW), fault="reason=store-failed"),
        FETCHING,
        {"waits": "reason=store-failed", "away": False},
        (PREPARE,),
    ),
    "fetching, and the machine refuses the release": (
        at(FETCHING),
        seen(tried=(PREPARE, NEW), fault="reason=unit-refused", is_refused=True),
        FAILED,
        {"failed_step": FETCHING, "reason": "reason=unit-refused", "away": False, "failed": (KEY,), "log": ()},
        (CLEAN_UP,),
    ),
    "fetched": (at(FETCHING), seen(tried=(PREPARE, NEW)), LEAVING, {"away": True}, ()),
    "fetched, without a drain": (
        at(FETCHING, wanted=replace(WANTED, drains=False)),
        seen(tried=(PREPARE, NEW), wanted=replace(WANTED, drains=False)),
        SWITCHING,
        {"away": False},
        (),
    ),
    "fetched, and none runs": (
        at(FETCHING, good=""),
        seen(tried=(PREPARE, NEW), runs=""),
        SWITCHING,
        {"away": True},
        (),
    ),
    "leaving, and the API is down": (at(LEAVING), seen(dns="reason=503"), LEAVING, {"waits": "reason=503"}, ()),
    "left": (at(LEAVING), seen(is_out=True), DRAINING, {"away": True}, ()),
    "draining": (at(DRAINING), seen(is_out=True), DRAINING, {"away": True}, ()),
    "draining, and it is in DNS again": (at(DRAINING), seen(), LEAVING, {"away": True}, ()),
    "drained": (at(DRAINING), seen(is_out=True, is_drained=True), SWITCHING, {"away": True}, ()),
    "switching": (at(SWITCHING), seen(), SWITCHING, {}, (SWITCH,)),
    "switched": (at(SWITCHING), seen(tried=(SWITCH, NEW), runs=NEW), CHECKING, {"away": True}, ()),
    "a switch that fails": (
        at(SWITCHING),
        seen(tried=(SWITCH, NEW), runs=NEW, fault="reason=command-failed"),
        SWITCHING,
        {"failed_step": SWITCHING, "reason": "reason=command-failed", "failed": (KEY,), "away": True},
        (READ_LOG,),
    ),
    "checking, for the first time": (
        at(CHECKING, began=None),
        seen(runs=NEW, unhealthy="tcp:80"),
        CHECKING,
        {"began": 1000.0, "well_since": None, "waits": "tcp:80"},
        (),
    ),
    "checking, and it is good": (at(CHECKING), seen(runs=NEW), CHECKING, {"well_since": 1000.0, "run": "1"}, ()),
    "checking, and it is good again": (
        at(CHECKING, well_since=1000.0, run="1"),
        seen(runs=NEW, now=1009.9),
        CHECKING,
        {"well_since": 1000.0},
        (),
    ),
    "checking, and it is good for long enough": (
        at(CHECKING, well_since=1000.0, run="1"),
        seen(runs=NEW, now=1010.0),
        JOINING,
        {"away": False, "good": OLD},
        (),
    ),
    "checking, and it was started again meanwhile": (
        at(CHECKING, well_since=1000.0, run="1"),
        seen(runs=NEW, now=1010.0, run="2"),
        CHECKING,
        {"well_since": 1010.0, "run": "2"},
        (),
    ),
    "checking, and it is bad in between": (
        at(CHECKING, well_since=1000.0, run="1"),
        seen(runs=NEW, now=1010.0, unhealthy="tcp:80"),
        CHECKING,
        {"well_since": None},
        (),
    ),
    "checking, until the deadline": (
        at(CHECKING),
        seen(runs=NEW, now=1060.0, unhealthy="tcp:80 refused"),
        SWITCHING,
        {
            "failed_step": CHECKING,
            "reason": "reason=check-failed seconds=60 check=tcp:80 refused",
            "began": None,
            "away": True,
        },
        (READ_LOG,),
    ),
    "checking, good and bad in turn until the deadline": (
        at(CHECKING, well_since=1055.0, run="1"),
        seen(runs=NEW, now=1060.0),
        SWITCHING,
        {"reason": "reason=check-failed seconds=60 check=unstable"},
        (READ_LOG,),
    ),
    "checking the first release, until the deadline": (
        at(CHECKING, good=""),
        seen(runs=NEW, now=1060.0, unhealthy="tcp:80"),
        FAILED,
        {"failed_step": CHECKING, "away": False},
        (READ_LOG, CLEAN_UP),
    ),
    "joining": (at(JOINING), seen(runs=NEW, dns="reason=503"), JOINING, {"waits": "reason=503", "away": False}, ()),
    "joined": (at(JOINING), seen(runs=NEW, is_joined=True), DONE, {"good": NEW, "failed_step": ""}, (CLEAN_UP,)),
    "joining, and unhealthy": (
        at(JOINING),
        seen(runs=NEW, unhealthy="tcp:80", now=1059.0),
        JOINING,
        {"waits": "tcp:80"},
        (),
    ),
    "joining, and unhealthy until the deadline": (
        at(JOINING),
        seen(runs=NEW, unhealthy="tcp:80", now=1060.0),
        SWITCHING,
        {"failed_step": JOINING},
        (READ_LOG,),
    ),
    "joining, and the API is down at the deadline": (at(JOINING), seen(runs=NEW, now=1060.0), JOINING, {}, ()),
    "done": (at(DONE, good=NEW), seen(runs=NEW), DONE, {}, ()),
    "done, and something else changed current": (at(DONE, good=NEW), seen(), FETCHING, {"good": NEW}, ()),
    "going back": (backwards(SWITCHING), seen(runs=NEW, tried=(SWITCH, NEW)), SWITCHING, {}, (SWITCH,)),
    "going back, and the switch fails": (
        backwards(SWITCHING),
        seen(runs=NEW, tried=(SWITCH, OLD), fault="reason=no-secret"),
        SWITCHING,
        {"waits": "reason=no-secret", "reason": "why"},
        (SWITCH,),
    ),
    "gone back": (backwards(SWITCHING), seen(tried=(SWITCH, OLD)), CHECKING, {"reason": "why"}, ()),
    "gone back, and healthy": (
        backwards(CHECKING, well_since=990.0, run="1"),
        seen(),
        JOINING,
        {"away": False, "failed_step": CHECKING},
        (),
    ),
    "gone back, and joined": (
        backwards(JOINING),
        seen(is_joined=True),
        FAILED,
        {"good": OLD, "reason": "why", "log": ("x",)},
        (CLEAN_UP,),
    ),
    "gone back, and not healthy in time": (
        backwards(CHECKING),
        seen(now=1060.0, unhealthy="tcp:80"),
        FAILED,
        {"away": False, "reason": "why former: reason=check-failed seconds=60 check=tcp:80"},
        (CLEAN_UP,),
    ),
    "failed": (backwards(FAILED), seen(), FAILED, {}, ()),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_step(name: str) -> None:
    was, observed, step, changed, actions = ROWS[name]
    now, found = advance(was, observed)
    assert (now.step, found) == (step, actions)
    assert {key: getattr(now, key) for key in changed} == changed


def test_each_step_has_rows() -> None:
    assert {row[0].step for row in ROWS.values()} == {*STEPS, FAILED}


def at_every_step() -> list[Progress]:
    forwards = [at(each) for each in STEPS]
    return [*forwards, *(backwards(each) for each in (SWITCHING, CHECKING, JOINING, FAILED))]


@pytest.mark.parametrize("was", at_every_step(), ids=lambda each: f"{each.step}{each.failed_step and '-back'}")
class TestAnotherWantedRelease:
    def test_begins_again_and_serves_meanwhile(self, was: Progress) -> None:
        now, actions = advance(was, seen(wanted=OTHER, runs=OLD, tried=(PREPARE, NEW), fault="x", is_refused=True))
        assert (now.step, now.away, now.good, now.failed_step, now.reason, now.log) == (
            FETCHING,
            False,
            OLD,
            "",
            "",
            (),
        )
        assert actions == (PREPARE,) and now.target == NEXT and now.failed == was.failed

    def test_that_is_the_former_one_is_not_fetched_for_long(self, was: Progress) -> None:
        """Its files are on the disk, so the machine is out of DNS again with the next step."""
        now, _ = advance(was, seen(wanted=BACK_TO_OLD, runs=NEW))
        assert now.step == FETCHING
        now, _ = advance(now, seen(wanted=BACK_TO_OLD, runs=NEW, tried=(PREPARE, OLD)))
        assert (now.step, now.away) == (LEAVING, True)

    def test_by_another_roll_out_goes_on_with_the_same_release_or_tries_it_again(self, was: Progress) -> None:
        runs = OLD if was.step not in (CHECKING, JOINING, DONE) else NEW
        now, _ = advance(was, seen(wanted=AGAIN, runs=runs, is_out=was.step == DRAINING))
        assert now.wanted == AGAIN and now.failed_step == ""
        expected = FETCHING if was.failed_step else was.step
        assert now.step == expected

    def test_that_has_failed_here_in_the_same_roll_out_is_not_tried_again(self, was: Progress) -> None:
        tried = replace(was, failed=(f"{NEXT} 00000003",))
        now, actions = advance(tried, seen(wanted=OTHER, runs=OLD))
        assert (now.step, now.reason, actions) == (FAILED, "reason=failed-before", ())
        now, _ = advance(tried, seen(wanted=OTHER, runs=NEW))
        assert (now.step, now.target) == (SWITCHING, OLD), "not on a release that was not healthy here"


def test_other_words_of_the_same_roll_out_are_taken_at_once() -> None:
    hurried = replace(WANTED, deadline_s=5, healthy_s=1)
    now, _ = advance(at(CHECKING), seen(wanted=hurried, now=1005.0, unhealthy="x"))
    assert now.failed_step == CHECKING
    now, _ = advance(at(CHECKING, well_since=1000.0, run="1"), seen(wanted=hurried, now=1001.0))
    assert now.step == JOINING


def test_a_machine_that_went_back_confirms_the_release_that_it_runs_without_leaving() -> None:
    now, actions = advance(backwards(FAILED), seen(wanted=BACK_TO_OLD))
    assert (now.step, now.away, actions, now.failed_step) == (CHECKING, False, (), "")


def test_a_few_failures_are_remembered() -> None:
    now = at(CHECKING, failed=tuple(map(str, range(MOST_FAILED))))
    now, _ = advance(now, seen(now=2000.0, unhealthy="x"))
    assert now.failed == ("1", "2", "3", "4", KEY)


@pytest.mark.parametrize("drains", [True, False])
@pytest.mark.parametrize("is_healthy", [True, False])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_whole_release(drains: bool, is_healthy: bool, restarts: bool) -> None:
    """With a machine that does each action at once; `restarts`: the agent is restarted before each step."""
    wanted = replace(WANTED, drains=drains)
    progress, runs, tried, now, steps, left_at = Progress(), OLD, ("", ""), 0.0, list[str](), 0.0
    for _ in range(400):
        now += 1.0
        left_at = left_at or now if progress.away else 0.0
        observed = Seen(
            now=now,
            wanted=wanted,
            runs=runs,
            tried=tried,
            is_out=bool(left_at),
            is_drained=bool(left_at) and now - left_at > 5,
            is_joined=not progress.away,
            unhealthy="" if is_healthy or runs == OLD else "bad",
            run=runs,
        )
        progress, actions = advance(progress, observed)
        for action in actions:
            if action == SWITCH:
                assert progress.away is drains, "it switches out of DNS, or with drain: false in DNS"
                assert not drains or observed.is_drained or progress.failed_step
                runs = progress.target
            tried = (action, progress.target) if action in (PREPARE, SWITCH) else tried
        if progress.step not in steps[-1:]:
            steps.append(progress.step)
        if restarts and progress.step not in (CHECKING, JOINING):
            tried = ("", "")
            progress = replace(progress, began=None, well_since=None, run="")
            if progress.step in (FETCHING, SWITCHING):
                restarts = False
        if progress.step in (DONE, FAILED):
            break
    leaves = [LEAVING, DRAINING] if drains else []
    back = [] if is_healthy else [SWITCHING, CHECKING, JOINING]
    assert steps == [FETCHING, *leaves, SWITCHING, CHECKING, *(back or [JOINING]), DONE if is_healthy else FAILED]
    assert runs == (NEW if is_healthy else OLD) and not progress.away
