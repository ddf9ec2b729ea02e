"""components.registration.snapshots: what is asked once for many, and when it is asked again."""

from __future__ import annotations

import threading
import time

import pytest

from components.registration.snapshots import DnsSnapshot, SnapshotCache
from rollcall.errors import TransientError


class Source:
    """Counts how often it is asked; each answer is a new number."""

    def __init__(self, takes: float = 0.0) -> None:
        self.reads = 0
        self._takes = takes

    def __call__(self) -> int:
        time.sleep(self._takes)
        self.reads += 1
        return self.reads


def test_one_answer_serves_until_it_is_too_old() -> None:
    now = 0.0
    shared: SnapshotCache[int] = SnapshotCache(lambda: now)
    source = Source()
    assert [shared.get("a", source, 5.0) for _ in range(3)] == [1, 1, 1]
    now = 5.0
    assert shared.get("a", source, 5.0) == 1
    now = 5.1
    assert shared.get("a", source, 5.0) == 2


def test_its_age_counts_from_when_it_was_begun() -> None:
    now = 0.0
    shared: SnapshotCache[int] = SnapshotCache(lambda: now)

    def slow() -> int:
        nonlocal now
        now += 4.0
        return int(now)

    assert shared.get("a", slow, 5.0) == 4
    now += 2.0
    assert shared.get("a", slow, 5.0) == 10


def test_one_that_does_not_fit_is_taken_again_and_given_whether_it_fits_or_not() -> None:
    shared: SnapshotCache[int] = SnapshotCache()
    source = Source()
    assert shared.get("a", source, 5.0) == 1
    assert shared.get("a", source, 5.0, lambda last: last > 1) == 2
    assert shared.get("a", source, 5.0, lambda _: False) == 3
    assert shared.get("a", source, 5.0) == 3


def test_each_key_has_its_own() -> None:
    shared: SnapshotCache[int] = SnapshotCache()
    source = Source()
    assert [shared.get(key, source, 5.0) for key in ("a", "b", "a")] == [1, 2, 1]


def test_what_is_forgotten_is_asked_again() -> None:
    shared: SnapshotCache[int] = SnapshotCache()
    source = Source()
    shared.get("a", source, 5.0)
    shared.get("b", source, 5.0)
    shared.forget("a")
    shared.forget("never asked")
    assert [shared.get(key, source, 5.0) for key in ("a", "b")] == [3, 2]
    shared.clear()
    assert [shared.get(key, source, 5.0) for key in ("a", "b")] == [4, 5]


def test_an_error_is_not_kept() -> None:
    shared: SnapshotCache[int] = SnapshotCache()

    def fails() -> int:
        raise ConnectionError("no")

    with pytest.raises(ConnectionError):
        shared.get("a", fails, 5.0)
    assert shared.get("a", Source(), 5.0) == 1


def test_threads_that_come_while_one_asks_wait_for_its_answer() -> None:
    shared: SnapshotCache[int] = SnapshotCache()
    source = Source(takes=0.2)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(shared.get("a", source, 5.0))) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [1] * 8 and source.reads == 1


def test_threads_that_waited_for_one_that_failed_do_not_try_one_after_the_other() -> None:
    shared: SnapshotCache[int] = SnapshotCache()
    tries: list[float] = []
    errors: list[str] = []
    together = threading.Barrier(8)

    def fails() -> int:
        tries.append(time.monotonic())
        time.sleep(0.5)
        raise ConnectionError("the API is down")

    def ask() -> None:
        together.wait()
        try:
            shared.get("a", fails, 5.0)
        except ConnectionError as down:
            errors.append(str(down))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert errors == ["the API is down"] * 8 and len(tries) == 1
    assert shared.get("a", Source(), 5.0) == 1


def test_what_one_check_could_not_show_is_not_reported() -> None:
    """Each of those who share it would wait as long as the first for an API that is down."""

    class Down:
        reads = 0

        def dns_records(self) -> None:
            self.reads += 1
            time.sleep(0.05)
            raise TransientError("reason=unreachable api=route53")

    down, given = Down(), []
    snapshot = DnsSnapshot(down)  # type: ignore[arg-type]

    def ask() -> None:
        with pytest.raises(TransientError, match="unreachable"):
            snapshot.answers()
        given.append(1)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(given) == 4 and down.reads == 1
