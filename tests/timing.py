"""The times of agents in tests: short where a test would only wait for them (rollcall.timers).

`make prove` has the times that users have, and so has a run with `ROLLCALL_USUAL_TIMERS`.
"""

from __future__ import annotations

import os

import pytest

# A machine that stops serves so long for caches, which these tests do not have.
SHORT_STOP = "stop-delay=4"
# Agents that see a changed record, a crash and a challenge sooner.
WATCHFUL = f"{SHORT_STOP} watch=3 propagation=4"

_short = False


def use_in_tests(config: pytest.Config) -> None:
    """Use short times from now on, in a run of the tests for which they are meant."""
    global _short
    _short = config.getoption("markexpr") != "prove" and not os.environ.get("ROLLCALL_USUAL_TIMERS")


def timers(short: str) -> str:
    """Return what agents are given: `short`, or nothing in a run with the usual times."""
    return short if _short else ""


def seconds(*, short: float, usual: float) -> float:
    """Return how long a test waits: `short`, or `usual` in a run with the usual times."""
    return short if _short else usual
