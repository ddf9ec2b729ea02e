"""What an operator does in a Cloudflare zone beside what machines do: find it, and write a record's comment alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components import sitezone
from components.cloudflareapi import CloudflareApi
from components.settings import Settings, SiteSettings
from rollcall.cloudflare import CloudflareStore, Record
from rollcall.errors import FatalError


class ZoneStore(CloudflareStore):
    """Raises the errors of CloudflareApi, whose retries it has."""

    def __init__(self, token: str, url: str = "") -> None:
        super().__init__(token, url)
        self._api = CloudflareApi(self._url, token)

    def zone(self, site: SiteSettings) -> str | None:
        """Cloudflare's id of the site's zone; None where the token sees none. Raises FatalError where it is not one."""
        found = sitezone.named(self._api, site)
        fault = sitezone.choice_fault(site, found) if found else None
        if fault:
            raise FatalError(fault)
        return found[0].id if found else None

    def room_faults(self, settings: Settings, site: SiteSettings) -> list[str]:
        """Why the site's zone would not hold the machines' records, if any are to be there."""
        if not sitezone.is_joined(settings):
            return []
        faults = (sitezone.room_fault(self._api, settings, site, each) for each in sitezone.named(self._api, site))
        return [fault for fault in faults if fault]

    def comment(self, record: Record, text: str) -> None:
        """Set the comment. Nothing else is sent, so nothing else can change.

        https://developers.cloudflare.com/api/resources/dns/subresources/records/methods/edit/
        """
        self._call("PATCH", f"/zones/{record.zone}/dns_records/{record.id}", {"comment": text})

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        gone_is_fine: bool = False,
    ) -> Mapping[str, Any]:
        return self._api.call(method, path, body, query=query)
