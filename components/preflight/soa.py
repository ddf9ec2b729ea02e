"""Check the SOA of a service directory's zone: for how long resolvers remember that a name does not exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.config.models import ServiceDiscoverySettings
from components.dns.route53_zones import Sets
from components.resources import zone_soa
from rollcall.crash_transitions import HIDDEN_LIMIT_S

# The SOA that Route53 makes has a TTL of 900 and a minimum of 86,400:
# https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/SOA-NSrecords.html
_ROUTE53_S = 900
# For so long a crashed machine may be answered. A shorter negative TTL is not worth a warning.
_LIMIT_S = 60


def warnings(settings: ServiceDiscoverySettings, sets: Sets | None) -> tuple[str, ...]:
    """Return a preview's warnings about the zone's SOA. `sets` is None where the zone will be created."""
    if settings.manages_soa:
        return ()
    if sets is None:
        seconds = _ROUTE53_S
    else:
        seconds = negative_ttl(sets(f"{settings.zone}.").get("SOA") or {})
    if seconds <= (HIDDEN_LIMIT_S if settings.private else _LIMIT_S):
        return ()
    if settings.private:
        return (
            f"rollcall:serviceDiscovery.zone: the SOA record of {settings.zone} makes resolvers remember for {seconds} s that a name does "
            f"not exist. So the records of a crashed machine are removed after up to six minutes, and new names are found up to "
            f"{seconds} s late. Set rollcall:serviceDiscovery.manageSoa to true, or the TTL of the SOA record to "
            f"{HIDDEN_LIMIT_S:.0f} or less.",
        )
    return (
        f"rollcall:serviceDiscovery.zone: the SOA record of {settings.zone} makes resolvers remember for {seconds} s that a name does not "
        f"exist. If a client asks for an incarnation before its first machine has registered, it may find this machine up to {seconds} s "
        f"late. Set rollcall:serviceDiscovery.manageSoa to true. Or set the TTL of the zone's SOA record, or the last number in this "
        f"record, to {_LIMIT_S} or less.",
    )


def faults(settings: ServiceDiscoverySettings, sets: Sets, stack: str) -> tuple[str, ...]:
    """Return the reason why `stack` cannot set the zone's SOA: another stack does."""
    mark = sets(f"{zone_soa.mark_name(settings.zone)}.").get("TXT") or {}
    owner = zone_soa.owner_of([str(each["Value"]) for each in mark.get("ResourceRecords") or ()])
    if not settings.manages_soa or owner is None or owner[0] == stack:
        return ()
    return (zone_soa.second_owner(settings.zone, owner[0]),)


def negative_ttl(found: Mapping[str, Any]) -> int:
    """Return the lesser of the SOA's TTL and its minimum (RFC 2308 section 5); 0 where it cannot be read."""
    words = [str(each["Value"]) for each in found.get("ResourceRecords") or ()]
    parts = words[0].split() if words else []
    return min(int(found["TTL"]), int(parts[6])) if len(parts) == 7 and parts[6].isdigit() else 0
