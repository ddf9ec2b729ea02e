"""Hosted zones: their record sets, tags and changes."""

from __future__ import annotations

import secrets
import string
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from localcloud.aws.route53.names import from_presentation, normalize, order, presentation
from localcloud.aws.route53.records import MOST_IN_ZONE, BatchError, Change, Key, RecordSet, apply
from localcloud.aws.route53.view import View
from localcloud.aws.wire import AwsError
from localcloud.dns import data

# Every zone of the local account has the same four; the DNS server must answer under these names.
NAME_SERVERS = ("ns-2048.awsdns-64.com", "ns-2049.awsdns-65.net", "ns-2050.awsdns-66.org", "ns-2051.awsdns-67.co.uk")
# Those of a private zone: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/hosted-zones-private.html . No server answers there.
PRIVATE_SERVERS = ("ns-1536.awsdns-00.co.uk", "ns-0.awsdns-00.com", "ns-1024.awsdns-00.org", "ns-512.awsdns-00.net")
# https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DNSLimitations.html (VPCs of a private hosted zone)
_MOST_VPCS = 300
# "Route 53 permits responses up to 4096 bytes over UDP", "appends name server (NS) records for the relevant hosted zone to the Authority
# section" and "A or AAAA records for any target of an MX, CNAME, NS, or SRV record":
# https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DNSBehavior.html . "All values in random order":
# https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/routing-policy-simple.html
MANNER = data.Manner(largest_udp=4096, in_random_order=True, adds_servers=True, adds_addresses=True)
_NS_TTL = 172800
_SOA_TTL = 900
_ID_ALPHABET = string.ascii_uppercase + string.digits
_MOST_ZONES = 500


@dataclass
class Zone:
    """`name` is normalized, `view` what its name servers answer."""

    id: str
    name: str
    reference: str
    comment: str
    view: View
    sets: dict[Key, RecordSet] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    # The regions of the VPCs that find a private zone, by their ids. A public zone has none.
    vpcs: dict[str, str] = field(default_factory=dict)

    @property
    def private(self) -> bool:
        return bool(self.vpcs)

    def ordered(self) -> list[RecordSet]:
        """As ListResourceRecordSets has them: by the labels of the name from the last one, then by type."""
        return sorted(self.sets.values(), key=lambda each: (order(each.name), each.type, each.identifier))


@dataclass(frozen=True)
class ChangeInfo:
    """A change that was accepted, when, and when it has reached all name servers."""

    id: str
    submitted: float
    due: float
    comment: str = ""


class Store:
    """All zones of the account. Thread-safe. `most_zones` and `most_sets` are its quotas of zones, and of record sets of a zone.

    `delay` says how many seconds a change that is made now takes to propagate, `is_foreign`
    whether another account has a zone with this id, and `has_vpc` whether the account has a VPC in a region."""

    def __init__(self, clock: Callable[[], float], delay: Callable[[], float]) -> None:
        self.clock = clock
        self._delay = delay
        self.most_zones, self.most_sets = _MOST_ZONES, MOST_IN_ZONE
        self.is_foreign: Callable[[str], bool] = lambda _: False
        self.has_vpc: Callable[[str, str], bool] = lambda region, vpc: False
        self._lock = threading.RLock()
        self._zones: dict[str, Zone] = {}
        self._names: dict[str, Zone] = {}
        self._changes: dict[str, ChangeInfo] = {}

    def add_zone(self, name: str, reference: str = "", comment: str = "", vpc: tuple[str, str] | None = None) -> Zone:
        """Create a zone. With a `vpc`, its region and its id, the zone is private.

        Raises AwsError for a used reference (whether or not the name differs), over the account's quota, and for a VPC that has a zone of
        this name.
        """
        with self._lock:
            normal = normalize(name)
            if "." not in normal:
                raise AwsError("InvalidDomainName", f"{name} is not a valid domain name")
            reference = reference or secrets.token_hex(16)
            if any(zone.reference == reference for zone in self._zones.values()):
                raise AwsError(
                    "HostedZoneAlreadyExists",
                    f"A hosted zone has already been created with the specified caller reference: {reference}",
                    409,
                )
            if len(self._zones) >= self.most_zones:
                raise AwsError("TooManyHostedZones", "The limit of hosted zones of the account is reached")
            zone = Zone(_identifier("Z", 20), normal, reference, comment, View(normal, self.clock))
            if vpc is not None:
                self._associate(zone, *vpc)
            for each in _own_sets(normal, PRIVATE_SERVERS if vpc else NAME_SERVERS):
                zone.sets[each.key] = each
            zone.view.publish(dict(zone.sets), self.clock())
            self._zones[zone.id] = zone
            if not zone.private:
                self._names.setdefault(normal, zone)
            return zone

    def associate(self, zone_id: str, region: str, vpc: str) -> ChangeInfo:
        """Raises AwsError: https://docs.aws.amazon.com/Route53/latest/APIReference/API_AssociateVPCWithHostedZone.html"""
        with self._lock:
            zone = self.zone(zone_id)
            if not zone.private:
                raise AwsError(
                    "PublicZoneVPCAssociation", "You're trying to associate a VPC with a public hosted zone."
                )
            self._associate(zone, region, vpc)
            return self._submitted("", 0.0)

    def disassociate(self, zone_id: str, vpc: str) -> ChangeInfo:
        """Raises AwsError: https://docs.aws.amazon.com/Route53/latest/APIReference/API_DisassociateVPCFromHostedZone.html"""
        with self._lock:
            zone = self.zone(zone_id)
            if vpc not in zone.vpcs:
                raise AwsError("VPCAssociationNotFound", f"The VPC {vpc} and the hosted zone are not associated.", 404)
            if len(zone.vpcs) == 1:
                raise AwsError(
                    "LastVPCAssociation",
                    "The VPC that you are trying to disassociate from the private hosted zone is the last VPC of the zone.",
                )
            del zone.vpcs[vpc]
            return self._submitted("", 0.0)

    def _associate(self, zone: Zone, region: str, vpc: str) -> None:
        if not self.has_vpc(region, vpc):
            raise AwsError("InvalidVPCId", f"The VPC: {vpc} you provided is not authorized to make the association.")
        if any(each.name == zone.name and vpc in each.vpcs for each in self._zones.values()):
            raise AwsError(
                "ConflictingDomainExists",
                f"The VPC {vpc} in region {region} has already been associated with the hosted zone of the same domain {zone.name}.",
            )
        if len(zone.vpcs) >= _MOST_VPCS:
            raise AwsError("LimitsExceeded", f"A private hosted zone has {_MOST_VPCS} VPCs at most.")
        zone.vpcs[vpc] = region

    def remove_zone(self, zone_id: str) -> ChangeInfo:
        with self._lock:
            zone = self.zone(zone_id)
            if any(key not in {each.key for each in _own_sets(zone.name)} for key in zone.sets):
                raise AwsError(
                    "HostedZoneNotEmpty",
                    "The specified hosted zone contains non-required resource record sets and so cannot be deleted.",
                )
            del self._zones[zone.id]
            self._names = {}
            for each in self._zones.values():
                if not each.private:
                    self._names.setdefault(each.name, each)
            return self._submitted("", 0.0)

    def zone(self, zone_id: str) -> Zone:
        """By its id, with or without `/hostedzone/`. Raises AwsError: NoSuchHostedZone where no account has it, AccessDenied where
        another one has (https://github.com/hashicorp/terraform-provider-aws/issues/12570)."""
        short = zone_id.rpartition("/")[2]
        with self._lock:
            if short not in self._zones:
                if self.is_foreign(short):
                    raise AwsError("AccessDenied", "The caller is not authorized to access this resource", 403)
                raise AwsError("NoSuchHostedZone", f"No hosted zone found with ID: {short}", 404)
            return self._zones[short]

    def has(self, zone_id: str) -> bool:
        return zone_id in self._zones

    def all(self) -> list[Zone]:
        with self._lock:
            return list(self._zones.values())

    def change(self, zone_id: str, changes: Sequence[Change], comment: str = "") -> ChangeInfo:
        """All of the batch or nothing. Raises AwsError (InvalidChangeBatch)."""
        with self._lock:
            zone = self.zone(zone_id)
            try:
                changed = apply(zone.name, zone.sets, changes, self.most_sets)
            except BatchError as refused:
                raise AwsError("InvalidChangeBatch", f"[{refused}]") from refused
            for key, each in changed.items():
                if each is None:
                    zone.sets.pop(key, None)
                else:
                    zone.sets[key] = each
            info = self._submitted(comment, self._delay())
            zone.view.publish(changed, info.due)
            return info

    def submitted(self, comment: str = "") -> ChangeInfo:
        """A change that propagates at once, as of a zone that was made."""
        with self._lock:
            return self._submitted(comment, 0.0)

    def info(self, change_id: str) -> ChangeInfo:
        short = change_id.rpartition("/")[2]
        with self._lock:
            if short not in self._changes:
                raise AwsError("NoSuchChange", f"Could not find resource with ID: {short}", 404)
            return self._changes[short]

    def zones(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(map(presentation, self._names))

    def lookup(self, zone: str, name: str) -> tuple[data.RecordSet, ...] | None:
        with self._lock:
            found = self._names.get(from_presentation(zone))
        return found.view.lookup(name) if found is not None else None

    def private_zones(self, vpc: str) -> tuple[str, ...]:
        """Return the names of the private zones that a VPC finds."""
        with self._lock:
            return tuple(presentation(each.name) for each in self._zones.values() if vpc in each.vpcs)

    def private_lookup(self, vpc: str, zone: str, name: str) -> tuple[data.RecordSet, ...] | None:
        """Return what a VPC finds at a name of a private zone."""
        with self._lock:
            wanted = from_presentation(zone)
            found = next((each for each in self._zones.values() if vpc in each.vpcs and each.name == wanted), None)
        return found.view.lookup(name) if found is not None else None

    def _submitted(self, comment: str, delay: float) -> ChangeInfo:
        now = self.clock()
        info = ChangeInfo(_identifier("C", 20), now, now + delay, comment)
        self._changes[info.id] = info
        return info


def _own_sets(zone: str, names: Sequence[str] = NAME_SERVERS) -> list[RecordSet]:
    soa = f"{names[0]}. awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400"
    servers = tuple(f"{name}." for name in names)
    return [
        RecordSet(name=zone, type="NS", ttl=_NS_TTL, values=servers),
        RecordSet(name=zone, type="SOA", ttl=_SOA_TTL, values=(soa,)),
    ]


def _identifier(first: str, length: int) -> str:
    return first + "".join(secrets.choice(_ID_ALPHABET) for _ in range(length))


class PrivateZones(data.ZoneSource):
    """The private zones of one VPC."""

    manner = MANNER

    def __init__(self, store: Store, vpc: str) -> None:
        self._store, self._vpc = store, vpc

    def zones(self) -> tuple[str, ...]:
        return self._store.private_zones(self._vpc)

    def lookup(self, zone: str, name: str) -> tuple[data.RecordSet, ...] | None:
        return self._store.private_lookup(self._vpc, zone, name)
