"""Calculate what an `up` would create, and check the accounts' quotas, while new machines run beside the ones that they replace.

AWS limits the vCPUs of running on-demand instances, for each class of types and each region (Service Quotas). Triton
limits machines, memory and disk where its operator has the plugin for it (CloudAPI's GetAccountLimits). Elsewhere the
limits cannot be read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from components.aws import api_errors
from components.config.availability_zones import is_outside
from components.config.models import FleetSettings
from components.preflight import ec2_images, ec2_zones
from components.preflight.triton_networks import is_on
from components.resources.fleets.revision import VERSION, is_of
from rollcall.settings import FLEET, MACHINE, STACK

if TYPE_CHECKING:
    from components.joyent.catalogue import Catalogue
    from components.joyent.records import ImageRecord, PackageRecord

# Which quota limits the vCPUs of a type, by the letters that its name begins with. Other classes are not asked about.
# https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
_STANDARD = ("L-1216C47A", "vCPUs of standard on-demand instances")
_CLASSES = {
    **dict.fromkeys(("a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"), _STANDARD),
    **dict.fromkeys(("g", "gr", "vt"), ("L-DB2E81BA", "vCPUs of G and VT on-demand instances")),
    "p": ("L-417A185B", "vCPUs of P on-demand instances"),
    "x": ("L-7295265B", "vCPUs of X on-demand instances"),
}
_PRESENT = ("pending", "running", "stopping", "stopped")
_COUNTED = ("pending", "running")


@dataclass(frozen=True, kw_only=True)
class Births:
    """What a fleet would create: `made` machines, of which `replaced` replace others; `there` exist now."""

    fleet: str
    made: int
    replaced: int
    there: int

    @property
    def note(self) -> str | None:
        """Return what a reviewer should know beforehand."""
        if not self.replaced:
            return None
        return (
            f"{self.fleet}: {self.replaced} of {self.there} machines are replaced, successors first: "
            f"{self.there + self.made} run for a while"
        )


@dataclass(frozen=True, kw_only=True)
class Quota:
    """A limit: `what` is limited to `value`, and `used` of it is in use. `fix` is how to get more."""

    what: str
    value: float
    used: float
    fix: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """Findings. `faults` must be fixed before anything is created; `warnings` and `notes` are only shown."""

    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: Found) -> Found:
        both = (self, other)
        faults, warnings, notes = (sum((getattr(each, key) for each in both), ()) for key in _PARTS)
        return Found(faults=faults, warnings=warnings, notes=notes)


_PARTS = ("faults", "warnings", "notes")


def births(fleet: FleetSettings, machines: Iterable[tuple[str, bool]]) -> Births:
    """Return what a fleet would create.

    `machines` are those that exist: the name in the fleet (`0`, `1`, …), and whether it is what the fleet wants.
    """
    there = list(machines)
    present, fitting = {name for name, _ in there}, {name for name, fits in there if fits}
    wanted = {str(index) for index in range(fleet.count)}
    return Births(
        fleet=fleet.name,
        made=len(wanted - fitting),
        replaced=len(wanted & present - fitting),
        there=len(there),
    )


def over(quota: Quota, costs: Sequence[tuple[Births, float]], *, again: Sequence[tuple[FleetSettings, float]]) -> Found:
    """Report a quota that is too small for what is created, or for a replacement of all machines (`again`).

    `costs` is what each machine takes of it. The first is a fault. The replacement may not happen for a long time, so
    it is only a warning.
    """
    need = quota.used + sum(each.made * cost for each, cost in costs)
    # A quota that is already exceeded is not an error when nothing is created.
    if need > quota.value and need > quota.used:
        made = ", ".join(
            f"{each.fleet} makes {each.made} × {cost:g}{_instead(each)}" for each, cost in costs if each.made
        )
        return Found(
            faults=(
                f"rollcall:fleets: {need:g} {quota.what} would be taken at once ({quota.used:g} are now; {made}), the quota is "
                f"{quota.value:g}. {quota.fix.format(need=f'{need:g}')}.",
            )
        )
    settled = need - sum(each.replaced * cost for each, cost in costs)
    doubled = settled + sum(fleet.count * cost for fleet, cost in again)
    if doubled <= quota.value or not again:
        return Found()
    return Found(
        warnings=(
            f"changed userdata replaces every machine, successors first, which would take {doubled:g} {quota.what}; the quota is "
            f"{quota.value:g}. {quota.fix.format(need=f'{doubled:g}')}.",
        )
    )


def _instead(each: Births) -> str:
    return f" ({each.replaced} in the place of others)" if each.replaced else ""


# AWS


@dataclass(frozen=True, kw_only=True)
class _Region:
    """What EC2 has in a region.

    It has the instances, the vCPUs and architectures of each type that is used or wanted, and which of the wanted key
    pairs exist. `offered` are all zones that have a type, `zones` those of them that have a default subnet.
    """

    name: str
    default_vpc: bool
    instances: Sequence[Mapping[str, Any]]
    vcpus: Mapping[str, int]
    architectures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    offered: Mapping[str, frozenset[str]] = field(default_factory=dict)
    zones: Mapping[str, frozenset[str]] = field(default_factory=dict)
    subnets: Sequence[Mapping[str, Any]] = ()
    key_pairs: frozenset[str] = frozenset()


def check_ec2(
    fleets: Sequence[FleetSettings],
    stack: str,
    region: str,
    client: Callable[[str], Any],
    *,
    elsewhere: Collection[str] = (),
    in_vpcs: Callable[[Mapping[str, Births]], Found] = lambda _: Found(),
) -> Found:
    """Check the fleets of one region. `client` makes boto3's clients for a service. Raises what EC2's client raises.

    `elsewhere` are the names of the fleets that are not in the default VPC. `in_vpcs` checks VPCs (components/preflight/vpcs.py). It is
    called with what each fleet would create, and only if a fleet is elsewhere, names groups, or has no default VPC.
    """
    here = _read_region(fleets, region, client("ec2"))
    wrong = {
        each.name: fault for each in fleets if (fault := _type_fault(each, here, in_default=each.name not in elsewhere))
    }
    faults = [*wrong.values()]
    made = {each.name: births(each, _machines(each, stack, here)) for each in fleets}
    has_choice = elsewhere or not here.default_vpc or any(each.security_groups for each in fleets)
    of_vpcs = in_vpcs(made) if has_choice else Found()
    # EC2 needs the key pair and the image when it creates a machine, and not afterwards.
    making = [each for each in fleets if made[each.name].made]
    faults += [fault for each in making if (fault := _key_pair_fault(each, here))]
    in_default = [each for each in fleets if each.name not in {*wrong, *elsewhere}]
    faults += ec2_zones.faults(in_default, region, here.offered, here.subnets)
    faults += ec2_images.faults(making, region, here.architectures, client)
    found = of_vpcs + Found(faults=tuple(faults), notes=tuple(note for each in made.values() if (note := each.note)))
    fleets = [each for each in fleets if each.name not in wrong]
    for code, what in dict.fromkeys(_CLASSES[kind] for each in fleets if (kind := _kind(each.size)) in _CLASSES):
        mine = [each for each in fleets if _CLASSES.get(_kind(each.size)) == (code, what)]
        value, warning = applied(client("service-quotas"), code, region, what="vCPUs")
        if value is None:
            found += Found(warnings=(warning,))
            continue
        quota = Quota(
            what=f"{what} in {region}",
            value=value,
            used=_used(here, code),
            fix=(
                "Run `aws service-quotas request-service-quota-increase --service-code ec2 --quota-code "
                f"{code} --desired-value {{need}} --region {region}`, or lower a count"
            ),
        )
        costs = [(made[each.name], float(here.vcpus[each.size])) for each in mine]
        found += over(quota, costs, again=[(each, float(here.vcpus[each.size])) for each in mine])
    return found


def _read_region(fleets: Sequence[FleetSettings], region: str, ec2: Any) -> _Region:
    pages = ec2.get_paginator("describe_instances").paginate(
        Filters=[{"Name": "instance-state-name", "Values": list(_PRESENT)}]
    )
    instances = [each for page in pages for reservation in page["Reservations"] for each in reservation["Instances"]]
    sizes = sorted({each.size for each in fleets})
    kinds = sorted({each["InstanceType"] for each in instances} | set(sizes))
    types = ec2.get_paginator("describe_instance_types").paginate(Filters=[{"Name": "instance-type", "Values": kinds}])
    known = {each["InstanceType"]: each for page in types for each in page["InstanceTypes"]}
    offers = ec2.get_paginator("describe_instance_type_offerings").paginate(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": sizes}]
    )
    listed = [(each["InstanceType"], each["Location"]) for page in offers for each in page["InstanceTypeOfferings"]]
    offered = {size: frozenset(zone for kind, zone in listed if kind == size) for size in sizes}
    default = [{"Name": "is-default", "Values": ["true"]}]
    vpcs = ec2.describe_vpcs(Filters=default)["Vpcs"]
    subnets = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    open_zones = {each["AvailabilityZone"] for each in subnets}
    named = sorted({each.ssh.key_name for each in fleets if each.ssh and each.ssh.key_name})
    pairs = ec2.describe_key_pairs(Filters=[{"Name": "key-name", "Values": named}])["KeyPairs"] if named else ()
    return _Region(
        name=region,
        default_vpc=bool(vpcs),
        instances=instances,
        vcpus={kind: each["VCpuInfo"]["DefaultVCpus"] for kind, each in known.items()},
        architectures={kind: tuple(each["ProcessorInfo"]["SupportedArchitectures"]) for kind, each in known.items()},
        offered=offered,
        zones={size: zones & open_zones for size, zones in offered.items()},
        subnets=subnets,
        key_pairs=frozenset(each["KeyName"] for each in pairs),
    )


def _type_fault(fleet: FleetSettings, here: _Region, *, in_default: bool) -> str | None:
    """Check the size. For a fleet in the default VPC, also check its subnets (components/preflight/vpcs.py checks those of other VPCs)."""
    key = f"rollcall:fleets.{fleet.name}.size"
    if fleet.size not in here.vcpus:
        return f"{key}: EC2 has no instance type {fleet.size!r} in {here.name}. Choose one that `make catalogue` lists."
    if not here.offered[fleet.size]:
        return f"{key}: no zone of {here.name} offers {fleet.size}. Choose one that `make catalogue` lists."
    if not (in_default and here.default_vpc):
        return None
    if not here.zones[fleet.size]:
        zone = min(here.offered[fleet.size])
        return (
            f"{key}: no zone of {here.name} with {fleet.size} has a default subnet. "
            f"Run `aws ec2 create-default-subnet --availability-zone {zone} --region {here.name}`, or choose another size."
        )
    return _ipv6_fault(fleet, here) if fleet.ipv6 else None


def _key_pair_fault(fleet: FleetSettings, here: _Region) -> str | None:
    """Check that the key pair exists in the region. A key pair belongs to one region."""
    name = fleet.ssh.key_name if fleet.ssh else None
    if name is None or name in here.key_pairs:
        return None
    return (
        f"rollcall:fleets.{fleet.name}.ssh.keyName: EC2 has no key pair {name!r} in {here.name}. Run `aws ec2 import-key-pair --key-name "
        f"{name} --public-key-material fileb://~/.ssh/id_ed25519.pub --region {here.name}`, or name one that it has."
    )


def _ipv6_fault(fleet: FleetSettings, here: _Region) -> str | None:
    """Check IPv6. A default VPC has none before its owner asks for it."""
    usable = [each for each in here.subnets if each["AvailabilityZone"] in here.zones[fleet.size]]
    if any(has_ipv6(each) for each in usable):
        return None
    vpc, subnet = usable[0]["VpcId"], usable[0]["SubnetId"]
    return (
        f"rollcall:fleets.{fleet.name}.ipv6: is on, and no default subnet of {here.name} in a zone with {fleet.size} has an IPv6 CIDR. "
        f"Run `aws ec2 associate-vpc-cidr-block --vpc-id {vpc} --amazon-provided-ipv6-cidr-block --region {here.name}`, then "
        f"`aws ec2 associate-subnet-cidr-block --subnet-id {subnet} --region {here.name} --ipv6-cidr-block` with a /64 of it, and route "
        "::/0 to the VPC's internet gateway. Or leave ipv6 out."
    )


def has_ipv6(subnet: Mapping[str, Any]) -> bool:
    """Return whether machines in this EC2 subnet can have an IPv6 address."""
    found = subnet.get("Ipv6CidrBlockAssociationSet") or ()
    return any(each["Ipv6CidrBlockState"]["State"] == "associated" for each in found)


def _machines(fleet: FleetSettings, stack: str, here: _Region) -> list[tuple[str, bool]]:
    found, ids = [], ec2_zones.zone_ids(here.subnets)
    for each in here.instances:
        tags = {tag["Key"]: tag["Value"] for tag in each.get("Tags", ())}
        zone = str((each.get("Placement") or {}).get("AvailabilityZone") or "")
        if (tags.get(STACK), tags.get(FLEET)) == (stack, fleet.name):
            stays = not is_outside(fleet.zones, zone, ids.get(zone, ""))
            found.append((tags.get(MACHINE, ""), stays and is_of(tags.get(VERSION, ""), fleet, each["ImageId"])))
    return found


def _used(here: _Region, code: str) -> float:
    """Return the vCPUs that count: of instances that run or will, without spot instances and dedicated hosts."""
    counted = Counter(
        each["InstanceType"]
        for each in here.instances
        if each["State"]["Name"] in _COUNTED
        and each.get("InstanceLifecycle") != "spot"
        and (each.get("Placement") or {}).get("Tenancy") != "host"
        and _CLASSES.get(_kind(each["InstanceType"]), ("", ""))[0] == code
    )
    return float(sum(here.vcpus.get(kind, 0) * count for kind, count in counted.items()))


def _kind(size: str) -> str:
    found = re.match(r"[a-z]+", size)
    return found[0] if found else ""


def applied(quotas: Any, quota: str, region: str, service: str = "ec2", *, what: str) -> tuple[float | None, str]:
    """Return the quota as it was raised for the account, or None and why it is not known.

    An unknown quota is not a fault, since AWS itself would refuse. `what` it limits is for people.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    quota_key = {"ServiceCode": service, "QuotaCode": quota}
    try:
        try:
            return float(quotas.get_service_quota(**quota_key)["Quota"]["Value"]), ""
        except quotas.exceptions.NoSuchResourceException:
            # The quota was never raised in this account, so the account has no separate value.
            return float(quotas.get_aws_default_service_quota(**quota_key)["Quota"]["Value"]), ""
    except (ClientError, BotoCoreError) as failed:
        code = api_errors.code_of(failed) if isinstance(failed, ClientError) else type(failed).__name__
        allow = isinstance(failed, ClientError) and api_errors.is_denied(failed)
        fix = (
            "Allow servicequotas:GetServiceQuota and servicequotas:GetAWSDefaultServiceQuota"
            if allow
            else "Run it again"
        )
    return None, (
        f"the account's quota of {what} in {region} ({quota}) was not read ({code}), so `up` has not checked that the fleets fit into it. "
        f"{fix}."
    )


# Triton


def check_triton(
    fleets: Sequence[FleetSettings],
    stack: str,
    api: Any,
    datacenter: str = "",
    *,
    networks: Mapping[str, Sequence[str]] | None = None,
    catalogue: Catalogue | None = None,
) -> Found:
    """Check the fleets of one data centre, which is named if it is not the configured one. Raises CloudApiError.

    `api` is a CloudApi. `networks` has the ids of the networks that a fleet's machines will be on, by its name.
    `catalogue` has what machines consist of.
    """
    wanted = networks or {}
    where = f" in {datacenter}" if datacenter else ""
    tagged = api.list_machines(tags={STACK: stack})
    listed = {each.id for each in api.list_networks()} if wanted else set()
    made = {}
    for fleet in fleets:
        there = []
        for each in tagged:
            tags = {key: str(value) for key, value in each.tags.items()}
            fits = is_of(tags.get(VERSION, ""), fleet) and is_on(each.networks, wanted.get(fleet.name, ()), listed)
            there += [(tags.get(MACHINE, ""), fits)] if tags.get(FLEET) == fleet.name else []
        made[fleet.name] = births(fleet, there)
    # An adopted machine exists already, with whatever it was created from.
    making = [each for each in fleets if made[each.name].made > len(each.adopt)]
    found = Found(
        faults=tuple(_offer_faults(making, catalogue)) if catalogue else (),
        notes=tuple(note for each in made.values() if (note := each.note)),
    )
    # 0 is unlimited. A limit with `check` applies to some images only.
    limits = [each for each in api.get_limits() if int(each["value"]) and "check" not in each and "used" in each]
    packages = {name: each for each in api.list_packages() for name in (each.name, each.id)} if limits else {}
    for limit in limits:
        quota = Quota(
            what=f"{_TRITON.get(limit['by'], limit['by'])}{where}",
            value=float(limit["value"]),
            used=float(limit["used"]),
            fix="Ask Triton's operator for {need}, or lower a count",
        )
        costs = {each.name: _cost(limit["by"], packages.get(each.size)) for each in fleets}
        found += over(
            quota,
            [(made[each.name], costs[each.name]) for each in fleets],
            again=[(each, costs[each.name]) for each in fleets],
        )
    return found


def _offer_faults(fleets: Iterable[FleetSettings], catalogue: Catalogue) -> Iterator[str]:
    """Return what the data centre does not have, and what does not fit. The provider finds it too, but one resource after the other."""
    from components.joyent.errors import AmbiguousError, NotFoundError, RefusedError

    for fleet in fleets:
        offers: dict[str, Any] = {}
        for key, find, text in (("size", catalogue.package, fleet.size), ("image", catalogue.image, fleet.image)):
            try:
                offers[key] = find(text)
            except (AmbiguousError, NotFoundError, RefusedError) as fault:
                yield f"rollcall:fleets.{fleet.name}.{key}: {fault}"
        if len(offers) == 2:
            yield from _misfits(fleet, offers["size"], offers["image"], catalogue)


def _misfits(fleet: FleetSettings, package: PackageRecord, image: ImageRecord, catalogue: Catalogue) -> Iterator[str]:
    """Return why a fleet's brand and disks do not fit its image and its package."""
    from components.joyent.placement_checks import brand_faults, disk_faults

    found = list(brand_faults(fleet.brand, image, package))
    if fleet.disks and not found:
        flexible = [each.name for each in catalogue.packages() if each.flexible_disk]
        found += disk_faults(fleet.disk_sizes, package, image, fleet.brand or "", flexible)
    for input_, reason in found:
        yield f"rollcall:fleets.{fleet.name}.{'size' if input_ == 'package' else input_}: {reason}."


_TRITON = {"machines": "machines of the Triton account", "ram": "MiB of memory", "quota": "GiB of disk"}


def _cost(by: str, package: Any) -> float:
    if by == "machines":
        return 1.0
    # An unknown package is a separate fault.
    return 0.0 if package is None else float(package.memory if by == "ram" else package.disk / 1024)
