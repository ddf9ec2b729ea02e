"""Check the sites of a stack: each by itself, those of one zone with each other, and their names in DNS."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic.alias_generators import to_camel

from components.config.errors import Add, at, near
from components.config.models import (
    CLOSED_PORT,
    DYNAMIC,
    FLEET_NAME,
    SITE_PORT,
    SITE_PROVIDERS,
    FleetSettings,
    Settings,
    SiteSettings,
)
from components.config.site_zones import (
    DEFAULTS,
    OF_THE_ZONE,
    ZoneSettings,
    machines_in,
    records_needed,
    records_of,
    zones_of,
)
from rollcall.settings import PRIVATE

_FLEETS, _SITES = "rollcall:fleets", "rollcall:sites"


def check(settings: Settings, add: Add) -> None:
    """Add every error of the sites."""
    for site in settings.sites:
        _site(settings, site, add)
    for host in _twice(settings.sites):
        first, *others = [each for each in settings.sites if each.fqdn == host]
        for each in others:
            add(f"{each.key}.host", f"makes {host}, which is the host of {first.name}, too", "Name another host")
    for fleet in settings.fleets:
        _closed(settings, fleet, add)
    for zone in zones_of(settings):
        _zone(zone, add)
        if not zone.is_dynamic:
            _plan(settings, zone, add)


def _twice(sites: tuple[SiteSettings, ...]) -> list[str]:
    hosts = [each.fqdn for each in sites]
    return sorted({each for each in hosts if hosts.count(each) > 1})


def _site(settings: Settings, site: SiteSettings, add: Add) -> None:
    if not re.fullmatch(FLEET_NAME, site.name):
        add(site.key, "is not the name of a site", "Use 1 to 30 of a-z, 0-9 and inner hyphens")
    if site.is_dynamic:
        given = {"proxied": site.proxied, "acceleration": site.acceleration, "protection": site.protection != "off"}
        for name in (each for each, on in given.items() if on):
            add(f"{site.key}.{name}", f"is for {SITE_PROVIDERS[0]}", "Leave it out, or set provider: cloudflare")
        if site.ttl == 1:
            add(f"{site.key}.ttl", "is 1, which only Cloudflare takes for automatic", "Set 60 to 86400 seconds")
    if site.proxied and site.address == PRIVATE:
        add(f"{site.key}.address", "is private, and Cloudflare's edge reaches public addresses only", "Leave it out")
    if site.proxied and site.port != SITE_PORT:
        add(f"{site.key}.port", "is set, and Cloudflare's edge asks a proxied site's machines at 443", "Leave it out")
    _tls(settings, site, add)
    _host(settings, site, add)
    _workload(settings, site, add)
    faulty = any(each.startswith(f"{_FLEETS}") for each in add.faults.found)
    if not faulty and not settings.fleets_at(site.join):
        add(site.key, "is joined by no fleet", f"Add {site.join} to the joins of a fleet, or remove the site")


def _tls(settings: Settings, site: SiteSettings, add: Add) -> None:
    """Check that nginx can serve a site with `tls`."""
    if site.tls is None:
        return
    if site.proxied:
        add(f"{site.key}.tls", "is set, and visitors of a proxied site see the edge's certificate", "Leave it out")
    elif site.port != SITE_PORT:
        add(f"{site.key}.port", "is set, and a site with tls is served at 443 and 80", "Leave it out")
    for fleet in settings.fleets_at(site.join):
        if fleet.runs and "site" not in fleet.runs and not any(each.nginx for each in settings.workloads_of(fleet)):
            problem = f"has {site.join}, which has tls, and no workload of the fleet has nginx, which serves TLS"
            add(f"{at(_FLEETS, fleet.name)}.joins", problem, "Add a workload with nginx, or take tls out of the site")


def _host(settings: Settings, site: SiteSettings, add: Add) -> None:
    """Refuse a host that is in another zone than that of the site."""
    key, zones = f"{site.key}.host", {each.zone: f"the site {each.name}" for each in reversed(settings.sites)}
    if settings.service_discovery is not None:
        zones.setdefault(settings.service_discovery.zone, "serviceDiscovery")
    within = next((each for each in zones if site.host == each or site.host.endswith(f".{each}")), None)
    if within == site.zone:
        short = site.host.removesuffix(within).rstrip(".") or "www"
        add(key, f"ends with the zone {within}, which is added to it", f"Write {short}")
    elif within is not None:
        problem = f"is in the zone {within} of {zones[within]}, and {site.zone} would be added to it"
        add(key, problem, f"Set {site.key}.zone to {within}, and host to the name below it")
    below = [each for each in zones if f".{site.fqdn}".endswith(f".{each}") and each.endswith(f".{site.zone}")]
    if below:
        deepest = max(below, key=len)
        problem = f"makes {site.fqdn}, which is in the zone {deepest} of {zones[deepest]} and not in {site.zone}"
        add(key, problem, f"Set {site.key}.zone to {deepest}, or name another host")


def _workload(settings: Settings, site: SiteSettings, add: Add) -> None:
    """Check that the workload that a site's check names has one."""
    kind, _, name = (site.check or "").partition(":")
    known = {each.name: each for each in settings.workloads}
    if kind != "workload":
        return
    if name not in known:
        fix = f"Name one of {', '.join(known)}" if known else "Write a check, as http:80:/"
        add(f"{site.key}.check", f"names the workload {name}, which does not exist{near(name, known)}", fix)
    elif not known[name].check:
        add(
            f"{site.key}.check",
            f"names the workload {name}, which has no check",
            f"Set {at('rollcall:workloads', name)}.check",
        )


def _closed(settings: Settings, fleet: FleetSettings, add: Add) -> None:
    """Refuse a port of a closed site's machines that another site opens to all addresses: the machines answer for both there."""
    sites = settings.sites_of(fleet)
    closed = next((each for each in sites if each.proxied), None)
    for each in (one for one in sites if closed and not one.proxied and one.port in (SITE_PORT, CLOSED_PORT)):
        problem = f"has {each.join}, which opens port {each.port} of machines that only Cloudflare's edge may reach for"
        fix = "Let another fleet join it, or set proxied alike at both sites"
        add(f"{at(_FLEETS, fleet.name)}.joins", f"{problem} {closed.join if closed else ''}", fix)


def _zone(zone: ZoneSettings, add: Add) -> None:
    if not _agrees(zone, add):
        return
    if zone.create and zone.zone_id:
        add(zone.key("zone_id"), "names a zone that exists, and create: true makes another", "Keep one of the two")
    if zone.is_dynamic:
        if zone.server is None:
            add(zone.key("server"), "is missing", "Name the zone's primary name server, as 192.0.2.53")
        if zone.create:
            add(zone.key("create"), "is on, and a zone of provider: rfc2136 is made at its server", "Leave it out")
        if zone.zone_id is not None:
            add(zone.key("zone_id"), "is set, and a zone of provider: rfc2136 has only a name", "Leave it out")
    elif zone.server is not None and not _has_fault(zone, "provider", add):
        add(zone.key("server"), f"is for provider: {DYNAMIC}", "Leave it out, or set the provider")
    if zone.account_id and not zone.create:
        add(zone.key("account_id"), "is where a new zone is made, and create is off", "Take it out, or set create")


def _agrees(zone: ZoneSettings, add: Add) -> bool:
    """Return whether the sites of a zone have the same provider. Keys that differ and must not are errors."""
    first, *others = zone.sites
    providers = [each for each in others if each.provider != first.provider]
    for each in providers:
        problem = f"is {each.provider}, and {first.name} in the same zone has {first.provider}"
        add(f"{each.key}.provider", problem, "Set the same: a zone has one provider")
    for name in OF_THE_ZONE:
        set_by, value = zone.site_with(name), getattr(zone, name)
        for each in _others_with(zone, name, value):
            problem = f"differs from that of {set_by.name}, which is in the same zone"
            add(f"{each.key}.{to_camel(name)}", problem, "Set it at one of the two sites")
    if not zone.is_dynamic and zone.apex is not None:
        for each in (one for one in zone.sites if one.apex and one is not zone.apex):
            problem = f"is on, and that of {zone.apex.name} is, too, and the zone {zone.zone} has one apex"
            add(f"{each.key}.apex", problem, f"Set apex: false at all but one of the sites in {zone.zone}")
    return not providers


def _others_with(zone: ZoneSettings, name: str, value: object) -> Iterator[SiteSettings]:
    return (each for each in zone.sites if getattr(each, name) not in (DEFAULTS[name], value))


def _has_fault(zone: ZoneSettings, name: str, add: Add) -> bool:
    return any(add.faults.covers(f"{each.key}.{name}") for each in zone.sites)


def _plan(settings: Settings, zone: ZoneSettings, add: Add) -> None:
    """Check that the zone's plan holds the records of a replacement."""
    records = records_of(settings, zone)
    members = machines_in(settings, zone)
    if records_needed(settings, zone) > zone.max_records:
        each = f" with {sum(records)} records" if sum(records) != members else ""
        add(
            _FLEETS,
            f"has {members} machines that join sites in {zone.zone}{each}, and a replacement adds up to {max(records, default=0)}; "
            f"the zone's plan holds {zone.max_records} records",
            f"Lower the counts, or set {zone.key('max_records')} to what your plan holds",
        )
