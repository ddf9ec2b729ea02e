"""Check DNS: each zone's delegation, its name servers, and whether port 53 is open."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from components.commands.doctor import aws, cloudflare
from components.commands.doctor.engine import STACK
from components.commands.doctor.environment import Environment
from components.commands.doctor.points import Check, Finding, not_proven, ok, wrong
from components.config.site_zones import zones_of
from components.dns.cloudflare_api import ApiFailingError, ApiRefusedError
from components.preflight import delegation
from components.preflight.delegation import Answers
from rollcall import zoneview

AREA = "DNS"
OVERRIDE = "ROLLCALL_DNS"


def checks(env: Environment) -> list[Check]:
    return [
        Check(area=AREA, name="Cloudflare zones", run=lambda: in_cloudflare(env), needs=(cloudflare.TOKEN,)),
        Check(area=AREA, name="Route53 zone", run=lambda: in_route53(env), needs=(aws.CREDENTIALS,)),
        Check(area=AREA, name="zones with dynamic updates", run=lambda: dynamic(env), needs=(STACK,)),
    ]


def in_cloudflare(env: Environment) -> Iterator[Finding]:
    listed = cloudflare.zones(env)
    for zone in listed:
        try:
            found = cloudflare.zone_found(env, zone)
        except ApiFailingError as failing:
            yield not_proven(str(failing), zone.zone)
        except ApiRefusedError as refused:
            yield wrong(str(refused), zone.zone)
        else:
            if found is None:
                yield ok(f"{zone.zone} is to be made", zone.zone)
            else:
                yield from of_zone(env, zone.zone, found.name_servers)
    if not listed:
        yield ok("there is none")


def in_route53(env: Environment) -> Iterator[Finding]:
    directory = env.settings.without_dynamic_zones().service_discovery
    if directory is None:
        yield ok("there is none")
        return
    faults, found = aws.zone_findings(env)
    yield from faults
    if found is not None and directory.private:
        yield from in_vpcs(directory.zone, found["VPCs"])
    elif found is not None:
        yield from of_zone(env, directory.zone, found["DelegationSet"]["NameServers"])
    elif not faults:
        yield ok(f"{directory.zone} is to be made")


def in_vpcs(zone: str, vpcs: Sequence[Mapping[str, str]]) -> Iterator[Finding]:
    """Say which VPCs find a private zone. Nothing outside of them can ask its name servers, and no zone delegates it."""
    listed = ", ".join(sorted(f"{each['VPCId']} in {each['VPCRegion']}" for each in vpcs))
    yield ok(f"{zone} is private, and associated with {listed}", f"VPCs of {zone}")
    yield not_proven(
        f"{zone}: is private, so its answers cannot be asked from here. Run `rollcall status`, which shows what machines report.",
        f"answers of {zone}",
    )


def dynamic(env: Environment) -> Iterator[Finding]:
    """Check the name servers of zones with dynamic updates: those that their parents name, since no provider has a list."""
    directory = env.settings.service_discovery
    names = [each.zone for each in zones_of(env.settings) if each.sites[0].is_dynamic]
    names += [directory.zone] if directory is not None and directory.is_dynamic else []
    for zone in dict.fromkeys(names):
        yield from of_zone(env, zone, ())
    if not names:
        yield ok("there is none")


def of_zone(env: Environment, zone: str, expected: Sequence[str]) -> Iterator[Finding]:
    """Compare the parent's delegation with the provider's name servers (`expected`; none: not known), and ask each of them."""
    title = f"delegation of {zone}"
    if os.environ.get(OVERRIDE):
        fix = f"Unset {OVERRIDE} to check the real delegation"
        yield not_proven(f"{zone}: {OVERRIDE} names the name servers, so the parent is not asked. {fix}.", title)
        yield from answers(zone, delegation.answers_at(zone, zoneview.name_servers(zone).servers))
        return
    resolvers = zoneview.resolvers_of(env.settings.resolvers)
    wanted = {each.rstrip(".").lower() for each in expected}
    found = delegation.delegation_of(zone, resolvers)
    yield compared(zone, found, wanted)
    servers = wanted or found.names
    if servers:
        yield from answers(zone, delegation.answers_of(zone, servers, resolvers))


def compared(zone: str, found: delegation.Delegation, wanted: set[str]) -> Finding:
    """Return whether the parent names the provider's servers: a pure function."""
    title = f"delegation of {zone}"
    servers = ", ".join(sorted(wanted)) or "its name servers"
    if found.fault:
        return not_proven(
            f"{zone}: {found.fault}, so its delegation is not known. Open port 53, or ask `dig NS {zone} +trace`.",
            title,
        )
    if found.missing:
        fix = f"Enter {servers} at the registrar, or as NS records in {found.parent}"
        return wrong(f"{zone}: {found.parent} does not delegate it, so no name in it resolves. {fix}.", title)
    if wanted and found.names != wanted:
        fix = f"Enter {servers} at the registrar, or as NS records in {found.parent}"
        return wrong(
            f"{zone}: {found.parent} delegates it to {', '.join(sorted(found.names))}, and this account's zone is at {servers}. {fix}.",
            title,
        )
    return ok(f"{found.parent} names {', '.join(sorted(found.names))}", title)


def answers(zone: str, found: Answers) -> Iterator[Finding]:
    """Return what the name servers of a zone do, and whether port 53 is open: a pure function."""
    title = f"name servers of {zone}"
    silent = [way for way in ("UDP", "TCP") if found.silent(way)]
    if silent:
        fix = "Open UDP and TCP 53 outward, or set rollcall:resolvers to resolvers that answer"
        yield wrong(
            f"port 53: no name server of {zone} answers by {' or '.join(silent)} from here. A firewall blocks it, or all of them are down. "
            f"{fix}.",
            title,
        )
        return
    if found.faults:
        fix = "Fix these servers, or remove them from the NS records of the zone and of its parent"
        yield wrong(f"{zone}: the name server {'; '.join(found.faults)}. {fix}.", title)
        return
    yield ok("each answers by UDP and TCP with authority", title)
