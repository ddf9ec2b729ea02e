"""Pack a workload's definition and files into a release: a tar, named by its SHA-256.

The same input makes the same bytes on every system and in every Python: members are sorted, without owners and times.
Of a file's mode only whether its owner may run it is kept, as git does. A member that could lead out of the folder, or
that is not a plain file, is refused here as on the machine (userdata/rollcall/workloads.py).
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from components.workloads.manifest import Manifest
from components.workloads.release import LARGE, Release
from rollcall.safe_paths import link_stays

# The same limits when packing and when unpacking. https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html takes 5 GiB.
UNPACKED_LIMIT, MOST_MEMBERS = 512 << 20, 50_000
_MEMBER = 2_048
DEFINITION, FILES = "workload.json", "files"
# Files that many folders have and that must not get to a machine. A line of `exclude` may include one again: `!.env`.
EXCLUDED = (
    ".git",
    ".hg",
    ".svn",
    ".DS_Store",
    "__pycache__",
    "*.pyc",
    ".env",
    ".env.*",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".ssh",
    ".aws",
    "id_rsa",
    "id_ed25519",
)


class PackingError(Exception):
    """The files cannot be packed: `problem` follows the path, `fix` says what to do."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem}. {fix}")
        self.problem, self.fix = problem, fix


def pack(definition: Mapping[str, Any], folder: Path | None = None, exclude: Sequence[str] = ()) -> Release:
    """Return the release of a workload. Raises PackingError.

    `folder` has its files, without those that the lines of a .gitignore in `exclude` name.
    """
    text = json.dumps(definition, sort_keys=True, indent=1, ensure_ascii=True) + "\n"
    files = tuple(files_of(folder, exclude)) if folder else ()
    # With what a tar needs for a member: two headers, and the rest of a block.
    size = sum(_MEMBER + (0 if file.is_symlink() else file.stat().st_size) for _, file in files)
    if size > UNPACKED_LIMIT or len(files) >= MOST_MEMBERS:
        raise PackingError(
            f"has more than {UNPACKED_LIMIT >> 20} MiB or {MOST_MEMBERS} files",
            "Exclude what no machine needs (exclude), or publish it as an artifact",
        )
    seen = Manifest()
    if size > LARGE:
        hashed = _Hashed()
        _write(text, files, cast("IO[bytes]", hashed), seen)
        digest = hashed.digest()
        return Release(digest=digest, rewrite=functools.partial(_rewrite, text, files, digest), manifest=seen.text())
    found = io.BytesIO()
    _write(text, files, found, seen)
    digest = hashlib.sha256(found.getvalue()).hexdigest()
    return Release(digest=digest, tar=found.getvalue(), manifest=seen.text())


class _Hashed:
    """A file that only keeps the SHA-256 of what is written to it."""

    def __init__(self, to: IO[bytes] | None = None) -> None:
        self._hash, self._to, self._size = hashlib.sha256(), to, 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self._size += len(data)
        return self._to.write(data) if self._to else len(data)

    def tell(self) -> int:
        return self._size

    def digest(self) -> str:
        return self._hash.hexdigest()


def _rewrite(text: str, files: Sequence[tuple[str, Path]], digest: str, to: IO[bytes]) -> None:
    """Write the tar with this digest again. Raises PackingError if a file has changed since."""
    hashed = _Hashed(to)
    try:
        _write(text, files, cast("IO[bytes]", hashed))
    except OSError as unread:
        raise PackingError(
            f"cannot be read any more ({unread.strerror}: {unread.filename})", "Run it again"
        ) from unread
    if hashed.digest() != digest:
        raise PackingError("has changed while it was packed", "Run it again")


def _write(text: str, files: Sequence[tuple[str, Path]], to: IO[bytes], seen: Manifest | None = None) -> None:
    """Write the tar, and note its files in `seen`."""
    seen = seen or Manifest()
    # GNU's format allows names of any length and contains nothing that differs from builder to builder.
    with tarfile.open(fileobj=to, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8") as archive:
        _add(archive, DEFINITION, io.BytesIO(text.encode()), len(text.encode()))
        for path, file in files:
            if file.is_symlink():
                _add_link(archive, path, file)
                seen.link(path, file.readlink().as_posix())
            else:
                with file.open("rb") as opened:
                    found = os.fstat(opened.fileno())
                    mode = 0o755 if found.st_mode & 0o100 else 0o644
                    content = cast("IO[bytes]", seen.file(path, mode, opened))
                    _add(archive, f"{FILES}/{path}", content, found.st_size, mode)


def _add(archive: tarfile.TarFile, name: str, file: IO[bytes], size: int, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, mode
    archive.addfile(member, file)


def _add_link(archive: tarfile.TarFile, path: str, file: Path) -> None:
    target = file.readlink().as_posix()
    if not link_stays(path, target):
        raise PackingError(
            f"has the link {path} to {target}, which leads out of it or steps back behind a name",
            "Link to a path within it, relative and with each `..` at the beginning, or exclude the link",
        )
    member = tarfile.TarInfo(f"{FILES}/{path}")
    member.type, member.linkname, member.mode = tarfile.SYMTYPE, target, 0o777
    archive.addfile(member)


def files_of(folder: Path, exclude: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Yield each plain file and link below a folder with its path there, sorted by the bytes of the path."""
    import pathspec

    excluded = pathspec.GitIgnoreSpec.from_lines([*EXCLUDED, *exclude])
    found = sorted(_below(folder, ""), key=lambda each: each[0].encode(errors="surrogateescape"))
    for path, file in found:
        if excluded.match_file(path):
            continue
        if not path.isprintable():
            raise PackingError(
                f"has the name {path!a}, which is not printable text in UTF-8", "Rename it, or exclude it"
            )
        _check_kind(path, file)
        yield path, file


def _below(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    for each in folder.iterdir():
        path = f"{prefix}{each.name}"
        if each.is_dir() and not each.is_symlink():
            # Its content changes with each command, and no machine needs it.
            if each.name != ".git":
                yield from _below(each, f"{path}/")
        else:
            yield path, each


def _check_kind(path: str, file: Path) -> None:
    """Refuse a file that is neither a link nor a plain file with one name."""
    found = file.lstat()
    if stat.S_ISLNK(found.st_mode):
        return
    if not stat.S_ISREG(found.st_mode):
        raise PackingError(f"has {path}, which is a device, a pipe or a socket", "Take it out, or exclude it")
    if found.st_nlink > 1:
        raise PackingError(f"has {path}, which is a hard link", "Copy the file (cp), or exclude it")
