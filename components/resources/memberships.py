"""Describe what a fleet joins, sites or incarnations of services: the settings of its machines and the places of its RollCall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pulumi

from components.config.joins import service_join, service_place, site_join
from components.config.models import (
    CLOSED_PORT,
    SAMPLES,
    FleetSettings,
    IncarnationSettings,
    ServiceDiscoverySettings,
    ServiceSettings,
    SiteSettings,
    joins_site,
)
from components.dns.cloudflare import Place
from components.dns.route53 import ServicePlace
from components.resources.dns_credentials import Grant
from components.resources.firewall import IngressRule, Ranges
from components.resources.membership import Membership
from rollcall.settings import CloudflareJoin, format_join

SITE_SAMPLE, THE_SERVICE = SAMPLES


def site_membership(
    settings: SiteSettings,
    zone: pulumi.Output[str],
    token: pulumi.Input[str],
    secrets: dict[str, pulumi.Output[str]],
    *,
    origin: pulumi.Input[str] = "",
    only_from: Ranges | None = None,
    ipv6: bool = False,
    floors: tuple[int, int] = (1, 1),
    sites: int = 1,
    tls: tuple[pulumi.Input[str], pulumi.Input[str]] = ("", ""),
) -> Membership:
    """Return the membership in a site.

    `zone` is Cloudflare's id of its zone. `token` is the name of the secret with the API token. A closed site is served
    by TLS to `only_from`. `origin` is the name of the secret with its key and certificate. `floors` are the floors of
    its A and AAAA sets. `sites` is how many sites share what Cloudflare's API allows. `tls` are the name of the secret
    with a certificate that visitors trust, and a word that changes with it.
    """

    def place(known: str) -> dict[str, Any]:
        return Place(
            zone=known,
            domain=settings.zone,
            host=settings.fqdn,
            ttl=settings.ttl,
            proxied=settings.proxied,
            ipv6=ipv6,
            address=settings.address_kind,
        ).as_inputs()

    def words(known: list[str]) -> str:
        zone_id, name, pem, trusted, word = known
        own = {
            "zone": zone_id,
            "token": name,
            "proxied": settings.proxied,
            "origin": pem,
            "apex": only_from is not None and settings.apex,
            "sites": sites,
            "tls": trusted,
            "certificate": word,
        }
        return format_join(site_join(CloudflareJoin, settings, ipv6=ipv6, floors=floors, **own))

    join = pulumi.Output.all(zone, token, origin, *tls).apply(words)
    rule, more = site_ingress(settings, only_from)
    return Membership(
        places=[zone.apply(place)],
        workload=SITE_SAMPLE,
        ingress=rule,
        more=more,
        words=lambda _: join,
        secrets=secrets,
    )


def site_ingress(settings: SiteSettings, only_from: Ranges | None = None) -> tuple[IngressRule, list[IngressRule]]:
    """Return the port of a site, and the further ones: a site with `tls` sends visitors from its port to https."""
    if only_from is not None:
        return IngressRule(port=CLOSED_PORT, protocol="tcp", only_from=only_from), []
    plain, secured = (IngressRule(port=each, protocol="tcp") for each in (settings.port, CLOSED_PORT))
    return (secured, [plain]) if settings.tls else (plain, [])


def service_membership(
    fleet: FleetSettings,
    directory: ServiceDiscoverySettings,
    joined: str,
    zone: pulumi.Output[str],
    secrets: dict[str, pulumi.Output[str]],
    floor: Callable[[ServiceSettings, IncarnationSettings, int], int] = lambda service, incarnation, shard: 1,
    *,
    key: pulumi.Input[str] | None = None,
    kind: Callable[..., ServicePlace] = ServicePlace,
) -> Membership:
    """Return the membership in the incarnation `joined` (`theService/v1`).

    `zone` is the provider's id of the zone. `secrets` has at most one item, the provider's key, for machines that have
    no instance role. `floor` is the floor of a shard. `key` is the name of the secret with the key; the default is the
    name in `secrets`. `kind` is the provider's kind of place.
    """
    service, incarnation = found(directory, joined)
    key = next(iter(secrets), "") if key is None else key

    def place(known: str, shard: int) -> ServicePlace:
        return kind(
            zone=known,
            shard=shard,
            shards=incarnation.shards,
            **service_place(fleet, directory, service, incarnation, shard),
        )

    def words(index: int) -> pulumi.Output[str]:
        shard = index % incarnation.shards
        fewest = floor(service, incarnation, shard)

        def formatted(known: list[str]) -> str:
            zone_id, name = known
            here = partial(replace, place(zone_id, shard).machine_settings)
            return format_join(
                service_join(here, fleet, directory, service, incarnation, shard=shard, floor=fewest, key=name)
            )

        return pulumi.Output.all(zone, key).apply(formatted)

    return Membership(
        places=[
            zone.apply(lambda known, shard=shard: place(known, shard).as_inputs())
            for shard in range(incarnation.shards)
        ],
        workload=THE_SERVICE,
        ingress=IngressRule(port=service.port, protocol=service.protocol),
        words=words,
        secrets=secrets,
    )


def grant(directory: ServiceDiscoverySettings, joins: tuple[str, ...], zone_arn: pulumi.Output[str]) -> Grant | None:
    """Return the rights that a fleet with these `joins` needs, or None where it joins no service."""
    sets = sets_of(directory, joins)
    return Grant(zone_arn=zone_arn, domain=directory.zone, sets=sets) if sets else None


def sets_of(directory: ServiceDiscoverySettings, joins: tuple[str, ...]) -> list[str]:
    """Return the names of the SRV sets that a fleet with these `joins` may have to join."""
    services = [found(directory, joined) for joined in joins if not joins_site(joined)]
    sets = [
        f"{each}.{service.label}.{directory.zone}" for service, incarnation in services for each in incarnation.sets
    ]
    named = [(service, incarnation) for service, incarnation in services if service.srv(incarnation)]
    names = [f"{service.label}.{incarnation.name}.{directory.zone}" for service, incarnation in named]
    # Also where the set will lead to another incarnation: the machines that were in it remove themselves.
    return [*sets, *names, *dict.fromkeys(f"{service.label}.{directory.zone}" for service, _ in named)]


def found(directory: ServiceDiscoverySettings, joined: str) -> tuple[ServiceSettings, IncarnationSettings]:
    """Return the service and the incarnation that `theService/v1` names. The settings were checked, so both exist."""
    name, _, wanted = joined.partition("/")
    service = next(each for each in directory.services if each.name == name)
    return service, next(each for each in service.incarnations if each.name == wanted)
