"""The two zones of the property test: the local Cloudflare and the local Route53, through the product's own clients."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ClassVar

import pytest

import rollcall.registry
from components.dns.route53 import BotoRoute53
from localcloud.aws.route53 import UNLIMITED
from localcloud.aws.route53.records import Change, RecordSet
from localcloud.aws.wire import AwsError
from localcloud.cloudflare import Cloudflare, RateLimit
from localcloud.cloudflare.errors import ApiError
from localcloud.cloudflare.model import Record
from localcloud.network.faults import Faults
from rollcall.cloudflare import CloudflareStore
from rollcall.host_label import HostLabels, generation_of
from rollcall.ownership import Owner
from rollcall.registry import CloudflareRegistry, Registry
from rollcall.route53 import LABEL, Route53Registry, Route53Store
from rollcall.settings import CloudflareJoin, Join, Route53Join
from tests.cloud.aws_cloud import Cloud
from tests.cloud.cloudflare_server import EDGES, OPERATOR
from tests.cloud.in_process import serve_boto, serve_session
from tests.cloud.in_step import Clock, OwnedRecord, ZoneState, challenge_of, owner_in, site_join

SITE, DIRECTORY = "scalability.expert", "unilans.net"
HOST = f"www.{SITE}"
RC = f"{LABEL}.{DIRECTORY}"
SERVICE = "_theService._tcp"
INCARNATIONS = ("v1", "v2")
# The DNS-SD names, and those of RFC 2782: an incarnation's, and the service's, which is the first incarnation's.
SHORT = f"{SERVICE}.{DIRECTORY}".lower()
SETS = (
    *(f"{each}.{SERVICE}.{DIRECTORY}".lower() for each in INCARNATIONS),
    *(f"{SERVICE}.{each}.{DIRECTORY}".lower() for each in INCARNATIONS),
    SHORT,
)
_FAST = RateLimit(requests=10**9)
# Where the clients send what no socket carries.
NOWHERE = "http://cloudflare.invalid"


class CloudflareFront:
    """One client for all examples."""

    def __init__(self) -> None:
        self.faults = Faults(seed=1)
        self.cloud: Cloudflare | None = None
        self.store = CloudflareStore(OPERATOR, f"{NOWHERE}/client/v4")
        serve_session(self.store._session, NOWHERE, self.faults.middleware("cloudflare", self._serve))

    def _serve(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        assert self.cloud is not None
        return self.cloud.app(environ, start_response)


class Judged:
    """What was found of a zone when it was judged last. Most of an agent's steps change nothing."""

    def __init__(self) -> None:
        self._of: tuple[Any, ...] = ()
        self._found: ZoneState | None = None

    def unless_known(self, of: tuple[Any, ...], judge: Callable[[], ZoneState]) -> ZoneState:
        """Return what `judge` finds, or found of the same; `of` must be copies."""
        if self._found is None or of != self._of:
            self._of, self._found = of, judge()
        return self._found


class CloudflareZone:
    service = "cloudflare"
    cached_s = 0.0

    def __init__(self, front: CloudflareFront) -> None:
        self._front, self.faults, self.clock = front, front.faults, Clock()
        self.cloud = front.cloud = Cloudflare(
            operator_token=OPERATOR, edge_addresses=EDGES, clock=self.clock, rate_limit=_FAST
        )
        self.id = self.cloud.add_zone(SITE, "pro")
        self._zone = self.cloud._store.zones[self.id]
        self._judged = Judged()
        self._written: set[str] = set()

    def patch(self, patcher: pytest.MonkeyPatch) -> None:
        patcher.setattr("components.dns.cloudflare.RecordStore", lambda *_, **__: self._front.store)
        patcher.setattr(rollcall.registry, "CloudflareStore", lambda *_: self._front.store)

    def close(self) -> None:
        self.faults.clear()

    def places(self) -> list[dict[str, Any]]:
        return [
            {"zone": self.id, "domain": SITE, "host": HOST, "ttl": 60, "proxied": False, "kind": "cloudflare"},
        ]

    def joins(self) -> tuple[Join, ...]:
        return (site_join(self.id, HOST),)

    def registry(self, join: Join, labels: HostLabels) -> Registry:
        assert isinstance(join, CloudflareJoin)
        return CloudflareRegistry(join, lambda: OPERATOR)

    def answers(self, name: str, *types: str) -> frozenset[str]:
        found = self.cloud.lookup(SITE, name) or ()
        return frozenset(value for each in found if each.type in types for value in each.values)

    def zone_state(self, stack: str, generations: Mapping[str, set[str]]) -> ZoneState:
        had = {address for each in generations.values() for address in each}
        return self._judged.unless_known(
            ({**self._zone.data.records}, stack, had), lambda: self._read_state(stack, had)
        )

    def _read_state(self, stack: str, had: Collection[str]) -> ZoneState:
        """A machine writes its mark back where a user removed it from a record that it wrote, so no byte of that record is foreign,
        whatever mark is on it: a tool may have copied one from another stack's record."""
        records: dict[Owner, set[OwnedRecord]] = {}
        foreign: dict[tuple[str, ...], str] = {}
        challenged = set()
        for record in self._zone.data.records.values():
            fields = record.fields
            owner = owner_in(fields.comment or "")
            challenge = fields.type == "TXT" and challenge_of(fields.content, fields.name, self.joins(), stack)
            if owner is not None and owner.stack == stack:
                records.setdefault(owner, set()).add((fields.type, fields.content, record.id))
                self._written.add(record.id)
            elif challenge:
                challenged.add(challenge)
            elif record.id not in self._written or fields.content not in had:
                foreign[fields.name, fields.type, record.id] = json.dumps(record.body(), sort_keys=True)
        return ZoneState({key: frozenset(each) for key, each in records.items()}, frozenset(challenged), foreign)

    def twice(self, records: Iterable[OwnedRecord]) -> bool:
        return len(list(records)) > 1

    def address_of(self, record: OwnedRecord) -> str:
        return record[1]

    def records(self) -> tuple[Record, ...]:
        return tuple(self._zone.data.records.values())

    # What a user does by hand

    def ids(self, ours: bool) -> list[str]:
        """Of the records that are (not) ours, in an order that does not depend on random ids."""
        found = []
        for record in self.records():
            owner = Owner.parse(record.fields.comment or "")
            if (owner is not None and owner.stack == "local") is ours and ".c." not in record.fields.name:
                found.append(record)
        return [each.id for each in sorted(found, key=lambda each: (str(each.fields), each.created_on))]

    def write(self, action: str, *given: Any) -> None:
        """A change as the API makes it; one that it refuses is none."""
        with contextlib.suppress(ApiError), self.cloud._store.lock:
            change = self.cloud._store.change(self._zone)
            getattr(change, action)(*given)
            self.cloud._store.publish(self._zone, change)


class Unretried(Route53Registry):
    """As an agent calls it, each call tried once."""

    size = 0
    members: tuple[str, ...] = ()
    generations: ClassVar[dict[str, str]] = {}

    def leave_set(self, owner: Owner, *addresses: str) -> bool:
        return super().leave_set(owner)

    def leave_unhealthy(self, owner: Owner, floors: Mapping[str, int], *addresses: str) -> str:  # type: ignore[override]
        return super().leave_unhealthy(owner, floors["SRV"])


class Route53Zone:
    service = "route53"
    cached_s = 30.0

    def __init__(self, cloud: Cloud) -> None:
        self._cloud, self.faults, self.clock = cloud, cloud.faults, Clock()
        cloud.aws.route53.limits = UNLIMITED
        self.id = cloud.aws.add_zone(DIRECTORY)
        self._store = cloud.aws.route53.store
        self._zone = self._store.zone(self.id)
        self._client = cloud.route53()
        self._boto = cloud.client("route53")
        serve_session(self._client._aws._session, cloud.url, cloud.aws.app)
        self._end_boto = serve_boto(self._boto, cloud.aws.app)
        self._judged = Judged()
        self._joins = tuple(
            Route53Join(
                zone=self.id,
                domain=DIRECTORY,
                service=SERVICE,
                incarnation=each,
                port=4218,
                priority=10,
                weight=20,
                ttl=int(self.cached_s),
                srv=srv,
            )
            for each, srv in zip(INCARNATIONS, ("service", "incarnation"), strict=True)
        )

    def patch(self, patcher: pytest.MonkeyPatch) -> None:
        api = BotoRoute53(self._boto)
        patcher.setattr("components.dns.route53._route53", lambda zone, _: Route53Store(zone, api))

    def close(self) -> None:
        self._end_boto()
        self.faults.clear()
        self._store.change(self.id, [Change("DELETE", each) for each in self.sets()])
        self._store.remove_zone(self.id)

    def sets(self) -> list[RecordSet]:
        return [each for each in self._zone.ordered() if each.type not in ("SOA", "NS")]

    def places(self) -> list[dict[str, Any]]:
        shared = {"zone": self.id, "domain": DIRECTORY, "service": SERVICE, "port": 4218, "kind": "route53"}
        join = {"priority": 10, "weight": 20, "ttl": 30, "shard": 0, "shards": 1}
        return [{**shared, **join, "incarnation": each.incarnation, "srv": each.srv} for each in self._joins]

    def joins(self) -> tuple[Join, ...]:
        return self._joins

    def registry(self, join: Join, labels: HostLabels) -> Registry:
        assert isinstance(join, Route53Join)
        return Unretried(join, Route53Store(self.id, self._client), pause=lambda _: None, labels=labels)  # type: ignore[return-value]

    def answers(self, name: str, *types: str) -> frozenset[str]:
        found = self._cloud.aws.lookup(DIRECTORY, name) or ()
        return frozenset(value for each in found if each.type in types for value in each.values)

    def zone_state(self, stack: str, generations: Mapping[str, set[str]]) -> ZoneState:
        """Each value of a shared set has an owner. Any other set has one owner as a whole, with its TTL."""
        known = {generation: {*had} for generation, had in generations.items()}
        return self._judged.unless_known(
            ({**self._zone.sets}, stack, known), lambda: self._read_state(stack, generations)
        )

    def _read_state(self, stack: str, generations: Mapping[str, set[str]]) -> ZoneState:
        # Hosts of all registrations, also those of which the mark is gone.
        below = {each.name for each in self._zone.sets.values() if each.name.endswith(f".{RC}")}
        below |= {f"{generation}.{RC}" for generation in generations}
        hosts = {
            name: known_as
            for name in below
            if (known_as := generation_of(name)) in generations and name.count(".") == 3
        }
        owners: dict[str, Owner] = {}
        for each in self._zone.sets.values():
            if each.type == "TXT" and each.name.endswith(f".{RC}") and f".c.{RC}" not in each.name:
                owner = next((found for value in each.values if (found := owner_in(value.strip('"')))), None)
                owners |= {each.name: owner} if owner else {}
        records: dict[Owner, set[OwnedRecord]] = {}
        foreign: dict[tuple[str, ...], str] = {}
        challenged = set()
        for each in self.sets():
            shared = not each.identifier and (
                (each.type == "SRV" and each.name in SETS)
                or (each.name in (hosts | owners) and each.type in ("A", "AAAA", "TXT"))
                # A challenge may be beside a user's records, and is removed alone.
                or (each.name.endswith(f".c.{RC}") and each.type == "TXT")
            )
            for value in each.values:
                target = value.rpartition(" ")[2].rstrip(".").lower() if each.type == "SRV" else each.name
                owner = owners.get(target) or _unnamed(target, hosts)
                challenge = each.type == "TXT" and challenge_of(value, each.name, self.joins(), stack)
                if challenge:
                    challenged.add(challenge)
                elif shared and each.type == "SRV" and target.endswith(f".{RC}") and not owner:
                    if self._exists(target):
                        foreign[each.name, each.type, value] = ""
                elif shared and owner and (each.type == "SRV" or _is_ours(each.type, value, owner, generations)):
                    records.setdefault(owner, set()).add((each.type, each.name, value))
                elif shared:
                    foreign[each.name, each.type, value] = ""
                else:
                    foreign[each.name, each.type, each.identifier, value] = f"{each.ttl} {each.routing} {each.values}"
        return ZoneState({key: frozenset(each) for key, each in records.items()}, frozenset(challenged), foreign)

    def _exists(self, name: str) -> bool:
        return any(key[0] == name for key in self._zone.sets)

    def twice(self, records: Iterable[OwnedRecord]) -> bool:
        places = [record[:2] for record in records if record[0] != "TXT"]
        return len(places) != len(set(places))

    def address_of(self, record: OwnedRecord) -> str:
        return ""

    # What a user does by hand

    def put(self, kind: str, name: str, value: str, ttl: int, identifier: str = "") -> None:
        """`value` beside those that are there."""
        old = self._zone.sets.get((name, kind, identifier))
        values = tuple(dict.fromkeys((*(old.values if old else ()), value)))
        routing = {"Weight": "10"} if identifier else {}
        kept = old.ttl if old else ttl
        self._write(
            "UPSERT",
            RecordSet(name=name, type=kind, ttl=kept, values=values, identifier=identifier, routing=routing),
        )

    def take(self, old: RecordSet, values: Iterable[str]) -> None:
        """Leave only `values` of a set; none: the set goes."""
        kept = tuple(values)
        self._write("UPSERT", RecordSet(**{**vars(old), "values": kept})) if kept else self._write("DELETE", old)

    def _write(self, action: Any, *sets: RecordSet) -> None:
        with contextlib.suppress(AwsError):
            self._store.change(self.id, [Change(action, each) for each in sets])


def _unnamed(target: str, hosts: Mapping[str, str]) -> Owner | None:
    """The owner of a host of ours without its mark."""
    generation = hosts.get(target)
    return Owner("local", "web", "unnamed", generation, "i-00000000") if generation else None


def _is_ours(kind: str, value: str, owner: Owner, generations: Mapping[str, set[str]]) -> bool:
    if kind == "TXT":
        return value.startswith(('"rollcall/', '"joins ', '"leaves ', '"kept ', '"at '))
    return owner.stack != "local" or value in generations.get(owner.generation, ())
