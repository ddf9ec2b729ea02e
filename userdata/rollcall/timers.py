"""The times of the agent that its environment may change. Tests on local clouds shorten them; nothing else sets them."""

from __future__ import annotations

import os

VARIABLE = "ROLLCALL_TIMERS"


def seconds(name: str, usual: float) -> float:
    """Return the time `name` of the agent in seconds.

    It is `usual`, unless the environment has another one: `ROLLCALL_TIMERS="stop-delay=5 watch=3"`. Raises ValueError for a value that is
    not a number.
    """
    pairs = (each.partition("=") for each in os.environ.get(VARIABLE, "").split())
    return next((float(value) for key, _, value in pairs if key == name), usual)
