"""`rollcall rollback`, `promote` and `abort` change the gate on the machines, and wait until machines are back."""

from __future__ import annotations

from typing import Any

import pytest

from components.commands import abort, fleet_releases, promote, roll_outs, rollback
from components.commands.roll_outs import RollOutCommandError
from components.rollout import performing
from components.rollout.performing import RollOutError
from components.rollout.records import Record, State, newest
from tests.release_stack import Cloud, Stack, cloud_of
from tests.simulated_fleet import digest

A, B, C = digest("a"), digest("b"), digest("c")


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    return cloud_of(4, monkeypatch)


@pytest.fixture
def stack(cloud: Cloud) -> Stack:
    return Stack(cloud)


@pytest.fixture
def deployed(cloud: Cloud, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A stack whose state the commands read. Its machines keep what they have run."""
    monkeypatch.setattr(roll_outs, "registries_of", lambda *_: cloud)
    monkeypatch.setattr(roll_outs, "Engine", lambda *_: cloud)

    def exported(_: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
        return [{"type": fleet_releases.RELEASE, "outputs": stack.state}], {}

    monkeypatch.setattr(roll_outs, "exported", exported)
    stack.up({"www": A})
    stack.up({"www": B})
    return stack


def record(cloud: Cloud) -> Record:
    found = newest(each.live for each in cloud.fleet.machines)
    assert found is not None
    return found


def test_the_fleet_goes_back_and_up_changes_nothing(
    deployed: Stack, cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rollback.main(["web"]) == 0
    assert cloud.fleet.running() == {A} and cloud.fleet.wanted() == {A}
    assert "all machines have www 616161" in capsys.readouterr().out
    changes, lines = deployed.preview({"www": B})
    assert not changes and "was rolled back. Run `rollcall promote web 626262626262`" in lines[0]


@pytest.mark.parametrize("lag_s", [1, 3, 30])
def test_a_list_that_is_behind_starts_no_second_roll_out(deployed: Stack, cloud: Cloud, lag_s: int) -> None:
    """CloudAPI changes metadata by a job, so a list of machines may have the settings of before."""
    cloud.lag_s = lag_s
    assert rollback.main(["web"]) == 0
    cloud.fleet.tick(lag_s)
    assert record(cloud).state is State.REFUSED and cloud.fleet.running() == {A}
    assert not deployed.preview({"www": B})[0]
    cloud.written.clear()
    assert not deployed.up({"www": B}) and not cloud.written


def test_a_canary_is_undone_and_not_repeated(deployed: Stack, cloud: Cloud) -> None:
    deployed.up({"www": C}, canary=1)
    assert abort.main(["web"]) == 0
    assert cloud.fleet.running() == {B} and cloud.fleet.wanted() == {B}
    cloud.written.clear()
    assert not deployed.up({"www": C}, canary=1)
    assert not cloud.written


def test_a_canary_goes_on(deployed: Stack, cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    deployed.up({"www": C}, canary=1)
    assert promote.main(["web", C[:7]]) == 0
    assert "web: www 636363 is promoted. Run `pulumi up`" in capsys.readouterr().out
    assert record(cloud).state is State.PROMOTED
    assert cloud.fleet.running() == {B, C}
    deployed.up({"www": C}, canary=1)
    assert cloud.fleet.running() == {C}


class TestRollback:
    def test_no_more_machines_are_out_than_a_batch_has(self, deployed: Stack, cloud: Cloud) -> None:
        cloud.fleet.most_out = 0
        rollback.main(["web"])
        assert cloud.fleet.most_out == 1

    def test_an_older_release_is_found_by_its_first_digits(self, deployed: Stack, cloud: Cloud) -> None:
        deployed.up({"www": C})
        assert rollback.main(["web", A[:7]]) == 0
        assert cloud.fleet.running() == {A}
        assert not deployed.preview({"www": C})[0]

    def test_a_second_step_back_still_refuses_the_program_s_release(self, deployed: Stack, cloud: Cloud) -> None:
        deployed.up({"www": C})
        rollback.main(["web"])
        assert cloud.fleet.running() == {B}
        assert rollback.main(["web", A[:12]]) == 0
        assert cloud.fleet.running() == {A}
        assert not deployed.preview({"www": C})[0]

    @pytest.mark.parametrize("words", [["abc"], ["63636363"], [B[:7]], ["ABCDEF0"]])
    def test_what_no_machine_keeps_is_refused(
        self, deployed: Stack, cloud: Cloud, words: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        cloud.written.clear()
        assert rollback.main(["web", *words]) == 2
        assert "rollcall rollback: " in capsys.readouterr().err
        assert not cloud.written

    def test_a_fleet_with_one_release_has_none_to_go_back_to(
        self, cloud: Cloud, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stack.up({"www": A})
        seen = performing.observed(cloud, cloud.props({"www": A}), cloud.instances("prod"))  # type: ignore[arg-type]
        with pytest.raises(RollOutCommandError, match="has no former release"):
            roll_outs.rolled_back("web", record(cloud), seen)

    def test_a_machine_that_does_not_come_back_is_named(
        self, deployed: Stack, cloud: Cloud, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cloud.fleet.machines[2].broken = {A}
        assert rollback.main(["web"]) == 1
        assert "web-2 (i-0002): failed" in capsys.readouterr().err

    def test_an_unknown_fleet_is_refused(self, deployed: Stack, capsys: pytest.CaptureFixture[str]) -> None:
        assert rollback.main(["shop"]) == 2
        assert (
            "shop: is no fleet with `release: in-place` that is deployed. Name one of web." in capsys.readouterr().err
        )


class TestPromote:
    def test_twice_is_as_once(self, deployed: Stack, cloud: Cloud) -> None:
        deployed.up({"www": C}, canary=1)
        promote.main(["web", C])
        cloud.written.clear()
        assert promote.main(["web", C]) == 0
        assert not cloud.written

    def test_a_release_after_a_rollback_is_rolled_out_again(self, deployed: Stack, cloud: Cloud) -> None:
        rollback.main(["web"])
        assert promote.main(["web", B[:12]]) == 0
        deployed.up({"www": B})
        assert cloud.fleet.running() == {B}

    @pytest.mark.parametrize(
        ("text", "problem"), [(A, "is not the release that waits"), ("636363", "at least its first 7")]
    )
    def test_another_release_is_not_promoted(
        self, deployed: Stack, cloud: Cloud, text: str, problem: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        deployed.up({"www": C}, canary=1)
        assert promote.main(["web", text]) == 2
        assert problem in capsys.readouterr().err
        assert record(cloud).state is State.ROLLING

    def test_a_complete_roll_out_needs_none(
        self, deployed: Stack, cloud: Cloud, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cloud.written.clear()
        assert promote.main(["web", B[:7]]) == 0
        assert "is on all machines already" in capsys.readouterr().out
        assert not cloud.written


class TestAbort:
    def test_without_a_roll_out_there_is_nothing_to_undo(
        self, deployed: Stack, cloud: Cloud, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cloud.written.clear()
        assert abort.main(["web"]) == 2
        assert "Run `rollcall rollback web`" in capsys.readouterr().err
        assert not cloud.written


class TestAfterAFailedRelease:
    """docs/releases.md, "When a release fails": A and B are good, C failed, and all machines went back to B."""

    @pytest.fixture(autouse=True)
    def failed(self, deployed: Stack, cloud: Cloud) -> None:
        cloud.fleet.machines[1].broken = {C}
        with pytest.raises(RollOutError):
            deployed.up({"www": C}, canary=1)
            deployed.up({"www": C})
        assert cloud.fleet.running() == {B} and record(cloud).state is State.FAILED
        cloud.fleet.machines[1].broken = set()

    def test_up_tries_it_again_with_its_canary(self, deployed: Stack, cloud: Cloud) -> None:
        assert deployed.up({"www": C}, canary=1)
        assert [set(each.runs.values()) for each in cloud.fleet.machines] == [{C}, {B}, {B}, {B}]

    def test_up_with_the_former_release_changes_nothing(self, deployed: Stack, cloud: Cloud) -> None:
        cloud.written.clear()
        assert not deployed.up({"www": B})
        assert not cloud.written

    def test_a_rollback_only_refuses_the_release(
        self, deployed: Stack, cloud: Cloud, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cloud.fleet.most_out = 0
        assert rollback.main(["web"]) == 0
        assert cloud.fleet.running() == {B} and cloud.fleet.most_out == 0
        assert "www: release 636363636363 was rolled back" in capsys.readouterr().out
        assert not deployed.up({"www": C})
        assert rollback.main(["web"]) == 0
        assert cloud.fleet.running() == {B}, "a second rollback is as one"

    def test_a_rollback_to_a_digest_goes_further_back(self, deployed: Stack, cloud: Cloud) -> None:
        assert rollback.main(["web", A[:7]]) == 0
        assert cloud.fleet.running() == {A}
        assert not deployed.up({"www": C})
        # The release between them is another one, and rolls out as usual.
        assert deployed.up({"www": B})
        assert cloud.fleet.running() == {B}

    def test_it_is_not_promoted_before_it_is_refused(
        self, deployed: Stack, cloud: Cloud, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert promote.main(["web", C[:7]]) == 2
        assert "web: www 636363 failed. Fix the cause, and run `pulumi up`." in capsys.readouterr().err
        assert abort.main(["web"]) == 0
        assert promote.main(["web", C[:7]]) == 0
        assert deployed.up({"www": C}, canary=1)
        assert cloud.fleet.running() == {C}, "a promoted release has no canary"
