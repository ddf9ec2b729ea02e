"""Pack a workload's definition and files into a release: a tar, named by its SHA-256.

The same input makes the same bytes on every system and in every Python: members are sorted, without owners and times.
Of a file's mode only whether its owner may run it is kept, as git does. A member that could lead out of the folder, or
that is not a plain file, is refused here as on the machine (userdata/rollcall/workloads.py).
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.workloads.release import Release
from rollcall.safe_paths import link_stays

# The same limit when packing and when unpacking.
PACKED_LIMIT, UNPACKED_LIMIT, MOST_MEMBERS = 8 << 20, 64 << 20, 50_000
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
    found = io.BytesIO()
    # GNU's format allows names of any length and contains nothing that differs from builder to builder.
    with tarfile.open(fileobj=found, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8") as archive:
        text = json.dumps(definition, sort_keys=True, indent=1, ensure_ascii=True) + "\n"
        _add(archive, DEFINITION, text.encode())
        for count, (path, file) in enumerate(_files(folder, exclude) if folder else (), start=2):
            size = 0 if file.is_symlink() else file.stat().st_size
            if found.tell() + size > UNPACKED_LIMIT or count > MOST_MEMBERS:
                raise _too_large()
            if file.is_symlink():
                _add_link(archive, path, file)
            else:
                mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
                _add(archive, f"{FILES}/{path}", file.read_bytes(), mode)
    if found.tell() > UNPACKED_LIMIT:
        raise _too_large()
    release = Release(digest=hashlib.sha256(found.getvalue()).hexdigest(), tar=found.getvalue())
    if len(release.packed) > PACKED_LIMIT:
        raise PackingError(
            f"has {len(release.packed)} bytes when packed, and a release may have {PACKED_LIMIT}",
            "Exclude what no machine needs (exclude), or publish it as an artifact",
        )
    return release


def _too_large() -> PackingError:
    return PackingError(
        f"has more than {UNPACKED_LIMIT >> 20} MiB or {MOST_MEMBERS} files",
        "Exclude what no machine needs (exclude), or publish it as an artifact",
    )


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    archive.addfile(member, io.BytesIO(data))


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


def _files(folder: Path, exclude: Sequence[str]) -> Iterator[tuple[str, Path]]:
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
