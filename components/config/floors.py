"""Calculate how many machines stay in a record set whatever their health: over all clouds and fleets of the stack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.config.models import FleetSettings, Settings, SiteSettings

SHARE_PERCENT = 30


def floor(wanted: int, least: int) -> int:
    """Return `least` (`minRegistered`) or 30 % of the wanted machines, rounded up; at least one, and at most all of them."""
    return max(1, min(wanted, max(least, -(-wanted * SHARE_PERCENT // 100))))


def of_site(settings: Settings, site: SiteSettings) -> tuple[int, int]:
    """Return the floors of a site's A and AAAA records."""
    fleets, least = settings.fleets_at(site.join), site.min_registered
    both = (fleets, [each for each in fleets if each.ipv6])
    first, second = (floor(sum(each.count for each in some), least) for some in both)
    return first, second


def of_service(settings: Settings, joined: str, least: int, shards: int, shard: int) -> int:
    """Return the floor of the SRV set of a shard (from 0) of the incarnation `joined` (`theService/v1`)."""
    return floor(_in_shard(settings.fleets_at(joined), shards, shard), least)


def _in_shard(fleets: Iterable[FleetSettings], shards: int, shard: int) -> int:
    return sum(len(range(shard, each.count, shards)) for each in fleets)
