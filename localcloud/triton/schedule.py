"""Run actions later, in the order of their times, on one thread that ends when no action is left."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

Schedule = Callable[[float, Callable[[], None]], None]
_log = logging.getLogger(__name__)
_LINGER = 2.0


class Scheduler:
    """Callable as `schedule(seconds, action)`. Thread-safe; an action may schedule others."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._running = False

    def __call__(self, seconds: float, action: Callable[[], None]) -> None:
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + max(0.0, seconds), next(self._count), action))
            if self._running:
                self._changed.notify()
            else:
                self._running = True
                threading.Thread(target=self._run, name="cloudapi-jobs", daemon=True).start()

    def _run(self) -> None:
        while (action := self._next()) is not None:
            try:
                action()
            except Exception:  # noqa: BLE001 - the other jobs continue, and the error is logged
                _log.exception("a job of the local CloudAPI broke")

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while True:
                if self._due:
                    wait = self._due[0][0] - time.monotonic()
                    if wait <= 0:
                        return heapq.heappop(self._due)[2]
                    self._changed.wait(wait)
                elif not self._changed.wait(_LINGER) and not self._due:
                    self._running = False
                    return None
