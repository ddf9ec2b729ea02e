"""The Python interpreters of this machine as builders of the userdata: it must not matter which one the operator has."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import parso
import pytest

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
ROOT = Path(__file__).resolve().parents[2]
_PROBE = "import bz2, zlib, sys; print(*sys.version_info[:2], sep='.')"
_BUILD = """
import json, sys
from components import userdata as u
samples = [u.minified(f"value = {each}", ("value", "a", "c")) for each in json.load(sys.stdin)]
print(json.dumps({"text": u.build(), "sources": u.sources_hash(), "samples": samples}))
"""


def built_by(version: str, samples: Sequence[str] = ()) -> dict[str, Any]:
    """What a builder of that Python version makes of these sources: `text`, the hash of the `sources`, and of each expression
    in `samples` a program. It has nothing but the two packages that it needs. Skips the test where there is none."""
    program = python(version)
    if program is None:
        pytest.skip(f"no Python {version} on this machine, neither on the PATH nor of pyenv")
    with tempfile.TemporaryDirectory() as folder:
        for each in Path(parso.__file__).parent.parent.iterdir():
            if each.name.startswith(("python_minifier", "parso")):
                (Path(folder) / each.name).symlink_to(each)
        # Neither the locale nor the cache of whoever builds may matter.
        env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{folder}", "XDG_CACHE_HOME": folder, "LC_ALL": "C"}
        command = [program, "-S", "-B", "-X", "utf8=0", "-c", _BUILD]
        done = subprocess.run(
            command, env=env, input=json.dumps(samples), capture_output=True, text=True, timeout=120, check=False
        )
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
