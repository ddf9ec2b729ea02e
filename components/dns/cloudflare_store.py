"""List and remove the DNS records of Cloudflare zones with the operator's token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.dns.cloudflare_api import ApiRefusedError, CloudflareApi
from components.dns.deleted_zones import ZoneGoneError
from rollcall.cloudflare import CloudflareStore

# What Cloudflare answers where there is no such record, and no such zone: localcloud/cloudflare/errors.py names where
# each was seen. Older replies have HTTP 400 instead of 404:
# https://github.com/cloudflare/terraform-provider-cloudflare/issues/192
_NO_RECORD = (81044, 1002)
_NO_ZONE = (1001, 7003)
_MISSING = (400, 404)


class RecordStore(CloudflareStore):
    """The records of Cloudflare zones. Raises the errors of CloudflareApi, and ZoneGoneError for a deleted zone.

    With `retries` CloudflareApi repeats a request; without, the caller does.
    """

    def __init__(self, token: str, url: str = "", *, retries: bool = True) -> None:
        super().__init__(token, url)
        self._api = CloudflareApi(self._url, token)
        self._retries = retries

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        gone_is_fine: bool = False,
    ) -> Mapping[str, Any]:
        try:
            return self._api.call(method, path, body, query=query, retries=self._retries)
        except ApiRefusedError as refused:
            missing = refused.status in _MISSING
            if gone_is_fine and missing and (refused.status == 404 or refused.code in _NO_RECORD + _NO_ZONE):
                return {}
            if method == "GET" and _says_no_zone(refused):
                check_address(self._api, retries=self._retries)
                raise ZoneGoneError(f"Cloudflare has no zone {path.split('/')[2]} any more: {refused}") from refused
            raise


def is_zone_gone(api: CloudflareApi, zone: str) -> bool:
    """Return whether Cloudflare has no zone with this id.

    Raises the errors of CloudflareApi where it cannot be known.
    """
    try:
        api.get(f"/zones/{zone}")
    except ApiRefusedError as refused:
        if not _says_no_zone(refused):
            raise
        check_address(api)
        return True
    return False


def check_address(api: CloudflareApi, *, retries: bool = True) -> None:
    """Raise unless the token works at this address.

    Cloudflare answers 7003 to every path that it does not know, also where CLOUDFLARE_BASE_URL has a wrong path. Then
    the answer proves nothing about a zone.
    """
    api.call("GET", "/zones", query={"per_page": "5"}, retries=retries)


def _says_no_zone(refused: ApiRefusedError) -> bool:
    return refused.status in _MISSING and refused.code in _NO_ZONE
