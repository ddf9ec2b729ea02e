"""The site's Cloudflare zone as the operator's token sees it: which one it is, and whether a site can be in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.cloudflareapi import CloudflareApi
from components.settings import SiteSettings


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


def named(api: CloudflareApi, site: SiteSettings) -> list[SiteZone]:
    """The zones that the settings may mean. Raises the errors of CloudflareApi."""
    return [_zone(each) for each in api.all("/zones", name=site.zone)]


def fault(site: SiteSettings, zones: Sequence[SiteZone]) -> str | None:
    """What keeps the site from being in these zones, of which it takes the first."""
    if not zones and not site.create:
        mend = "add the zone there, correct the name, or set create: true"
        return f"rollcall:site.zone: {site.zone} is not in the account of this Cloudflare token; {mend}"
    return None


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
    )
