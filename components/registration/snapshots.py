"""Snapshots of DNS and of the clouds, which several resources of one provider host share.

A preview asks about every fleet and a `destroy` about every machine, and all of them would ask the same APIs for the same things.
Route53 allows ten calls a second for a whole account. So each resource that asks while a snapshot is new gets the same one.
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


class DnsSnapshot:
    """The records at some places and the answers of the name servers, each asked for once.

    An error is raised in all callers: each of them would have waited as long for the same error.
    """

    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self._lock = threading.RLock()
        self._records: tuple[DnsRecord, ...] | None = None
        self._answers: dict[RecordKey, frozenset[str] | None] | None = None
        self._failed: Exception | None = None

    def dns_records(self) -> tuple[DnsRecord, ...]:
        with self._lock:
            if self._records is None:
                self._records = self._once(self._registries.dns_records)
            return self._records

    @property
    def gone(self) -> Sequence[str]:
        """Return the zones that were found deleted."""
        with self._lock:
            self.dns_records()
            return self._registries.gone

    @property
    def notes(self) -> Sequence[str]:
        """Return what is wrong with the name servers."""
        with self._lock:
            return self._registries.notes

    def answers(self) -> Mapping[RecordKey, frozenset[str] | None]:
        with self._lock:
            if self._answers is None:
                self.dns_records()
                self._answers = self._once(self._registries.answers)
            return self._answers

    def _once(self, fetch: Callable[[], T]) -> T:
        if self._failed is not None:
            raise self._failed
        try:
            return fetch()
        except Exception as failed:
            self._failed = failed
            raise

    def challenged(self, gone: Owner) -> Sequence[Records]:
        """Return the places at which there may be a challenge for a machine that is gone."""
        with self._lock:
            self.dns_records()
            return self._registries.challenged(gone)


class DepartureSnapshot(DnsSnapshot):
    """The stack's machines, and after them the records.

    So it has every record that a machine left which no longer runs here. Only a challenge of a watching machine may
    come later, and that machine removes it again.
    """

    def __init__(self, registries: Registries, stack: str) -> None:
        super().__init__(registries)
        self._stack = stack
        self.instances: tuple[Instance, ...] = registries.instances(stack)

    def unproven(self, machines: Sequence[Instance]) -> Mapping[str, str]:
        """Return why it is not proven that Rollcall created these machines, by instance."""
        return self._registries.unproven(self._stack, machines)

    def running(self, generation: str) -> list[Instance]:
        return [each for each in self.instances if each.generation == generation and each.running]


class SnapshotCache(Generic[T]):
    """The last snapshot for each key. Safe for threads: a thread that comes while a snapshot is taken waits for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._last: dict[Hashable, tuple[float, T]] = {}
        # How often a snapshot failed, and the last error.
        self._failed: dict[Hashable, tuple[int, Exception | None]] = {}

    def get(
        self, key: Hashable, take: Callable[[], T], max_age: float, fits: Callable[[T], bool] = lambda _: True
    ) -> T:
        """Return the last snapshot, if it was begun at most `max_age` seconds ago and `fits`; else a new one, whether it fits or not.

        An error of `take` is raised in all threads that have waited for it. The next thread tries again.
        """
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
            failed = self._failed.get(key, (0, None))[0]
        with lock:
            times, error = self._failed.get(key, (0, None))
            if error is not None and times > failed:
                raise error
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
        """Drop the snapshot, because something was changed: the next thread takes a new one."""
        with self._lock:
            self._last.pop(key, None)

    def clear(self) -> None:
        """Drop all snapshots, as in a new provider host, which each run of the engine starts."""
        with self._lock:
            self._last.clear()


SNAPSHOTS: SnapshotCache[DnsSnapshot] = SnapshotCache()
DEPARTURES: SnapshotCache[DepartureSnapshot] = SnapshotCache()
