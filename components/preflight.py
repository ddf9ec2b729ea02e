"""What is checked before anything is created: the configuration as a whole, and that each account can be reached with it.

A wrong token, a wrong key or a zone that is not in the account is found here, all at once, and not half-way; so is a quota that
would not hold the fleets while they are replaced.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pulumi

from components import standing, tokens
from components.access import (
    CLOUDFLARE_SECRETS,
    cloudflare_faults,
    cloudflare_token,
    cloudflare_token_key,
    cloudflare_url,
)
from components.aws_config import named, own_region, secrets
from components.held import held
from components.networks import Datacenter, NetworksError
from components.quotas import Found, look_at_ec2, look_at_triton
from components.settings import (
    KEYS,
    SITE_JOIN,
    TEXTS,
    ConfigurationError,
    DirectorySettings,
    FleetSettings,
    Settings,
    SiteSettings,
    read,
)
from components.standing import Standing
from components.zonestore import ZoneStore

if TYPE_CHECKING:
    from components.joyent.client import CloudApi
    from components.joyent.session import Session

_TIMEOUT = 20.0


def config(key: str) -> str | None:
    """The value of a key of the stack's configuration, secrets too."""
    value: str | None = pulumi.runtime.get_config(key)
    return value


def is_secret(key: str) -> bool:
    """Whether a key's value is a Pulumi secret."""
    return bool(pulumi.runtime.is_config_secret(key))


def plain_secrets() -> list[str]:
    """The faults of secrets that are no Pulumi secrets: the engine keeps the configuration in the state, for the dynamic resources, and
    would have them there in plain text, whatever cloud the fleets are on."""
    return [
        f"{key}: is in plain text. `pulumi config set --secret {key}`, and revoke this one."
        for key in (*secrets(config), *CLOUDFLARE_SECRETS)
        if config(key) and not is_secret(key)
    ]


def checked(stack: str) -> tuple[Settings, Standing]:
    """The stack's settings, after every check, and what of it stands already. Ends the program with one message, and no stack trace,
    at any fault."""
    try:
        settings = located(configured(stack))
        stands = preflight(settings)
        return networked(settings)[0], stands
    except ConfigurationError as faults:
        raise pulumi.RunError(str(faults)) from faults


def configured(stack: str) -> Settings:
    """The stack's settings. Raises ConfigurationError with every fault."""
    ours = pulumi.Config("rollcall")
    values = {key: ours.get(key) if key in TEXTS else _object(ours, key) for key in KEYS}
    return read(stack, {key: value for key, value in values.items() if value is not None})


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


def preflight(settings: Settings) -> Standing:
    """Ask each cloud that the settings use whether it knows us. Raises ConfigurationError naming all that do not."""
    used = {fleet.cloud for fleet in settings.fleets} | ({"aws"} if settings.directory is not None else set())
    if faults := plain_secrets():
        raise ConfigurationError(faults)
    faults = cloudflare_faults(config) if settings.site is not None else []
    if settings.site is not None and not faults:
        faults += [fault] if (fault := cloudflare_fault(settings.site)) else []
    faults += [fault for cloud, faults_of in FAULTS.items() if cloud in used for fault in faults_of(settings)]
    if not faults and "aws" in used and (fault := account_fault()):
        faults = [fault]
    if faults:
        raise ConfigurationError(faults)
    settings, found = networked(settings)
    found += quotas_found(settings)
    stands = standing_found(settings)
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
    from components.aws_session import session_of
    from rollcall.errors import RollcallError

    state = held()
    if state is None:
        return Standing()
    found, site_zone, hosted = Standing(), None, None
    site, services = settings.site, settings.directory
    try:
        if site is not None:
            store = ZoneStore(cloudflare_token(config), cloudflare_url(config))
            site_zone = store.zone(site.zone)
            if site_zone is not None:
                found += standing.apex(site, settings.stack, store.list(site_zone, site.zone), state)
    except RollcallError as failed:
        found += Standing(faults=(f"rollcall:site.zone: {failed}",))
    if services is not None:
        route53 = session_of(config).client("route53")
        hosted = next(iter(public_zones(route53, services.zone)), None)
        if hosted is not None:
            found += standing.directory(services, hosted, standing.sets_of(route53, hosted), state)
    made = (
        site_zone if site is not None and site.create else None,
        hosted if services is not None and services.create else None,
    )
    found += standing.zones(*made, state, (site.zone if site else "", services.zone if services else ""))
    if site is not None:
        found += standing.settings_left(site, state)
    found += standing.fleets(state) + standing.drained_by_ssh(_machines(settings.fleets), state)
    return found + standing.instances(_machines(settings.fleets_of("aws")), state)


def _machines(fleets: Sequence[FleetSettings]) -> list[str]:
    """The names of the machines that the program declares."""
    return [f"{fleet.name}-{index}" for fleet in fleets for index in range(fleet.count)]


def quotas_found(settings: Settings) -> Found:
    """What the fleets would make anew, and whether the accounts' quotas hold it. The clouds have just answered."""
    from botocore.exceptions import BotoCoreError, ClientError

    from components.aws_session import session_of
    from components.joyent import CloudApiError

    found, stack = Found(), settings.stack
    for name, fleets in settings.by_region("aws").items():
        region = name or own_region(config)
        try:
            client = functools.partial(session_of(config).client, region=region)
            found += look_at_ec2(fleets, stack, region, client)
        except ClientError as refused:
            code = refused.response.get("Error", {}).get("Code", "refused")
            found += Found(
                faults=(f"AWS credentials: AWS does not let them {refused.operation_name} in {region} ({code})",)
            )
        except BotoCoreError as unusable:
            found += Found(faults=(f"aws:region: EC2 in {region} cannot be reached ({unusable}); correct the region",))
    for datacenter, fleets in settings.by_region("joyent").items():
        try:
            api = triton(settings, datacenter)
            found += look_at_triton(fleets, stack, api, datacenter, networks=settings.network_ids)
            found += adoptions(settings, fleets, api)
        except CloudApiError as fault:
            found += Found(faults=(f"rollcall:joyent: {fault}",))
    return found


def adoptions(settings: Settings, fleets: Sequence[FleetSettings], api: CloudApi) -> Found:
    """What `adopt` of the Triton fleets of one data centre would do. Raises CloudApiError."""
    from components import joining
    from components.joyent.catalogue import Catalogue

    adopting = [fleet for fleet in fleets if fleet.adopt]
    machines = api.list_machines() if adopting else []
    catalogue, found = Catalogue(api), Found()
    for fleet in adopting:
        closed = settings.site is not None and settings.site.proxied and SITE_JOIN in fleet.joins
        by = joining.Adopter(
            stack=settings.stack,
            mark=f"{pulumi.get_project()}/{pulumi.get_stack()}",
            networks=fleet.networks,
            firewall=closed,
        )
        found += joining.look(fleet, by, machines, catalogue)
    return found


def cloudflare_fault(site: SiteSettings) -> str | None:
    """What keeps us from working in Cloudflare. The zone must be in the account unless it is to be made."""
    import requests

    given = tokens.machine_token()
    wanted = tokens.needed(site, makes_token=not given, only_looks=pulumi.runtime.is_dry_run())
    token, key = cloudflare_token(config), cloudflare_token_key(config)
    if not token:
        return f"CLOUDFLARE_API_TOKEN: is not set; export a token with {', '.join(wanted)}"
    url = cloudflare_url(config)
    try:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {token}"
        verified = session.get(f"{url}/user/tokens/verify", timeout=_TIMEOUT)
        if verified.status_code != 200:
            return f"{key}: Cloudflare does not accept it (HTTP {verified.status_code}); give a valid token"
        own = str(verified.json()["result"]["id"])
        fault = tokens.operator_fault(session, url, own, wanted, key) or (given and tokens.machine_fault(url, given))
        if fault or site.create:
            return fault or None
        found = session.get(f"{url}/zones", params={"name": site.zone}, timeout=_TIMEOUT).json()
    except (requests.RequestException, ValueError, KeyError, TypeError) as unreachable:
        where = "cloudflare:baseUrl" if config("cloudflare:baseUrl") else "CLOUDFLARE_BASE_URL"
        return f"{where}: {url} cannot be reached ({type(unreachable).__name__}); check the network and the address"
    if not found.get("result"):
        mend = "add the zone there, correct the name, or set create: true"
        return f"rollcall:site.zone: {site.zone} is not in the account of this Cloudflare token; {mend}"
    return None


def aws_faults(settings: Settings) -> list[str]:
    """What keeps us from working in AWS, in the directory's hosted zone, and in each region that fleets name."""
    from botocore.exceptions import BotoCoreError, ClientError

    from components.aws_session import session_of

    whose = named(config)
    try:
        session = session_of(config)
        if not session.region:
            return ["aws:region: is not set; `pulumi config set aws:region us-west-2`, or export AWS_REGION"]
        session.identity()
        route53 = session.client("route53")
        fault = zone_fault(route53, settings.directory) if settings.directory else None
        abroad = {name: fleets for name, fleets in settings.by_region("aws").items() if name}
        return [*([fault] if fault else []), *(each for name in abroad for each in region_faults(name, abroad[name]))]
    except ConfigurationError as wrong:
        return list(wrong.faults)
    except ClientError as refused:
        return [refusal(refused, whose)]
    except (BotoCoreError, OSError) as unusable:
        give = "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        return [f"{whose or 'AWS credentials'}: {unusable}; {'correct it' if whose else give}"]


def refusal(refused: Any, whose: str) -> str:
    """What AWS's refusal of a call means; `whose` is the key that the credentials are from."""
    error = refused.response.get("Error", {})
    code, operation = error.get("Code", "refused"), refused.operation_name
    if operation == "GetCallerIdentity":
        return f"{whose or 'AWS_ACCESS_KEY_ID'}: AWS does not accept the credentials ({code}); give valid ones"
    if operation == "AssumeRoleWithWebIdentity":
        return f"aws:assumeRoleWithWebIdentity: AWS does not let the token assume the role ({error.get('Message', code)}); correct it"
    if operation == "AssumeRole":
        told = "aws:assumeRoles" if config("aws:assumeRoles") else whose or "AWS_PROFILE"
        return f"{told}: AWS does not let the credentials assume the role ({error.get('Message', code)}); correct the role or its trust"
    return f"AWS credentials: AWS does not let them {operation} ({code}); docs/operations.md has the policy"


def account_fault() -> str | None:
    """Whether the AWS provider works in another account than the rest of the program: an `up` would be half in each."""
    from components.aws_session import session_of
    from components.ec2 import provider_identity

    ours, theirs = session_of(config).identity(), provider_identity()
    if theirs.account_id == ours.account:
        return None
    return (
        f"{named(config) or 'AWS credentials'}: the AWS provider works in account {theirs.account_id} ({theirs.arn}), but preflight, "
        f"roll calls and status in account {ours.account} ({ours.arn}). Give both the same credentials: docs/operations.md says how."
    )


def region_faults(region: str, fleets: Sequence[FleetSettings]) -> list[str]:
    """What keeps these fleets from another region than the stack's own, whose credentials are good."""
    from botocore.exceptions import BotoCoreError, ClientError

    from components.aws_session import session_of

    session = session_of(config)
    try:
        session.client("sts", region).get_caller_identity()
        return []
    except ClientError as refused:
        # https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html
        code = refused.response.get("Error", {}).get("Code", "refused")
        said = f"AWS does not accept the credentials in {region} ({code}); enable the region in the account, or name another"
    except BotoCoreError:
        near = difflib.get_close_matches(region, session.regions())
        said = f"{region} cannot be reached; {f'write {near[0]}' if near else 'correct the name, or the network'}"
    return [f"rollcall:fleets.{fleet.name}.region: {said}" for fleet in fleets]


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


def _object(config: pulumi.Config, key: str) -> Any:
    try:
        return config.get_object(key)
    except pulumi.ConfigTypeError as wrong:
        raise ConfigurationError(
            [f"rollcall:{key}: is no mapping ({wrong}); write it as `{{name: value, …}}`"]
        ) from wrong
