"""When something that failed is tried again, and how a fault that has no class of ours is named.

https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ (full jitter)
"""

from __future__ import annotations

import random
import traceback
from dataclasses import dataclass
from pathlib import Path

from rollcall.errors import FatalError, RollcallError, TransientError

FIRST_S = 2.0
# A refusal, and an API that says how long to wait (Retry-After), count for so many times the longest pause, and no longer: what an API
# says is no reason to be deaf for an hour.
PATIENCE = 4


@dataclass
class Backoff:
    """The tries of one activity. `longest` in seconds; `error` is why the last try failed, or nothing."""

    longest: float
    pause: float = 0.0
    not_before: float = 0.0
    error: str = ""

    def failed(self, fault: RollcallError, now: float) -> None:
        """Wait twice as long as before. Hundreds of machines that are refused must leave the account to the operator who fixes that."""
        limit = self.longest * PATIENCE
        refused = isinstance(fault, FatalError)
        after = fault.after if isinstance(fault, TransientError) else 0.0
        self.pause = min(max(self.pause * 2, FIRST_S), limit if refused else self.longest)
        self.not_before = now + min(max(after, random.uniform(FIRST_S / 2, self.pause)), limit)  # noqa: S311
        self.error = str(fault)

    def worked(self) -> None:
        self.pause, self.not_before, self.error = 0.0, 0.0, ""


def as_error(fault: Exception) -> RollcallError:
    """Return the fault itself, or a TransientError that names its type and the line that raised it.

    The text of a fault that nobody foresaw is left out: it may hold a secret.
    """
    if isinstance(fault, RollcallError):
        return fault
    frames = traceback.extract_tb(fault.__traceback__)
    at = f" at={Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return TransientError(f"reason=unexpected error={type(fault).__name__}{at}")
