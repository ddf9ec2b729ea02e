"""The official `triton` client from npm, as a subprocess with its own HOME."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.cloud.triton_client import installed


def triton(env: Mapping[str, str], *words: str, timeout: float = 120.0) -> str:
    """What `triton WORDS` prints. `env` has TRITON_URL, TRITON_ACCOUNT, TRITON_KEY_ID and TRITON_KEY_FILE, whose key the
    client finds as it always does: in `~/.ssh`. AssertionError with its output when it fails."""
    program = installed()
    with tempfile.TemporaryDirectory(prefix="rollcall-triton-") as home:
        keys = Path(home) / ".ssh"
        keys.mkdir(mode=0o700)
        shutil.copy(env["TRITON_KEY_FILE"], keys / "id_rsa")
        shutil.copy(f"{env['TRITON_KEY_FILE']}.pub", keys / "id_rsa.pub")
        given = {name: env[name] for name in ("TRITON_URL", "TRITON_ACCOUNT", "TRITON_KEY_ID")}
        done = subprocess.run(
            ["node", str(program), *words],
            env={"HOME": home, "PATH": os.environ["PATH"], **given},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    assert done.returncode == 0, f"triton {' '.join(words)}: {done.stderr[-2000:]}"
    return done.stdout
