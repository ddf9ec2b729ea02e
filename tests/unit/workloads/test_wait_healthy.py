"""rollcall.wait_healthy: what is good, and that it gives up in time."""

from __future__ import annotations

import socket

import pytest

from rollcall import wait_healthy


def test_a_port_that_accepts_is_good_and_a_closed_one_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert wait_healthy.main(f"tcp:{port}", 0) == 0
    assert wait_healthy.main(f"tcp:{port}", 0) == 1
    assert (
        f"reason=workload-unhealthy seconds=0 check=tcp:{port} error=ConnectionRefusedError" in capsys.readouterr().err
    )
