"""Release: what `preview` shows, what `up` does, and what a refresh finds."""

from __future__ import annotations

import bz2
import hashlib
from pathlib import Path

import pytest

from components.rollout import providers
from components.rollout.performing import RollOutError
from components.rollout.records import State, newest
from components.rollout.transitions import changed
from rollcall.in_place import GATE, HOLD, WANTED, WantedRelease
from tests.release_stack import Cloud, Stack, cloud_of
from tests.simulated_fleet import Machine, digest, fleet_of

A, B, C = digest("a"), digest("b"), digest("c")


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    return cloud_of(4, monkeypatch)


@pytest.fixture
def stack(cloud: Cloud) -> Stack:
    return Stack(cloud)


def give(cloud: Cloud, number: int, release: str) -> None:
    """Write a wanted release as someone with the cloud's console would."""
    wanted = WantedRelease(workload="www", digest=release, rollout="deadbeef")
    cloud.fleet.machines[number].live[wanted.key] = wanted.words()


def gate(cloud: Cloud, state: State) -> None:
    record = newest(each.live for each in cloud.fleet.machines)
    assert record is not None
    settings = dict(changed(record, state, "0badcafe").settings())
    cloud.fleet.write({each.instance: settings for each in cloud.fleet.machines})


def test_the_first_up_gives_all_machines_the_release_and_the_preview_is_empty(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    assert cloud.fleet.running() == {A}
    assert cloud.undrained == ["i-0000", "i-0001", "i-0002", "i-0003"]
    assert stack.preview({"www": A}) == (False, [])


def test_a_preview_says_what_a_roll_out_changes(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    changes, lines = stack.preview({"www": B}, batch="50%")
    assert changes
    assert lines == ["www: release 616161 -> 626262, 4 machines in batches of 2 (fleet web)"]
    assert stack.state is not None and stack.state["releases"] == {"www": A}


def test_after_a_roll_out_the_preview_is_empty(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    assert stack.up({"www": B})
    assert cloud.fleet.running() == {B}
    assert stack.preview({"www": B}) == (False, [])


def test_another_policy_alone_changes_nothing(stack: Stack) -> None:
    stack.up({"www": A})
    assert stack.preview({"www": A}, batch="25%", canary=1) == (False, [])


def test_a_bad_release_fails_with_machine_step_reason_and_log(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    cloud.fleet.machines[1].broken = {B}
    with pytest.raises(RollOutError) as failed:
        stack.up({"www": B})
    assert str(failed.value).splitlines() == [
        "web: release www 626262 was not rolled out:",
        "  - web-1 (i-0001) failed at checking of www 626262: reason=check-failed check=http:80:/",
        "      boom",
        "All machines run www 616161 again.",
        "Fix the cause, and run `pulumi up` again.",
    ]
    assert cloud.fleet.running() == {A}
    assert stack.preview({"www": A}) == (False, [])
    assert stack.preview({"www": B})[0]


def test_the_next_up_tries_a_failed_release_again(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    cloud.fleet.machines[1].broken = {B}
    with pytest.raises(RollOutError):
        stack.up({"www": B})
    cloud.fleet.machines[1].broken = set()
    stack.up({"www": B})
    assert cloud.fleet.running() == {B}


def test_a_first_release_that_fails_is_tried_again_by_the_next_up(stack: Stack, cloud: Cloud) -> None:
    cloud.fleet.machines[2].broken = {A}
    with pytest.raises(RollOutError, match="web-2"):
        stack.up({"www": A})
    assert stack.state is None
    cloud.fleet.machines[2].broken = set()
    stack.up({"www": A})
    assert cloud.fleet.running() == {A}


def test_a_canary_waits_and_a_preview_says_how_to_go_on(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    stack.up({"www": B}, canary=1)
    assert [set(each.runs.values()) for each in cloud.fleet.machines] == [{B}, {A}, {A}, {A}]
    changes, lines = stack.preview({"www": B}, canary=1)
    assert not changes
    assert lines == [
        "web: canary waiting: www 626262. Run `rollcall promote web 626262626262` and `pulumi up` to roll it out, or "
        "`rollcall abort web` to undo it."
    ]
    cloud.written.clear()
    assert not stack.up({"www": B}, canary=1)
    assert not cloud.written


def test_a_promoted_canary_is_rolled_out(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    stack.up({"www": B}, canary=1)
    gate(cloud, State.PROMOTED)
    assert stack.up({"www": B}, canary=1)
    assert cloud.fleet.running() == {B}
    assert stack.preview({"www": B}, canary=1) == (False, [])


def test_a_promotion_is_for_one_release(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    stack.up({"www": B}, canary=1)
    gate(cloud, State.PROMOTED)
    stack.up({"www": C}, canary=1)
    assert [set(each.runs.values()) for each in cloud.fleet.machines] == [{C}, {A}, {A}, {A}]


def test_a_release_that_was_rolled_back_is_not_rolled_out_again(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    stack.up({"www": B})
    gate(cloud, State.REFUSED)
    stack.up({"www": B})
    assert cloud.fleet.running() == {A}
    changes, lines = stack.preview({"www": B})
    assert not changes
    assert lines == [
        "www: release 626262626262 was rolled back. Run `rollcall promote web 626262626262` and `pulumi up` to release it again."
    ]
    gate(cloud, State.PROMOTED)
    assert stack.up({"www": B})
    assert cloud.fleet.running() == {B}


def test_another_release_after_a_rollback_is_rolled_out(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    stack.up({"www": B})
    gate(cloud, State.REFUSED)
    stack.up({"www": C})
    assert cloud.fleet.running() == {C}
    record = newest(each.live for each in cloud.fleet.machines)
    assert record is not None and record.former == {"www": A}


def test_a_machine_with_another_wanted_release_is_a_difference(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    give(cloud, 2, C)
    changes, lines = stack.preview({"www": A})
    assert changes
    line = "web-2 (i-0002) should have www 616161, and its settings name www 636363"
    assert lines == []
    assert stack.state is not None and stack.state["differing"] == [line]
    stack.up({"www": A})
    cloud.fleet.tick(60)
    assert cloud.fleet.running() == {A}
    assert stack.preview({"www": A}) == (False, [])


def test_a_machine_that_runs_another_release_is_a_difference(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    cloud.fleet.machines[3].runs = {"www": C}
    cloud.fleet.machines[3]._tell()
    changes, lines = stack.preview({"www": A})
    assert changes
    assert lines == []
    assert stack.state is not None
    assert stack.state["differing"] == ["web-3 (i-0003) should run www 616161, and runs 636363"]


def test_a_refresh_returns_what_it_found_as_inputs(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    give(cloud, 0, C)
    assert stack.state is not None
    read = stack.provider.read("id", stack.state)
    assert read.inputs["differing"] and "record" not in read.inputs and "taken" not in read.inputs


def test_a_new_machine_gets_the_release_of_the_fleet(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    stack.up({"www": B}, canary=1)
    cloud.fleet.machines.append(Machine(number=4, instance="i-0004"))
    assert stack.up({"www": B}, canary=1)
    cloud.fleet.tick(60)
    assert cloud.fleet.machines[4].runs == {"www": A}


def test_successors_get_the_release_from_the_machines_that_leave(stack: Stack, cloud: Cloud) -> None:
    """A replaced machine is a new instance without settings. Its predecessor still knows the roll-out."""
    stack.up({"www": A})
    stack.up({"www": B})
    gate(cloud, State.REFUSED)
    stack.up({"www": B})
    old = cloud.fleet.machines
    cloud.fleet.machines = [
        *old,
        *(Machine(number=each.number, instance=f"i-1{each.number:03}") for each in old),
    ]
    props = cloud.props({"www": B})
    props["members"] = props["members"][len(old) :]
    assert stack.state is not None
    stack.provider.update("id", stack.state, props)
    cloud.fleet.tick(60)
    assert cloud.fleet.running() == {A}


def test_a_fleet_that_has_lost_all_settings_has_the_releases_of_the_state(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    for each in cloud.fleet.machines:
        each.live.clear()
    assert stack.up({"www": A})
    assert cloud.fleet.wanted() == {A}
    assert cloud.fleet.out == 0


def test_delete_removes_the_settings_of_the_roll_out_and_keeps_a_hold(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    cloud.fleet.machines[1].live[HOLD] = "2026-11-30T19:00:00Z disk"
    stack.destroy()
    assert [sorted(each.live) for each in cloud.fleet.machines] == [[], [HOLD], [], []]


def test_a_release_that_is_replaced_keeps_the_settings_of_the_machines(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    before = [dict(each.live) for each in cloud.fleet.machines]
    stack.replace({"www": A})
    assert all(
        live and live.keys() == each.live.keys() for live, each in zip(before, cloud.fleet.machines, strict=True)
    )
    assert stack.preview({"www": A}) == (False, [])


def test_members_that_are_not_known_yet_are_a_change(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    assert stack.state is not None
    news = {**cloud.props({"www": A}), "members": "04da6b54-80e4-46f7-96ec-b56ff0331ba9"}
    assert stack.provider.diff("id", stack.state, news).changes


def test_machines_without_a_store_get_the_release_before_they_want_it(
    stack: Stack, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(providers, "FOLDER", tmp_path)
    tar = b"a tar"
    name = hashlib.sha256(tar).hexdigest()
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases" / f"{name}.tar.bz2").write_bytes(bz2.compress(tar))
    stack.up({"www": name})
    machines = ["i-0000", "i-0001", "i-0002", "i-0003"]
    # At the end it is on their disks.
    assert cloud.delivered == [(machines, [name]), (machines, [])]


def test_a_damaged_release_is_not_delivered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(providers, "FOLDER", tmp_path)
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases" / f"{A}.tar.bz2").write_bytes(bz2.compress(b"another"))
    assert providers.carried(A) is None and providers.carried(B) is None


def test_a_machine_that_never_reports_is_named_with_its_last_step(stack: Stack, cloud: Cloud) -> None:
    cloud.fleet.machines[3].on = False
    with pytest.raises(
        RollOutError, match=r"web-3 \(i-0003\) failed at waiting of www 616161: not done after 18\d s: boot: apt runs"
    ):
        stack.up({"www": A})


def test_no_live_setting_of_others_is_touched(cloud: Cloud) -> None:
    fleet = fleet_of(1)
    fleet.machines[0].live["rollcall-patch"] = "x"
    cloud.fleet = fleet
    Stack(cloud).up({"www": A})
    assert sorted(fleet.machines[0].live) == [f"{GATE}www", "rollcall-patch", f"{WANTED}www"]


def test_a_refresh_without_a_program_says_nothing_of_a_refused_release(
    stack: Stack, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.up({"www": A})
    stack.up({"www": B})
    gate(cloud, State.REFUSED)
    stack.up({"www": B})
    assert "was rolled back" in stack.preview({"www": B})[1][0]
    # `destroy` runs no program, in another process.
    monkeypatch.setattr(providers, "_declared", set())
    assert stack.refresh() == []


def test_an_up_says_once_what_it_rolls_out(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    stack.up({"www": B})
    assert [line for line in cloud.printed if " -> " in line] == [
        "www: release 616161 -> 626262, 4 machines in batches of 1 (fleet web)"
    ]


def test_a_machine_with_another_release_is_corrected_while_a_canary_waits(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    stack.up({"www": B}, canary=1)
    give(cloud, 2, C)
    changes, _ = stack.preview({"www": B}, canary=1)
    assert changes and stack.state is not None
    assert stack.state["differing"] == [
        "web-2 (i-0002) should have www 626262 or www 616161, and its settings name www 636363"
    ]
    assert stack.up({"www": B}, canary=1)
    assert [set(each.runs.values()) for each in cloud.fleet.machines] == [{B}, {A}, {A}, {A}]
    assert not stack.preview({"www": B}, canary=1)[0]


def test_a_machine_on_hold_that_failed_is_a_difference_until_it_has_the_release(stack: Stack, cloud: Cloud) -> None:
    stack.up({"www": A})
    on_hold = cloud.fleet.machines[2]
    on_hold.live[HOLD], on_hold.broken = "2026-11-30T19:00:00Z disk", {B}
    assert stack.up({"www": B})
    cloud.fleet.tick(200)
    assert [set(each.runs.values()) for each in cloud.fleet.machines] == [{B}, {B}, {A}, {B}]
    assert stack.preview({"www": B})[0] and stack.state is not None
    assert "web-2 (i-0002) failed at checking of www 626262" in stack.state["differing"][0]
    on_hold.broken = set()
    assert stack.up({"www": B})
    cloud.fleet.tick(200)
    assert cloud.fleet.running() == {B}
    assert not stack.preview({"www": B})[0]
