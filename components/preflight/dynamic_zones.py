"""Check that zones that take dynamic updates (RFC 2136) can be used, without a change to them.

The server must answer, have the zone with authority, let the keys list it, and let them change what each is for. The
last point is checked by an update that adds records on the condition that they exist already, which they do not. BIND
and Knot check first whether the key may do it, and then answer that the prerequisite is not met (RFC 2136 sections
2.4.2 and 3.3).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.config.models import Settings
from components.config.servers import at_port
from components.config.site_zones import zones_of
from components.dns.rfc2136 import (
    MACHINE_TSIG_KEY,
    machine_tsig_key,
    missing_tsig_key,
    store_of,
    tsig_key,
    tsig_key_from,
)
from components.preflight import dns_conflicts
from components.resources import memberships
from components.resources.service_directory import static_records, zone_file_txt
from rollcall.errors import RollcallError
from rollcall.retrying import retried
from rollcall.route53 import LABEL
from rollcall.route53api import ConflictError

if TYPE_CHECKING:
    from dns.update import UpdateMessage

    from rollcall.rfc2136 import Rfc2136Zone

_WITHIN_S = 10.0
Get = Callable[[str], str | None]


# A record that does not exist, as (name, type, value). One update changes all records of a list.
_Record = tuple[str, str, str]
_UNUSED_VALUES = {
    "A": "0.0.0.0",
    "AAAA": "::",
    "TXT": '"rollcall preflight"',
    "PTR": "preflight.invalid.",
    "SRV": "65535 65535 65535 preflight.invalid.",
}


@dataclass(frozen=True, kw_only=True)
class _Zone:
    """A zone of the configuration, the `key` that names it, and what machines and the program change in it."""

    key: str
    domain: str
    server: str
    machines: tuple[tuple[_Record, ...], ...]
    program: tuple[tuple[_Record, ...], ...]
    conflicts: tuple[dns_conflicts.Wanted, ...]


def _records(*names: tuple[str, str]) -> tuple[_Record, ...]:
    return tuple((name, rtype, _UNUSED_VALUES[rtype]) for name, rtype in names)


def faults(settings: Settings, config: Get) -> list[str]:
    """Return each fault of the zones with `provider: rfc2136`. `config` gives a key of the stack's configuration."""
    zones = list(_zones(settings))
    if not zones:
        return []
    if not tsig_key(config):
        return [missing_tsig_key(zones[0].domain)]
    return [fault for zone in zones for fault in _faults(zone, config)]


def _zones(settings: Settings) -> Iterator[_Zone]:
    directory = settings.service_discovery
    for zone in zones_of(settings):
        if not zone.is_dynamic or not zone.server:
            continue
        types = ("A", "AAAA") if any(fleet.ipv6 for fleet in settings.fleets) else ("A",)
        marked = tuple(
            _records((f"{LABEL}.{site.fqdn}", "TXT"), *((site.fqdn, each) for each in types)) for site in zone.sites
        )
        yield _Zone(
            key=zone.site_with("server").key,
            domain=zone.zone,
            server=at_port(zone.server),
            machines=marked,
            program=marked,
            conflicts=tuple(dns_conflicts.of_sites(settings, zone)),
        )
    if directory is not None and directory.is_dynamic and directory.server:
        host = f"preflight.{LABEL}.{directory.zone}"
        joins = [f"{each.name}/{one.name}" for each in directory.services for one in each.incarnations]
        sets = memberships.sets_of(directory, tuple(joins))
        machines = (_records((host, "A"), (host, "TXT")), *(_records((each, "SRV")) for each in sets))
        static = (_records((each.name, each.type)) for each in static_records(directory, txt=zone_file_txt))
        yield _Zone(
            key="rollcall:serviceDiscovery",
            domain=directory.zone,
            server=at_port(directory.server),
            machines=machines,
            program=(*machines, *static),
            conflicts=tuple(dns_conflicts.of_directory(directory)),
        )


def _faults(zone: _Zone, config: Get) -> list[str]:
    """Return what is wrong with one zone: the first fault that prevents further checks, or the conflicting records in it."""
    own, machines = tsig_key(config), machine_tsig_key(config)
    if fault := _key_fault(zone, tsig_key_from(config), own, zone.program):
        return [fault]
    if machines != own and (fault := _key_fault(zone, MACHINE_TSIG_KEY, machines, zone.machines)):
        return [fault]
    sets: dict[str, dict[str, dns_conflicts.Present]] = {}
    for each in retried(store_of(zone.domain, zone.server, own).zone.sets, _WITHIN_S):
        sets.setdefault(each.name, {})[each.type] = dns_conflicts.Present(value=each.values[0])
    return dns_conflicts.faults(zone.domain, zone.conflicts, lambda name: sets.get(name.lower(), {}))


def _key_fault(zone: _Zone, name: str, key: str, changes: Iterable[tuple[_Record, ...]]) -> str | None:
    """Return what the server answers to the key with the name `name` in the configuration."""
    try:
        zone_data = store_of(zone.domain, zone.server, key).zone
    except RollcallError:
        return f"{name}: is not a TSIG key. Write it as hmac-sha256:NAME:BASE64, with what `tsig-keygen` prints."
    step = "be asked"
    try:
        retried(lambda: zone_data.at(zone.domain, ("SOA",)), _WITHIN_S)
        step = "be listed (AXFR)"
        retried(zone_data.sets, _WITHIN_S)
        for records in changes:
            step = f"be changed at {records[0][0]} {records[0][1]}"
            with contextlib.suppress(ConflictError):
                zone_data.send(_addition(zone_data, records))
    except RollcallError as refused:
        at = f"{zone.key}.server" if "reason=unreachable" in str(refused) else name
        fix = "docs/rfc2136.md has a configuration of BIND and of Knot"
        return f"{at}: the zone {zone.domain} cannot {step} at {zone.server}: {refused}. {fix}."
    return None


def _addition(zone: Rfc2136Zone, records: Iterable[_Record]) -> UpdateMessage:
    import dns.name

    update = zone.message()
    for name, rtype, value in records:
        update.present(dns.name.from_text(name), rtype, value)
        update.add(dns.name.from_text(name), 0, rtype, value)
    return update
