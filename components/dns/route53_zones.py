"""Find Route53's hosted zones of a name, and the record sets in one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from components.config.models import (
    ServiceDiscoverySettings,
)

if TYPE_CHECKING:
    pass


def hosted_zone(route53: Any, directory: ServiceDiscoverySettings) -> str | None:
    """Return the id of the directory's hosted zone; None where it does not exist yet."""
    return directory.zone_id or next((zone_id_of(each) for each in zones_named(route53, directory)), None)


def zones_named(route53: Any, directory: ServiceDiscoverySettings) -> list[dict[str, Any]]:
    """Return the hosted zones with the name of the directory's zone, public or private ones as the directory is."""
    found = route53.list_hosted_zones_by_name(DNSName=directory.zone)["HostedZones"]
    named = [each for each in found if each["Name"] == f"{directory.zone}."]
    return [each for each in named if bool(each["Config"].get("PrivateZone")) == directory.private]


def zone_id_of(zone: dict[str, Any]) -> str:
    return str(zone["Id"]).rpartition("/")[2]


Sets = Callable[[str], Mapping[str, Mapping[str, Any]]]


def sets_of(route53: Any, zone: str) -> Sets:
    """Return the record sets at a name (with its final dot), by type. Each name is asked for once.

    Of several sets with a routing policy, the last one is returned.
    """

    @functools.cache
    def at(name: str) -> Mapping[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        start: dict[str, str] = {"StartRecordName": name}
        while start:
            page = route53.list_resource_record_sets(HostedZoneId=zone, MaxItems="10", **start)
            found |= {each["Type"]: each for each in page["ResourceRecordSets"] if each["Name"] == name}
            more = page["IsTruncated"] and page["NextRecordName"] == name
            start = {key.replace("Next", "Start"): page[key] for key in page if key.startswith("NextR")} if more else {}
        return found

    return at
