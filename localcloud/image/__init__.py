"""The one Debian image that the machines of every local cloud boot.

`python -m localcloud.image` builds it. It is layers for overlayfs: `base` is a bare Debian, `nginx` what installing nginx
adds to it, and `repo` holds the packages of that step as a flat package repository, for a machine without nginx to
install from. The images of the local catalogue are stacks of these layers.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

SUITE = "bookworm"
ROOTFS = Path(__file__).parent / "rootfs"

# Names of the local catalogue; the topmost layer first, as in overlayfs' `lowerdir`.
STACKS: dict[str, tuple[str, ...]] = {
    "debian-12": ("nginx", "base"),
    "debian-12-bare": ("base",),
}
# Debian stands in where a stack asks for Ubuntu; the catalogues of the local clouds say so in the image's description.
STAND_INS = {"ubuntu-24.04": "debian-12"}


class ImageError(Exception):
    """The image cannot be built or used; the message says why and what mends it."""


@dataclass(frozen=True)
class Image:
    """A finished image below `root`."""

    root: Path

    def layers(self, name: str) -> tuple[Path, ...]:
        """The layers of the catalogue's image `name`, topmost first; ImageError if there is no such image."""
        stack = STACKS.get(STAND_INS.get(name, name))
        if stack is None:
            raise ImageError(f"no image {name!r}; the catalogue has {', '.join([*STACKS, *STAND_INS])}")
        return tuple(self.root / layer for layer in stack)

    @property
    def repository(self) -> Path:
        """A directory that served over HTTP is a flat, unsigned package repository (`deb [trusted=yes] URL ./`)."""
        return self.root / "repo"

    @property
    def complete(self) -> bool:
        """Whether it is there; it appears by a rename, so never in part."""
        return (self.root / "manifest.json").exists()


def cache_dir() -> Path:
    """Where what is expensive to make is kept, outside any checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "rollcall"


def current() -> Image:
    """The image that belongs to the sources beside this file, built or not."""
    return Image(cache_dir() / f"image-{_hash_of_inputs(Path(__file__).parent)}")


def _hash_of_inputs(folder: Path) -> str:
    """Of what decides the image's content; what is not in the image (this file, how sources are found) is left out."""
    digest = hashlib.sha256(SUITE.encode())
    for path in [folder / "build.py", *sorted((folder / "rootfs").rglob("*"))]:
        if path.is_dir() and not path.is_symlink():
            continue
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        executable = not path.is_symlink() and bool(path.stat().st_mode & 0o100)
        digest.update(f"{path.relative_to(folder)}\0{executable}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]
