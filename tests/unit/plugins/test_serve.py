"""localcloud.plugins.serve: a stand-in serves while its engine answers, and not longer."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.clouds


@pytest.mark.parametrize("name", ["aws", "cloudflare", "command"])
def test_a_stand_in_ends_within_five_seconds_of_its_engine(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as engine:
        address = f"127.0.0.1:{engine.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "localcloud.plugins.serve", name, address],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip().isdigit()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=3)
            engine.close()
            assert process.wait(timeout=7) == 0
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


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
