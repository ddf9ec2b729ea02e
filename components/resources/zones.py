"""Create what a stack has at each DNS provider: static records, the machines' secrets and rights, and a fleet's membership.

Another provider is a class for a site's zone or a directory's, with a line in SITES or DIRECTORIES
(docs/another-dns-provider.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import pulumi

from components.config import floors
from components.config.joins import site_join
from components.config.models import SITE_JOIN, FleetSettings, Settings
from components.config.servers import at_port
from components.dns.rfc2136 import DynamicServicePlace, SitePlace
from components.resources import memberships
from components.resources.dns_credentials import (
    KEY,
    ORIGIN,
    TOKEN,
    Grant,
    IamUser,
    InstanceRole,
    SiteToken,
    SiteTokenArgs,
)
from components.resources.existing import ExistingResources
from components.resources.firewall import IngressRule
from components.resources.membership import Membership
from components.resources.origin_tls import ClosedOrigin, ClosedOriginArgs
from components.resources.service_directory import (
    ServiceDirectory,
    ServiceDirectoryArgs,
    static_records,
    zone_file_txt,
)
from components.resources.site import Site, SiteArgs
from components.resources.zone_record import ZoneRecord
from rollcall.settings import Rfc2136SiteJoin, format_join

Secrets = dict[str, pulumi.Output[str]]
# The secret of a machine in a zone that takes dynamic updates, by its short name.
TSIG = "tsig-key"


@dataclass(frozen=True, kw_only=True)
class ZoneArgs:
    """The inputs of a zone.

    `settings` are the stack's settings. `existing` is what was found of it. `machine_token` is the operator's
    Cloudflare token for the machines; None: the stack makes one. `tsig_key` is the machines' key for zones that take
    dynamic updates.
    """

    settings: Settings
    existing: ExistingResources
    machine_token: str | None = None
    tsig_key: str = ""


class SiteZone(Protocol):
    """The zone of the site. `id` is the provider's id of it."""

    id: pulumi.Output[str]

    def needs(self) -> list[pulumi.Resource]:
        """Return what must exist before a machine registers, and until it has left."""

    def secrets(self) -> Secrets:
        """Return the secrets that each machine of the site gets, by short names."""

    def membership(self, fleet: FleetSettings, names: Mapping[str, pulumi.Input[str]], secrets: Secrets) -> Membership:
        """Return the membership in the site.

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


class CloudflareSite:
    """A site in a Cloudflare zone: the apex and zone settings, the machines' token, and TLS to the edge where the site is proxied."""

    def __init__(self, args: ZoneArgs) -> None:
        settings = args.settings
        assert settings.site is not None
        self._settings, self._site_settings = settings, settings.site
        self._site = Site("site", SiteArgs(settings=settings.site, taken=args.existing.taken))
        self.id = self._site.zone_id
        given = pulumi.Output.secret(args.machine_token) if args.machine_token else None
        self._token = SiteToken(
            "machines",
            SiteTokenArgs(
                zone_id=self.id,
                given=given,
                rotation_trigger=settings.rotation_trigger,
                account=args.existing.token_account,
            ),
        )
        self._origin = (
            ClosedOrigin(
                "origin",
                ClosedOriginArgs(settings=settings.site, zone_id=self.id, rotation_trigger=settings.rotation_trigger),
            )
            if settings.site.proxied
            else None
        )

    def needs(self) -> list[pulumi.Resource]:
        return [*self._token.made, *self._site.static, *(self._origin.made if self._origin else ())]

    def secrets(self) -> Secrets:
        return {TOKEN: self._token.value, **({ORIGIN: self._origin.pem} if self._origin else {})}

    def membership(self, fleet: FleetSettings, names: Mapping[str, pulumi.Input[str]], secrets: Secrets) -> Membership:
        site, origin = self._settings.site_of(fleet), self._origin
        assert site is not None
        return memberships.site_membership(
            site,
            self.id,
            names[TOKEN],
            secrets,
            origin=names[ORIGIN] if origin else "",
            only_from=origin.ranges if origin else None,
            ipv6=fleet.ipv6,
            floors=floors.of_site(self._settings),
        )


class DynamicSite:
    """A site in a zone that takes dynamic updates. It has no static part."""

    def __init__(self, args: ZoneArgs) -> None:
        site = args.settings.site
        assert site is not None and site.server is not None
        self._settings, self._server = args.settings, at_port(site.server)
        self.id = pulumi.Output.from_input(site.zone)
        self._key = pulumi.Output.secret(args.tsig_key)

    def needs(self) -> list[pulumi.Resource]:
        return []

    def secrets(self) -> Secrets:
        return {TSIG: self._key}

    def membership(self, fleet: FleetSettings, names: Mapping[str, pulumi.Input[str]], secrets: Secrets) -> Membership:
        settings = self._settings.site_of(fleet)
        assert settings is not None
        place = SitePlace(
            server=self._server, domain=settings.zone, host=settings.fqdn, ttl=settings.ttl, ipv6=fleet.ipv6
        )
        kind = partial(Rfc2136SiteJoin, server=self._server)
        join = partial(site_join, kind, settings, ipv6=fleet.ipv6, floors=floors.of_site(self._settings))
        words = pulumi.Output.from_input(names[TSIG]).apply(lambda key: format_join(join(key=key)))
        return Membership(
            places=[pulumi.Output.from_input(place.as_inputs())],
            workload=SITE_JOIN,
            ingress=IngressRule(port=memberships.SITE_PORT, protocol="tcp"),
            words=lambda _: words,
            secrets=secrets,
        )


class Route53Directory:
    """A directory in a hosted zone of Route53."""

    def __init__(self, args: ZoneArgs) -> None:
        settings = args.settings
        assert settings.service_discovery is not None
        self._settings = settings
        self._directory = ServiceDirectory(
            "directory", ServiceDirectoryArgs(settings=settings.service_discovery, taken=args.existing.taken)
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
        return _service(self._settings, fleet, join, self._directory.zone_id, {KEY: user.key} if user else {})


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
SITES: dict[str, Callable[[ZoneArgs], SiteZone]] = {"cloudflare": CloudflareSite, "rfc2136": DynamicSite}
DIRECTORIES: dict[str, Callable[[ZoneArgs], DirectoryZone]] = {"route53": Route53Directory, "rfc2136": DynamicDirectory}
