"""npm's `triton`, installed once for each version of tests/node/package.json, outside the checkout."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1] / "node" / "package.json"


def installed() -> Path:
    """The program. Raises RuntimeError, with npm's own words, where it cannot be installed."""
    digest = hashlib.sha256(_PACKAGE.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rollcall"
    folder = cache / f"node-{digest}"
    program = folder / "node_modules" / "triton" / "bin" / "triton"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"node-{digest}.lock").open("w") as lock:
        # Two test runs may want it at the same time.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _install(folder)
    return program


def _install(folder: Path) -> None:
    fresh = folder.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.mkdir()
    shutil.copy(_PACKAGE, fresh)
    # Its only scripts build optional native parts, which it does without.
    command = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=fresh, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"npm install of triton failed:\n{done.stdout}{done.stderr}")
    fresh.rename(folder)
