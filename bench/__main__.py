"""Run all benches, one after the other, and make docs/benchmarks.md from their results.

    make bench                  # all, bounded; `python -m bench NAME…` some, `python -m bench --table` the table alone

A bench that fails or exceeds its time limit is reported, and does not stop the others.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS, TABLE = HERE / "results", ROOT / "docs" / "benchmarks.md"
# The time limit of each in seconds, on a slower machine too. All of them take about 35 minutes on 2 cores, and the
# first that needs a Consul 4 more to build it, once.
BENCHES = {
    "join": 240,
    "visible": 600,
    "fleet": 900,
    "rest": 240,
    "client": 60,
    "start": 300,
    "joyent": 540,
    "storm": 480,
    "fuzz": 360,
    "rollout": 120,
}
HEAD = """\
# Benchmarks

This page is for engineers who want to know how fast Rollcall is. `make bench` makes it from `bench/results/`: do not edit it.

Each row is the answer to one question. The file in `bench/` with the name of the section, for example `bench/join.py`, says in its
first lines how the rows are measured, and explains their words. Both sides of a ratio were measured in turn, in one run on one
machine, except where the column N says `not measured`. The benches were not all run on the same day. A row without a goal is only for
information.

| column | what it has |
|---|---|
| ours | the result of Rollcall |
| beside it | what Rollcall is compared with: another tool, Rollcall with fewer machines, or the least possible (here: the floor) |
| ratio | ours, divided by the result beside it |
| N | how often it was measured |
"""


# What the cells of a bench cannot say themselves.
WORDS = {
    "join": " *N a second* is how many requests the API accepts. The first time is until all values are written; *agents know it* when each"
    " has found its own value. *Lost* are values that another machine's write removed, in all runs together."
}


def table() -> str:
    """Return the document, from whatever results there are."""
    parts = [HEAD]
    missed: dict[str, list[str]] = {}
    for name in [*BENCHES, "soak"]:
        path = RESULTS / f"{name}.json"
        if not path.exists():
            parts.append(f"## {name}\n\nNo result yet: `make bench-{name}`.\n" if name != "soak" else "")
            continue
        found: dict[str, Any] = json.loads(path.read_text())
        machine = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
        lines = [
            f"## {name}\n\nRepeat with `{found['repeat']}` ({machine}).{WORDS.get(name, '')}\n",
            "| question | ours | beside it | ratio | N | goal | met |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in found["rows"]:
            times = row["ratio"]
            ratio = "" if times is None else f"{times:.0f} ×" if times >= 10 else f"{times:.2g} ×"
            met = {None: "", True: "yes", False: "**no**"}[row["met"]]
            cells = (row["question"], row["ours"], row["other"], ratio, row["n"], row["goal"], met)
            lines.append("| " + " | ".join(each.replace("|", "\\|") for each in cells) + " |")
            if row["met"] is False:
                # A row may have figures of its own after the reason that it shares with others.
                why, _, figures = (row["why"] or "not explained yet").partition("\n")
                missed.setdefault(why, []).append(f"{name}: {row['question']}{f': {figures}' if figures else ''}")
        notes = [
            f"- {row['question']}: {row['why']}" for row in found["rows"] if row["why"] and row["met"] is not False
        ]
        parts.append("\n".join(lines) + "\n" + ("\n" + "\n".join(notes) + "\n" if notes else ""))
    if missed:
        parts.insert(1, "## Why a goal is not met\n\n" + "\n".join(way(*each) for each in missed.items()) + "\n")
    return "\n".join(each for each in parts if each)


def way(why: str, questions: list[str]) -> str:
    """Return one reason, and below it the questions that missed their goal because of it."""
    lines = [f"{why[:1].upper()}{why[1:]}:\n", *(f"- {each}" for each in questions)]
    return "\n".join(lines) + "\n"


def run(name: str) -> str:
    """Run one bench. Return an empty text, or what went wrong."""
    process = subprocess.Popen([sys.executable, str(HERE / f"{name}.py")], cwd=ROOT, start_new_session=True)
    try:
        code = process.wait(BENCHES[name])
    except BaseException as stopped:
        # It ends its clouds and machines itself when it is interrupted.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if isinstance(stopped, subprocess.TimeoutExpired):
            return f"took longer than {BENCHES[name]} s"
        raise
    # Exit code 1 is a goal that was missed: the table has it.
    return "" if code in (0, 1) else f"failed with {code}"


def main(names: list[str]) -> int:
    # Where a shell started it in the background, the interrupt is ignored from here to the last plugin. Then the engine
    # would wait five seconds at each end for plugins that it has interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    failed: dict[str, str] = {}
    if names != ["--table"]:
        for name in names or list(BENCHES):
            began = time.monotonic()
            if wrong := run(name):
                failed[name] = wrong
            print(f"== {name}: {wrong or 'done'}, {time.monotonic() - began:.0f} s\n", flush=True)
    text = table()
    TABLE.write_text(text)
    print(text)
    for name, wrong in failed.items():
        print(f"{name}: {wrong}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
