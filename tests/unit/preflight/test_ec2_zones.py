"""components.preflight.ec2_zones: zones that a fleet cannot use. The limit of spread groups is in test_limits.py."""

from __future__ import annotations

from typing import Any

import pytest

from components.config.models import FleetSettings
from components.preflight import ec2_zones

SUBNETS = [{"AvailabilityZone": f"us-west-2{x}", "AvailabilityZoneId": f"usw2-az{n}"} for n, x in enumerate("abd", 1)]
# d has a subnet and does not offer the size. c offers the size and has no subnet.
OFFERED = {"t3.micro": ["us-west-2a", "us-west-2b", "us-west-2c"]}


def faults(*zones: str, **more: Any) -> list[str]:
    given: dict[str, Any] = {"count": 3, "zones": zones, **more}
    fleet = FleetSettings(name="web", cloud="aws", size="t3.micro", image="debian-12", joins=(), **given)
    return ec2_zones.faults([fleet], "us-west-2", OFFERED, SUBNETS)


@pytest.mark.parametrize(
    "zones", [(), ("all",), ("us-west-2a",), ("us-west-2a", "us-west-2b"), ("usw2-az1", "usw2-az2")]
)
def test_zones_with_a_subnet_that_offer_the_size_are_accepted(zones: tuple[str, ...]) -> None:
    assert faults(*zones) == []


@pytest.mark.parametrize("zone", ["us-west-2c", "us-west-2d", "us-west-2z", "usw2-az3", "use1-az1"])
def test_another_zone_is_refused_with_those_that_there_are(zone: str) -> None:
    (fault,) = faults(zone)
    assert fault.startswith(
        f"rollcall:fleets.web.zones: {zone} is not a zone of us-west-2 that has a default subnet and"
    )
    assert "Name zones of us-west-2a (usw2-az1), us-west-2b (usw2-az2), or run `aws ec2 create-default-subnet" in fault


def test_each_wrong_zone_is_named() -> None:
    assert len(faults("us-west-2a", "us-west-2x", "us-west-2y")) == 2


@pytest.mark.parametrize(
    ("count", "zones", "most"), [(7, ("usw2-az1",), 0), (8, ("usw2-az1",), 8), (14, ("all",), 0), (15, (), 8)]
)
def test_a_spread_group_takes_seven_machines_of_each_zone(count: int, zones: tuple[str, ...], most: int) -> None:
    found = faults(*zones, count=count, placement="spread")
    assert (f"are {most} in a zone" in " ".join(found)) if most else found == []
    assert faults(*zones, count=count, placement="partition") == []
