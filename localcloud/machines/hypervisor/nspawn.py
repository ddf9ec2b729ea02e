"""The hypervisor: machines of both clouds as systemd-nspawn containers in the clouds' network namespace."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from localcloud.machines.compute import Hypervisor, Machine, Observer, Power
from localcloud.machines.hypervisor.cgroups import CgroupError, Group, own_folders
from localcloud.machines.hypervisor.container import Container, fabric_port, run_inside, short_name
from localcloud.machines.hypervisor.disk import Disk, Layers, write_record
from localcloud.machines.hypervisor.metadata import MetadataServer, MetadataSide
from localcloud.machines.hypervisor.power import MachinePower, Slots
from localcloud.machines.hypervisor.processes import Process, memory_of
from localcloud.machines.image import Image
from localcloud.network.namespace import Namespace, NamespaceError

_log = logging.getLogger(__name__)
_LAYERS = ".layers"
_INOTIFY_INSTANCES = 4096
_PLUGGED_WITHIN_S = 60.0


class HypervisorError(Exception):
    """A request that cannot be met: no such machine, or it is not running."""


@dataclass(frozen=True, kw_only=True)
class MachineStatus:
    """What runs, for people: `pid` is the machine's init as the host numbers it (None when off)."""

    id: str
    cloud: str
    name: str
    state: Power
    frozen: bool
    addresses: tuple[str, ...]
    image: str
    pid: int | None


class NspawnHypervisor(Hypervisor):
    """Boots machines. The namespace and the image must exist; raises HypervisorError where no machine can run.

    `machines` is this instance's own directory: whatever an earlier process left there is killed and removed.
    `guest_metadata` is asked at each request of a Joyent guest. No more than `boots_at_once` machines boot at a time. `timers` is in the
    environment of every agent (rollcall.timers).
    """

    def __init__(
        self,
        *,
        namespace: Namespace,
        image: Image,
        machines: Path,
        guest_metadata: Callable[[str], MetadataSide | None],
        ca_pem: str = "",
        boots_at_once: int = 4,
        timers: str = "",
    ) -> None:
        check_host()
        cleanup(machines)
        _make_room_for_many()
        machines.mkdir(parents=True, exist_ok=True)
        self.slots = Slots(boots_at_once)
        self._namespace = namespace
        self._folder = machines.resolve()
        self._guest_metadata = guest_metadata
        self._layers = Layers(self._folder / _LAYERS, image, ca_pem, timers)
        self._lock = threading.Lock()
        self._machines: dict[str, MachinePower] = {}
        self._observers: dict[str, Observer] = {}
        self._metadata: dict[str, MetadataServer] = {}
        self._deleting: list[threading.Thread] = []
        self._news: queue.SimpleQueue[tuple[Observer, str, str, str] | None] = queue.SimpleQueue()
        threading.Thread(target=self._tell_observers, name="observers", daemon=True).start()

    # What the compute APIs ask for (localcloud.machines.compute.Hypervisor).

    def boot(self, machine: Machine, observer: Observer) -> None:
        with self._lock:
            power = self._machines.get(machine.id)
            if power is None:
                power = MachinePower(machine, Disk(self._folder / machine.id), self)
                self._machines[machine.id] = power
            power.machine = machine
            self._observers[machine.id] = observer
        power.on()

    def shut_down(self, machine_id: str) -> None:
        self._do(machine_id, lambda power: power.off())

    def reboot(self, machine_id: str) -> None:
        self._do(machine_id, lambda power: power.off(again=True))

    def cut_power(self, machine_id: str) -> None:
        self._do(machine_id, lambda power: power.cut())

    def remove(self, machine_id: str) -> None:
        with self._lock:
            power = self._machines.pop(machine_id, None)
            self._observers.pop(machine_id, None)
        if power is not None:
            power.cut()
            # Deleting a disk takes a moment, and no method here may.
            deleting = threading.Thread(target=self._delete, args=(power,), name=f"remove {machine_id}", daemon=True)
            self._deleting = [each for each in self._deleting if each.is_alive()] + [deleting]
            deleting.start()

    # What people and tests ask for.

    def freeze(self, machine_id: str) -> None:
        """Freeze a machine: none of its processes runs any more, but its API still says that it runs.

        A kernel that hangs accepts no connection. Here the host's kernel would accept one, so the machine's port is disconnected too.
        """
        self._do(machine_id, lambda power: power.freeze(True))
        for port in (_port(machine_id), fabric_port(machine_id)):
            self._namespace.plug(port, plugged=False)

    def thaw(self, machine_id: str) -> None:
        for port in (_port(machine_id), fabric_port(machine_id)):
            self._namespace.plug(port, plugged=True)
        self._do(machine_id, lambda power: power.freeze(False))

    def ps(self) -> list[MachineStatus]:
        """Return every machine that has a disk, by id."""
        with self._lock:
            machines = sorted(self._machines.values(), key=lambda power: power.machine.id)
        return [_status(power) for power in machines]

    def memory(self, machine_id: str) -> int:
        """Bytes that its processes take, systemd-nspawn included; 0 when it is off."""
        container = self._power(machine_id).container
        return 0 if container is None else memory_of(container.group.pids())

    def console(self, machine_id: str) -> Path:
        """The file with what its boots printed."""
        return self._power(machine_id).disk.console

    def printed(self, machine_id: str) -> str:
        with self._lock:
            known = machine_id in self._machines
        path = self.console(machine_id) if known else None
        return path.read_text(errors="replace") if path is not None and path.exists() else ""

    def exec(
        self, machine_id: str, argv: Sequence[str], stdin: bytes = b"", timeout: float = 60.0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command inside, as root. HypervisorError if it is not running; subprocess.TimeoutExpired after
        `timeout` seconds, and then the command is killed."""
        leader = _leader(self._power(machine_id))
        if leader is None:
            raise HypervisorError(f"{machine_id}: is not running. Start it through the API of its cloud.")
        return run_inside(leader.pid, argv, stdin, timeout)

    def close(self) -> None:
        """Cut every machine's power, and remove all machines and their disks. Observers get no event."""
        with self._lock:
            powers = list(self._machines.values())
            self._machines.clear()
            self._observers.clear()
        for power in powers:
            power.cut()
        for power in powers:
            self._delete(power)
        for deleting in self._deleting:
            deleting.join(30)
        self._news.put(None)
        self._layers.remove()
        Group.below_own(self._namespace.name).remove()

    # What a machine's own thread needs (localcloud.machines.hypervisor.power.Host).

    def start(self, machine: Machine, disk: Disk) -> Container:
        if machine.cloud == "joyent" and machine.id not in self._metadata:
            self._metadata[machine.id] = MetadataServer(disk.zonecontrol, lambda: self._guest_metadata(machine.id))
        self._namespace.pull(_port(machine.id))
        self._namespace.pull(fabric_port(machine.id))
        container = Container(machine, disk, self._namespace, self._layers.options(machine, disk))
        if machine.address and machine.fabric_address:
            plugging = threading.Thread(target=self._plug, args=(machine.id, container), name="plug", daemon=True)
            plugging.start()
        return container

    def _plug(self, machine_id: str, container: Container) -> None:
        """Plug the second interface of a machine into the fabric as soon as systemd-nspawn has made it."""
        until = time.monotonic() + _PLUGGED_WITHIN_S
        while time.monotonic() < until and container.process is not None and container.process.alive:
            with contextlib.suppress(NamespaceError):
                self._namespace.plug_into_fabric(fabric_port(machine_id))
                return
            time.sleep(0.1)
        _log.error("%s got no interface on the fabric", machine_id)

    def tell(self, machine_id: str, what: str, reason: str = "") -> None:
        with self._lock:
            observer = self._observers.get(machine_id)
        if observer is not None:
            self._news.put((observer, what, machine_id, reason))

    def record(self, power: MachinePower) -> None:
        container = power.container
        record: dict[str, object] = asdict(_status(power))
        if container is not None:
            record["group"] = [str(folder) for folder in container.group.folders]
            record["processes"] = [asdict(each) for each in (container.process, container.leader) if each is not None]
        # A machine that is being removed has no directory any more.
        with contextlib.suppress(FileNotFoundError):
            write_record(power.disk.folder.with_suffix(".json"), record)

    def _tell_observers(self) -> None:
        """Call observers from one thread, so that an observer gets one event at a time and in order."""
        while (news := self._news.get()) is not None:
            observer, what, machine_id, reason = news
            try:
                if what == "running":
                    observer.running(machine_id)
                elif what == "stopped":
                    observer.stopped(machine_id)
                else:
                    observer.failed(machine_id, reason)
            except Exception:  # noqa: BLE001 - one cloud's fault must not silence the other's news
                _log.exception("the cloud of %s did not take in that it is %s", machine_id, what)

    def _do(self, machine_id: str, action: Callable[[MachinePower], None]) -> None:
        with self._lock:
            power = self._machines.get(machine_id)
        if power is not None:
            action(power)

    def _power(self, machine_id: str) -> MachinePower:
        with self._lock:
            power = self._machines.get(machine_id)
        if power is None:
            raise HypervisorError(f"{machine_id}: does not exist. Choose one that `localcloud ps` lists.")
        return power

    def _delete(self, power: MachinePower) -> None:
        if not power.join(30):
            _log.error("%s does not die; its directory %s stays", power.machine.id, power.disk.folder)
            return
        server = self._metadata.pop(power.machine.id, None)
        if server is not None:
            server.close()
        power.close()
        power.disk.remove()
        power.disk.folder.with_suffix(".json").unlink(missing_ok=True)


def cleanup(machines: Path, patience: float = 10.0) -> list[str]:
    """Kill and remove what a killed process left in a machines directory; the ids of the machines that still ran.

    Goes by what is recorded there, and by a process only if its start time is the recorded one.
    """
    ran = []
    for path in sorted(machines.glob("*.json")):
        try:
            record = json.loads(path.read_text())
        except ValueError:
            record = {}
        group = Group(tuple(Path(folder) for folder in record.get("group", ())))
        processes = [Process(**each) for each in record.get("processes", ())]
        if any(process.alive for process in processes):
            ran.append(path.stem)
            for process in processes:
                process.send(9)
            deadline = time.monotonic() + patience
            while any(process.alive for process in processes) and time.monotonic() < deadline:
                time.sleep(0.02)
        if group.folders and group.remove():
            for folder in group.folders:
                # The group that all machines of the instance share; the last one takes it along.
                with contextlib.suppress(OSError):
                    folder.parent.rmdir()
        path.unlink()
    shutil.rmtree(machines, ignore_errors=True)
    return ran


def check_host() -> None:
    """Raise HypervisorError, which names the fix, if this host cannot run machines at all."""
    if os.geteuid() != 0:
        raise HypervisorError("root: booting machines needs it. Run it as root.")
    packages = {"systemd-nspawn": "systemd-container", "ip": "iproute2", "nft": "nftables", "nsenter": "util-linux"}
    missing = sorted(package for tool, package in packages.items() if shutil.which(tool) is None)
    if missing:
        raise HypervisorError(
            f"packages: machines need {', '.join(missing)} to boot. Run `apt-get install {' '.join(missing)}`."
        )
    try:
        own_folders()
    except CgroupError as error:
        raise HypervisorError(str(error)) from error


def _make_room_for_many() -> None:
    """Raise the number of inotify instances that root may have until the host's next boot, if it is low.

    The default of 128 (inotify(7)) is for all machines together; each takes four, and an init that gets none gives up.
    """
    path = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(path.read_text()) < _INOTIFY_INSTANCES:
        try:
            path.write_text(f"{_INOTIFY_INSTANCES}\n")
        except OSError as error:
            _log.warning("%s cannot be raised (%s): no more than about 30 machines will boot", path, error.strerror)


def _leader(power: MachinePower) -> Process | None:
    container = power.container
    return container.leader if container is not None else None


def _port(machine_id: str) -> str:
    """The interface that systemd-nspawn makes at the bridge for a machine."""
    return f"vb-{short_name(machine_id)}"


def _status(power: MachinePower) -> MachineStatus:
    machine, leader = power.machine, _leader(power)
    addresses = (machine.address, machine.ipv6, machine.fabric_address)
    return MachineStatus(
        id=machine.id, cloud=machine.cloud, name=machine.name, state=power.state, frozen=power.frozen,
        addresses=tuple(each for each in addresses if each), image=machine.image, pid=leader.pid if leader else None,
    )  # fmt: skip
