"""VPCs, elastic addresses and network interfaces of the local EC2: they are as strict as EC2's, and a machine's addresses follow them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.aws.quotas import ADDRESSES, GROUPS_OF_INTERFACE
from tests.cloud.aws_cloud import Cloud
from tests.vpcs import Vpc, delete_default_vpc, make_vpc


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud()
    yield made
    made.close()


@pytest.fixture
def ec2(cloud: Cloud) -> Any:
    return cloud.client("ec2")


@pytest.fixture
def vpc(ec2: Any) -> Vpc:
    return make_vpc(ec2, public=2, private=1)


def code_of(call: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**request)
    return str(refused.value.response["Error"]["Code"])


def public(subnet: str) -> list[dict[str, Any]]:
    return [{"DeviceIndex": 0, "SubnetId": subnet, "AssociatePublicIpAddress": True}]


def allocate(ec2: Any) -> str:
    return str(ec2.allocate_address(Domain="vpc")["AllocationId"])


def test_a_machine_of_a_vpc_on_the_wire_has_its_private_address(cloud: Cloud, vpc: Vpc) -> None:
    (instance,) = cloud.run(NetworkInterfaces=public(vpc.public[0]))

    here = cloud.describe(instance)
    assert here["PrivateIpAddress"] == cloud.hands.machines[instance].address == "192.0.2.4"
    assert here["PublicIpAddress"].startswith("198.51.100.")
    assert cloud.metadata("192.0.2.4", "meta-data/local-ipv4") == (200, "192.0.2.4")
    assert cloud.metadata("192.0.2.4", "meta-data/public-ipv4") == (200, here["PublicIpAddress"])


def test_a_machine_without_a_public_address_has_none_in_its_metadata(cloud: Cloud, vpc: Vpc) -> None:
    (instance,) = cloud.run(SubnetId=vpc.private[0])

    here = cloud.describe(instance)
    assert "PublicIpAddress" not in here
    assert cloud.metadata(here["PrivateIpAddress"], "meta-data/public-ipv4")[0] == 404


def test_a_terminated_machine_gives_its_addresses_back(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    free = ec2.describe_subnets(SubnetIds=[vpc.public[0]])["Subnets"][0]["AvailableIpAddressCount"]
    (instance,) = cloud.run(NetworkInterfaces=public(vpc.public[0]))
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.aws.stopped(instance)

    assert ec2.describe_subnets(SubnetIds=[vpc.public[0]])["Subnets"][0]["AvailableIpAddressCount"] == free
    assert "PublicIpAddress" not in cloud.describe(instance)
    (other,) = cloud.run(NetworkInterfaces=public(vpc.public[0]))
    assert cloud.describe(other)["PrivateIpAddress"] == "192.0.2.4"


def test_a_subnet_without_free_addresses_takes_no_machine(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    assert len(cloud.run(11, SubnetId=vpc.private[0])) == 11
    request = {"ImageId": cloud.describe(cloud.run()[0])["ImageId"], "SubnetId": vpc.private[0]}
    assert code_of(ec2.run_instances, MinCount=1, MaxCount=1, InstanceType="t3.micro", **request) == (
        "InsufficientFreeAddressesInSubnet"
    )


def test_without_a_default_vpc_a_launch_needs_a_subnet(cloud: Cloud, ec2: Any) -> None:
    image = cloud.describe(cloud.run()[0])["ImageId"]
    ec2.terminate_instances(InstanceIds=list(cloud.hands.machines))
    cloud.aws.stopped(next(iter(cloud.hands.machines)))
    delete_default_vpc(ec2)

    request = {"MinCount": 1, "MaxCount": 1, "InstanceType": "t3.micro", "ImageId": image}
    assert code_of(ec2.run_instances, **request) == "VPCIdNotSpecified"


def test_only_a_default_vpc_has_default_subnets(ec2: Any) -> None:
    """https://docs.aws.amazon.com/vpc/latest/userguide/default-subnet.html"""
    delete_default_vpc(ec2)
    made = make_vpc(ec2, public=2)
    for each in ec2.describe_subnets(SubnetIds=list(made.public))["Subnets"]:
        assert (each["DefaultForAz"], each["MapPublicIpOnLaunch"]) == (False, False)
    vpc = ec2.create_default_vpc()["Vpc"]["VpcId"]
    default = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    assert {each["VpcId"] for each in default} == {vpc} and len({each["AvailabilityZone"] for each in default}) > 2
    assert all(each["MapPublicIpOnLaunch"] for each in default)


def test_a_default_vpc_leads_to_the_internet(ec2: Any) -> None:
    tables = ec2.describe_route_tables(Filters=[{"Name": "association.main", "Values": ["true"]}])["RouteTables"]

    (route,) = [each for each in tables[0]["Routes"] if each.get("DestinationCidrBlock") == "0.0.0.0/0"]
    assert route["GatewayId"].startswith("igw-")


def test_an_elastic_address_takes_the_place_of_the_automatic_one(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    (instance,) = cloud.run(NetworkInterfaces=public(vpc.public[0]))
    automatic = cloud.describe(instance)["PublicIpAddress"]
    allocation = allocate(ec2)
    association = ec2.associate_address(AllocationId=allocation, InstanceId=instance)["AssociationId"]

    (address,) = ec2.describe_addresses(AllocationIds=[allocation])["Addresses"]
    assert cloud.describe(instance)["PublicIpAddress"] == address["PublicIp"] != automatic
    assert address["InstanceId"] == instance
    assert cloud.metadata("192.0.2.4", "meta-data/public-ipv4") == (200, address["PublicIp"])

    ec2.disassociate_address(AssociationId=association)
    assert cloud.describe(instance)["PublicIpAddress"] not in (address["PublicIp"], "")


def test_a_machine_of_the_default_vpc_moves_to_an_elastic_address_too(cloud: Cloud, ec2: Any) -> None:
    (instance,) = cloud.run()
    wire = cloud.hands.machines[instance].address
    ec2.associate_address(AllocationId=allocate(ec2), InstanceId=instance)

    assert cloud.describe(instance)["PublicIpAddress"] != wire
    assert cloud.metadata(wire, "meta-data/public-ipv4") == (200, cloud.describe(instance)["PublicIpAddress"])


@pytest.mark.parametrize("state", ["pending", "terminated"])
def test_a_machine_that_boots_or_is_gone_takes_no_elastic_address(cloud: Cloud, ec2: Any, state: str) -> None:
    (instance,) = cloud.run()
    if state == "terminated":
        ec2.terminate_instances(InstanceIds=[instance])
        cloud.aws.stopped(instance)
    else:
        ec2.stop_instances(InstanceIds=[instance])
        cloud.aws.stopped(instance)
        ec2.start_instances(InstanceIds=[instance])

    assert code_of(ec2.associate_address, AllocationId=allocate(ec2), InstanceId=instance) == "InvalidInstanceID"


def test_an_elastic_address_stays_over_a_stop(cloud: Cloud, ec2: Any) -> None:
    (instance,) = cloud.run()
    ec2.associate_address(AllocationId=allocate(ec2), InstanceId=instance)
    before = cloud.describe(instance)["PublicIpAddress"]
    ec2.stop_instances(InstanceIds=[instance])
    cloud.aws.stopped(instance)

    assert cloud.describe(instance)["PublicIpAddress"] == before


def test_an_address_in_use_is_neither_moved_nor_released_by_mistake(cloud: Cloud, ec2: Any) -> None:
    one, two = cloud.run(2)
    allocation = allocate(ec2)
    ec2.associate_address(AllocationId=allocation, InstanceId=one)

    assert code_of(ec2.associate_address, AllocationId=allocation, InstanceId=two) == "Resource.AlreadyAssociated"
    assert code_of(ec2.release_address, AllocationId=allocation) == "InvalidIPAddress.InUse"
    ec2.associate_address(AllocationId=allocation, InstanceId=two, AllowReassociation=True)
    assert cloud.describe(one)["PublicIpAddress"] != cloud.describe(two)["PublicIpAddress"]
    assert ec2.describe_addresses()["Addresses"][0]["InstanceId"] == two
    ec2.terminate_instances(InstanceIds=[two])
    cloud.aws.stopped(two)
    ec2.release_address(AllocationId=allocation)
    assert not ec2.describe_addresses()["Addresses"]


def test_a_region_has_five_elastic_addresses_unless_the_quota_is_raised(cloud: Cloud, ec2: Any) -> None:
    for _ in range(5):
        allocate(ec2)
    assert code_of(ec2.allocate_address, Domain="vpc") == "AddressLimitExceeded"
    cloud.aws.regions["us-west-2"].quotas.raised[ADDRESSES] = 6
    allocate(ec2)
    quota = cloud.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=ADDRESSES)
    assert quota["Quota"]["Value"] == 6


def test_an_address_needs_an_internet_gateway(ec2: Any) -> None:
    closed = make_vpc(ec2, public=0, private=1)
    interface = ec2.create_network_interface(SubnetId=closed.private[0])["NetworkInterface"]["NetworkInterfaceId"]

    request = {"AllocationId": allocate(ec2), "NetworkInterfaceId": interface}
    assert code_of(ec2.associate_address, **request) == "Gateway.NotAttached"


def test_a_machine_boots_with_the_address_of_its_interface_and_leaves_both(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    made = ec2.create_network_interface(SubnetId=vpc.public[1])["NetworkInterface"]
    interface, allocation = made["NetworkInterfaceId"], allocate(ec2)
    ec2.associate_address(AllocationId=allocation, NetworkInterfaceId=interface)
    (instance,) = cloud.run(NetworkInterfaces=[{"DeviceIndex": 0, "NetworkInterfaceId": interface}])

    here, (address,) = cloud.describe(instance), ec2.describe_addresses()["Addresses"]
    assert here["SubnetId"] == vpc.public[1]
    assert here["PrivateIpAddress"] == made["PrivateIpAddress"] == cloud.hands.machines[instance].address
    assert here["PublicIpAddress"] == address["PublicIp"]
    assert [each["GroupId"] for each in here["SecurityGroups"]] == [each["GroupId"] for each in made["Groups"]]
    assert code_of(ec2.delete_network_interface, NetworkInterfaceId=interface) == "InvalidParameterValue"
    again = {"NetworkInterfaces": [{"DeviceIndex": 0, "NetworkInterfaceId": interface}], "ImageId": here["ImageId"]}
    assert code_of(ec2.run_instances, MinCount=1, MaxCount=1, InstanceType="t3.micro", **again) == (
        "InvalidNetworkInterface.InUse"
    )

    ec2.terminate_instances(InstanceIds=[instance])
    cloud.aws.stopped(instance)
    assert "PublicIpAddress" not in cloud.describe(instance)
    (left,) = ec2.describe_network_interfaces(NetworkInterfaceIds=[interface])["NetworkInterfaces"]
    assert (left["Status"], left["Association"]["PublicIp"]) == ("available", address["PublicIp"])
    (successor,) = cloud.run(NetworkInterfaces=[{"DeviceIndex": 0, "NetworkInterfaceId": interface}])
    assert cloud.describe(successor)["PublicIpAddress"] == address["PublicIp"]


def test_a_free_interface_is_deleted_and_its_address_is_free(ec2: Any, vpc: Vpc) -> None:
    interface = ec2.create_network_interface(SubnetId=vpc.public[0])["NetworkInterface"]["NetworkInterfaceId"]
    allocation = allocate(ec2)
    ec2.associate_address(AllocationId=allocation, NetworkInterfaceId=interface)
    ec2.delete_network_interface(NetworkInterfaceId=interface)

    ec2.release_address(AllocationId=allocation)


def test_the_interface_decides_on_subnet_and_groups(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    interface = ec2.create_network_interface(SubnetId=vpc.public[0])["NetworkInterface"]["NetworkInterfaceId"]
    base = {
        "MinCount": 1,
        "MaxCount": 1,
        "InstanceType": "t3.micro",
        "ImageId": cloud.describe(cloud.run()[0])["ImageId"],
    }
    nic = {"DeviceIndex": 0, "NetworkInterfaceId": interface}
    for wrong in (
        {"NetworkInterfaces": [nic], "SubnetId": vpc.public[0]},
        {"NetworkInterfaces": [nic], "SecurityGroupIds": [vpc.group]},
        {"NetworkInterfaces": [{**nic, "AssociatePublicIpAddress": True}]},
    ):
        assert code_of(ec2.run_instances, **base, **wrong) == "InvalidParameterCombination"


def test_groups_belong_to_the_vpc_and_are_at_most_five(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    groups = [
        ec2.create_security_group(GroupName=f"g{number}", Description="one", VpcId=vpc.id)["GroupId"]
        for number in range(6)
    ]
    request: dict[str, Any] = {"SubnetId": vpc.public[0]}
    assert code_of(ec2.create_network_interface, **request, Groups=groups) == "SecurityGroupsPerInterfaceLimitExceeded"
    (instance,) = cloud.run(SecurityGroupIds=groups[:5], **request)
    change = {"InstanceId": instance, "Groups": groups}
    assert code_of(ec2.modify_instance_attribute, **change) == "SecurityGroupsPerInterfaceLimitExceeded"
    cloud.aws.regions["us-west-2"].quotas.raised[GROUPS_OF_INTERFACE] = 6
    ec2.modify_instance_attribute(**change)
    foreign = ec2.create_security_group(GroupName="foreign", Description="one")["GroupId"]
    assert code_of(ec2.create_network_interface, **request, Groups=[foreign]) == "InvalidParameter"
    assert code_of(ec2.modify_instance_attribute, InstanceId=instance, Groups=[foreign]) == "InvalidParameter"


def test_the_groups_of_an_interface_are_those_of_its_machine(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    interface = ec2.create_network_interface(SubnetId=vpc.public[0])["NetworkInterface"]["NetworkInterfaceId"]
    (instance,) = cloud.run(NetworkInterfaces=[{"DeviceIndex": 0, "NetworkInterfaceId": interface}])
    ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=[vpc.group])

    assert [each["GroupId"] for each in cloud.describe(instance)["SecurityGroups"]] == [vpc.group]


def test_a_nat_gateway_takes_an_address_and_gives_it_back(ec2: Any, vpc: Vpc) -> None:
    allocation = allocate(ec2)
    made = ec2.create_nat_gateway(SubnetId=vpc.public[0], AllocationId=allocation)["NatGateway"]["NatGatewayId"]
    assert code_of(ec2.release_address, AllocationId=allocation) == "InvalidIPAddress.InUse"
    ec2.delete_nat_gateway(NatGatewayId=made)

    ec2.release_address(AllocationId=allocation)
