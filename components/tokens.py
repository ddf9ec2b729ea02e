"""Cloudflare tokens before anything is made with them: the operator's, and one for the machines that was made elsewhere.

https://developers.cloudflare.com/fundamentals/api/reference/permissions/
"""

from __future__ import annotations

import re
from typing import Any

import pulumi

from components.settings import MACHINE_TOKEN, SiteSettings
from components.site import zone_settings

_TIMEOUT = 20.0
_KEY = f"rollcall:{MACHINE_TOKEN}"
# What the provider takes: https://github.com/cloudflare/terraform-provider-cloudflare, internal/provider.go
_WELL_FORMED = re.compile(r"[0-9A-Za-z_-]{40,80}")
_TOKENS = "API Tokens"
_MAKES_TOKENS = f"{_TOKENS} Write"


def machine_token() -> str:
    """The value of `rollcall:machineToken`, or an empty text: then the stack makes one."""
    return pulumi.runtime.get_config(_KEY) or ""


def needed(site: SiteSettings, *, makes_token: bool, only_looks: bool = False) -> tuple[str, ...]:
    """The permission groups that the operator's token needs for a site; a preview `only_looks`."""
    closed = ("SSL and Certificates Write",) if site.proxied else ()
    settings = ("Zone Settings Write",) if zone_settings(site) else ()
    made = ("Zone Write",) if site.create else ("Zone Read",)
    wanted = (*made, "DNS Write", *closed, *settings, *((_MAKES_TOKENS,) if makes_token else ()))
    return tuple(each.replace(" Write", " Read") for each in wanted) if only_looks else wanted


def operator_fault(
    session: Any, url: str, own: str, wanted: tuple[str, ...], key: str = "CLOUDFLARE_API_TOKEN"
) -> str | None:
    """What the token with id `own`, which `session` asks with and which `key` gave, is not allowed of `wanted`. A token that may not
    look at itself makes no others either; otherwise it cannot be told before it is tried."""
    reply = session.get(f"{url}/user/tokens/{own}", timeout=_TIMEOUT)
    if reply.status_code != 200:
        asked = next((each for each in wanted if each.startswith(_TOKENS)), None)
        return asked and (
            f"{key}: may make no token for the machines (HTTP {reply.status_code}); give it User {asked}, "
            f"or make one with DNS Write and `pulumi config set --secret {_KEY}`"
        )
    policies = reply.json()["result"].get("policies") or []
    granted = {
        group.get("name")
        for policy in policies
        if policy.get("effect") == "allow"
        for group in policy["permission_groups"]
    }
    lacking = [each for each in wanted if granted and not {each, each.replace(" Read", " Write")} & granted]
    return f"{key}: lacks {', '.join(lacking)}; edit its permissions" if lacking else None


def machine_fault(url: str, token: str) -> str | None:
    """What is wrong with a token for the machines that was made elsewhere."""
    import requests

    if not pulumi.runtime.is_config_secret(_KEY):
        return f"{_KEY}: is in plain text; `pulumi config set --secret {_KEY}`, and revoke this one"
    if not _WELL_FORMED.fullmatch(token):
        return f"{_KEY}: is no API token (40 to 80 of 0-9 A-Z a-z - _); give one with DNS Write for the zone"
    headers = {"Authorization": f"Bearer {token}"}
    verified = requests.get(f"{url}/user/tokens/verify", headers=headers, timeout=_TIMEOUT)
    if verified.status_code != 200:
        return f"{_KEY}: Cloudflare does not accept it (HTTP {verified.status_code}); give a valid one, or take it out"
    return None
