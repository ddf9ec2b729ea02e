"""All data of the local Cloudflare, in memory: one user, one account, its zones, tokens and certificates.

Writers must have `lock`. Name servers and edge read values that are replaced as a whole, so they need no lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from localcloud.cloudflare import errors, names
from localcloud.cloudflare.model import PLANS, Plan, new_id, stamp
from localcloud.cloudflare.permissions import ACCOUNT, USER
from localcloud.cloudflare.settings import ZoneSettings
from localcloud.cloudflare.tokens import Tokens
from localcloud.cloudflare.zonedata import Change, ZoneData
from localcloud.cloudflare.zoneview import Resolve, ZoneView

# What a zone is: https://developers.cloudflare.com/dns/zone-setups/reference/domain-status/
STATUSES = ("initializing", "pending", "active", "moved")
TYPES = ("full", "partial", "secondary", "internal")
NAME_SERVERS = ("ada.ns.cloudflare.com", "bob.ns.cloudflare.com")
EMAIL = "operator@rollcall.invalid"
ACCOUNT_NAME = "Rollcall"


@dataclass
class Zone:
    """A zone; `visible` holds what its name servers answer now and will answer, each with the time from which."""

    id: str
    name: str
    plan: Plan
    settings: ZoneSettings
    created_on: float
    modified_on: float
    data: ZoneData
    visible: tuple[tuple[float, ZoneData], ...]
    shown_settings: Mapping[str, Any]
    account: str
    status: str = "active"
    activated_on: float | None = None
    paused: bool = False
    type: str = "full"

    @property
    def is_delegated(self) -> bool:
        """Whether the zone is delegated to Cloudflare's name servers."""
        return self.status == "active" and self.type in ("full", "secondary")

    def publish(self, data: ZoneData, now: float, lag: float) -> None:
        """Make `data` the zone's, seen by resolvers `lag` seconds from now, and never before what was published earlier."""
        since = max(now + lag, self.visible[-1][0])
        current = [each for each in self.visible if each[0] <= now][-1:]
        self.data = data
        self.visible = (*current, *(each for each in self.visible if each[0] > now), (since, data))

    def seen(self, now: float) -> ZoneData:
        """What the name servers have at this moment."""
        for since, data in reversed(self.visible):
            if since <= now:
                return data
        return self.visible[0][1]


@dataclass
class Store:
    """The state behind the API.

    `lag` returns the present propagation time in seconds. `accounts` are the names, by id, of all accounts of which the user is a member.
    `account_id` is the account that has account tokens.
    """

    tokens: Tokens
    edges: tuple[str, ...]
    clock: Callable[[], float]
    lag: Callable[[], float]
    user_id: str = field(default_factory=new_id)
    account_id: str = field(default_factory=new_id)
    lock: threading.RLock = field(default_factory=threading.RLock)
    zones: dict[str, Zone] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.accounts[self.account_id] = ACCOUNT_NAME

    def add_zone(self, name: str, plan: str = "free", status: str = "active", account: str = "") -> Zone:
        """Add a zone. Another account may have a zone of the same name, but only one of them can be active.

        Raises ApiError if the name is invalid, or taken in this account, and KeyError for an unknown plan.
        """
        account = account or self.account_id
        host = names.host(name)
        if host is None:
            raise errors.invalid(f"{name} is not a domain name")
        with self.lock:
            if any((zone.name, zone.account) == (host, account) for zone in self.zones.values()):
                raise errors.zone_exists(host)
            now = self.clock()
            settings = ZoneSettings(PLANS[plan])
            empty = ZoneData.empty(host)
            zone = Zone(
                id=new_id(),
                name=host,
                plan=PLANS[plan],
                settings=settings,
                created_on=now,
                modified_on=now,
                data=empty,
                visible=((now, empty),),
                shown_settings=settings.values(),
                account=account,
                status=status,
                activated_on=now if status == "active" else None,
            )
            self.zones = {**self.zones, zone.id: zone}
            return zone

    def remove_zone(self, zone: Zone) -> None:
        with self.lock:
            self.zones = {key: each for key, each in self.zones.items() if key != zone.id}

    def change(self, zone: Zone) -> Change:
        return Change(zone.data, zone.plan, self.edges, self.clock())

    def publish(self, zone: Zone, change: Change) -> None:
        data = change.done()
        if data.records != zone.data.records:
            zone.publish(data, self.clock(), self.lag())

    def view(self, zone: Zone, resolve: Resolve) -> ZoneView:
        return ZoneView(
            data=zone.seen(self.clock()),
            edges=self.edges,
            name_servers=NAME_SERVERS,
            settings=zone.shown_settings,
            proxies=zone.status == "active" and not zone.paused,
            resolve=resolve,
        )

    def zone_of(self, name: str) -> Zone | None:
        """The most specific zone that holds `name`, the active one of two."""
        holders = [zone for zone in self.zones.values() if name == zone.name or name.endswith(f".{zone.name}")]
        return max(holders, key=lambda zone: (len(zone.name), zone.status == "active"), default=None)

    @property
    def user(self) -> str:
        return f"{USER}.{self.user_id}"

    @property
    def account(self) -> str:
        return f"{ACCOUNT}.{self.account_id}"

    def zone_body(self, zone: Zone) -> dict[str, Any]:
        """A zone as the API shows it."""
        return {
            "id": zone.id,
            "name": zone.name,
            "status": zone.status,
            "paused": zone.paused,
            "type": zone.type,
            "development_mode": 0,
            "name_servers": list(NAME_SERVERS),
            "original_name_servers": None,
            "original_registrar": None,
            "original_dnshost": None,
            "created_on": stamp(zone.created_on),
            "modified_on": stamp(zone.modified_on),
            "activated_on": stamp(zone.activated_on) if zone.activated_on is not None else None,
            "meta": {
                "step": 2,
                "custom_certificate_quota": 0,
                "page_rule_quota": 3,
                "phishing_detected": False,
            },
            "owner": {"id": None, "type": "user", "email": None},
            "account": {"id": zone.account, "name": self.accounts[zone.account]},
            "tenant": {"id": None, "name": None},
            "tenant_unit": {"id": None},
            "permissions": [],
            "plan": zone.plan.body(),
        }
