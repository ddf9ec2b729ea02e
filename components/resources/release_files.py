"""Name releases in a store, and write them into a folder under the same names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from components.workloads.release import Release

FOLDER = "releases"
_SUFFIX = ".tar.bz2"


def key_of(digest: str) -> str:
    """Return a release's key in its bucket, as userdata/get_release.py asks for it."""
    return f"{FOLDER}/{digest}{_SUFFIX}"


def digest_of(key: str) -> str:
    """Return the digest of the release with this key."""
    return key.rpartition("/")[2].removesuffix(_SUFFIX)


def write(folder: Path, releases: Iterable[Release]) -> list[Path]:
    """Write releases below a folder, each under its key. A file appears only when it is complete. Return their paths."""
    written = []
    for release in releases:
        path = folder / key_of(release.digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(release.packed)
        fresh.replace(path)
        written.append(path)
    return written
