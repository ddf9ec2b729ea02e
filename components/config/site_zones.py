"""Group the sites of a stack by their zones, and read the keys that concern a whole zone."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from pydantic.alias_generators import to_camel

from components.config.models import Settings, SiteSettings

# The keys that concern the whole zone. Each is set at one site of the zone, or has the same value at several.
OF_THE_ZONE = ("server", "zone_id", "create", "account_id", "protection", "acceleration", "max_records")
DEFAULTS = {each.name: each.default for each in fields(SiteSettings)}


@dataclass(frozen=True, kw_only=True)
class ZoneSettings:
    """A zone with the sites in it: at least one. Their `provider` is the same."""

    sites: tuple[SiteSettings, ...]

    @property
    def zone(self) -> str:
        return self.sites[0].zone

    @property
    def provider(self) -> str:
        return self.sites[0].provider

    @property
    def is_dynamic(self) -> bool:
        return self.sites[0].is_dynamic

    @property
    def server(self) -> str | None:
        found: str | None = self._value("server")
        return found

    @property
    def zone_id(self) -> str | None:
        found: str | None = self._value("zone_id")
        return found

    @property
    def create(self) -> bool:
        return bool(self._value("create"))

    @property
    def account_id(self) -> str | None:
        found: str | None = self._value("account_id")
        return found

    @property
    def protection(self) -> str:
        return str(self._value("protection"))

    @property
    def acceleration(self) -> bool:
        return bool(self._value("acceleration"))

    @property
    def max_records(self) -> int:
        return int(self._value("max_records"))

    @property
    def proxied(self) -> bool:
        """Return whether any of its sites is proxied."""
        return bool(self._value("proxied"))

    @property
    def apex(self) -> SiteSettings | None:
        """Return the site to which the zone's apex leads."""
        return next((each for each in self.sites if each.apex), None)

    @property
    def joins(self) -> frozenset[str]:
        """Return the names of its sites in `joins`."""
        return frozenset(each.join for each in self.sites)

    def site_with(self, name: str) -> SiteSettings:
        """Return the site that sets this field, or the first one."""
        return next((each for each in self.sites if getattr(each, name) != DEFAULTS[name]), self.sites[0])

    def key(self, name: str) -> str:
        """Return the key of the configuration that sets this field: `rollcall:sites.www.zoneId`."""
        return f"{self.site_with(name).key}.{to_camel(name)}"

    def _value(self, name: str) -> Any:
        return getattr(self.site_with(name), name)


def zones_of(settings: Settings) -> tuple[ZoneSettings, ...]:
    """Return the zones of a stack's sites, in the order of the sites."""
    names = dict.fromkeys(each.zone for each in settings.sites)
    return tuple(ZoneSettings(sites=tuple(each for each in settings.sites if each.zone == name)) for name in names)


def machines_in(settings: Settings, zone: ZoneSettings) -> int:
    """Return how many machines join a site of the zone."""
    return sum(fleet.count for fleet in settings.fleets if zone.joins & {*fleet.joins})


def records_of(settings: Settings, zone: ZoneSettings) -> list[int]:
    """Return how many records the machines of each fleet have in the zone."""
    each_has = [len(zone.joins & {*fleet.joins}) * (2 if fleet.ipv6 else 1) for fleet in settings.fleets]
    return [fleet.count * records for fleet, records in zip(settings.fleets, each_has, strict=True)]


def records_needed(settings: Settings, zone: ZoneSettings) -> int:
    """Return the most records that the stack has in the zone: each machine's, the largest fleet's twice, and the apex.

    A replacement doubles a fleet for a while.
    """
    records = records_of(settings, zone)
    return sum(records) + max(records, default=0) + 1
