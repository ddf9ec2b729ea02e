"""Rollcall's program: settings -> components -> exports."""

from __future__ import annotations

import pulumi

from components.fleet import Ec2Fleet, Fleet, FleetArgs, JoyentFleet, Membership, call_rolls, site_place
from components.preflight import checked
from components.registrar import Ec2Registrar, Ec2RegistrarArgs, SiteToken, SiteTokenArgs
from components.settings import SITE_JOIN, FleetSettings
from components.site import Site, SiteArgs

SECRET = "cloudflare-token"
settings = checked(pulumi.get_stack())

site = Site("site", SiteArgs(settings=settings.site)) if settings.site else None
token = SiteToken("machines", SiteTokenArgs(zone_id=site.zone_id)) if site else None
secrets = {SECRET: token.value} if token else {}
registrar = Ec2Registrar("ec2", Ec2RegistrarArgs(secrets=secrets)) if settings.fleets_of("aws") else None


def membership(cloud: str) -> Membership:
    """What joining the site means for a machine on `cloud`."""
    assert settings.site and site and token
    told = settings.site
    where = site_place(site.zone_id, told.zone, told.fqdn, told.ttl, told.proxied)
    ec2 = registrar if cloud == "aws" else None
    return Membership(
        place=where,
        workload=SITE_JOIN,
        host=told.fqdn,
        ttl=told.ttl,
        proxied=told.proxied,
        token=ec2.parameters[SECRET] if ec2 else SECRET,
        secret=None if ec2 else token.value,
    )


def fleet(told: FleetSettings) -> Fleet:
    """A fleet of machines on its cloud; whatever they need in order to register and leave outlives them."""
    memberships = [membership(told.cloud) for join in told.joins if join == SITE_JOIN]
    needs = [
        *(token.made if token else ()),
        *(site.static if site else ()),
        *(registrar.all_made if registrar and told.cloud == "aws" else ()),
    ]
    args = FleetArgs(settings=told, memberships=memberships, needs=needs, linger=settings.linger)
    if told.cloud == "aws":
        assert registrar
        return Ec2Fleet(told.name, args, profile=registrar.profile)
    return JoyentFleet(told.name, args)


fleets = [fleet(told) for told in settings.fleets]
call_rolls(fleets)

pulumi.export(
    "fleets",
    {
        each.name: {"cloud": each.settings.cloud, "joins": each.settings.joins, "addresses": each.addresses}
        for each in fleets
    },
)
if settings.site and site:
    pulumi.export("site", {"host": settings.site.fqdn, "zone": site.zone_id})
