"""components.patching: batches, holds, reboots and failures, on a clock of the test's own; killed at every call and run again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from components.patching.patch import Run
from components.patching.transitions import (
    LIMITS_S,
    Act,
    Found,
    MachinePatch,
    Observed,
    Patch,
    Reboot,
    Step,
    advance,
    parse,
    planned,
)
from rollcall.settings import SettingsError

DELAY_S, LEAVES_S, BOOTS_S, JOINS_S, UPGRADES_S = 6.0, 12.0, 25.0, 8.0, 40.0


class KilledError(Exception):
    """The command was killed."""


@dataclass
class Guest:
    """A machine: its packages, its boots, its hold and the setting of the patch, which outlive the command."""

    packages: int = 3
    needs_reboot: bool = True
    on_hold_at: float | None = None
    setting: str = ""
    boots: int = 1
    up_at: float = -1000.0
    released: float = -1000.0
    upgrades: int = 0
    fails: str = ""
    ill: bool = False


@dataclass
class World:
    """The machines of a fleet with a clock that only sleeps and commands move. `served` has how few were in DNS at each moment."""

    guests: dict[str, Guest]
    now: float = 0.0
    calls: int = 0
    dies_at: int = -1
    log: list[tuple[str, str]] = field(default_factory=list)
    fewest: int = 99
    unsafe: str = ""
    lines: list[str] = field(default_factory=list)
    # Whether a machine was ever upgraded or rebooted while a caller could still know it from a cache.
    hurt: list[str] = field(default_factory=list)

    def _call(self, what: str, name: str) -> None:
        self.calls += 1
        if self.calls == self.dies_at:
            raise KilledError
        self.log.append((what, name))
        self.fewest = min(self.fewest, sum(self._in_dns(each) for each in self.guests.values()))

    def _in_dns(self, guest: Guest) -> bool:
        if guest.on_hold_at is not None:
            return self.now < guest.on_hold_at + LEAVES_S
        return self.now >= max(guest.released, guest.up_at) + JOINS_S and not guest.ill

    def in_dns(self, names: Sequence[str]) -> Mapping[str, tuple[bool, bool]]:
        self._call("in_dns", ",".join(names))
        return {each: (self._in_dns(self.guests[each]), self._in_dns(self.guests[each])) for each in names}

    def command(self, name: str, act: Act) -> Found:
        self._call(act.name, name)
        guest = self.guests[name]
        if self.now < guest.up_at:
            return Found(failed="it cannot be reached")
        if act is Act.UPGRADE:
            self._disturb(guest, name)
            self.now += UPGRADES_S
            if guest.fails:
                return Found(failed=guest.fails)
            guest.packages, guest.upgrades = 0, guest.upgrades + 1
        if act is Act.REBOOT:
            self._disturb(guest, name)
            guest.boots, guest.up_at, guest.needs_reboot = guest.boots + 1, self.now + BOOTS_S, False
        return Found(packages=guest.packages, reboot=guest.needs_reboot, boot=f"boot-{guest.boots}")

    def _disturb(self, guest: Guest, name: str) -> None:
        if guest.on_hold_at is None or self.now < guest.on_hold_at + LEAVES_S + DELAY_S:
            self.hurt.append(name)

    def state(self, name: str) -> tuple[str, str | None]:
        self._call("state", name)
        guest = self.guests[name]
        if self.now < guest.up_at:
            return "", "it cannot be reached"
        return f"boot-{guest.boots}", "the check fails" if guest.ill else None

    def hold(self, name: str) -> str:
        self._call("hold", name)
        if not self.unsafe and self.guests[name].on_hold_at is None:
            self.guests[name].on_hold_at = self.now
        return self.unsafe

    def release(self, name: str) -> None:
        self._call("release", name)
        if self.guests[name].on_hold_at is not None:
            self.guests[name].on_hold_at, self.guests[name].released = None, self.now

    def save(self, settings: Mapping[str, str | None]) -> None:
        for name, text in settings.items():
            self._call("save", name)
            self.guests[name].setting = text or ""

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self, batch: int = 1, reboot: Reboot = Reboot.NEEDED) -> Patch:
        """Run the command once, as `rollcall patch` does. Raises KilledError."""
        settings = {name: each.setting or None for name, each in self.guests.items()}
        on_hold = [name for name, each in self.guests.items() if each.on_hold_at is not None]
        machines, _ = planned(settings, on_hold, reboot, self.now)
        patch = Patch(machines=machines, batch=batch, drain_delay=DELAY_S)
        run = Run(patch, self, say=self.lines.append, clock=lambda: self.now, sleep=self.sleep)
        return run.until_finished()


def world(count: int = 3, **guest: object) -> World:
    return World({f"web-{number}": Guest(**guest) for number in range(count)})  # type: ignore[arg-type]


def done(patch: Patch) -> bool:
    return all(each.step is Step.DONE for each in patch.machines)


def steps(world: World, name: str) -> list[str]:
    return [line.partition(": ")[2] for line in world.lines if line.startswith(f"{name}: ")]


ALL_STEPS = ["inspecting", "leaving", "draining", "upgrading", "rebooting", "checking", "joining", "done"]


def test_each_machine_leaves_is_upgraded_reboots_and_joins_before_the_next_one_begins() -> None:
    fleet = world()
    assert done(fleet.run())
    assert all(each.boots == 2 and each.upgrades == 1 and each.on_hold_at is None for each in fleet.guests.values())
    assert [steps(fleet, name) for name in fleet.guests] == [ALL_STEPS] * 3
    assert fleet.lines.index("web-0: done") < fleet.lines.index("web-1: inspecting")
    assert fleet.fewest == 2 and fleet.hurt == [] and all(each.setting == "" for each in fleet.guests.values())


def test_a_batch_of_two_leaves_the_others_in_dns() -> None:
    fleet = world(5)
    assert done(fleet.run(batch=2)) and fleet.fewest == 3 and fleet.hurt == []


@pytest.mark.parametrize(
    ("reboot", "needed", "boots"),
    [
        (Reboot.NEEDED, True, 2),
        (Reboot.NEEDED, False, 1),
        (Reboot.ALWAYS, False, 2),
        (Reboot.NEVER, True, 1),
    ],
)
def test_a_machine_reboots_as_asked(reboot: Reboot, needed: bool, boots: int) -> None:
    fleet = world(1, needs_reboot=needed)
    assert done(fleet.run(reboot=reboot)) and fleet.guests["web-0"].boots == boots


def test_a_machine_with_nothing_to_do_never_leaves_dns() -> None:
    fleet = world(2, packages=0, needs_reboot=False)
    assert done(fleet.run()) and fleet.fewest == 2
    assert {what for what, _ in fleet.log} == {"save", "INSPECT"}


def test_a_machine_that_an_operator_holds_is_patched_and_stays_on_hold() -> None:
    fleet = world(2)
    fleet.guests["web-0"].on_hold_at = -100.0
    assert done(fleet.run())
    assert fleet.guests["web-0"].on_hold_at == -100.0 and fleet.guests["web-0"].boots == 2
    assert fleet.guests["web-1"].on_hold_at is None and ("release", "web-0") not in fleet.log


def test_the_first_failure_stops_the_patch_and_its_machine_stays_on_hold() -> None:
    fleet = world()
    fleet.guests["web-1"].fails = "exit code 100; E: broken"
    after = fleet.run()
    (failed,) = after.failed
    assert failed.name == "web-1" and failed.reason == "the upgrade failed: exit code 100; E: broken"
    assert fleet.guests["web-1"].on_hold_at is not None and fleet.guests["web-0"].on_hold_at is None
    assert steps(fleet, "web-2") == [] and fleet.guests["web-2"].setting.startswith("step=todo")
    # The cause is fixed, and the command runs again: it begins with the machine that failed.
    fleet.guests["web-1"].fails, fleet.lines = "", []
    assert done(fleet.run()) and fleet.lines[0] == "web-1: draining"
    assert fleet.guests["web-0"].boots == 2 and fleet.guests["web-0"].upgrades == 1
    assert fleet.guests["web-2"].boots == 2 and fleet.hurt == []


def test_the_rest_of_a_batch_ends_before_the_patch_stops() -> None:
    fleet = world(4)
    fleet.guests["web-0"].fails = "exit code 100"
    after = fleet.run(batch=2)
    assert [each.step for each in after.machines] == [Step.FAILED, Step.DONE, Step.TODO, Step.TODO]


def test_a_machine_that_does_not_become_healthy_stays_on_hold() -> None:
    fleet = world(2, ill=True)
    (failed,) = fleet.run().failed
    assert (
        failed.reason == "checking took more than 300 s: the check fails"
        and fleet.guests["web-0"].on_hold_at is not None
    )


def test_a_machine_that_does_not_come_back_is_asked_again_once_it_is_reached_and_then_given_up() -> None:
    fleet = world(1)
    lost = fleet.command

    def command(name: str, act: Act) -> Found:
        if act is Act.REBOOT:
            fleet.log.append(("REBOOT", name))
            return Found(failed="no connection")
        return lost(name, act)

    fleet.command = command  # type: ignore[method-assign]
    (failed,) = fleet.run().failed
    assert failed.reason == "rebooting took more than 600 s: it does not come back"
    assert 9 <= fleet.log.count(("REBOOT", "web-0")) <= 11


def test_a_machine_that_never_answers_again_is_on_hold_again() -> None:
    machine = MachinePatch(name="web-0", step=Step.JOINING, since=0.0)
    patch = Patch(machines=(machine,), batch=1, drain_delay=DELAY_S)
    late = LIMITS_S[Step.JOINING] + 1
    after, (moved,) = advance(patch, {"web-0": Observed(answers=False)}, late)
    assert after.machines[0].step is Step.FAILED and moved[1] == (Act.HOLD,)
    same, _ = advance(patch, {"web-0": Observed(answers=True)}, late)
    assert same.machines[0].step is Step.DONE


def test_a_hold_that_is_not_safe_changes_nothing() -> None:
    fleet = world(1)
    fleet.unsafe = "www A would have 0 machines"
    (failed,) = fleet.run().failed
    assert failed.reason == "www A would have 0 machines" and not failed.is_touched
    assert fleet.guests["web-0"].on_hold_at is None and fleet.guests["web-0"].setting.startswith("step=todo")


def test_a_machine_that_cannot_be_inspected_is_not_put_on_hold() -> None:
    fleet = world(2)
    fleet.guests["web-0"].up_at = 10_000.0
    (failed,) = fleet.run().failed
    assert failed.reason == "cannot be inspected: it cannot be reached" and not failed.is_touched
    assert all(each.on_hold_at is None for each in fleet.guests.values())


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("reboot", [Reboot.NEEDED, Reboot.ALWAYS])
def test_killed_at_any_call_the_next_run_ends_the_patch(batch: int, reboot: Reboot) -> None:
    """The command dies at each of its calls in turn. Then it runs again, and dies once more, and runs to the end."""
    whole = world()
    whole.run(batch, reboot)
    for first in range(1, whole.calls + 1):
        fleet = world()
        for at in (first, first // 2 + 1):
            fleet.calls, fleet.dies_at = 0, at
            try:
                fleet.run(batch, reboot)
            except KilledError:
                continue
        fleet.dies_at = -1
        if any(each.setting for each in fleet.guests.values()) or not all(
            each.upgrades for each in fleet.guests.values()
        ):
            assert done(fleet.run(batch, reboot)), (first, fleet.lines)
        for name, each in fleet.guests.items():
            assert (each.on_hold_at, each.setting, each.packages) == (None, "", 0), (first, name, each)
            assert each.boots >= 2 and each.upgrades >= 1, (first, name, each)
        assert fleet.hurt == [] and fleet.fewest >= 3 - batch, first


def test_the_setting_is_read_back() -> None:
    boot = "0f5c8a1e-6a3e-4b0e-9c3b-2f1d8a7b6c5d"
    machine = MachinePatch(name="web-0", step=Step.REBOOTING, reboot=Reboot.ALWAYS, stays=True, boot=boot, since=5.0)
    assert parse("web-0", machine.words(), 5.0) == machine and len(machine.words()) < 256
    assert parse("web-0", replace(machine, step=Step.UPGRADING).words(), 5.0).step is Step.LEAVING


@pytest.mark.parametrize("text", ["", "step=dancing reboot=needed", "reboot=needed", "step=todo reboot=soon"])
def test_a_setting_that_was_changed_by_hand_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="rollcall-patch of web-0"):
        parse("web-0", text, 0.0)


Advance = Callable[[Observed, float], tuple[Step, tuple[Act, ...]]]


@pytest.fixture
def after() -> Callable[[MachinePatch], Advance]:
    def of(machine: MachinePatch) -> Advance:
        def go(observed: Observed, now: float) -> tuple[Step, tuple[Act, ...]]:
            patch = Patch(machines=(machine,), batch=1, drain_delay=DELAY_S)
            made, moved = advance(patch, {machine.name: observed}, now)
            return made.machines[0].step, moved[0][1] if moved else ()

        return go

    return of


# step, what is observed, seconds since the step began, next step, acts
ROWS = [
    (Step.LEAVING, Observed(in_dns=True), 30.0, Step.LEAVING, ()),
    (Step.LEAVING, Observed(in_dns=False), 30.0, Step.DRAINING, ()),
    (Step.LEAVING, Observed(in_dns=True), 91.0, Step.FAILED, ()),
    (Step.DRAINING, Observed(in_dns=False), DELAY_S - 1, Step.DRAINING, ()),
    (Step.DRAINING, Observed(in_dns=False), DELAY_S, Step.UPGRADING, (Act.UPGRADE,)),
    (Step.DRAINING, Observed(in_dns=True), DELAY_S, Step.LEAVING, ()),
    (Step.UPGRADING, Observed(result=Found(boot="a")), 1.0, Step.CHECKING, ()),
    (Step.UPGRADING, Observed(result=Found(boot="a", reboot=True)), 1.0, Step.REBOOTING, (Act.REBOOT,)),
    (Step.UPGRADING, Observed(result=Found(failed="no")), 1.0, Step.FAILED, ()),
    (Step.REBOOTING, Observed(boot="b"), 9.0, Step.CHECKING, ()),
    (Step.REBOOTING, Observed(boot="a"), 9.0, Step.REBOOTING, ()),
    (Step.REBOOTING, Observed(boot=""), 90.0, Step.REBOOTING, ()),
    (Step.REBOOTING, Observed(boot="a"), 90.0, Step.REBOOTING, (Act.REBOOT,)),
    (Step.CHECKING, Observed(unhealthy=None), 3.0, Step.CHECKING, ()),
    (Step.CHECKING, Observed(unhealthy=None), 6.0, Step.JOINING, (Act.RELEASE,)),
    (Step.CHECKING, Observed(unhealthy="the check fails"), 6.0, Step.CHECKING, ()),
    (Step.JOINING, Observed(answers=False), 6.0, Step.JOINING, ()),
    (Step.JOINING, Observed(answers=True), 6.0, Step.DONE, ()),
]


@pytest.mark.parametrize(("step", "observed", "seconds", "then", "acts"), ROWS)
def test_the_next_step_is(
    after: Callable[[MachinePatch], Advance],
    step: Step,
    observed: Observed,
    seconds: float,
    then: Step,
    acts: tuple[Act, ...],
) -> None:
    assert after(MachinePatch(name="web-0", step=step, boot="a"))(observed, seconds) == (then, acts)
