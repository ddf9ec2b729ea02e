"""How fast an account may call Route53.

AWS's present limits (docs.aws.amazon.com/Route53/latest/DeveloperGuide/throttling-api-requests.html): token buckets, one for
the account and one for each action. Before, and in `HARSH`: five requests in any one second.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Pace:
    """`burst` requests at once, `rate` in a second for ever. With `window`, no more than `burst` in any second."""

    burst: float
    rate: float
    window: bool = False


@dataclass(frozen=True, kw_only=True)
class Limits:
    """For the account as a whole and for each action; None is without a limit."""

    account: Pace | None
    action: Pace | None = None
    actions: Mapping[str, Pace] = field(default_factory=dict)


PRESENT = Limits(
    account=Pace(50, 10),
    action=Pace(50, 10),
    actions={"CreateHostedZone": Pace(40, 2), "DeleteHostedZone": Pace(40, 5)},
)
HARSH = Limits(account=Pace(5, 5, window=True))
UNLIMITED = Limits(account=None)


class _Bucket:
    def __init__(self, pace: Pace, now: float) -> None:
        self.pace = pace
        self._left = pace.burst
        self._at = now
        self._recent: deque[float] = deque()

    def has_room(self, now: float) -> bool:
        if self.pace.window:
            while self._recent and self._recent[0] <= now - 1.0:
                self._recent.popleft()
            return len(self._recent) < self.pace.burst
        self._left = min(self.pace.burst, self._left + (now - self._at) * self.pace.rate)
        self._at = now
        return self._left >= 1.0

    def take(self, now: float) -> None:
        if self.pace.window:
            self._recent.append(now)
        else:
            self._left -= 1.0


class Throttle:
    """Thread-safe. `limits` may be changed at any time; the buckets are full again then."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._limits = limits
        self._buckets: dict[str, _Bucket] = {}

    @property
    def limits(self) -> Limits:
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        with self._lock:
            if limits != self._limits:
                self._limits = limits
                self._buckets.clear()

    def admits(self, action: str) -> bool:
        """Count a request of this action; False where it goes over a limit (and then counts in none)."""
        now = self._clock()
        with self._lock:
            wanted = {"": self._limits.account, action: self._limits.actions.get(action, self._limits.action)}
            buckets = [self._bucket(name, pace, now) for name, pace in wanted.items() if pace is not None]
            if not all(bucket.has_room(now) for bucket in buckets):
                return False
            for bucket in buckets:
                bucket.take(now)
            return True

    def _bucket(self, name: str, pace: Pace, now: float) -> _Bucket:
        if name not in self._buckets:
            self._buckets[name] = _Bucket(pace, now)
        return self._buckets[name]
