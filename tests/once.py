"""Make a file once in a test run, whichever of xdist's workers needs it first."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest


def run_folder(config: pytest.Config, factory: pytest.TempPathFactory) -> Path:
    """Return the folder of this test run, one for all of its workers; pytest deletes it some runs later."""
    own = factory.getbasetemp()
    return own.parent if hasattr(config, "workerinput") else own


def made_once(folder: Path, name: str, make: Callable[[], str]) -> str:
    """Return the text of the file `name` in `folder`. The first that asks makes it; others wait for that, in other processes too."""
    path = folder / name
    with path.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            partial = path.with_name(f"{name}.partial")
            partial.write_text(make())
            partial.rename(path)
    return path.read_text()
