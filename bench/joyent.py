"""Measure how long 300 Triton machines take and how many calls they cost.

    make bench-joyent           # about 7 minutes; COUNT=8 LARGE=40 PROVISIONING=5 for a short run

Beside it, at 24 machines, are the two usual ways to wait for machines. All sides use the same local CloudAPI (30 s of
provisioning, its usual throttle, nothing booted) and take turns, so that a busy machine disturbs each of them:

    ours      `pulumi up`: Machine returns when CloudAPI has accepted it, one Ready waits for all with one list a poll
    waiting   `pulumi up`: the same client, but each create returns when its machine runs; Pulumi's host has four workers
    ten       ten threads, each creating a machine and asking for it every 3 s until it runs, as Terraform does at its usual
              parallelism; without an engine, so without an engine's own start and state
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.rows import Row, report  # noqa: E402
from localcloud.triton import Throttle  # noqa: E402
from tests.cloud.joyent_stack import PROGRAM, Stack, make_stack  # noqa: E402

LARGE, COUNT = int(os.environ.get("LARGE", "300")), int(os.environ.get("COUNT", "24"))
PROVISIONING, ROUNDS = float(os.environ.get("PROVISIONING", "30")), int(os.environ.get("ROUNDS", "1"))
GOAL = 90.0

WAITING = """
import sys
sys.path.insert(0, {root!r})
import json
import os
import pulumi
from pulumi.dynamic import CreateResult, Resource, ResourceProvider


class WaitingProvider(ResourceProvider):
    def create(self, props):
        from components.joyent.pacing import wait_until
        from components.joyent.session import session_of

        api = session_of({{}}).api
        wanted = {{"name": props["name"], "package": "g1.nano", "image": props["image"]}}
        made = api.create_machine(wanted)
        wait_until("it", lambda: api.get_machine(made.id).state == "running" or None, timeout=600)
        return CreateResult(made.id, props)


class Waiting(Resource):
    def __init__(self, name, image):
        super().__init__(WaitingProvider(), name, {{"name": name, "image": image}})


settings = json.loads(os.environ["TRIAL"])
for index in range(settings["count"]):
    Waiting(f"web-{{index}}", settings["image"])
"""


@contextmanager
def a_stack(program: str) -> Any:
    with tempfile.TemporaryDirectory(prefix="rollcall-bench-") as scratch:
        made = make_stack(
            Path(scratch),
            program=program,
            provisioning=PROVISIONING,
            throttle=Throttle(),
            public_range="198.18.0.0/15",
        )
        try:
            yield next(made)
        finally:
            made.close()


def ours(stack: Stack, count: int) -> None:
    stack.up(count=count, timeout=600)


def waiting(stack: Stack, count: int) -> None:
    image = next(each.id for each in stack.client.list_images() if each.name == "debian-12")
    stack.up(count=count, image=image, timeout=1800)


def ten(stack: Stack, count: int) -> None:
    image = next(each.id for each in stack.client.list_images() if each.name == "debian-12")

    def one(index: int) -> None:
        made = stack.client.create_machine({"name": f"web-{index}", "package": "g1.nano", "image": image})
        while stack.client.get_machine(made.id).state != "running":
            time.sleep(3)

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(one, range(count)))


SIDES: dict[str, tuple[str, Callable[[Stack, int], None]]] = {
    "ours": (PROGRAM, ours),
    "waiting": (WAITING, waiting),
    "ten": (PROGRAM, ten),
}


def timed(side: str, count: int) -> tuple[float, int]:
    """Return seconds and calls. All machines must run at its end, or the figure is not valid."""
    program, run = SIDES[side]
    with a_stack(program) as stack:
        began = time.monotonic()
        run(stack, count)
        took, calls = time.monotonic() - began, len(stack.wire.requests)
        states = Counter(each.state for each in stack.machines())
        if states != {"running": count}:
            raise SystemExit(f"{side}: {dict(states)}, not {count} running; no figure")
        return took, calls


def large() -> tuple[float, list[Row]]:
    with a_stack(PROGRAM) as stack:
        began = time.monotonic()
        ours(stack, LARGE)
        took = time.monotonic() - began
        calls = Counter(f"{each.partition(' ')[0]} {each.split('/')[1]}" for each in stack.wire.requests)
        first = sum(calls.values())
        stack.wire.requests.clear()
        began = time.monotonic()
        ours(stack, LARGE)
        again, later = time.monotonic() - began, len(stack.wire.requests)
    what = f"{PROVISIONING:g} s of provisioning, throttle 30 at once and 10 a second"
    return took, [
        Row(
            question=f"`up` of {LARGE} Triton machines ({what})",
            ours=f"{took:.1f} s",
            n="1",
            goal=f"< {GOAL:g} s" if LARGE == 300 else "",
            met=took < GOAL if LARGE == 300 else None,
            why=f"{first} calls: " + ", ".join(f"{n} {what}" for what, n in calls.most_common()) + ".",
        ),
        Row(question=f"`up` of {LARGE} Triton machines again", ours=f"{again:.1f} s, {later} calls", n="1"),
    ]


def main() -> int:
    whole, rows = large()
    found: dict[str, list[tuple[float, int]]] = {side: [] for side in SIDES}
    for at in range(ROUNDS):
        # Every other round runs in reverse order.
        for side in list(SIDES)[:: -1 if at % 2 else 1]:
            found[side].append(timed(side, COUNT))
    usual = {side: statistics.median(took for took, _ in each) for side, each in found.items()}
    calls = {side: statistics.median(requests for _, requests in each) for side, each in found.items()}
    names = {"waiting": "each create waits, four at a time", "ten": "ten threads ask every 3 s, as Terraform does"}
    for side, name in names.items():
        rows.append(
            Row(
                question=f"`up` of {COUNT} Triton machines",
                ours=f"{usual['ours']:.1f} s, {calls['ours']:.0f} calls",
                other=f"{name}: {usual[side]:.1f} s, {calls[side]:.0f} calls",
                ratio=usual["ours"] / usual[side],
                n="1" if ROUNDS == 1 else f"{ROUNDS} rounds in turn",
                why=f"{name}: {LARGE} machines would take {usual[side] * LARGE / COUNT:.0f} s (scaled, not measured)."
                f" Rollcall takes {whole:.0f} s.",
            )
        )
    return report("joyent", rows)


if __name__ == "__main__":
    sys.exit(main())
