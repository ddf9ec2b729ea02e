"""The answers of Cloudflare's name servers for a zone, and the origins to which its edge forwards a proxied name.

https://developers.cloudflare.com/dns/proxy-status/ , https://developers.cloudflare.com/dns/cname-flattening/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from localcloud.cloudflare.contents import presented
from localcloud.cloudflare.model import PROXIABLE, Fields
from localcloud.cloudflare.zonedata import ZoneData
from localcloud.dns.data import RecordSet

AUTOMATIC_SECONDS = 300
_NS_SECONDS = 86400
_LONGEST_CHAIN = 8

Resolve = Callable[[str], tuple[RecordSet, ...]]


@dataclass(frozen=True, kw_only=True)
class ZoneView:
    """A zone at one moment. `proxies` is False while the zone is pending or paused: then nothing goes over the edge.

    `resolve` gives the address sets of a host anywhere, for flattened CNAMEs.
    """

    data: ZoneData
    edges: tuple[str, ...]
    name_servers: tuple[str, ...]
    settings: Mapping[str, Any]
    proxies: bool
    resolve: Resolve

    def lookup(self, name: str) -> tuple[RecordSet, ...] | None:
        """As `localcloud.dns.data.ZoneSource` has it."""
        zone = self.data.zone
        found = self.at(name)
        if found is None and name != zone:
            return None
        sets = self._sets(name, found or ())
        if name == zone:
            sets.append(RecordSet(zone, "NS", _NS_SECONDS, tuple(f"{each}." for each in self.name_servers)))
        return tuple(sets)

    def at(self, name: str) -> tuple[Fields, ...] | None:
        """The records that answer for `name`: its own, or by RFC 4592 those of the wildcard at its closest encloser."""
        own = self.data.by_name.get(name)
        if own is not None:
            return tuple(each.fields for each in own)
        if name in self.data.parents:
            return ()
        encloser = name
        while encloser != self.data.zone and "." in encloser:
            encloser = encloser.partition(".")[2]
            wild = self.data.by_name.get(f"*.{encloser}")
            if wild is not None:
                return tuple(each.fields for each in wild)
            if encloser in self.data.by_name or encloser in self.data.parents:
                return None
        return None

    def is_proxied(self, found: tuple[Fields, ...]) -> bool:
        """One proxied address record makes all addresses at its name proxied."""
        return self.proxies and any(each.proxied for each in found)

    def _sets(self, name: str, found: tuple[Fields, ...]) -> list[RecordSet]:
        alias = next((each for each in found if each.type == "CNAME"), None)
        plain = [each for each in found if each.type not in PROXIABLE]
        if self.is_proxied(found):
            return [*self._edge_sets(name, found), *_grouped(name, plain)]
        if alias is None:
            return _grouped(name, list(found))
        if name == self.data.zone or alias.settings.get("flatten_cname") or self._flattens_all:
            return [*self._flattened(name, alias), *_grouped(name, plain)]
        return _grouped(name, [alias])

    @property
    def _flattens_all(self) -> bool:
        return bool(self.settings.get("cname_flattening") == "flatten_all")

    def _edge_sets(self, name: str, found: tuple[Fields, ...]) -> list[RecordSet]:
        only_v4 = self.settings.get("ipv6") == "off" or any(each.settings.get("ipv4_only") for each in found)
        only_v6 = any(each.settings.get("ipv6_only") for each in found)
        v4 = tuple(each for each in self.edges if ":" not in each)
        v6 = tuple(each for each in self.edges if ":" in each)
        sets = [] if only_v6 or not v4 else [RecordSet(name, "A", AUTOMATIC_SECONDS, v4)]
        return sets if only_v4 or not v6 else [*sets, RecordSet(name, "AAAA", AUTOMATIC_SECONDS, v6)]

    def _flattened(self, name: str, alias: Fields) -> list[RecordSet]:
        """Return addresses instead of a CNAME, because RFC 1034 allows no CNAME beside the zone's NS and SOA."""
        sets = [each for each in self.resolve(alias.content) if each.type in ("A", "AAAA")]
        return [RecordSet(name, each.type, min(each.ttl, _seconds(alias)), each.values) for each in sets]


@dataclass(frozen=True, kw_only=True)
class EdgeRoute:
    """Where the edge forwards requests for `host`.

    `origins` are the addresses of the origin; where the chain of CNAMEs leaves the zone they are empty and `target` is
    the name to resolve; where it ends at a name without addresses both are empty. `settings` are the zone's, by the
    names of the API (`ssl`, `always_use_https`, `security_level`, `min_tls_version` …).
    """

    host: str
    zone: str
    origins: tuple[str, ...]
    target: str | None
    settings: Mapping[str, Any]


def edge_route(view: ZoneView, host: str) -> EdgeRoute | None:
    """The route of a proxied name; None where the name is not proxied or its CNAMEs lead in a circle."""
    found = view.at(host)
    if not found or not view.is_proxied(found):
        return None
    name, zone = host, view.data.zone
    for _ in range(_LONGEST_CHAIN):
        addresses = tuple(each.content for each in found or () if each.type in ("A", "AAAA"))
        alias = next((each for each in found or () if each.type == "CNAME"), None)
        if alias is None:
            return EdgeRoute(host=host, zone=zone, origins=addresses, target=None, settings=view.settings)
        name = alias.content
        if name != zone and not name.endswith(f".{zone}"):
            return EdgeRoute(host=host, zone=zone, origins=(), target=name, settings=view.settings)
        found = view.at(name)
    return None


def _grouped(name: str, found: list[Fields]) -> list[RecordSet]:
    """One set a type, with the lowest TTL of its records (RFC 2181 section 5.2 wants one)."""
    kinds = dict.fromkeys(each.type for each in found)
    sets = []
    for kind in kinds:
        same = [each for each in found if each.type == kind]
        sets.append(RecordSet(name, kind, min(map(_seconds, same)), tuple(presented(each) for each in same)))
    return sets


def _seconds(fields: Fields) -> int:
    return AUTOMATIC_SECONDS if fields.ttl == 1 else fields.ttl
