"""Reduce settings with faults to what the clouds can be asked about, so that one run names every fault.

A fault is a text with its key in front: `rollcall:sites.www.ttl: 5 is …`. A value with a fault has its default in the
settings. A cloud can be asked about it, unless the key says where or what a thing is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from components.config.errors import at
from components.config.models import ServiceDiscoverySettings, Settings, SiteSettings

# The keys that say where or what a thing is: without the right value, no cloud can be asked about it. Every other key, also one that
# is new, has its default in place of a value with a fault.
_NEEDED = {
    "sites": ("zone", "provider", "server", "zoneId", "host", "proxied", "create", "accountId"),
    "serviceDiscovery": ("zone", "provider", "server", "zoneId", "create", "manageSoa", "private", "vpcs"),
    "fleets": ("cloud", "size", "image", "region", "ipv6", "ssh", "adopt", "networks"),
}
# Faults of a key that nothing reads, and of one that is there twice, of which the last one counts.
_NO_VALUES = ("is not a setting", "is written ")
# The keys of what AWS is asked about, apart from its account.
_PARTS = ("rollcall:fleets.", "rollcall:serviceDiscovery")


def part(settings: Settings, faults: Sequence[str]) -> Settings:
    """Return the settings without the parts that `faults` leave unknown."""
    without = {"joyent"} if any(each.startswith("rollcall:joyent") for each in faults) else set()
    fleets = tuple(
        each
        for each in settings.fleets
        if each.cloud not in without and not _blocked(at("rollcall:fleets", each.name), _NEEDED["fleets"], faults)
    )
    return replace(
        settings,
        sites=_sites(settings, faults),
        service_discovery=_directory(settings.service_discovery, faults),
        fleets=fleets,
    )


def without_cloud(settings: Settings, cloud: str, faults: Sequence[str]) -> Settings:
    """Return the settings without what these faults of `cloud` concern: the parts that they name, or else everything there."""
    rest = part(settings, faults)
    if all(fault.startswith(_PARTS) for fault in faults):
        return rest
    fleets = tuple(each for each in rest.fleets if each.cloud != cloud)
    return replace(rest, fleets=fleets, service_discovery=None if cloud == "aws" else rest.service_discovery)


def _sites(settings: Settings, faults: Sequence[str]) -> tuple[SiteSettings, ...]:
    """Return the sites of the zones that are known: any site of a zone may set what concerns the whole zone."""
    unknown = {each.zone for each in settings.sites if _blocked(each.key, _NEEDED["sites"], faults)}
    return tuple(each for each in settings.sites if each.zone not in unknown)


def _directory(directory: ServiceDiscoverySettings | None, faults: Sequence[str]) -> ServiceDiscoverySettings | None:
    """Return the directory. With faults in its services their names are not known, but the zone is."""
    services = "rollcall:serviceDiscovery.services"
    if directory is None or _blocked("rollcall:serviceDiscovery", _NEEDED["serviceDiscovery"], faults):
        return None
    return replace(directory, services=()) if any(each.startswith(services) for each in faults) else directory


def _blocked(key: str, needed: Sequence[str], faults: Sequence[str]) -> bool:
    for fault in faults:
        named, _, problem = fault.partition(": ")
        if named == key or (named.startswith(f"{key}.") and not problem.startswith(_NO_VALUES)):
            inner = named[len(key) + 1 :].partition(".")[0].partition("[")[0]
            if not inner or inner in needed:
                return True
    return False
