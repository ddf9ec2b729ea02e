"""The site's Cloudflare zone as the operator's token sees it: which one it is, and whether names in it resolve.

https://developers.cloudflare.com/dns/zone-setups/reference/domain-status/ , https://developers.cloudflare.com/dns/zone-setups/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.cloudflareapi import ApiRefusedError, CloudflareApi
from components.settings import SITE_JOIN, Settings, SiteSettings

_WHY = {
    "pending": "its registrar does not name Cloudflare's name servers yet",
    "initializing": "Cloudflare is still setting it up",
    "moved": "its registrar names other name servers than Cloudflare's now",
}
_NO_SUCH_ZONE = (403, 404)


@dataclass(frozen=True, kw_only=True)
class SiteZone:
    """A zone as the API shows it; `account` is the id of the account that has it."""

    id: str
    name: str
    status: str
    paused: bool
    type: str
    account: str
    account_name: str
    name_servers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.id} in account {self.account_name} ({self.account}), {self.status}"


def named(api: CloudflareApi, site: SiteSettings) -> list[SiteZone]:
    """The zones that the settings may mean. Raises the errors of CloudflareApi."""
    if not site.zone_id:
        return [_zone(each) for each in api.all("/zones", name=site.zone)]
    try:
        return [_zone(api.get(f"/zones/{site.zone_id}"))]
    except ApiRefusedError as refused:
        if refused.status not in _NO_SUCH_ZONE:
            raise
        return []


def choice_fault(site: SiteSettings, zones: Sequence[SiteZone]) -> str | None:
    """Why it is not one zone that the settings mean; none is right where one is to be made."""
    if site.zone_id and not zones:
        return f"rollcall:site.zoneId: this Cloudflare token sees no zone {site.zone_id}. Correct the id, or give the token the zone."
    if site.zone_id and zones[0].name != site.zone:
        return f"rollcall:site.zoneId: {site.zone_id} is the zone {zones[0].name}, not {site.zone}. Correct the one or the other."
    if len(zones) > 1:
        listed = "; ".join(str(each) for each in zones)
        return f"rollcall:site.zone: {len(zones)} zones are called {site.zone}: {listed}. Set rollcall:site.zoneId to one of these ids."
    if not zones and not site.create:
        mend = "add the zone there, correct the name, or set create: true"
        return f"rollcall:site.zone: {site.zone} is not in the account of this Cloudflare token; {mend}"
    return None


def is_joined(settings: Settings) -> bool:
    """Whether machines are to be at the site's host."""
    return any(fleet.count for fleet in settings.fleets if SITE_JOIN in fleet.joins)


def answer_fault(site: SiteSettings, zone: SiteZone | None) -> str | None:
    """Why the site's host would not be answered with the machines, or with the edge; `zone` is None where it is to be made."""
    if zone is None:
        return (
            f"rollcall:site.create: the zone {site.zone} is to be made, and no name in it resolves before its registrar names "
            "Cloudflare's name servers. Set the count of the fleets that join the site to 0 for one `pulumi up`, name the servers, and set "
            "the counts when the zone is active."
        )
    if zone.status != "active":
        servers = ", ".join(zone.name_servers) or "those that Cloudflare shows"
        return (
            f"rollcall:site.zone: {zone.name} is {zone.status}: {_WHY.get(zone.status, 'it is not active')}, so no name in it resolves. "
            f"Set its name servers to {servers} at the registrar, and run it again when the zone is active."
        )
    if zone.type not in ("", "full") and not (zone.type == "partial" and site.proxied):
        return (
            f"rollcall:site.zone: {zone.name} is a {zone.type} zone, whose records Cloudflare does not answer as the machines write them. "
            "Make it a full one."
        )
    if zone.paused and site.proxied:
        return (
            f"rollcall:site.proxied: {zone.name} is paused, so Cloudflare answers with the machines' own addresses, and they let in "
            "its edge only. Resume the zone, or set proxied: false."
        )
    return None


def account_fault(api: CloudflareApi, site: SiteSettings) -> str | None:
    """Why it is not one account in which a new zone is to be made. Raises the errors of CloudflareApi."""
    accounts = {str(each["id"]): str(each.get("name")) for each in api.all("/accounts")}
    if site.account_id:
        known = site.account_id in accounts or not accounts
        return (
            None
            if known
            else f"rollcall:site.accountId: this Cloudflare token sees no account {site.account_id}. {_choose(accounts)}"
        )
    if not accounts:
        return (
            "rollcall:site.create: this Cloudflare token sees no account to make the zone in. Give it Account Settings Read, or set "
            "rollcall:site.accountId."
        )
    return (
        f"rollcall:site.create: this Cloudflare token sees {len(accounts)} accounts. {_choose(accounts)}"
        if len(accounts) > 1
        else None
    )


def _choose(accounts: Mapping[str, str]) -> str:
    listed = ", ".join(f"{each} ({name})" for each, name in sorted(accounts.items(), key=lambda item: item[1]))
    return f"Set rollcall:site.accountId to one of {listed}."


def _zone(found: Mapping[str, Any]) -> SiteZone:
    account = found.get("account") or {}
    return SiteZone(
        id=str(found["id"]),
        name=str(found["name"]),
        status=str(found.get("status") or ""),
        paused=bool(found.get("paused")),
        type=str(found.get("type") or ""),
        account=str(account.get("id") or ""),
        account_name=str(account.get("name") or ""),
        name_servers=tuple(found.get("name_servers") or ()),
    )
