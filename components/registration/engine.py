"""What a dynamic resource says while it works, and how it notices that nobody listens any more.

The engine starts the provider host with its own address as the only argument; the host passes neither a logger nor a
cancellation on. So lines go to the engine's Log service, and a wait ends when that address no longer answers.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import time
from typing import Any

from rollcall.escaping import escaped_lines

_ADDRESS = re.compile(r"(127\.0\.0\.1|\[::1\]|localhost):(\d+)")
_HEARTBEAT = 2.0


class EngineGoneError(Exception):
    """The engine that asked for this work is no longer there (kill -9, a lost terminal); the work was stopped."""


class Engine:
    """The engine behind this provider host. Without one (unit tests) lines go to stderr and it never goes away."""

    def __init__(self, address: str | None = None) -> None:
        given = address if address is not None else (sys.argv[1] if len(sys.argv) > 1 else "")
        self._address = given if _ADDRESS.fullmatch(given) else None
        self._stub: Any = None
        self._checked = time.monotonic()

    def say(self, text: str, *, warning: bool = False) -> None:
        """One line to whoever runs `pulumi`. Never raises: a lost line must not fail a deployment."""
        text = escaped_lines(text)
        if self._address is None:
            print(text, file=sys.stderr)
            return
        # A provider host lives as long as the engine, so the channel does too.
        with contextlib.suppress(Exception):
            import grpc
            from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

            if self._stub is None:
                self._stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(self._address))
            severity = engine_pb2.WARNING if warning else engine_pb2.INFO
            line = engine_pb2.LogRequest(severity=severity, message=f"{text}\n", streamId=os.getpid())
            self._stub.Log(line, timeout=5)

    def check(self) -> None:
        """Raises EngineGoneError when the engine does not answer any more; asks every 2 s at the most."""
        if self._address is None or time.monotonic() - self._checked < _HEARTBEAT:
            return
        self._checked = time.monotonic()
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
        except OSError as gone:
            raise EngineGoneError(f"the Pulumi engine at {self._address} is gone") from gone

    def sleep(self, seconds: float) -> None:
        """Sleep, but notice within 3 s that the engine has gone. Raises EngineGoneError then."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, 1.0))
        self.check()
