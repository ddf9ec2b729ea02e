"""Programs of Debian's packages that a test runs: those of this machine, else unpacked in the cache, where nothing is started or set up."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from localcloud.runtime.prepare import cache

# By the program's name, the package that brings it.
PACKAGES = {
    "unbound": "unbound",
    "dnsmasq": "dnsmasq-base",
    "haproxy": "haproxy",
    "prometheus": "prometheus",
    "named": "bind9",
    "knotd": "knot",
    "docker-registry": "docker-registry",
    "busybox": "busybox-static",
}
_FOLDERS = ("usr/sbin", "usr/bin", "bin")
_LATE_S = 300.0


class NoProgramError(Exception):
    """apt-get cannot bring a program; the message has its last words."""


@dataclass(frozen=True)
class Program:
    """A program's path, and the environment that it needs."""

    path: str
    env: dict[str, str] = field(default_factory=dict)


def program(name: str) -> Program:
    """Return a program of PACKAGES. Raises NoProgramError where it cannot be had."""
    if found := shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        return Program(found, dict(os.environ))
    root = unpacked(PACKAGES[name])
    path = next((root / folder / name for folder in _FOLDERS if (root / folder / name).exists()), None)
    if path is None:
        raise NoProgramError(f"{name}: the package {PACKAGES[name]} does not have it")
    libraries = ":".join(map(str, sorted({each.parent for each in root.rglob("*.so*")})))
    return Program(str(path), {**os.environ, "LD_LIBRARY_PATH": libraries})


def crates(package: str) -> Path:
    """Return the folder with the source of a Rust library of Debian, and of what it needs. Raises NoProgramError where it cannot be had."""
    return unpacked(package) / "usr/share/cargo/registry"


def unpacked(package: str) -> Path:
    """The files of a package, and of what it needs that this machine lacks."""
    place = cache() / "programs"
    place.mkdir(parents=True, exist_ok=True)
    root = place / package
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            with tempfile.TemporaryDirectory(dir=place) as folder:
                _fetch(package, Path(folder)).rename(root)
    return root


def _fetch(package: str, folder: Path) -> Path:
    archives, root = folder / "archives", folder / "root"
    (archives / "partial").mkdir(parents=True)
    root.mkdir()
    words = ["apt-get", "install", "-y", "-q", "--download-only", "--no-install-recommends"]
    _run([*words, "-o", f"Dir::Cache::archives={archives}", package])
    for each in sorted(archives.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(each), str(root)])
    return root


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=_LATE_S, check=False)
    if done.returncode:
        raise NoProgramError(
            f"{words[-1]}: {words[0]} failed with {done.returncode}: {(done.stdout + done.stderr)[-800:]}"
        )
