"""Python interpreters of other versions on this machine, for tests that must hold whoever runs the program."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
_PROBE = "import bz2, zlib, sys; print(*sys.version_info[:2], sep='.')"


@functools.cache
def python(version: str) -> str | None:
    """Return an interpreter of this version that works: this one, one of the PATH, or one of pyenv."""
    return next((each for each in _candidates(version) if _version(each) == version), None)


def oldest() -> str:
    """Return the oldest interpreter that there is; this one, if there is no other."""
    return next(found for each in VERSIONS if (found := python(each)))


def _candidates(version: str) -> Iterator[str]:
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        yield sys.executable
    on_path = shutil.which(f"python{version}")
    if on_path:
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}")))


def _version(program: str) -> str:
    # A shim of pyenv is on the PATH even where its version is not chosen; then it fails.
    done = subprocess.run([program, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip()
