"""Check whether each account can be reached with the given credentials, and has the zones that are named."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi

from components.aws import api_errors
from components.aws.account_settings import named
from components.config.errors import ConfigurationError
from components.config.models import (
    FleetSettings,
    ServiceDiscoverySettings,
    Settings,
    joins_service,
)
from components.config.site_zones import ZoneSettings
from components.dns.cloudflare_access import (
    cloudflare_token,
    cloudflare_token_key,
    cloudflare_url,
)
from components.dns.cloudflare_api import ApiFailingError, ApiRefusedError, CloudflareApi
from components.preflight import (
    cloudflare_tokens,
    cloudflare_zone,
)

if TYPE_CHECKING:
    from components.joyent.client import CloudApi
    from components.joyent.session import Session
from components.dns.route53_zones import hosted_zone, zone_id_of, zones_named
from components.preflight.stack_config import config


@dataclass(frozen=True, kw_only=True)
class CloudflareFound:
    """What was found at Cloudflare.

    `fault` is why it cannot be used. `token_account` is the id of the account that owns the operator's token, empty for
    a user's. `owner` is the path of that owner, and `api` sends the operator's requests where the stack makes tokens.
    `is_failing`: Cloudflare did not answer, or throttled, so nothing is known about the token.
    """

    fault: str | None = None
    is_failing: bool = False
    token_account: str = ""
    owner: str = ""
    api: CloudflareApi | None = None


def cloudflare_fault(zone: ZoneSettings, *, joined: bool = False) -> str | None:
    """Return the reason why the Cloudflare account cannot be used, or None.

    The zone must be in the account unless it will be created, and active if machines will be in it (`joined`).
    """
    return cloudflare_found(zone, joined=joined).fault


def cloudflare_found(
    zone: ZoneSettings, *, joined: bool = False, others: Sequence[ZoneSettings] = ()
) -> CloudflareFound:
    """Return what Cloudflare answers to the operator's token, and about a zone with sites.

    The account that owns the token may be seen only by one of the `others`.
    """
    given = cloudflare_tokens.machine_token()
    token, url = cloudflare_token(config), cloudflare_url(config)
    key = cloudflare_token_key(config)
    wanted = functools.partial(
        cloudflare_tokens.needed, zone, makes_token=not given, read_only=pulumi.runtime.is_dry_run()
    )
    if not token:
        return CloudflareFound(fault=f"CLOUDFLARE_API_TOKEN: is not set. Export a token with {', '.join(wanted())}.")
    api = CloudflareApi(url, token, key)
    try:
        own = cloudflare_tokens.verified(api, lambda: cloudflare_tokens.accounts_seen(api, (zone, *others)))
        fault = cloudflare_tokens.operator_fault(api, own, wanted(of_account=bool(own.account)))
        zones = [] if fault else cloudflare_zone.named(api, zone)
        fault = fault or cloudflare_zone.choice_fault(zone, zones)
        if not fault and not zones:
            fault = cloudflare_zone.account_fault(api, zone)
        if not fault and joined:
            fault = cloudflare_zone.answer_fault(zone, zones[0] if zones else None)
        if given and not fault:
            machines = CloudflareApi(url, given, cloudflare_tokens.KEY)
            accounts = [*(each.account for each in zones), *([own.account] if own.account else [])]
            fault = cloudflare_tokens.machine_fault(machines, zones[0].id if zones else "", zone.zone, accounts)
    except (ApiFailingError, ApiRefusedError, cloudflare_tokens.InactiveError) as refused:
        return CloudflareFound(fault=str(refused), is_failing=isinstance(refused, ApiFailingError))
    return CloudflareFound(fault=fault, token_account=own.account, owner=own.owner, api=None if given else api)


def aws_faults(settings: Settings) -> list[str]:
    """Return why AWS, the directory's hosted zone, or a region that fleets name cannot be used."""
    from components.aws.session import session_of

    try:
        session = session_of(config)
        if not session.region:
            return ["aws:region: is not set. Run `pulumi config set aws:region us-west-2`, or export AWS_REGION."]
        session.identity()
        route53 = session.client("route53")
        fault = directory_fault(route53, settings, settings.service_discovery) if settings.service_discovery else None
        abroad = {name: fleets for name, fleets in settings.by_region("aws").items() if name}
        return [*([fault] if fault else []), *(each for name in abroad for each in region_faults(name, abroad[name]))]
    except ConfigurationError as wrong:
        return list(wrong.faults)
    except api_errors.failures() as failed:
        return [
            api_errors.message_of(
                failed,
                key_source=named(config),
                role_key="aws:assumeRoles" if config("aws:assumeRoles") else "",
                profile=config("aws:profile") or "",
            )
        ]
    except OSError as unusable:
        return [f"{named(config) or api_errors.CREDENTIALS}: {unusable}. Correct it."]


def account_fault() -> str | None:
    """Check that the AWS provider and the rest of the program use the same account.

    Otherwise an `up` would be half in each.
    """
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
    """Return why these fleets cannot use another region than the stack's.

    The credentials for the stack's region are good.
    """
    from botocore.exceptions import ClientError

    from components.aws.session import session_of

    session = session_of(config)
    try:
        session.client("sts", region).get_caller_identity()
        return []
    except ClientError as refused:
        if not api_errors.is_unknown(refused):
            return [api_errors.message_of(refused, f"rollcall:fleets.{fleet.name}.region") for fleet in fleets]
        # https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html
        code = api_errors.code_of(refused)
        fault = f"AWS does not accept the credentials in {region} ({code}). Enable the region in the account, or name another."
    except api_errors.failures():
        near = difflib.get_close_matches(region, session.regions())
        fault = f"{region} cannot be reached. {f'Write {near[0]}' if near else 'Correct the name, or the network'}."
    return [f"rollcall:fleets.{fleet.name}.region: {fault}" for fleet in fleets]


def directory_fault(route53: Any, settings: Settings, directory: ServiceDiscoverySettings) -> str | None:
    """Return why the directory cannot be in its hosted zone, or why machines that join it would not be answered there."""
    fault = zone_fault(route53, directory)
    joined = any(fleet.count for fleet in settings.fleets if joins_service(fleet))
    if fault or not joined or directory.private or hosted_zone(route53, directory):
        return fault
    return (
        f"rollcall:serviceDiscovery.create: the hosted zone {directory.zone} is to be made, and no name in it resolves before the domain's "
        "registrar, or the zone above it, names its name servers. Set the count of the fleets that join services to 0 for one `pulumi up`, "
        "name the servers, and set the counts."
    )


def zone_fault(route53: Any, directory: ServiceDiscoverySettings) -> str | None:
    """Return why the directory cannot be in its hosted zone."""
    key = "rollcall:serviceDiscovery.zone"
    if directory.zone_id:
        return _zone_id_fault(route53, directory)
    kind, named = _kind(directory.private), zones_named(route53, directory)
    if not named:
        if directory.create:
            return None
        return f"{key}: this AWS account has no {kind} hosted zone {directory.zone}. Make it, correct the name, or set create: true."
    if len(named) > 1:
        listed = "; ".join(_described(each) for each in named)
        wanted = "that the VPCs of the fleets find" if directory.private else "that the domain is delegated to"
        return (
            f"{key}: {len(named)} {kind} hosted zones of this AWS account are called {directory.zone}: {listed}. Set "
            f"rollcall:serviceDiscovery.zoneId to the one {wanted}."
        )
    return None


def _zone_id_fault(route53: Any, directory: ServiceDiscoverySettings) -> str | None:
    from botocore.exceptions import ClientError

    key, id_ = "rollcall:serviceDiscovery.zoneId", directory.zone_id
    try:
        found = route53.get_hosted_zone(Id=id_)["HostedZone"]
    except ClientError as refused:
        if api_errors.code_of(refused) not in ("NoSuchHostedZone", "InvalidInput"):
            raise
        return f"{key}: this AWS account has no hosted zone {id_}. Correct the id."
    if found["Name"] != f"{directory.zone}.":
        return f"{key}: {id_} is the hosted zone {found['Name'].rstrip('.')}, not {directory.zone}. Correct the one or the other."
    if bool(found["Config"].get("PrivateZone")) != directory.private:
        is_, wanted = _kind(not directory.private), _kind(directory.private)
        fix = f"Name a {wanted} one, or {'take rollcall:serviceDiscovery.private out' if directory.private else 'set private: true'}"
        return f"{key}: {id_} is a {is_} hosted zone. {fix}."
    return None


def _kind(private: bool) -> str:
    return "private" if private else "public"


def _described(zone: dict[str, Any]) -> str:
    comment = zone["Config"].get("Comment")
    return f"{zone_id_of(zone)} with {zone['ResourceRecordSetCount']} record sets{f' ({comment})' if comment else ''}"


def joyent_faults(settings: Settings) -> list[str]:
    """Return why Triton cannot be used, in each data centre that fleets name."""
    from components.joyent.errors import CloudApiError, NotFoundError

    faults = []
    for datacenter, fleets in settings.by_region("joyent").items():
        try:
            triton(settings, datacenter).get_account()
        except NotFoundError as unknown:
            faults += [f"rollcall:fleets.{fleet.name}.region: {unknown}" for fleet in fleets]
        except CloudApiError as fault:
            faults.append(f"rollcall:joyent: {f'{datacenter}: ' if datacenter else ''}{fault}")
    return faults


def triton(settings: Settings, datacenter: str = "") -> CloudApi:
    """Return a client of the data centre with this name, or of the configured one. Raises CloudApiError."""
    return triton_session(settings, datacenter).api


def triton_session(settings: Settings, datacenter: str = "") -> Session:
    """Return a session as for `triton`, with the catalogue that the whole process shares."""
    from components.joyent.session import session_of

    chosen = settings.joyent
    values = {"url": chosen.url or "", "account": chosen.account or "", "keyId": chosen.key_id or ""}
    return session_of(values, datacenter)
