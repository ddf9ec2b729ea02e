"""Decide what `rollcall patch` does next with each machine: pure functions. No I/O and no clock.

Each machine goes through the steps of `Step`. Its step is a setting of the machine (rollcall.in_place.PATCH), so a command
that was killed continues. `patch.py` observes and acts. docs/operations.md has a drawing of the steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from rollcall.settings import LONGEST_VALUE, SettingsError


class Step(Enum):
    """How far a machine is. The values are in the machine's setting."""

    TODO = "todo"
    INSPECTING = "inspecting"
    LEAVING = "leaving"
    DRAINING = "draining"
    UPGRADING = "upgrading"
    REBOOTING = "rebooting"
    CHECKING = "checking"
    JOINING = "joining"
    FAILED = "failed"
    DONE = "done"


class Reboot(Enum):
    """When a machine is rebooted after its upgrade."""

    NEEDED = "needed"
    ALWAYS = "always"
    NEVER = "never"


# A step that takes longer has failed, seconds. An upgrade has its own limit, where it runs.
LIMITS_S: Mapping[Step, float] = {Step.LEAVING: 90.0, Step.REBOOTING: 600.0, Step.CHECKING: 300.0, Step.JOINING: 300.0}
# The agent checks a workload every two seconds. Before this, its status may be from before the upgrade.
_CHECKED_AFTER_S = 6.0
# A machine that still has the same boot after this was perhaps never asked to reboot.
_REBOOT_AGAIN_S = 60.0
_OPEN = (Step.TODO, Step.FAILED, Step.DONE)
# A command that was killed in one of these steps begins again with this one.
_RESUMED = {
    Step.DRAINING: Step.LEAVING,
    Step.UPGRADING: Step.LEAVING,
    Step.FAILED: Step.LEAVING,
}


@dataclass(frozen=True, kw_only=True)
class MachinePatch:
    """A machine of a patch. `since` is when its step began, seconds of a monotonic clock.

    `boot` is the id of the boot that a reboot ends, and `ordered` when its last reboot was ordered. With `stays` an
    operator had put the machine on hold before; then it stays on hold. `reason` says why it failed, and `failed_in` in
    which step.
    """

    name: str
    step: Step = Step.TODO
    reboot: Reboot = Reboot.NEEDED
    since: float = 0.0
    boot: str = ""
    ordered: float = 0.0
    stays: bool = False
    reason: str = ""
    failed_in: Step | None = None

    @property
    def is_touched(self) -> bool:
        """Whether the machine was put on hold, or would have been."""
        return (self.failed_in or self.step) not in (Step.TODO, Step.INSPECTING)

    def words(self) -> str:
        """Return the value of the setting."""
        step = self.step if self.is_touched else Step.TODO
        text = f"step={step.value} reboot={self.reboot.value} stays={'yes' if self.stays else 'no'}"
        text += f" boot={self.boot}" if self.boot else ""
        assert len(text) <= LONGEST_VALUE, text
        return text


def parse(name: str, text: str, now: float) -> MachinePatch:
    """Return the machine as the setting has it, at the step with which a new command begins. Raises SettingsError."""
    words = dict(word.split("=", 1) for word in text.split() if "=" in word)
    try:
        step = Step(words["step"])
        return MachinePatch(
            name=name,
            step=_RESUMED.get(step, step),
            reboot=Reboot(words["reboot"]),
            since=now,
            boot=words.get("boot", ""),
            stays=words.get("stays") == "yes",
        )
    except (KeyError, ValueError) as wrong:
        raise SettingsError(f"rollcall-patch of {name}: {text!r} is not step=… reboot=… stays=… boot=…") from wrong


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a command on a machine found: how many packages can be upgraded, whether a reboot is needed, and the id of the boot.

    `failed` is why the command failed; empty: it did not.
    """

    packages: int = 0
    reboot: bool = False
    boot: str = ""
    failed: str = ""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What is known of a machine at one moment.

    `in_dns`: a record is there, or a name server answers with one. `answers`: it is in all of its record sets. `result` is
    that of the last command on it; None: there is none in this step. `boot` is the id of its boot; empty: it was not
    reached. `unhealthy` says why it is not healthy; None: it is.
    """

    in_dns: bool = True
    answers: bool = False
    result: Found | None = None
    boot: str = ""
    unhealthy: str | None = "not checked"


class Act(Enum):
    """What is done with a machine."""

    INSPECT = "find out what there is to upgrade"
    HOLD = "put it on hold"
    UPGRADE = "upgrade it"
    REBOOT = "reboot it"
    RELEASE = "release its hold"


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A patch of a fleet. `batch` is how many machines are worked on at once, `drain_delay` how long each serves after it left (s)."""

    machines: tuple[MachinePatch, ...]
    batch: int
    drain_delay: float

    @property
    def active(self) -> tuple[MachinePatch, ...]:
        """The machines that are worked on."""
        return tuple(each for each in self.machines if each.step not in _OPEN)

    @property
    def failed(self) -> tuple[MachinePatch, ...]:
        return tuple(each for each in self.machines if each.step is Step.FAILED)

    @property
    def finished(self) -> bool:
        """Whether nothing more is done: all machines are done, or one has failed and the others of its batch are done."""
        return not self.active and (bool(self.failed) or all(each.step is Step.DONE for each in self.machines))


def advance(
    patch: Patch, observed: Mapping[str, Observed], now: float
) -> tuple[Patch, tuple[tuple[MachinePatch, tuple[Act, ...]], ...]]:
    """Return the patch after these observations, and what is done with each machine whose step changes, or which must act again.

    `observed` has the active machines, by name. A new batch begins when no machine is active and none has failed.
    """
    moved: dict[str, tuple[MachinePatch, tuple[Act, ...]]] = {}
    for each in patch.active:
        after, acts = _next(each, observed.get(each.name, Observed()), patch.drain_delay, now)
        if after != each or acts:
            moved[each.name] = (after, acts)
    if not patch.active and not patch.failed:
        for each in [one for one in patch.machines if one.step is Step.TODO][: patch.batch]:
            moved[each.name] = (_at(each, Step.INSPECTING, now), (Act.INSPECT,))
    machines = tuple(moved[each.name][0] if each.name in moved else each for each in patch.machines)
    return replace(patch, machines=machines), tuple(moved.values())


def planned(
    settings: Mapping[str, str | None], on_hold: Collection[str], reboot: Reboot, now: float
) -> tuple[tuple[MachinePatch, ...], bool]:
    """Return the machines of a patch, and whether it continues one that was stopped or killed.

    `settings` has the setting of each machine of the fleet, or None; `on_hold` are those that are on hold. The settings of
    a patch are removed when all machines are done, so a machine without one was not begun, unless all others are done.
    Raises SettingsError.
    """
    begun = [parse(name, text, now) for name, text in settings.items() if text is not None]
    if begun and all(each.step is Step.DONE for each in begun):
        return tuple(begun), True
    mode = begun[0].reboot if begun else reboot
    fresh = [
        MachinePatch(name=name, reboot=mode, since=now, stays=name in on_hold)
        for name, text in settings.items()
        if text is None
    ]
    return tuple(sorted([*begun, *fresh], key=lambda each: each.step is Step.TODO)), bool(begun)


def fail(machine: MachinePatch, reason: str, now: float) -> MachinePatch:
    """Return a machine that has failed."""
    return replace(_at(machine, Step.FAILED, now), reason=reason, failed_in=machine.step)


def resume(machine: MachinePatch) -> tuple[Act, ...]:
    """Return what a new command does first with a machine that a killed one had begun. It may have been done already."""
    if machine.step is Step.JOINING:
        return (Act.RELEASE,)
    return () if machine.stays else (Act.HOLD,)


_Next = tuple[MachinePatch, tuple[Act, ...]]


def _next(machine: MachinePatch, observed: Observed, drain_delay: float, now: float) -> _Next:
    after, acts = _STEPS[machine.step](machine, observed, drain_delay, now)
    limit = LIMITS_S.get(machine.step)
    if after.step is machine.step and limit is not None and now - machine.since > limit:
        why = f"{machine.step.value} took more than {limit:.0f} s{_detail(machine, observed)}"
        # Its hold was released in the last step, and a machine that has failed is on hold.
        return fail(machine, why, now), (Act.HOLD,) if machine.step is Step.JOINING and not machine.stays else ()
    return after, acts


def _detail(machine: MachinePatch, observed: Observed) -> str:
    if machine.step is Step.CHECKING:
        return f": {observed.unhealthy}"
    return ": it does not come back" if machine.step is Step.REBOOTING else ""


def _inspecting(machine: MachinePatch, observed: Observed, _: float, now: float) -> _Next:
    found = observed.result
    if found is None:
        return machine, (Act.INSPECT,)
    if found.failed:
        return fail(machine, f"cannot be inspected: {found.failed}", now), ()
    if not found.packages and not _reboots(machine, found):
        return _at(machine, Step.DONE, now), ()
    return _at(machine, Step.LEAVING, now), (() if machine.stays else (Act.HOLD,))


def _leaving(machine: MachinePatch, observed: Observed, _: float, now: float) -> _Next:
    return (machine, ()) if observed.in_dns else (_at(machine, Step.DRAINING, now), ())


def _draining(machine: MachinePatch, observed: Observed, drain_delay: float, now: float) -> _Next:
    if observed.in_dns:
        return _at(machine, Step.LEAVING, now), ()
    if now - machine.since < drain_delay:
        return machine, ()
    return _at(machine, Step.UPGRADING, now), (Act.UPGRADE,)


def _upgrading(machine: MachinePatch, observed: Observed, _: float, now: float) -> _Next:
    found = observed.result
    if found is None:
        return machine, (Act.UPGRADE,)
    if found.failed:
        return fail(machine, f"the upgrade failed: {found.failed}", now), ()
    if _reboots(machine, found):
        return replace(_at(machine, Step.REBOOTING, now), boot=found.boot, ordered=now), (Act.REBOOT,)
    return _at(machine, Step.CHECKING, now), ()


def _rebooting(machine: MachinePatch, observed: Observed, _: float, now: float) -> _Next:
    if observed.boot and observed.boot != machine.boot:
        return _at(machine, Step.CHECKING, now), ()
    # A reboot twice does no harm before the machine is back, because it is out of DNS.
    if observed.boot and now - machine.ordered >= _REBOOT_AGAIN_S:
        return replace(machine, ordered=now), (Act.REBOOT,)
    return machine, ()


def _checking(machine: MachinePatch, observed: Observed, _: float, now: float) -> _Next:
    if observed.unhealthy is not None or now - machine.since < _CHECKED_AFTER_S:
        return machine, ()
    if machine.stays:
        return _at(machine, Step.DONE, now), ()
    return _at(machine, Step.JOINING, now), (Act.RELEASE,)


def _joining(machine: MachinePatch, observed: Observed, _: float, now: float) -> _Next:
    return (_at(machine, Step.DONE, now), ()) if observed.answers else (machine, ())


_STEPS = {
    Step.INSPECTING: _inspecting,
    Step.LEAVING: _leaving,
    Step.DRAINING: _draining,
    Step.UPGRADING: _upgrading,
    Step.REBOOTING: _rebooting,
    Step.CHECKING: _checking,
    Step.JOINING: _joining,
}


def _reboots(machine: MachinePatch, found: Found) -> bool:
    return machine.reboot is Reboot.ALWAYS or (machine.reboot is Reboot.NEEDED and found.reboot)


def _at(machine: MachinePatch, step: Step, now: float) -> MachinePatch:
    return replace(machine, step=step, since=now)
