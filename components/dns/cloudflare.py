"""Read and remove the address records of a site's host in a Cloudflare zone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from components.dns import base
from components.dns.base import WITHIN, challenges, families, without_defaults
from components.dns.cloudflare_access import cloudflare_token, cloudflare_url
from components.dns.cloudflare_store import RecordStore
from components.model import DnsRecord, ExpectedRecordSet, RecordKey
from rollcall.cloudflare import Record
from rollcall.ownership import KEPT, Owner
from rollcall.retrying import retried
from rollcall.settings import PUBLIC, CloudflareJoin, challenge_name
from rollcall.zoneview import ZoneView

ADDRESS_TYPES = ("A", "AAAA")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A host in a Cloudflare zone, where members are.

    `zone` is the zone's id, `domain` its name, `ttl` is in seconds. With `ipv6`, members have addresses of both
    families. `address` is the kind of their addresses (rollcall.settings).
    """

    zone: str
    domain: str
    host: str
    ttl: int
    proxied: bool
    kind: str = "cloudflare"
    ipv6: bool = False
    address: str = PUBLIC
    private = False

    def as_inputs(self) -> dict[str, Any]:
        return without_defaults(asdict(self))

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, Any]) -> Place:
        return cls(
            zone=inputs["zone"],
            domain=inputs["domain"],
            host=inputs["host"],
            ttl=int(inputs["ttl"]),
            proxied=bool(inputs["proxied"]),
            kind=inputs["kind"],
            ipv6=bool(inputs.get("ipv6")),
            address=str(inputs.get("address", PUBLIC)),
        )

    @property
    def record_sets(self) -> tuple[ExpectedRecordSet, ...]:
        """Return the record sets that every member must be in."""
        keys = (RecordKey(self.host, rtype) for rtype in families(self.ipv6))
        return tuple(ExpectedRecordSet(key=key, address=self.address) for key in keys)

    @property
    def machine_settings(self) -> CloudflareJoin:
        """The settings of the machines here, without their token."""
        return CloudflareJoin(
            zone=self.zone,
            host=self.host,
            token="",
            ttl=self.ttl,
            proxied=self.proxied,
            ipv6=self.ipv6,
            address=self.address,
        )

    @property
    def cached_seconds(self) -> float:
        return self.machine_settings.cached_s

    def records(self, view: ZoneView, config: Mapping[str, str]) -> SiteRecords:
        # The caller retries.
        store = RecordStore(cloudflare_token(config.get), cloudflare_url(config.get), retries=False)
        return SiteRecords(self, store, view)


class SiteStore(Protocol):
    """A store that lists the records at a name, with their marks as comments, and deletes one by its id.

    Raises the errors of `rollcall.errors`.
    """

    def list(self, zone: str, name: str) -> tuple[Record, ...]: ...

    def delete(self, zone: str, record: str) -> None: ...


class AddressPlace(base.Place, Protocol):
    """A place that has the addresses of its members."""

    @property
    def host(self) -> str: ...

    @property
    def proxied(self) -> bool: ...

    @property
    def ipv6(self) -> bool: ...


class SiteRecords:
    """The address records of a host, in a Cloudflare zone or another store with comments."""

    def __init__(self, place: AddressPlace, store: SiteStore, view: ZoneView | None = None) -> None:
        self._place = place
        self._store = store
        self._view = view or ZoneView(place.domain)
        self._listed = frozenset(ADDRESS_TYPES)

    def dns_records(self) -> tuple[DnsRecord, ...]:
        listed = retried(lambda: self._store.list(self._place.zone, self._place.host), WITHIN)
        self._listed = frozenset(record.type for record in listed)
        return tuple(_dns_record(record) for record in listed if record.type in ADDRESS_TYPES)

    def answers(self) -> dict[RecordKey, frozenset[str] | None]:
        """Return the answers. A proxied name answers with the edge's addresses."""
        place = self._place
        return {
            RecordKey(place.host, rtype): None if place.proxied else self._answer(rtype)
            for rtype in families(place.ipv6)
        }

    def _answer(self, rtype: str) -> frozenset[str]:
        """Return the answer for one type, if the type is listed.

        Otherwise do not ask: resolvers keep a negative answer for long (RFC 2308).
        """
        return self._view.all_of(self._place.host, rtype) if rtype in self._listed else frozenset()

    def compared(self, keys: Collection[RecordKey]) -> list[str]:
        host, types = self._place.host, families(self._place.ipv6)
        return [self._view.compare(host, rtype) for rtype in types if RecordKey(host, rtype) in keys]

    def split(self) -> list[str]:
        place = self._place
        types = () if place.proxied else families(place.ipv6)
        return [line for rtype in types if rtype in self._listed and (line := self._view.split(place.host, rtype))]

    def remove(self, records: Iterable[DnsRecord]) -> None:
        for each in records:
            zone, _, record = each.id.partition("/")
            if zone == self._place.zone and each.key.name == self._place.host:
                retried(lambda zone=zone, record=record: self._store.delete(zone, record), WITHIN)  # type: ignore[misc]

    def take_out(self, records: Iterable[DnsRecord]) -> None:
        self.remove(records)

    def still_answered(self, records: Iterable[DnsRecord]) -> list[DnsRecord]:
        place = self._place
        mine = [] if place.proxied else [each for each in records if each.key.name == place.host]
        types = {each.key.type for each in mine}
        known = {rtype: self._view.any_of(place.host, rtype) for rtype in types}
        return [each for each in mine if each.value in known[each.key.type]]

    def challenged(self, gone: Owner) -> bool:
        """Return whether there may be challenges. A challenge has a separate name, which was not read."""
        return True

    def unchallenge(self, gone: Owner) -> None:
        retried(lambda: self._unchallenge(gone), WITHIN)

    def _unchallenge(self, gone: Owner) -> None:
        for record in self._store.list(self._place.zone, challenge_name(gone, self._place.machine_settings)):
            if record.type == "TXT" and challenges(record.content, gone):
                self._store.delete(record.zone, record.id)


def _dns_record(record: Record) -> DnsRecord:
    owner = Owner.parse(record.comment)
    return DnsRecord(
        key=RecordKey(record.name, record.type),
        value=record.content,
        owner=owner,
        id=f"{record.zone}/{record.id}",
        kept=owner is not None and record.comment.endswith(KEPT),
    )
