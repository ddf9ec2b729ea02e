"""Check before anything is created: the configuration as a whole, and that each account can be reached with it.

A wrong token, a wrong key or a zone that is not in the account is found here, all at once, before anything is created.
So is a quota that is too small for the fleets while they are replaced.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi

from components.aws import api_errors
from components.aws.account_settings import region_around, secrets
from components.aws.region import own_region
from components.config import mirror_checks, namespaces, stack_file, workload_secrets
from components.config.errors import ConfigurationError, at
from components.config.models import (
    KEYS,
    SECRET_KEYS,
    FleetSettings,
    FleetVpc,
    ServiceDiscoverySettings,
    Settings,
)
from components.config.reader import decoded, read_whole
from components.config.site_zones import ZoneSettings, zones_of
from components.dns import route53_zones
from components.dns.cloudflare_access import (
    CLOUDFLARE_SECRETS,
    cloudflare_faults,
    cloudflare_token,
    cloudflare_url,
)
from components.dns.cloudflare_api import ApiFailingError, ApiRefusedError, CloudflareApi
from components.preflight import (
    account_limits,
    architectures,
    aws_tags,
    checkable,
    cloudflare_tokens,
    cloudflare_zone,
    container_images,
    dns_conflicts,
    dynamic_zones,
    existing_resources,
    lost_tokens,
    policy_sizes,
    private_zones,
    record_sizes,
    single_stores,
    soa,
    vpcs,
    zone_names,
)
from components.preflight.existing_resources import ExistingReport
from components.preflight.quotas import Found, check_ec2, check_triton
from components.preflight.state import PriorState, prior_state
from components.preflight.triton_networks import Datacenter, Joined, NetworksError
from components.preflight.zone_store import ZoneStore
from components.resources import triton_cargo, userdata
from components.resources.firewall import Ranges
from components.resources.tags import stack_tags
from components.workloads.definitions import packed, project_folder
from rollcall.escaping import escaped_lines

if TYPE_CHECKING:
    from components.joyent.client import CloudApi
    from components.joyent.session import Session
from components.dns.route53_zones import hosted_zone
from components.preflight.credentials import (
    CloudflareFound,
    account_fault,
    aws_faults,
    cloudflare_found,
    joyent_faults,
    triton,
    triton_session,
)
from components.preflight.stack_config import config, config_keys, is_secret


def plain_secrets() -> list[str]:
    """Return the faults of secrets that are not Pulumi secrets."""
    keys = (*secrets(config), *CLOUDFLARE_SECRETS, *(f"rollcall:{each}" for each in SECRET_KEYS))
    return namespaces.in_plain_text(keys, lambda key: bool(config(key)) and not is_secret(key))


def checked(
    stack: str,
    given: Mapping[str, Any] | None = None,
    *,
    given_networks: Collection[str] = (),
    faults_of_program: Callable[[Settings], list[str]] = lambda _: [],
) -> tuple[Settings, ExistingReport]:
    """Return the stack's settings, after every check, and what exists of it already.

    `given` are values of a program that come before those of the stack's configuration, by key. `given_networks` are the fleets for which
    the program gives a VPC. `faults_of_program` returns what is wrong with the rest of what it gives. Any fault ends the program with one
    message, and no stack trace.
    """
    try:
        settings, faults = described(stack, given)
        settings = replace(settings, given_networks=frozenset(given_networks))
        faults += faults_of_program(settings)
        settings, unpacked = packed(with_architectures(located(settings)), project_folder())
        faults += unpacked
        existing = preflight(settings, faults)
        return networked(settings)[0], existing
    except ConfigurationError as faults_of_all:
        raise pulumi.RunError(str(faults_of_all)) from faults_of_all


def configured(stack: str) -> Settings:
    """Return the stack's settings.

    Raises ConfigurationError with every fault that the configuration shows by itself.
    """
    settings, faults = described(stack)
    if faults:
        raise ConfigurationError(faults)
    return settings


def described(stack: str, program: Mapping[str, Any] | None = None) -> tuple[Settings, list[str]]:
    """Return the stack's settings, with defaults instead of faulty values, and every fault that the configuration shows by itself.

    The values of a `program` come before those of the configuration.
    """
    texts = {key: text for key in KEYS if (text := config(f"rollcall:{key}")) is not None}
    hidden = [key for key in KEYS if is_secret(f"rollcall:{key}")]
    given, faults = {**decoded(texts), **(program or {})}, list[str]()
    try:
        given = zone_names.named(given, zone_names.ids_from_apis(config))
    except ConfigurationError as unknown:
        faults += unknown.faults
        given = {key: value for key, value in given.items() if not any(f"rollcall:{key}." in each for each in faults)}
    # The values of keys that are not settings are not checked.
    others = {key: "" for key in namespaces.ours(config_keys()) if key not in (*KEYS, *SECRET_KEYS)}
    settings, wrong_values = read_whole(stack, {**given, **others}, hidden)
    root = pulumi.get_root_directory()
    doubled = stack_file.faults(Path(root), pulumi.get_stack()) if root else []
    exposed = workload_secrets.faults(settings, _file(root), is_secret="workloads" in hidden)
    exposed += mirror_checks.faults(settings, _file(root), is_secret="mirrors" in hidden)
    wrong_values = container_images.with_digests(settings, wrong_values)
    return settings, [*doubled, *faults, *namespaces.misspelt(config_keys()), *wrong_values, *exposed]


def _file(root: str | None) -> stack_file.StackFile | None:
    """Return the stack's file; None where the engine does not read its configuration from it."""
    try:
        return stack_file.read(Path(root), pulumi.get_stack()) if root else None
    except stack_file.StackFileError:
        return None


def region_fault(settings: Settings) -> list[str]:
    """Check that the region is in the stack's configuration where AWS is used.

    With the region of the user's environment, another user would get another AWS provider, which replaces everything on
    AWS.
    """
    if config("aws:region") or not settings.uses_aws:
        return []
    return [namespaces.region_missing(config_keys(), region_around())]


def located(settings: Settings) -> Settings:
    """Return the settings without the names of the stack's AWS region and of the configured data centre: they move nothing."""
    from components.joyent.errors import CloudApiError
    from components.joyent.lookups import own_datacenter

    own = {"aws": own_region(config)} if any(settings.by_region("aws")) else {}
    if any(settings.by_region("joyent")):
        # If the cloud cannot be asked, the preflight reports that as a fault, with the reason.
        with contextlib.suppress(CloudApiError):
            own["joyent"] = own_datacenter(triton(settings))
    return settings.at_home(own)


def with_architectures(settings: Settings) -> Settings:
    """Return the settings with the architecture of each EC2 fleet. If EC2 cannot be asked, the preflight reports the reason."""
    from components.aws.session import session_of

    if not settings.fleets_of("aws"):
        return settings
    try:
        session = session_of(config)
        return architectures.found(settings, lambda region: session.client("ec2", region=region or own_region(config)))
    except ConfigurationError:
        return settings
    except api_errors.failures():
        return settings


def networked(settings: Settings) -> tuple[Settings, Found]:
    """Return the settings with the networks of each Triton fleet and the VPC of each EC2 fleet that chooses one.

    Also return the reason why a fleet has none.
    """
    from components.joyent.errors import CloudApiError

    known: dict[str, FleetSettings] = {}
    ids: dict[str, tuple[str, ...]] = {}
    found = Found()
    for name, fleets in settings.by_region("joyent").items():
        try:
            datacenter = datacenter_of(triton_session(settings, name))
        except CloudApiError as unknown:
            found += Found(faults=(f"rollcall:joyent: {unknown}",))
            continue
        for fleet in fleets:
            try:
                joined = Joined.of(settings, fleet)
                known[fleet.name], ids[fleet.name] = datacenter.resolve(fleet, joined)
                found += Found(notes=datacenter.notes(fleet, ids[fleet.name]))
            except NetworksError as fault:
                found += Found(faults=(str(fault),))
    fleets = tuple(known.get(fleet.name, fleet) for fleet in settings.fleets)
    chosen, in_ec2 = chosen_vpcs(settings)
    return replace(settings, fleets=fleets, network_ids=ids, vpcs=chosen), found + in_ec2


def chosen_vpcs(settings: Settings) -> tuple[dict[str, FleetVpc], Found]:
    """Return the VPC of each EC2 fleet that chooses one, and the reason why a fleet has none."""
    from components.aws.session import session_of

    chosen, found = dict[str, FleetVpc](), Found()
    for name, fleets in settings.by_region("aws").items():
        if not any(settings.chooses_vpc(each) for each in fleets):
            continue
        region = name or own_region(config)
        try:
            client = functools.partial(session_of(config).client, region=region)
            here, faults = vpcs.resolved(settings, fleets, region, client)
        except api_errors.failures() as failed:
            here, faults = {}, Found(faults=(api_errors.message_of(failed, f"aws:region {region}"),))
        chosen |= here
        found += faults
    return chosen, found


def datacenter_of(session: Session) -> Datacenter:
    """Return the data centre of this session, with its networks. Raises CloudApiError."""
    from components.joyent.lookups import own_datacenter

    url = session.api.transport.credentials.url
    return Datacenter(
        name=lambda: own_datacenter(session.api, session.catalogue.datacenters()) or url,
        networks=session.catalogue.networks(),
    )


def preflight(settings: Settings, before: Sequence[str] = ()) -> ExistingReport:
    """Ask each cloud of the settings whether it accepts our credentials, and about everything in the settings.

    `before` are faults that the settings have already. Raises ConfigurationError naming every fault.
    """
    region = region_fault(settings)
    checkable_part, in_cloudflare = checkable.part(settings, before), CloudflareFound()
    faults = [
        *before,
        *region,
        *plain_secrets(),
        *size_faults(settings),
        *record_sizes.faults(checkable_part),
        *aws_tags.faults(settings.without_dynamic_zones(), stack_tags(), config(aws_tags.KEY), os.environ),
        *aws_tags.ignored_faults(settings, config(aws_tags.IGNORE_KEY), os.environ),
    ]
    faults += dynamic_zones.faults(checkable_part, config)
    # The following checks ask Cloudflare, Route53 and the clouds.
    checkable_part = checkable_part.without_dynamic_zones()
    if checkable_part.sites:
        wrong, in_cloudflare, checkable_part = in_cloudflare_of(checkable_part)
        faults += wrong
    for cloud, faults_of in FAULTS.items():
        if checkable_part.fleets_of(cloud) or (cloud == "aws" and checkable_part.service_discovery is not None):
            found_here = faults_of(checkable_part)
            checkable_part = checkable.without_cloud(checkable_part, cloud, found_here)
            # A setting that is missing has been reported.
            faults += [each for each in found_here if not (region and each.startswith(namespaces.REGION_MISSING))]
    if checkable_part.uses_aws and not region and (fault := account_fault()):
        faults.append(fault)
    checkable_part, found = networked(checkable_part)
    existing = existing_found(checkable_part, in_cloudflare) + ExistingReport(token_account=in_cloudflare.token_account)
    found += quotas_found(checkable_part, existing.renamed)
    if pulumi.runtime.is_dry_run():
        found += single_stores.found(settings, project_folder(), own_region(config))
    if faults := list(dict.fromkeys([*faults, *found.faults, *existing.faults])):
        raise ConfigurationError(faults)
    if pulumi.runtime.is_dry_run():
        for line in (*found.warnings, *existing.warnings):
            pulumi.warn(escaped_lines(line))
        for line in (*found.notes, *existing.notes):
            pulumi.info(line)
        for token in existing.lost_tokens:
            pulumi.warn(f"{token}. `pulumi up` revokes it.")
    else:
        revoke(existing.lost_tokens, in_cloudflare.api)
    return existing


def in_cloudflare_of(settings: Settings) -> tuple[list[str], CloudflareFound, Settings]:
    """Ask Cloudflare about each zone with sites. Return the faults, what was found, and the settings without zones with faults."""
    faults, found = list(cloudflare_faults(config)), CloudflareFound()
    if faults:
        return faults, found, replace(settings, sites=())
    usable: list[str] = []
    zones = zones_of(settings)
    for zone in zones:
        here = cloudflare_found(zone, joined=cloudflare_zone.is_joined(settings, zone), others=zones)
        if here.fault:
            faults.append(here.fault)
        else:
            usable.append(zone.zone)
            found = here
    return faults, found, replace(settings, sites=tuple(each for each in settings.sites if each.zone in usable))


def size_faults(settings: Settings) -> list[str]:
    """Return what EC2 or CloudAPI would not take of what machines boot with."""
    from components.joyent.machine_checks import LARGEST_BODY

    found = []
    if settings.fleets_of("aws"):
        try:
            userdata.gzipped()
        except ValueError as too_long:
            found.append(str(too_long))
    for fleet in settings.fleets_of("joyent"):
        needs = fleet.in_place, bool(fleet.system_settings), fleet.dynamic
        if fault := userdata.triton_fault(LARGEST_BODY, userdata.settings_room(), *needs):
            return [*found, fault]
    return found + closed_sites_faults(settings) + carried_faults(settings)


def closed_sites_faults(settings: Settings, room: int | None = None) -> list[str]:
    """Return a fault for each Triton fleet with closed sites that do not fit the `room` after the boot script and the agent."""
    found = []
    for fleet in settings.fleets_of("joyent"):
        size, left = triton_cargo.origins_size(settings, fleet), triton_cargo.room(fleet) if room is None else room
        if size > left:
            sites = settings.sites_of(fleet)
            closed, secured = sum(each.proxied for each in sites), sum(each.tls is not None for each in sites)
            of = " and ".join(
                f"{number} {kind}"
                for number, kind in ((closed, "proxied sites"), (secured, "sites with tls"))
                if number
            )
            needless = (["release: in-place"] if fleet.in_place else []) + (
                ["timezone, proxy, aptMirror and logs"] if fleet.system_settings else []
            )
            also = f", or leave {' and '.join(needless)} out" if secured and needless else ""
            found.append(
                f"{at('rollcall:fleets', fleet.name)}.joins: the keys and certificates of {of} take up to {size} bytes, "
                f"and {left} are left of the request that makes a Triton machine. Let it join fewer of them, or split the fleet{also}."
            )
    return found


def carried_faults(settings: Settings, room: int | None = None) -> list[str]:
    """Return a fault for workloads of Triton fleets that do not fit the `room` after the boot script and the agent, and have no store."""
    found = []
    for fleet in settings.fleets_of("joyent"):
        cargo = triton_cargo.cargo(settings, fleet, project_folder(), room)
        if not cargo.fits and fleet.in_place:
            found.append(_undelivered(settings, fleet, cargo))
        elif not cargo.fits:
            fix = "Add a mirror (rollcall:mirrors), publish the files at an https address and name it by artifact and sha256, or exclude "
            found.append(
                f"{at('rollcall:fleets', fleet.name)}.runs: {' and '.join(fleet.digests)} take {cargo.size} bytes, and {cargo.left} are "
                f"left of the request that makes a Triton machine. {fix}what no machine needs."
            )
    return found


def _undelivered(settings: Settings, fleet: FleetSettings, cargo: triton_cargo.Cargo) -> str:
    """Return why the machines of a fleet that changes in place could not get its releases."""
    key = f"{at('rollcall:fleets', fleet.name)}.runs"
    delivered = {each.digest for each in cargo.delivered}
    large = [name for name, digest in fleet.digests.items() if digest not in delivered]
    if large and not triton_cargo.has_store(settings, fleet):
        return (
            f"{key}: the release of {' and '.join(large)} does not fit the {triton_cargo.DELIVERED_BYTES} bytes that Triton takes for "
            f"metadata in one request, and the fleet has no store. Add a mirror (rollcall:mirrors), or publish the files at an https "
            "address and name it by artifact and sha256."
        )
    return (
        f"{key}: the secrets of {' and '.join(fleet.digests)} take {cargo.size} bytes, and {cargo.left} are left of the request that makes "
        "a Triton machine. Shorten them."
    )


def revoke(lost: Sequence[lost_tokens.LostToken], api: CloudflareApi | None) -> None:
    """Revoke tokens with a value that was lost.

    A token that cannot be revoked is reported, and does not stop the deployment.
    """
    if api is None:
        return
    for token in lost:
        try:
            api.call("DELETE", f"{token.owner}/tokens/{token.id}")
            pulumi.info(f"{token}. It was revoked.")
        except (ApiFailingError, ApiRefusedError) as failed:
            pulumi.warn(f"{token}. It could not be revoked: {failed}")


def existing_found(settings: Settings, in_cloudflare: CloudflareFound | None = None) -> ExistingReport:
    """Return what exists already where the stack's static resources will be. The clouds have answered before."""
    state = prior_state()
    at_sites = _at_sites(settings, state, in_cloudflare)
    in_directory, hosted = _in_directory(settings, state)
    found = at_sites + in_directory
    found += ExistingReport(faults=tuple(policy_sizes.faults(settings, zone=hosted or "", region=own_region(config))))
    found += in_account(settings, state, hosted)
    return found if state is None else found + _in_state(settings, state, hosted)


def in_account(settings: Settings, state: PriorState | None, hosted: str | None) -> ExistingReport:
    """Return which quotas of the AWS account are too small. `hosted` is the id of the directory's hosted zone."""
    from components.aws.session import session_of

    if not settings.uses_aws:
        return ExistingReport()
    try:
        account = account_limits.Account(client=session_of(config).client, region=own_region(config), state=state)
        here = account_limits.found(settings, account, hosted, _edge)
    except (ApiFailingError, ApiRefusedError) as failed:
        return ExistingReport(faults=(str(failed),))
    return ExistingReport(faults=here.faults, warnings=here.warnings)


def _edge() -> Ranges:
    """Return the networks of Cloudflare's edge, which are rules of the security group of a closed fleet."""
    found = CloudflareApi(cloudflare_url(config), cloudflare_token(config)).get("/ips")
    return Ranges(v4=tuple(found["ipv4_cidrs"] or ()), v6=tuple(found["ipv6_cidrs"] or ()))


def _at_sites(settings: Settings, state: PriorState | None, in_cloudflare: CloudflareFound | None) -> ExistingReport:
    """Return what is in the zones with sites and in their account. A request that fails is a fault."""
    found = ExistingReport()
    for zone in zones_of(settings):
        found += _at_zone(settings, zone, state)
    if settings.sites and state is not None and in_cloudflare is not None and in_cloudflare.api is not None:
        known = lost_tokens.known_to(state)
        try:
            lost = lost_tokens.lost(in_cloudflare.api, in_cloudflare.owner, settings.stack, known)
            room = cloudflare_tokens.room_faults(in_cloudflare.api, in_cloudflare.owner, settings, state)
            found += ExistingReport(lost_tokens=tuple(lost), faults=tuple(room))
        except (ApiFailingError, ApiRefusedError) as failed:
            found += ExistingReport(faults=(str(failed),))
    return found


def _at_zone(settings: Settings, zone: ZoneSettings, state: PriorState | None) -> ExistingReport:
    """Return what is in one zone with sites."""
    from rollcall.errors import RollcallError

    found = ExistingReport()
    try:
        store = ZoneStore(cloudflare_token(config), cloudflare_url(config))
        id_ = store.zone(zone)
        if id_ is not None:
            found += conflicts_at_sites(settings, zone, store, id_)
            found += ExistingReport(faults=tuple(store.room_faults(settings, zone)))
            if state is not None:
                found += existing_resources.apex(zone, settings.stack, store.list(id_, zone.zone), state)
        if id_ is not None and state is not None and zone.create:
            found += existing_resources.site_zone(zone, id_, state)
    except (ApiFailingError, ApiRefusedError) as failed:
        found += ExistingReport(faults=(str(failed),))
    except RollcallError as failed:
        found += ExistingReport(faults=(f"{zone.sites[0].key}.zone: {failed}",))
    return found


def _in_directory(settings: Settings, state: PriorState | None) -> tuple[ExistingReport, str | None]:
    """Return what is in the directory's hosted zone, and the id of the zone. A request that fails is a fault."""
    from components.aws.session import session_of

    found, hosted, services = ExistingReport(), None, settings.service_discovery
    if services is None:
        return found, None
    try:
        route53 = session_of(config).client("route53")
        hosted = hosted_zone(route53, services)
        sets = route53_zones.sets_of(route53, hosted) if hosted is not None else None
        if pulumi.runtime.is_dry_run():
            found += ExistingReport(warnings=(*soa.warnings(services, sets), *private_zones.hidden_sites(settings)))
        client = session_of(config).client
        wrong = private_zones.faults(settings, hosted, own_region(config) if services.private else "", client)
        found += ExistingReport(faults=tuple(wrong))
        if hosted is not None and sets is not None:
            found += conflicts_in_directory(services, sets)
            found += ExistingReport(faults=soa.faults(services, sets, settings.stack))
            if state is not None:
                found += existing_resources.directory(services, hosted, sets, state)
    except api_errors.failures() as failed:
        found += ExistingReport(faults=(api_errors.message_of(failed, "rollcall:serviceDiscovery.zone"),))
    return found, hosted


def _in_state(settings: Settings, state: PriorState, hosted: str | None) -> ExistingReport:
    """Return what the state has, beside the zones that were found."""
    found, services = ExistingReport(), settings.service_discovery
    if services is not None and services.create and hosted is not None:
        found += existing_resources.directory_zone(services, hosted, state)
    for zone in zones_of(settings):
        found += existing_resources.settings_left(zone, state)
    found += existing_resources.fleets(state) + existing_resources.drained_by_ssh(_machines(settings.fleets), state)
    found += existing_resources.changed_ways(settings.fleets, state)
    found += existing_resources.uncounted(state) + existing_resources.renamed(state, settings.stack)
    found += existing_resources.in_zones(_machines([each for each in settings.fleets_of("aws") if each.zones]), state)
    return found + existing_resources.instances(_machines(settings.fleets_of("aws")), state)


def conflicts_at_sites(settings: Settings, zone: ZoneSettings, store: ZoneStore, id_: str) -> ExistingReport:
    """Return the records of others that prevent the sites of a zone. `id_` is the zone's id."""
    at = dns_conflicts.in_cloudflare(lambda name: store.list(id_, name))
    return ExistingReport(faults=tuple(dns_conflicts.faults(zone.zone, dns_conflicts.of_sites(settings, zone), at)))


def conflicts_in_directory(directory: ServiceDiscoverySettings, sets: route53_zones.Sets) -> ExistingReport:
    """Return the records of others that prevent the directory's records."""
    wanted = dns_conflicts.of_directory(directory)
    return ExistingReport(faults=tuple(dns_conflicts.faults(directory.zone, wanted, dns_conflicts.in_route53(sets))))


def _machines(fleets: Sequence[FleetSettings]) -> list[str]:
    """Return the names of the machines that the program declares."""
    return [f"{fleet.name}-{index}" for fleet in fleets for index in range(fleet.count)]


def quotas_found(settings: Settings, renamed: frozenset[str] = frozenset()) -> Found:
    """Return what the fleets would create, and whether the accounts' quotas allow it. The clouds have just answered.

    `renamed` machines adopt nothing.
    """
    from components.aws.session import session_of
    from components.joyent import CloudApiError

    found, stack = Found(), settings.stack
    for name, fleets in settings.by_region("aws").items():
        region = name or own_region(config)
        try:
            client = functools.partial(session_of(config).client, region=region)
            found += check_ec2(
                fleets,
                stack,
                region,
                client,
                elsewhere={*settings.given_networks, *(each.name for each in fleets if settings.chooses_vpc(each))},
                in_vpcs=functools.partial(vpcs.check, settings, fleets, region, client),
            )
        except api_errors.failures() as failed:
            found += Found(faults=(api_errors.message_of(failed, f"aws:region {region}"),))
    for datacenter, fleets in settings.by_region("joyent").items():
        try:
            session = triton_session(settings, datacenter)
            api = session.api
            found += check_triton(
                fleets, stack, api, datacenter, networks=settings.network_ids, catalogue=session.catalogue
            )
            found += adoptions(settings, [_without_adopted(each, renamed) for each in fleets], api)
        except CloudApiError as fault:
            found += Found(faults=(f"rollcall:joyent: {fault}",))
    return found


def _without_adopted(fleet: FleetSettings, names: frozenset[str]) -> FleetSettings:
    """Return the fleet without what these machines have adopted before."""
    return replace(fleet, adopt={at: each for at, each in fleet.adopt.items() if f"{fleet.name}-{at}" not in names})


def adoptions(settings: Settings, fleets: Sequence[FleetSettings], api: CloudApi) -> Found:
    """Return what `adopt` of the Triton fleets of one data centre would do. Raises CloudApiError."""
    from components.joyent.catalogue import Catalogue
    from components.preflight import triton_adoption

    adopting = [fleet for fleet in fleets if fleet.adopt]
    machines = api.list_machines() if adopting else []
    catalogue, found = Catalogue(api), Found()
    for fleet in adopting:
        closed = any(each.proxied for each in settings.sites_of(fleet))
        by = triton_adoption.Adopter(
            stack=settings.stack,
            mark=f"{pulumi.get_project()}/{pulumi.get_stack()}",
            networks=fleet.networks,
            firewall=closed,
        )
        found += triton_adoption.compare(fleet, by, machines, catalogue)
    return found


# The function that returns why a cloud cannot be used, for each cloud that the settings use.
FAULTS: dict[str, Callable[[Settings], list[str]]] = {"aws": aws_faults, "joyent": joyent_faults}
