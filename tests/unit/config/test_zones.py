"""The keys `zones` and `placement` of a fleet."""

from __future__ import annotations

from typing import Any

import pytest

from components.config.errors import ConfigurationError
from components.config.models import FleetSettings
from components.config.reader import read

TRITON = {"cloud": "joyent", "size": "g1.micro"}


def fleet(**keys: Any) -> FleetSettings:
    given = {"cloud": "aws", "size": "t3.micro", "image": "debian-12", "joins": ["site/www"], **keys}
    settings = read("local", {"sites": {"www": {"zone": "scalability.expert"}}, "fleets": {"web": given}})
    return settings.fleets[0]


@pytest.mark.parametrize(
    ("given", "zones"),
    [
        ("all", ("all",)),
        (["all"], ("all",)),
        (["us-west-2b", "us-west-2a"], ("us-west-2b", "us-west-2a")),
        (["usw2-az1"], ("usw2-az1",)),
        (["us-west-2-lax-1a"], ("us-west-2-lax-1a",)),
    ],
)
def test_zones_are_the_word_all_or_a_list(given: Any, zones: tuple[str, ...]) -> None:
    assert fleet(zones=given).zones == zones


def test_without_the_keys_a_fleet_has_neither() -> None:
    assert (fleet().zones, fleet().placement) == ((), None)


@pytest.mark.parametrize("placement", ["spread", "partition"])
def test_a_placement(placement: str) -> None:
    assert fleet(placement=placement).placement == placement


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"zones": ["us-west-2"]}, ["rollcall:fleets.web.zones", "is not an availability zone", "us-west-2a"]),
        ({"zones": ["all", "us-west-2a"]}, ["rollcall:fleets.web.zones", "is not an availability zone"]),
        ({"zones": ["us-west-2a", "usw2-az2"]}, ["rollcall:fleets.web.zones", "Write all by name, or all by id"]),
        ({"zones": ["us-west-2a", "us-west-2a"]}, ["rollcall:fleets.web.zones", "is in it twice"]),
        ({"zones": "us-west-2a"}, ["rollcall:fleets.web.zones"]),
        ({"placement": "cluster"}, ["rollcall:fleets.web.placement", "spread"]),
        ({**TRITON, "zones": "all"}, ["rollcall:fleets.web.zones", "is for EC2 machines"]),
        ({**TRITON, "placement": "spread"}, ["rollcall:fleets.web.placement", "is for EC2 machines"]),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(keys: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        fleet(**keys)
    for word in words:
        assert word in str(caught.value)
