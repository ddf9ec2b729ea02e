"""VPCs as operators make them, by the EC2 API of the local clouds."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

ZONES = ("us-west-2a", "us-west-2b", "us-west-2c")


@dataclass(frozen=True, kw_only=True)
class Vpc:
    """The ids of a VPC, its subnets by their kind, its security group `extra`, and its NAT gateway if it has one."""

    id: str
    public: tuple[str, ...]
    private: tuple[str, ...]
    group: str
    nat: str = ""


def make_vpc(
    ec2: Any,
    *,
    cidr: str = "192.0.2.0/24",
    public: int = 2,
    private: int = 0,
    nat: bool = False,
    name: str = "company",
    bits: int = 28,
) -> Vpc:
    """Make a VPC with so many subnets of `bits`, each in the next zone. The public ones have a route to an internet gateway.

    With `nat`, the private ones have a route to a NAT gateway in the first public one.
    """
    vpc = ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"]
    _name(ec2, vpc, name)
    blocks = ipaddress.ip_network(cidr).subnets(new_prefix=bits)
    kinds = [*["public"] * public, *["private"] * private]
    made: dict[str, list[str]] = {"public": [], "private": []}
    for number, (kind, block) in enumerate(zip(kinds, blocks, strict=False)):
        zone = ZONES[len(made[kind]) % len(ZONES)]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=str(block), AvailabilityZone=zone)["Subnet"]["SubnetId"]
        _name(ec2, subnet, f"{name}-{kind}-{number}")
        made[kind].append(subnet)
    if public:
        gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
        route(ec2, vpc, made["public"], GatewayId=gateway)
    gateway = make_nat(ec2, vpc, made["public"][0], made["private"]) if nat else ""
    group = ec2.create_security_group(GroupName="extra", Description="of the company", VpcId=vpc)["GroupId"]
    return Vpc(id=vpc, public=tuple(made["public"]), private=tuple(made["private"]), group=group, nat=gateway)


def make_nat(ec2: Any, vpc: str, within: str, private: list[str]) -> str:
    """Make a NAT gateway and the route to it. Return its id."""
    allocation = ec2.allocate_address(Domain="vpc")["AllocationId"]
    made = ec2.create_nat_gateway(SubnetId=within, AllocationId=allocation)["NatGateway"]["NatGatewayId"]
    route(ec2, vpc, private, NatGatewayId=made)
    return str(made)


def route(ec2: Any, vpc: str, subnets: list[str], **target: str) -> str:
    """Give subnets a route table with a default route. Return the table's id."""
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", **target)
    for each in subnets:
        ec2.associate_route_table(RouteTableId=table, SubnetId=each)
    return str(table)


def delete_default_vpc(ec2: Any) -> None:
    """Delete the region's default VPC, as many companies do."""
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    mine = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    for each in ec2.describe_subnets(Filters=mine)["Subnets"]:
        ec2.delete_subnet(SubnetId=each["SubnetId"])
    attached = [{"Name": "attachment.vpc-id", "Values": [vpc["VpcId"]]}]
    for each in ec2.describe_internet_gateways(Filters=attached)["InternetGateways"]:
        ec2.detach_internet_gateway(InternetGatewayId=each["InternetGatewayId"], VpcId=vpc["VpcId"])
        ec2.delete_internet_gateway(InternetGatewayId=each["InternetGatewayId"])
    ec2.delete_vpc(VpcId=vpc["VpcId"])


def _name(ec2: Any, resource: str, name: str) -> None:
    ec2.create_tags(Resources=[resource], Tags=[{"Key": "Name", "Value": name}])
