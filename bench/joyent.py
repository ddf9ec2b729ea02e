"""How long 300 Triton machines take and how many calls they cost; beside it, at 24, the two usual ways of waiting for machines.

    make bench-joyent           # about 12 minutes; ROUNDS=1 COUNT=8 LARGE=40 PROVISIONING=5 for a glance

All sides meet the same local CloudAPI (30 s of provisioning, its usual throttle, nothing booted) and take turns, so that a busy
machine disturbs each of them:

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

from localcloud.cloudapi import Throttle  # noqa: E402
from tests.cloud.joyent_stack import PROGRAM, Stack, make_stack  # noqa: E402

LARGE, COUNT = int(os.environ.get("LARGE", "300")), int(os.environ.get("COUNT", "24"))
PROVISIONING, ROUNDS = float(os.environ.get("PROVISIONING", "30")), int(os.environ.get("ROUNDS", "2"))
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


told = json.loads(os.environ["TRIAL"])
for index in range(told["count"]):
    Waiting(f"web-{{index}}", told["image"])
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
    """Seconds and calls; the machines must all run at its end, or the figure is worth nothing."""
    program, run = SIDES[side]
    with a_stack(program) as stack:
        began = time.monotonic()
        run(stack, count)
        took, calls = time.monotonic() - began, len(stack.wire.requests)
        states = Counter(each.state for each in stack.machines())
        if states != {"running": count}:
            raise SystemExit(f"{side}: {dict(states)}, not {count} running; no figure")
        return took, calls


def large() -> float:
    with a_stack(PROGRAM) as stack:
        began = time.monotonic()
        ours(stack, LARGE)
        took = time.monotonic() - began
        calls = Counter(f"{each.partition(' ')[0]} {each.split('/')[1]}" for each in stack.wire.requests)
        print(f"{LARGE} machines, {PROVISIONING:g} s of provisioning, throttle 30 at once and 10 a second")
        print(f"  up            {took:7.1f} s   (goal for 300: under {GOAL:g} s)")
        print(
            f"  calls         {sum(calls.values()):7d}     {', '.join(f'{n} {what}' for what, n in calls.most_common())}"
        )
        stack.wire.requests.clear()
        began = time.monotonic()
        ours(stack, LARGE)
        print(f"  up again      {time.monotonic() - began:7.1f} s   {len(stack.wire.requests)} calls", flush=True)
        return took


def main() -> int:
    whole = large()
    found: dict[str, list[tuple[float, int]]] = {side: [] for side in SIDES}
    for at in range(ROUNDS):
        # Every other round the other way round.
        for side in list(SIDES)[:: -1 if at % 2 else 1]:
            found[side].append(timed(side, COUNT))
    usual = {side: statistics.median(took for took, _ in each) for side, each in found.items()}
    print(f"\n{COUNT} machines, the sides in turn, {ROUNDS} rounds")
    for side, each in found.items():
        rounds = ", ".join(f"{took:.1f} s with {calls} calls" for took, calls in each)
        print(f"  {side:<13} {usual[side]:7.1f} s   {usual[side] / usual['ours']:5.2f} x ours   ({rounds})")
    print(
        f"\nscaled from {COUNT} to {LARGE} machines, not measured: the others' time grows with the number of machines"
    )
    for side in ("waiting", "ten"):
        scaled = usual[side] * LARGE / COUNT
        print(f"  {side:<13} {scaled:7.0f} s   {scaled / whole:5.1f} x ours, which was measured at {LARGE}")
    return 0 if LARGE != 300 or whole < GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
