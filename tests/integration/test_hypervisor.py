"""Machines of both clouds really boot, stop, crash and go, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from localcloud.machines.hypervisor import cleanup
from localcloud.machines.hypervisor.cgroups import Group
from localcloud.machines.hypervisor.container import short_name
from localcloud.machines.hypervisor.processes import Process
from localcloud.machines.image import SUITES
from localcloud.machines.image.build import ensure
from localcloud.network.namespace import NETWORKS
from tests.integration.cloud_stubs import Metadata, Visits, serve_wsgi
from tests.integration.machine_room import ON_AWS, ON_JOYENT, Heard, Room, open_room, until

pytestmark = [pytest.mark.machines, pytest.mark.skipif(os.geteuid() != 0, reason="machines take root")]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("release", SUITES)
def test_a_graceful_stop_lets_units_say_goodbye_over_the_network(room: Room, release: str) -> None:
    ensure(release=release)
    machine = replace(ON_JOYENT, image=release)
    stop = "ExecStop=/usr/bin/curl -sS http://203.0.113.1:8080/bye"
    unit = f"systemd-run --unit=polite --property=After=network.target --property='{stop}' sleep 3600"
    room.metadata[ON_JOYENT.id] = Metadata(user_script=unit)
    visits = Visits()
    with serve_wsgi(room.namespace, "203.0.113.1", 8080, visits):
        heard = room.boot(machine)
        assert room.settled(machine) == "running"
        assert f'VERSION_ID="{release.removeprefix("debian-")}"' in room.run(machine, "cat /etc/os-release")
        room.hypervisor.shut_down(machine.id)
        heard.wait("running", "stopped")
        assert visits.paths == ["/bye"]


def test_a_crash_says_no_goodbye_and_the_disk_stays(room: Room) -> None:
    heard = room.boot(ON_JOYENT)
    room.settled(ON_JOYENT)
    room.run(ON_JOYENT, "systemd-run --unit=polite --property=ExecStop='touch /goodbye' sleep 3600; touch /kept; sync")
    processes = _processes(room)
    assert processes
    room.hypervisor.cut_power(ON_JOYENT.id)
    heard.wait("running", "stopped", timeout=3)
    assert not [process for process in processes if process.alive]
    assert [(each.state, each.pid) for each in room.hypervisor.ps()] == [("stopped", None)]
    room.hypervisor.boot(ON_JOYENT, heard)
    heard.wait("running", "stopped", "running")
    assert room.run(ON_JOYENT, "ls /kept /goodbye 2>/dev/null || true") == "/kept"


def test_a_port_that_a_power_cut_left_behind_does_not_block_a_start(room: Room) -> None:
    left = f"vb-{short_name(ON_JOYENT.id)}"
    add = ["ip", "-n", room.namespace.name, "link", "add", left, "type", "veth", "peer", "name", "left"]
    subprocess.run(add, check=True)
    heard = room.boot(ON_JOYENT)
    heard.wait("running")
    assert until(lambda: room.run(ON_JOYENT, "ip -o addr show host0").count("203.0.113.") > 0)


def test_the_guest_itself_can_reboot_and_power_off(room: Room) -> None:
    heard = room.boot(ON_AWS)
    room.settled(ON_AWS)
    first = room.run(ON_AWS, "cat /proc/sys/kernel/random/boot_id")
    room.hypervisor.exec(ON_AWS.id, ["systemctl", "reboot"])
    heard.wait("running", "running")
    assert room.run(ON_AWS, "cat /proc/sys/kernel/random/boot_id") != first
    room.settled(ON_AWS)
    room.hypervisor.exec(ON_AWS.id, ["poweroff"])
    heard.wait("running", "running", "stopped")


@pytest.mark.parametrize("release", SUITES)
def test_all_of_a_machine_is_in_its_group_in_each_hierarchy(room: Room, release: str) -> None:
    ensure(release=release)
    room.boot(replace(ON_AWS, image=release))
    assert room.settled(ON_AWS) == "running"
    folders = Group.below_own(room.namespace.name, short_name(ON_AWS.id)).folders

    def same_everywhere() -> bool:
        first, *others = [set(Group((folder,)).pids()) for folder in folders]
        return len(first) > 2 and all(each == first for each in others)

    assert until(same_everywhere, 10), {str(folder): list(Group((folder,)).pids()) for folder in folders}


def test_a_stop_that_comes_right_after_the_start_is_not_lost(room: Room) -> None:
    observer = Heard()
    room.hypervisor.boot(ON_JOYENT, observer)
    room.hypervisor.shut_down(ON_JOYENT.id)
    assert until(lambda: bool(observer.events) and observer.events[-1][0] == "stopped", 15), observer.events


def test_a_removed_machine_leaves_nothing(room: Room, tmp_path: Path) -> None:
    mounts, links = _mounts(room), _links()
    room.boot(ON_AWS)
    room.boot(ON_JOYENT)
    processes = _processes(room)
    for machine in (ON_AWS, ON_JOYENT):
        room.hypervisor.remove(machine.id)
    assert until(lambda: [path.name for path in room.machines.iterdir()] == [".layers"], 5)
    assert not [process for process in processes if process.alive]
    assert room.hypervisor.ps() == []
    room.hypervisor.close()
    room.namespace.destroy()
    assert not [folder for folder in Group.below_own(room.namespace.name).folders if folder.exists()]
    assert not room.namespace.exists
    assert _mounts(room) == {line for line in mounts if room.namespace.name not in line}
    assert _links() == links


def test_a_frozen_machine_hangs_until_it_is_thawed(room: Room) -> None:
    room.boot(ON_AWS)
    room.settled(ON_AWS)
    room.run(ON_AWS, "systemd-run --unit=tick sh -c 'while :; do date +%s%N >/run/tick; sleep 0.05; done'")
    tick = Path(f"/proc/{room.hypervisor.ps()[0].pid}/root/run/tick")
    assert until(tick.exists)
    room.hypervisor.freeze(ON_AWS.id)
    time.sleep(0.2)
    frozen = tick.read_text()
    time.sleep(0.3)
    assert tick.read_text() == frozen
    assert room.hypervisor.ps()[0].frozen
    room.hypervisor.thaw(ON_AWS.id)
    assert until(lambda: tick.read_text() != frozen, 5)


def test_a_frozen_machine_can_lose_its_power(room: Room) -> None:
    heard = room.boot(ON_AWS)
    room.hypervisor.freeze(ON_AWS.id)
    room.hypervisor.cut_power(ON_AWS.id)
    heard.wait("running", "stopped", timeout=3)


def test_partition_cuts_the_clouds_apart_and_isolation_cuts_one_off(room: Room) -> None:
    for machine in (ON_AWS, ON_JOYENT):
        room.boot(machine)
        room.settled(machine)
        room.run(machine, "systemctl start nginx")
    reach = f"curl -s -o /dev/null -m 1 http://{ON_JOYENT.address}/ && echo yes || echo no"
    visitor = NETWORKS["joyent"].visitor
    assert room.run(ON_AWS, reach) == "yes"
    room.namespace.partition()
    assert room.run(ON_AWS, reach) == "no"
    assert room.answers(ON_JOYENT.address, source=visitor)
    room.namespace.isolate("joyent")
    assert not room.answers(ON_JOYENT.address, source=visitor)
    assert room.answers(ON_AWS.address)
    room.namespace.heal()
    assert room.run(ON_AWS, reach) == "yes"


def test_an_image_that_is_not_in_the_catalogue_fails_with_the_reason(room: Room) -> None:
    heard = room.boot(replace(ON_AWS, image="plan-9"), "failed")
    assert "plan-9" in heard.reasons[0]


def test_more_machines_than_may_boot_at_once_all_come_up_small(room: Room) -> None:
    machines = [
        replace(ON_JOYENT, id=f"{number:08d}-0000-4000-8000-000000000000", address=f"203.0.113.{20 + number}")
        for number in range(8)
    ]
    observers = [Heard() for _ in machines]
    for machine, observer in zip(machines, observers, strict=True):
        room.hypervisor.boot(machine, observer)
    for machine, observer in zip(machines, observers, strict=True):
        observer.wait("running", timeout=60)
        room.settled(machine)
        room.run(machine, "systemctl start nginx")
        assert 0 < room.hypervisor.memory(machine.id) < 120 * 2**20


def test_machines_of_a_killed_process_are_found_and_ended(room: Room, tmp_path: Path) -> None:
    script = f"""
import pathlib, time
from localcloud.machines.compute import Machine
from localcloud.machines.hypervisor import NspawnHypervisor
from localcloud.machines.image import current
from localcloud.network.namespace import Namespace
from tests.integration.machine_room import Heard
hypervisor = NspawnHypervisor(namespace=Namespace({room.namespace.name!r}), image=current(),
    machines=pathlib.Path({str(tmp_path / "orphans")!r}), guest_metadata=lambda machine_id: None)
heard = Heard()
hypervisor.boot({ON_JOYENT!r}, heard)
heard.wait("running")
print(hypervisor.ps()[0].pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        init = Process.of(int(child.stdout.readline()))
        child.send_signal(signal.SIGKILL)
    assert init is not None
    assert init.alive
    assert cleanup(tmp_path / "orphans") == [ON_JOYENT.id]
    assert not init.alive
    assert not (tmp_path / "orphans").exists()
    assert cleanup(tmp_path / "orphans") == []


def _processes(room: Room) -> list[Process]:
    found = [Process.of(pid) for pid in Group.below_own(room.namespace.name).pids()]
    return [process for process in found if process is not None]


def _mounts(room: Room) -> set[str]:
    """All of this computer's mounts, without the namespaces of other workers, which come and go meanwhile."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return {line for line in lines if "/run/netns/" not in line or room.namespace.name in line}


def _links() -> str:
    return subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
