"""Simulate a roll-out over 200 machines in batches of 25 %, beside the order that AWS documents for CodeDeploy.

    make bench-rollout          # MACHINES, SEED

Nothing here waits: the machines are simulated on a virtual clock (tests/simulated_fleet.py), and the code that decides is that of
`pulumi up`. Both sides have the same machines, and each machine takes the same time for its change. The time differs from machine to
machine.

CodeDeploy works on as many instances at a time as may be out while the minimum of healthy hosts is kept, 75 % here. It takes the next
instance when one is done, and fails when a further one would break the minimum
(https://docs.aws.amazon.com/codedeploy/latest/userguide/instances-health.html). It goes back by a new deployment of the last good
revision to all instances (https://docs.aws.amazon.com/codedeploy/latest/userguide/deployments-rollback-and-redeploy.html). Its agents are
given their work without any delay, and ours read their settings every 10 s. So the model favours CodeDeploy.
"""

from __future__ import annotations

import heapq
import math
import os
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "userdata")]

from bench.rows import Row, report  # noqa: E402
from components.rollout.values import Outcome, Policy  # noqa: E402
from tests.simulated_fleet import Fleet, Times, digest, fleet_of, run_of  # noqa: E402

MACHINES = int(os.environ.get("MACHINES", "200"))
SEED = int(os.environ.get("SEED", "25"))
SHARE, HEALTHY_S, DEADLINE_S, DRAIN_S = 25, 10, 60, 60
A, B = digest("a"), digest("b")


def times() -> Callable[[int], Times]:
    """Return how long each machine takes: the same for both sides."""
    dice = random.Random(SEED)  # noqa: S311
    found = [
        Times(fetching=dice.randint(2, 20), leaving=2, draining=DRAIN_S, switching=1, joining=dice.randint(2, 8))
        for _ in range(MACHINES)
    ]
    return lambda number: found[number]


def seconds_of(each: Times, *, broken: bool = False) -> int:
    """Return how long the change of a machine takes. A broken release fails after the deadline, and the machine goes back."""
    checked = DEADLINE_S if broken else HEALTHY_S
    return each.fetching + each.leaving + each.draining + each.switching + checked + each.joining


def codedeploy(durations: Sequence[int], *, broken: bool = False) -> tuple[int, int, int]:
    """Return seconds, the most instances that were out, and how many got the release, in the documented order."""
    most = len(durations) - math.ceil(len(durations) * (100 - SHARE) / 100)
    working: list[int] = []
    now = out = given = 0
    waiting = list(reversed(durations))
    while waiting or working:
        # An instance on which the release failed is unhealthy, and takes one of the places that may be out.
        while waiting and len(working) + (given - len(working) if broken else 0) < most:
            heapq.heappush(working, now + waiting.pop())
            given += 1
        out = max(out, len(working))
        if not working:
            break
        now = heapq.heappop(working)
    return now, out, given


def prepared() -> Fleet:
    fleet = fleet_of(MACHINES, times())
    run_of(fleet, {"www": A}, Policy(batch="100%", boot_s=10_000)).until_end()
    fleet.most_out = 0
    return fleet


def policy(canary: int = 0) -> Policy:
    return Policy(batch=f"{SHARE}%", canary=canary, healthy_s=HEALTHY_S, deadline_s=DEADLINE_S, drain_s=DRAIN_S)


def good() -> tuple[int, int]:
    """Return seconds, and the most machines that were out."""
    fleet = prepared()
    began = fleet.now
    end = run_of(fleet, {"www": B}, policy()).until_end()
    assert end.outcome is Outcome.DONE and fleet.running() == {B}
    return fleet.now - began, fleet.most_out


def bad(canary: int = 0) -> tuple[int, int, int]:
    """Return seconds until all machines have the former release again, the most that were out, and how many got the broken one."""
    fleet = prepared()
    for each in fleet.machines:
        each.broken = {B}
        each.history.clear()
    began = fleet.now
    end = run_of(fleet, {"www": B}, policy(canary)).until_end()
    assert end.outcome is Outcome.FAILED and fleet.running() == {A}
    return fleet.now - began, fleet.most_out, sum(any(B in word for _, word in each.history) for each in fleet.machines)


def main() -> int:
    each = [times()(number) for number in range(MACHINES)]
    plain, failing = [seconds_of(one) for one in each], [seconds_of(one, broken=True) for one in each]
    (ours_s, ours_out), (theirs_s, theirs_out, _) = good(), codedeploy(plain)
    bad_s, bad_out, bad_given = bad()
    failed_s, failed_out, failed_given = codedeploy(failing, broken=True)
    back_s = failed_s + codedeploy(plain)[0]
    _, _, canary_given = bad(canary=1)
    n = f"1 fleet of {MACHINES}, simulated"
    rows = [
        Row(
            question=f"a release on {MACHINES} machines, {SHARE} % at a time",
            ours=f"{ours_s} s",
            other=f"CodeDeploy's order {theirs_s} s",
            ratio=ours_s / theirs_s,
            n=n,
            goal="at most 1.5 x",
            met=ours_s <= 1.5 * theirs_s,
            why="ours waits for the slowest machine of each batch, and machines read their settings every 10 s",
        ),
        Row(
            question="the most machines out at the same time",
            ours=str(ours_out),
            other=f"CodeDeploy's order {theirs_out}",
            ratio=ours_out / theirs_out,
            n=n,
            goal=f"at most {SHARE} %",
            met=ours_out <= MACHINES * SHARE / 100,
        ),
        Row(
            question="a broken release: time until all machines have the former one",
            ours=f"{bad_s} s",
            other=f"CodeDeploy's order {back_s} s",
            ratio=bad_s / back_s,
            n=n,
            goal="no slower",
            met=bad_s <= back_s,
            why="our machines go back by themselves; CodeDeploy deploys the last good revision to all instances again",
        ),
        Row(
            question="a broken release: machines that got it",
            ours=str(bad_given),
            other=f"CodeDeploy's order {failed_given}",
            ratio=bad_given / failed_given,
            n=n,
            goal="no more",
            met=bad_given <= failed_given
            and bad_out <= MACHINES * SHARE / 100
            and failed_out <= MACHINES * SHARE / 100,
        ),
        Row(
            question="a broken release with a canary of 1: machines that got it",
            ours=str(canary_given),
            n=n,
            goal="1",
            met=canary_given == 1,
        ),
    ]
    return report("rollout", rows)


if __name__ == "__main__":
    sys.exit(main())
