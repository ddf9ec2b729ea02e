"""Mutate input at random for a minute for each parser of foreign input.

    make bench-fuzz             # SECONDS each, FUZZ_SEED to begin at

The input is ownership marks, TXT, DNS answers, replies of Cloudflare and CloudAPI, the stack's configuration, and a
machine's metadata. The targets are those of tests/fuzzing.py, which the tests run for a second each. An error that no
caller expects is a finding. Each finding is named with the seed that repeats it. As many targets run at a time as there
are cores.
"""

from __future__ import annotations

import os
import secrets
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "userdata")]

from bench.rows import Row, report  # noqa: E402
from tests.fuzzing import TARGETS, Fuzzed, fuzz  # noqa: E402

EACH = float(os.environ.get("SECONDS_EACH", "60"))


def run(name: str) -> Fuzzed:
    first = int(os.environ.get("FUZZ_SEED") or secrets.randbelow(10**9))
    return fuzz(TARGETS[name], EACH, first)


def main() -> int:
    rows = []
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        results = dict(zip(TARGETS, workers.map(run, TARGETS), strict=True))
    for name, found in results.items():
        shown = [f"{what} (seed {seed})" for what, seed in found.findings.items()]
        rows.append(
            Row(
                question=f"parser of {name}: random inputs for {EACH:.0f} s",
                ours=f"{len(found.findings)} findings",
                n=f"{found.runs} inputs",
                goal="0",
                met=not found.findings,
                why="; ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else ""),
            )
        )
    return report("fuzz", rows)


if __name__ == "__main__":
    sys.exit(main())
