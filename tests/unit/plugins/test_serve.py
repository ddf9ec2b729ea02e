"""localcloud.plugins.serve: a stand-in serves while its engine answers, and not longer."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NAMES = ["aws", "cloudflare", "command"]
pytestmark = pytest.mark.clouds


@dataclass
class Served:
    """A stand-in; whether it still ran while its engine had answered for three seconds, and when its engine went away."""

    process: subprocess.Popen[bytes]
    engine: socket.socket
    printed: bytes = b""
    ran_on: bool = False
    left: float = 0.0


@pytest.fixture(scope="module")
def served() -> Iterator[dict[str, Served]]:
    """All of them at the same time, since there is much to be waited for."""
    found: dict[str, Served] = {}
    for name in NAMES:
        engine = socket.create_server(("127.0.0.1", 0))
        words = ["-m", "localcloud.plugins.serve", name, f"127.0.0.1:{engine.getsockname()[1]}"]
        process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        found[name] = Served(process, engine)
    try:
        for each in found.values():
            assert each.process.stdout is not None
            each.printed = each.process.stdout.readline().strip()
        time.sleep(3)
        for each in found.values():
            each.ran_on = each.process.poll() is None
            each.engine.close()
            each.left = time.monotonic()
        yield found
    finally:
        for each in found.values():
            each.engine.close()
            each.process.kill()
            each.process.communicate()


@pytest.mark.parametrize("name", NAMES)
def test_a_stand_in_ends_within_five_seconds_of_its_engine(served: dict[str, Served], name: str) -> None:
    one = served[name]
    assert one.printed.isdigit()
    assert one.ran_on
    assert one.process.wait(timeout=max(0.0, one.left + 7 - time.monotonic())) == 0


def test_an_unknown_name_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "localcloud.plugins.serve", "azure"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "aws|cloudflare|command" in done.stderr
