"""rollcall.retrying: transient errors only, within the bound, with jitter, no sooner than the API asked for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rollcall import retrying
from rollcall.errors import FatalError, RollcallError, TransientError
from tests.unit.agent.fakes import Clock


class Api:
    """Fails with each fault in turn, then answers; its `sleep` moves the clock."""

    def __init__(self, clock: Clock, *faults: RollcallError, always: RollcallError | None = None) -> None:
        self._clock, self._faults, self._always = clock, list(faults), always
        self.tries = 0
        self.slept: list[float] = []

    def __call__(self) -> str:
        self.tries += 1
        if self._faults:
            raise self._faults.pop(0)
        if self._always is not None:
            raise self._always
        return "done"

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._clock.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(retrying, "time", SimpleNamespace(monotonic=made))
    return made


def test_what_works_is_done_once(clock: Clock) -> None:
    api = Api(clock)
    assert retrying.retried(api, 10, api.sleep) == "done"
    assert (api.tries, api.slept) == (1, [])


def test_a_transient_error_is_tried_again(clock: Clock) -> None:
    api = Api(clock, TransientError("a"), TransientError("b"))
    assert retrying.retried(api, 10, api.sleep) == "done"
    assert api.tries == 3


def test_a_fatal_error_is_raised_at_once(clock: Clock) -> None:
    api = Api(clock, FatalError("no"))
    with pytest.raises(FatalError, match="no"):
        retrying.retried(api, 10, api.sleep)
    assert (api.tries, api.slept) == (1, [])


@pytest.mark.parametrize("within", [0.0, 1.0, 20.0, 300.0])
def test_the_last_error_is_raised_within_the_bound(clock: Clock, within: float) -> None:
    api, began = Api(clock, TransientError("first"), always=TransientError("last")), clock.now
    with pytest.raises(TransientError, match="last" if within > 1 else "first|last"):
        retrying.retried(api, within, api.sleep)
    assert clock.now - began <= within
    assert api.tries == len(api.slept) + 1


def test_pauses_have_full_jitter_and_a_longest(clock: Clock) -> None:
    rows = []
    for _ in range(20):
        api = Api(clock, always=TransientError("down"))
        with pytest.raises(TransientError):
            retrying.retried(api, 3600, api.sleep)
        rows.append(api.slept)
    for slept in rows:
        for at, pause in enumerate(slept):
            assert 0 <= pause <= min(retrying.FIRST * 2.0 ** min(at, 10), retrying.LONGEST_PAUSE)
    assert len({slept[0] for slept in rows}) == 20, "all would come back at the same moment"
    assert max(max(slept) for slept in rows) > retrying.LONGEST_PAUSE / 2


def test_no_sooner_than_the_api_asked_for(clock: Clock) -> None:
    api = Api(clock, TransientError("slow down", 7.5))
    retrying.retried(api, 20, api.sleep)
    assert api.slept == [7.5]


def test_a_wait_beyond_the_bound_is_not_begun(clock: Clock) -> None:
    api = Api(clock, TransientError("slow down", 21))
    with pytest.raises(TransientError, match="slow down"):
        retrying.retried(api, 20, api.sleep)
    assert api.slept == []
