"""Everything that a stack has, wired together: the site, the service directory, and the fleets that join them."""

from __future__ import annotations

from typing import Any

import pulumi

from components.config import floors
from components.config.models import SITE_JOIN, FleetSettings, Settings
from components.resources import aws_sdk as aws
from components.resources import ec2_lookups, memberships, releases
from components.resources.dns_credentials import (
    KEY,
    ORIGIN,
    PROBE_KEY,
    TOKEN,
    Ec2Registrar,
    Ec2RegistrarArgs,
    Grant,
    SiteToken,
    SiteTokenArgs,
    UserRegistrar,
)
from components.resources.existing import ExistingResources
from components.resources.fleets.base import Fleet, FleetArgs
from components.resources.fleets.registry import FLEETS
from components.resources.fleets.roll_calls import call_rolls
from components.resources.membership import Membership
from components.resources.origin_tls import ClosedOrigin, ClosedOriginArgs
from components.resources.probe_key import ProbeKey
from components.resources.service_directory import ServiceDirectory, ServiceDirectoryArgs
from components.resources.site import Site, SiteArgs
from components.workloads.definitions import project_folder, releases_of
from components.workloads.release import Release

Secrets = dict[str, pulumi.Output[str]]


class Deployment:
    """The resources of a stack with these settings. `machine_token` is the operator's Cloudflare token for the machines, None where the
    stack makes one."""

    def __init__(self, settings: Settings, existing: ExistingResources, machine_token: str | None) -> None:
        self._settings, self._existing = settings, existing
        self._site = Site("site", SiteArgs(settings=settings.site, taken=existing.taken)) if settings.site else None
        self._token = self._site_token(self._site, machine_token) if self._site else None
        self._origin = self._closed_origin(self._site) if self._site else None
        self._directory = (
            ServiceDirectory("directory", ServiceDirectoryArgs(settings=settings.directory, taken=existing.taken))
            if settings.directory
            else None
        )
        self._probe_key = ProbeKey("probe-key", settings.rotate)
        # Those of regions beside the stack's own.
        self._providers = ec2_lookups.providers(settings.fleets)
        self._stores = releases.stores(settings.fleets, self._providers, self._release_of)
        self.fleets = [self._fleet(each) for each in settings.fleets]
        call_rolls(self.fleets, existing.fleets, existing.uncounted)

    @property
    def outputs(self) -> dict[str, Any]:
        """What the stack exports: its fleets, and where its site and its services are found."""
        site, directory = self._settings.site, self._settings.directory
        found: dict[str, Any] = {
            "fleets": {
                each.name: {"cloud": each.settings.cloud, "joins": each.settings.joins, "addresses": each.addresses}
                for each in self.fleets
            }
        }
        if site and self._site:
            found["site"] = {"host": site.fqdn, "zone": self._site.zone_id}
        if directory:
            services = {each.name: f"{each.label}.{directory.zone}" for each in directory.services}
            found["directory"] = {"zone": directory.zone, "services": services}
        return found

    def _site_token(self, site: Site, given: str | None) -> SiteToken:
        """The token with which machines change the site's zone."""
        args = SiteTokenArgs(
            zone_id=site.zone_id,
            given=pulumi.Output.secret(given) if given else None,
            rotate=self._settings.rotate,
            account=self._existing.token_account,
        )
        return SiteToken("machines", args)

    def _closed_origin(self, site: Site) -> ClosedOrigin | None:
        """What a proxied site's machines serve Cloudflare's edge with."""
        settings = self._settings
        if settings.site is None or not settings.site.proxied:
            return None
        args = ClosedOriginArgs(settings=settings.site, zone_id=site.zone_id, rotate=settings.rotate)
        return ClosedOrigin("origin", args)

    def _release_of(self, workload: str) -> Release:
        return releases_of(self._settings, [workload], project_folder())[0]

    def _fleet(self, fleet: FleetSettings) -> Fleet:
        """A fleet of machines on its cloud. Whatever they need in order to register and leave outlives them."""
        kind = FLEETS[fleet.cloud]
        provider = self._providers.get(fleet.region) if kind.instance_role else None
        store = self._stores[fleet.region] if kind.instance_role else None
        grants, secrets = self._grants(fleet), self._site_secrets(fleet)
        shared = {PROBE_KEY: pulumi.Output.secret(self._probe_key.value)}
        role = self._role(fleet, grants, {**shared, **secrets}, store, provider) if store else None
        user = UserRegistrar(fleet.name, grants, self._settings.rotate) if grants and not role else None
        args = FleetArgs(
            settings=fleet,
            memberships=[self._membership(fleet, join, secrets, role, user) for join in fleet.joins],
            probe_key=role.parameters[PROBE_KEY] if role else PROBE_KEY,
            secrets={} if role else shared,
            needs=[
                *self._needs(fleet),
                *(role.all_made if role else ()),
                *(store.made if store else ()),
                *(user.all_made if user else ()),
            ],
            profile=role.profile if role else "",
            store=store.setting if store else "",
            workloads=[self._release_of(each) for each in fleet.digests],
            network_ids=self._settings.network_ids.get(fleet.name, ()),
            linger=self._settings.linger,
            brake=self._settings.brake,
            by_hand=self._existing.by_hand,
            by_ssh=self._existing.by_ssh,
            renamed=self._existing.renamed,
        )
        return kind(fleet.name, args, pulumi.ResourceOptions(providers=[provider]) if provider else None)

    def _grants(self, fleet: FleetSettings) -> list[Grant]:
        """The rights to the directory's zone that a fleet's machines need."""
        if not self._settings.directory or not self._directory:
            return []
        found = memberships.grant(self._settings.directory, fleet.joins, self._directory.zone_arn)
        return [found] if found else []

    def _site_secrets(self, fleet: FleetSettings) -> Secrets:
        """The secrets that a fleet needs for the site."""
        if not self._token or SITE_JOIN not in fleet.joins:
            return {}
        return {TOKEN: self._token.value, **({ORIGIN: self._origin.pem} if self._origin else {})}

    def _role(
        self,
        fleet: FleetSettings,
        grants: list[Grant],
        secrets: Secrets,
        store: releases.ReleaseStore,
        provider: aws.Provider | None,
    ) -> Ec2Registrar:
        """The role of a fleet's instances."""
        args = Ec2RegistrarArgs(
            secrets=secrets, grants=grants, objects=store.objects, region=fleet.region, provider=provider
        )
        return Ec2Registrar(fleet.name, args)

    def _needs(self, fleet: FleetSettings) -> list[pulumi.Resource]:
        """What must be there before a machine of the fleet registers, and after it has left."""
        found: list[pulumi.Resource] = []
        if SITE_JOIN in fleet.joins:
            found += self._token.made if self._token else ()
            found += self._site.static if self._site else ()
            found += self._origin.made if self._origin else ()
        if self._directory and self._grants(fleet):
            found += self._directory.static
        return found

    def _membership(
        self,
        fleet: FleetSettings,
        join: str,
        secrets: Secrets,
        role: Ec2Registrar | None,
        user: UserRegistrar | None,
    ) -> Membership:
        """What a fleet joins, by its name in the configuration."""
        if join == SITE_JOIN:
            return self._site_membership(fleet, secrets, role)
        settings = self._settings
        directory = settings.directory_of(fleet)
        assert directory and self._directory
        return memberships.service_membership(
            fleet,
            directory,
            join,
            self._directory.zone_id,
            {KEY: user.key} if user else {},
            floor=lambda service, each, shard: floors.of_service(
                settings, join, service.min_registered, each.shards, shard
            ),
        )

    def _site_membership(self, fleet: FleetSettings, secrets: Secrets, role: Ec2Registrar | None) -> Membership:
        settings, origin = self._settings, self._origin
        site = settings.site_of(fleet)
        assert site and self._site
        names = role.parameters if role else {name: pulumi.Output.from_input(name) for name in secrets}
        return memberships.site_membership(
            site,
            self._site.zone_id,
            names[TOKEN],
            {} if role else secrets,
            origin=names[ORIGIN] if origin else "",
            only_from=origin.ranges if origin else None,
            ipv6=fleet.ipv6,
            floors=floors.of_site(settings),
        )
