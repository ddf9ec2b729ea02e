"""npm's `triton`, installed once for each version of tests/node/package.json, outside the checkout.

`python -m tests.cloud.triton_client` installs it, where there is npm.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

_NODE = Path(__file__).resolve().parents[1] / "node"
_PACKAGE = _NODE / "package.json"
# For `node -r`: its polls are ten times as quick.
HURRY = _NODE / "hurry.js"
_LATE_S = 120.0


class Resident:
    """One process that runs command after command of `triton`, with `environ`; it begins with the first. `options` are node's."""

    def __init__(self, environ: Mapping[str, str], *options: str) -> None:
        self._environ, self._options = environ, options
        self._node: subprocess.Popen[str] | None = None

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What `triton WORDS` prints and its exit status, as from its own process."""
        if self._node is None:
            self._node = subprocess.Popen(
                ["node", *self._options, str(_NODE / "resident.js"), str(installed().parents[1])],
                env=dict(self._environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        requests, given = self._node.stdin, self._node.stdout
        assert requests is not None and given is not None
        late = threading.Timer(_LATE_S, self._node.kill)
        late.start()
        requests.write(f"{json.dumps(words)}\n")
        requests.flush()
        line = given.readline()
        late.cancel()
        assert line, f"`triton {' '.join(words)}` ended its process, or took over {_LATE_S:g} s"
        found = json.loads(line)
        return subprocess.CompletedProcess(words, found["status"], found["stdout"], found["stderr"])

    def stop(self) -> None:
        if self._node is not None:
            # At the end of its commands it ends.
            self._node.communicate(timeout=_LATE_S)
            self._node = None


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


def main() -> int:
    if shutil.which("npm") is None:
        print("==> triton: npm is not on the PATH, so the tests by npm's `triton` are skipped", file=sys.stderr)
        return 0
    try:
        installed()
    except RuntimeError as fault:
        print(f"triton: {fault}\nCheck that npm's registry can be reached, or take npm off the PATH.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
