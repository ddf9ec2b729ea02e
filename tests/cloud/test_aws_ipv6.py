"""IPv6 in the local EC2: CIDRs of the default VPC, an address for an instance that asks for one, and what shows it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.network.packets import ruleset
from tests.cloud.aws_cloud import Cloud, running

pytestmark = pytest.mark.clouds
DOCUMENTATION = ipaddress.IPv6Network("2001:db8::/32")
HAS_CIDR = [{"Name": "ipv6-cidr-block-association.state", "Values": ["associated"]}]


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as made:
        yield made


@pytest.fixture
def with_ipv6(cloud: Cloud) -> Cloud:
    cloud.aws.have_ipv6()
    return cloud


def subnets(cloud: Cloud, *filters: dict[str, Any]) -> list[dict[str, Any]]:
    all_filters = [{"Name": "default-for-az", "Values": ["true"]}, *filters]
    found = cloud.client("ec2").describe_subnets(Filters=all_filters)["Subnets"]
    return sorted(found, key=lambda each: str(each["AvailabilityZone"]))


def blocks(subnet: dict[str, Any]) -> list[str]:
    """Those that are associated, as EC2 shows them."""
    found = subnet["Ipv6CidrBlockAssociationSet"]
    return [each["Ipv6CidrBlock"] for each in found if each["Ipv6CidrBlockState"]["State"] == "associated"]


def refused(code: str, action: Callable[[], object]) -> None:
    with pytest.raises(ClientError) as error:
        action()
    assert error.value.response["Error"]["Code"] == code


def test_a_default_vpc_has_none_before_its_owner_asks_for_it(cloud: Cloud) -> None:
    assert subnets(cloud) and not any(map(blocks, subnets(cloud)))
    assert subnets(cloud, *HAS_CIDR) == []
    vpc = cloud.client("ec2").describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]
    assert not vpc.get("Ipv6CidrBlockAssociationSet")


def test_an_owner_gives_the_vpc_and_one_subnet_their_cidrs(cloud: Cloud) -> None:
    ec2, (first, second, *_) = cloud.client("ec2"), subnets(cloud)
    made = ec2.associate_vpc_cidr_block(VpcId=first["VpcId"], AmazonProvidedIpv6CidrBlock=True)
    block = ipaddress.IPv6Network(made["Ipv6CidrBlockAssociation"]["Ipv6CidrBlock"])
    assert block.subnet_of(DOCUMENTATION) and block.prefixlen == 56
    part, other, *_ = map(str, block.subnets(new_prefix=64))
    ec2.associate_subnet_cidr_block(SubnetId=first["SubnetId"], Ipv6CidrBlock=part)
    assert [each["SubnetId"] for each in subnets(cloud, *HAS_CIDR)] == [first["SubnetId"]]
    assert [blocks(each) for each in subnets(cloud)[:2]] == [[part], []]
    by_id = {"Name": "subnet-id", "Values": [second["SubnetId"]]}
    assert subnets(cloud, by_id, *HAS_CIDR) == [] and len(subnets(cloud, by_id)) == 1, "both filters must fit"
    associate = ec2.associate_subnet_cidr_block
    refused("InvalidSubnet.Conflict", lambda: associate(SubnetId=second["SubnetId"], Ipv6CidrBlock=part))
    for wrong in (str(block), "2001:db8:ffff::/64"):
        with pytest.raises(ClientError, match=r"InvalidSubnet\.Range"):
            associate(SubnetId=second["SubnetId"], Ipv6CidrBlock=wrong)
    refused("InvalidParameterValue", lambda: associate(SubnetId=second["SubnetId"], Ipv6CidrBlock="a word"))
    ec2.associate_subnet_cidr_block(SubnetId=second["SubnetId"], Ipv6CidrBlock=other)
    assert len(subnets(cloud, *HAS_CIDR)) == 2
    gone = subnets(cloud)[0]["Ipv6CidrBlockAssociationSet"][0]["AssociationId"]
    ec2.disassociate_subnet_cidr_block(AssociationId=gone)
    assert [each["SubnetId"] for each in subnets(cloud, *HAS_CIDR)] == [second["SubnetId"]]


@pytest.mark.parametrize("by", ["interface", "launch"])
def test_an_instance_that_asks_has_an_address_of_its_subnet(with_ipv6: Cloud, by: str) -> None:
    subnet = subnets(with_ipv6)[1]
    if by == "interface":
        options: dict[str, Any] = {
            "NetworkInterfaces": [
                {
                    "DeviceIndex": 0,
                    "SubnetId": subnet["SubnetId"],
                    "Ipv6AddressCount": 1,
                    "AssociatePublicIpAddress": True,
                }
            ]
        }
    else:
        options = {"SubnetId": subnet["SubnetId"], "Ipv6AddressCount": 1}
    one, other = with_ipv6.run(**options)[0], with_ipv6.run(**options)[0]
    machine, seen = with_ipv6.hands.machines[one], with_ipv6.describe(one)
    assert ipaddress.IPv6Address(machine.ipv6) in ipaddress.IPv6Network(blocks(subnet)[0])
    assert machine.ipv6 != with_ipv6.hands.machines[other].ipv6
    (interface,) = seen["NetworkInterfaces"]
    assert [each["Ipv6Address"] for each in interface["Ipv6Addresses"]] == [machine.ipv6] == [seen["Ipv6Address"]]
    assert seen["PublicIpAddress"] == machine.address, "beside its IPv4 one"
    mac = with_ipv6.metadata(machine.address, "meta-data/mac")[1]
    assert with_ipv6.metadata(machine.address, "meta-data/ipv6") == (200, machine.ipv6)
    of_interface = f"meta-data/network/interfaces/macs/{mac}/ipv6s"
    assert with_ipv6.metadata(machine.address, of_interface) == (200, machine.ipv6)
    gate = next(each for each in with_ipv6.aws.gates() if each.machine == one)
    assert gate.addresses == (machine.address, machine.ipv6)


def test_an_instance_that_does_not_ask_has_none(with_ipv6: Cloud) -> None:
    instance = with_ipv6.run()[0]
    machine, seen = with_ipv6.hands.machines[instance], with_ipv6.describe(instance)
    assert machine.ipv6 == "" and not seen["NetworkInterfaces"][0]["Ipv6Addresses"] and "Ipv6Address" not in seen
    assert with_ipv6.metadata(machine.address, "meta-data/ipv6")[0] == 404


def test_in_a_subnet_without_a_cidr_a_launch_that_asks_is_refused_and_makes_nothing(cloud: Cloud) -> None:
    refused("InvalidParameterValue", lambda: cloud.run(Ipv6AddressCount=1))
    assert cloud.hands.machines == {}


def test_the_address_stays_through_a_stop_and_the_machine_is_not_there_meanwhile(with_ipv6: Cloud) -> None:
    instance = with_ipv6.run(Ipv6AddressCount=1)[0]
    before = with_ipv6.hands.machines[instance].ipv6
    with_ipv6.client("ec2").stop_instances(InstanceIds=[instance])
    with_ipv6.aws.stopped(instance)
    assert with_ipv6.aws.gates() == []
    assert with_ipv6.describe(instance)["NetworkInterfaces"][0]["Ipv6Addresses"][0]["Ipv6Address"] == before
    with_ipv6.client("ec2").start_instances(InstanceIds=[instance])
    assert with_ipv6.hands.machines[instance].ipv6 == before


def test_a_group_lets_in_by_ipv6_what_it_says_of_ipv6_and_nothing_else(with_ipv6: Cloud) -> None:
    ec2 = with_ipv6.client("ec2")
    group = ec2.create_security_group(GroupName="web", Description="web", VpcId=subnets(with_ipv6)[0]["VpcId"])[
        "GroupId"
    ]
    port = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[{**port, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    instance = with_ipv6.run(Ipv6AddressCount=1, SecurityGroupIds=[group])[0]
    machine = with_ipv6.hands.machines[instance]
    written = ruleset(with_ipv6.aws.gates())
    assert f"ip6 daddr vmap {{ {machine.ipv6} : goto to_0 }}" in written
    assert "meta nfproto ipv4 tcp dport 80-80 accept" in written and "meta nfproto ipv6 tcp" not in written
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[{**port, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}])
    assert "meta nfproto ipv6 tcp dport 80-80 accept" in ruleset(with_ipv6.aws.gates())
    # EC2 adds its own rule for what goes out by IPv6, where the VPC has it.
    assert "ip6 saddr vmap" in written and "meta nfproto ipv6 return" in written
