"""The gate: what the live settings of machines say about a roll-out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from components.rollout.records import Record, State, newest, record_in
from rollcall.setting_values import LONGEST_VALUE, SettingsError
from tests.simulated_fleet import digest

A, B, C = digest("a"), digest("b"), digest("c")
ROLLING = Record(state=State.ROLLING, to={"api": C, "www": B}, former={"www": A}, rollout="0123abcd", number=7)


def test_a_record_is_read_as_it_was_written() -> None:
    assert record_in(ROLLING.settings()) == ROLLING
    assert Record.from_outputs(ROLLING.as_outputs()) == ROLLING
    assert Record.from_outputs(None) is None


def test_the_longest_gate_fits_into_a_tag() -> None:
    longest = replace(ROLLING, state=State.PROMOTED, former={"www": A, "api": A}, number=999_999_999)
    assert max(map(len, longest.settings().values())) <= LONGEST_VALUE


@pytest.mark.parametrize(
    "record", [replace(ROLLING, rollout="?"), replace(ROLLING, to={"www": "b"}), replace(ROLLING, number=10**9)]
)
def test_what_cannot_be_read_back_is_not_written(record: Record) -> None:
    with pytest.raises(SettingsError):
        record.settings()


@pytest.mark.parametrize("text", ["", "rolling", f"mended to={A} from={B} rollout=0123abcd number=1", f"done to={A}"])
def test_a_text_that_is_not_a_gate_is_left_out(text: str) -> None:
    live = {**ROLLING.settings(), "rollcall-gate-other": text}
    assert record_in(live) == ROLLING
    assert record_in({"rollcall-gate-www": text}) is None


def test_the_highest_number_counts_on_a_machine_and_in_a_fleet() -> None:
    later = replace(ROLLING, to={"www": C}, number=8)
    assert record_in({**ROLLING.settings(), **later.settings()}) == replace(later, to={"www": C})
    assert newest([ROLLING.settings(), later.settings(), {}]) == later
    assert newest([{}]) is None


@pytest.mark.parametrize(
    ("one", "other", "counts"),
    [("rolling", "refused", "refused"), ("done", "failed", "failed"), ("promoted", "rolling", "promoted")],
)
def test_of_two_writers_the_more_careful_one_counts(one: str, other: str, counts: str) -> None:
    both = [replace(ROLLING, state=State(each)).settings() for each in (one, other)]
    found = newest(both)
    assert found is not None and found.state is State(counts)
    assert newest(reversed(both)) == found


@pytest.mark.parametrize(
    ("state", "goal", "base"),
    [
        ("rolling", "to", "former"),
        ("promoted", "to", "former"),
        ("done", "to", "to"),
        ("failed", "former", "former"),
        ("refused", "former", "former"),
    ],
)
def test_what_the_fleet_has_and_what_it_should_have(state: str, goal: str, base: str) -> None:
    record = replace(ROLLING, state=State(state))
    assert record.goal == getattr(record, goal)
    assert record.base == getattr(record, base)


def test_a_fleet_without_a_former_release_cannot_go_back() -> None:
    assert replace(ROLLING, state=State.FAILED, former={}).goal == ROLLING.to
