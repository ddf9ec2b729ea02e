"""components.availability.choice and components.config.availability_zones: which zones a machine tries, and in which order."""

from __future__ import annotations

from collections import Counter

import pytest

from components.availability.choice import Subnet, in_order
from components.config.availability_zones import is_outside, is_zone, is_zone_id

A, B, C = (Subnet(zone=f"us-west-2{each}", id=f"subnet-{each}", zone_id=f"usw2-az{each}") for each in "abc")


def letters(subnets: list[Subnet]) -> str:
    return "".join(each.zone[-1] for each in subnets)


@pytest.mark.parametrize(
    ("index", "order"), [(0, "abc"), (1, "bca"), (2, "cab"), (3, "acb"), (4, "bac"), (5, "cba"), (6, "abc")]
)
def test_machines_are_spread_by_their_index(index: int, order: str) -> None:
    assert letters(in_order(index, [C, A, B])) == order


def test_machines_of_a_zone_without_capacity_are_spread_over_the_others() -> None:
    found = Counter(next(each for each in in_order(index, [A, B, C]) if each != B).zone for index in range(12))
    assert found == {A.zone: 6, C.zone: 6}


def test_a_zone_that_had_no_capacity_is_tried_last() -> None:
    assert letters(in_order(1, [A, B, C], {B.zone})) == "cab"
    assert letters(in_order(1, [A, B, C], {A.zone, B.zone, C.zone})) == "bca"


def test_a_zone_has_one_subnet_for_each_machine_and_machines_use_all() -> None:
    other = Subnet(zone=A.zone, id="subnet-z")
    assert [each.id for each in in_order(0, [A, B, other])] == ["subnet-a", "subnet-b"]
    assert [each.id for each in in_order(2, [A, B, other])] == ["subnet-z", "subnet-b"]


def test_one_zone_and_none() -> None:
    assert (in_order(5, [A]), in_order(5, [])) == ([A], [])


@pytest.mark.parametrize(
    ("zones", "zone", "zone_id", "outside"),
    [
        ((), "us-west-2b", "usw2-az2", False),
        (("all",), "us-west-2b", "usw2-az2", False),
        (("us-west-2a", "us-west-2b"), "us-west-2b", "usw2-az2", False),
        (("us-west-2a",), "us-west-2b", "usw2-az2", True),
        (("us-west-2a",), "", "", False),
        (("usw2-az2",), "us-west-2b", "usw2-az2", False),
        (("usw2-az1",), "us-west-2b", "usw2-az2", True),
        (("usw2-az1",), "us-west-2b", "", False),
    ],
)
def test_a_machine_is_outside_only_if_its_zone_is_known(
    zones: tuple[str, ...], zone: str, zone_id: str, outside: bool
) -> None:
    assert is_outside(zones, zone, zone_id) is outside


@pytest.mark.parametrize(
    ("text", "zone", "zone_id"),
    [
        ("us-west-2a", True, False),
        ("us-gov-west-1b", True, False),
        ("us-west-2-lax-1a", True, False),
        ("usw2-az1", True, True),
        ("usw2-lax1-az1", True, True),
        ("usgw1-az2", True, True),
        ("us-west-2", False, False),
        ("2a", False, False),
        ("all", False, False),
    ],
)
def test_names_and_ids_of_zones(text: str, zone: bool, zone_id: bool) -> None:
    assert (is_zone(text), is_zone_id(text)) == (zone, zone_id)
