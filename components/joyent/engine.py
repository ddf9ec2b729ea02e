"""Talk to the Pulumi engine behind a provider host: send lines to its user, and end waits when the engine has ended.

The engine starts the host with its address as the only argument. The host gives a provider neither a logger nor a
cancellation. So lines go to the engine's Log service, and a wait ends when its address no longer answers.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
import sys
import time
from typing import Any

from components.joyent.errors import FatalError
from rollcall.escaping import escaped_lines

_ADDRESS = re.compile(r"(127\.0\.0\.1|\[::1\]|localhost):(\d+)")
_HEARTBEAT_S, _STEP_S, _CONNECT_LIMIT_S, _LOG_LIMIT_S = 2.0, 1.0, 2.0, 5.0


class EngineGoneError(FatalError):
    """The engine that asked for this work was killed, or its terminal is lost.

    No engine would store the result, so the work was stopped.
    """


class Engine:
    """The engine at `address`, or the one of this provider host.

    Without one (unit tests) lines go to stderr, and it never ends.
    """

    def __init__(self, address: str | None = None) -> None:
        given = address if address is not None else (sys.argv[1] if len(sys.argv) > 1 else "")
        self._address = given if _ADDRESS.fullmatch(given) else None
        self._stub: Any = None
        self._checked = time.monotonic()

    def say(self, text: str, *, warning: bool = False) -> None:
        """Show one line to the user of `pulumi`. Never raises: a lost line must not fail a deployment."""
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
            self._stub.Log(line, timeout=_LOG_LIMIT_S)

    def check(self) -> None:
        """Raise EngineGoneError when the engine no longer answers. It is asked every 2 s at most."""
        if self._address is None or time.monotonic() - self._checked < _HEARTBEAT_S:
            return
        self._checked = time.monotonic()
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_LIMIT_S).close()
        except OSError as gone:
            raise EngineGoneError(
                f"pulumi: the engine at {self._address} is gone, so the provider stopped waiting. Run `pulumi up` again."
            ) from gone

    def sleep(self, seconds: float) -> None:
        """Sleep. Raise EngineGoneError within 5 s of the engine's end."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, _STEP_S))
        self.check()


@functools.cache
def _of_this_host() -> Engine:
    return Engine()


def say(text: str) -> None:
    """Show one line to the user of `pulumi`, from any thread of this provider host."""
    _of_this_host().say(text)


def sleep(seconds: float) -> None:
    """Sleep as long as this provider host's engine is there. Raises EngineGoneError."""
    _of_this_host().sleep(seconds)
