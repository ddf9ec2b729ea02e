"""Decide when to repeat what failed, and turn any exception into an error of Rollcall.

https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ (full jitter)
"""

from __future__ import annotations

import random
import traceback
from dataclasses import dataclass
from pathlib import Path

from rollcall.errors import FatalError, RollcallError, TransientError

FIRST_S = 2.0
# The limit of a pause after a refusal, or after an API said how long to wait (Retry-After), in longest pauses. Without it an API could make
# an agent wait for an hour.
PATIENCE = 4


@dataclass
class Backoff:
    """The tries of one activity. `longest` is in seconds. `error` says why the last try failed (empty: it did not)."""

    longest: float
    pause: float = 0.0
    not_before: float = 0.0
    error: str = ""

    def failed(self, fault: RollcallError, now: float) -> None:
        """Wait twice as long as before.

        If hundreds of machines are refused, they must not use up the request rate that the operator needs to fix the cause.
        """
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

    The text of an unexpected exception is left out, because it may contain a secret.
    """
    if isinstance(fault, RollcallError):
        return fault
    frames = traceback.extract_tb(fault.__traceback__)
    at = f" at={Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return TransientError(f"reason=unexpected error={type(fault).__name__}{at}")
