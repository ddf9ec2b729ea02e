"""components.preflight.quotas: what an `up` creates, compared with the quotas."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from components.config.models import FleetSettings, SshSettings
from components.preflight.quotas import Births, Found, Quota, births, over
from components.resources.fleets.revision import is_of, version

WEB = FleetSettings(name="web", cloud="aws", count=3, size="t3.micro", image="debian-12", joins=("site/www",))
QUOTA = Quota(what="vCPUs in us-west-2", value=12, used=6, fix="ask for {need}")

# machines that are there (their name, and whether they fit), and what is made, replaced, there
BIRTHS: list[tuple[str, list[tuple[str, bool]], tuple[int, int, int]]] = [
    ("nothing is there", [], (3, 0, 0)),
    ("all fit", [("0", True), ("1", True), ("2", True)], (0, 0, 3)),
    ("all are of another version", [("0", False), ("1", False), ("2", False)], (3, 3, 3)),
    ("two are there and fit", [("0", True), ("1", True)], (1, 0, 2)),
    ("one is too many", [("0", True), ("1", True), ("2", True), ("3", True)], (0, 0, 4)),
    ("one too many is of another version", [("0", True), ("1", True), ("2", True), ("3", False)], (0, 0, 4)),
    (
        "a predecessor still exists beside its successor",
        [("0", False), ("0", True), ("1", True), ("2", True)],
        (0, 0, 4),
    ),
    ("one is of another version, one is missing", [("0", True), ("1", False)], (2, 1, 2)),
]


@pytest.mark.parametrize(("there", "expected"), [row[1:] for row in BIRTHS], ids=[row[0] for row in BIRTHS])
def test_what_is_made(there: list[tuple[str, bool]], expected: tuple[int, int, int]) -> None:
    found = births(WEB, there)
    assert (found.made, found.replaced, found.there) == expected


def test_the_review_shows_how_many_machines_run_for_a_while() -> None:
    assert births(WEB, [(str(each), False) for each in range(3)]).note == (
        "web: 3 of 3 machines are replaced, successors first: 6 run for a while"
    )
    assert births(WEB, []).note is None


def test_the_limit_itself_is_not_a_fault_and_one_more_is() -> None:
    made = Births(fleet="web", made=3, replaced=3, there=3)
    assert over(QUOTA, [(made, 2.0)], again=[]) == Found()
    (fault,) = over(QUOTA, [(replace(made, made=4), 2.0)], again=[]).faults
    for word in (
        "14 vCPUs in us-west-2",
        "6 are now",
        "web makes 4 × 2 (3 in the place of others)",
        "is 12",
        "ask for 14",
    ):
        assert word in fault


def test_a_quota_below_the_running_machines_is_not_a_fault_when_nothing_is_created() -> None:
    lowered = replace(QUOTA, value=5)
    assert over(lowered, [(Births(fleet="web", made=0, replaced=0, there=3), 2.0)], again=[]) == Found()
    assert over(lowered, [(Births(fleet="web", made=1, replaced=0, there=3), 2.0)], again=[]).faults


def test_what_a_replacement_of_everything_would_take_is_reported_and_no_fault() -> None:
    nothing = Births(fleet="web", made=0, replaced=0, there=3)
    assert over(QUOTA, [(nothing, 2.0)], again=[(WEB, 2.0)]) == Found()
    (warning,) = over(replace(QUOTA, value=11), [(nothing, 2.0)], again=[(WEB, 2.0)]).warnings
    assert "would take 12 vCPUs in us-west-2" in warning and "is 11" in warning
    # While everything is replaced, what that takes is what is checked.
    everything = Births(fleet="web", made=3, replaced=3, there=3)
    assert over(QUOTA, [(everything, 2.0)], again=[(WEB, 2.0)]) == Found()


CHANGES: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"count": 9, "weight": 1, "timeout": 60}, True),
    ({"size": "t3.small"}, False),
    ({"image": "ubuntu-24.04"}, False),
    ({"image_refresh": "2"}, False),
    ({"ssh": SshSettings(user="admin")}, True),
    ({"ssh": SshSettings(user="admin", key_name="operators")}, False),
]


@pytest.mark.parametrize(("change", "same"), CHANGES, ids=[str(change) for change, _ in CHANGES])
def test_a_machine_is_of_its_fleet_until_what_replaces_it_changes(change: dict[str, Any], same: bool) -> None:
    assert is_of(version(WEB), replace(WEB, **change)) is same


def test_configuring_the_image_that_runs_is_not_a_change() -> None:
    ami = "ami-0123456789abcdef0"
    given = replace(WEB, image=ami)
    assert is_of(version(WEB), given, ami) and not is_of(version(WEB), given, "ami-0123456789abcdef1")
    assert not is_of("", WEB)


def test_other_userdata_is_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = version(WEB)
    monkeypatch.setattr("components.resources.userdata.sources_hash", lambda: "another")
    assert not is_of(before, WEB) and len(version(WEB)) < 256
