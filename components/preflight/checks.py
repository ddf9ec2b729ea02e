"""What is checked before anything is created: the configuration as a whole, and that each account can be reached with it.

A wrong token, a wrong key or a zone that is not in the account is found here, all at once, and not half-way; so is a quota that
would not hold the fleets while they are replaced.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi

from components.aws import api_errors
from components.aws.account_settings import named, own_region, region_around, secrets
from components.config import namespaces, stack_file
from components.config.errors import ConfigurationError
from components.config.models import (
    KEYS,
    MACHINE_TOKEN,
    SITE_JOIN,
    DirectorySettings,
    FleetSettings,
    Settings,
    SiteSettings,
)
from components.config.reader import decoded, read_whole
from components.dns.cloudflare_access import (
    CLOUDFLARE_SECRETS,
    cloudflare_faults,
    cloudflare_token,
    cloudflare_token_key,
    cloudflare_url,
)
from components.dns.cloudflare_api import ApiFailingError, ApiRefusedError, CloudflareApi
from components.preflight import (
    aws_tags,
    checkable,
    cloudflare_tokens,
    cloudflare_zone,
    dns_conflicts,
    existing_resources,
    lost_tokens,
    policy_sizes,
    soa,
    zone_names,
)
from components.preflight.existing_resources import Standing
from components.preflight.quotas import Found, look_at_ec2, look_at_triton
from components.preflight.state import held
from components.preflight.triton_networks import Datacenter, NetworksError
from components.preflight.zone_store import ZoneStore
from components.resources import userdata
from components.resources.tags import marks
from rollcall.escaping import escaped_lines

if TYPE_CHECKING:
    from components.joyent.client import CloudApi
    from components.joyent.session import Session


@dataclass(frozen=True, kw_only=True)
class CloudflareFound:
    """`fault` keeps us from working there; `token_account` is the id of the account that owns the operator's token, empty for a user's.
    `owner` is the path of that owner, and `api` the operator's requests where the stack makes tokens."""

    fault: str | None = None
    token_account: str = ""
    owner: str = ""
    api: CloudflareApi | None = None


def config(key: str) -> str | None:
    """The value of a key of the stack's configuration, secrets too."""
    value: str | None = pulumi.runtime.get_config(key)
    return value


def is_secret(key: str) -> bool:
    """Whether a key's value is a Pulumi secret."""
    return bool(pulumi.runtime.is_config_secret(key))


def plain_secrets() -> list[str]:
    """The faults of secrets that are no Pulumi secrets."""
    keys = (*secrets(config), *CLOUDFLARE_SECRETS)
    return namespaces.in_plain_text(keys, lambda key: bool(config(key)) and not is_secret(key))


def checked(stack: str) -> tuple[Settings, Standing]:
    """The stack's settings, after every check, and what of it stands already. Ends the program with one message, and no stack trace,
    at any fault."""
    try:
        settings, faults = described(stack)
        settings = located(settings)
        stands = preflight(settings, faults)
        return networked(settings)[0], stands
    except ConfigurationError as faults_of_all:
        raise pulumi.RunError(str(faults_of_all)) from faults_of_all


def configured(stack: str) -> Settings:
    """The stack's settings. Raises ConfigurationError with every fault that the configuration shows by itself."""
    settings, faults = described(stack)
    if faults:
        raise ConfigurationError(faults)
    return settings


def described(stack: str) -> tuple[Settings, list[str]]:
    """The stack's settings, with defaults in the place of what is faulty, and every fault that the configuration shows by itself."""
    texts = {key: text for key in KEYS if (text := config(f"rollcall:{key}")) is not None}
    hidden = [key for key in KEYS if is_secret(f"rollcall:{key}")]
    given, faults = decoded(texts), list[str]()
    try:
        given = zone_names.named(given, zone_names.looked_up(config))
    except ConfigurationError as unknown:
        faults += unknown.faults
        given = {key: value for key, value in given.items() if not any(f"rollcall:{key}." in each for each in faults)}
    # What the keys hold that are no settings is nothing to look at.
    others = {key: "" for key in namespaces.ours(config_keys()) if key not in (*KEYS, MACHINE_TOKEN)}
    settings, wrong_values = read_whole(stack, {**given, **others}, hidden)
    root = pulumi.get_root_directory()
    doubled = stack_file.faults(Path(root), pulumi.get_stack()) if root else []
    return settings, [*doubled, *faults, *namespaces.misspelt(config_keys()), *wrong_values]


def config_keys() -> list[str]:
    """Every key of the stack's configuration, `NAMESPACE:NAME`, as the engine hands it over."""
    return sorted({*pulumi.runtime.config.CONFIG.get(), *pulumi.runtime.config.get_config_env()})


def region_fault(settings: Settings) -> list[str]:
    """Where AWS is used, the region must be the stack's own: with that of whoever runs Pulumi the AWS provider is another one, and so
    everything of it is replaced."""
    if config("aws:region") or not _uses_aws(settings):
        return []
    return [namespaces.region_missing(config_keys(), region_around())]


def located(settings: Settings) -> Settings:
    """The settings without the names of the stack's own AWS region and of the configured data centre: they move nothing."""
    from components.joyent.errors import CloudApiError
    from components.joyent.lookups import own_datacenter

    own = {"aws": own_region(config)} if any(settings.by_region("aws")) else {}
    if any(settings.by_region("joyent")):
        # What cannot be asked is a fault of the preflight's, which says why.
        with contextlib.suppress(CloudApiError):
            own["joyent"] = own_datacenter(triton(settings))
    return settings.at_home(own)


def networked(settings: Settings) -> tuple[Settings, Found]:
    """The settings with the networks of each Triton fleet, and why a fleet has none."""
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
                known[fleet.name], ids[fleet.name] = datacenter.resolve(fleet)
            except NetworksError as fault:
                found += Found(faults=(str(fault),))
    fleets = tuple(known.get(fleet.name, fleet) for fleet in settings.fleets)
    return replace(settings, fleets=fleets, network_ids=ids), found


def datacenter_of(session: Session) -> Datacenter:
    """The data centre of this session, with its networks. Raises CloudApiError."""
    from components.joyent.lookups import own_datacenter

    url = session.api.transport.credentials.url
    return Datacenter(
        name=lambda: own_datacenter(session.api, session.catalogue.datacenters()) or url,
        networks=session.catalogue.networks(),
    )


def preflight(settings: Settings, before: Sequence[str] = ()) -> Standing:
    """Ask each cloud that the settings use whether it knows us, and about all that is in them. `before` are the faults that they have
    already. Raises ConfigurationError naming every fault."""
    region = region_fault(settings)
    faults = [
        *before,
        *region,
        *plain_secrets(),
        *size_faults(settings),
        *aws_tags.faults(settings, marks(), config("aws:defaultTags"), os.environ),
    ]
    asked, in_cloudflare = checkable.part(settings, before), CloudflareFound()
    if asked.site is not None:
        wrong = cloudflare_faults(config)
        if not wrong:
            in_cloudflare = cloudflare_found(asked.site, joined=cloudflare_zone.is_joined(asked))
            wrong = [in_cloudflare.fault] if in_cloudflare.fault else []
        faults += wrong
        asked = replace(asked, site=None) if wrong else asked
    for cloud, faults_of in FAULTS.items():
        if asked.fleets_of(cloud) or (cloud == "aws" and asked.directory is not None):
            found_here = faults_of(asked)
            asked = checkable.without_cloud(asked, cloud, found_here)
            # What is not set has been said.
            faults += [each for each in found_here if not (region and each.startswith("aws:region: is not set"))]
    if _uses_aws(asked) and not region and (fault := account_fault()):
        faults.append(fault)
    asked, found = networked(asked)
    stands = standing_found(asked, in_cloudflare) + Standing(token_account=in_cloudflare.token_account)
    found += quotas_found(asked, stands.renamed)
    if faults := list(dict.fromkeys([*faults, *found.faults, *stands.faults])):
        raise ConfigurationError(faults)
    if pulumi.runtime.is_dry_run():
        for line in (*found.warnings, *stands.warnings):
            pulumi.warn(escaped_lines(line))
        for line in (*found.notes, *stands.notes):
            pulumi.info(line)
        for token in stands.lost_tokens:
            pulumi.warn(f"{token}. `pulumi up` revokes it.")
    else:
        revoke(stands.lost_tokens, in_cloudflare.api)
    return stands


def size_faults(settings: Settings) -> list[str]:
    """What EC2 or CloudAPI would not take of what machines boot with."""
    from components.joyent.machine_checks import LARGEST_BODY

    found = []
    if settings.fleets_of("aws"):
        try:
            userdata.gzipped()
        except ValueError as too_long:
            found.append(str(too_long))
    if settings.fleets_of("joyent") and (fault := userdata.triton_fault(LARGEST_BODY)):
        found.append(fault)
    return found


def revoke(lost: Sequence[lost_tokens.LostToken], api: CloudflareApi | None) -> None:
    """Revoke tokens whose value nobody has. One that cannot be revoked is said, and keeps nothing from being deployed."""
    if api is None:
        return
    for token in lost:
        try:
            api.call("DELETE", f"{token.owner}/tokens/{token.id}")
            pulumi.info(f"{token}. It was revoked.")
        except (ApiFailingError, ApiRefusedError) as failed:
            pulumi.warn(f"{token}. It could not be revoked: {failed}")


def _uses_aws(settings: Settings) -> bool:
    return bool(settings.fleets_of("aws")) or settings.directory is not None


def standing_found(settings: Settings, in_cloudflare: CloudflareFound | None = None) -> Standing:
    """What stands already where the stack's static things are to stand. The clouds have just answered."""
    from components.aws.session import session_of
    from rollcall.errors import RollcallError

    state = held()
    found, site_zone, hosted = Standing(), None, None
    site, services = settings.site, settings.directory
    try:
        if site is not None:
            store = ZoneStore(cloudflare_token(config), cloudflare_url(config))
            site_zone = store.zone(site)
            if site_zone is not None:
                found += conflicts_at_site(settings, store, site_zone)
                found += Standing(faults=tuple(store.room_faults(settings, site)))
                if state is not None:
                    found += existing_resources.apex(site, settings.stack, store.list(site_zone, site.zone), state)
            if state is not None and in_cloudflare is not None and in_cloudflare.api is not None:
                lost = lost_tokens.lost(
                    in_cloudflare.api, in_cloudflare.owner, settings.stack, lost_tokens.known_to(state)
                )
                found += Standing(lost_tokens=tuple(lost))
    except (ApiFailingError, ApiRefusedError) as failed:
        found += Standing(faults=(str(failed),))
    except RollcallError as failed:
        found += Standing(faults=(f"rollcall:site.zone: {failed}",))
    try:
        if services is not None:
            route53 = session_of(config).client("route53")
            hosted = hosted_zone(route53, services)
            sets = existing_resources.sets_of(route53, hosted) if hosted is not None else None
            if pulumi.runtime.is_dry_run():
                found += Standing(warnings=soa.warnings(services, sets))
            if hosted is not None and sets is not None:
                found += conflicts_in_directory(services, sets)
                found += Standing(faults=soa.faults(services, sets, settings.stack))
                if state is not None:
                    found += existing_resources.directory(services, hosted, sets, state)
    except api_errors.failures() as failed:
        found += Standing(faults=(api_errors.told(failed, "rollcall:directory.zone"),))
    found += Standing(faults=tuple(policy_sizes.faults(settings, zone=hosted or "", region=own_region(config))))
    if state is None:
        return found
    made = (
        site_zone if site is not None and site.create else None,
        hosted if services is not None and services.create else None,
    )
    found += existing_resources.zones(*made, state, (site.zone if site else "", services.zone if services else ""))
    if site is not None:
        found += existing_resources.settings_left(site, state)
    found += existing_resources.fleets(state) + existing_resources.drained_by_ssh(_machines(settings.fleets), state)
    found += existing_resources.uncounted(state) + existing_resources.renamed(state, settings.stack)
    return found + existing_resources.instances(_machines(settings.fleets_of("aws")), state)


def conflicts_at_site(settings: Settings, store: ZoneStore, zone: str) -> Standing:
    """What of others keeps machines from the site's host. `zone` is the zone's id."""
    at = dns_conflicts.in_cloudflare(lambda name: store.list(zone, name))
    name = settings.site.zone if settings.site is not None else ""
    return Standing(faults=tuple(dns_conflicts.faults(name, dns_conflicts.of_site(settings), at)))


def conflicts_in_directory(directory: DirectorySettings, sets: existing_resources.Sets) -> Standing:
    """What of others keeps the directory's records from its zone."""
    wanted = dns_conflicts.of_directory(directory)
    return Standing(faults=tuple(dns_conflicts.faults(directory.zone, wanted, dns_conflicts.in_route53(sets))))


def _machines(fleets: Sequence[FleetSettings]) -> list[str]:
    """The names of the machines that the program declares."""
    return [f"{fleet.name}-{index}" for fleet in fleets for index in range(fleet.count)]


def quotas_found(settings: Settings, renamed: frozenset[str] = frozenset()) -> Found:
    """What the fleets would make anew, and whether the accounts' quotas hold it. The clouds have just answered. `renamed` machines
    adopt nothing."""
    from components.aws.session import session_of
    from components.joyent import CloudApiError

    found, stack = Found(), settings.stack
    for name, fleets in settings.by_region("aws").items():
        region = name or own_region(config)
        try:
            client = functools.partial(session_of(config).client, region=region)
            found += look_at_ec2(fleets, stack, region, client)
        except api_errors.failures() as failed:
            found += Found(faults=(api_errors.told(failed, f"aws:region {region}"),))
    for datacenter, fleets in settings.by_region("joyent").items():
        try:
            session = triton_session(settings, datacenter)
            api = session.api
            found += look_at_triton(
                fleets, stack, api, datacenter, networks=settings.network_ids, catalogue=session.catalogue
            )
            found += adoptions(settings, [_without_adopted(each, renamed) for each in fleets], api)
        except CloudApiError as fault:
            found += Found(faults=(f"rollcall:joyent: {fault}",))
    return found


def _without_adopted(fleet: FleetSettings, names: frozenset[str]) -> FleetSettings:
    """The fleet without what these machines have adopted before."""
    return replace(fleet, adopt={at: each for at, each in fleet.adopt.items() if f"{fleet.name}-{at}" not in names})


def adoptions(settings: Settings, fleets: Sequence[FleetSettings], api: CloudApi) -> Found:
    """What `adopt` of the Triton fleets of one data centre would do. Raises CloudApiError."""
    from components.joyent.catalogue import Catalogue
    from components.preflight import triton_adoption

    adopting = [fleet for fleet in fleets if fleet.adopt]
    machines = api.list_machines() if adopting else []
    catalogue, found = Catalogue(api), Found()
    for fleet in adopting:
        closed = settings.site is not None and settings.site.proxied and SITE_JOIN in fleet.joins
        by = triton_adoption.Adopter(
            stack=settings.stack,
            mark=f"{pulumi.get_project()}/{pulumi.get_stack()}",
            networks=fleet.networks,
            firewall=closed,
        )
        found += triton_adoption.look(fleet, by, machines, catalogue)
    return found


def cloudflare_fault(site: SiteSettings, *, joined: bool = False) -> str | None:
    """What keeps us from working in Cloudflare. The zone must be in the account unless it is to be made, and active if machines are
    to be in it (`joined`)."""
    return cloudflare_found(site, joined=joined).fault


def cloudflare_found(site: SiteSettings, *, joined: bool = False) -> CloudflareFound:
    """What Cloudflare says to the operator's token, and of the site's zone."""
    given = cloudflare_tokens.machine_token()
    token, url = cloudflare_token(config), cloudflare_url(config)
    key = cloudflare_token_key(config)
    wanted = functools.partial(
        cloudflare_tokens.needed, site, makes_token=not given, only_looks=pulumi.runtime.is_dry_run()
    )
    if not token:
        return CloudflareFound(fault=f"CLOUDFLARE_API_TOKEN: is not set; export a token with {', '.join(wanted())}")
    api = CloudflareApi(url, token, key)
    try:
        own = cloudflare_tokens.verified(api, lambda: cloudflare_tokens.accounts_seen(api, site))
        fault = cloudflare_tokens.operator_fault(api, own, wanted(of_account=bool(own.account)))
        zones = [] if fault else cloudflare_zone.named(api, site)
        fault = fault or cloudflare_zone.choice_fault(site, zones)
        if not fault and not zones:
            fault = cloudflare_zone.account_fault(api, site)
        if not fault and joined:
            fault = cloudflare_zone.answer_fault(site, zones[0] if zones else None)
        if given and not fault:
            machines = CloudflareApi(url, given, cloudflare_tokens.KEY)
            accounts = [*(each.account for each in zones), *([own.account] if own.account else [])]
            fault = cloudflare_tokens.machine_fault(machines, zones[0].id if zones else "", accounts)
    except (ApiFailingError, ApiRefusedError, cloudflare_tokens.InactiveError) as refused:
        return CloudflareFound(fault=str(refused))
    return CloudflareFound(fault=fault, token_account=own.account, owner=own.owner, api=None if given else api)


def aws_faults(settings: Settings) -> list[str]:
    """What keeps us from working in AWS, in the directory's hosted zone, and in each region that fleets name."""
    from components.aws.session import session_of

    try:
        session = session_of(config)
        if not session.region:
            return ["aws:region: is not set; `pulumi config set aws:region us-west-2`, or export AWS_REGION"]
        session.identity()
        route53 = session.client("route53")
        fault = directory_fault(route53, settings, settings.directory) if settings.directory else None
        abroad = {name: fleets for name, fleets in settings.by_region("aws").items() if name}
        return [*([fault] if fault else []), *(each for name in abroad for each in region_faults(name, abroad[name]))]
    except ConfigurationError as wrong:
        return list(wrong.faults)
    except api_errors.failures() as failed:
        return [
            api_errors.told(
                failed, whose=named(config), role_key="aws:assumeRoles" if config("aws:assumeRoles") else ""
            )
        ]
    except OSError as unusable:
        return [f"{named(config) or api_errors.CREDENTIALS}: {unusable}. Correct it."]


def account_fault() -> str | None:
    """Whether the AWS provider works in another account than the rest of the program: an `up` would be half in each."""
    from components.aws.session import session_of
    from components.resources.ec2_lookups import provider_identity

    ours, theirs = session_of(config).identity(), provider_identity()
    if theirs.account_id == ours.account:
        return None
    return (
        f"{named(config) or 'AWS credentials'}: the AWS provider works in account {theirs.account_id} ({theirs.arn}), but preflight, "
        f"roll calls and status in account {ours.account} ({ours.arn}). Give both the same credentials: docs/operations.md says how."
    )


def region_faults(region: str, fleets: Sequence[FleetSettings]) -> list[str]:
    """What keeps these fleets from another region than the stack's own, whose credentials are good."""
    from botocore.exceptions import ClientError

    from components.aws.session import session_of

    session = session_of(config)
    try:
        session.client("sts", region).get_caller_identity()
        return []
    except ClientError as refused:
        if not api_errors.is_unknown(refused):
            return [api_errors.told(refused, f"rollcall:fleets.{fleet.name}.region") for fleet in fleets]
        # https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html
        code = api_errors.code_of(refused)
        said = f"AWS does not accept the credentials in {region} ({code}); enable the region in the account, or name another"
    except api_errors.failures():
        near = difflib.get_close_matches(region, session.regions())
        said = f"{region} cannot be reached; {f'write {near[0]}' if near else 'correct the name, or the network'}"
    return [f"rollcall:fleets.{fleet.name}.region: {said}" for fleet in fleets]


def directory_fault(route53: Any, settings: Settings, directory: DirectorySettings) -> str | None:
    """What keeps the directory from being in its hosted zone, or machines that join it from being answered there."""
    fault = zone_fault(route53, directory)
    joined = any(fleet.count for fleet in settings.fleets for join in fleet.joins if join != SITE_JOIN)
    if fault or not joined or hosted_zone(route53, directory):
        return fault
    return (
        f"rollcall:directory.create: the hosted zone {directory.zone} is to be made, and no name in it resolves before the domain's "
        "registrar, or the zone above it, names its name servers. Set the count of the fleets that join services to 0 for one `pulumi up`, "
        "name the servers, and set the counts."
    )


def zone_fault(route53: Any, directory: DirectorySettings) -> str | None:
    """What keeps the directory from being in its hosted zone."""
    key = "rollcall:directory.zone"
    if directory.zone_id:
        return _zone_id_fault(route53, directory)
    public = public_zones(route53, directory.zone)
    if not public:
        if directory.create:
            return None
        return f"{key}: there is no public hosted zone {directory.zone} in this AWS account; make it, correct the name, or set create: true"
    if len(public) > 1:
        listed = "; ".join(_described(each) for each in public)
        return (
            f"{key}: {len(public)} public hosted zones of this AWS account are called {directory.zone}: {listed}. Set "
            "rollcall:directory.zoneId to the one that the domain is delegated to."
        )
    return None


def _zone_id_fault(route53: Any, directory: DirectorySettings) -> str | None:
    from botocore.exceptions import ClientError

    key, id_ = "rollcall:directory.zoneId", directory.zone_id
    try:
        found = route53.get_hosted_zone(Id=id_)["HostedZone"]
    except ClientError as refused:
        if api_errors.code_of(refused) not in ("NoSuchHostedZone", "InvalidInput"):
            raise
        return f"{key}: this AWS account has no hosted zone {id_}. Correct the id."
    if found["Name"] != f"{directory.zone}.":
        return f"{key}: {id_} is the hosted zone {found['Name'].rstrip('.')}, not {directory.zone}. Correct the one or the other."
    if found["Config"].get("PrivateZone"):
        return f"{key}: {id_} is a private hosted zone, which nobody outside its VPCs can ask. Name a public one."
    return None


def hosted_zone(route53: Any, directory: DirectorySettings) -> str | None:
    """The id of the directory's hosted zone; None where there is none yet."""
    return directory.zone_id or next((_id(each) for each in public_zones(route53, directory.zone)), None)


def public_zones(route53: Any, name: str) -> list[dict[str, Any]]:
    """The public hosted zones of this name."""
    found = route53.list_hosted_zones_by_name(DNSName=name)["HostedZones"]
    return [each for each in found if each["Name"] == f"{name}." and not each["Config"].get("PrivateZone")]


def _id(zone: dict[str, Any]) -> str:
    return str(zone["Id"]).rpartition("/")[2]


def _described(zone: dict[str, Any]) -> str:
    comment = zone["Config"].get("Comment")
    return f"{_id(zone)} with {zone['ResourceRecordSetCount']} record sets{f' ({comment})' if comment else ''}"


def joyent_faults(settings: Settings) -> list[str]:
    """What keeps us from working in Triton, in each data centre that fleets name."""
    from components.joyent.errors import CloudApiError, NotFoundError

    faults = []
    for datacenter, fleets in settings.by_region("joyent").items():
        try:
            triton(settings, datacenter).get_account()
        except NotFoundError as unknown:
            faults += [f"rollcall:fleets.{fleet.name}.region: {unknown}; name one of these" for fleet in fleets]
        except CloudApiError as fault:
            faults.append(f"rollcall:joyent: {f'{datacenter}: ' if datacenter else ''}{fault}")
    return faults


def triton(settings: Settings, datacenter: str = "") -> CloudApi:
    """A client of the data centre of this name, or of the one that is configured. Raises CloudApiError."""
    return triton_session(settings, datacenter).api


def triton_session(settings: Settings, datacenter: str = "") -> Session:
    """As `triton`, with the catalogue that all of this process share."""
    from components.joyent.session import session_of

    told = settings.joyent
    values = {"url": told.url or "", "account": told.account or "", "keyId": told.key_id or ""}
    return session_of(values, datacenter)


# What keeps us from working in a cloud, asked where the settings use it.
FAULTS: dict[str, Callable[[Settings], list[str]]] = {"aws": aws_faults, "joyent": joyent_faults}
