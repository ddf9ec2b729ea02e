"""List the records at a site's host, and write ownership marks of machines beside them: one class for each DNS provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from components.config.models import SiteSettings
from components.config.servers import at_port
from components.config.site_zones import ZoneSettings
from components.dns.cloudflare_access import cloudflare_token, cloudflare_url
from components.dns.rfc2136 import SiteStore, required_tsig_key, store_of
from components.preflight.zone_store import ZoneStore
from rollcall.cloudflare import Record
from rollcall.route53api import ConflictError


class SiteMarks(Protocol):
    """The records at a site's host, with their marks as comments. Raises the errors of `rollcall.errors`."""

    def list(self) -> tuple[Record, ...]:
        """Return the records, ours and foreign."""

    def mark(self, record: Record, text: str) -> str:
        """Write `text` as the mark of a listed record, and change nothing else.

        Return what is there instead, if the record changed after it was listed: it keeps its mark. Empty: it was marked.
        """


class CloudflareSiteMarks:
    """A mark is the comment of a record."""

    def __init__(self, store: ZoneStore, zone: str, host: str) -> None:
        self._store, self._zone, self._host = store, zone, host

    def list(self) -> tuple[Record, ...]:
        return self._store.list(self._zone, self._host)

    def mark(self, record: Record, text: str) -> str:
        self._store.comment(record, text)
        now = next((each for each in self.list() if each.id == record.id), None)
        if now is None or (now.type, now.content) == (record.type, record.content):
            return ""
        self._store.comment(record, record.comment)
        return f"{record.name} {record.type} {record.content} is {now.content} now"


class DynamicSiteMarks:
    """A mark is a TXT below the host. The update that writes it changes nothing if the addresses or the marks have changed."""

    def __init__(self, domain: str, host: str, server: str, key: str) -> None:
        self._host = host
        self._site = SiteStore(host, store_of(domain, server, key))

    def list(self) -> tuple[Record, ...]:
        return tuple(replace(each, id=f"{each.type} {each.content}") for each in self._site.list("", self._host))

    def mark(self, record: Record, text: str) -> str:
        try:
            self._site.mark(record, text)
        except ConflictError:
            return f"{record.name} {record.type} {record.content} has changed"
        return ""


def _of_cloudflare(zone: ZoneSettings, site: SiteSettings, config: Mapping[str, str]) -> SiteMarks | None:
    store = ZoneStore(cloudflare_token(config.get), cloudflare_url(config.get))
    id_ = store.zone(zone)
    return None if id_ is None else CloudflareSiteMarks(store, id_, site.fqdn)


def _of_dynamic(zone: ZoneSettings, site: SiteSettings, config: Mapping[str, str]) -> SiteMarks | None:
    key = required_tsig_key(config.get, site.zone)
    return DynamicSiteMarks(site.zone, site.fqdn, at_port(zone.server or ""), key)


# By the `provider` of the configuration.
PROVIDERS: dict[str, Callable[[ZoneSettings, SiteSettings, Mapping[str, str]], SiteMarks | None]] = {
    "cloudflare": _of_cloudflare,
    "rfc2136": _of_dynamic,
}


def marks_of(zone: ZoneSettings, site: SiteSettings, config: Mapping[str, str]) -> SiteMarks | None:
    """Return the records of a site. `config` is the stack's configuration. None: the credentials show no such zone."""
    return PROVIDERS[zone.provider](zone, site, config)
