"""The local EC2's filters: wildcards, what is taken as it is, names that there are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.aws_cloud import Cloud, running

pytestmark = pytest.mark.clouds


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with running() as made:
        for name, size in (("web-0", "t3.micro"), ("web-1", "t3.small"), ("a*b", "m5.large"), ("[ab]", "t3.nano")):
            tags = [{"Key": "Name", "Value": name}]
            made.run(InstanceType=size, TagSpecifications=[{"ResourceType": "instance", "Tags": tags}])
        yield made


def names(cloud: Cloud, **filters: str | list[str]) -> list[str]:
    wanted = [
        {"Name": name.replace("__", ":").replace("_", "-"), "Values": [values] if isinstance(values, str) else values}
        for name, values in filters.items()
    ]
    pages = cloud.client("ec2").describe_instances(Filters=wanted)["Reservations"]
    found = [each for page in pages for each in page["Instances"]]
    return sorted(tag["Value"] for each in found for tag in each["Tags"])


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"instance_type": "t3.*"}, ["[ab]", "web-0", "web-1"]),
        ({"instance_type": "t3.m?cro"}, ["web-0"]),
        ({"instance_type": "t3.m?icro"}, []),
        ({"instance_type": "T3.*"}, []),
        ({"instance_type": ["m5.*", "t3.small"]}, ["a*b", "web-1"]),
        ({"instance_type": "t3.*", "tag__Name": "web-?"}, ["web-0", "web-1"]),
        ({"instance_type": "t3.mic"}, []),
        ({"instance_state_name": "run*"}, ["[ab]", "a*b", "web-0", "web-1"]),
        ({"instance_state_code": "1?"}, ["[ab]", "a*b", "web-0", "web-1"]),
        ({"instance_id": "i-*", "tag__Name": r"a\*b"}, ["a*b"]),
        ({"tag__Name": r"web\?0"}, []),
        ({"tag__Name": r"web\-0"}, ["web-0"]),
        ({"tag__Name": "[ab]"}, ["[ab]"]),
        ({"tag__Name": "*"}, ["[ab]", "a*b", "web-0", "web-1"]),
        ({"tag_key": "N*e"}, ["[ab]", "a*b", "web-0", "web-1"]),
        ({"tag_value": "web*"}, ["web-0", "web-1"]),
        ({"tag__name": "*"}, []),
    ],
)
def test_a_value_matches_as_ec2_says(cloud: Cloud, filters: dict[str, Any], found: list[str]) -> None:
    assert names(cloud, **filters) == found


@pytest.mark.parametrize(
    ("action", "listed", "name", "value"),
    [
        ("describe_subnets", "Subnets", "availability-zone", "us-west-2?"),
        ("describe_vpcs", "Vpcs", "cidr", "172.31.*"),
        # Terraform's provider and ours write some names so.
        ("describe_vpcs", "Vpcs", "isDefault", "tru?"),
        ("describe_subnets", "Subnets", "vpcId", "vpc-*"),
        ("describe_subnets", "Subnets", "cidr", "172.31.*"),
        ("describe_volumes", "Volumes", "attachment.device", "/dev/xvd?"),
        ("describe_security_groups", "SecurityGroups", "group-name", "d*t"),
        ("describe_security_group_rules", "SecurityGroupRules", "security-group-rule-id", "sgr-*"),
        ("describe_network_interfaces", "NetworkInterfaces", "subnet-id", "subnet-*"),
        ("describe_availability_zones", "AvailabilityZones", "zone-name", "us-*"),
        ("describe_instance_types", "InstanceTypes", "instance-type", "t3.*"),
        ("describe_instance_type_offerings", "InstanceTypeOfferings", "instance-type", "t3.*"),
        ("describe_images", "Images", "name", "debian-1?-amd64-*"),
        ("describe_route_tables", "RouteTables", "vpc-id", "vpc-*"),
        ("describe_tags", "Tags", "resource-type", "inst*"),
        ("describe_instance_status", "InstanceStatuses", "instance-state-name", "run*"),
    ],
)
def test_every_list_has_wildcards(cloud: Cloud, action: str, listed: str, name: str, value: str) -> None:
    describe = getattr(cloud.client("ec2"), action)
    assert describe(Filters=[{"Name": name, "Values": [value]}])[listed]
    assert not describe(Filters=[{"Name": name, "Values": [f"{value}-no-such"]}])[listed]


def test_tags_are_found_by_their_key_and_value(cloud: Cloud) -> None:
    wanted = [{"Name": "tag:Name", "Values": ["web-*"]}, {"Name": "resource-type", "Values": ["instance"]}]
    found = cloud.client("ec2").describe_tags(Filters=wanted)["Tags"]
    assert sorted(each["Value"] for each in found) == ["web-0", "web-1"]


@pytest.mark.parametrize(
    ("action", "name", "code", "message"),
    [
        ("describe_instances", "nonsense", "InvalidParameterValue", "The filter 'nonsense' is invalid"),
        ("describe_volumes", "nonsense", "InvalidParameterValue", "The filter 'nonsense' is invalid"),
        ("describe_security_groups", "nonsense", "InvalidParameterValue", "The filter 'nonsense' is invalid"),
        ("describe_availability_zones", "nonsense", "InvalidParameterValue", "The filter 'nonsense' is invalid"),
        (
            "describe_instances",
            "affinity",
            "UnsupportedOperation",
            "does not emulate DescribeInstances: it has no filter",
        ),
        ("describe_availability_zones", "message", "UnsupportedOperation", "it has no filter 'message'"),
        ("describe_instance_status", "availability-zone", "UnsupportedOperation", "no filter 'availability-zone'"),
    ],
)
def test_a_filter_that_there_is_not_is_refused(cloud: Cloud, action: str, name: str, code: str, message: str) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(cloud.client("ec2"), action)(Filters=[{"Name": name, "Values": ["*"]}])
    error = caught.value.response
    assert error["Error"]["Code"] == code and message in error["Error"]["Message"]
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 400
