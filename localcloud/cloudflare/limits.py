"""Cloudflare's rate limit: 1,200 requests in five minutes for a user. A user that exceeds it is blocked for the next five minutes.

https://developers.cloudflare.com/fundamentals/api/reference/limits/
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from localcloud.cloudflare import errors


@dataclass(frozen=True)
class RateLimit:
    requests: int = 1200
    seconds: float = 300.0


@dataclass
class _Window:
    until: float
    used: int = 0
    blocked: bool = False


class Limiter:
    """Counts requests of users (and of tokens that belong to an account). Thread-safe."""

    def __init__(self, limit: RateLimit, clock: Callable[[], float]) -> None:
        self._limit, self._clock = limit, clock
        self._windows: dict[str, _Window] = {}
        self._lock = threading.Lock()

    def count(self, token: str) -> dict[str, str]:
        """Count a request. Return the headers with the remaining number. Raises ApiError 429 with Retry-After."""
        now = self._clock()
        with self._lock:
            window = self._windows.get(token)
            if window is None or now >= window.until:
                window = self._windows[token] = _Window(now + self._limit.seconds)
            if not window.blocked and window.used >= self._limit.requests:
                window.blocked, window.until = True, now + self._limit.seconds
            headers = self._headers(window, now)
            if window.blocked:
                raise self.refusal(math.ceil(window.until - now), headers)
            window.used += 1
            return self._headers(window, now)

    def refusal(self, retry_after: int, headers: dict[str, str] | None = None) -> errors.ApiError:
        refusal = errors.throttled(self._limit.requests, self._limit.seconds, retry_after)
        refusal.headers.update(headers or {})
        return refusal

    def _headers(self, window: _Window, now: float) -> dict[str, str]:
        left = 0 if window.blocked else self._limit.requests - window.used
        return {
            "Ratelimit": f'"default";r={left};t={math.ceil(window.until - now)}',
            "Ratelimit-Policy": f'"default";q={self._limit.requests};w={math.ceil(self._limit.seconds)}',
        }
