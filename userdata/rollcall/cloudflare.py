"""Cloudflare's DNS records as a store: list the records at a name, create, update, delete. It knows no ownership and does not retry.

https://developers.cloudflare.com/api/resources/dns/subresources/records/
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests

from rollcall.errors import FatalError, TransientError

URL = "https://api.cloudflare.com/client/v4"
_TIMEOUT = (5.0, 15.0)
_PAGE = 500
_MOST_PAGES = 20
_NO_SUCH_RECORD = 81044


@dataclass(frozen=True, order=True, kw_only=True)
class Record:
    """One record, as the API has it. `zone` and `id` are Cloudflare's ids, `ttl` in seconds (1: automatic)."""

    name: str
    type: str
    content: str
    ttl: int = 1
    proxied: bool = False
    comment: str = ""
    zone: str = ""
    id: str = ""


@contextmanager
def _understood() -> Iterator[None]:
    """Raise TransientError for a reply that does not have the API's form. It may come from a proxy, so another try may succeed."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as other:
        raise TransientError(f"reason=garbled-reply api=cloudflare error={type(other).__name__}") from other


class CloudflareStore:
    """The records of the zones that `token` may edit.

    Every method raises TransientError if another try may help (connection, 429 with its Retry-After, 5xx). Otherwise it raises FatalError,
    with the code that Cloudflare returned.
    """

    def __init__(self, token: str, url: str = "") -> None:
        self._url = (url or os.environ.get("CLOUDFLARE_BASE_URL") or URL).rstrip("/")
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"

    @_understood()
    def list(self, zone: str, name: str) -> tuple[Record, ...]:
        """Return every record at `name`, of any type and any owner."""
        found: list[Record] = []
        page, pages = 1, 1
        while page <= min(pages, _MOST_PAGES):
            query = {"name": name, "per_page": str(_PAGE), "page": str(page)}
            body = self._call("GET", f"/zones/{zone}/dns_records", query=query)
            found += [_record(each, zone) for each in body["result"]]
            pages = int((body.get("result_info") or {}).get("total_pages", 1))
            page += 1
        return tuple(found)

    @_understood()
    def create(self, record: Record) -> Record:
        body = self._call("POST", f"/zones/{record.zone}/dns_records", _fields(record))
        return _record(body["result"], record.zone)

    @_understood()
    def update(self, record: Record) -> Record:
        """Change the record with the id of `record` to its values."""
        body = self._call("PATCH", f"/zones/{record.zone}/dns_records/{record.id}", _fields(record))
        return _record(body["result"], record.zone)

    @_understood()
    def delete(self, zone: str, record: str) -> None:
        """Delete a record. It is not an error if the record does not exist any more."""
        self._call("DELETE", f"/zones/{zone}/dns_records/{record}", gone_is_fine=True)

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
            reply = self._session.request(method, self._url + path, params=query, json=body, timeout=_TIMEOUT)
        except requests.RequestException as failed:
            raise TransientError(f"reason=unreachable api=cloudflare error={type(failed).__name__}") from failed
        if reply.status_code == 429 or reply.status_code >= 500:
            after = _seconds(reply.headers.get("Retry-After", ""))
            raise TransientError(f"reason=api-failing api=cloudflare status={reply.status_code}", after)
        try:
            answer: Mapping[str, Any] = reply.json()
        except ValueError as garbled:
            raise TransientError(f"reason=garbled-reply api=cloudflare status={reply.status_code}") from garbled
        if reply.ok:
            return answer
        errors = answer.get("errors") or [{}]
        code, message = errors[0].get("code", 0), str(errors[0].get("message", ""))
        if gone_is_fine and (reply.status_code == 404 or code == _NO_SUCH_RECORD):
            return {}
        raise FatalError(f"reason=refused api=cloudflare status={reply.status_code} code={code} message={message!r}")


def _fields(record: Record) -> dict[str, Any]:
    return {
        "name": record.name,
        "type": record.type,
        "content": record.content,
        "ttl": 1 if record.proxied else record.ttl,
        "proxied": record.proxied,
        "comment": record.comment,
    }


def _record(body: Mapping[str, Any], zone: str) -> Record:
    return Record(
        name=str(body["name"]),
        type=str(body["type"]),
        content=str(body.get("content") or ""),
        ttl=int(body.get("ttl") or 1),
        proxied=bool(body.get("proxied")),
        comment=str(body.get("comment") or ""),
        zone=zone,
        id=str(body["id"]),
    )


def _seconds(text: str) -> float:
    return float(text) if text.isdecimal() else 0.0
