"""Rollcall's program: settings -> components -> exports."""

from __future__ import annotations

import asyncio

import pulumi

from components.config import floors
from components.config.models import SITE_JOIN, FleetSettings
from components.preflight.checks import checked
from components.preflight.cloudflare_tokens import machine_token
from components.resources import ec2_lookups, memberships, releases
from components.resources.dns_credentials import (
    KEY,
    ORIGIN,
    PROBE_KEY,
    TOKEN,
    Ec2Registrar,
    Ec2RegistrarArgs,
    SiteToken,
    SiteTokenArgs,
    UserRegistrar,
)
from components.resources.fleets.base import Fleet, FleetArgs
from components.resources.fleets.registry import FLEETS
from components.resources.fleets.roll_calls import call_rolls
from components.resources.membership import Membership
from components.resources.origin_tls import ClosedOrigin, ClosedOriginArgs
from components.resources.probe_key import ProbeKey
from components.resources.service_directory import ServiceDirectory, ServiceDirectoryArgs
from components.resources.site import Site, SiteArgs
from components.resources.tags import deployment, mark_everything

settings, stands = checked(deployment())
mark_everything()

site = Site("site", SiteArgs(settings=settings.site, taken=stands.taken)) if settings.site else None
given = pulumi.Output.secret(told) if (told := machine_token()) else None
token = (
    SiteToken(
        "machines",
        SiteTokenArgs(zone_id=site.zone_id, given=given, rotate=settings.rotate, account=stands.token_account),
    )
    if site
    else None
)
origin = (
    ClosedOrigin("origin", ClosedOriginArgs(settings=settings.site, zone_id=site.zone_id, rotate=settings.rotate))
    if settings.site and site and settings.site.proxied
    else None
)
directory = (
    ServiceDirectory("directory", ServiceDirectoryArgs(settings=settings.directory, taken=stands.taken))
    if settings.directory
    else None
)
probe_key = ProbeKey("probe-key", settings.rotate)
# Those of regions beside the stack's own.
providers = ec2_lookups.providers(settings.fleets)
stores = releases.stores(settings.fleets, providers)


def fleet(told: FleetSettings) -> Fleet:
    """A fleet of machines on its cloud. Whatever they need in order to register and leave outlives them."""
    joins_site = SITE_JOIN in told.joins
    shared = {PROBE_KEY: pulumi.Output.secret(probe_key.value)}
    secrets = {TOKEN: token.value} if token and joins_site else {}
    if origin and joins_site:
        secrets[ORIGIN] = origin.pem
    grant = (
        memberships.grant(settings.directory, told.joins, directory.zone_arn)
        if settings.directory and directory
        else None
    )
    grants = [grant] if grant else []
    kind = FLEETS[told.cloud]
    provider = providers.get(told.region) if kind.instance_role else None
    store = stores[told.region] if kind.instance_role else None
    role = (
        Ec2Registrar(
            told.name,
            Ec2RegistrarArgs(
                secrets={**shared, **secrets},
                grants=grants,
                objects=store.objects,
                region=told.region,
                provider=provider,
            ),
        )
        if store
        else None
    )
    user = UserRegistrar(told.name, grants, settings.rotate) if grants and not role else None

    def membership(join: str) -> Membership:
        if join == SITE_JOIN:
            assert settings.site and site
            names = role.parameters if role else {name: pulumi.Output.from_input(name) for name in secrets}
            return memberships.site_membership(
                settings.site,
                site.zone_id,
                names[TOKEN],
                {} if role else secrets,
                origin=names[ORIGIN] if origin else "",
                only_from=origin.ranges if origin else None,
                ipv6=told.ipv6,
                floors=floors.of_site(settings),
            )
        assert settings.directory and directory
        keys = {KEY: user.key} if user else {}
        return memberships.service_membership(
            told,
            settings.directory,
            join,
            directory.zone_id,
            keys,
            floor=lambda service, each, shard: floors.of_service(
                settings, join, service.min_registered, each.shards, shard
            ),
        )

    args = FleetArgs(
        settings=told,
        memberships=[membership(join) for join in told.joins],
        probe_key=role.parameters[PROBE_KEY] if role else PROBE_KEY,
        secrets={} if role else shared,
        needs=[
            *(token.made if token and joins_site else ()),
            *(site.static if site and joins_site else ()),
            *(origin.made if origin and joins_site else ()),
            *(directory.static if directory and grant else ()),
            *(role.all_made if role else ()),
            *(store.made if store else ()),
            *(user.all_made if user else ()),
        ],
        profile=role.profile if role else "",
        store=store.setting if store else "",
        network_ids=settings.network_ids.get(told.name, ()),
        linger=settings.linger,
        brake=settings.brake,
        by_hand=stands.by_hand,
        by_ssh=stands.by_ssh,
        renamed=stands.renamed,
    )
    return kind(told.name, args, pulumi.ResourceOptions(providers=[provider]) if provider else None)


fleets = [fleet(told) for told in settings.fleets]
call_rolls(fleets, stands.fleets, stands.uncounted)

pulumi.export(
    "fleets",
    {
        each.name: {"cloud": each.settings.cloud, "joins": each.settings.joins, "addresses": each.addresses}
        for each in fleets
    },
)
if settings.site and site:
    pulumi.export("site", {"host": settings.site.fqdn, "zone": site.zone_id})
if settings.directory and directory:
    pulumi.export(
        "directory",
        {
            "zone": settings.directory.zone,
            "services": {each.name: f"{each.label}.{settings.directory.zone}" for each in settings.directory.services},
        },
    )


async def begun() -> None:
    """Let every registration begin before the SDK waits: those under way it awaits one by one. Else it waits for any of all
    outputs anew whenever one of them is there, which takes a time that grows with their square (pulumi/runtime/stack.py,
    wait_for_rpcs)."""
    await asyncio.sleep(0)


pulumi.run(begun)
