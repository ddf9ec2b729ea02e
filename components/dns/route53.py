"""Read and remove the records of a DNS-SD service's members: the SRV set of an incarnation in Route53, and the hosts beside it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

from components.dns.base import WITHIN, challenges, families, without_defaults
from components.dns.deleted_zones import route53_zone
from components.model import DnsRecord, ExpectedRecordSet, RecordKey
from rollcall.errors import TransientError
from rollcall.ownership import Owner
from rollcall.retrying import retried
from rollcall.route53 import (
    LABEL,
    RecordSet,
    Route53Registry,
    Route53Store,
    Store,
    by_labels,
    is_dead,
    is_kept,
    is_leaving,
    owner_of,
    set_name,
    srv_names,
)
from rollcall.route53api import ConflictError, api_error
from rollcall.settings import PUBLIC, VPC, Route53Join, ServiceJoin, challenge_name, record_type
from rollcall.zoneview import ZoneView

# For at most so many hosts the answer of each server is shown.
_MOST_COMPARED = 3


@dataclass(frozen=True, kw_only=True)
class ServicePlace:
    """The SRV set of `incarnation` of `service` (`_theService._tcp`) in the hosted zone with id `zone`, named `domain`.

    `shards` and `shard` (from 0): which machines of the fleet are in this set, where an incarnation has several.
    `ipv6`: their hosts have an AAAA beside their A. `srv`: the RFC 2782 names that they are also at
    (rollcall.settings.Route53Join). `address` is the kind of the hosts' addresses (rollcall.settings). `private`: the hosted zone is
    private.
    """

    zone: str
    domain: str
    service: str
    incarnation: str
    port: int
    priority: int
    weight: int
    ttl: int
    shard: int = 0
    shards: int = 1
    kind: str = "route53"
    ipv6: bool = False
    srv: str = ""
    address: str = PUBLIC
    private: bool = False

    def as_inputs(self) -> dict[str, Any]:
        return {key: value for key, value in without_defaults(asdict(self)).items() if key != "srv" or value}

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, Any]) -> ServicePlace:
        known: dict[str, Any] = {each.name: inputs[each.name] for each in fields(cls) if each.name in inputs}
        for name, value in known.items():
            # Numbers arrive as floats.
            known[name] = int(value) if isinstance(value, float) else value
        return cls(**known)

    @property
    def machine_settings(self) -> ServiceJoin:
        """The settings of the machines here."""
        return Route53Join(zone=self.zone, view=VPC if self.private else "", **self._service)

    @property
    def _service(self) -> dict[str, Any]:
        """The settings that a service has with any DNS provider."""
        names = ("domain", "service", "incarnation", "port", "priority", "weight", "ttl", "ipv6", "srv", "address")
        return {name: getattr(self, name) for name in names}

    @property
    def names(self) -> dict[str, bool]:
        """The names of the SRV sets, the incarnation's first, and whether the machines must be there.

        The service's name may lead elsewhere. Then it is only searched for what an earlier configuration has left.
        """
        return {set_name(self.machine_settings): True, **srv_names(self.machine_settings)}

    @property
    def record_sets(self) -> tuple[ExpectedRecordSet, ...]:
        value = f"{self.priority} {self.weight} {self.port} {{generation}}.{LABEL}.{self.domain}."
        key = RecordKey(set_name(self.machine_settings), "SRV")
        services = ExpectedRecordSet(
            key=key,
            value=value,
            shard=self.shard,
            shards=self.shards,
            address=self.address,
            private=self.private,
        )
        # Where there must be no machine, the shard has no machine's number.
        others = [
            replace(services, key=RecordKey(name, "SRV"), shard=self.shard if on else self.shards, beside=services.key)
            for name, on in srv_names(self.machine_settings).items()
        ]
        hosts = (self.hosts(rtype) for rtype in families(self.ipv6))
        return services, *others, *(replace(services, key=key, value="", shared=True) for key in hosts)

    def hosts(self, rtype: str) -> RecordKey:
        """Return the record set of the machines' addresses of a type.

        Where only IPv4 is asked for, all addresses have one key.
        """
        return RecordKey(f"{LABEL}.{self.domain}", rtype if self.ipv6 else "A")

    @property
    def cached_seconds(self) -> float:
        return self.machine_settings.cached_s

    def records(self, view: ZoneView, config: Mapping[str, str]) -> ServiceRecords:
        return ServiceRecords(self, config=config, view=view)


class ServiceRecords:
    """The SRV set and the hosts of one place.

    The set is read before the hosts. A host is registered before its value, and its value is removed before it, so a
    value without a host is dead.
    """

    def __init__(
        self,
        place: ServicePlace,
        store: Store | None = None,
        config: Mapping[str, str] | None = None,
        view: ZoneView | None = None,
    ) -> None:
        self._place = place
        self._view = view or ZoneView(place.domain)
        self._given = store
        self._config = config or {}
        self._hosts: dict[str, list[RecordSet]] = {}
        self._answered: dict[str, frozenset[str]] = {}
        self._listed = frozenset(place.names)

    @cached_property
    def _store(self) -> Store:
        # boto3 takes a while to make a client, and a caller that only asks for machines needs none.
        return self._given or _route53(self._place.zone, self._config)

    @property
    def _ownership_marks(self) -> RecordKey:
        return RecordKey(f"{LABEL}.{self._place.domain}", "TXT")

    def dns_records(self) -> tuple[DnsRecord, ...]:
        place = self._place
        current = retried(self._at_names, WITHIN)
        below: dict[str, list[RecordSet]] = {}
        pages = retried(lambda: list(self._store.under(f"{LABEL}.{place.domain}")), WITHIN)
        for each in (each for page in pages for each in page):
            below.setdefault(each.name, []).append(each)
        self._hosts = below
        self._listed = frozenset(each.name for each in current)
        names: dict[str, dict[str, str]] = {name: {} for name in below}
        found = []
        for name, value in ((each.name, value) for each in current for value in each.values):
            target = value.rpartition(" ")[2].rstrip(".").lower()
            owner = owner_of(below.get(target, ()))
            dead = is_dead(value, place.domain, names)
            kept = is_kept(below.get(target, ()), set_name(place.machine_settings))
            key = RecordKey(name, "SRV")
            found.append(DnsRecord(key=key, value=value, owner=owner, id=target, dead=dead, kept=kept))
        for name, sets in below.items():
            owner = None if f".c.{LABEL}." in name else owner_of(sets)
            addresses = [(each.type, value) for each in sets if each.type in ("A", "AAAA") for value in each.values]
            leaving = is_leaving(sets, name)
            found += [
                DnsRecord(key=place.hosts(rtype), value=value, owner=owner, id=name, alone=True, leaving=leaving)
                for rtype, value in addresses
            ]
            if owner is not None and not addresses:
                # The mark alone does not make a machine a member, but it is removed with its machine.
                found.append(
                    DnsRecord(key=self._ownership_marks, value=str(owner), owner=owner, id=name, leaving=leaving)
                )
        return tuple(found)

    def _at_names(self) -> list[RecordSet]:
        """Return the SRV sets. Sets near to each other are read in one request."""
        names = self._place.names
        first = sorted(
            (each for each in names if not any(each.endswith(f".{other}") for other in names)), key=by_labels
        )
        pages = self._store.under(*first)
        return [each for page in pages for each in page if each.type == "SRV" and each.name in names]

    def answers(self) -> dict[RecordKey, frozenset[str] | None]:
        """Return the answers.

        Each host in the last snapshot has a separate name. A host that was answered as it is listed is not asked for
        again. A set that is not listed is not asked for: a resolver would keep a negative answer for long (RFC 2308).
        """
        place = self._place
        values = {name: self._view.all_of(name, "SRV") if name in self._listed else frozenset() for name in place.names}
        for name, sets in self._hosts.items():
            listed = frozenset(value for each in sets if each.type in ("A", "AAAA") for value in each.values)
            if self._answered.get(name) != listed:
                types = {each.type for each in sets} & {"A", "AAAA"}
                replies = [self._view.all_of(name, rtype) for rtype in sorted(types)]
                self._answered[name] = frozenset().union(*replies)
        answers: dict[RecordKey, frozenset[str] | None] = {
            RecordKey(name, "SRV"): frozenset(value.lower() for value in found) for name, found in values.items()
        }
        addresses = frozenset().union(*(self._answered[name] for name in self._hosts))
        for rtype in families(place.ipv6):
            here = {each for each in addresses if place.hosts(record_type(each)) == place.hosts(rtype)}
            answers[place.hosts(rtype)] = frozenset(here)
        return answers

    def remove(self, records: Iterable[DnsRecord]) -> None:
        """Remove records.

        All records of an owner are removed together, hosts too, since its machine is dead or gone. So is a dead value.
        """
        registry = Route53Registry(self._place.machine_settings, self._store)
        self._remove(records, registry, registry.leave)

    def take_out(self, records: Iterable[DnsRecord]) -> None:
        registry = Route53Registry(self._place.machine_settings, self._store)
        self._remove(records, registry, registry.leave_set)

    def _remove(
        self, records: Iterable[DnsRecord], registry: Route53Registry, leave: Callable[[Owner], object]
    ) -> None:
        mine = {self._ownership_marks, *(each.key for each in self._place.record_sets)}
        here = [record for record in records if record.key in mine]
        for owner in sorted({record.owner for record in here if record.owner is not None}):
            retried(lambda owner=owner: leave(owner), WITHIN)  # type: ignore[misc]
        dead = {record.id for record in here if record.dead}
        if dead:
            retried(lambda: registry.drop(dead), WITHIN)

    def still_answered(self, records: Iterable[DnsRecord]) -> list[DnsRecord]:
        """Return the records of the set that are still answered.

        A host has a separate name, and a client that asks for it has read the set before.
        """
        sets = {RecordKey(name, "SRV") for name in self._place.names}
        mine = [each for each in records if each.key in sets]
        known = {key: self._view.any_of(key.name, "SRV") for key in {each.key for each in mine}}
        values = {key: {value.lower() for value in found} for key, found in known.items()}
        return [each for each in mine if each.value.lower() in values[each.key]]

    def compared(self, keys: Collection[RecordKey]) -> list[str]:
        hosts = [each.key for each in self._place.record_sets if each.shared]
        found = [self._view.compare(each, "SRV") for each in self._place.names if RecordKey(each, "SRV") in keys]
        for rtype in (each.type for each in hosts if each in keys):
            here = ((name, self._values(name, rtype)) for name in sorted(self._hosts))
            late = [name for name, listed in here if not listed <= self._answered.get(name, listed)]
            found += [self._view.compare(name, rtype) for name in late[:_MOST_COMPARED]]
        return found

    def split(self) -> list[str]:
        return [line for name in self._place.names if (line := self._view.split(name, "SRV"))]

    def _values(self, name: str, rtype: str) -> frozenset[str]:
        return frozenset(value for each in self._hosts[name] if each.type == rtype for value in each.values)

    def challenged(self, gone: Owner) -> bool:
        return challenge_name(gone, self._place.machine_settings) in self._hosts

    def unchallenge(self, gone: Owner) -> None:
        retried(lambda: self._unchallenge(gone), WITHIN)

    def _unchallenge(self, gone: Owner) -> None:
        here = self._store.at(challenge_name(gone, self._place.machine_settings))
        for old in (each for each in here if each.type == "TXT" and not each.routed):
            rest = tuple(value for value in old.values if not challenges(value, gone))
            if rest != old.values:
                try:
                    self._store.change([old], [replace(old, values=rest)] if rest else [])
                except ConflictError as changed:
                    raise TransientError(f"reason=contended name={old.name}") from changed


class BotoRoute53:
    """Route53's API by boto3's client. It answers and fails as the machines' client does (rollcall.route53api)."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def list_resource_record_sets(self, **given: str) -> Mapping[str, Any]:
        with _explained():
            page: Mapping[str, Any] = self._client.list_resource_record_sets(**given)
            return page

    def change_resource_record_sets(self, **given: Any) -> None:
        with _explained():
            self._client.change_resource_record_sets(**given)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn the errors of boto3 into the errors of the machines' client."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as refused:
        error = refused.response["Error"]
        status = refused.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        raise api_error(status, error["Code"], error.get("Message", "")) from refused
    except BotoCoreError as failed:
        raise TransientError(f"reason=unreachable api=route53 error={type(failed).__name__}") from failed


class HostedZoneStore(Route53Store):
    """A Route53Store that raises ZoneGoneError where the hosted zone was deleted."""

    def change(self, deletes: Iterable[RecordSet], creates: Iterable[RecordSet]) -> None:
        with route53_zone(self._zone):
            super().change(deletes, creates)

    def beginning(self, name: str) -> tuple[RecordSet, ...]:
        with route53_zone(self._zone):
            return super().beginning(name)

    def under(self, *names: str) -> Iterator[list[RecordSet]]:
        with route53_zone(self._zone):
            yield from super().under(*names)


def _route53(zone: str, config: Mapping[str, str]) -> Route53Store:
    """Return the zone in the stack's account.

    Nothing is retried here, as on the machines: the caller knows what to read again.
    """
    from components.aws.session import session_of

    return HostedZoneStore(zone, BotoRoute53(session_of(config.get).client("route53", "us-east-1", _once())))


@functools.cache
def _once() -> Any:
    from botocore.config import Config

    return Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=15)
