"""Make the settings with which machines join a site or a service. `checks.py` measures them, and machines get them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from components.config.models import (
    FleetSettings,
    IncarnationSettings,
    ServiceDiscoverySettings,
    ServiceSettings,
    Settings,
    SiteSettings,
)
from rollcall.settings import PRIVATE, PUBLIC

J = TypeVar("J")


def joins_by_address(settings: Settings, fleet: FleetSettings) -> dict[str, tuple[str, ...]]:
    """Return what a fleet joins, by the kind of its machines' addresses there (rollcall.settings.PUBLIC and PRIVATE)."""
    kinds = {join: settings.address_of(join) for join in fleet.joins}
    return {wanted: tuple(join for join, kind in kinds.items() if kind == wanted) for wanted in (PUBLIC, PRIVATE)}


def site_join(kind: Callable[..., J], site: SiteSettings, *, ipv6: bool, floors: tuple[int, int], **own: Any) -> J:
    """Return the settings of a provider's `kind`.

    `floors` are those of the A and the AAAA records; `own` is what only `kind` has.
    """
    floor, floor6 = floors
    return kind(
        host=site.fqdn,
        ttl=site.ttl,
        ipv6=ipv6,
        labels=site.host.count(".") + 1,
        floor=floor,
        floor6=floor6 if ipv6 else 1,
        address=site.address_kind,
        **asdict(site.health),
        **own,
    )


def service_join(
    kind: Callable[..., J],
    fleet: FleetSettings,
    directory: ServiceDiscoverySettings,
    service: ServiceSettings,
    incarnation: IncarnationSettings,
    *,
    shard: int,
    floor: int,
    **own: Any,
) -> J:
    """Return the settings of a provider's `kind`. `own` is what only `kind` has."""
    return kind(
        **service_place(fleet, directory, service, incarnation, shard), floor=floor, **asdict(service.health), **own
    )


def service_place(
    fleet: FleetSettings,
    directory: ServiceDiscoverySettings,
    service: ServiceSettings,
    incarnation: IncarnationSettings,
    shard: int,
) -> dict[str, Any]:
    """Return which of these settings say what a member has in DNS."""
    return {
        "domain": directory.zone,
        "service": service.label,
        "incarnation": incarnation.sets[shard],
        "port": service.port,
        "priority": fleet.priority,
        "weight": fleet.weight,
        "ttl": service.ttl,
        "ipv6": fleet.ipv6,
        "srv": service.srv(incarnation),
        "address": directory.address_of(service),
    }
