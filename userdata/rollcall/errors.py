"""What can go wrong in the agent: one root, transient (worth another try) and fatal below it."""

from __future__ import annotations


class RollcallError(Exception):
    """Every error of Rollcall on a machine. The message is one line."""


class TransientError(RollcallError):
    """May go away by itself: an API that is down, throttled or slow. `after` is how many seconds it asked us to wait."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class FatalError(RollcallError):
    """Does not go away by itself: a wrong token, a setting that makes no sense."""


class RefusedError(FatalError):
    """Something of somebody else is in the way; nothing was changed."""
