"""Name releases in a store, and write them into a folder under the same names."""

from __future__ import annotations

import bz2
import hashlib
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, cast

from components.workloads.release import Release

FOLDER = "releases"
_SUFFIX = ".tar.bz2"
_CHUNK = 1 << 20


def key_of(digest: str) -> str:
    """Return a release's key in its bucket, as userdata/get_release.py asks for it."""
    return f"{FOLDER}/{digest}{_SUFFIX}"


def digest_of(key: str) -> str:
    """Return the digest of the release with this key."""
    return key.rpartition("/")[2].removesuffix(_SUFFIX)


def digest_in(file: Path) -> str:
    """Return the SHA-256 of what a file of bzip2 contains; an empty text if it is damaged."""
    found = hashlib.sha256()
    try:
        with bz2.open(file) as packed:
            while part := packed.read(_CHUNK):
                found.update(part)
    except (EOFError, OSError):
        return ""
    return found.hexdigest()


def write(folder: Path, releases: Iterable[Release]) -> list[Path]:
    """Write releases below a folder, each under its key, if they are not there. A file appears only when it is complete.

    A damaged file is written again. Return their paths. Raises PackingError if a file of a large release has changed since it was packed.
    """
    written = []
    for release in releases:
        path = folder / key_of(release.digest)
        written.append(path)
        if path.is_file() and digest_in(path) == release.digest:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".new", delete=False) as fresh:
            try:
                release.pack_into(cast("IO[bytes]", fresh))
            except BaseException:
                Path(fresh.name).unlink()
                raise
        Path(fresh.name).chmod(0o644)
        Path(fresh.name).replace(path)
    return written


def clean_up(folder: Path, keep: Iterable[str], seconds: float = 86_400.0) -> None:
    """Delete files of releases that are not in `keep` (their keys) and older than this: another stack may be using younger ones."""
    kept = {folder / key for key in keep}
    for path in (folder / FOLDER).glob("*"):
        if path not in kept and path.stat().st_mtime < time.time() - seconds:
            path.unlink(missing_ok=True)
