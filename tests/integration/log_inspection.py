"""What tests see of machines that are gone by then: their logs to the last line, and what they asked of the clouds."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from localcloud.runtime.sandbox import Sandbox
from tests import exec_events

_LINE = re.compile(
    r"(?P<at>[\d-]+ [\d:]+,\d+) (?P<who>\S+) \S+ (?P<method>\S+) (?P<path>\S+) (?P<code>\S+) (?P<ms>\d+) ms"
)
CLOUDFLARE, ROUTE53 = "/client/v4/", "/2013-04-01/"
_ALL_EVERY_S = 2.0


@dataclass(frozen=True)
class Request:
    """One line of the local clouds' access log; `at` in seconds of the day's clock, `code` 0 where the reply was cut."""

    at: float
    who: str
    method: str
    path: str
    code: int


def requests_of(sandbox: Sandbox, api: str, who: Callable[[str], bool] = lambda _: True) -> list[Request]:
    """Every request to this API by a client with an address that `who` accepts, in the order in which they ended."""
    found = []
    for file in ("access.log.1", "access.log"):
        with contextlib.suppress(FileNotFoundError):
            for line in (sandbox.state / "logs" / file).read_text().splitlines():
                parts = _LINE.match(line)
                if parts and parts["path"].startswith(api) and who(parts["who"]):
                    at = datetime.strptime(parts["at"], "%Y-%m-%d %H:%M:%S,%f").timestamp()
                    code = int(parts["code"]) if parts["code"].isdigit() else 0
                    found.append(Request(at, parts["who"], parts["method"], parts["path"], code))
    return found


def is_machine(address: str) -> bool:
    return not address.startswith("127.")


def most_in(requests: Sequence[Request], seconds: float) -> int:
    """The most requests in any span of so many seconds."""
    times = sorted(each.at for each in requests)
    most, first = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


class Logs:
    """The agents' logs of all machines, by instance, kept open from the host: so they are whole when the machines are gone."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._folder = sandbox.state / "machines"
        self._files: dict[str, IO[bytes]] = {}
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def text(self, instance: str) -> str:
        file = self._files[instance]
        file.seek(0)
        return file.read().decode(errors="replace")

    @property
    def instances(self) -> set[str]:
        return set(self._files)

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            self._open_new()

    def _open_new(self) -> None:
        for log in self._folder.glob("*/upper/var/log/rollcall.log"):
            if (name := log.parents[3].name) not in self._files:
                with contextlib.suppress(FileNotFoundError):
                    self._files[name] = log.open("rb")

    def __enter__(self) -> Logs:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watcher.join()
        for file in self._files.values():
            file.close()


def assert_last_leaves_succeed(
    sandbox: Sandbox, logs: Logs, machines: Iterable[dict[str, Any]], since: float, apis: Sequence[str]
) -> None:
    """Assert that each of the machines, which are gone, left both times since then: when it was asked to, and at its shutdown.

    The leave at shutdown finds no record and logs nothing. But it asks each of `apis`, which must still let it.
    """
    for machine in machines:
        log = logs.text(machine["id"])
        assert "left: " in log and "leave failed" not in log, (machine, log[-3000:])
        for api in apis:
            requested = requests_of(sandbox, api, lambda who, machine=machine: who in machine["addresses"])  # type: ignore[misc]
            requested = [each for each in requested if each.at >= since]
            assert len(requested) >= 2, (machine, api, requested)
            assert [each for each in requested if each.code != 200] == [], (machine, api, requested)


def _running() -> list[int]:
    return [int(each) for each in os.listdir("/proc") if each.isdigit()]  # noqa: PTH208 - names only, often


class Arguments:
    """The arguments of every process of this machine, the booted machines' included.

    A process is read when it becomes another program (execve), by an event of the kernel, and then every two seconds. Where there are no
    such events, it is read from its start for a second, and then every two seconds.
    """

    def __init__(self, *, events: bool = True) -> None:
        self.seen: set[bytes] = set()
        self._events = exec_events.subscribed() if events else None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def by_events(self) -> bool:
        return self._events is not None

    def _run(self) -> None:
        if self._events is None:
            self._poll()
            return
        with self._events as events:
            self._follow(events)

    def _follow(self, events: socket.socket) -> None:
        whole = 0.0
        while not self._stop.is_set():
            if time.monotonic() - whole >= _ALL_EVERY_S:
                whole = time.monotonic()
                self._read(_running())
            try:
                self._read(exec_events.received(events))
            except OSError:
                # The buffer was full: some have no event.
                whole = 0.0

    def _poll(self) -> None:
        since: dict[int, float] = {}
        whole = 0.0
        while not self._stop.wait(0.02):
            now = time.monotonic()
            since = {pid: since.get(pid, now) for pid in _running()}
            all_of_them = now - whole >= _ALL_EVERY_S
            whole = now if all_of_them else whole
            self._read(pid for pid, began in since.items() if all_of_them or now - began < 1.0)

    def _read(self, processes: Iterable[int]) -> None:
        for pid in processes:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                self.seen.add(Path(f"/proc/{pid}/cmdline").read_bytes())

    @contextlib.contextmanager
    def recorded(self) -> Iterator[Arguments]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join(10)


@dataclass
class Prober:
    """Asks again and again on its own thread, resolving each time as `ask` does; keeps every answer with its time."""

    ask: Callable[[], str]
    every: float = 0.1
    answers: list[tuple[float, str]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self) -> Iterator[Prober]:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(self.every):
            at = time.time()
            self.answers.append((at, self.ask()))

    def failures(self, good: Callable[[str], bool]) -> list[tuple[float, str]]:
        return [each for each in list(self.answers) if not good(each[1])]


def config_file(folder: Path, text: str) -> Path:
    """A stack's configuration of a test's own."""
    path = folder / "Pulumi.local.yaml"
    path.write_text(text)
    return path
