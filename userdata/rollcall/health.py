"""Check whether the workload is healthy: `http:PORT:PATH` (2xx or 3xx), `tcp:PORT` (accepts), `command:PATH` (exits with 0).

`tls:PORT:HOST` is good if nginx has the certificate of a site. `workload:NAME` is short for all checks in the definition of a
workload.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rollcall import edge
from rollcall.command_checks import CommandCheck, unit_of
from rollcall.errors import FatalError
from rollcall.settings import FALL
from rollcall.wait_healthy import checks_of

TIMEOUT = 3.0
RISE = 1
WORKLOADS = Path("/opt/rollcall/workloads")
Check = Callable[[], "str | None"]


def check_of(text: str, timeout: float | None = None) -> Check:
    """Return the check that `text` describes. An answer of http and tcp may take `timeout` seconds.

    The check returns "" for a healthy workload, otherwise which check failed and how. It returns None if there is nothing new since the
    last call. Raises FatalError, which names what is wrong with `text`.
    """
    kind, _, rest = text.partition(":")
    port, _, path = rest.partition(":")
    check: Check
    if kind == "workload" and rest:
        check = _workload(rest)
    elif kind == "command" and rest.startswith("/"):
        check = lambda: _command(rest)  # noqa: E731
    elif kind in _AT_PORTS and port.isdecimal() and 0 < int(port) < 65536 and (path or kind != "tls"):
        check = lambda: _AT_PORTS[kind](int(port), path, timeout or TIMEOUT)  # noqa: E731
    else:
        raise FatalError(f"reason=unknown-check check={text!r}")

    def named() -> str | None:
        try:
            problem = check()
        except Exception as failed:  # noqa: BLE001 - a check that raises anything has failed
            problem = repr(failed)
        # Each check of a workload says which one it is.
        return problem if kind == "workload" else problem and f"{text} {problem}"

    return named


def all_of(checks: Iterable[Check]) -> Check:
    """Return a check that is good if all of these are."""
    each = [*checks]

    def check() -> str | None:
        is_new = True
        for one in each:
            why = one()
            if why:
                return why
            is_new &= why is not None
        return "" if is_new else None

    return check


def _workload(name: str) -> Check:
    """Return the checks in the definition of a workload. Another release in place has another definition."""
    known: dict[str, Check] = {}

    def check() -> str | None:
        try:
            text = (WORKLOADS / name / "current/workload.json").read_text()
        except FileNotFoundError:
            return f"reason=check-before-workload workload={name}"
        if text not in known:
            known.clear()
            known[text] = all_of(_defined(name, json.loads(text)))
        return known[text]()

    return check


def _defined(name: str, definition: Mapping[str, Any]) -> list[Check]:
    return [
        CommandCheck(
            unit_of(name, number),
            each["check"].partition(":")[2],
            interval=each["interval"],
            timeout=each["timeout"],
        )
        if each["check"].startswith("command:")
        else check_of(each["check"], each.get("timeout"))
        for number, each in enumerate(checks_of(definition))
    ]


class Health:
    """The health of a workload, by a row of checks.

    `healthy` is True after `rise` good checks in a row and False after `fall` bad ones; before that it is not known (None). `why` is the
    fault that the last check found.
    """

    def __init__(self, check: Check, rise: int = RISE, fall: int = FALL) -> None:
        self._check, self._rise, self._fall = check, rise, fall
        self._row = 0
        self._last = False
        self.healthy: bool | None = None
        self.why = ""

    def run_checks(self) -> bool:
        """Run the check once. Return whether the workload is known to be healthy. If there is nothing new, nothing changes."""
        why = self._check()
        if why is None:
            return bool(self.healthy)
        self.why = why
        good = not why
        self._row = self._row + 1 if good == self._last else 1
        self._last = good
        if self._row >= (self._rise if good else self._fall):
            self.healthy = good
        return bool(self.healthy)


def _http(port: int, path: str, timeout: float) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path or "/", headers={"User-Agent": "rollcall-health"})
        reply = connection.getresponse()
        return _problem(not 200 <= reply.status < 400, reply.status, reply.read(80))
    finally:
        connection.close()


def _tcp(port: int, _path: str, timeout: float) -> str:
    socket.create_connection(("127.0.0.1", port), timeout=timeout).close()
    return ""


def _tls(port: int, host: str, timeout: float) -> str:
    """A port that accepts proves nothing: for a host that it does not know, nginx answers with the certificate of another site."""
    # Only the edge knows who signs certificates of origins.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=timeout) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        shown = ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"")
    ours = (edge.ORIGINS / f"{host}.pem").read_text()
    # The first line of a certificate that visitors trust (rollcall.certificates).
    end = ours.partition("\n")[0].partition("until=")[2]
    if end and int(end) < time.time():
        return "reason=certificate-expired"
    return "" if "".join(shown.split()) in "".join(ours.split()) else "reason=another-certificate"


_AT_PORTS = {"http": _http, "tcp": _tcp, "tls": _tls}


def _command(path: str) -> str:
    done = subprocess.run([path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT * 3, check=False)
    return _problem(done.returncode != 0, done.returncode, done.stdout)


def _problem(bad: bool, status: int, output: bytes) -> str:
    return f"status={status} said={output[:80].decode(errors='replace')!r}" if bad else ""
