"""Cloudflare on this machine: the v4 API, and its zones for name servers and the edge."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from localcloud.cloudflare.app import App
from localcloud.cloudflare.identity import OriginCertificates
from localcloud.cloudflare.limits import Limiter, RateLimit
from localcloud.cloudflare.model import new_id
from localcloud.cloudflare.store import NAME_SERVERS, Store, Zone
from localcloud.cloudflare.tokens import Tokens
from localcloud.cloudflare.zoneview import EdgeRoute, Resolve, edge_route
from localcloud.dns.data import Manner, RecordSet

if TYPE_CHECKING:
    from localcloud.network.faults import Faults

__all__ = ["NAME_SERVERS", "Cloudflare", "EdgeRoute", "RateLimit"]

_LONGEST_CHAIN = 8


def _nothing(name: str) -> tuple[RecordSet, ...]:
    return ()


class Cloudflare:
    """One user, with one account unless more are added; a `localcloud.dns.data.ZoneSource`. Thread-safe.

    `operator_token` (40 to 80 of `0-9A-Za-z_-`) may do everything. `edge_addresses` are where proxied names lead.
    `resolve` gives the address sets of hosts outside our zones, for flattened CNAMEs. The switch
    `cloudflare propagation=SECONDS` of `faults` makes lookups lag behind what is written while it is on.
    """

    def __init__(
        self,
        *,
        operator_token: str,
        edge_addresses: tuple[str, ...],
        clock: Callable[[], float] = time.time,
        faults: Faults | None = None,
        rate_limit: RateLimit | None = None,
        resolve: Resolve = _nothing,
    ) -> None:
        self._faults, self._outside, self._clock = faults, resolve, clock
        self._store = Store(
            tokens=Tokens(operator_token, clock()), edges=tuple(edge_addresses), clock=clock, lag=self._lag
        )
        self._certificates = OriginCertificates()
        self.app = App(self._store, Limiter(rate_limit or RateLimit(), clock), self._certificates)
        """The API as a WSGI app, below /client/v4; its `throttled` answers as when the rate limit is exceeded."""

    @property
    def account_id(self) -> str:
        return self._store.account_id

    @property
    def user_id(self) -> str:
        return self._store.user_id

    @property
    def origin_ca_pem(self) -> str:
        """The certificate of the Origin CA, which the edge trusts on origins."""
        with self._store.lock:
            return self._certificates.ca(self._clock()).pem

    def is_revoked(self, serial: int) -> bool:
        """Whether the Origin CA signed a certificate of this serial number and has revoked it since."""
        with self._store.lock:
            return self._certificates.is_revoked(serial)

    def add_account(self, name: str) -> str:
        """Make the user a member of another account. Return the account's id."""
        account = new_id()
        with self._store.lock:
            self._store.accounts = {**self._store.accounts, account: name}
        return account

    def add_zone(
        self, name: str, plan: str = "free", *, status: str = "active", account: str = "", type: str = "full"
    ) -> str:
        """Make a zone; its id. `plan` is a key of `model.PLANS`: `free` (200 records), `free-1000`, `pro` …; `account` the id of another
        account than the user's first."""
        zone = self._store.add_zone(name, plan, status, account)
        zone.type = type
        return zone.id

    def set_zone(self, zone_id: str, *, status: str | None = None, paused: bool | None = None) -> None:
        """Change what the API cannot change: whether the registrar names our servers, and whether the zone is paused."""
        zone = self._store.zones[zone_id]
        with self._store.lock:
            zone.status = zone.status if status is None else status
            zone.paused = zone.paused if paused is None else paused

    def add_record(self, zone_id: str, **fields: Any) -> str:
        """Make a record as `POST …/dns_records` would, for the start of a sandbox; its id. Raises ApiError, KeyError."""
        with self._store.lock:
            zone = self._store.zones[zone_id]
            change = self._store.change(zone)
            record = change.create(fields)
            self._store.publish(zone, change)
        return record.id

    manner = Manner(hostmaster="dns.cloudflare.com")

    def zones(self) -> tuple[str, ...]:
        """Return the zones that are delegated to our name servers. A zone that is not active is not delegated."""
        return tuple(zone.name for zone in self._store.zones.values() if zone.is_delegated)

    def lookup(self, zone: str, name: str) -> tuple[RecordSet, ...] | None:
        found = next((each for each in self._store.zones.values() if each.name == zone and each.is_delegated), None)
        return self._store.view(found, self._resolve).lookup(name) if found else None

    def hosts(self, mark: str) -> set[str]:
        """The names of address records with a comment that starts with `mark`."""
        with self._store.lock:
            records = [each.fields for zone in self._store.zones.values() for each in zone.data.records.values()]
        return {each.name for each in records if each.type in ("A", "AAAA") and (each.comment or "").startswith(mark)}

    def edge_origins(self, host: str) -> EdgeRoute | None:
        """Return the route of the edge's requests for `host`; None if it is not proxied."""
        host = host.lower().rstrip(".")
        zone = self._store.zone_of(host)
        return edge_route(self._store.view(zone, self._resolve), host) if zone else None

    def _resolve(self, name: str) -> tuple[RecordSet, ...]:
        """The address sets that `name` leads to, along CNAMEs in our own zones."""
        least: int | None = None
        for _ in range(_LONGEST_CHAIN):
            zone = self._store.zone_of(name)
            if zone is None:
                return self._outside(name)
            # An apex that is flattened in its turn would come back here: its own CNAME is followed instead.
            found = self._store.view(zone, _nothing).lookup(name) or ()
            addresses = tuple(each for each in found if each.type in ("A", "AAAA"))
            if addresses:
                ttl = min(each.ttl for each in addresses) if least is None else least
                return tuple(RecordSet(each.name, each.type, min(each.ttl, ttl), each.values) for each in addresses)
            alias = self._alias(zone, name)
            if alias is None:
                return ()
            least = alias.ttl if least is None else min(least, alias.ttl)
            name = alias.values[0].rstrip(".")
        return ()

    def _alias(self, zone: Zone, name: str) -> RecordSet | None:
        for fields in self._store.view(zone, _nothing).at(name) or ():
            if fields.type == "CNAME":
                return RecordSet(name, "CNAME", 300 if fields.ttl == 1 else fields.ttl, (f"{fields.content}.",))
        return None

    def _lag(self) -> float:
        value = self._faults.switch("cloudflare", "propagation") if self._faults else None
        return float(value) if value else 0.0
