"""Plans and DNS records as values."""

from __future__ import annotations

import datetime
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PROXIABLE = ("A", "AAAA", "CNAME")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a zone's plan allows. `legacy_id` is how the API names it; `records` and `batch` count records,
    `comment` characters, `tags` tags a record.

    https://developers.cloudflare.com/dns/manage-dns-records/#dns-records-quota, .../reference/record-attributes/,
    .../how-to/batch-record-changes/
    """

    legacy_id: str
    name: str
    records: int
    batch: int = 3500
    comment: int = 500
    tags: int = 20
    price: int = 0

    @property
    def paid(self) -> bool:
        return self.legacy_id != "free"

    def body(self) -> dict[str, Any]:
        known = {"free": "0feeeeeeeeeeeeeeeeeeeeeeeeeeeeee"}
        return {
            "id": known.get(self.legacy_id) or hashlib.sha256(self.name.encode()).hexdigest()[:32],
            "name": self.name,
            "price": self.price,
            "currency": "USD",
            "frequency": "monthly" if self.price else "",
            "is_subscribed": self.paid,
            "can_subscribe": True,
            "legacy_id": self.legacy_id,
            "legacy_discount": False,
            "externally_managed": False,
        }


# Zones of the free plan made before September 2024 keep their 1,000 records.
PLANS: Mapping[str, Plan] = {
    "free": Plan(legacy_id="free", name="Free Website", records=200, batch=200, comment=100, tags=0),
    "free-1000": Plan(legacy_id="free", name="Free Website", records=1000, batch=200, comment=100, tags=0),
    "pro": Plan(legacy_id="pro", name="Pro Website", records=3500, price=20),
    "business": Plan(legacy_id="business", name="Business Website", records=3500, price=200),
    "enterprise": Plan(legacy_id="enterprise", name="Enterprise Website", records=1_000_000),
}


@dataclass(frozen=True, kw_only=True)
class Fields:
    """What a client decides of a record. `ttl` is in seconds, 1 for automatic; `data` only where the type has it."""

    name: str
    type: str
    content: str
    ttl: int = 1
    proxied: bool = False
    comment: str | None = None
    tags: tuple[str, ...] = ()
    priority: int | None = None
    data: Mapping[str, Any] | None = None
    settings: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Record:
    """A record of a zone; the stamps are seconds since the epoch."""

    id: str
    fields: Fields
    created_on: float
    modified_on: float
    comment_modified_on: float | None = None
    tags_modified_on: float | None = None

    def body(self) -> dict[str, Any]:
        """As the API shows it."""
        fields = self.fields
        body: dict[str, Any] = {
            "id": self.id,
            "name": fields.name,
            "type": fields.type,
            "content": fields.content,
            "proxiable": fields.type in PROXIABLE,
            "proxied": fields.proxied,
            "ttl": fields.ttl,
            "settings": dict(fields.settings),
            "meta": {},
            "comment": fields.comment,
            "tags": list(fields.tags),
            "created_on": stamp(self.created_on),
            "modified_on": stamp(self.modified_on),
        }
        if fields.priority is not None:
            body["priority"] = fields.priority
        if fields.data is not None:
            body["data"] = dict(fields.data)
        if self.comment_modified_on is not None:
            body["comment_modified_on"] = stamp(self.comment_modified_on)
        if self.tags_modified_on is not None:
            body["tags_modified_on"] = stamp(self.tags_modified_on)
        return body


def new_id() -> str:
    """An identifier of Cloudflare's: 32 hex digits."""
    return secrets.token_hex(16)


def stamp(seconds: float) -> str:
    """RFC 3339 in UTC with microseconds, as the API writes times."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def day_stamp(seconds: float) -> str:
    """RFC 3339 in UTC with whole seconds, as tokens have it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
