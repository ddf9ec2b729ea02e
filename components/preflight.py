"""What is checked before anything is created: the configuration as a whole, and that each account can be reached with it.

A wrong token, a wrong key or a zone that is not in the account is found here, all at once, and not half-way.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pulumi

from components.settings import ConfigurationError, Settings, read

_CLOUDFLARE = "https://api.cloudflare.com/client/v4"
_TIMEOUT = 20.0


def checked(stack: str) -> Settings:
    """The stack's settings, after every check. Ends the program with one message, and no stack trace, at any fault."""
    try:
        settings = configured(stack)
        preflight(settings)
    except ConfigurationError as faults:
        raise pulumi.RunError(str(faults)) from faults
    return settings


def configured(stack: str) -> Settings:
    """The stack's settings. Raises ConfigurationError with every fault."""
    config = pulumi.Config("rollcall")
    values = {key: _object(config, key) for key in ("site", "directory", "fleets", "joyent", "linger")}
    return read(stack, {key: value for key, value in values.items() if value is not None})


def preflight(settings: Settings) -> None:
    """Ask each cloud that the settings use whether it knows us. Raises ConfigurationError naming all that do not."""
    checks: list[Callable[[], str | None]] = []
    if settings.directory is not None:
        # Read and checked already, so that a configuration can be written now; silence would look like success.
        checks.append(lambda: "rollcall:directory: this version deploys no service directory yet; take it out")
    if settings.site is not None:
        zone = None if settings.site.create else settings.site.zone
        checks.append(lambda: cloudflare_fault(zone))
    if settings.fleets_of("aws"):
        checks.append(aws_fault)
    if settings.fleets_of("joyent"):
        checks.append(lambda: joyent_fault(settings))
    faults = [fault for check in checks if (fault := check())]
    if faults:
        raise ConfigurationError(faults)


def cloudflare_fault(zone: str | None) -> str | None:
    """What keeps us from working in Cloudflare; `zone` must be in the account unless it is None."""
    import requests

    token = os.environ.get("CLOUDFLARE_API_TOKEN") or pulumi.Config("cloudflare").get("apiToken")
    if not token:
        return "CLOUDFLARE_API_TOKEN: is not set; export a token with Zone Read, DNS Write and API Tokens Write"
    url = os.environ.get("CLOUDFLARE_BASE_URL") or pulumi.Config("cloudflare").get("baseUrl") or _CLOUDFLARE
    try:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {token}"
        verified = session.get(f"{url.rstrip('/')}/user/tokens/verify", timeout=_TIMEOUT)
        if verified.status_code != 200:
            return (
                f"CLOUDFLARE_API_TOKEN: Cloudflare does not accept it (HTTP {verified.status_code}); give a valid token"
            )
        if zone is None:
            return None
        found = session.get(f"{url.rstrip('/')}/zones", params={"name": zone}, timeout=_TIMEOUT).json()
    except (requests.RequestException, ValueError) as unreachable:
        return f"CLOUDFLARE_BASE_URL: {url} cannot be reached ({type(unreachable).__name__}); check the network and the address"
    if not found.get("result"):
        mend = "add the zone there, correct the name, or set create: true"
        return f"rollcall:site.zone: {zone} is not in the account of this Cloudflare token; {mend}"
    return None


def aws_fault() -> str | None:
    """What keeps us from working in AWS."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    region = pulumi.Config("aws").get("region") or os.environ.get("AWS_REGION")
    if not region:
        return "aws:region: is not set; `pulumi config set aws:region us-west-2`, or export AWS_REGION"
    try:
        boto3.client("sts", region_name=region).get_caller_identity()
    except ClientError as refused:
        code = refused.response.get("Error", {}).get("Code", "refused")
        return f"AWS_ACCESS_KEY_ID: AWS does not accept the credentials ({code}); give valid ones"
    except BotoCoreError as unusable:
        return f"AWS credentials: {unusable}; export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    return None


def joyent_fault(settings: Settings) -> str | None:
    """What keeps us from working in Triton."""
    from components.joyent import CloudApiError, from_settings

    told = settings.joyent
    try:
        from_settings(url=told.url or "", account=told.account or "", key_id=told.key_id or "").get_account()
    except CloudApiError as fault:
        return f"rollcall:joyent: {fault}"
    return None


def _object(config: pulumi.Config, key: str) -> Any:
    try:
        return config.get_object(key)
    except pulumi.ConfigTypeError as wrong:
        raise ConfigurationError(
            [f"rollcall:{key}: is no mapping ({wrong}); write it as `{{name: value, …}}`"]
        ) from wrong
