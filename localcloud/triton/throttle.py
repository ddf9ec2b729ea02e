"""The rate limit: one token bucket for each login and family of endpoints (restify's throttle; docs/admin.md of sdc-cloudapi).

Machines, tags, metadata, audit, snapshots and firewall rules share one bucket; images, packages, networks, NICs, keys and
the rest have one each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from localcloud.triton.errors import ApiError


@dataclass(frozen=True)
class Throttle:
    burst: int = 30
    rate: float = 10.0


class Buckets:
    """Thread-safe. `limit` None: nothing is limited."""

    def __init__(self, limit: Throttle | None, clock: Callable[[], float]) -> None:
        self._limit, self._clock = limit, clock
        self._levels: dict[tuple[str, str], tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, login: str, family: str) -> None:
        """Raises ApiError 429, which has no Retry-After and a code that the reference does not name."""
        if self._limit is None:
            return
        with self._lock:
            now = self._clock()
            level, since = self._levels.get((login, family), (float(self._limit.burst), now))
            level = min(float(self._limit.burst), level + max(0.0, now - since) * self._limit.rate)
            self._levels[login, family] = (level - 1 if level >= 1 else level, now)
            if level < 1:
                raise refusal(self._limit)


def refusal(limit: Throttle) -> ApiError:
    return ApiError(429, "TooManyRequestsError", f"You have exceeded your request rate of {limit.rate:g} r/s.")
