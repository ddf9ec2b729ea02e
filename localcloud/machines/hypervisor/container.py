"""One boot of one machine: systemd-nspawn started, watched and killed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcloud.machines.compute import Machine
from localcloud.machines.hypervisor.cgroups import Group
from localcloud.machines.hypervisor.disk import FABRIC_INTERFACE, Disk
from localcloud.machines.hypervisor.processes import Process
from localcloud.network.namespace import FABRIC, NETWORKS, Namespace

# systemd(1), "Signals": what asks it to power off and to reboot.
POWER_OFF = signal.SIGRTMIN + 4
REBOOT = signal.SIGRTMIN + 5
# systemd-nspawn's exit code for "start me again" (EX_FORCE_RESTART in its --keep-unit mode).
REBOOTED = 133

# This runs in a separate mount namespace. So no mount outlives the machine, however it ends, and neither do systemd-nspawn's files in
# /run/systemd/nspawn.
_START = """set -eu
for group in $1; do echo 0 >"$group/cgroup.procs"; done
mount -t overlay overlay -o "$2" "$3"
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
touch /run/systemd/nspawn/notify
mount --bind "$4" /run/systemd/nspawn/notify
shift 4
exec "$@"
"""


def short_name(machine_id: str) -> str:
    """At most 12 characters: with nspawn's `vb-` before them they are an interface's name, which has 15."""
    return hashlib.sha256(machine_id.encode()).hexdigest()[:12]


class Container:
    """A machine that has been started. All of its processes are in `group`; `leader` is its init once that is known."""

    def __init__(self, machine: Machine, disk: Disk, namespace: Namespace, overlay: str) -> None:
        """Start it. Raises OSError or CgroupError if that is impossible."""
        self.group = Group.below_own(namespace.name, short_name(machine.id))
        self.leader: Process | None = None
        self.settled = False
        self.group.create()
        self._notifications = _notification_socket(disk.run)
        try:
            with disk.console.open("ab") as console:
                self._popen = subprocess.Popen(
                    _command(machine, disk, namespace, self.group, overlay),
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                    env={
                        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin"),
                        "NOTIFY_SOCKET": "/run/systemd/nspawn/notify",
                        # systemd of Debian 13 does not start in a hybrid hierarchy
                        # (https://github.com/systemd/systemd/releases/tag/v256); that of Debian 12 takes either.
                        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                    },
                    start_new_session=True,
                )
        except OSError:
            self._notifications.close()
            self.group.remove()
            raise
        self.process = Process.of(self._popen.pid)
        self._handle = os.pidfd_open(self._popen.pid)

    @property
    def exit_handle(self) -> int:
        """A descriptor that is readable once systemd-nspawn has ended."""
        return self._handle

    @property
    def news_handle(self) -> int:
        """A descriptor that is readable when systemd-nspawn has something to say; then call read_news()."""
        return self._notifications.fileno()

    def read_news(self) -> None:
        """Read nspawn's notifications (sd_notify(3)): the process id of the machine's init, and that its boot is complete."""
        with contextlib.suppress(BlockingIOError):
            while True:
                text = self._notifications.recv(4096).decode("utf-8", "replace")
                found = re.search(r"^X_NSPAWN_LEADER_PID=(\d+)$", text, re.MULTILINE)
                if found:
                    self.leader = Process.of(int(found.group(1)))
                if re.search(r"^READY=1$", text, re.MULTILINE):
                    self.settled = True

    @property
    def listening(self) -> bool:
        """Return whether init has taken over. Before that the kernel drops every signal to it."""
        return self.leader is not None and POWER_OFF in self.leader.blocks

    def ask(self, number: int) -> None:
        if self.leader is not None:
            self.leader.send(number)

    def kill(self) -> None:
        self.group.kill()

    def finish(self) -> int:
        """End the container if it still runs, and remove all of it. Return its exit code."""
        self.group.kill()
        code = self._popen.wait()
        os.close(self._handle)
        self._notifications.close()
        self.group.remove()
        return code


def enter_command(leader: int, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the command that runs `argv` as root in `/` inside the machine that has the init `leader`."""
    variables = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
    }
    variables |= environment or {}
    command = [
        "nsenter",
        f"--target={leader}",
        "--mount",
        "--uts",
        "--ipc",
        "--net",
        "--pid",
        "--cgroup",
        "--",
    ]
    return [*command, "env", "--ignore-environment", *(f"{name}={value}" for name, value in variables.items()), *argv]


def run_inside(leader: int, argv: Sequence[str], stdin: bytes, timeout: float) -> subprocess.CompletedProcess[bytes]:
    """Run a command inside and wait for it; after `timeout` seconds it is killed and subprocess.TimeoutExpired raised."""
    command = enter_command(leader, argv)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True) as process:
        try:
            output, errors = process.communicate(stdin, timeout)
        except BaseException:
            # nsenter forks to get into the other numbering of processes: its child would survive it.
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _command(machine: Machine, disk: Disk, namespace: Namespace, group: Group, overlay: str) -> list[str]:
    root = disk.folder / "root"
    start = [" ".join(map(str, group.folders)), overlay, str(root), str(disk.run / "notify")]
    nspawn = [
        "nsenter", f"--net={namespace.path}", "systemd-nspawn", "--quiet", f"--directory={root}",
        f"--machine={short_name(machine.id)}", "--register=no", "--keep-unit", "--boot", "--notify-ready=yes",
        f"--network-bridge={_bridge(machine)}", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
        "--console=read-only",
        # As on a real machine: systemd enforces IPAddressDeny= by BPF, and passes over it where it may not (systemd.resource-control(5)).
        # Container runtimes make a keyring for each container.
        "--system-call-filter=bpf @keyring",
        # podman refuses its storage driver `overlay` on a disk that is an overlay itself, as that of a machine is.
        f"--bind={disk.containers}:/var/lib/containers",
    ]  # fmt: skip
    if machine.address and machine.fabric_address:
        # systemd-nspawn makes both ends. NspawnHypervisor plugs the outer one into the fabric's bridge.
        nspawn.append(f"--network-veth-extra={fabric_port(machine.id)}:{FABRIC_INTERFACE}")
    if machine.cloud == "joyent":
        nspawn.append(f"--bind={disk.zonecontrol}:/native/.zonecontrol")
    return ["unshare", "--mount", "sh", "-c", _START, "start", *start, *nspawn, "--", "--show-status=1"]


def _bridge(machine: Machine) -> str:
    """Return the bridge of a machine's first interface."""
    only_fabric = machine.fabric_address and not machine.address
    return FABRIC if only_fabric else NETWORKS[machine.cloud].bridge


def fabric_port(machine_id: str) -> str:
    """Return the name of a machine's second interface in the clouds' namespace."""
    return f"vf-{short_name(machine_id)}"


def _notification_socket(folder: Path) -> socket.socket:
    path = folder / "notify"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    # As for the metadata socket: the path may be longer than an address of this family.
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{handle}/notify")
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    finally:
        os.close(handle)
    return listener
