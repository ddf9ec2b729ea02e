"""The Python interpreters of this machine as builders of the release: it must not matter which one the operator has."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
ROOT = Path(__file__).resolve().parents[2]
_PROBE = "import bz2, zlib, sys; print(*sys.version_info[:2], sep='.')"
_BUILD = """
import json
from components.resources import userdata as u
print(json.dumps({"text": u.build(), "digest": u.release().digest, "sources": u.sources_hash()}))
"""


def built_by(version: str) -> dict[str, Any]:
    """What a builder of that Python version makes of these sources: the whole `text`, the release's `digest`, and the hash of the
    `sources`. It has nothing but the standard library. Skips the test where there is none."""
    program = python(version)
    if program is None:
        pytest.skip(f"no Python {version} on this machine, neither on the PATH nor of pyenv")
    # The locale, the time zone and the mask of whoever builds may not matter.
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "LC_ALL": "C", "TZ": "Pacific/Auckland"}
    command = [program, "-S", "-B", "-X", "utf8=0", "-c", _BUILD]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    built: dict[str, Any] = json.loads(done.stdout)
    return built


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
