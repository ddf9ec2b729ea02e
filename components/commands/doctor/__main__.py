"""`rollcall doctor`: check versions, credentials, permissions, zones and the network before `pulumi up`, each with its fix.

    rollcall doctor [--stack prod] [--json] [--rehearsal]   (the same as python -m components.commands.doctor; default: the selected stack)

It only reads, and ends within ten seconds: the checks run at the same time, and one that does not end in time is `not proven`.

Exit code 0: all is ok; 1: something is wrong; 2: something is only not proven.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from components.commands.doctor import aws, cloudflare, engine, network, rehearsal, triton, zones
from components.commands.doctor.environment import Environment
from components.commands.doctor.points import Check, Point, Run, Verdict, exit_code
from rollcall.escaping import escaped

# When the checks must have ended, from the start of the process on. The imports come before, and the end takes a moment.
END_S, LEAST_S = 8.0, 2.0
_WIDTH = 28


def checks_of(env: Environment, *, with_rehearsal: bool = False) -> list[Check]:
    """Return the checks, in the order in which they are shown."""
    parts = (engine, network, aws, cloudflare, triton, zones, *((rehearsal,) if with_rehearsal else ()))
    return [each for part in parts for each in part.checks(env)]


def diagnose(env: Environment, *, with_rehearsal: bool = False, limit_s: float = END_S) -> tuple[list[Point], bool]:
    """Return all points, and whether a check still runs."""
    run = Run(limit_s, env.prepare)
    try:
        points = run.points(checks_of(env, with_rehearsal=with_rehearsal))
    finally:
        env.processes.end()
    return points, run.late


def shown(points: Sequence[Point]) -> str:
    """Return the points for people: what is wrong first, then what is not proven."""
    lines = [_summary(points), ""]
    for verdict, title in ((Verdict.WRONG, "Wrong"), (Verdict.NOT_PROVEN, "Not proven")):
        texts = dict.fromkeys(each.text for each in points if each.verdict is verdict)
        lines += [title, *(f"  {each}" for each in texts), ""] if texts else []
    for area in dict.fromkeys(each.area for each in points):
        lines.append(area)
        lines += [_line(each) for each in points if each.area == area]
    return "\n".join(map(escaped, lines))


def _line(point: Point) -> str:
    detail = f"  {point.text}" if point.verdict is Verdict.OK else ""
    return f"  {point.verdict.value:<11} {point.name:<{_WIDTH}}{detail}".rstrip()


def _summary(points: Iterable[Point]) -> str:
    verdicts = [each.verdict for each in points]
    bad, open_ = verdicts.count(Verdict.WRONG), verdicts.count(Verdict.NOT_PROVEN)
    if not bad and not open_:
        return f"All {len(verdicts)} points are ok."
    return f"{len(verdicts)} points: {bad} wrong, {open_} not proven, {verdicts.count(Verdict.OK)} ok."


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rollcall doctor", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stack", default="", help="default: the selected stack")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--rehearsal", action="store_true", help="also check what a rehearsal needs of this machine")
    chosen = parser.parse_args(arguments)

    env = Environment(root=Path.cwd(), stack=chosen.stack)
    limit_s = max(LEAST_S, END_S - _age_s())
    points, late = diagnose(env, with_rehearsal=chosen.rehearsal, limit_s=limit_s)
    code = exit_code(points)
    if chosen.json:
        rows = [{**vars(each), "verdict": each.verdict.value} for each in points]
        print(json.dumps({"exit_code": code, "points": rows}))
    else:
        print(shown(points))
    if late:
        # Python would wait for the threads of a check that hangs.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _age_s() -> float:
    """Return for how many seconds this process has run; 0 where the system does not say so.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html (starttime, in clock ticks after boot)
    """
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return float(Path("/proc/uptime").read_text().split()[0]) - started
    except (OSError, ValueError, IndexError):
        return 0.0


if __name__ == "__main__":
    sys.exit(main())
