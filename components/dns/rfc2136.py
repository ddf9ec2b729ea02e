"""Define places in a zone that takes dynamic updates (RFC 2136): a site's host, and the SRV set of a service's incarnation.

The program uses the stack's TSIG key. The machines have another one, or the same (docs/rfc2136.md).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from components.config.servers import at_port
from components.dns.base import families, without_defaults
from components.dns.cloudflare import SiteRecords
from components.dns.route53 import ServicePlace, ServiceRecords
from components.model import ExpectedRecordSet, RecordKey
from rollcall.cloudflare import Record
from rollcall.errors import FatalError
from rollcall.ownership import Owner
from rollcall.route53api import ConflictError
from rollcall.settings import PUBLIC, Rfc2136Join, Rfc2136SiteJoin
from rollcall.zoneview import ZoneView

if TYPE_CHECKING:
    from rollcall.rfc2136 import Rfc2136Store

SITE, SERVICE = "rfc2136-site", "rfc2136"
# The stack's key, in the form of nsupdate's `-y`, and the key of its machines where it is another one.
TSIG_KEY, MACHINE_TSIG_KEY = "rollcall:tsigKey", "rollcall:machineTsigKey"
_VARIABLE, _MACHINES_VARIABLE = "ROLLCALL_TSIG_KEY", "ROLLCALL_MACHINE_TSIG_KEY"
# The address at which the program reaches the server, if it is not the machines' address for it, as through a tunnel.
_SERVER_VARIABLE = "ROLLCALL_UPDATE_SERVER"
Get = Callable[[str], str | None]


def tsig_key(config: Get) -> str:
    """Return the key with which the program changes zones; an empty text: there is none.

    `config` gives a key's value.
    """
    return config(TSIG_KEY) or os.environ.get(_VARIABLE) or ""


def required_tsig_key(config: Get, domain: str) -> str:
    """Return the program's key. Raises FatalError if there is none. `domain` is a zone that is changed with it."""
    found = tsig_key(config)
    if not found:
        raise FatalError(missing_tsig_key(domain))
    return found


def missing_tsig_key(domain: str) -> str:
    """Return the message for a stack without the key. `domain` is a zone that is changed with it."""
    return (
        f"{TSIG_KEY}: is missing, and {domain} is changed with it. `pulumi config set --secret {TSIG_KEY}` with "
        f"hmac-sha256:NAME:BASE64, or set {_VARIABLE}."
    )


def machine_tsig_key(config: Get) -> str:
    """Return the key that machines get."""
    return config(MACHINE_TSIG_KEY) or os.environ.get(_MACHINES_VARIABLE) or tsig_key(config)


def tsig_key_from(config: Get) -> str:
    """Return the name of the key or variable that the TSIG key comes from, or must be set in."""
    return TSIG_KEY if config(TSIG_KEY) or not os.environ.get(_VARIABLE) else _VARIABLE


def store_of(domain: str, server: str, key: str) -> Rfc2136Store:
    """Return the record sets of a zone at `server` (`ADDRESS@PORT`).

    Raises FatalError where the key has another form.
    """
    from rollcall.rfc2136 import Rfc2136Store, Rfc2136Zone, TsigKey

    instead = os.environ.get(_SERVER_VARIABLE)
    where = at_port(instead) if instead else server
    return Rfc2136Store(Rfc2136Zone(domain, where, TsigKey.parse(key)))


@dataclass(frozen=True, kw_only=True)
class SitePlace:
    """The address records of `host` in the zone `domain`. `server` (`ADDRESS@PORT`) is the zone's primary.

    `ttl` is in seconds. With `ipv6`, members have addresses of both families. `address` is the kind of their addresses
    (rollcall.settings).
    """

    server: str
    domain: str
    host: str
    ttl: int
    kind: str = SITE
    ipv6: bool = False
    address: str = PUBLIC
    # Cloudflare answers for a site with the edge's addresses. Here the name servers answer with the machines' addresses.
    proxied = False
    private = False

    @property
    def zone(self) -> str:
        return self.domain

    def as_inputs(self) -> dict[str, Any]:
        return without_defaults(asdict(self))

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, Any]) -> SitePlace:
        return cls(
            server=inputs["server"],
            domain=inputs["domain"],
            host=inputs["host"],
            ttl=int(inputs["ttl"]),
            ipv6=bool(inputs.get("ipv6")),
            address=str(inputs.get("address", PUBLIC)),
        )

    @property
    def record_sets(self) -> tuple[ExpectedRecordSet, ...]:
        keys = (RecordKey(self.host, rtype) for rtype in families(self.ipv6))
        return tuple(ExpectedRecordSet(key=key, address=self.address) for key in keys)

    @property
    def machine_settings(self) -> Rfc2136SiteJoin:
        labels = self.host.removesuffix(self.domain).count(".")
        return Rfc2136SiteJoin(
            server=self.server,
            host=self.host,
            key="",
            ttl=self.ttl,
            ipv6=self.ipv6,
            labels=max(labels, 1),
            address=self.address,
        )

    @property
    def cached_seconds(self) -> float:
        return self.machine_settings.cached_s

    def records(self, view: ZoneView, config: Mapping[str, str]) -> SiteRecords:
        return SiteRecords(self, SiteStore(self.host, store_of(self.domain, self.server, tsig_key(config.get))), view)


class SiteStore:
    """A site's records, for `SiteRecords` to list and remove.

    The id of a record contains its mark. So a record that another machine has taken over since is not removed.
    """

    def __init__(self, host: str, store: Rfc2136Store) -> None:
        from rollcall.rfc2136 import MarkedAddresses

        self._host, self._store = host, store
        self._marked = MarkedAddresses(host, store)

    def list(self, zone: str, name: str) -> tuple[Record, ...]:
        """Return the addresses of the host with their marks, or the texts at another name."""
        if name == self._host:
            return tuple(replace(each, id=f"{each.type} {each.content} {each.comment}") for each in self._marked.list())
        return tuple(
            Record(name=name, type=each.type, content=value, ttl=each.ttl, zone=zone, id=f"{each.type} {name} {value}")
            for each in self._store.zone.at(name, ("TXT",))
            for value in each.values
        )

    def mark(self, record: Record, text: str) -> None:
        """Write the mark of a listed address without one, and change nothing else.

        Raises ConflictError if the address is gone or has a mark by now.
        """
        from rollcall.rfc2136 import MARK_TTL_S, mark_name
        from rollcall.route53 import RecordSet

        name = mark_name(self._host)
        addresses = [each for each in self._store.zone.at(self._host, (record.type,)) if record.content in each.values]
        texts = self._store.zone.at(name, ("TXT",))
        marked = any(each.startswith(f'"{record.content} ') for text in texts for each in text.values)
        if not addresses or marked:
            raise ConflictError("reason=contended")
        old = texts[0] if texts else RecordSet(name, "TXT", MARK_TTL_S, ())
        new = replace(old, values=tuple(sorted((*old.values, f'"{record.content} {text}"'))))
        # The addresses are a condition of the update: they are deleted and created as they are.
        self._store.change([*addresses, *texts], [*addresses, new])

    def delete(self, zone: str, record: str) -> None:
        """Delete a record. It is not an error if it is gone already, or has another mark by now."""
        from rollcall import plan

        rtype, where, rest = record.split(" ", 2)
        if rtype == "TXT":
            olds = [each for each in self._store.zone.at(where, ("TXT",)) if rest in each.values]
            news = [replace(each, values=tuple(value for value in each.values if value != rest)) for each in olds]
            self._store.change(olds, [each for each in news if each.values])
            return
        here = [each for each in self._marked.list() if (each.type, each.content, each.comment) == (rtype, where, rest)]
        self._marked.apply(plan.Plan(deletes=tuple(here)), Owner.parse(rest), ())


@dataclass(frozen=True, kw_only=True)
class DynamicServicePlace(ServicePlace):
    """The SRV set of an incarnation in the zone `domain`. `server` (`ADDRESS@PORT`) is the zone's primary."""

    zone: str = ""
    kind: str = SERVICE
    server: str

    @property
    def machine_settings(self) -> Rfc2136Join:
        return Rfc2136Join(server=self.server, **self._service)

    def records(self, view: ZoneView, config: Mapping[str, str]) -> ServiceRecords:
        return ServiceRecords(self, store_of(self.domain, self.server, tsig_key(config.get)), view=view)
