"""Count the files that differ between two releases. The state keeps a short text for each workload, and no content."""

from __future__ import annotations

import hashlib
from typing import IO

# A release with more files has no manifest, so that the state stays small: a file takes 12 characters.
MOST_FILES = 2000
_DIGITS = 6


class Manifest:
    """What is known of the files of a release while it is packed: six digits for the path of each, and six for its mode and content."""

    def __init__(self) -> None:
        self._found: dict[str, _Read | str] = {}

    def link(self, path: str, target: str) -> None:
        """Note a link."""
        self._found[path] = _digits(f"link {target}".encode(errors="surrogateescape"))

    def file(self, path: str, mode: int, content: IO[bytes]) -> _Read:
        """Note a file. Read its content from what this returns."""
        found = self._found[path] = _Read(content, f"file {mode:o} ".encode())
        return found

    def text(self) -> str:
        """Return the manifest. It is empty for a release with more than MOST_FILES files."""
        if len(self._found) > MOST_FILES:
            return ""
        pairs = (
            _digits(path.encode(errors="surrogateescape")) + (each if isinstance(each, str) else each.digits())
            for path, each in self._found.items()
        )
        return "".join(sorted(pairs)) or "0" * 2 * _DIGITS


class _Read:
    """A file that hashes what is read from it."""

    def __init__(self, content: IO[bytes], kind: bytes) -> None:
        self._content, self._hash = content, _hash(kind)

    def read(self, size: int = -1) -> bytes:
        data = self._content.read(size)
        self._hash.update(data)
        return data

    def digits(self) -> str:
        return self._hash.hexdigest()


def changed_files(before: str, after: str) -> int | None:
    """Return how many files differ between two manifests: changed, new and removed ones. None: it is not known."""
    if not before or not after:
        return None
    old, new = _by_path(before), _by_path(after)
    return sum(old.get(path) != new.get(path) for path in {*old, *new})


def _by_path(text: str) -> dict[str, str]:
    size = 2 * _DIGITS
    pairs = (text[at : at + size] for at in range(0, len(text), size))
    return {each[:_DIGITS]: each[_DIGITS:] for each in pairs if each != "0" * size}


def _hash(content: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(content, digest_size=_DIGITS // 2)


def _digits(content: bytes) -> str:
    return _hash(content).hexdigest()
