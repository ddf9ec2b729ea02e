"""Write the results of every bench: rows of one form, one file for each bench in bench/results, from which docs/benchmarks.md is made."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
# Parts of the goals that a figure is compared with.
Met = bool | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One result.

    `other` is the peer or the floor in words and figure, `ratio` is ours to it, and `n` is how often it was measured.
    `met` is None where there is no goal. `why` is what prevents the goal, or what else a reader should know.
    """

    question: str
    ours: str
    other: str = ""
    ratio: float | None = None
    n: str
    goal: str = ""
    met: Met = None
    why: str = ""


def report(name: str, rows: Sequence[Row], machine: Mapping[str, str] | None = None) -> int:
    """Store the rows as this bench's result, and print them.

    Return the exit code for `main`: 0 where every goal is met.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": machine or here(),
        "repeat": "make soak" if name == "soak" else f"make bench-{name}",
        "rows": [asdict(row) for row in rows],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    for row in rows:
        beside = f"; {row.other}" if row.other else ""
        ratio = f"; {row.ratio:.3g} x" if row.ratio is not None else ""
        verdict = "" if row.met is None else f"; goal {row.goal}: {'met' if row.met else 'MISSED'}"
        print(f"{name}: {row.question}: {row.ours}{beside}{ratio} (N = {row.n}){verdict}", flush=True)
        if row.why:
            print(f"  {row.why}", flush=True)
    return 0 if all(row.met is not False for row in rows) else 1


def here() -> dict[str, str]:
    """Return the properties of the machine that matter for a figure."""
    return {"cores": str(os.cpu_count()), "python": platform.python_version(), "system": platform.system()}


def in_turn(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return each side's figures.

    Every other round runs in reverse order, so that a busy machine disturbs each side.
    """
    found: dict[str, list[float]] = {side: [] for side in sides}
    for at in range(rounds):
        for side in list(sides)[:: -1 if at % 2 else 1]:
            found[side].append(sides[side]())
    return found


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of each round: a disturbance slows both sides of a round."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
