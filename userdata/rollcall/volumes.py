"""Format and mount the further EBS volumes of an EC2 machine.

On machines with NVMe, EC2 asks for `/dev/sdf` and Linux has `/dev/nvme1n1`, in any order. EBS writes the name that was asked for into the
vendor's part of the controller's data: https://docs.aws.amazon.com/ebs/latest/userguide/nvme-ebs-volumes.html . A volume gets a file
system only if it has none, so that a restart keeps what is there. Each volume has a mount unit, which mounts it at every boot before any
workload starts, and workloads do not start without it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rollcall.errors import TransientError
from rollcall.files import write_whole
from rollcall.volume_settings import Volume

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]
# An EBS volume may be attached some seconds after the machine has started.
APPEARS_WITHIN_S, _POLL_S, _COMMAND_S = 60.0, 1.0, 300.0
# The units of a workload, of its hook and of its checks: a drop-in of such a folder is for each of them
# (https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html).
_WORKLOADS = ("workload-", "before-workload-", "check-workload-")
_DROP_IN = "rollcall-volumes.conf"
# NVME_IOCTL_ADMIN_CMD of linux/nvme_ioctl.h, and the command Identify Controller of the NVMe specification.
_ADMIN, _IDENTIFY, _CONTROLLER, _BYTES = 0xC0484E41, 0x06, 1, 4096
# Where EBS writes the name of the device, padded with spaces.
_NAME = slice(3072, 3104)
_NO_FILE_SYSTEM = 2


def run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=_COMMAND_S, check=False)


class Volumes:
    """The volumes of this machine. `root` is before every path, for tests."""

    def __init__(
        self,
        root: Path = Path("/"),
        run: Run = run,
        name_of: Callable[[Path], str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._root, self._run, self._sleep = root, run, sleep
        self._name_of = name_of or nvme_name

    def mount(self, volumes: Sequence[Volume]) -> None:
        """Mount each volume at its folder. Raises TransientError."""
        units = self._root / "etc/systemd/system"
        in_container = self._run(("systemd-detect-virt", "--quiet", "--container")).returncode == 0
        texts = {}
        for each in volumes:
            folder = self._root / each.mount.lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            if in_container:
                # A container has no devices. In a rehearsal the folder is on the root volume.
                folder.chmod(0o1777)
                print(f"volume device={each.device} mount={each.mount} on=root reason=container", flush=True)
            else:
                texts[f"{escaped(each.mount)}.mount"] = self._unit(each)
        for name, text in texts.items():
            write_whole(units / name, text, lasting=True)
        for prefix in _WORKLOADS:
            write_whole(units / f"{prefix}.service.d" / _DROP_IN, drop_in(volumes), lasting=True)
        self._must("systemctl", "daemon-reload")
        for name in texts:
            self._must("systemctl", "enable", "--now", "--quiet", name)
        for each in volumes if not in_container else ():
            self._open(each)

    def _unit(self, volume: Volume) -> str:
        """Return the mount unit of a volume. It gets a file system if it has none."""
        device = self._device(volume)
        kind = self._run(("blkid", "-p", "-s", "TYPE", "-o", "value", str(device)))
        if kind.returncode == _NO_FILE_SYSTEM:
            self._must("mkfs.ext4", "-q", "-m", "0", "-L", f"rollcall-{volume.device}", str(device))
        elif kind.returncode or not kind.stdout.strip():
            raise _failed("volume-unreadable", volume.device, kind)
        uuid = self._must("blkid", "-p", "-s", "UUID", "-o", "value", str(device)).stdout.strip()
        return (
            f"[Unit]\nDescription=Rollcall: the volume {volume.device}\n\n"
            f"[Mount]\nWhat=/dev/disk/by-uuid/{uuid}\nWhere={volume.mount}\n\n"
            "[Install]\nWantedBy=local-fs.target\n"
        )

    def _device(self, volume: Volume) -> Path:
        """Return the device of a volume. Wait for it. Raises TransientError."""
        waited = 0.0
        while (found := self._found(volume.device)) is None:
            if waited >= APPEARS_WITHIN_S:
                raise TransientError(f"reason=no-volume device={volume.device} mount={volume.mount}")
            self._sleep(_POLL_S)
            waited += _POLL_S
        return found

    def _found(self, device: str) -> Path | None:
        folder = self._root / "dev"
        for path in sorted(folder.glob("nvme*n1")):
            try:
                name = self._name_of(path)
            except OSError:
                continue
            if name.removeprefix("/dev/") == device:
                return path
        # Machines with Xen have the name itself, or the same letter after `xvd`.
        names = (device, device.replace("sd", "xvd", 1))
        return next((path for name in names if (path := folder / name).exists()), None)

    def _open(self, volume: Volume) -> None:
        """Let each workload write to a volume that is new, as to /tmp: the users of workloads get their numbers when they start."""
        folder = self._root / volume.mount.lstrip("/")
        if not [each for each in folder.iterdir() if each.name != "lost+found"]:
            folder.chmod(0o1777)

    def _must(self, *words: str) -> subprocess.CompletedProcess[str]:
        done = self._run(words)
        if done.returncode:
            raise _failed("volume-not-mounted", words[0], done)
        return done


def drop_in(volumes: Sequence[Volume]) -> str:
    """Return what units of workloads get: they wait for the volumes, and may write to them."""
    folders = " ".join(each.mount for each in volumes)
    return f"[Unit]\nRequiresMountsFor={folders}\n\n[Service]\nReadWritePaths={folders}\n"


def escaped(path: str) -> str:
    """Return a path as the name of a unit has it, like `systemd-escape --path`.

    https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html#String%20Escaping%20for%20Inclusion%20in%20Unit%20Names
    """
    parts = [part for part in path.split("/") if part]
    return "-".join("".join(c if c.isalnum() or c in "_.:" else f"\\x{ord(c):02x}" for c in part) for part in parts)


def nvme_name(device: Path) -> str:
    """Return the name of an NVMe device that EBS was asked for, as `sdf` or `/dev/sdf`. Raises OSError."""
    data = ctypes.create_string_buffer(_BYTES)
    # struct nvme_admin_cmd: opcode, then the address and length of the data, then command dword 10.
    command = bytearray(72)
    command[0] = _IDENTIFY
    command[24:32] = ctypes.addressof(data).to_bytes(8, "little")
    command[36:40] = _BYTES.to_bytes(4, "little")
    command[40] = _CONTROLLER
    handle = os.open(device, os.O_RDONLY)
    try:
        fcntl.ioctl(handle, _ADMIN, command)
    finally:
        os.close(handle)
    return data.raw[_NAME].decode("ascii", "replace").strip(" \0")


def _failed(reason: str, what: str, done: subprocess.CompletedProcess[str]) -> TransientError:
    output = (done.stderr.strip() or done.stdout.strip())[:200]
    return TransientError(f"reason={reason} device={what} status={done.returncode} said={output!r}")
