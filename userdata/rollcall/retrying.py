"""Retry after a transient error: exponential backoff with full jitter, and no sooner than the API asked for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from rollcall.errors import TransientError

T = TypeVar("T")
FIRST, LONGEST_PAUSE = 0.5, 3.0


def retried(action: Callable[[], T], within: float, sleep: Callable[[float], None] = time.sleep) -> T:
    """Return what `action` returns. After a TransientError, retry for `within` seconds, then raise it.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ (full jitter)
    """
    end = time.monotonic() + within
    pause = FIRST
    while True:
        try:
            return action()
        except TransientError as fault:
            wait = max(fault.after, random.uniform(0, pause))  # noqa: S311
            if time.monotonic() + wait > end:
                raise
            sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE)
