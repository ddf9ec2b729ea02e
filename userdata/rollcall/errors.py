"""The errors of the agent: one base class, and below it transient errors (another try may help) and fatal ones."""

from __future__ import annotations


class RollcallError(Exception):
    """Every error of Rollcall on a machine. The message is one line."""


class TransientError(RollcallError):
    """An error that may end by itself: an API is down, throttled or slow. `after` is how many seconds it asked us to wait."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class FatalError(RollcallError):
    """An error that does not end by itself: a wrong token, a setting that makes no sense."""


class RefusedError(FatalError):
    """A foreign record prevents the change; nothing was changed."""
