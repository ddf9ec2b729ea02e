"""Is the workload healthy? `http:PORT:PATH` (2xx or 3xx), `tcp:PORT` (accepts), `command:PATH` (exits with 0)."""

from __future__ import annotations

import http.client
import socket
import subprocess
from collections.abc import Callable

from rollcall.errors import FatalError

TIMEOUT = 3.0
RISE, FALL = 1, 3


def check_of(text: str) -> Callable[[], bool]:
    """The check that `text` describes. Raises FatalError naming what is wrong with it."""
    kind, _, rest = text.partition(":")
    if kind == "command" and rest.startswith("/"):
        return lambda: _command(rest)
    port, _, path = rest.partition(":")
    if kind in ("http", "tcp") and port.isdecimal() and 0 < int(port) < 65536:
        return (lambda: _http(int(port), path or "/")) if kind == "http" else (lambda: _tcp(int(port)))
    raise FatalError(f"reason=unknown-check check={text!r}")


class Health:
    """Healthy after `rise` good checks in a row, unhealthy after `fall` bad ones; before that nobody knows (None)."""

    def __init__(self, check: Callable[[], bool], rise: int = RISE, fall: int = FALL) -> None:
        self._check, self._rise, self._fall = check, rise, fall
        self._row = 0
        self._last = False
        self.healthy: bool | None = None

    def look(self) -> bool:
        """Look, and say whether it is known to be healthy."""
        good = self._check()
        self._row = self._row + 1 if good == self._last else 1
        self._last = good
        if self._row >= (self._rise if good else self._fall):
            self.healthy = good
        return bool(self.healthy)


def _http(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", path, headers={"User-Agent": "rollcall-health", "Connection": "close"})
        return 200 <= connection.getresponse().status < 400
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tcp(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT).close()
    except OSError:
        return False
    return True


def _command(path: str) -> bool:
    try:
        return subprocess.run([path], capture_output=True, timeout=TIMEOUT * 3, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
