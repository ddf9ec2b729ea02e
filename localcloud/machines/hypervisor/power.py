"""A machine's power: one thread for each machine that is on. It starts the machine, watches it, and reports the result."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from localcloud.machines.compute import Machine, Power
from localcloud.machines.hypervisor.container import POWER_OFF, REBOOT, REBOOTED, Container
from localcloud.machines.hypervisor.disk import Disk

STOP_PATIENCE = 90.0
# A boot counts against the number of concurrent ones until init says it is complete, but no longer than this: the
# machine's own userdata is part of its boot and may wait for whatever it likes.
SETTLE_PATIENCE = 15.0
START_PATIENCE = 60.0


class DidNotComeUpError(Exception):
    """systemd-nspawn ended, or a minute went by, before the machine's init had taken over."""


class Host(Protocol):
    """What a machine's power needs of the hypervisor around it."""

    def start(self, machine: Machine, disk: Disk) -> Container:
        """Raises OSError, or one of this package's errors, if it cannot be started."""

    def tell(self, machine_id: str, what: str, reason: str = "") -> None:
        """Pass on to the machine's observer, in order, from another thread."""

    def record(self, power: MachinePower) -> None:
        """Write down the machine's state, for a process that cleans up after this one."""

    @property
    def slots(self) -> Slots: ...


class Slots:
    """So many machines may boot at once; the rest wait, in no particular order."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._changed = threading.Condition()

    def take(self, wanted: Callable[[], bool]) -> bool:
        """Wait for a slot. Return False, without one, as soon as `wanted()` is false (it is checked again after wake())."""
        with self._changed:
            self._changed.wait_for(lambda: self._free > 0 or not wanted())
            if not wanted():
                return False
            self._free -= 1
            return True

    def give_back(self) -> None:
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


@dataclass
class _Orders:
    """The requests since the thread last checked; guarded by MachinePower's lock."""

    stop: bool = False
    cut: bool = False
    again: bool = False


class MachinePower:
    """One machine, on or off. Methods may be called from any thread and return at once."""

    def __init__(self, machine: Machine, disk: Disk, host: Host) -> None:
        self.machine = machine
        self.disk = disk
        self.state: Power = "stopped"
        self.frozen = False
        self.container: Container | None = None
        self._host = host
        self._lock = threading.Lock()
        self._orders = _Orders()
        self._thread: threading.Thread | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def on(self) -> None:
        """Start it; while it is going down: start it again once it is off."""
        with self._lock:
            if self._thread is not None:
                self._orders.again = self._orders.again or self._orders.stop or self._orders.cut
                return
            self._orders = _Orders()
            self.state = "booting"
            self._thread = threading.Thread(target=self._run, name=f"machine {self.machine.id}", daemon=True)
            self._thread.start()

    def off(self, *, again: bool = False) -> None:
        """Ask its init to stop, and with `again` to start afterwards. After 90 s the power is cut."""
        self._order(_Orders(stop=True, again=again))

    def cut(self) -> None:
        """Kill all of it now."""
        container = self.container
        if container is not None:
            container.kill()
        self._order(_Orders(cut=True))

    def freeze(self, frozen: bool) -> None:
        container = self.container
        if container is not None:
            container.group.freeze(frozen)
            self.frozen = frozen

    def join(self, patience: float) -> bool:
        """Wait until it is off. Return whether it is."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(patience)
        return self._thread is None

    def close(self) -> None:
        """Release its resources. It is off and is never used again."""
        os.close(self._wake)

    def _order(self, order: _Orders) -> None:
        with self._lock:
            if self._thread is None:
                return
            if order.cut or not self._orders.cut:
                self._orders = order
            os.eventfd_write(self._wake, 1)
        self._host.slots.wake()

    def _run(self) -> None:
        """Boot the machine again and again until it stays off. This is the thread."""
        reason = ""
        while True:
            code = None
            try:
                code = self._one_boot()
            except Exception as error:  # noqa: BLE001 - whatever keeps a machine from starting is its API's to show
                reason = f"{type(error).__name__}: {error}"
            if self._is_over(code, reason):
                break
        self._host.record(self)
        self._host.tell(self.machine.id, "failed" if reason else "stopped", reason)

    def _is_over(self, code: int | None, reason: str) -> bool:
        """Decide between off and another boot. It is one step, so that no request is lost in between."""
        with self._lock:
            orders, self._orders = self._orders, _Orders()
            by_itself = code == REBOOTED and not orders.stop and not orders.cut
            if not reason and (orders.again or by_itself):
                self.state = "booting"
                return False
            self.state = "failed" if reason else "stopped"
            self._thread = None
            return True

    def _one_boot(self) -> int | None:
        """Boot it and stay with it to its end: systemd-nspawn's exit code, or None if it was not started at all."""
        if not self._host.slots.take(self._still_wanted):
            return None
        slot = _Once(self._host.slots.give_back)
        try:
            self.disk.prepare(self.machine)
            container = self._host.start(self.machine, self.disk)
            self.container, self.frozen = container, False
            try:
                self._host.record(self)
                came_up = self._watch(container, slot)
            finally:
                self.container = None
                code = container.finish()
        finally:
            slot()
        if not came_up and not (self._orders.stop or self._orders.cut):
            raise DidNotComeUpError(f"boot: exit code {code}: {self.disk.last_words()}. Read {self.disk.console}.")
        return code

    def _still_wanted(self) -> bool:
        return not (self._orders.stop or self._orders.cut)

    def _watch(self, container: Container, slot: _Once) -> bool:
        """Until systemd-nspawn ends; whether init came up."""
        poll = select.poll()
        for handle in (container.exit_handle, container.news_handle, self._wake):
            poll.register(handle, select.POLLIN)
        started = time.monotonic()
        up, stop_by = False, None
        while True:
            now = time.monotonic()
            if not up and container.listening:
                up = True
                self._came_up()
            if container.settled or now - started > SETTLE_PATIENCE:
                slot()
            if stop_by is None and up and self._orders.stop:
                stop_by = now + STOP_PATIENCE
                self.state = "stopping"
                container.ask(REBOOT if self._orders.again else POWER_OFF)
            if self._orders.cut or (stop_by and now > stop_by) or (not up and now - started > START_PATIENCE):
                container.kill()
            ready = {handle for handle, _ in poll.poll(_milliseconds(up, slot.done, stop_by, now))}
            if container.exit_handle in ready:
                return up
            if container.news_handle in ready:
                container.read_news()
            if self._wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)

    def _came_up(self) -> None:
        self.state = "running"
        self._host.record(self)
        self._host.tell(self.machine.id, "running")


class _Once:
    """Calls something the first time only."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action
        self.done = False

    def __call__(self) -> None:
        if not self.done:
            self.done = True
            self._action()


def _milliseconds(up: bool, slot_free: bool, stop_by: float | None, now: float) -> float | None:
    """How long the watcher may sleep: without end, once the machine is up and nothing is due."""
    if not up:
        return 20
    if not slot_free:
        return 500
    return None if stop_by is None else max(0.0, stop_by - now) * 1000 + 50
