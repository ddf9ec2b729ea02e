"""Find the VPC and the subnets of EC2 fleets that choose them, and refuse those in which the machines could not work.

A subnet is public if its route table has a route to an internet gateway, otherwise private:
https://docs.aws.amazon.com/vpc/latest/userguide/configure-subnets.html#subnet-types . A subnet without a route table of its own uses the
main one of its VPC: https://docs.aws.amazon.com/vpc/latest/userguide/subnet-route-tables.html . EC2 keeps five addresses of each subnet:
https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html .
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.config.errors import at
from components.config.models import (
    PRIVATE_SUBNETS,
    PUBLIC_SUBNETS,
    Choice,
    FleetSettings,
    FleetVpc,
    Settings,
    Subnet,
)
from components.preflight import ec2_zones
from components.preflight.quotas import Births, Found, applied, has_ipv6

_EVERYWHERE = ("0.0.0.0/0", "::/0")
_MOST_LISTED = 8
# What machines ask besides their DNS provider: parameters, releases, packages.
_NEEDED = "SSM, S3, the API of their DNS provider and the package mirrors"


class VpcError(Exception):
    """A fleet's VPC or subnets cannot be used. The message names the key, what there is, and the fix."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A fleet, and whether its machines have public addresses."""

    fleet: FleetSettings
    is_public: bool


@dataclass(frozen=True, kw_only=True)
class Network:
    """The VPCs of a region as EC2 lists them. `offered` are the zones that have an instance type."""

    region: str
    vpcs: Sequence[Mapping[str, Any]]
    subnets: Sequence[Mapping[str, Any]]
    tables: Sequence[Mapping[str, Any]]
    groups: Sequence[Mapping[str, Any]]
    endpoints: Sequence[Mapping[str, Any]]
    offered: Mapping[str, frozenset[str]]

    def resolve(self, wanted: Wanted) -> FleetVpc:
        """Return the VPC of a fleet and its subnets. Raises VpcError."""
        fleet = wanted.fleet
        vpc = self._vpc(fleet)
        chosen = self._subnets(wanted, vpc)
        usable = self._with_ipv6(fleet, self._with_size(fleet, chosen))
        subnets = [
            Subnet(id=each["SubnetId"], zone=each["AvailabilityZone"], zone_id=each.get("AvailabilityZoneId", ""))
            for each in usable
        ]
        return FleetVpc(id=vpc, subnets=spread(subnets))

    # The VPC

    def _vpc(self, fleet: FleetSettings) -> str:
        choice = fleet.vpc
        if isinstance(choice, Mapping):
            return self._tagged_vpc(fleet, choice)
        if choice is not None:
            if choice not in self._ids():
                raise _fault(
                    fleet,
                    "vpc",
                    f"EC2 has no VPC {choice} in {self.region}; it has {self.listed()}",
                    "Name one of these",
                )
            return str(choice)
        if isinstance(fleet.subnets, tuple):
            return self._vpc_of(fleet, [self._subnet(fleet, each) for each in fleet.subnets])
        default = next((each["VpcId"] for each in self.vpcs if each.get("IsDefault")), None)
        if default is None:
            raise _fault(
                fleet, "vpc", f"is not set, and {no_default(self.region)}; it has {self.listed()}", "Name one of these"
            )
        return str(default)

    def _tagged_vpc(self, fleet: FleetSettings, tags: Mapping[str, str]) -> str:
        found = [each for each in self.vpcs if has_tags(each, tags)]
        if len(found) != 1:
            which = f"several VPCs of {self.region} have" if found else f"no VPC of {self.region} has"
            there = self.listed(each["VpcId"] for each in found) if found else self.listed()
            raise _fault(fleet, "vpc", f"{which} the tags {words_of(tags)}: {there}", "Write the id of one")
        return str(found[0]["VpcId"])

    def _vpc_of(self, fleet: FleetSettings, subnets: Sequence[Mapping[str, Any]]) -> str:
        vpcs = sorted({each["VpcId"] for each in subnets})
        if len(vpcs) > 1:
            homes = ", ".join(f"{each['SubnetId']} is in {each['VpcId']}" for each in subnets)
            raise _fault(fleet, "subnets", f"are of several VPCs ({homes})", "Name subnets of one")
        return str(vpcs[0])

    def _ids(self) -> set[str]:
        return {each["VpcId"] for each in self.vpcs}

    # The subnets

    def _subnets(self, wanted: Wanted, vpc: str) -> list[Mapping[str, Any]]:
        """Return the subnets that a fleet chooses. Machines with public addresses can only be in public ones."""
        fleet, own = wanted.fleet, [each for each in self.subnets if each["VpcId"] == vpc]
        choice = fleet.subnets
        if choice is None:
            found = [each for each in own if self.is_public(each) is wanted.is_public]
            if not found and not wanted.is_public:
                return own
            if not found:
                problem = (
                    f"{vpc} has no public subnet (none has a route to an internet gateway); it has {self.listed([vpc])}"
                )
                raise _fault(fleet, "subnets", problem, "Name another VPC, or add the route")
            return found
        found = self._chosen(fleet, choice, own, vpc)
        closed = [each["SubnetId"] for each in found if not self.is_public(each)]
        if wanted.is_public and closed:
            problem = f"{', '.join(closed)} {_are(closed)} private (without a route to an internet gateway), and the machines are public"
            raise _fault(
                fleet,
                "subnets",
                problem,
                "Name public ones, or set publicAddress: false and join what has address: private",
            )
        return found

    def _chosen(
        self, fleet: FleetSettings, choice: Choice, own: Sequence[Mapping[str, Any]], vpc: str
    ) -> list[Mapping[str, Any]]:
        if isinstance(choice, tuple):
            found = [self._subnet(fleet, each) for each in choice]
            foreign = [f"{each['SubnetId']} (of {each['VpcId']})" for each in found if each["VpcId"] != vpc]
            if foreign:
                problem = f"{', '.join(foreign)} {_are(foreign)} not in {vpc}, which has {self.listed([vpc])}"
                raise _fault(fleet, "subnets", problem, "Name subnets of the fleet's VPC, or another vpc")
            return found
        if choice in (PUBLIC_SUBNETS, PRIVATE_SUBNETS):
            found = [each for each in own if self.is_public(each) is (choice == PUBLIC_SUBNETS)]
            if not found:
                raise _fault(
                    fleet, "subnets", f"{vpc} has no {choice} subnet; it has {self.listed([vpc])}", "Name some of these"
                )
            return found
        assert isinstance(choice, Mapping)
        found = [each for each in own if has_tags(each, choice)]
        if not found:
            problem = f"no subnet of {vpc} has the tags {words_of(choice)}; it has {self.listed([vpc])}"
            raise _fault(fleet, "subnets", problem, "Correct the tags, or write ids")
        return found

    def _subnet(self, fleet: FleetSettings, identity: str) -> Mapping[str, Any]:
        found = next((each for each in self.subnets if each["SubnetId"] == identity), None)
        if found is None:
            problem = f"EC2 has no subnet {identity} in {self.region}; it has {self.listed()}"
            raise _fault(fleet, "subnets", problem, "Name some of these")
        return found

    def _with_size(self, fleet: FleetSettings, subnets: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        offered = self.offered.get(fleet.size, frozenset())
        usable = [each for each in subnets if each["AvailabilityZone"] in offered]
        # Without any zone that offers it, the size itself is the fault (quotas.py).
        if offered and not usable:
            there = ", ".join(sorted({each["AvailabilityZone"] for each in subnets}))
            problem = f"are in {there}, and {fleet.size} is only in {', '.join(sorted(offered))}"
            raise _fault(fleet, "subnets", problem, "Name subnets in these zones, or another size")
        return usable or subnets

    def _with_ipv6(self, fleet: FleetSettings, subnets: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        if not fleet.ipv6:
            return subnets
        usable = [each for each in subnets if has_ipv6(each)]
        if not usable:
            listed = ", ".join(each["SubnetId"] for each in subnets)
            fix = "Give one a /64 of its VPC's IPv6 CIDR (`aws ec2 associate-subnet-cidr-block`), or leave ipv6 out"
            raise _fault(fleet, "ipv6", f"is on, and none of {listed} has an IPv6 CIDR", fix)
        return usable

    # The routes

    def is_public(self, subnet: Mapping[str, Any]) -> bool:
        """Return whether a subnet has a route to an internet gateway."""
        return any(str(each.get("GatewayId", "")).startswith("igw-") for each in self._routes(subnet))

    def _routes(self, subnet: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return the routes of a subnet that lead out of the VPC and work."""
        table = self._table(subnet)
        return [
            each
            for each in (table or {}).get("Routes", ())
            if each.get("State") == "active" and each.get("GatewayId") != "local"
        ]

    def _table(self, subnet: Mapping[str, Any]) -> Mapping[str, Any] | None:
        own = [each for each in self.tables if each["VpcId"] == subnet["VpcId"]]
        by_subnet = {one.get("SubnetId"): each for each in own for one in each.get("Associations", ())}
        main = next((each for each in own if any(one.get("Main") for one in each.get("Associations", ()))), None)
        return by_subnet.get(subnet["SubnetId"], main)

    def reachability(self, wanted: Wanted, place: FleetVpc) -> Found:
        """Return whether machines without public addresses reach the APIs that they need, as far as routes show it."""
        if wanted.is_public:
            return Found()
        key, shut, doubted = at("rollcall:fleets", wanted.fleet.name), [], []
        for each in self._of(place):
            targets = [one for one in self._routes(each) if one.get("DestinationCidrBlock") == _EVERYWHERE[0]]
            if any("NatGatewayId" in one for one in targets):
                continue
            if targets and not self.is_public(each):
                doubted.append(f"{each['SubnetId']} leads to {_target(targets[0])}")
            else:
                shut.append(each["SubnetId"])
        endpoints = sorted({str(each["ServiceName"]) for each in self.endpoints if each.get("VpcId") == place.id})
        if shut and not endpoints:
            where = f"machines in {', '.join(shut)} would not reach {_NEEDED}"
            why = "they have no public address, and there is no route to a NAT gateway"
            fix = "Add a NAT gateway and the route, name other subnets, or set publicAddress: true"
            return Found(faults=(f"{key}.subnets: {where}: {why}. {fix}.",))
        if shut:
            doubted.append(
                f"{', '.join(shut)} {_have(shut)} no route to a NAT gateway, and {place.id} has endpoints of {', '.join(endpoints)}"
            )
        if doubted:
            return Found(
                warnings=(f"{key}.subnets: that the machines reach {_NEEDED} is not proven: {'; '.join(doubted)}.",)
            )
        return Found()

    # Room and groups

    def room(self, births: Sequence[tuple[Births, FleetSettings, FleetVpc]]) -> Found:
        """Compare the free addresses of the subnets with what the fleets would create, and with a replacement of all machines."""
        free = {each["SubnetId"]: int(each["AvailableIpAddressCount"]) for each in self.subnets}
        now, later = Counter[str](), Counter[str]()
        users: dict[str, list[str]] = {}
        for made, fleet, place in births:
            for number, subnet in enumerate(place.subnets):
                share = len(place.subnets)
                now[subnet.id] += -(-max(made.made - number, 0) // share)
                later[subnet.id] += -(-max(max(made.made - made.replaced, 0) + fleet.count - number, 0) // share)
                users.setdefault(subnet.id, []).append(fleet.name)
        faults = tuple(
            _no_room(each, users[each], now[each], free[each]) for each in sorted(now) if now[each] > free[each]
        )
        tight = [each for each in sorted(later) if later[each] > free[each] and now[each] <= free[each]]
        return Found(
            faults=faults, warnings=tuple(_tight(each, users[each], later[each], free[each]) for each in tight)
        )

    def group_faults(self, fleet: FleetSettings, vpc: str, limit: float) -> Iterator[str]:
        """Yield what is wrong with the security groups that a fleet names. Rollcall's own group is another one."""
        key = f"{at('rollcall:fleets', fleet.name)}.securityGroups"
        known = {each["GroupId"]: each for each in self.groups}
        own = ", ".join(f"{each['GroupId']} ({each['GroupName']})" for each in self.groups if each.get("VpcId") == vpc)
        for each in fleet.security_groups:
            if each not in known:
                yield f"{key}: EC2 has no security group {each} in {self.region}. Name some of {vpc}: {own or 'it has none'}."
            elif known[each].get("VpcId") != vpc:
                home = known[each].get("VpcId")
                yield f"{key}: {each} is of {home}, and the machines are in {vpc}. Name some of {vpc}: {own or 'it has none'}."
        if len(fleet.security_groups) + 1 > limit:
            yield (
                f"{key}: names {len(fleet.security_groups)}, and with Rollcall's own a machine would have "
                f"{len(fleet.security_groups) + 1} security groups; the quota is {limit:g}. Name fewer, or run `aws service-quotas "
                f"request-service-quota-increase --service-code vpc --quota-code {GROUPS_OF_INTERFACE} --desired-value "
                f"{len(fleet.security_groups) + 1} --region {self.region}`."
            )

    def zone_faults(self, fleet: FleetSettings, place: FleetVpc) -> list[str]:
        """Return what is wrong with the zones of a fleet that is in these subnets."""
        return ec2_zones.faults([fleet], self.region, self.offered, self._of(place), place.id)

    def default_vpc(self) -> str:
        """Return the id of the default VPC; empty if the region has none."""
        return next((str(each["VpcId"]) for each in self.vpcs if each.get("IsDefault")), "")

    def _of(self, place: FleetVpc) -> list[Mapping[str, Any]]:
        ids = {each.id for each in place.subnets}
        return [each for each in self.subnets if each["SubnetId"] in ids]

    def listed(self, vpcs: Iterable[str] | None = None) -> str:
        """Return the VPCs with their subnets, for people."""
        chosen = None if vpcs is None else set(vpcs)
        found = []
        for vpc in self.vpcs:
            if chosen is not None and vpc["VpcId"] not in chosen:
                continue
            subnets = [each for each in self.subnets if each["VpcId"] == vpc["VpcId"]]
            shown = [f"{_named(each, 'SubnetId')}, {each['AvailabilityZone']}, {self._kind(each)})" for each in subnets]
            more = [f"and {len(shown) - _MOST_LISTED} more"] if len(shown) > _MOST_LISTED else []
            found.append(f"{_named(vpc, 'VpcId')}) with {', '.join([*shown[:_MOST_LISTED], *more]) or 'no subnet'}")
        more = [f"and {len(found) - _MOST_LISTED} more VPCs"] if len(found) > _MOST_LISTED else []
        return "; ".join([*found[:_MOST_LISTED], *more]) or "no VPC"

    def _kind(self, subnet: Mapping[str, Any]) -> str:
        return PUBLIC_SUBNETS if self.is_public(subnet) else PRIVATE_SUBNETS


# The quota of security groups of an interface in Service Quotas:
# https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html#vpc-limits-security-groups
GROUPS_OF_INTERFACE = "L-2AFB9258"
DEFAULT_GROUPS_OF_INTERFACE = 5


def read(region: str, sizes: Iterable[str], ec2: Any, *, private: bool = False) -> Network:
    """Ask EC2 about the VPCs of a region. `private`: also about their endpoints. Raises what its client raises."""

    instance_types = [{"Name": "instance-type", "Values": sorted(set(sizes))}]
    paginator = ec2.get_paginator("describe_instance_type_offerings")
    pages = paginator.paginate(LocationType="availability-zone", Filters=instance_types)
    offers = _all(pages, "InstanceTypeOfferings")
    endpoints = _all(ec2.get_paginator("describe_vpc_endpoints").paginate(), "VpcEndpoints") if private else []
    return Network(
        region=region,
        vpcs=_all(ec2.get_paginator("describe_vpcs").paginate(), "Vpcs"),
        subnets=_all(ec2.get_paginator("describe_subnets").paginate(), "Subnets"),
        tables=_all(ec2.get_paginator("describe_route_tables").paginate(), "RouteTables"),
        groups=_all(ec2.get_paginator("describe_security_groups").paginate(), "SecurityGroups"),
        endpoints=endpoints,
        offered={
            size: frozenset(each["Location"] for each in offers if each["InstanceType"] == size) for size in sizes
        },
    )


def _all(pages: Iterable[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    return [each for page in pages for each in page[key]]


def resolved(
    settings: Settings, fleets: Sequence[FleetSettings], region: str, client: Callable[[str], Any]
) -> tuple[dict[str, FleetVpc], Found]:
    """Return the VPC of each of these fleets of a region that chooses one, and why a fleet has none. Raises what clients raise."""
    choosing = [each for each in fleets if settings.chooses_vpc(each)]
    if not choosing:
        return {}, Found()
    network = read(region, [each.size for each in choosing], client("ec2"))
    found, faults = dict[str, FleetVpc](), list[str]()
    for fleet in choosing:
        try:
            found[fleet.name] = network.resolve(Wanted(fleet=fleet, is_public=settings.has_public_address(fleet)))
        except VpcError as fault:
            faults.append(str(fault))
    return found, Found(faults=tuple(faults))


def check(
    settings: Settings,
    fleets: Sequence[FleetSettings],
    region: str,
    client: Callable[[str], Any],
    made: Mapping[str, Births],
) -> Found:
    """Return what is wrong with the VPCs of a region's fleets. `made` is what each fleet would create. Raises what clients raise."""
    private = any(not settings.has_public_address(each) for each in fleets)
    network = read(region, [each.size for each in fleets], client("ec2"), private=private)
    placed = [(each, settings.vpcs[each.name]) for each in fleets if each.name in settings.vpcs]
    found = network.room([(made[each.name], each, place) for each, place in placed])
    for fleet, place in placed:
        found += network.reachability(Wanted(fleet=fleet, is_public=settings.has_public_address(fleet)), place)
        found += Found(faults=tuple(network.zone_faults(fleet, place)))
    # Whether the VPC that a program gives (rollcall_pulumi.FleetInputs) has room and routes is known only after it is created.
    in_default = [each for each in fleets if each.name not in settings.given_networks]
    without = [each for each in in_default if not settings.chooses_vpc(each)]
    if without and not network.default_vpc():
        return found + Found(faults=(no_default_fault(without, network),))
    homes = {**dict.fromkeys((each.name for each in without), network.default_vpc())}
    homes |= {each.name: place.id for each, place in placed}
    grouped = [each for each in fleets if each.security_groups and each.name in homes]
    limit, warnings = _groups_limit(grouped, region, client)
    faults = [fault for each in grouped for fault in network.group_faults(each, homes[each.name], limit)]
    return found + Found(faults=tuple(faults), warnings=tuple(warnings))


def _groups_limit(
    fleets: Sequence[FleetSettings], region: str, client: Callable[[str], Any]
) -> tuple[float, list[str]]:
    """Return how many security groups an interface may have. The quota is read only if the default of it is not enough."""
    if max((len(each.security_groups) for each in fleets), default=0) + 1 <= DEFAULT_GROUPS_OF_INTERFACE:
        return DEFAULT_GROUPS_OF_INTERFACE, []
    what = "security groups of a network interface"
    value, warning = applied(client("service-quotas"), GROUPS_OF_INTERFACE, region, "vpc", what=what)
    return (float("inf"), [warning]) if value is None else (value, [])


def no_default_fault(fleets: Sequence[FleetSettings], network: Network) -> str:
    """Check the default VPC: https://docs.aws.amazon.com/vpc/latest/userguide/work-with-default-vpc.html#create-default-vpc"""
    first, *others = [at("rollcall:fleets", each.name) for each in fleets]
    also = f" (and of {', '.join(others)})" if others else ""
    return (
        f"{first}.vpc{also}: is not set, and {no_default(network.region)}; it has {network.listed()}. Set vpc to the id of one of them, or "
        f"subnets to a list of ids, or run `aws ec2 create-default-vpc --region {network.region}`."
    )


def spread(subnets: Iterable[Subnet]) -> tuple[Subnet, ...]:
    """Return the subnets in an order in which neighbours are in different zones, if there are several zones."""
    seen = Counter[str]()
    ranked = []
    for each in sorted(subnets, key=lambda one: (one.zone, one.id)):
        ranked.append((seen[each.zone], each.zone, each.id, each))
        seen[each.zone] += 1
    return tuple(each for *_, each in sorted(ranked, key=lambda one: one[:3]))


def no_default(region: str) -> str:
    """Return the problem of a region without a default VPC."""
    return f"{region} has no default VPC"


def has_tags(resource: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    """Return whether a resource of EC2 has all these tags."""
    tags = {each["Key"]: each["Value"] for each in resource.get("Tags", ())}
    return all(tags.get(key) == value for key, value in wanted.items())


def words_of(tags: Mapping[str, str]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in sorted(tags.items()))


def _named(resource: Mapping[str, Any], key: str) -> str:
    """Return the beginning of the text about a VPC or subnet: `vpc-1 (company, 192.0.2.0/24`."""
    name = next((each["Value"] for each in resource.get("Tags", ()) if each["Key"] == "Name"), "")
    default = ["default"] if resource.get("IsDefault") else []
    return f"{resource[key]} ({', '.join([*default, *([name] if name else []), str(resource.get('CidrBlock', ''))])}"


def _target(route: Mapping[str, Any]) -> str:
    targets = (str(value) for key, value in route.items() if key.endswith("Id") and isinstance(value, str))
    return next(targets, "another network")


def _no_room(subnet: str, fleets: Sequence[str], needed: int, free: int) -> str:
    return (
        f"rollcall:fleets.{fleets[0]}.subnets: {needed} machines of {', '.join(fleets)} would be made in {subnet}, which has {free} free "
        "addresses. Name more or larger subnets, or lower a count."
    )


def _tight(subnet: str, fleets: Sequence[str], needed: int, free: int) -> str:
    return (
        f"a replacement of all machines of {', '.join(fleets)}, successors first, would take {needed} addresses of {subnet}, which has "
        f"{free} free ones. Name more or larger subnets."
    )


def _are(items: Sequence[str]) -> str:
    return "is" if len(items) == 1 else "are"


def _have(items: Sequence[str]) -> str:
    return "has" if len(items) == 1 else "have"


def _fault(fleet: FleetSettings, key: str, problem: str, fix: str) -> VpcError:
    return VpcError(f"{at('rollcall:fleets', fleet.name)}.{key}: {problem}. {fix}.")
