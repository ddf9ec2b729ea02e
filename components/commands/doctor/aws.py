"""Check AWS: the credentials, whether the engine's provider finds the same account, permissions and quotas."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from components.aws import account_settings, api_errors
from components.aws.account_settings import named
from components.aws.region import own_region
from components.aws.session import AwsSession, Identity, session_of
from components.commands.doctor import provider
from components.commands.doctor.engine import STACK, sdk_plugin
from components.commands.doctor.environment import Environment
from components.commands.doctor.points import Check, Finding, not_proven, ok, wrong
from components.config.errors import ConfigurationError
from components.dns.route53_zones import hosted_zone
from components.preflight import aws_permissions
from components.preflight import checks as preflight
from components.preflight.aws_permissions import Denied, Place, Simulated
from components.preflight.credentials import region_faults, zone_fault

AREA = "AWS"
CREDENTIALS = "AWS credentials"
_SIMULATION = "https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html"
_ASK = "Allow iam:SimulatePrincipalPolicy and iam:GetRole"
_SHOWN = 4
_TIMEOUTS_S = {"connect_timeout": 3, "read_timeout": 6}


def checks(env: Environment) -> list[Check]:
    return [
        Check(area=AREA, name=CREDENTIALS, run=lambda: credentials(env), needs=(STACK,)),
        Check(area=AREA, name="AWS regions", run=lambda: regions(env), needs=(CREDENTIALS,)),
        Check(area=AREA, name="AWS sources", run=lambda: sources(env), needs=(CREDENTIALS, "plugins")),
        Check(area=AREA, name="AWS permissions", run=lambda: permissions(env), needs=(CREDENTIALS,)),
        Check(area=AREA, name="quotas and images", run=lambda: quotas(env), needs=(CREDENTIALS,)),
    ]


def sealed(env: Environment, *keys: str) -> str:
    """Return the first of these keys that could not be decrypted."""
    return next((key for key in keys if key in env.config.secrets and env.get(key) is None), "")


def credentials(env: Environment) -> Iterator[Finding]:
    """Check the credentials with which `up` works, and say which account they belong to."""
    if not env.settings.uses_aws:
        yield ok("AWS is not used")
        return
    if key := sealed(env, "aws:accessKey", "aws:secretKey", "aws:token", "aws:assumeRoleWithWebIdentity"):
        yield not_proven(f"{key}: cannot be decrypted. Correct the passphrase or the secrets provider first.")
        return
    try:
        session = session_of(env.get)
        identity = session.identity()
    except ConfigurationError as faults:
        yield from (wrong(each) for each in faults.faults)
    except api_errors.failures() as failed:
        roles = "aws:assumeRoles" if env.get("aws:assumeRoles") else ""
        profile = env.get("aws:profile") or ""
        text = api_errors.message_of(failed, key_source=named(env.get), role_key=roles, profile=profile)
        yield not_proven(text) if api_errors.is_blameless(failed) else wrong(text)
    except OSError as unusable:
        yield wrong(f"{named(env.get) or CREDENTIALS}: {unusable}. Correct it.")
    else:
        yield ok(f"account {identity.account}, {identity.arn}, from {_source(env)}")
        if not session.region:
            yield wrong("aws:region: is not set. Run `pulumi config set aws:region us-west-2`.", "AWS region")


def _source(env: Environment) -> str:
    """Return the key, or what of the environment has the credentials."""
    if named(env.get):
        return named(env.get)
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return "AWS_ACCESS_KEY_ID"
    return f"AWS_PROFILE={os.environ['AWS_PROFILE']}" if os.environ.get("AWS_PROFILE") else "the default chain"


def regions(env: Environment) -> Iterator[Finding]:
    """Check that the account may use each region that fleets name."""
    abroad = {name: fleets for name, fleets in env.settings.by_region("aws").items() if name}
    faults = [each for name in abroad for each in region_faults(name, abroad[name])]
    yield from (wrong(each) for each in faults)
    if not faults:
        yield ok(", ".join([own_region(env.get), *abroad]) if env.settings.uses_aws else "AWS is not used")


def sources(env: Environment) -> Iterator[Finding]:
    """Compare the account of boto3, which Rollcall uses, with that of the engine's provider, and with the profile of the environment."""
    if not env.settings.uses_aws:
        yield ok("AWS is not used")
        return
    ours = session_of(env.get).identity()
    shadowed = _shadowed_profile(env, ours)
    if shadowed:
        yield wrong(shadowed)
        return
    plugin = sdk_plugin(env, "aws")
    if plugin is None:
        yield not_proven("AWS sources: the plugin is missing, so its provider cannot be asked. Install it.")
        return
    try:
        theirs = provider.aws_identity(env, plugin)
    except provider.ProviderError as failed:
        yield not_proven(
            f"AWS sources: the engine's provider did not say which account it uses ({failed}). Run `pulumi preview`."
        )
        return
    if theirs.account != ours.account:
        where = named(env.get) or CREDENTIALS
        yield wrong(
            f"{where}: the AWS provider works in account {theirs.account} ({theirs.arn}), but preflight, roll calls and status in account "
            f"{ours.account} ({ours.arn}). Set aws:profile or aws:assumeRoles, so that both have the same credentials."
        )
        return
    yield ok(f"provider and boto3 both work in account {ours.account}")


def _shadowed_profile(env: Environment, ours: Identity) -> str:
    """Return why a profile of the environment has no effect and belongs to another account. boto3 and the provider both take a key in
    the environment first: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html"""
    profile = os.environ.get("AWS_PROFILE")
    if named(env.get) or not profile or not os.environ.get("AWS_ACCESS_KEY_ID"):
        return ""
    with contextlib.suppress(*api_errors.failures()):
        theirs = AwsSession(account_settings.read({"aws:profile": profile}.get)).identity()
        if theirs.account != ours.account:
            return (
                f"AWS_PROFILE: {profile} belongs to account {theirs.account}, but AWS_ACCESS_KEY_ID hides it, and belongs to account "
                f"{ours.account}. Unset the one that you do not mean."
            )
    return ""


def permissions(env: Environment) -> Iterator[Finding]:
    """Simulate the actions that `up` needs."""
    from botocore.config import Config

    settings = env.settings.without_dynamic_zones()
    if not settings.uses_aws:
        yield ok("AWS is not used")
        return
    session = session_of(env.get)
    identity = session.identity()
    iam = session.client("iam", config=Config(**_TIMEOUTS_S, retries={"total_max_attempts": 2}))
    try:
        principal = aws_permissions.principal_of(
            identity.arn, lambda name: str(iam.get_role(RoleName=name)["Role"]["Arn"])
        )
        if not principal:
            yield not_proven(f"AWS permissions: {identity.arn} cannot be simulated. Use a user or a role.")
            return
        found = aws_permissions.simulate(iam, principal, settings, _place(env, session, identity))
    except api_errors.failures() as failed:
        code = api_errors.code_of(failed) if hasattr(failed, "response") else type(failed).__name__
        yield not_proven(f"AWS permissions: cannot be simulated for {identity.arn} ({code}). {_ASK}.")
        return
    yield from judged(principal, found)
    if limits := _session_policies(env):
        yield not_proven(
            f"{limits}: limits the session by a policy, which the simulation does not evaluate. Run `pulumi preview`."
        )


def _place(env: Environment, session: AwsSession, identity: Identity) -> Place:
    directory, zone = env.settings.without_dynamic_zones().service_discovery, ""
    with contextlib.suppress(*api_errors.failures()):
        zone = (hosted_zone(session.client("route53"), directory) or "") if directory else ""
    return Place(partition=identity.arn.split(":")[1], account=identity.account, region=session.region, zone_id=zone)


def judged(principal: str, found: Simulated) -> Iterator[Finding]:
    """Return the findings of a simulation: a pure function."""
    sure = [each for each in found.denied if not each.missing]
    unsure = [each for each in found.denied if each.missing]
    who = f"{'role' if ':role/' in principal else 'user'} {principal.rpartition('/')[2]}"
    if sure:
        yield wrong(f"AWS permissions: the {who} lacks {_listed(sure)}. Allow what docs/operations.md lists.")
    if unsure:
        keys = ", ".join(sorted({key for each in unsure for key in each.missing}))
        yield not_proven(
            f"AWS permissions: whether the {who} may {_listed(unsure)} depends on {keys}, which a simulation does not know. Run `pulumi "
            "preview` with these credentials."
        )
    if not found.denied:
        yield ok(f"the {who} may do all {found.count} actions of this stack, by simulation")
    if found.in_organization:
        yield not_proven(
            "AWS organization: the account belongs to one, and the simulation does not evaluate its resource control policies "
            f"({_SIMULATION}). Ask the administrator of the organization.",
            "AWS organization",
        )


def _listed(denied: list[Denied]) -> str:
    more = f", and {len(denied) - _SHOWN} more actions" if len(denied) > _SHOWN else ""
    return f"{', '.join(map(str, denied[:_SHOWN]))}{more}"


def _session_policies(env: Environment) -> str:
    """Return the key with which a role is assumed and limited by a policy."""
    for key in ("aws:assumeRoles", "aws:assumeRoleWithWebIdentity"):
        if re.search(r'"policy(Arns)?"', env.get(key) or ""):
            return key
    return ""


def quotas(env: Environment) -> Iterator[Finding]:
    """Check quotas, images, sizes and subnets of the fleets, as `up` does."""
    settings = env.settings
    only = tuple(each for each in settings.fleets_of("aws") if each.count)
    if not only:
        yield ok("no EC2 machines are wanted")
        return
    found = preflight.quotas_found(replace(settings, fleets=only))
    yield from (wrong(each) for each in found.faults)
    yield from (not_proven(each) for each in found.warnings)
    if not found.faults and not found.warnings:
        yield ok(f"there is room for {sum(each.count for each in only)} EC2 machines")


def zone_findings(env: Environment) -> tuple[list[Finding], dict[str, Any] | None]:
    """Return what is wrong with the hosted zone of the directory, and the zone as GetHostedZone shows it."""
    directory = env.settings.without_dynamic_zones().service_discovery
    if directory is None:
        return [], None
    route53 = session_of(env.get).client("route53")
    try:
        fault, zone_id = zone_fault(route53, directory), None
        if not fault:
            zone_id = hosted_zone(route53, directory)
        return [wrong(fault)] if fault else [], route53.get_hosted_zone(Id=zone_id) if zone_id else None
    except api_errors.failures() as failed:
        return [not_proven(api_errors.message_of(failed, "rollcall:serviceDiscovery.zone"))], None
