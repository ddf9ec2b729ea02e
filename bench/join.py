"""Measure what joins cost in one SRV set: time and API calls, beside the floor of one write each and the article's read-then-upsert.

    make bench-join

On a simulated clock (tests/unit/agent/contention.py), with Route53's present limits of an account (a bucket of 50, 10 a
second: docs.aws.amazon.com/Route53/latest/DeveloperGuide/throttling-api-requests.html) and at 5 a second. A call takes
20 to 120 ms, and a name server answers with a change 0.5 to 5 s later. Agents behave as on a machine: they are
processes that try for 12 s and share only one word.

A time is the second of the last change of the sets, which is when the last machine was registered. "agents know it after" is when each
agent knew it. The floor has the same throttle and the same latency: each machine makes one write, and asks again at
once where it is refused. Calls are those that were not throttled. "lost" are machines that joined and are not in the
set. The last row is real time: threads, HTTP and the local Route53 at 5 a second, beside the simulated clock at the same
rate.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.rows import Row, report
from localcloud.aws.route53 import HARSH, PRESENT
from localcloud.aws.route53.pace import Limits, Throttle
from rollcall.ownership import Owner
from rollcall.retrying import retried
from rollcall.route53 import Route53Registry, Route53Store, set_name
from rollcall.settings import Route53Join
from tests.cloud.aws_cloud import running
from tests.unit.agent.contention import LATENCY, Contest, Outcome, Scheduler

SEEDS = range(10)
REAL = 20
WHY = (
    "The IAM policy has one statement for the host of a machine and another one for the record set. IAM refuses a batch that needs both. So"
    " a machine sends two requests. The floor is the time for one write for each machine. If all these writes can be sent without a"
    " wait, the floor is almost zero, and each further call makes the ratio much larger. Each line below says how long the necessary calls"
    " take. The rest of the time is back-off with jitter, and reads by machines that do not find their own value in DNS yet"
)
# What differs from row to row, after the reason.
FIGURES = (
    "at least {calls:.0f} calls (one for each host, and a read and a write for each record set) are needed, which take"
    " {least:.1f} s, {ratio:.1f} × the floor"
)


def least(limits: Limits, calls: int) -> float:
    """Return the seconds until so many calls were not throttled, if each is made as early as possible."""
    scheduler = Scheduler(0)
    throttle = Throttle(limits, lambda: scheduler.now)
    for _ in range(calls):
        while not throttle.admits("ChangeResourceRecordSets"):
            scheduler.now += 0.01
    return scheduler.now


def row(name: str, limits: Limits, machines: int) -> list[Row]:
    sides: dict[str, list[Outcome]] = {side: [] for side in ("floor", "one set", "4 shards", "read-then-upsert")}
    for seed in SEEDS:
        given = {"seed": seed, "agents": machines, "leaving": 0, "limits": limits, "faults": 0.0}
        sides["floor"].append(Contest(**given).run_floor())  # type: ignore[arg-type]
        sides["one set"].append(Contest(**given).run())  # type: ignore[arg-type]
        sides["4 shards"].append(Contest(**given, shards=4).run())  # type: ignore[arg-type]
        sides["read-then-upsert"].append(Contest(**given).run_upserts())  # type: ignore[arg-type]

    def shown(runs: list[Outcome]) -> str:
        stood, known = mean(each.stood for each in runs), mean(each.seconds for each in runs)
        calls, lost = mean(each.calls for each in runs) / machines, sum(len(each.lost) for each in runs)
        return f"{stood:.1f} s (agents know it after {known:.1f} s), {calls:.1f} calls each, {lost} lost"

    rows = []
    beneath = mean(each.stood for each in sides["floor"])
    for side, sets, goal in (("one set", 1, 3.0), ("4 shards", 4, 1.5)):
        runs = sides[side]
        ratio, lost = mean(each.stood for each in runs) / beneath, sum(len(each.lost) for each in runs)
        fewest = machines + 2 * sets
        # A host, a read and a write follow one another, whatever the rate is.
        fastest = max(least(limits, fewest), 2 * mean(LATENCY)) + mean(LATENCY)
        rows.append(
            Row(
                question=f"{machines} joins at once, {side}, {name}",
                ours=shown(runs),
                other=f"one write each: {beneath:.2f} s; read-then-upsert: {shown(sides['read-then-upsert'])}",
                ratio=ratio,
                n=f"{len(SEEDS)} seeds",
                goal=f"≤ {goal:g} × the floor, 0 lost",
                met=(met := ratio <= goal and not lost),
                why="" if met else f"{WHY}\n{FIGURES.format(calls=fewest, least=fastest, ratio=fastest / beneath)}",
            )
        )
    return rows


def real() -> Row:
    """Measure the same code with real threads and real HTTP."""
    with running(route53_limits=HARSH) as cloud:
        zone = cloud.aws.add_zone("unilans.net")
        membership = Route53Join(zone=zone, domain="unilans.net", service="_s._tcp", incarnation="v1", port=4218)

        def resolve(name: str) -> frozenset[str]:
            found = cloud.aws.lookup("unilans.net", name) or ()
            return frozenset(value.split(" ")[3].rstrip(".") for each in found for value in each.values)

        def join(index: int) -> None:
            owner = Owner("local", "api", str(index), f"{index:06x}", f"i-{index:017x}")
            store = Route53Store(zone, cloud.route53())
            registry = Route53Registry(membership, store, dice=random.Random(index), lookup=resolve)  # noqa: S311
            retried(lambda: registry.join(owner, f"198.18.0.{index}"), 300)

        threads = [threading.Thread(target=join, args=(index,)) for index in range(REAL)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took, registered = time.monotonic() - began, len(resolve(set_name(membership)))
    virtual = mean(Contest(seed=seed, agents=REAL, leaving=0, limits=HARSH, faults=0.0).run().seconds for seed in SEEDS)
    return Row(
        question=f"{REAL} joins at once in real time, with threads, boto3 and HTTP, 5 a second",
        ours=f"{took:.1f} s, {REAL - registered} lost",
        other=f"the same joins on the simulated clock: {virtual:.1f} s",
        ratio=took / virtual,
        n="1",
        goal="0 lost",
        met=registered == REAL,
    )


def main() -> int:
    rows = []
    for machines in (10, 50, 200):
        rows += row("10 a second", PRESENT, machines)
        rows += row("5 a second", HARSH, machines)
    return report("join", [*rows, real()])


if __name__ == "__main__":
    sys.exit(main())
