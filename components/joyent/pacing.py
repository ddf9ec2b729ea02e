"""Set how fast and how often we ask: the shared rate limiter, the back-off between attempts, and the function that waits."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from email.utils import parsedate_to_datetime
from typing import TypeVar

from components.joyent.errors import WaitTimeoutError

T = TypeVar("T")
Sleep = Callable[[float], None]


class RateLimiter:
    """A token bucket like CloudAPI's own (30 at once, 10 a second: its sapi template), shared by all threads.

    The server keeps one bucket for machines, tags, metadata and the like, and others for networks, images, packages,
    keys; one for all of ours stays under each of them.
    """

    def __init__(self, *, burst: float = 30, rate: float = 10, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._rate, self._clock = burst, rate, clock
        self._tokens, self._at = burst, clock()
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Take a token, and return for how many seconds to wait before its use.

        Tokens are given in the order of the requests.
        """
        with self._lock:
            self._refill()
            self._tokens -= 1
            return max(0.0, -self._tokens / self._rate)

    def empty(self) -> None:
        """Spend the tokens that are left: the server answered that we are too fast, since others use the account too."""
        with self._lock:
            self._refill()
            self._tokens = min(self._tokens, 0.0)

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


def back_off(
    attempt: int, *, first: float = 0.5, most: float = 20.0, chance: Callable[[float, float], float] = random.uniform
) -> float:
    """Return the seconds before attempt `attempt` + 1, with full jitter: a random part of `first` doubled each time."""
    return chance(0.0, min(most, first * 2.0**attempt))


def retry_after(value: str | None, now: str | None) -> float | None:
    """Return the seconds that a `Retry-After` header asks for. It is a number or an HTTP date (CloudAPI's read-only mode).

    A date is measured from the reply's `Date` header, `now`, so that a skewed clock here does not matter. None when the
    header is absent or cannot be read.
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
        sent = parsedate_to_datetime(now).timestamp() if now else time.time()
    except ValueError:
        return None
    return max(0.0, at.timestamp() - sent)


class Stall:
    """Measure for how long a wait has made no progress.

    Progress is a fact that was never seen before in this wait (a machine runs, or reports another step of its start).
    So a slow computer or cloud may take its time. A machine that fails and starts again and again repeats old facts,
    and the wait ends.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._facts: set[Hashable] = set()
        self._since = clock()

    def seconds(self, facts: Iterable[Hashable]) -> float:
        """Return the seconds since the last new fact."""
        before = len(self._facts)
        self._facts.update(facts)
        if len(self._facts) > before:
            self.restart()
        return self._clock() - self._since

    def restart(self) -> None:
        """Count from now on, after a wait that was intended."""
        self._since = self._clock()


def wait_until(
    what: str,
    probe: Callable[[], T | None],
    *,
    timeout: float,
    sleep: Sleep = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    first: float = 1.0,
    most: float = 3.0,
    progress: Callable[[], Iterable[Hashable]] = tuple,
) -> T:
    """Return what `probe` gives as soon as it is not None. It is asked at once and then after `first` to `most` seconds.

    Raises WaitTimeoutError, which names `what` was waited for, after `timeout` seconds without a new fact in
    `progress()`; without `progress`, after `timeout` seconds. `probe`'s errors pass through.
    """
    stall, pause = Stall(clock), first
    while True:
        found = probe()
        if found is not None:
            return found
        left = timeout - stall.seconds(progress())
        if left <= 0:
            raise WaitTimeoutError(f"{what}: not within {timeout:g} s. Run `pulumi up` again, or raise the time-out.")
        sleep(min(pause, left))
        pause = min(most, pause * 1.5)
