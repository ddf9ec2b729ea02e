"""A control group for each machine, so that all of it can be found, frozen and killed at once.

systemd in a machine needs its own group in the unified hierarchy and, on hosts in hybrid mode, the same path in
`name=systemd`: without that, two machines' systemd would manage the same groups (systemd-nspawn(1), --keep-unit). Where the `cpu`
controller has its own hierarchy, a machine has a group there too: all of a machine that boots then has one share of the
processors, as each process of those that serve, since no real machine's boot takes another's processors.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Of version 1, where they are mounted.
_LEGACY = ("name=systemd", "cpu")


class CgroupError(Exception):
    """This host has no unified cgroup hierarchy that machines could live in."""


@dataclass(frozen=True)
class Group:
    """One group, as its directory in each hierarchy; the unified one (cgroup v2) comes first."""

    folders: tuple[Path, ...]

    @classmethod
    def below_own(cls, *names: str) -> Group:
        """The group `names` below the one that this process is in, which is ours to divide."""
        return cls(tuple(folder.joinpath(*names) for folder in own_folders()))

    def create(self) -> None:
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def exists(self) -> bool:
        return self.folders[0].exists()

    def pids(self) -> Iterator[int]:
        """Every process of the group and of those below it."""
        for listing in [self.folders[0] / "cgroup.procs", *self.folders[0].rglob("cgroup.procs")][1:]:
            # A group below may vanish while it is read.
            with contextlib.suppress(OSError):
                yield from (int(line) for line in listing.read_text().split())

    def kill(self) -> None:
        """Send SIGKILL to all processes at once, also to frozen ones (https://docs.kernel.org/admin-guide/cgroup-v2.html)."""
        with contextlib.suppress(FileNotFoundError):
            (self.folders[0] / "cgroup.kill").write_text("1")

    def freeze(self, frozen: bool) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.folders[0] / "cgroup.freeze").write_text("1" if frozen else "0")

    def remove(self, patience: float = 5.0) -> bool:
        """Kill what is in the group and remove it. Return whether that was done within `patience` seconds."""
        deadline = time.monotonic() + patience
        while True:
            self.kill()
            if all([_remove_tree(folder) for folder in self.folders]):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)


def own_folders() -> tuple[Path, ...]:
    """The directories of this process's own group: cgroup v2 and, if mounted, `name=systemd` and `cpu`; CgroupError without v2."""
    mounts = _mounts(Path("/proc/self/mountinfo").read_text())
    own = _memberships(Path("/proc/self/cgroup").read_text())
    if "" not in mounts or "" not in own:
        raise CgroupError("cgroup2: machines need the unified cgroup hierarchy. Mount it, alone or in hybrid mode.")
    return tuple(mounts[name] / own[name].lstrip("/") for name in ("", *_LEGACY) if name in mounts and name in own)


def _mounts(mountinfo: str) -> dict[str, Path]:
    """Where the hierarchies of interest are mounted; "" is the unified one (format: proc_pid_mountinfo(5))."""
    found: dict[str, Path] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        names = {"cgroup2": {""}, "cgroup": {*_LEGACY} & {*options.split(",")}}.get(kind, set())
        for name in names:
            found.setdefault(name, Path(before.split(" ")[4]))
    return found


def _memberships(text: str) -> dict[str, str]:
    """Controller -> path of the group this process is in; "" is the unified hierarchy (cgroups(7))."""
    lines = (line.split(":", 2) for line in text.splitlines())
    return {controller: path for _, controllers, path in lines for controller in controllers.split(",")}


def _remove_tree(folder: Path) -> bool:
    if not folder.exists():
        return True
    for child in sorted(folder.rglob("*/"), reverse=True):
        if child.is_dir():
            with contextlib.suppress(OSError):
                child.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()
