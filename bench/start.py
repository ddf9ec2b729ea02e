"""How long `make up` takes from nothing and again, where the time goes, and what the rehearsal holds in memory.

    make bench-start            # warm; cold as well with COLD=1 (builds engine, .venv and image anew in a cache of its own)

Every figure is a whole-process figure of this machine; ratios to yours are for you to take.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def timed(words: list[str], folder: Path, env: dict[str, str]) -> float:
    began = time.monotonic()
    subprocess.run(words, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.monotonic() - began


def report(name: str, total: float, folder: Path) -> None:
    steps = json.loads((folder / ".rollcall/prepare.json").read_text())
    steps |= json.loads((folder / ".rollcall/local/up.json").read_text())
    print(f"\n{name}: {total:.1f} s")
    for step, seconds in steps.items():
        print(f"  {step:<13} {seconds:7.1f} s  {100 * seconds / total:5.1f} %")


def memory(folder: Path) -> None:
    """Proportional set sizes: of the daemon, and of each machine with everything in it."""
    lc = [str(folder / ".venv/bin/python"), "-m", "localcloud"]
    status = json.loads(subprocess.run([*lc, "status", "--json"], cwd=folder, capture_output=True, check=True).stdout)
    print(f"\nmemory\n  local clouds  {status['rss'] / 2**20:7.1f} MiB (goal: under 600)")
    for each, size in status["machines"].items():
        print(f"  {each:<37} {size / 2**20:7.1f} MiB (goal: under 120)")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="rollcall-bench-") as scratch:
        clone = Path(scratch) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        env = dict(os.environ)
        if os.environ.get("COLD"):
            env["XDG_CACHE_HOME"] = str(Path(scratch) / "cache")
        try:
            report(
                "cold" if os.environ.get("COLD") else "first run, caches there",
                timed(["make", "up"], clone, env),
                clone,
            )
            report("again at once", timed(["make", "up"], clone, env), clone)
            memory(clone)
        finally:
            took = timed(["make", "down"], clone, env)
            print(f"\nmake down: {took:.1f} s")
            shutil.rmtree(clone, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
