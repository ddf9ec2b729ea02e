"""Measure what visitors see while machines are added, stopped, started, removed and crashed: requests at a fixed rate through the edge.

    make bench-storm            # SECONDS of load a phase

Four booted machines are behind the proxied name. First the ceiling is measured: as many requests as eight visitors can
make when each waits for its answer. Then 30 % of it, bounded, is sent at fixed moments, whatever the answers are. A
request's time counts from its moment.

Quiet phases are before and after the changes. First come the graceful changes (`up` adds two machines, two are stopped
and started again by their clouds, `up` removes two), then a power cut. Everything, the visitors too, shares this
machine's cores. In production the operator's engine runs on none of the machines that serve. So the time that a visitor
waits because the engine takes cores here does not belong to the change. It is measured in separate phases, before and
after, in which the same engine previews the same stack again and again and nothing changes. The goal is compared with
these phases; the quiet phases are shown as well. What booting machines take is not subtracted.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "userdata")]

from bench.rows import Row, report  # noqa: E402
from tests.integration.conftest import sandboxed, wait_until  # noqa: E402
from tests.integration.deployed import Deployed  # noqa: E402

SECONDS = float(os.environ.get("SECONDS_LOAD", "20"))
SHARE, MOST, VISITORS = 0.3, 60.0, 24
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 2
  rollcall:sites: {{ www: {{ zone: scalability.expert, host: www, proxied: true }} }}
  rollcall:fleets:
    web-aws: {{ cloud: aws, count: {count}, size: t3.micro, image: debian-12, joins: [site/www] }}
    web-joyent: {{ cloud: joyent, count: {count}, size: g1.micro, image: debian-12, joins: [site/www] }}
"""


@dataclass
class Load:
    """Requests at fixed moments, and the result of each: its moment, seconds, and which machine served it or what went wrong."""

    url: str
    rate: float
    seen: list[tuple[float, float, str]] = field(default_factory=list)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        stop = threading.Event()
        with ThreadPoolExecutor(VISITORS) as visitors:

            def send() -> None:
                began, number = time.monotonic(), 0
                while not stop.is_set():
                    due = began + number / self.rate
                    time.sleep(max(0.0, due - time.monotonic()))
                    visitors.submit(self._one, due)
                    number += 1

            sender = threading.Thread(target=send)
            sender.start()
            try:
                yield
            finally:
                stop.set()
                sender.join()

    def _one(self, due: float) -> None:
        text = visit(self.url)
        self.seen.append((due, time.monotonic() - due, text))

    @property
    def failed(self) -> list[tuple[float, str]]:
        return [(at, text) for at, _, text in self.seen if not text.startswith("served by ")]

    def quantile(self, part: float) -> float:
        times = sorted(took for _, took, _ in self.seen)
        return times[min(int(len(times) * part), len(times) - 1)] * 1000


def visit(url: str) -> str:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=15)
    try:
        connection.request("GET", "/")
        reply = connection.getresponse()
        reply.read()
        served = reply.headers.get("X-Served-By")
        return f"served by {served}" if reply.status == 200 and served else f"HTTP {reply.status}"
    except (OSError, http.client.HTTPException) as failed:
        return type(failed).__name__
    finally:
        connection.close()


def ceiling(url: str, seconds: float = 6.0) -> float:
    """Return the requests a second that eight visitors can make."""
    end = time.monotonic() + seconds

    def one(_: int) -> int:
        done = 0
        while time.monotonic() < end:
            done += visit(url).startswith("served by ")
        return done

    with ThreadPoolExecutor(8) as visitors:
        return sum(visitors.map(one, range(8))) / seconds


class Storm:
    def __init__(self, stack: Deployed, configure: Callable[[int], None]) -> None:
        self.stack, self.configure = stack, configure
        self.url = stack.env["ROLLCALL_SITE_URL"]

    def quiet(self, rate: float) -> Load:
        load = Load(self.url, rate)
        with load.running():
            time.sleep(SECONDS)
        return load

    def busy(self, rate: float) -> Load:
        """Measure while the engine works and nothing changes."""
        load, end = Load(self.url, rate), time.monotonic() + SECONDS
        with load.running():
            while time.monotonic() < end:
                self.stack.sandbox.pulumi("preview", "--expect-no-changes", "--stack", "local", capture=True)
        return load

    def graceful(self, rate: float) -> Load:
        load = Load(self.url, rate)
        with load.running():
            self.configure(3)
            self.stack.up()
            aws, joyent = self.stack.machine("web-aws-1")["id"], self.stack.machine("web-joyent-1")["id"]
            self.stack.ec2.stop_instances(InstanceIds=[aws])
            self.stack.triton("instance", "stop", "-w", joyent)
            wait_until("it is down", lambda: self.stack.machine("web-aws-1")["state"] == "stopped", 60)
            self.stack.ec2.start_instances(InstanceIds=[aws])
            self.stack.triton("instance", "start", "-w", joyent)
            wait_until("all six are back", lambda: len(self.stack.records()) == 6, 60)
            self.configure(2)
            self.stack.up()
        return load

    def crash(self, rate: float) -> tuple[Load, float]:
        load = Load(self.url, rate)
        with load.running():
            time.sleep(2)
            lost = self.stack.machine("web-aws-0")["id"]
            began = time.monotonic()
            self.stack.sandbox.localcloud("crash", lost, capture=True)
            wait_until(
                "its record is gone",
                lambda: not any(lost in (each["comment"] or "") for each in self.stack.records()),
                90,
            )
            took = time.monotonic() - began
            time.sleep(3)
        return load, took


def measured(storm: Storm) -> list[Row]:
    most = ceiling(storm.url)
    rate = min(SHARE * most, MOST)
    before, busy_before = storm.quiet(rate), storm.busy(rate)
    graceful = storm.graceful(rate)
    busy_after, after = storm.busy(rate), storm.quiet(rate)
    crash, took = storm.crash(rate)
    quiet = Load(storm.url, rate, before.seen + after.seen)
    busy = Load(storm.url, rate, busy_before.seen + busy_after.seen)
    ratio = graceful.quantile(0.99) / busy.quantile(0.99)
    at = f"{rate:.0f} requests a second; the sandbox can do {most:.0f}"
    if rate == MOST:
        at = f"{rate:.0f} requests a second, the bound; the ceiling is {most:.0f}"
    reasons = Counter(text for _, text in graceful.failed)
    lasted = crash.failed[-1][0] - crash.failed[0][0] if crash.failed else 0.0
    return [
        Row(
            question=f"failed requests while machines are added, stopped, started and removed ({at})",
            ours=f"{len(graceful.failed)} of {len(graceful.seen)}",
            other=f"without changes: {len(quiet.failed)} of {len(quiet.seen)}",
            n=f"{len(graceful.seen)} requests",
            goal="0",
            met=not graceful.failed,
            why=", ".join(f"{count} {text}" for text, count in reasons.items()),
        ),
        Row(
            question="the 99th percentile of response times meanwhile",
            ours=f"{graceful.quantile(0.99):.0f} ms (median {graceful.quantile(0.5):.0f} ms)",
            other=f"during a preview, without changes: {busy.quantile(0.99):.0f} ms (median {busy.quantile(0.5):.0f} ms);"
            f" quiet: {quiet.quantile(0.99):.0f} ms (median {quiet.quantile(0.5):.0f} ms)",
            ratio=ratio,
            n=f"{len(graceful.seen)}, {len(busy.seen)} and {len(quiet.seen)} requests",
            goal="≤ 2 ×",
            met=ratio <= 2,
            why="" if ratio <= 2 else "the machines that boot take the same two cores that serve the requests",
        ),
        Row(
            question="failed requests after a power cut",
            ours=f"{len(crash.failed)} of {len(crash.seen)}{f' during {lasted:.1f} s' if crash.failed else ''};"
            f" the record was removed after {took:.1f} s",
            n=f"{len(crash.seen)} requests",
            why=", ".join(f"{count} {text}" for text, count in Counter(text for _, text in crash.failed).items()),
        ),
    ]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="rollcall-bench-") as scratch:
        config = Path(scratch) / "Pulumi.local.yaml"
        config.write_text(CONFIG.format(count=2))
        with sandboxed("bench-storm", config) as sandbox:

            def configure(count: int) -> None:
                config.write_text(CONFIG.format(count=count))
                sandbox.lay_out()

            stack = Deployed(sandbox, "")
            stack.up()
            wait_until(
                "all four serve", lambda: len({visit(stack.env["ROLLCALL_SITE_URL"]) for _ in range(12)}) == 4, 60
            )
            rows = measured(Storm(stack, configure))
            sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
    return report("storm", rows)


if __name__ == "__main__":
    sys.exit(main())
