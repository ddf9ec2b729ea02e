"""A flat package repository: the index of a directory of .deb files, in apt's format, without tools beyond dpkg."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from email.utils import formatdate
from pathlib import Path


def write_index(folder: Path) -> list[str]:
    """Write `Packages`, `Packages.gz` and `Release` for the .deb files in `folder`; the names of the packages.

    Format: https://wiki.debian.org/DebianRepository/Format ("Flat Repository Format").
    """
    stanzas, names = [], []
    for deb in sorted(folder.glob("*.deb")):
        control = subprocess.run(["dpkg-deb", "--field", deb], capture_output=True, text=True, check=True).stdout
        names += [line.partition(": ")[2] for line in control.splitlines() if line.startswith("Package: ")]
        content = deb.read_bytes()
        stanzas.append(
            f"{control.rstrip()}\nFilename: ./{deb.name}\nSize: {len(content)}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
        )
    packages = "\n".join(stanzas).encode()
    (folder / "Packages").write_bytes(packages)
    (folder / "Packages.gz").write_bytes(gzip.compress(packages, mtime=0))
    (folder / "Release").write_text(_release(folder, ("Packages", "Packages.gz")))
    return names


def _release(folder: Path, indexes: tuple[str, ...]) -> str:
    lines = ["Origin: Rollcall", "Label: Rollcall local packages", "Suite: local", "Codename: local"]
    lines += [f"Date: {formatdate(usegmt=True)}", "Architectures: amd64 arm64 all", "SHA256:"]
    for name in indexes:
        content = (folder / name).read_bytes()
        lines.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}")
    return "\n".join(lines) + "\n"
