"""A machine's power against containers that only pretend: orders in every order, none lost."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from localcloud.machines.compute import Machine
from localcloud.machines.hypervisor import power as module
from localcloud.machines.hypervisor.container import POWER_OFF, REBOOT, REBOOTED, Container
from localcloud.machines.hypervisor.disk import Disk
from localcloud.machines.hypervisor.power import MachinePower, Slots
from tests.patience import came_true

MACHINE = Machine(id="i-0123456789abcdef0", cloud="aws", name="web-0", address="198.51.100.10")


def until(condition: Callable[[], bool], timeout: float = 20.0) -> bool:
    """Nothing boots here, so it comes true within milliseconds."""
    return came_true(condition, timeout, every=0.002)


class Pretended:
    """A container that comes up when the test says so, and obeys signals only then (as the kernel has it for a first process)."""

    def __init__(self, *, obedient: bool) -> None:
        self.exit_handle, self.news_handle = os.eventfd(0), os.eventfd(0)
        self.obedient = obedient
        self.settled = self.listening = self.killed = False
        self.signals: list[int] = []
        self.code = 0
        self.group = self.process = self.leader = None

    def read_news(self) -> None:
        os.eventfd_read(self.news_handle)

    def come_up(self) -> None:
        self.listening = self.settled = True
        os.eventfd_write(self.news_handle, 1)

    def ask(self, number: int) -> None:
        self.signals.append(number)
        if self.listening and self.obedient:
            self.end(REBOOTED if number == REBOOT else 0)

    def end(self, code: int) -> None:
        self.code = code
        os.eventfd_write(self.exit_handle, 1)

    def kill(self) -> None:
        self.killed = True
        self.end(-9)

    def finish(self) -> int:
        return self.code


class Host:
    """A hypervisor that starts pretended containers and keeps the notices that it gets."""

    def __init__(self, *, slots: int = 4, obedient: bool = True, comes_up: bool = True) -> None:
        self.slots = Slots(slots)
        self.notices: list[str] = []
        self.containers: list[Pretended] = []
        self.obedient, self.comes_up = obedient, comes_up
        self.on_start: Callable[[], None] = lambda: None

    def start(self, machine: Machine, disk: Disk) -> Container:
        self.on_start()
        container = Pretended(obedient=self.obedient)
        self.containers.append(container)
        if self.comes_up:
            container.come_up()
        return cast(Container, container)

    def tell(self, machine_id: str, what: str, reason: str = "") -> None:
        self.notices.append(f"{what} {reason}".strip())

    def record(self, power: MachinePower) -> None:
        pass

    def heard(self, *what: str) -> bool:
        return until(lambda: self.notices == list(what), 5)


def machine(host: Host, tmp_path: Path) -> MachinePower:
    return MachinePower(MACHINE, Disk(tmp_path / MACHINE.id), host)


def test_a_machine_is_stopped_by_its_init(tmp_path: Path) -> None:
    power = machine(host := Host(), tmp_path)
    power.on()
    assert host.heard("running")
    power.off()
    assert host.heard("running", "stopped")
    assert host.containers[0].signals == [POWER_OFF]
    assert power.state == "stopped"


def test_a_stop_before_init_listens_is_asked_when_it_does(tmp_path: Path) -> None:
    power = machine(host := Host(comes_up=False), tmp_path)
    power.on()
    assert until(lambda: len(host.containers) == 1)
    power.off()
    assert host.containers[0].signals == []
    host.containers[0].come_up()
    assert host.heard("running", "stopped")


def test_a_guest_that_does_not_stop_loses_its_power_after_the_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_PATIENCE", 0.1)
    power = machine(host := Host(obedient=False), tmp_path)
    power.on()
    assert host.heard("running")
    power.off()
    assert host.heard("running", "stopped")
    assert host.containers[0].killed


def test_a_reboot_is_heard_as_running_again(tmp_path: Path) -> None:
    power = machine(host := Host(), tmp_path)
    power.on()
    assert host.heard("running")
    power.off(again=True)
    assert host.heard("running", "running")
    assert host.containers[0].signals == [REBOOT]
    assert len(host.containers) == 2


def test_a_reboot_that_the_guest_does_not_do_is_done_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_PATIENCE", 0.1)
    power = machine(host := Host(obedient=False), tmp_path)
    power.on()
    assert host.heard("running")
    power.off(again=True)
    assert host.heard("running", "running")


def test_the_guests_own_reboot_and_power_off_are_followed(tmp_path: Path) -> None:
    power = machine(host := Host(), tmp_path)
    power.on()
    assert host.heard("running")
    host.containers[0].end(REBOOTED)
    assert host.heard("running", "running")
    host.containers[1].end(0)
    assert host.heard("running", "running", "stopped")


def test_a_stop_wins_over_the_guests_own_reboot(tmp_path: Path) -> None:
    power = machine(host := Host(obedient=False), tmp_path)
    power.on()
    assert host.heard("running")
    power.off()
    assert until(lambda: host.containers[0].signals == [POWER_OFF])
    host.containers[0].end(REBOOTED)
    assert host.heard("running", "stopped")


def test_a_start_while_it_goes_down_starts_it_again(tmp_path: Path) -> None:
    power = machine(host := Host(obedient=False), tmp_path)
    power.on()
    assert host.heard("running")
    power.off()
    power.on()
    host.containers[0].end(0)
    assert host.heard("running", "running")


def test_a_start_of_a_running_machine_does_nothing(tmp_path: Path) -> None:
    power = machine(host := Host(), tmp_path)
    power.on()
    assert host.heard("running")
    power.on()
    power.off()
    assert host.heard("running", "stopped")


def test_a_cut_is_heard_as_stopped(tmp_path: Path) -> None:
    power = machine(host := Host(), tmp_path)
    power.on()
    assert host.heard("running")
    power.cut()
    assert host.heard("running", "stopped")
    assert power.join(5)


def test_an_init_that_never_comes_up_is_a_failure_with_the_consoles_last_words(tmp_path: Path) -> None:
    power = machine(host := Host(comes_up=False), tmp_path)
    power.on()
    assert until(lambda: len(host.containers) == 1)
    power.disk.console.write_text("booting\nno init found\n\n")
    host.containers[0].end(1)
    assert until(lambda: power.state == "failed")
    assert until(lambda: bool(host.notices))
    assert "no init found" in host.notices[0]


def test_a_failed_start_is_reported_and_it_can_be_started_later(tmp_path: Path) -> None:
    power = machine(host := Host(), tmp_path)

    def full() -> None:
        raise OSError("no space left")

    host.on_start = full
    power.on()
    assert host.heard("failed OSError: no space left")
    host.on_start = lambda: None
    power.on()
    assert host.heard("failed OSError: no space left", "running")


def test_no_more_machines_boot_at_once_than_there_are_slots(tmp_path: Path) -> None:
    host = Host(slots=2, comes_up=False)
    powers = [machine(host, tmp_path / str(number)) for number in range(5)]
    for power in powers:
        power.on()
    assert until(lambda: len(host.containers) == 2)
    assert not until(lambda: len(host.containers) > 2, 0.3)
    host.containers[0].come_up()
    assert until(lambda: len(host.containers) == 3)
    assert not until(lambda: len(host.containers) > 3, 0.3)


def test_a_machine_that_waits_for_a_slot_can_be_stopped(tmp_path: Path) -> None:
    host = Host(slots=0)
    power = machine(host, tmp_path)
    power.on()
    power.off()
    assert host.heard("stopped")
    assert host.containers == []


def test_an_order_from_another_thread_at_the_very_end_is_never_lost(tmp_path: Path) -> None:
    for _ in range(50):
        host = Host()
        power = machine(host, tmp_path)
        power.on()
        assert host.heard("running")
        container: Any = host.containers[0]
        ending = threading.Thread(target=container.end, args=(0,))
        ending.start()
        power.off(again=True)
        ending.join()
        # Off by itself before the order came, or back because of it; never neither.
        assert until(lambda host=host: host.notices in (["running", "stopped"], ["running", "running"]), 5)  # type: ignore[misc]
