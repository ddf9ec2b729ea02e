"""Which tags each service of the local AWS takes, and by which code it refuses the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.aws.route53 import UNLIMITED
from localcloud.machines.compute import InstantHypervisor
from tests.cloud.aws_cloud import TRUST, Cloud, debian, running

pytestmark = pytest.mark.clouds
_NUMBERS = count()
Tags = list[tuple[str, str]]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with running(hypervisor=InstantHypervisor(), route53_limits=UNLIMITED) as made:
        yield made


def pairs(tags: Tags) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags]


def role(cloud: Cloud, tags: Tags) -> Any:
    name = f"role-{next(_NUMBERS)}"
    cloud.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=TRUST, Tags=pairs(tags))


def tagged_role(cloud: Cloud, tags: Tags) -> Any:
    name = f"role-{next(_NUMBERS)}"
    cloud.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
    cloud.client("iam").tag_role(RoleName=name, Tags=pairs(tags))


def user(cloud: Cloud, tags: Tags) -> Any:
    cloud.client("iam").create_user(UserName=f"user-{next(_NUMBERS)}", Tags=pairs(tags))


def profile(cloud: Cloud, tags: Tags) -> Any:
    cloud.client("iam").create_instance_profile(InstanceProfileName=f"p-{next(_NUMBERS)}", Tags=pairs(tags))


def parameter(cloud: Cloud, tags: Tags) -> Any:
    ssm, name = cloud.client("ssm"), f"/p/{next(_NUMBERS)}"
    ssm.put_parameter(Name=name, Type="String", Value="v")
    ssm.add_tags_to_resource(ResourceType="Parameter", ResourceId=name, Tags=pairs(tags))


def group(cloud: Cloud, tags: Tags) -> Any:
    given = [{"ResourceType": "security-group", "Tags": pairs(tags)}]
    cloud.client("ec2").create_security_group(GroupName=f"g{next(_NUMBERS)}", Description="d", TagSpecifications=given)


def launched(cloud: Cloud, kind: str, tags: Tags) -> Any:
    ec2, given = cloud.client("ec2"), [{"ResourceType": kind, "Tags": pairs(tags)}]
    made = ec2.run_instances(
        MinCount=1, MaxCount=1, ImageId=debian(cloud), InstanceType="t3.micro", TagSpecifications=given,
        MetadataOptions={"InstanceMetadataTags": "enabled"},
    )  # fmt: skip
    ec2.terminate_instances(InstanceIds=[made["Instances"][0]["InstanceId"]])


def instance(cloud: Cloud, tags: Tags) -> Any:
    launched(cloud, "instance", tags)


def volume(cloud: Cloud, tags: Tags) -> Any:
    launched(cloud, "volume", tags)


def zone(cloud: Cloud, tags: Tags) -> Any:
    made = cloud.aws.add_zone(f"z{next(_NUMBERS)}.example")
    cloud.client("route53").change_tags_for_resource(ResourceType="hostedzone", ResourceId=made, AddTags=pairs(tags))


MAKERS = (role, tagged_role, user, profile, parameter, group, instance, volume, zone)
IAM, EC2 = (role, tagged_role, user, profile), (group, instance, volume)
_BAD, _FORM, _INPUT = "InvalidParameterValue", "ValidationError", "InvalidInput"
Case = tuple[str, Tags, dict[Callable[[Cloud, Tags], Any], str]]
RESERVED: list[Case] = [(f"reserved {each}", [(each, "")], {instance: _BAD}) for each in (".", "..", "_index")]
PREFIXED: list[Case] = [
    (
        f"prefix {each}",
        [(each, "")],
        {**dict.fromkeys(EC2, _BAD), **dict.fromkeys(IAM, _INPUT), parameter: "ValidationException", zone: _INPUT},
    )
    for each in ("aws:x", "AWS:x")
]
CASES: list[Case] = [
    ("plain", [("team", "web")], {}),
    ("ten", [(f"k{each}", "") for each in range(10)], {}),
    ("eleven", [(f"k{each}", "") for each in range(11)], {zone: _INPUT}),
    ("fifty", [(f"k{each}", "") for each in range(50)], {zone: _INPUT}),
    (
        "fifty-one",
        [(f"k{each}", "") for each in range(51)],
        {
            **dict.fromkeys(EC2, "TagLimitExceeded"),
            **dict.fromkeys(IAM, "LimitExceeded"),
            parameter: "TooManyTagsError",
            zone: _INPUT,
        },
    ),
    ("space", [("cost center", "a b")], {instance: _BAD}),
    ("slash", [("a/b", "c/d")], {instance: _BAD}),
    *RESERVED,
    ("hash in a key", [("a#b", "")], {**dict.fromkeys(IAM, _FORM), parameter: "ValidationException", instance: _BAD}),
    ("hash in a value", [("a", "b#1")], {**dict.fromkeys(IAM, _FORM), parameter: "ValidationException"}),
    ("letters of the world", [("größe", "größer")], {instance: _BAD}),
    *PREFIXED,
    ("prefix of a value", [("x", "aws:y")], dict.fromkeys(IAM, _INPUT)),
    (
        "long key",
        [("k" * 129, "")],
        {**dict.fromkeys(EC2, _BAD), **dict.fromkeys(IAM, _FORM), parameter: "ValidationException", zone: _INPUT},
    ),
    (
        "long value",
        [("k", "v" * 257)],
        {**dict.fromkeys(EC2, _BAD), **dict.fromkeys(IAM, _FORM), parameter: "ValidationException", zone: _INPUT},
    ),
    ("longest", [("k" * 128, "v" * 256)], {}),
    ("another case", [("Key", ""), ("key", "")], dict.fromkeys((role, tagged_role, user), _INPUT)),
]


@pytest.mark.parametrize(("tags", "refused"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_tags_are_taken_or_refused_by_each_services_own_rules(
    cloud: Cloud, make: Callable[[Cloud, Tags], Any], tags: Tags, refused: dict[Any, str]
) -> None:
    if make not in refused:
        make(cloud, tags)
        return
    with pytest.raises(ClientError) as found:
        make(cloud, tags)
    assert found.value.response["Error"]["Code"] == refused[make]
