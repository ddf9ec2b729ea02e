"""Check Cloudflare tokens before anything is created with them: the operator's, and a machine token that was made elsewhere.

https://developers.cloudflare.com/fundamentals/api/reference/permissions/
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import pulumi

from components.config.models import MACHINE_TOKEN, Settings
from components.config.site_zones import ZoneSettings, zones_of
from components.dns.cloudflare_api import ApiRefusedError, CloudflareApi
from components.preflight.state import PriorState
from components.resources.site import zone_settings

KEY = f"rollcall:{MACHINE_TOKEN}"
# What the provider takes: https://github.com/cloudflare/terraform-provider-cloudflare, internal/provider.go
_WELL_FORMED = re.compile(r"[0-9A-Za-z_-]{40,80}")
_TOKENS = "API Tokens"
_USER, _UNKNOWN = "/user", 401
# How many tokens a user and an account may have. Only Enterprise customers have more, and no API shows how many:
# https://developers.cloudflare.com/fundamentals/api/reference/limits/
MOST_USER_TOKENS, MOST_ACCOUNT_TOKENS = 50, 500
TYPES = ("cloudflare:index/apiToken:ApiToken", "cloudflare:index/accountToken:AccountToken")
_MAKES_TOKENS, _MAKES_ACCOUNT_TOKENS = f"{_TOKENS} Write", f"Account {_TOKENS} Write"


def machine_token() -> str:
    """Return the value of `rollcall:machineToken`, or an empty text: then the stack makes a token."""
    return pulumi.runtime.get_config(KEY) or ""


def needed(
    zone: ZoneSettings, *, makes_token: bool, read_only: bool = False, of_account: bool = False
) -> tuple[str, ...]:
    """Return the permission groups that the operator's token needs for a zone with sites.

    `read_only`: a preview, which only reads. A token `of_account` makes others of its account.
    """
    makes = (_MAKES_ACCOUNT_TOKENS if of_account else _MAKES_TOKENS,) if makes_token else ()
    closed = ("SSL and Certificates Write",) if zone.proxied else ()
    settings = ("Zone Settings Write",) if zone_settings(zone) else ()
    for_account = () if zone.account_id else ("Account Settings Read",)
    made = ("Zone Write", *for_account) if zone.create else ("Zone Read",)
    wanted = (*made, "DNS Write", *closed, *settings, *makes)
    return tuple(each.replace(" Write", " Read") for each in wanted) if read_only else wanted


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A token that Cloudflare accepts, by its id. `owner` is the path of its owner: `/user`, or `/accounts/ID`."""

    id: str
    owner: str

    @property
    def account(self) -> str:
        """The id of the account that owns it; empty for a user's token."""
        return self.owner.removeprefix("/accounts/") if self.owner != _USER else ""


def verified(api: CloudflareApi, accounts: Callable[[], Iterable[str]]) -> Verified:
    """Return the token that `api` uses. `accounts` are the ids of those that may own it. Raises the errors of CloudflareApi.

    A user's token is known at one address and an account's at another:
    https://developers.cloudflare.com/fundamentals/api/get-started/account-owned-tokens/
    """
    try:
        return _active(api, _USER)
    except ApiRefusedError as unknown:
        if unknown.status != _UNKNOWN:
            raise
        for account in accounts():
            with contextlib.suppress(ApiRefusedError):
                return _active(api, f"/accounts/{account}")
        if _works(api):
            raise InactiveError(
                f"{api.key}: the token is an account's, and sees neither the site's zone nor its account, so what it may do is unknown. "
                "Give it Zone Read for the zone, or Account Settings Read."
            ) from unknown
        raise


def _works(api: CloudflareApi) -> bool:
    """Return whether Cloudflare answers a request with the token, even with an empty result."""
    try:
        api.get("/zones", per_page="5")
    except ApiRefusedError:
        return False
    return True


def accounts_seen(api: CloudflareApi, zones: Iterable[ZoneSettings]) -> list[str]:
    """Return the ids of the accounts that the token can see.

    These are the accounts of the zones, those that it may list, and the configured ones.
    """
    found: list[str] = []
    for zone in zones:
        found += [zone.account_id] if zone.account_id else []
        with contextlib.suppress(ApiRefusedError):
            found += [str(each["account"]["id"]) for each in api.all("/zones", name=zone.zone)]
    with contextlib.suppress(ApiRefusedError):
        found += [str(each["id"]) for each in api.all("/accounts")]
    return list(dict.fromkeys(found))


class InactiveError(Exception):
    """Cloudflare knows this token, and it does not work now, or its state cannot be known.

    The message is for people.
    """


def _active(api: CloudflareApi, owner: str) -> Verified:
    found = api.get(f"{owner}/tokens/verify")
    status, begins = found.get("status"), found.get("not_before")
    if status == "expired":
        raise InactiveError(
            f"{api.key}: the token has expired ({found.get('expires_on')}). Make another, or extend it."
        )
    if status != "active":
        raise InactiveError(f"{api.key}: the token is {status}. Enable it, or give another.")
    if begins and datetime.fromisoformat(begins) > datetime.now(UTC):
        raise InactiveError(f"{api.key}: the token works from {begins} on. Wait, or give another.")
    return Verified(id=str(found["id"]), owner=owner)


def operator_fault(api: CloudflareApi, own: Verified, wanted: tuple[str, ...]) -> str | None:
    """Return which of `wanted` the operator's token may not do. Raises the errors of CloudflareApi.

    A token that may not read its own permissions cannot make other tokens either. Otherwise only a try can show it.
    """
    permission = next((each for each in wanted if _TOKENS in each), None)
    try:
        granted = granted_to(api, own)
    except ApiRefusedError as refused:
        if not refused.permission:
            raise
        return permission and (
            f"{api.key}: may make no token for the machines (HTTP {refused.status}). Give it {_scoped(own, permission)}, or make one with "
            f"DNS Write and `pulumi config set --secret {KEY}`."
        )
    lacking = [each for each in wanted if granted and not {each, each.replace(" Read", " Write")} & granted]
    return f"{api.key}: lacks {', '.join(lacking)}. Edit its permissions." if lacking else None


def granted_to(api: CloudflareApi, own: Verified) -> frozenset[str]:
    """Return the permission groups of a token. Raises the errors of CloudflareApi: few tokens may read their own permissions."""
    found = api.get(f"{own.owner}/tokens/{own.id}")
    allowing = (each for each in found.get("policies") or [] if each.get("effect") == "allow")
    return frozenset(str(group.get("name")) for policy in allowing for group in policy["permission_groups"])


def room_faults(api: CloudflareApi, owner: str, settings: Settings, state: PriorState) -> list[str]:
    """Return a fault if the owner may not have another token for each zone that is new in the stack. `owner` is its path.

    An operator's token that may not list tokens finds none. Raises the errors of CloudflareApi.
    """
    zones = [each for each in zones_of(settings) if not each.is_dynamic]
    new = [each for each in zones if not any((kind, f"machines-{each.zone}") in state for kind in TYPES)]
    if not new:
        return []
    try:
        there = len(api.all(f"{owner}/tokens"))
    except ApiRefusedError as refused:
        if not refused.permission:
            raise
        return []
    most = MOST_USER_TOKENS if owner == _USER else MOST_ACCOUNT_TOKENS
    # A quota that is exceeded already was raised.
    if there + len(new) <= most or there > most:
        return []
    kind = "a user" if owner == _USER else "an account"
    return [
        f"{new[0].sites[0].key}.zone: the owner of the Cloudflare token has {there} tokens, the stack makes {len(new)} for its machines, "
        f"and {kind} may have {most}. Delete tokens that are not used, or set {KEY}."
    ]


def _scoped(own: Verified, group: str) -> str:
    """Return a permission group as Cloudflare's dashboard shows it, below its scope."""
    return group if own.account else f"User {group}"


def machine_fault(api: CloudflareApi, zone: str, name: str, accounts: Iterable[str]) -> str | None:
    """Return what is wrong with a machine token that was made elsewhere, which `api` uses. Raises the errors of CloudflareApi.

    `zone` is the id of the zone with this `name`, empty where it does not exist yet. `accounts` may own the token.
    """
    if not pulumi.runtime.is_config_secret(KEY):
        return f"{KEY}: is in plain text. Run `pulumi config set --secret {KEY}`, and revoke this one."
    if not _WELL_FORMED.fullmatch(machine_token()):
        return f"{KEY}: is not an API token (40 to 80 of 0-9 A-Z a-z - _). Give one with DNS Write for the zone."
    verified(api, lambda: accounts)
    if zone:
        try:
            api.call("GET", f"/zones/{zone}/dns_records", query={"per_page": "1"})
        except ApiRefusedError as refused:
            if not refused.permission:
                raise
            return f"{KEY}: the token may not read the records of {name} (HTTP {refused.status}). Give it DNS Write for this zone."
    return None
