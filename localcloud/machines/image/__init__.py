"""The Debian images that the machines of every local cloud boot, one for each release.

`python -m localcloud.machines.image [RELEASE]` builds one. It is layers for overlayfs: `base` is a bare Debian, `nginx` what installing
nginx adds to it, and `repo` holds the packages of that step as a flat package repository, for a machine without nginx to
install from. The images of the local catalogue are stacks of these layers.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

# The suite of each release, and the release that is built in any case; others are built when a machine first wants one.
SUITES = {"debian-12": "bookworm", "debian-13": "trixie"}
USUAL = "debian-12"
ROOTFS = Path(__file__).parent / "rootfs"

# Names of the local catalogue; the topmost layer first, as in overlayfs' `lowerdir`.
STACKS: dict[str, tuple[str, ...]] = {
    name: layers
    for release in SUITES
    for name, layers in ((release, ("nginx", "base")), (f"{release}-bare", ("base",)))
}
# Debian replaces Ubuntu if a stack asks for it. The catalogues of the local clouds say so in the image's description.
STAND_INS = {"ubuntu-24.04": "debian-12"}


class ImageError(Exception):
    """The image cannot be built or used. The message has the cause and the fix."""


@dataclass(frozen=True)
class Image:
    """A finished image of one release below `root`."""

    root: Path

    def layers(self, name: str) -> tuple[Path, ...]:
        """The layers of the catalogue's image `name`, topmost first; ImageError if there is no such image."""
        return tuple(self.root / layer for layer in STACKS[_stack_of(name)])

    @property
    def repository(self) -> Path:
        """A directory that served over HTTP is a flat, unsigned package repository (`deb [trusted=yes] URL ./`)."""
        return self.root / "repo"

    @property
    def complete(self) -> bool:
        """Whether it is there; it appears by a rename, so never in part."""
        return (self.root / "manifest.json").exists()


def release_of(name: str) -> str:
    """The release that the catalogue's image `name` is of; ImageError if there is no such image."""
    return _stack_of(name).removesuffix("-bare")


def _stack_of(name: str) -> str:
    stack = STAND_INS.get(name, name)
    if stack not in STACKS:
        raise ImageError(f"image {name!r}: does not exist. Choose one of {', '.join([*STACKS, *STAND_INS])}.")
    return stack


def cache_dir() -> Path:
    """Where what is expensive to make is kept, outside any checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "rollcall"


def current(release: str = USUAL) -> Image:
    """The image of a release that belongs to the sources beside this file, built or not."""
    return Image(cache_dir() / f"image-{_hash_of_inputs(Path(__file__).parent, SUITES[release])}")


def _hash_of_inputs(folder: Path, suite: str = SUITES[USUAL]) -> str:
    """Return the hash of all files that determine the image's content. This file and sources.py do not, so they are left out."""
    digest = hashlib.sha256(suite.encode())
    for path in [folder / "build.py", *sorted((folder / "rootfs").rglob("*"))]:
        if path.is_dir() and not path.is_symlink():
            continue
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        executable = not path.is_symlink() and bool(path.stat().st_mode & 0o100)
        digest.update(f"{path.relative_to(folder)}\0{executable}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]
