"""Create what a stack has at each DNS provider: static records, the machines' secrets and rights, and a fleet's membership.

Another provider is a class for a zone with sites or for a directory's zone, with a line in SITES or DIRECTORIES
(docs/another-dns-provider.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import pulumi

from components.aws.region import own_region
from components.config import floors, secret_names
from components.config.joins import site_join
from components.config.models import FleetSettings, Settings, SiteSettings
from components.config.secret_names import KEY, TSIG
from components.config.servers import at_port
from components.config.site_zones import ZoneSettings
from components.dns.rfc2136 import DynamicServicePlace, SitePlace
from components.dns.route53 import ServicePlace
from components.resources import aws_sdk as aws
from components.resources import memberships
from components.resources import site as site_zone
from components.resources.certificate import Certificate, Challenges
from components.resources.dns_credentials import (
    Grant,
    IamUser,
    InstanceRole,
    SiteToken,
    SiteTokenArgs,
)
from components.resources.existing import ExistingResources
from components.resources.membership import Membership
from components.resources.origin_tls import ClosedOrigin, ClosedOriginArgs
from components.resources.service_directory import (
    ServiceDirectory,
    ServiceDirectoryArgs,
    static_records,
    zone_file_txt,
)
from components.resources.zone_record import ZoneRecord
from rollcall.settings import Rfc2136SiteJoin, format_join

Secrets = dict[str, pulumi.Output[str]]


@dataclass(frozen=True, kw_only=True)
class ZoneArgs:
    """The inputs of a zone.

    `settings` are the stack's settings. `existing` is what was found of it. `machine_token` is the operator's
    Cloudflare token for the machines; None: the stack makes one. `tsig_key` is the machines' key for zones that take
    dynamic updates. `providers` are the AWS providers of other regions. `parent` is the component of a program with
    resources of its own.
    """

    settings: Settings
    existing: ExistingResources
    machine_token: str | None = None
    tsig_key: str = ""
    providers: Mapping[str | None, pulumi.ProviderResource] = field(default_factory=dict)
    parent: pulumi.Resource | None = None

    @property
    def opts(self) -> pulumi.ResourceOptions | None:
        """Return the options of what is made directly below the deployment."""
        return pulumi.ResourceOptions(parent=self.parent) if self.parent else None


class SiteZone(Protocol):
    """A zone with sites. `id` is the provider's id of it, and `joins` are the names of its sites in `joins`."""

    id: pulumi.Output[str]
    joins: frozenset[str]

    def needs(self, joins: Collection[str]) -> list[pulumi.Resource]:
        """Return what must exist before a machine that joins these registers, and until it has left."""

    def secrets(self, joins: Collection[str]) -> Secrets:
        """Return the secrets that each machine that joins these gets, by short names."""

    def membership(
        self, fleet: FleetSettings, join: str, names: Mapping[str, pulumi.Input[str]], secrets: Secrets
    ) -> Membership:
        """Return the membership in a site, by its name in `joins`.

        `names` are those by which a machine asks its cloud for its secrets. `secrets` is what a cloud without instance
        roles gives it.
        """


class DirectoryZone(Protocol):
    """The zone of the service directory."""

    def needs(self) -> list[pulumi.Resource]:
        """Return what must exist before a machine registers, and until it has left."""

    def secrets(self) -> Secrets:
        """Return the secrets that each machine of the directory gets, by short names."""

    def grants(self, fleet: FleetSettings) -> list[Grant]:
        """Return the rights that an AWS role or user needs."""

    def membership(
        self, fleet: FleetSettings, join: str, role: InstanceRole | None, user: IamUser | None
    ) -> Membership:
        """Return the membership in an incarnation, by its name in the configuration."""


class CloudflareZone:
    """A Cloudflare zone with sites: the apex and zone settings, the machines' token, and TLS to the edge for each proxied site."""

    def __init__(self, args: ZoneArgs, zone: ZoneSettings) -> None:
        settings, self.joins, self._zone = args.settings, zone.joins, zone.zone
        self._settings = settings
        site_args = site_zone.SiteZoneArgs(settings=zone, taken=args.existing.taken)
        made = site_zone.SiteZone(f"site-{zone.zone}", site_args, args.opts)
        self.id, self._static = made.zone_id, made.static
        given = pulumi.Output.secret(args.machine_token) if args.machine_token else None
        self._token = SiteToken(
            f"machines-{zone.zone}",
            SiteTokenArgs(
                zone=zone.zone,
                zone_id=self.id,
                given=given,
                rotation_trigger=settings.rotation_trigger,
                account=args.existing.token_account,
            ),
            args.opts,
        )
        self._origins = {
            each.join: ClosedOrigin(
                f"origin-{each.name}",
                ClosedOriginArgs(settings=each, zone_id=self.id, rotation_trigger=settings.rotation_trigger),
                args.opts,
            )
            for each in zone.sites
            if each.proxied
        }
        where = Challenges(provider=zone.provider, zone=self.id)
        self._certificates = certificates(settings, zone, where, self._token.made + self._static)

    def needs(self, joins: Collection[str]) -> list[pulumi.Resource]:
        origins = [made for join, each in self._origins.items() if join in joins for made in each.made]
        return [*self._token.made, *self._static, *origins, *_joined_of(self._certificates, joins)]

    def secrets(self, joins: Collection[str]) -> Secrets:
        closed = [each for each in self._settings.sites if each.join in joins and each.join in self._origins]
        origins = {secret_names.origin(each.name): self._origins[each.join].pem for each in closed}
        return {
            secret_names.token(self._zone): self._token.value,
            **origins,
            **_bundles(self._settings, self._certificates, joins),
        }

    def membership(
        self, fleet: FleetSettings, join: str, names: Mapping[str, pulumi.Input[str]], secrets: Secrets
    ) -> Membership:
        site, origin = _joined(self._settings, fleet, join), self._origins.get(join)
        return memberships.site_membership(
            site,
            self.id,
            names[secret_names.token(self._zone)],
            secrets,
            origin=names[secret_names.origin(site.name)] if origin else "",
            only_from=origin.ranges if origin else None,
            ipv6=fleet.ipv6,
            floors=floors.of_site(self._settings, site),
            sites=self._settings.cloudflare_sites,
            tls=_tls(site, self._certificates, names),
        )


def certificates(
    settings: Settings, zone: ZoneSettings, where: Challenges, needs: list[pulumi.Resource]
) -> dict[str, Certificate]:
    """Create the certificate of each site of a zone with `tls`. Return them by the names of the sites in `joins`."""
    return {
        each.join: Certificate(
            f"certificate-{each.name}",
            site=each.name,
            host=each.fqdn,
            domain=each.zone,
            acme=each.tls.acme,
            challenges=where,
            opts=pulumi.ResourceOptions(depends_on=needs, replacement_trigger=[settings.rotation_trigger]),
        )
        for each in zone.sites
        if each.tls is not None
    }


def _joined_of(found: Mapping[str, Certificate], joins: Collection[str]) -> list[Certificate]:
    return [each for join, each in found.items() if join in joins]


def _bundles(settings: Settings, found: Mapping[str, Certificate], joins: Collection[str]) -> Secrets:
    sites = [each for each in settings.sites if each.join in joins and each.join in found]
    return {secret_names.tls(each.name): pulumi.Output.secret(found[each.join].bundle) for each in sites}


def _tls(
    site: SiteSettings, found: Mapping[str, Certificate], names: Mapping[str, pulumi.Input[str]]
) -> tuple[pulumi.Input[str], pulumi.Input[str]]:
    """Return the name of a site's secret with its certificate, and the word that changes with it."""
    made = found.get(site.join)
    return (names[secret_names.tls(site.name)], made.word) if made else ("", "")


class DynamicZone:
    """A zone with sites that takes dynamic updates. Its only static parts are certificates."""

    def __init__(self, args: ZoneArgs, zone: ZoneSettings) -> None:
        assert zone.server is not None
        self._settings, self._server, self.joins = args.settings, at_port(zone.server), zone.joins
        self.id = pulumi.Output.from_input(zone.zone)
        self._key = pulumi.Output.secret(args.tsig_key)
        where = Challenges(provider=zone.provider, zone=zone.zone, server=self._server)
        self._certificates = certificates(args.settings, zone, where, [])

    def needs(self, joins: Collection[str]) -> list[pulumi.Resource]:
        return [*_joined_of(self._certificates, joins)]

    def secrets(self, joins: Collection[str]) -> Secrets:
        return {TSIG: self._key, **_bundles(self._settings, self._certificates, joins)}

    def membership(
        self, fleet: FleetSettings, join: str, names: Mapping[str, pulumi.Input[str]], secrets: Secrets
    ) -> Membership:
        site = _joined(self._settings, fleet, join)
        place = SitePlace(
            server=self._server,
            domain=site.zone,
            host=site.fqdn,
            ttl=site.ttl,
            ipv6=fleet.ipv6,
            address=site.address_kind,
        )
        kind = partial(Rfc2136SiteJoin, server=self._server)
        settings = partial(site_join, kind, site, ipv6=fleet.ipv6, floors=floors.of_site(self._settings, site))
        words = pulumi.Output.all(names[TSIG], *_tls(site, self._certificates, names)).apply(
            lambda known: format_join(settings(key=known[0], tls=known[1], certificate=known[2]))
        )
        rule, more = memberships.site_ingress(site)
        return Membership(
            places=[pulumi.Output.from_input(place.as_inputs())],
            workload=memberships.SITE_SAMPLE,
            ingress=rule,
            more=more,
            words=lambda _: words,
            secrets=secrets,
        )


def _joined(settings: Settings, fleet: FleetSettings, join: str) -> SiteSettings:
    """Return a site with the check that a fleet's machines use for it."""
    return next(each for each in settings.sites_of(fleet) if each.join == join)


class Route53Directory:
    """A directory in a hosted zone of Route53."""

    def __init__(self, args: ZoneArgs) -> None:
        settings = args.settings
        assert settings.service_discovery is not None
        self._settings = settings
        self._directory = ServiceDirectory(
            "directory",
            ServiceDirectoryArgs(
                settings=settings.service_discovery,
                taken=args.existing.taken,
                vpcs=_vpcs_of(settings, args.providers),
            ),
            args.opts,
        )

    def needs(self) -> list[pulumi.Resource]:
        return self._directory.static

    def secrets(self) -> Secrets:
        return {}

    def grants(self, fleet: FleetSettings) -> list[Grant]:
        assert self._settings.service_discovery is not None
        found = memberships.grant(self._settings.service_discovery, fleet.joins, self._directory.zone_arn)
        return [found] if found else []

    def membership(
        self, fleet: FleetSettings, join: str, role: InstanceRole | None, user: IamUser | None
    ) -> Membership:
        assert self._settings.service_discovery is not None
        kind = partial(ServicePlace, private=self._settings.service_discovery.private)
        secrets = {KEY: user.key} if user else {}
        return _service(self._settings, fleet, join, self._directory.zone_id, secrets, kind=kind)


def _vpcs_of(
    settings: Settings, providers: Mapping[str | None, pulumi.ProviderResource]
) -> list[dict[str, pulumi.Input[str]]]:
    """Return the VPCs of a private zone that the stack makes: those in the configuration, or those of the fleets that join."""
    directory = settings.service_discovery
    if directory is None or not (directory.private and directory.create):
        return []
    own = own_region(pulumi.runtime.get_config)
    if directory.vpcs:
        found = (each.rpartition("/") for each in directory.vpcs)
        return [{"vpc_id": id_, "vpc_region": region or own} for region, _, id_ in found]
    vpcs: dict[tuple[str, str], dict[str, pulumi.Input[str]]] = {}
    for fleet in filter(settings.joins_private_zone, settings.fleets):
        region, chosen = fleet.region or own, settings.vpc_of(fleet)
        if (region, chosen) not in vpcs:
            opts = pulumi.InvokeOutputOptions(provider=providers.get(fleet.region))
            id_ = chosen or aws.ec2.get_vpc_output(default=True, opts=opts).id
            vpcs[region, chosen] = {"vpc_id": id_, "vpc_region": region}
    return list(vpcs.values())


class DynamicDirectory:
    """A directory in a zone that takes dynamic updates: its static records, and the machines' key."""

    def __init__(self, args: ZoneArgs) -> None:
        directory = args.settings.service_discovery
        assert directory is not None and directory.server is not None
        self._settings, self._server = args.settings, at_port(directory.server)
        self._key = pulumi.Output.secret(args.tsig_key)
        self._static: list[pulumi.Resource] = [
            ZoneRecord(
                each.resource,
                server=self._server,
                domain=directory.zone,
                name=each.name,
                type=each.type,
                ttl=each.ttl,
                values=each.wire,
                opts=args.opts,
            )
            for each in static_records(directory, txt=zone_file_txt)
        ]

    def needs(self) -> list[pulumi.Resource]:
        return self._static

    def secrets(self) -> Secrets:
        return {TSIG: self._key}

    def grants(self, fleet: FleetSettings) -> list[Grant]:
        return []

    def membership(
        self, fleet: FleetSettings, join: str, role: InstanceRole | None, user: IamUser | None
    ) -> Membership:
        key: pulumi.Input[str] = role.parameters[TSIG] if role else TSIG
        kind = partial(DynamicServicePlace, server=self._server)
        none = pulumi.Output.from_input("")
        return _service(self._settings, fleet, join, none, {} if role else self.secrets(), key=key, kind=kind)


def _service(
    settings: Settings, fleet: FleetSettings, join: str, zone: pulumi.Output[str], secrets: Secrets, **more: Any
) -> Membership:
    directory = settings.service_discovery_of(fleet)
    assert directory is not None
    return memberships.service_membership(
        fleet,
        directory,
        join,
        zone,
        secrets,
        floor=lambda service, each, shard: floors.of_service(
            settings, join, service.min_registered, each.shards, shard
        ),
        **more,
    )


# By the `provider` of the configuration.
SITES: dict[str, Callable[[ZoneArgs, ZoneSettings], SiteZone]] = {"cloudflare": CloudflareZone, "rfc2136": DynamicZone}
DIRECTORIES: dict[str, Callable[[ZoneArgs], DirectoryZone]] = {"route53": Route53Directory, "rfc2136": DynamicDirectory}
