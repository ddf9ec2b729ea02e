"""rollcall.wait_healthy: what is good, and that it gives up in time."""

from __future__ import annotations

import socket
import sys

import pytest

from rollcall import wait_healthy


def test_a_port_that_accepts_is_good_and_a_closed_one_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert wait_healthy.main({"check": f"tcp:{port}", "grace": 0}) == 0
    assert wait_healthy.main({"check": f"tcp:{port}", "grace": 0}) == 1
    assert (
        f"reason=workload-unhealthy seconds=0 check='tcp:{port}' error=ConnectionRefusedError"
        in capsys.readouterr().err
    )


def test_each_check_with_a_grace_must_be_good(capsys: pytest.CaptureFixture[str]) -> None:
    good = {"check": f"command:{sys.executable} --version", "grace": 0, "timeout": 30}
    assert wait_healthy.main({"checks": [good]}) == 0
    # One without a grace is only for the agent.
    assert wait_healthy.main({"checks": [good, {"check": "command:/bin/false"}]}) == 0
    assert wait_healthy.main({"checks": [good, {"check": "command:/bin/false", "grace": 0}]}) == 1
    assert "check='command:/bin/false' status=1" in capsys.readouterr().err
    assert wait_healthy.main({"checks": [{"check": "command:/no/such", "grace": 0}]}) == 1
    assert wait_healthy.main({"checks": [{"check": "command:/bin/sleep 9", "grace": 0, "timeout": 0.05}]}) == 1
    assert "error=TimeoutExpired" in capsys.readouterr().err
