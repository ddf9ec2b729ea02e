"""Measure how long `make up` takes from nothing and again, where the time goes, and how much memory the sandbox uses.

    make bench-start            # warm; cold as well with COLD=1 (builds engine, .venv and image again in a separate cache);
                                # UP=0 for the imports alone

It also measures how long the program's imports take beside those of the SDKs alone. Every figure is for a whole process
on this machine; to calculate ratios to other machines is up to the reader.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.rows import Row, in_turn, median_ratio, report  # noqa: E402

SDKS = "import pulumi, pulumi_aws, pulumi_cloudflare, pulumi_command"
ROUNDS = int(os.environ.get("ROUNDS", "7"))
COLD_GOAL, WARM_GOAL, IMPORT_GOAL = 600.0, 60.0, 1.2


def imports_of_the_program() -> str:
    """Return the imports in the text of `__main__.py`, and what a site then imports of Cloudflare's SDK."""
    body = ast.parse((ROOT / "__main__.py").read_text()).body
    used = "from components.resources import cloudflare_sdk as cloudflare\nfor each in cloudflare.NAMES: getattr(cloudflare, each)"
    return "\n".join([ast.unparse(each) for each in body if isinstance(each, (ast.Import, ast.ImportFrom))] + [used])


def imported(code: str) -> float:
    """Return the seconds from the start of the interpreter to its end, when it runs only this code."""
    began = time.monotonic()
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'userdata'}"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True)
    return time.monotonic() - began


def imports() -> Row:
    sides = {"program": imports_of_the_program(), "sdks": SDKS}
    for code in sides.values():
        imported(code)
    found = in_turn({side: (lambda code=code: imported(code)) for side, code in sides.items()}, ROUNDS)  # type: ignore[misc]
    ratio = median_ratio(found["program"], found["sdks"])
    return Row(
        question="import time of the program",
        ours=f"{statistics.median(found['program']):.2f} s",
        other=f"imports of the four SDKs alone: {statistics.median(found['sdks']):.2f} s",
        ratio=ratio,
        n=f"{ROUNDS} rounds",
        goal=f"≤ {IMPORT_GOAL} ×",
        met=ratio <= IMPORT_GOAL,
        why="Cloudflare's SDK is the largest of the four. Of its modules, the program imports only those that it uses, and only if the"
        " stack has a site.",
    )


def timed(words: list[str], folder: Path, env: dict[str, str]) -> float:
    began = time.monotonic()
    subprocess.run(words, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.monotonic() - began


def parts(name: str, total: float, goal: float, folder: Path) -> Row:
    """Return the row of one `make up`, with the four steps that took longest."""
    steps = json.loads((folder / ".rollcall/logs/prepare.json").read_text())
    steps |= json.loads((folder / ".rollcall/local/up.json").read_text())
    longest = sorted(steps.items(), key=lambda each: -each[1])[:4]
    return Row(
        question=f"`make up`, {name}",
        ours=f"{total:.0f} s",
        n="1",
        goal=f"≤ {goal:.0f} s",
        met=total <= goal,
        why="Longest: " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in longest) + ".",
    )


def memory(folder: Path) -> list[Row]:
    """Return proportional set sizes: of the daemon, and of the largest machine with everything in it."""
    lc = [str(folder / ".venv/bin/python"), "-m", "localcloud"]
    status = json.loads(subprocess.run([*lc, "status", "--json"], cwd=folder, capture_output=True, check=True).stdout)
    clouds, machines = status["rss"] / 2**20, [each / 2**20 for each in status["machines"].values()]
    return [
        Row(
            question="memory of the local clouds",
            ours=f"{clouds:.0f} MiB",
            n="1",
            goal="< 600 MiB",
            met=clouds < 600,
        ),
        Row(
            question="memory of all processes of a machine, the largest",
            ours=f"{max(machines):.0f} MiB",
            n=str(len(machines)),
            goal="< 120 MiB",
            met=max(machines) < 120,
        ),
    ]


def ups() -> list[Row]:
    rows = []
    cold = bool(os.environ.get("COLD"))
    with tempfile.TemporaryDirectory(prefix="rollcall-bench-") as scratch:
        clone = Path(scratch) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        env = dict(os.environ)
        if cold:
            env["XDG_CACHE_HOME"] = str(Path(scratch) / "cache")
        try:
            first = "cold: engine, .venv and image built again" if cold else "in a new clone, with filled caches"
            rows.append(parts(first, timed(["make", "up"], clone, env), COLD_GOAL, clone))
            rows.append(parts("again at once", timed(["make", "up"], clone, env), WARM_GOAL, clone))
            rows += memory(clone)
        finally:
            timed(["make", "down"], clone, env)
            shutil.rmtree(clone, ignore_errors=True)
    return rows


def main() -> int:
    return report("start", [imports(), *(ups() if os.environ.get("UP") != "0" else [])])


if __name__ == "__main__":
    sys.exit(main())
