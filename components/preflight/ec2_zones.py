"""Refuse availability zones in which a fleet's machines cannot be, and more machines than a placement group takes.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/limitations-placement-groups.html
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from components.config.availability_zones import ALL_ZONES, is_outside, is_zone_id
from components.config.models import SPREAD, FleetSettings

# Running instances of a zone in a spread placement group. This limit cannot be raised.
MOST_SPREAD = 7


def faults(
    fleets: Iterable[FleetSettings],
    region: str,
    offered: Mapping[str, Collection[str]],
    subnets: Sequence[Mapping[str, Any]],
    vpc: str = "",
) -> list[str]:
    """Return what is wrong with the zones of fleets.

    `offered` has the names of the zones that offer each size. `subnets` are EC2's descriptions of the subnets in which
    machines may be: those that a fleet chooses in `vpc`, or the default ones without it.
    """
    found = []
    for fleet in fleets:
        ids = {
            str(each["AvailabilityZone"]): str(each.get("AvailabilityZoneId", ""))
            for each in subnets
            if each["AvailabilityZone"] in offered.get(fleet.size, ())
        }
        wrong = _unusable(fleet, region, vpc, ids)
        found += wrong or _crowded(fleet, ids)
    return found


def zone_ids(subnets: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the id of each zone with a subnet, by its name."""
    return {str(each["AvailabilityZone"]): str(each.get("AvailabilityZoneId", "")) for each in subnets}


def _unusable(fleet: FleetSettings, region: str, vpc: str, ids: Mapping[str, str]) -> list[str]:
    named = [each for each in fleet.zones if each != ALL_ZONES]
    there = {*ids.values()} if named and is_zone_id(named[0]) else {*ids}
    usable = ", ".join(f"{name} ({ids[name]})" if ids[name] else name for name in sorted(ids))
    what = f"that has a default subnet and offers {fleet.size}"
    fix = f"run `aws ec2 create-default-subnet --availability-zone ZONE --region {region}`"
    if vpc:
        what = f"in which the fleet has a subnet of {vpc} and {fleet.size} is offered"
        fix = "add a subnet to subnets"
    return [
        f"rollcall:fleets.{fleet.name}.zones: {each} is not a zone of {region} {what}. "
        f"Name zones of {usable or 'another region'}, or {fix}."
        for each in named
        if each not in there
    ]


def _crowded(fleet: FleetSettings, ids: Mapping[str, str]) -> list[str]:
    """Check a spread group. Machines that are replaced together are in a new group, so they do not count twice."""
    zones = [name for name, known in ids.items() if not is_outside(fleet.zones, name, known)]
    most = math.ceil(fleet.count / len(zones)) if zones else 0
    if fleet.placement != SPREAD or most <= MOST_SPREAD:
        return []
    return [
        f"rollcall:fleets.{fleet.name}.placement: {fleet.count} machines in {len(zones)} zones are {most} in a zone, and a spread "
        f"placement group takes {MOST_SPREAD} running machines of a zone. Lower the count to {MOST_SPREAD * len(zones)}, add zones, or "
        "write `placement: partition`."
    ]
