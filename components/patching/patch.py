"""Carry out a patch: ask about its machines, act, and keep each step in the machine's setting. `transitions.py` decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol, TypeVar

from components.patching.transitions import (
    Act,
    Found,
    MachinePatch,
    Observed,
    Patch,
    Step,
    advance,
    fail,
    resume,
)

T = TypeVar("T")
R = TypeVar("R")
POLL_S = 2.0


class Neighbours(Protocol):
    """What a patch asks and changes. Machines are named as in the patch."""

    def in_dns(self, names: Sequence[str]) -> Mapping[str, tuple[bool, bool]]:
        """Return whether each machine is anywhere in DNS, and whether it is in all of its record sets."""

    def command(self, name: str, act: Act) -> Found:
        """Inspect, upgrade or reboot a machine. An error is in the result."""

    def state(self, name: str) -> tuple[str, str | None]:
        """Return the id of a machine's boot (empty: not reached), and why it is not healthy (None: it is)."""

    def hold(self, name: str) -> str:
        """Put a machine on hold unless it is. Return why that is not safe; empty: it is done."""

    def release(self, name: str) -> None:
        """Release the hold of a machine."""

    def save(self, settings: Mapping[str, str | None]) -> None:
        """Write the setting of the patch, by machine. None removes it."""


class Run:
    """A patch that runs. `say` gets lines for people."""

    def __init__(
        self,
        patch: Patch,
        neighbours: Neighbours,
        *,
        say: Callable[[str], None],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self.patch = patch
        self._neighbours, self._say, self._clock, self._sleep = neighbours, say, clock, sleep
        self._results: dict[str, Found] = {}

    def until_finished(self) -> Patch:
        """Run until all machines are done, or one has failed. Return the patch as it is then.

        First the setting of each machine is written, so that a later command knows all machines of this patch.
        """
        self._neighbours.save({each.name: each.words() for each in self.patch.machines})
        self._do([(each, resume(each)) for each in self.patch.active])
        while not self.patch.finished:
            before = {each.name: each.step for each in self.patch.machines}
            self.patch, moved = advance(self.patch, self._observe(), self._clock())
            self._results = {}
            self._keep([each for each, _ in moved if each.step is not before[each.name]])
            self._do(moved)
            if not any(Act.INSPECT in acts or Act.UPGRADE in acts for _, acts in moved):
                self._sleep(POLL_S)
        if not self.patch.failed:
            self._neighbours.save({each.name: None for each in self.patch.machines})
        return self.patch

    def _observe(self) -> dict[str, Observed]:
        """Ask what the steps of the active machines need."""
        active = self.patch.active
        by_dns = [each.name for each in active if each.step in (Step.LEAVING, Step.DRAINING, Step.JOINING)]
        found = self._neighbours.in_dns(by_dns) if by_dns else {}
        known = [each.name for each in active if each.step in (Step.REBOOTING, Step.CHECKING)]
        states = dict(zip(known, _at_once(self._neighbours.state, known), strict=True))
        observed = {}
        for each in active:
            in_dns, answers = found.get(each.name, (True, False))
            boot, unhealthy = states.get(each.name, ("", "not known"))
            observed[each.name] = Observed(
                in_dns=in_dns,
                answers=answers,
                result=self._results.get(each.name),
                boot=boot,
                unhealthy=unhealthy,
            )
        return observed

    def _keep(self, changed: Sequence[MachinePatch]) -> None:
        """Write the new steps into the settings before anything is done, and say them."""
        if changed:
            self._neighbours.save({each.name: each.words() for each in changed})
        for each in changed:
            self._say(f"{each.name}: {each.step.value}{f': {each.reason}' if each.reason else ''}")

    def _do(self, moved: Sequence[tuple[MachinePatch, Sequence[Act]]]) -> None:
        commands = []
        for machine, acts in moved:
            for act in acts:
                if act is Act.HOLD:
                    self._hold(machine)
                elif act is Act.RELEASE:
                    self._neighbours.release(machine.name)
                else:
                    commands.append((machine.name, act))
        results = _at_once(lambda each: self._neighbours.command(*each), commands)
        # A reboot ends the connection: only a new boot shows that it worked.
        self._results.update(
            {name: found for (name, act), found in zip(commands, results, strict=True) if act is not Act.REBOOT}
        )

    def _hold(self, machine: MachinePatch) -> None:
        unsafe = self._neighbours.hold(machine.name)
        if not unsafe:
            return
        # It still serves, and nothing was done with it.
        failed = replace(fail(machine, unsafe, self._clock()), failed_in=Step.INSPECTING)
        machines = (failed if each.name == machine.name else each for each in self.patch.machines)
        self.patch = replace(self.patch, machines=tuple(machines))
        self._keep([failed])


def _at_once(act: Callable[[T], R], each: Sequence[T]) -> list[R]:
    """Return what `act` returns for each, in their order. All of them run at the same time."""
    with ThreadPoolExecutor(max(len(each), 1)) as pool:
        return list(pool.map(act, each))
