"""Deadlines that hold on a slow computer: time in which processes had to wait for a processor does not count.

The kernel says how much that was: pressure stall information, https://docs.kernel.org/accounting/psi.html.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

PRESSURE = Path("/proc/pressure/cpu")
# A computer on which nothing gets on at all must not hold a test up for ever.
AT_MOST = 5.0


def stalled_s(pressure: Path = PRESSURE) -> float:
    """Return the seconds since the computer's start in which some process waited for a processor; 0 where the kernel does not tell."""
    try:
        some = pressure.read_text().splitlines()[0]
        return int(some.rpartition("total=")[2]) / 1e6
    except (OSError, ValueError, IndexError):
        return 0.0


class Deadline:
    """`seconds` from now, without those in which processes waited for a processor, and at most five times as long."""

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        stalled: Callable[[], float] = stalled_s,
    ) -> None:
        self._seconds, self._clock, self._stalled = seconds, clock, stalled
        self._began, self._stalled_before = clock(), stalled()

    @property
    def passed(self) -> bool:
        return self.left_s <= 0

    @property
    def left_s(self) -> float:
        """Return the seconds that are left, if no process waits for a processor from now on; 0 or less when it has passed."""
        gone = self._clock() - self._began
        counted = gone - (self._stalled() - self._stalled_before)
        return min(self._seconds - counted, AT_MOST * self._seconds - gone)


def came_true(condition: Callable[[], object], seconds: float, every: float = 0.02) -> bool:
    """Poll until `condition()` holds; whether it did so before the deadline."""
    deadline = Deadline(seconds)
    while not condition():
        if deadline.passed:
            return False
        time.sleep(every)
    return True
