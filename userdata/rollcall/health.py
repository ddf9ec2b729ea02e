"""Check whether the workload is healthy: `http:PORT:PATH` (2xx or 3xx), `tcp:PORT` (accepts), `command:PATH` (exits with 0)."""

from __future__ import annotations

import http.client
import socket
import subprocess
from collections.abc import Callable

from rollcall.errors import FatalError
from rollcall.settings import FALL

TIMEOUT = 3.0
RISE = 1


def check_of(text: str) -> Callable[[], str]:
    """Return the check that `text` describes.

    The check returns "" for a healthy workload, otherwise which check failed and how. Raises FatalError, which names what is wrong with
    `text`.
    """
    kind, _, rest = text.partition(":")
    port, _, path = rest.partition(":")
    check: Callable[[], str]
    if kind == "command" and rest.startswith("/"):
        check = lambda: _command(rest)  # noqa: E731
    elif kind in ("http", "tcp") and port.isdecimal() and 0 < int(port) < 65536:
        check = (lambda: _http(int(port), path or "/")) if kind == "http" else (lambda: _tcp(int(port)))
    else:
        raise FatalError(f"reason=unknown-check check={text!r}")

    def named() -> str:
        try:
            problem = check()
        except Exception as failed:  # noqa: BLE001 - a check that raises anything has failed
            problem = repr(failed)
        return problem and f"{text} {problem}"

    return named


class Health:
    """The health of a workload, by a row of checks.

    `healthy` is True after `rise` good checks in a row and False after `fall` bad ones; before that it is not known (None). `why` is the
    fault that the last check found.
    """

    def __init__(self, check: Callable[[], str], rise: int = RISE, fall: int = FALL) -> None:
        self._check, self._rise, self._fall = check, rise, fall
        self._row = 0
        self._last = False
        self.healthy: bool | None = None
        self.why = ""

    def run_checks(self) -> bool:
        """Run the check once. Return whether the workload is known to be healthy."""
        self.why = self._check()
        good = not self.why
        self._row = self._row + 1 if good == self._last else 1
        self._last = good
        if self._row >= (self._rise if good else self._fall):
            self.healthy = good
        return bool(self.healthy)


def _http(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", path, headers={"User-Agent": "rollcall-health"})
        reply = connection.getresponse()
        return _problem(not 200 <= reply.status < 400, reply.status, reply.read(80))
    finally:
        connection.close()


def _tcp(port: int) -> str:
    socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT).close()
    return ""


def _command(path: str) -> str:
    done = subprocess.run([path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT * 3, check=False)
    return _problem(done.returncode != 0, done.returncode, done.stdout)


def _problem(bad: bool, status: int, output: bytes) -> str:
    return f"status={status} said={output[:80]!r}" if bad else ""
