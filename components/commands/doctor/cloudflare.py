"""Check Cloudflare: the operator's token, what it may do, and the zones."""

from __future__ import annotations

from collections.abc import Iterator

from components.commands.doctor.aws import sealed
from components.commands.doctor.engine import STACK
from components.commands.doctor.environment import Environment
from components.commands.doctor.points import Check, Finding, not_proven, ok, wrong
from components.config.site_zones import ZoneSettings, zones_of
from components.dns.cloudflare_access import (
    CLOUDFLARE_KEYS,
    cloudflare_faults,
    cloudflare_token,
    cloudflare_token_key,
    cloudflare_url,
)
from components.dns.cloudflare_api import ApiFailingError, ApiRefusedError, CloudflareApi
from components.preflight import cloudflare_tokens, cloudflare_zone
from components.preflight.credentials import CloudflareFound, cloudflare_found

AREA = "Cloudflare"
TOKEN = "Cloudflare token"


def checks(env: Environment) -> list[Check]:
    return [Check(area=AREA, name=TOKEN, run=lambda: token(env), needs=(STACK,))]


def zones(env: Environment) -> tuple[ZoneSettings, ...]:
    return zones_of(env.settings.without_dynamic_zones())


def token(env: Environment) -> Iterator[Finding]:
    """Check the token for each zone as `up` does, and say whose it is."""
    listed = zones(env)
    if not listed:
        yield ok("Cloudflare is not used")
        return
    if key := sealed(env, *CLOUDFLARE_KEYS, cloudflare_tokens.KEY):
        yield not_proven(f"{key}: cannot be decrypted. Correct the passphrase or the secrets provider first.")
        return
    if faults := cloudflare_faults(env.get):
        yield from (wrong(each) for each in faults)
        return
    for zone in listed:
        joined = cloudflare_zone.is_joined(env.settings, zone)
        found = cloudflare_found(zone, joined=joined, others=listed)
        if found.fault:
            yield not_proven(found.fault) if found.is_failing else wrong(found.fault)
        else:
            yield ok(f"{zone.zone}: {_owner(env, zone, found)}", f"{TOKEN} for {zone.zone}")
            yield from _unproven(env, zone)


def _owner(env: Environment, zone: ZoneSettings, found: CloudflareFound) -> str:
    """Return where the token comes from and the account of the zone."""
    listed = cloudflare_zone.named(_api(env), zone)
    where = f"account {listed[0].account_name} ({listed[0].account})" if listed else "a zone that is to be made"
    by = f"account {found.token_account}" if found.token_account else "a user"
    return f"{where}, token of {by}, from {cloudflare_token_key(env.get)}"


def _unproven(env: Environment, zone: ZoneSettings) -> Iterator[Finding]:
    """Yield what harmless reads cannot show, if the token may not read its own permissions.

    https://developers.cloudflare.com/api/resources/user/subresources/tokens/methods/get/ needs *API Tokens Read*.
    """
    api, name = _api(env), f"{TOKEN} for {zone.zone}"
    try:
        own = cloudflare_tokens.verified(api, lambda: cloudflare_tokens.accounts_seen(api, (zone,)))
        try:
            cloudflare_tokens.granted_to(api, own)
            return
        except ApiRefusedError as refused:
            if not refused.permission:
                raise
        for found in cloudflare_zone.named(api, zone):
            api.call("GET", f"/zones/{found.id}/dns_records", query={"per_page": "1"})
    except (ApiRefusedError, cloudflare_tokens.InactiveError) as refused:
        yield wrong(str(refused), name)
        return
    except ApiFailingError as failing:
        yield not_proven(str(failing), name)
        return
    wanted = ", ".join(cloudflare_tokens.needed(zone, makes_token=False))
    yield not_proven(
        f"{api.key}: the token reads {zone.zone}, but may not read its own permissions, so it is not known whether it may write. "
        f"Check in the dashboard that it has {wanted}, or give it User API Tokens Read.",
        name,
    )


def _api(env: Environment) -> CloudflareApi:
    return CloudflareApi(cloudflare_url(env.get), cloudflare_token(env.get), cloudflare_token_key(env.get))


def zone_found(env: Environment, zone: ZoneSettings) -> cloudflare_zone.FoundZone | None:
    """Return the zone as Cloudflare has it. Raises the errors of CloudflareApi."""
    return next(iter(cloudflare_zone.named(_api(env), zone)), None)
