"""Measure what an idle agent takes: memory, CPU and API calls an hour, beside a Consul agent.

    make bench-rest             # SECONDS

Three agents, each in a site and in a service, watch each other. Consul (dev mode) has one service with the same check.
All are idle at the same time for SECONDS. The calls are those of an hour of the same three agents on a simulated clock,
so the agents' code decides when to ask. They are counted at the local APIs.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "userdata")]

from bench.clouds import (  # noqa: E402
    HOST,
    SERVICE,
    Clouds,
    Workload,
    agent,
    clouds,
    consul_agent,
    free_port,
    machine_settings,
    until,
)
from bench.rows import Row, report  # noqa: E402
from rollcall.agent import CONFIRM, EACH_MEMBER, TICK, WATCH, Agent  # noqa: E402
from rollcall.clouds import File  # noqa: E402
from rollcall.settings import Join  # noqa: E402

SECONDS = float(os.environ.get("SECONDS_IDLE", "60"))
AGENTS = 3
HOUR = 3600.0


def memory(pid: int) -> float:
    """Return the proportional set size in MiB: shared memory counts in part."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def cpu(pid: int) -> float:
    """Return the CPU seconds so far, of the process and of the children that it waited for."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(each) for each in words[11:15]) / os.sysconf("SC_CLK_TCK")


def idle() -> list[Row]:
    port = free_port()
    with contextlib.ExitStack() as stack:
        local = stack.enter_context(clouds())
        consul = stack.enter_context(consul_agent())
        workload = Workload(port)
        stack.callback(workload.close)
        joins = (local.site_join(port), local.service_join(port))
        ours = [stack.enter_context(agent(local, joins, number)).pid for number in range(AGENTS)]
        consul.register(port)
        until(lambda: len(local.answers(HOST, "A")) == len(local.answers(SERVICE, "SRV")) == AGENTS, 60)
        until(consul.is_registered, 30)
        time.sleep(10)
        pids = [*ours, consul.process.pid]
        before = [cpu(each) for each in pids]
        time.sleep(SECONDS)
        spent = [(cpu(each) - was) / SECONDS * 100 for each, was in zip(pids, before, strict=True)]
        memories = [memory(each) for each in pids]
    mine, theirs = statistics.median(memories[:-1]), memories[-1]
    busy, consuls = statistics.median(spent[:-1]), spent[-1]
    return [
        Row(
            question="memory of an idle agent",
            ours=f"{mine:.1f} MiB",
            other=f"Consul: {theirs:.1f} MiB",
            ratio=mine / theirs,
            n=f"{AGENTS} agents",
            goal="≤ 1/4",
            met=mine <= theirs / 4,
        ),
        Row(
            question="CPU of an idle agent",
            ours=f"{busy:.2f} % of a core",
            other=f"Consul: {consuls:.2f} %",
            ratio=busy / consuls,
            n=f"{AGENTS} agents, {SECONDS:.0f} s",
        ),
    ]


def calls(local: Clouds, join: Join, names: tuple[str, str]) -> dict[str, float]:
    """Return the API calls of one of three agents in one idle hour."""
    now = [1000.0]
    with tempfile.TemporaryDirectory(prefix="rollcall-bench-") as scratch:
        agents = []
        for number in range(AGENTS):
            settings = Path(scratch) / f"{number}.json"
            settings.write_text(json.dumps(machine_settings((join,), number)))
            agents.append(
                Agent(
                    File(settings),
                    status_file=settings.with_suffix(".status"),
                    clock=lambda: now[0],
                    look_up=lambda name: _resolved(local, name),
                    reach=lambda *_: True,
                )
            )
        for each in agents:
            each.tick()
        registered = local.answers(*names)
        assert len(registered) >= min(AGENTS, 2), registered
        local.requests.clear()
        while now[0] < 1000.0 + HOUR:
            now[0] += TICK
            for each in agents:
                each.tick()
        per_agent = {what: count / AGENTS for what, count in local.requests.items()}
        for each in agents:
            each.leave()
            each.remove_hosts()
    return per_agent


def _resolved(local: Clouds, name: str) -> frozenset[str]:
    rtype = "SRV" if "._" in name else "TXT" if ".c.rc." in name else "A"
    return frozenset(each.split()[-1].rstrip(".").lower() for each in local.answers(name, rtype))


def hour() -> list[Row]:
    rows = []
    port = free_port()
    workload = Workload(port)
    # A confirmation comes after 0.8 to 1.2 of its pause.
    often = max(WATCH, EACH_MEMBER * AGENTS)
    plain, site = HOUR / CONFIRM / 0.8, HOUR / often / 0.8
    try:
        with clouds() as local:
            os.environ.update(local.environ)
            os.environ["PYTHONPATH"] = str(ROOT / "userdata")
            for what, join, names, most in (
                ("a site", local.site_join(port), (HOST, "A"), site),
                ("a proxied site", local.site_join(port, proxied=True), (HOST, "A"), site),
                # One confirmation reads the host's place and the set.
                ("a service", local.service_join(port), (SERVICE, "SRV"), 2 * plain),
            ):
                requests = calls(local, join, names)
                pause = often if most == site else CONFIRM
                each = sum(requests.values())
                listed = ", ".join(f"{count:.1f} {kind}" for kind, count in sorted(requests.items()))
                rows.append(
                    Row(
                        question=f"API calls an hour of an idle agent in {what}",
                        ours=f"{each:.1f} ({listed or 'none'})",
                        other=f"the limit by design, {most * 0.8 * pause / HOUR:.0f} in {0.8 * pause:g} s: {most:.1f}",
                        ratio=each / most,
                        n=f"{AGENTS} agents, 1 hour of a simulated clock",
                        goal="no more",
                        met=each <= most,
                    )
                )
    finally:
        workload.close()
    return rows


def main() -> int:
    return report("rest", [*idle(), *hour()])


if __name__ == "__main__":
    sys.exit(main())
