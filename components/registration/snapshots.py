"""Looks at DNS and at the clouds that several resources of one provider host share.

A preview asks after every fleet, and a `destroy` after every machine, and all of them would ask the same APIs the same things;
Route53 takes ten calls a second for a whole account. So one look serves whoever comes while it is new.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from components.dns.base import Records
from components.model import DnsRecord, Instance, RecordKey
from components.registration.inventory import Registries
from rollcall.ownership import Owner

T = TypeVar("T")


class Look:
    """What stands at some places and what the name servers answer, each as it is first asked for here. What that raises goes to all
    who ask for it here: each of them would have waited as long for the same."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self._lock = threading.RLock()
        self._entries: tuple[DnsRecord, ...] | None = None
        self._answers: dict[RecordKey, frozenset[str] | None] | None = None
        self._failed: Exception | None = None

    def entries(self) -> tuple[DnsRecord, ...]:
        with self._lock:
            if self._entries is None:
                self._entries = self._once(self._registries.entries)
            return self._entries

    @property
    def gone(self) -> Sequence[str]:
        """The zones that were found deleted."""
        with self._lock:
            self.entries()
            return self._registries.gone

    @property
    def notes(self) -> Sequence[str]:
        """What was found wrong with the name servers."""
        with self._lock:
            return self._registries.notes

    def answers(self) -> Mapping[RecordKey, frozenset[str] | None]:
        with self._lock:
            if self._answers is None:
                self.entries()
                self._answers = self._once(self._registries.answers)
            return self._answers

    def _once(self, ask: Callable[[], T]) -> T:
        if self._failed is not None:
            raise self._failed
        try:
            return ask()
        except Exception as failed:
            self._failed = failed
            raise

    def challenged(self, gone: Owner) -> Sequence[Records]:
        """The places at which there may be a challenge for a machine that is gone."""
        with self._lock:
            self.entries()
            return self._registries.challenged(gone)


class Departure(Look):
    """The stack's machines, and only then what stands: everything that a machine which does not run here has left is in it. What
    comes later is a watcher's challenge, which that watcher takes away again."""

    def __init__(self, registries: Registries, stack: str) -> None:
        super().__init__(registries)
        self._stack = stack
        self.seen: tuple[Instance, ...] = registries.seen(stack)

    def unproven(self, machines: Sequence[Instance]) -> Mapping[str, str]:
        """Why it is not proven that Rollcall made these, by instance."""
        return self._registries.unproven(self._stack, machines)

    def running(self, generation: str) -> list[Instance]:
        return [each for each in self.seen if each.generation == generation and each.running]


class Shared(Generic[T]):
    """The last look for each key. Safe for threads: who comes while one is being taken waits for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._last: dict[Hashable, tuple[float, T]] = {}
        # How often one could not be taken, and why not the last time.
        self._failed: dict[Hashable, tuple[int, Exception | None]] = {}

    def get(
        self, key: Hashable, take: Callable[[], T], max_age: float, fits: Callable[[T], bool] = lambda _: True
    ) -> T:
        """The last one, if it was begun at most `max_age` seconds ago and `fits`; else a new one, whether it fits or not. What
        `take` raises goes to all who have waited for it, and the next one tries again."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
            failed = self._failed.get(key, (0, None))[0]
        with lock:
            times, why = self._failed.get(key, (0, None))
            if why is not None and times > failed:
                raise why
            last = self._last.get(key)
            if last is not None and self._clock() - last[0] <= max_age and fits(last[1]):
                return last[1]
            began = self._clock()
            try:
                self._last[key] = (began, taken := take())
            except Exception as refused:
                self._failed[key] = (times + 1, refused)
                raise
            return taken

    def forget(self, key: Hashable) -> None:
        """Something was changed: who comes next looks again."""
        with self._lock:
            self._last.pop(key, None)

    def clear(self) -> None:
        """As in a new provider host, which each run of the engine starts."""
        with self._lock:
            self._last.clear()


LOOKS: Shared[Look] = Shared()
DEPARTURES: Shared[Departure] = Shared()
