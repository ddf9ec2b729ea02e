"""Check a Cloudflare zone with sites with the operator's token: which zone it is, and whether names in it resolve.

https://developers.cloudflare.com/dns/zone-setups/reference/domain-status/ ,
https://developers.cloudflare.com/dns/zone-setups/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.config.models import Settings
from components.config.site_zones import ZoneSettings, records_needed, records_of
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
class FoundZone:
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


def named(api: CloudflareApi, zone: ZoneSettings) -> list[FoundZone]:
    """Return the zones that the settings may mean. Raises the errors of CloudflareApi."""
    if not zone.zone_id:
        return [_zone(each) for each in api.all("/zones", name=zone.zone)]
    try:
        return [_zone(api.get(f"/zones/{zone.zone_id}"))]
    except ApiRefusedError as refused:
        if refused.status not in _NO_SUCH_ZONE:
            raise
        return []


def choice_fault(zone: ZoneSettings, found: Sequence[FoundZone]) -> str | None:
    """Return why the settings do not mean exactly one zone. No zone is right where one will be created."""
    of_id, of_name = zone.key("zone_id"), f"{zone.sites[0].key}.zone"
    if zone.zone_id and not found:
        return (
            f"{of_id}: this Cloudflare token sees no zone {zone.zone_id}. Correct the id, or give the token the zone."
        )
    if zone.zone_id and found[0].name != zone.zone:
        return f"{of_id}: {zone.zone_id} is the zone {found[0].name}, not {zone.zone}. Correct the one or the other."
    if len(found) > 1:
        listed = "; ".join(str(each) for each in found)
        return f"{of_name}: {len(found)} zones are called {zone.zone}: {listed}. Set {of_id} to one of these ids."
    if not found and not zone.create:
        fix = "Add the zone there, correct the name, or set create: true"
        return f"{of_name}: {zone.zone} is not in the account of this Cloudflare token. {fix}."
    return None


def is_joined(settings: Settings, zone: ZoneSettings) -> bool:
    """Return whether machines will be at a host of the zone."""
    return any(records_of(settings, zone))


def answer_fault(zone: ZoneSettings, found: FoundZone | None) -> str | None:
    """Return why the hosts of a zone would not be answered with the machines, or with the edge.

    `found` None: it will be created.
    """
    of_name = f"{zone.sites[0].key}.zone"
    if found is None:
        return (
            f"{zone.key('create')}: the zone {zone.zone} is to be made, and no name in it resolves before its registrar names "
            "Cloudflare's name servers. Set the count of the fleets that join its sites to 0 for one `pulumi up`, name the servers, and "
            "set the counts when the zone is active."
        )
    if found.status != "active":
        servers = ", ".join(found.name_servers) or "those that Cloudflare shows"
        return (
            f"{of_name}: {found.name} is {found.status}: {_REASONS.get(found.status, 'it is not active')}, so no name in it resolves. "
            f"Set its name servers to {servers} at the registrar, and run it again when the zone is active."
        )
    if found.type not in ("", "full") and not (found.type == "partial" and all(each.proxied for each in zone.sites)):
        return (
            f"{of_name}: {found.name} is a {found.type} zone. Cloudflare does not answer its records as the machines write them. "
            "Make it a full one."
        )
    if found.paused and zone.proxied:
        return (
            f"{zone.key('proxied')}: {found.name} is paused, so Cloudflare answers with the machines' own addresses, and they let in "
            "its edge only. Resume the zone, or set proxied: false."
        )
    return None


def room_fault(api: CloudflareApi, settings: Settings, zone: ZoneSettings, found: FoundZone) -> str | None:
    """Return why the zone's plan has no room for the machines' records beside the existing ones. Raises the errors of CloudflareApi.

    Cloudflare counts all records of a zone: https://developers.cloudflare.com/dns/manage-dns-records/#dns-records-quota
    """
    limit, key = max(zone.max_records, _limit_of_plan(found)), zone.key("max_records")
    listed = api.all(f"/zones/{found.id}/dns_records", per_page=500)
    others = sum(not _is_ours(each, settings, zone) for each in listed)
    needed = records_needed(settings, zone)
    if others + needed <= limit or len(listed) > limit:
        return None
    return (
        f"{key}: the zone has {others} records of others, and the stack takes up to {needed} while its largest fleet is "
        f"replaced; the plan holds {limit}. Delete some, lower the counts, or set {key} to what the plan holds."
    )


def _limit_of_plan(zone: FoundZone) -> int:
    """Return the known quota of the zone. If it was raised, only its owner knows that."""
    if zone.plan == "free":
        return _FREE_SINCE_2024 if zone.created_on >= "2024-09" else _FREE_BEFORE
    return _PAID.get(zone.plan, _UNLIMITED)


def _is_ours(record: Mapping[str, Any], settings: Settings, zone: ZoneSettings) -> bool:
    owner = Owner.parse(str(record.get("comment") or ""))
    name = str(record.get("name"))
    apex = name == zone.zone and record.get("comment") == apex_comment(settings.stack)
    challenge = any(name.endswith(f".{CHALLENGES}.{each.fqdn}") for each in zone.sites)
    return apex or (owner is not None and owner.stack == settings.stack) or challenge


def account_fault(api: CloudflareApi, zone: ZoneSettings) -> str | None:
    """Return why the account for a new zone is not exactly one. Raises the errors of CloudflareApi."""
    accounts = {str(each["id"]): str(each.get("name")) for each in api.all("/accounts")}
    of_account, create = zone.key("account_id"), zone.key("create")
    if zone.account_id:
        known = zone.account_id in accounts or not accounts
        return (
            None
            if known
            else f"{of_account}: this Cloudflare token sees no account {zone.account_id}. {_choose(of_account, accounts)}."
        )
    if not accounts:
        return (
            f"{create}: this Cloudflare token sees no account to make the zone in. Give it Account Settings Read, or set "
            f"{of_account}."
        )
    return (
        f"{create}: this Cloudflare token sees {len(accounts)} accounts. {_choose(of_account, accounts)}."
        if len(accounts) > 1
        else None
    )


def _choose(key: str, accounts: Mapping[str, str]) -> str:
    listed = ", ".join(f"{each} ({name})" for each, name in sorted(accounts.items(), key=lambda item: item[1]))
    return f"Set {key} to one of {listed}"


def _zone(found: Mapping[str, Any]) -> FoundZone:
    account = found.get("account") or {}
    return FoundZone(
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
