"""The official `triton` client from npm, as a subprocess with a HOME of its own."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

PINS = Path(__file__).parent.parent / "node" / "package.json"


def installed() -> Path:
    """The client's program, installed once into the user's cache. Raises CalledProcessError with npm's output."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rollcall"
    folder = base / f"node-{hashlib.sha256(PINS.read_bytes()).hexdigest()[:12]}"
    program = folder / "node_modules" / ".bin" / "triton"
    base.mkdir(parents=True, exist_ok=True)
    with (base / "node.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            folder.mkdir(exist_ok=True)
            shutil.copy(PINS, folder / "package.json")
            words = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
            subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return program


def triton(env: Mapping[str, str], *words: str, timeout: float = 120.0) -> str:
    """What `triton WORDS` prints. `env` has TRITON_URL, TRITON_ACCOUNT, TRITON_KEY_ID and TRITON_KEY_FILE, whose key the
    client finds as it always does: in `~/.ssh`. AssertionError with what it said when it fails."""
    program = installed()
    with tempfile.TemporaryDirectory(prefix="rollcall-triton-") as home:
        keys = Path(home) / ".ssh"
        keys.mkdir(mode=0o700)
        shutil.copy(env["TRITON_KEY_FILE"], keys / "id_rsa")
        shutil.copy(f"{env['TRITON_KEY_FILE']}.pub", keys / "id_rsa.pub")
        told = {name: env[name] for name in ("TRITON_URL", "TRITON_ACCOUNT", "TRITON_KEY_ID")}
        done = subprocess.run(
            [str(program), *words],
            env={"HOME": home, "PATH": os.environ["PATH"], **told},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    assert done.returncode == 0, f"triton {' '.join(words)}: {done.stderr[-2000:]}"
    return done.stdout
