"""What an operator does in a Cloudflare zone beside what machines do: find it by name, and write a record's comment alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.cloudflareapi import CloudflareApi
from rollcall.cloudflare import CloudflareStore, Record


class ZoneStore(CloudflareStore):
    """Raises the errors of CloudflareApi, whose retries it has."""

    def __init__(self, token: str, url: str = "") -> None:
        super().__init__(token, url)
        self._api = CloudflareApi(self._url, token)

    def zone(self, name: str) -> str | None:
        """Cloudflare's id of the zone; None where the token sees none of this name."""
        found = self._api.all("/zones", name=name)
        return str(found[0]["id"]) if found else None

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
