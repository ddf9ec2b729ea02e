"""Create everything that a stack has: the sites, the service directory, and the fleets that join them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi

from components.config.models import FleetSettings, Settings, joins_service, joins_site
from components.config.secret_names import PROBE_KEY
from components.config.site_zones import zones_of
from components.resources import aws_sdk as aws
from components.resources import (
    ec2_lookups,
    mirrors,
    release_files,
    release_uploads,
    releases,
    triton_cargo,
    userdata,
    workload_secrets,
)
from components.resources.dns_credentials import (
    Grant,
    IamUser,
    InstanceRole,
    InstanceRoleArgs,
    WorkloadRole,
)
from components.resources.existing import ExistingResources
from components.resources.fleets.base import Fleet, FleetArgs
from components.resources.fleets.inputs import FleetInputs
from components.resources.fleets.registry import FLEETS
from components.resources.fleets.roll_calls import call_rolls
from components.resources.fleets.roll_outs import roll_out
from components.resources.membership import Membership
from components.resources.mirror_uploads import Mirror
from components.resources.probe_key import ProbeKey
from components.resources.zones import DIRECTORIES, SITES, Secrets, SiteZone, ZoneArgs
from components.workloads.definitions import project_folder, releases_of
from components.workloads.release import Release
from rollcall.in_place import REPORTS, VIEWS


class Deployment:
    """The resources of a stack with these settings.

    `machine_token` is the operator's Cloudflare token for the machines; None: the stack makes one. `tsig_key` is the
    machines' key for zones that take dynamic updates. `inputs` are what a program with resources of its own gives its EC2 fleets, and
    `parent` is its component (rollcall_pulumi).
    """

    def __init__(
        self,
        settings: Settings,
        existing: ExistingResources,
        machine_token: str | None,
        tsig_key: str = "",
        *,
        inputs: Mapping[str, FleetInputs] | None = None,
        parent: pulumi.Resource | None = None,
    ) -> None:
        self._settings, self._existing, self._inputs = settings, existing, inputs or {}
        self._opts = pulumi.ResourceOptions(parent=parent) if parent else None
        # The providers of regions other than the stack's region.
        self._providers = ec2_lookups.providers(settings.fleets, self._opts)
        args = ZoneArgs(
            settings=settings,
            existing=existing,
            machine_token=machine_token,
            tsig_key=tsig_key,
            providers=self._providers,
            parent=parent,
        )
        self._zones = [SITES[zone.provider](args, zone) for zone in zones_of(settings)]
        self._directory = DIRECTORIES[settings.service_discovery.provider](args) if settings.service_discovery else None
        self._probe_key = ProbeKey("probe-key", settings.rotation_trigger, self._opts)
        self._cargo = {each.name: triton_cargo.cargo(settings, each, project_folder()) for each in settings.fleets}
        self._stores = releases.stores(
            settings.fleets,
            self._providers,
            self._release_of,
            settings.keep_releases,
            self._stored_for_keys(),
            views={each.region or "" for each in settings.fleets if settings.joins_private_zone(each)},
            opts=self._opts,
        )
        self._uploads = self._uploaded()
        self.fleets = [self._fleet(each) for each in settings.fleets]
        undrained = {each.name for each in settings.workloads if not each.drain}
        call_rolls(self.fleets, existing.fleets, existing.uncounted, roll_out(self.fleets, self._release_of, undrained))

    @property
    def outputs(self) -> dict[str, Any]:
        """Return what the stack exports: its fleets, and where its sites and its services are found."""
        directory = self._settings.service_discovery
        found: dict[str, Any] = {
            "fleets": {
                each.name: {"cloud": each.settings.cloud, "joins": each.settings.joins, "addresses": each.addresses}
                for each in self.fleets
            }
        }
        if self._settings.sites:
            found["sites"] = {
                each.name: {"host": each.fqdn, "zone": self._zone_of(each.join).id} for each in self._settings.sites
            }
        if directory:
            services = {each.name: f"{each.label}.{directory.zone}" for each in directory.services}
            found["directory"] = {"zone": directory.zone, "services": services}
        return found

    def _stored_for_keys(self) -> list[str]:
        """Return the workloads for which Triton machines use the stack's bucket, with the key of an IAM user.

        They fetch the workload, or claim its hook there.
        """
        found = set[str]()
        for fleet in filter(self._settings.has_iam_user, self._settings.fleets):
            fetched = {each.digest for each in self._cargo[fleet.name].fetched}
            found.update(name for name, digest in fleet.digests.items() if digest in fetched)
            found.update(self._hooked(fleet))
        return sorted(found)

    def _hooked(self, fleet: FleetSettings) -> list[str]:
        """Return the workloads of a fleet that have a hook."""
        return [each.name for each in self._settings.workloads_of(fleet) if each.before is not None]

    def _fetched(self) -> list[Release]:
        """Return the releases that machines may fetch from a mirror, each once."""
        found = {}
        for fleet in self._settings.fleets:
            in_ec2 = FLEETS[fleet.cloud].instance_role
            own = [userdata.release(), *map(self._release_of, fleet.digests)] if in_ec2 else []
            found.update({each.digest: each for each in (*own, *self._cargo[fleet.name].fetched)})
        return [found[digest] for digest in sorted(found)]

    def _uploaded(self) -> list[Mirror]:
        """Create the mirrors that `up` fills."""
        filled = [each for each in self._settings.mirrors if each.upload is not None]
        releases = self._fetched() if filled else []
        if releases and not pulumi.runtime.is_dry_run():
            release_files.write(release_uploads.FILES, releases)
        return [Mirror(each, [release_files.key_of(one.digest) for one in releases], self._opts) for each in filled]

    def _store_of(self, fleet: FleetSettings) -> releases.ReleaseStore | None:
        """Return the stack's store that the machines of a fleet read."""
        if FLEETS[fleet.cloud].instance_role:
            return self._stores[fleet.region]
        uses = self._cargo[fleet.name].fetched or self._hooked(fleet)
        return self._stores[None] if uses and self._settings.has_iam_user(fleet) else None

    def _release_of(self, workload: str) -> Release:
        return releases_of(self._settings, [workload], project_folder())[0]

    def _fleet(self, fleet: FleetSettings) -> Fleet:
        """Create a fleet of machines on its cloud.

        Everything that the machines need to register and to leave is deleted after them.
        """
        kind = FLEETS[fleet.cloud]
        provider = self._providers.get(fleet.region) if kind.instance_role else None
        store, cargo = self._store_of(fleet), self._cargo[fleet.name]
        # A machine that carries all that it runs needs no mirror, and gets no key of one.
        mirrored = self._settings.mirrors if kind.instance_role or cargo.fetched else ()
        grants, secrets = self._grants(fleet), self._secrets(fleet)
        workloads = self._settings.workloads_of(fleet)
        shared = {
            PROBE_KEY: pulumi.Output.secret(self._probe_key.value),
            **workload_secrets.values_of(workloads),
            **mirrors.keys_of(mirrored),
        }
        role = None
        if store and kind.instance_role:
            role = self._role(fleet, grants, {**shared, **secrets}, store, provider)
        objects = [store.object_of(each) for each in cargo.fetched] if store else []
        if store and objects and fleet.in_place:
            # A machine may go back to any release that is kept, and another release must not change the policy.
            objects = [store.objects]
        claims = [store.claims(name) for name in self._hooked(fleet)] if store else []
        workload_role = (
            WorkloadRole(fleet.name, fleet.policies, role, fleet.region) if role and fleet.policies else None
        )
        user = None
        if grants and not role:
            user = IamUser(fleet.name, grants, self._settings.rotation_trigger, objects, claims, self._opts)
        given = self._inputs.get(fleet.name, FleetInputs())
        chosen = self._settings.vpcs.get(fleet.name)
        args = FleetArgs(
            settings=fleet,
            memberships=[self._membership(fleet, join, role, user) for join in fleet.joins],
            probe_key=role.parameters[PROBE_KEY] if role else PROBE_KEY,
            secrets={} if role else shared,
            needs=[
                *self._needs(fleet),
                *(role.all_made if role else ()),
                *(workload_role.all_made if workload_role else ()),
                *(store.made if store else ()),
                *(self._uploads if mirrored else ()),
                *(user.all_made if user else ()),
            ],
            profile=role.profile if role else "",
            credentials=workload_role.arn if workload_role else "",
            store=(store.setting if role else store.setting_by_key) if store else "",
            mirrors=mirrors.settings_of(mirrored, role.parameters if role else None),
            workloads=cargo.carried,
            delivered=cargo.delivered,
            report_to=pulumi.Output.concat(REPORTS, "/", fleet.name, "/", role.role_id) if role else "",
            view_to=(
                pulumi.Output.concat(VIEWS, "/", fleet.name, "/", role.role_id)
                if role and self._settings.joins_private_zone(fleet)
                else ""
            ),
            workload_secrets=workload_secrets.settings_of(
                self._settings, fleet, self._probe_key.value, role.parameters if role else None
            ),
            network_ids=self._settings.network_ids.get(fleet.name, ()),
            vpc=chosen.id if chosen else given.vpc,
            subnets=[each.id for each in chosen.subnets] if chosen else given.subnets,
            security_groups=[*fleet.security_groups, *given.security_groups],
            public_address=self._settings.has_public_address(fleet),
            drain_delay=self._settings.drain_delay,
            safe_deletes=self._settings.safe_deletes,
            by_hand=self._existing.by_hand,
            by_ssh=self._existing.by_ssh,
            renamed=self._existing.renamed,
            uncounted=self._existing.uncounted,
            in_zones=self._existing.in_zones,
        )
        opts = pulumi.ResourceOptions(providers=[provider]) if provider else None
        return kind(fleet.name, args, pulumi.ResourceOptions.merge(opts, self._opts) if opts or self._opts else None)

    def _zone_of(self, join: str) -> SiteZone:
        """Return the zone of a site, by its name in `joins`."""
        return next(each for each in self._zones if join in each.joins)

    def _zones_of(self, fleet: FleetSettings) -> list[SiteZone]:
        """Return the zones of the sites that a fleet joins."""
        return [each for each in self._zones if each.joins & {*fleet.joins}]

    def _grants(self, fleet: FleetSettings) -> list[Grant]:
        """Return the rights in the directory's zone that AWS must give a fleet's machines."""
        return self._directory.grants(fleet) if self._directory and joins_service(fleet) else []

    def _secrets(self, fleet: FleetSettings) -> Secrets:
        """Return the secrets that a fleet needs for what it joins."""
        sites = {name: value for each in self._zones_of(fleet) for name, value in each.secrets(fleet.joins).items()}
        return {**sites, **(self._directory.secrets() if self._directory and joins_service(fleet) else {})}

    def _role(
        self,
        fleet: FleetSettings,
        grants: list[Grant],
        secrets: Secrets,
        store: releases.ReleaseStore,
        provider: aws.Provider | None,
    ) -> InstanceRole:
        """Create the role of a fleet's instances."""
        given = self._inputs.get(fleet.name, FleetInputs())
        args = InstanceRoleArgs(
            secrets=secrets,
            grants=grants,
            objects=store.objects,
            claims=[store.claims(name) for name in self._hooked(fleet)],
            reports=store.reports(fleet.name) if fleet.in_place else "",
            views=store.views(fleet.name) if self._settings.joins_private_zone(fleet) else "",
            region=fleet.region,
            provider=provider,
            role=given.role,
            profile=given.instance_profile,
        )
        return InstanceRole(fleet.name, args, self._opts)

    def _needs(self, fleet: FleetSettings) -> list[pulumi.Resource]:
        """Return what must exist before a machine of the fleet registers, and until it has left."""
        found = [needed for each in self._zones_of(fleet) for needed in each.needs(fleet.joins)]
        return found + (self._directory.needs() if self._directory and joins_service(fleet) else [])

    def _membership(
        self, fleet: FleetSettings, join: str, role: InstanceRole | None, user: IamUser | None
    ) -> Membership:
        """Return the membership in what a fleet joins, by its name in the configuration."""
        if not joins_site(join):
            assert self._directory
            return self._directory.membership(fleet, join, role, user)
        zone = self._zone_of(join)
        secrets = zone.secrets([join])
        names = role.parameters if role else {name: pulumi.Output.from_input(name) for name in secrets}
        return zone.membership(fleet, join, names, {} if role else secrets)
