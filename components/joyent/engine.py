"""The Pulumi engine behind a provider host: one line to its user, and a sleep that ends when it has gone.

The host gets the engine's address as its only argument and passes neither a logger nor a cancellation to a provider.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import time

from components.joyent.errors import FatalError
from rollcall.escaping import escaped_lines

_ADDRESS = re.compile(r"(127\.0\.0\.1|\[::1\]|localhost):\d+")
_STEP = 2.0


class EngineGoneError(FatalError):
    """The engine was killed; nobody would store what comes of this work."""


def address() -> str:
    """The engine's address, "" outside a provider host."""
    given = sys.argv[1] if len(sys.argv) > 1 else ""
    return given if _ADDRESS.fullmatch(given) else ""


def sleep(seconds: float) -> None:
    """Sleep, but raise EngineGoneError within about 3 s of the engine's end."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _STEP))
        _check()


def _check() -> None:
    if engine := address():
        host, _, port = engine.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
        except OSError as gone:
            raise EngineGoneError(
                f"pulumi: the engine at {engine} is gone, so the provider stopped waiting. Run `pulumi up` again."
            ) from gone


def say(text: str) -> None:
    """One line to whoever runs `pulumi`; nothing outside a provider host. A lost line must not fail a deployment."""
    if not address():
        return
    import grpc
    from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

    with contextlib.suppress(grpc.RpcError), grpc.insecure_channel(address()) as channel:
        request = engine_pb2.LogRequest(severity=engine_pb2.INFO, message=escaped_lines(text))
        engine_pb2_grpc.EngineStub(channel).Log(request, timeout=5)
