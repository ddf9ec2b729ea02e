"""tests.patience: a deadline waits for a slow computer, and not for ever."""

from __future__ import annotations

from pathlib import Path

from tests.patience import Deadline, stalled_s


def test_time_without_a_processor_does_not_count() -> None:
    now, stalled = [100.0], [7.0]
    deadline = Deadline(10, clock=lambda: now[0], stalled=lambda: stalled[0])
    now[0], stalled[0] = 118.0, 15.5
    assert not deadline.passed and deadline.left_s == 0.5
    now[0] = 118.5
    assert deadline.passed


def test_on_an_idle_computer_it_is_a_plain_deadline() -> None:
    now = [0.0]
    deadline = Deadline(10, clock=lambda: now[0], stalled=lambda: 3.0)
    now[0] = 9.9
    assert not deadline.passed
    now[0] = 10.0
    assert deadline.passed


def test_where_nothing_gets_on_at_all_it_passes_after_five_times_as_long() -> None:
    now = [0.0]
    deadline = Deadline(10, clock=lambda: now[0], stalled=lambda: now[0])
    now[0] = 49.0
    assert not deadline.passed
    now[0] = 50.0
    assert deadline.passed


def test_the_kernels_figure_is_read_in_seconds_and_may_be_missing(tmp_path: Path) -> None:
    given = tmp_path / "cpu"
    given.write_text("some avg10=71.08 avg60=62.62 avg300=28.21 total=109667679\nfull avg10=0.00 total=0\n")
    assert stalled_s(given) == 109.667679
    assert stalled_s(tmp_path / "none") == 0.0
    given.write_text("")
    assert stalled_s(given) == 0.0
