"""What is checked before anything is created: the configuration as a whole, and that each account can be reached with it.

A wrong token, a wrong key or a zone that is not in the account is found here, all at once, and not half-way; so is a quota that
would not hold the fleets while they are replaced.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pulumi

from components import standing, tokens
from components.held import held
from components.quotas import Found, look_at_ec2, look_at_triton
from components.settings import (
    KEYS,
    SITE_JOIN,
    TEXTS,
    ConfigurationError,
    DirectorySettings,
    Settings,
    SiteSettings,
    read,
)
from components.standing import Standing
from components.zonestore import ZoneStore

if TYPE_CHECKING:
    from components.joyent import CloudApi

_CLOUDFLARE = "https://api.cloudflare.com/client/v4"
_TIMEOUT = 20.0


def checked(stack: str) -> tuple[Settings, Standing]:
    """The stack's settings, after every check, and what of it stands already. Ends the program with one message, and no stack trace,
    at any fault."""
    try:
        settings = configured(stack)
        return settings, preflight(settings)
    except ConfigurationError as faults:
        raise pulumi.RunError(str(faults)) from faults


def configured(stack: str) -> Settings:
    """The stack's settings. Raises ConfigurationError with every fault."""
    config = pulumi.Config("rollcall")
    values = {key: config.get(key) if key in TEXTS else _object(config, key) for key in KEYS}
    return read(stack, {key: value for key, value in values.items() if value is not None})


def preflight(settings: Settings) -> Standing:
    """Ask each cloud that the settings use whether it knows us. Raises ConfigurationError naming all that do not."""
    checks: list[Callable[[], str | None]] = []
    if settings.site is not None:
        site = settings.site
        checks.append(lambda: cloudflare_fault(site))
    if settings.fleets_of("aws") or settings.directory is not None:
        checks.append(lambda: aws_fault(settings))
    if settings.fleets_of("joyent"):
        checks.append(lambda: joyent_fault(settings))
    faults = region_faults(settings, _region())
    faults += [fault for check in checks if (fault := check())]
    if faults:
        raise ConfigurationError(faults)
    found, stands = quotas_found(settings), standing_found(settings)
    if found.faults or stands.faults:
        raise ConfigurationError([*found.faults, *stands.faults])
    if pulumi.runtime.is_dry_run():
        for line in found.warnings:
            pulumi.warn(line)
        for line in (*found.notes, *stands.notes):
            pulumi.info(line)
    return stands


def standing_found(settings: Settings) -> Standing:
    """What stands already where the stack's static things are to stand. The clouds have just answered."""
    import boto3

    from rollcall.errors import RollcallError

    state = held()
    if state is None:
        return Standing()
    found, site_zone, hosted = Standing(), None, None
    site, services = settings.site, settings.directory
    try:
        if site is not None:
            store = ZoneStore(_cloudflare_token(), _cloudflare_url())
            site_zone = store.zone(site.zone)
            if site_zone is not None:
                found += standing.apex(site, settings.stack, store.list(site_zone, site.zone), state)
    except RollcallError as failed:
        found += Standing(faults=(f"rollcall:site.zone: {failed}",))
    if services is not None:
        route53 = boto3.client("route53", region_name=_region() or None)
        hosted = next(iter(public_zones(route53, services.zone)), None)
        if hosted is not None:
            found += standing.directory(services, hosted, standing.sets_of(route53, hosted), state)
    made = (
        site_zone if site is not None and site.create else None,
        hosted if services is not None and services.create else None,
    )
    found += standing.zones(*made, state, (site.zone if site else "", services.zone if services else ""))
    names = [f"{fleet.name}-{index}" for fleet in settings.fleets_of("aws") for index in range(fleet.count)]
    return found + standing.instances(names, state)


def region_faults(settings: Settings, own: str) -> list[str]:
    """Fleets that name another region than the stack's `own`, where all machines are made: their roll call would look for them
    where they are not, fail, and take their entries for left-over ones."""
    mend = "leave it out, and give other regions stacks of their own"
    where = f"the stack's machines are all in {own or 'the region of its credentials'}"
    return [
        f"rollcall:fleets.{fleet.name}.region: is {fleet.region}, and {where}; {mend}"
        for fleet in settings.fleets
        if fleet.region is not None and (fleet.cloud != "aws" or fleet.region != own)
    ]


def quotas_found(settings: Settings) -> Found:
    """What the fleets would make anew, and whether the accounts' quotas hold it. The clouds have just answered."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    from components.joyent import CloudApiError, from_settings

    found, stack = Found(), settings.stack
    default = _region()
    for region in dict.fromkeys(fleet.region or default for fleet in settings.fleets_of("aws")):
        fleets = [fleet for fleet in settings.fleets_of("aws") if (fleet.region or default) == region]
        try:
            found += look_at_ec2(fleets, stack, region, functools.partial(boto3.client, region_name=region))
        except ClientError as refused:
            code = refused.response.get("Error", {}).get("Code", "refused")
            found += Found(
                faults=(f"AWS credentials: AWS does not let them {refused.operation_name} in {region} ({code})",)
            )
        except BotoCoreError as unusable:
            found += Found(faults=(f"aws:region: EC2 in {region} cannot be reached ({unusable}); correct the region",))
    if settings.fleets_of("joyent"):
        told = settings.joyent
        try:
            api = from_settings(url=told.url or "", account=told.account or "", key_id=told.key_id or "")
            found += look_at_triton(settings.fleets_of("joyent"), stack, api)
            found += adoptions(settings, api)
        except CloudApiError as fault:
            found += Found(faults=(f"rollcall:joyent: {fault}",))
    return found


def adoptions(settings: Settings, api: CloudApi) -> Found:
    """What the Triton fleets' `adopt` would do. Raises CloudApiError."""
    from components import joining
    from components.fleet import JOYENT_PUBLIC_NETWORK
    from components.joyent.catalogue import Catalogue

    adopting = [fleet for fleet in settings.fleets_of("joyent") if fleet.adopt]
    machines = api.list_machines() if adopting else []
    catalogue, found = Catalogue(api), Found()
    for fleet in adopting:
        closed = settings.site is not None and settings.site.proxied and SITE_JOIN in fleet.joins
        by = joining.Adopter(
            stack=settings.stack,
            mark=f"{pulumi.get_project()}/{pulumi.get_stack()}",
            networks=[JOYENT_PUBLIC_NETWORK],
            firewall=closed,
        )
        found += joining.look(fleet, by, machines, catalogue)
    return found


def cloudflare_fault(site: SiteSettings) -> str | None:
    """What keeps us from working in Cloudflare. The zone must be in the account unless it is to be made."""
    import requests

    given = tokens.machine_token()
    wanted = tokens.needed(site, makes_token=not given, only_looks=pulumi.runtime.is_dry_run())
    token = _cloudflare_token()
    if not token:
        return f"CLOUDFLARE_API_TOKEN: is not set; export a token with {', '.join(wanted)}"
    url = _cloudflare_url()
    try:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {token}"
        verified = session.get(f"{url}/user/tokens/verify", timeout=_TIMEOUT)
        if verified.status_code != 200:
            return (
                f"CLOUDFLARE_API_TOKEN: Cloudflare does not accept it (HTTP {verified.status_code}); give a valid token"
            )
        own = str(verified.json()["result"]["id"])
        fault = tokens.operator_fault(session, url, own, wanted) or (given and tokens.machine_fault(url, given))
        if fault or site.create:
            return fault or None
        found = session.get(f"{url}/zones", params={"name": site.zone}, timeout=_TIMEOUT).json()
    except (requests.RequestException, ValueError, KeyError, TypeError) as unreachable:
        return f"CLOUDFLARE_BASE_URL: {url} cannot be reached ({type(unreachable).__name__}); check the network and the address"
    if not found.get("result"):
        mend = "add the zone there, correct the name, or set create: true"
        return f"rollcall:site.zone: {site.zone} is not in the account of this Cloudflare token; {mend}"
    return None


def aws_fault(settings: Settings) -> str | None:
    """What keeps us from working in AWS, and in the directory's hosted zone."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    region = _region()
    if not region:
        return "aws:region: is not set; `pulumi config set aws:region us-west-2`, or export AWS_REGION"
    try:
        boto3.client("sts", region_name=region).get_caller_identity()
        return (
            zone_fault(boto3.client("route53", region_name=region), settings.directory) if settings.directory else None
        )
    except ClientError as refused:
        code = refused.response.get("Error", {}).get("Code", "refused")
        if refused.operation_name != "GetCallerIdentity":
            return f"AWS credentials: AWS does not let them {refused.operation_name} ({code}); docs/operations.md has the policy"
        return f"AWS_ACCESS_KEY_ID: AWS does not accept the credentials ({code}); give valid ones"
    except BotoCoreError as unusable:
        return f"AWS credentials: {unusable}; export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


def zone_fault(route53: Any, directory: DirectorySettings) -> str | None:
    """What keeps the directory from standing in its hosted zone."""
    public = public_zones(route53, directory.zone)
    key = "rollcall:directory.zone"
    if not public:
        if directory.create:
            return None
        return f"{key}: there is no public hosted zone {directory.zone} in this AWS account; make it, correct the name, or set create: true"
    if len(public) > 1:
        ids = ", ".join(public)
        return f"{key}: {directory.zone} is the name of {len(public)} hosted zones ({ids}); delete the one that nobody delegates to"
    names = {
        f"{each}.{service.label}.{directory.zone}.".lower()
        for service in directory.services
        for one in service.incarnations
        for each in one.sets
    }
    sets = standing.sets_of(route53, public[0])
    for name in sorted(names):
        here = sets(name)
        if "CNAME" in here:
            target = here["CNAME"]["ResourceRecords"][0]["Value"]
            return f"{key}: {name} is a CNAME to {target} already, and can be nothing else beside it; delete it or rename the incarnation"
        if "SRV" in here and "SetIdentifier" in here["SRV"]:
            return f"{key}: the SRV set {name} has a routing policy; give it simple routing or rename the incarnation"
    return None


def public_zones(route53: Any, name: str) -> list[str]:
    """The ids of the public hosted zones of this name."""
    found = route53.list_hosted_zones_by_name(DNSName=name)["HostedZones"]
    public = (each for each in found if each["Name"] == f"{name}." and not each["Config"].get("PrivateZone"))
    return [each["Id"].rpartition("/")[2] for each in public]


def joyent_fault(settings: Settings) -> str | None:
    """What keeps us from working in Triton."""
    from components.joyent import CloudApiError, from_settings

    told = settings.joyent
    try:
        from_settings(url=told.url or "", account=told.account or "", key_id=told.key_id or "").get_account()
    except CloudApiError as fault:
        return f"rollcall:joyent: {fault}"
    return None


def _region() -> str:
    return pulumi.Config("aws").get("region") or os.environ.get("AWS_REGION") or ""


def _cloudflare_token() -> str:
    return os.environ.get("CLOUDFLARE_API_TOKEN") or pulumi.Config("cloudflare").get("apiToken") or ""


def _cloudflare_url() -> str:
    url = os.environ.get("CLOUDFLARE_BASE_URL") or pulumi.Config("cloudflare").get("baseUrl") or _CLOUDFLARE
    return url.rstrip("/")


def _object(config: pulumi.Config, key: str) -> Any:
    try:
        return config.get_object(key)
    except pulumi.ConfigTypeError as wrong:
        raise ConfigurationError(
            [f"rollcall:{key}: is no mapping ({wrong}); write it as `{{name: value, …}}`"]
        ) from wrong
