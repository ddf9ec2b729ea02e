"""Check the site's Cloudflare zone with the operator's token: which zone it is, and whether names in it resolve.

https://developers.cloudflare.com/dns/zone-setups/reference/domain-status/ ,
https://developers.cloudflare.com/dns/zone-setups/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.config.models import SITE_JOIN, Settings, SiteSettings
from components.dns.cloudflare_api import ApiRefusedError, CloudflareApi
from components.preflight.dns_conflicts import CHALLENGES
from components.resources.site import apex_comment
from rollcall.ownership import Owner

_REASONS = {
    "pending": "its registrar does not name Cloudflare's name servers yet",
    "initializing": "Cloudflare is still setting it up",
    "moved": "its registrar names other name servers than Cloudflare's now",
}
_NO_SUCH_ZONE = (403, 404)
_FREE_SINCE_2024, _FREE_BEFORE, _UNLIMITED = 200, 1000, 1_000_000
_PAID = {"pro": 3500, "business": 3500}


@dataclass(frozen=True, kw_only=True)
class SiteZone:
    """A zone as the API shows it. `account` is the id of the account that has it."""

    id: str
    name: str
    status: str
    paused: bool
    type: str
    account: str
    account_name: str
    plan: str = ""
    created_on: str = ""
    name_servers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.id} in account {self.account_name} ({self.account}), {self.status}"


def named(api: CloudflareApi, site: SiteSettings) -> list[SiteZone]:
    """Return the zones that the settings may mean. Raises the errors of CloudflareApi."""
    if not site.zone_id:
        return [_zone(each) for each in api.all("/zones", name=site.zone)]
    try:
        return [_zone(api.get(f"/zones/{site.zone_id}"))]
    except ApiRefusedError as refused:
        if refused.status not in _NO_SUCH_ZONE:
            raise
        return []


def choice_fault(site: SiteSettings, zones: Sequence[SiteZone]) -> str | None:
    """Return why the settings do not mean exactly one zone. No zone is right where one will be created."""
    if site.zone_id and not zones:
        return f"rollcall:site.zoneId: this Cloudflare token sees no zone {site.zone_id}. Correct the id, or give the token the zone."
    if site.zone_id and zones[0].name != site.zone:
        return f"rollcall:site.zoneId: {site.zone_id} is the zone {zones[0].name}, not {site.zone}. Correct the one or the other."
    if len(zones) > 1:
        listed = "; ".join(str(each) for each in zones)
        return f"rollcall:site.zone: {len(zones)} zones are called {site.zone}: {listed}. Set rollcall:site.zoneId to one of these ids."
    if not zones and not site.create:
        fix = "Add the zone there, correct the name, or set create: true"
        return f"rollcall:site.zone: {site.zone} is not in the account of this Cloudflare token. {fix}."
    return None


def is_joined(settings: Settings) -> bool:
    """Return whether machines will be at the site's host."""
    return any(fleet.count for fleet in settings.fleets if SITE_JOIN in fleet.joins)


def answer_fault(site: SiteSettings, zone: SiteZone | None) -> str | None:
    """Return why the site's host would not be answered with the machines, or with the edge.

    `zone` None: it will be created.
    """
    if zone is None:
        return (
            f"rollcall:site.create: the zone {site.zone} is to be made, and no name in it resolves before its registrar names "
            "Cloudflare's name servers. Set the count of the fleets that join the site to 0 for one `pulumi up`, name the servers, and set "
            "the counts when the zone is active."
        )
    if zone.status != "active":
        servers = ", ".join(zone.name_servers) or "those that Cloudflare shows"
        return (
            f"rollcall:site.zone: {zone.name} is {zone.status}: {_REASONS.get(zone.status, 'it is not active')}, so no name in it "
            f"resolves. Set its name servers to {servers} at the registrar, and run it again when the zone is active."
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


def room_fault(api: CloudflareApi, settings: Settings, site: SiteSettings, zone: SiteZone) -> str | None:
    """Return why the zone's plan has no room for the machines' records beside the existing ones. Raises the errors of CloudflareApi.

    Cloudflare counts all records of a zone: https://developers.cloudflare.com/dns/manage-dns-records/#dns-records-quota
    """
    limit = max(site.max_records, _limit_of_plan(zone))
    listed = api.all(f"/zones/{zone.id}/dns_records", per_page=500)
    others = sum(not _is_ours(each, settings, site) for each in listed)
    needed = records_needed(settings)
    if others + needed <= limit or len(listed) > limit:
        return None
    return (
        f"rollcall:site.maxRecords: the zone has {others} records of others, and the stack takes up to {needed} while its largest fleet is "
        f"replaced; the plan holds {limit}. Delete some, lower the counts, or set rollcall:site.maxRecords to what the plan holds."
    )


def records_needed(settings: Settings) -> int:
    """Return the most records that the stack has in the site's zone: each machine's, the largest fleet's twice, and the apex."""
    records = [fleet.count * (2 if fleet.ipv6 else 1) for fleet in settings.fleets if SITE_JOIN in fleet.joins]
    return sum(records) + max(records, default=0) + 1


def _limit_of_plan(zone: SiteZone) -> int:
    """Return the known quota of the zone. If it was raised, only its owner knows that."""
    if zone.plan == "free":
        return _FREE_SINCE_2024 if zone.created_on >= "2024-09" else _FREE_BEFORE
    return _PAID.get(zone.plan, _UNLIMITED)


def _is_ours(record: Mapping[str, Any], settings: Settings, site: SiteSettings) -> bool:
    owner = Owner.parse(str(record.get("comment") or ""))
    name = str(record.get("name"))
    apex = name == site.zone and record.get("comment") == apex_comment(settings.stack)
    return apex or (owner is not None and owner.stack == settings.stack) or name.endswith(f".{CHALLENGES}.{site.fqdn}")


def account_fault(api: CloudflareApi, site: SiteSettings) -> str | None:
    """Return why the account for a new zone is not exactly one. Raises the errors of CloudflareApi."""
    accounts = {str(each["id"]): str(each.get("name")) for each in api.all("/accounts")}
    if site.account_id:
        known = site.account_id in accounts or not accounts
        return (
            None
            if known
            else f"rollcall:site.accountId: this Cloudflare token sees no account {site.account_id}. {_choose(accounts)}."
        )
    if not accounts:
        return (
            "rollcall:site.create: this Cloudflare token sees no account to make the zone in. Give it Account Settings Read, or set "
            "rollcall:site.accountId."
        )
    return (
        f"rollcall:site.create: this Cloudflare token sees {len(accounts)} accounts. {_choose(accounts)}."
        if len(accounts) > 1
        else None
    )


def _choose(accounts: Mapping[str, str]) -> str:
    listed = ", ".join(f"{each} ({name})" for each, name in sorted(accounts.items(), key=lambda item: item[1]))
    return f"Set rollcall:site.accountId to one of {listed}"


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
        plan=str((found.get("plan") or {}).get("legacy_id") or ""),
        created_on=str(found.get("created_on") or ""),
        name_servers=tuple(found.get("name_servers") or ()),
    )
