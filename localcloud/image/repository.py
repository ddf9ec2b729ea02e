"""A flat package repository: the index of a directory of .deb files, in apt's format, without tools beyond dpkg."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from collections.abc import Iterable
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


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


def serve(folder: Path) -> WSGIApplication:
    """A WSGI application that serves the repository in `folder`, for apt: GET and HEAD of its files, nothing else."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # Flat, so only a last component can name a file; "./" is how apt writes the folder itself.
        name = environ.get("PATH_INFO", "").rpartition("/")[2]
        path = folder / name
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Length", "0")])
            return []
        if name in ("", ".", "..") or not path.is_file():
            start_response("404 Not Found", [("Content-Length", "0")])
            return []
        content = path.read_bytes()
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(content)))])
        return [content] if environ["REQUEST_METHOD"] == "GET" else []

    return application


def _release(folder: Path, indexes: tuple[str, ...]) -> str:
    lines = ["Origin: Rollcall", "Label: Rollcall local packages", "Suite: local", "Codename: local"]
    lines += [f"Date: {formatdate(usegmt=True)}", "Architectures: amd64 arm64 all", "SHA256:"]
    for name in indexes:
        content = (folder / name).read_bytes()
        lines.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}")
    return "\n".join(lines) + "\n"
