"""Faults that a user can switch on in any of the local clouds, until they are cleared.

    SERVICE[:METHOD][:PATH-REGEX] ACTION[=VALUE] [times=N] [for=SECONDS] [p=0..1]

`slow=SECONDS`, `status=CODE`, `throttle`, `drop` (cut before acting) and `lose` (act, then cut the reply) work on every
service; any other word is a switch that the service itself asks for (`cloudapi readonly`, `route53 propagation=30`, `dns refused`,
`dns lame`, `ec2 capacity=us-west-2b` or `ec2 capacity=us-west-2b/t3.micro`).
"""

from __future__ import annotations

import contextlib
import math
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from localcloud.network.http import WSGIApp

SERVICES = ("cloudflare", "route53", "ec2", "ssm", "iam", "sts", "s3", "cloudapi", "dns", "edge", "acme")
ACTIONS = ("slow", "status", "throttle", "drop", "lose")
_CAPACITY = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d[a-z](?:/[a-z0-9.-]+)?")
_SPEC = re.compile(r"(?P<service>[a-z0-9]+)(?::(?P<method>[A-Z]+))?(?::(?P<path>\S+))?")


class FaultError(ValueError):
    """The text does not name a fault. The message shows the right form."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`times` and `seconds` bound it (None: until cleared); `chance` is from 0 to 1."""

    service: str
    action: str
    value: str = ""
    method: str = ""
    path: str = ""
    times: int | None = None
    seconds: float | None = None
    chance: float = 1.0

    @classmethod
    def parse(cls, spec: str) -> Fault:
        words = spec.split()
        target = _SPEC.fullmatch(words[0]) if words else None
        if target is None or len(words) < 2:
            raise FaultError(
                f"{spec!r}: is not a fault. Write SERVICE[:METHOD][:PATH-REGEX] ACTION[=VALUE] [times=N] [for=S] [p=P]."
            )
        if target["service"] not in SERVICES:
            raise FaultError(f"{target['service']!r}: is not a service. Choose one of {', '.join(SERVICES)}.")
        action, _, value = words[1].partition("=")
        bounds = dict(word.partition("=")[::2] for word in words[2:])
        unknown = set(bounds) - {"times", "for", "p"}
        try:
            if not action:
                raise ValueError(
                    f"{words[1]!r} names no action. Choose one of {', '.join(ACTIONS)}, or a switch of the service"
                )
            if unknown:
                raise ValueError(f"{', '.join(sorted(unknown))} is not one of times, for, p. Remove it")
            if action == "slow":
                _number("slow=SECONDS", value, 0, 3600)
            if action == "status":
                _number("status=CODE", value, 100, 999, whole=True)
            if target["service"] == "ec2" and action == "capacity" and not _CAPACITY.fullmatch(value):
                raise ValueError(
                    f"{value!r} is not capacity=ZONE[/TYPE]. Write for example capacity=us-west-2b/t3.micro"
                )
            re.compile(target["path"] or "")
            return cls(
                service=target["service"],
                action=action,
                value=value,
                method=target["method"] or "",
                path=target["path"] or "",
                times=int(_number("times=N", bounds["times"], 1, whole=True)) if "times" in bounds else None,
                seconds=_number("for=SECONDS", bounds["for"], 0) if "for" in bounds else None,
                chance=_number("p=P", bounds["p"], 0, 1) if "p" in bounds else 1.0,
            )
        except re.error as wrong:
            raise FaultError(
                f"{spec!r}: {target['path']!r} is not a regular expression ({wrong}). Correct it."
            ) from wrong
        except ValueError as wrong:
            raise FaultError(f"{spec!r}: {wrong}.") from wrong

    def __str__(self) -> str:
        target = ":".join(part for part in (self.service, self.method, self.path) if part)
        action = f"{self.action}={self.value}" if self.value else self.action
        bounds = [f"times={self.times}"] if self.times is not None else []
        bounds += [f"for={_shortest(self.seconds)}"] if self.seconds is not None else []
        bounds += [f"p={_shortest(self.chance)}"] if self.chance != 1 else []
        return " ".join((target, action, *bounds))

    def fits(self, service: str, method: str, path: str) -> bool:
        return (
            self.service == service
            and (not self.method or self.method == method)
            and (not self.path or re.search(self.path, path) is not None)
        )


@dataclass
class _Active:
    fault: Fault
    until: float | None
    left: int | None


class Faults:
    """The faults that are on. Thread-safe. `seed` makes those with a chance repeatable."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, seed: int | None = None) -> None:
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311
        self._active: list[_Active] = []
        self._lock = threading.Lock()

    def add(self, spec: str) -> Fault:
        """Switch a fault on. Raises FaultError if `spec` does not name a fault."""
        fault = Fault.parse(spec)
        with self._lock:
            until = self._clock() + fault.seconds if fault.seconds is not None else None
            self._active.append(_Active(fault, until, fault.times))
        return fault

    def clear(self, service: str | None = None) -> None:
        with self._lock:
            self._active = [each for each in self._active if service is not None and each.fault.service != service]

    def active(self) -> list[str]:
        with self._lock:
            self._expire()
            return [str(each.fault) for each in self._active]

    def switch(self, service: str, name: str) -> str | None:
        """The value of a switch (an empty text where it has none), or None when it is off. Uses up one of its `times`."""
        found = self.take(service, "", "", lambda fault: fault.action == name)
        return found.value if found is not None else None

    def take(
        self,
        service: str,
        method: str,
        path: str,
        wanted: Callable[[Fault], bool] = lambda fault: fault.action in ACTIONS,
    ) -> Fault | None:
        """The first fault that hits this request; counts as one of its `times`."""
        with self._lock:
            self._expire()
            for each in self._active:
                hit = wanted(each.fault) and each.fault.fits(service, method, path)
                if hit and (each.fault.chance >= 1 or self._random.random() < each.fault.chance):
                    if each.left is not None:
                        each.left -= 1
                    return each.fault
        return None

    def middleware(
        self,
        service: str | Callable[[WSGIEnvironment], str],
        app: WSGIApp,
        throttled: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]] | None = None,
    ) -> WSGIApp:
        """`app` with this service's faults in front. `throttled` answers in the service's own way; else a bare 429."""

        def faulty(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            named = service if isinstance(service, str) else service(environ)
            fault = self.take(named, environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""))
            if fault is None:
                return app(environ, start_response)
            if fault.action == "slow":
                time.sleep(float(fault.value))
                return app(environ, start_response)
            if fault.action == "status":
                return _answer(start_response, int(fault.value))
            if fault.action == "throttle":
                return throttled(environ, start_response) if throttled else _answer(start_response, 429)
            if fault.action == "lose":
                _run(app, environ)
            return _cut(environ, start_response)

        return faulty

    def _expire(self) -> None:
        now = self._clock()
        self._active = [
            each
            for each in self._active
            if (each.until is None or each.until > now) and (each.left is None or each.left > 0)
        ]


def _number(form: str, text: str, least: float, most: float = math.inf, *, whole: bool = False) -> float:
    """Return `text` as a number. Raises ValueError, with `form` and the bounds, if it is not a number between them."""
    with contextlib.suppress(ValueError):
        found = int(text) if whole else float(text)
        if least <= found <= most and found != math.inf:
            return found
    kind = "a whole number" if whole else "a number"
    bounds = f"from {least:g}" + (f" to {most:g}" if most != math.inf else "")
    raise ValueError(f"{text!r} is not {form}. Write {kind} {bounds}")


def _shortest(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)


def _answer(start_response: StartResponse, status: int) -> Iterable[bytes]:
    body = b'{"message": "a fault was switched on"}'
    start_response(f"{status} Fault", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def _run(app: WSGIApp, environ: WSGIEnvironment) -> None:
    """Run the app to its end, and drop its reply."""

    def nowhere(*_: Any) -> Callable[[bytes], object]:
        return lambda _chunk: None

    result = app(environ, nowhere)
    try:
        for _ in result:
            pass
    finally:
        close = getattr(result, "close", None)
        if close:
            close()


def _cut(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Reset the connection without a reply, so the client cannot know what happened."""
    connection = environ.get("rollcall.socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError("a fault cut the connection")
