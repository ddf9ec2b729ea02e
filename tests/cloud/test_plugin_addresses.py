"""The stand-in's Eip, EipAssociation, NetworkInterface, and an Instance on an interface, against the local EC2."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from localcloud.machines.compute import InstantHypervisor
from localcloud.plugins.aws.addresses import Eip, EipAssociation, NetworkInterface
from localcloud.plugins.aws.ec2 import Instance
from localcloud.plugins.resource import GoneError, Type
from tests.cloud.aws_cloud import Cloud, debian, running
from tests.vpcs import Vpc, make_vpc

pytestmark = pytest.mark.clouds


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running(hypervisor=InstantHypervisor()) as made:
        yield made


@pytest.fixture
def vpc(cloud: Cloud) -> Vpc:
    return make_vpc(cloud.client("ec2"), public=1)


def of(kind: type[Type], cloud: Cloud) -> Type:
    return kind(SimpleNamespace(client=cloud.client, region="us-west-2", default_tags={}, ignored_tags=None))


def test_an_instance_has_the_address_of_its_interface_until_it_is_gone(cloud: Cloud, vpc: Vpc) -> None:
    eips, associations, interfaces = (of(each, cloud) for each in (Eip, EipAssociation, NetworkInterface))
    address, known = eips.create({"domain": "vpc", "tags": {"Name": "web-0-address-a"}})
    given: dict[str, Any] = {"subnetId": vpc.public[0], "description": "web-0", "tags": {"Name": "web-0"}}
    interface, _ = interfaces.create({**given, "securityGroups": [vpc.group]})
    pair = {"allocationId": address, "networkInterfaceId": interface}
    association, _ = associations.create(pair)
    instances = of(Instance, cloud)
    wanted = {
        "ami": debian(cloud),
        "instanceType": "t3.micro",
        "primaryNetworkInterface": {"networkInterfaceId": interface},
    }
    assert instances.faults(wanted) == []
    assert instances.faults({**wanted, "subnetId": vpc.public[0]})
    made, outputs = instances.create(wanted)
    assert outputs["publicIp"] == known["publicIp"]

    found, now = instances.read(made, wanted)
    assert found["publicIp"] == known["publicIp"]
    assert now["primaryNetworkInterface"] == wanted["primaryNetworkInterface"] and "subnetId" not in now
    assert instances.differences({**wanted, **now}, {**wanted, **now}) == {}
    assert associations.read(association, pair)[1] == pair
    assert eips.read(address, {})[1] == {"domain": "vpc", "tags": {"Name": "web-0-address-a"}}
    assert interfaces.read(interface, {})[1]["securityGroups"] == [vpc.group]

    other = cloud.client("ec2").create_security_group(GroupName="other", Description="one", VpcId=vpc.id)["GroupId"]
    interfaces.update(interface, {**given, "securityGroups": [vpc.group]}, {**given, "securityGroups": [other]})
    assert [each["GroupId"] for each in cloud.describe(made)["SecurityGroups"]] == [other]
    instances.delete(made, {})
    associations.delete(association, {})
    interfaces.delete(interface, {})
    eips.delete(address, {})
    for kind, identity in ((eips, address), (associations, association), (interfaces, interface)):
        with pytest.raises(GoneError):
            kind.read(identity, {})


def test_a_release_ends_the_association_that_the_state_has(cloud: Cloud, vpc: Vpc) -> None:
    eips, interfaces = of(Eip, cloud), of(NetworkInterface, cloud)
    address, _ = eips.create({"domain": "vpc"})
    interface, _ = interfaces.create({"subnetId": vpc.public[0], "description": "one"})
    of(EipAssociation, cloud).create({"allocationId": address, "networkInterfaceId": interface})
    state, _ = eips.read(address, {})
    eips.delete(address, state)
    assert cloud.client("ec2").describe_addresses()["Addresses"] == []
