"""The stand-in for the AWS plugin: the provider's default tags are on everything that takes tags, and in no resource's inputs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pulumi.runtime.proto import provider_pb2

from localcloud.aws.route53 import UNLIMITED
from localcloud.machines.compute import InstantHypervisor
from localcloud.plugins.aws import Aws
from localcloud.plugins.aws.common import default_tags
from tests.cloud.aws_cloud import OPERATOR, TRUST, Cloud, debian, running
from tests.plugin_host import Host, RefusedError, hosted

pytestmark = pytest.mark.clouds
NONE = provider_pb2.DiffResponse.DIFF_NONE
OWN = {"rollcall-stack": "local", "team": "own"}
DEFAULTS = {"team": "web", "cost": "7"}
ALL = {**DEFAULTS, **OWN}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with (
        pytest.MonkeyPatch.context() as patch,
        running(hypervisor=InstantHypervisor(), route53_limits=UNLIMITED) as made,
    ):
        patch.setenv("AWS_ENDPOINT_URL", made.url)
        patch.setenv("AWS_ACCESS_KEY_ID", OPERATOR[0])
        patch.setenv("AWS_SECRET_ACCESS_KEY", OPERATOR[1])
        patch.setattr("localcloud.plugins.aws.ec2._POLL", 0.05)
        yield made


TOKENS = [
    "aws:ec2/instance:Instance",
    "aws:ec2/securityGroup:SecurityGroup",
    "aws:iam/role:Role",
    "aws:iam/instanceProfile:InstanceProfile",
    "aws:iam/user:User",
    "aws:route53/zone:Zone",
    "aws:ssm/parameter:Parameter",
]


def host(tags: Mapping[str, str]) -> Any:
    return hosted(Aws()), {"region": "us-west-2", "defaultTags": json.dumps({"tags": tags})}


@pytest.fixture(scope="module")
def tagging(cloud: Cloud) -> Iterator[Host]:
    context, settings = host(DEFAULTS)
    with context as made:
        made.configure(**settings)
        yield made


def inputs(cloud: Cloud) -> dict[str, dict[str, Any]]:
    return {
        "aws:ec2/instance:Instance": {"ami": debian(cloud), "instanceType": "t3.micro"},
        "aws:ec2/securityGroup:SecurityGroup": {"description": "d"},
        "aws:iam/role:Role": {"assumeRolePolicy": TRUST},
        "aws:iam/instanceProfile:InstanceProfile": {},
        "aws:iam/user:User": {},
        "aws:route53/zone:Zone": {"name": "tagged.example", "comment": "c"},
        "aws:ssm/parameter:Parameter": {"type": "String", "insecureValue": "v", "name": "/tagged", "overwrite": True},
    }


def seen(cloud: Cloud, token: str, name: str) -> dict[str, str]:
    """The tags that the cloud has."""
    iam, ec2, ssm, route53 = (cloud.client(each) for each in ("iam", "ec2", "ssm", "route53"))
    requested = {
        TOKENS[0]: lambda: cloud.describe(name)["Tags"],
        TOKENS[1]: lambda: ec2.describe_security_groups(GroupIds=[name])["SecurityGroups"][0]["Tags"],
        TOKENS[2]: lambda: iam.list_role_tags(RoleName=name)["Tags"],
        TOKENS[3]: lambda: iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Tags"],
        TOKENS[4]: lambda: iam.list_user_tags(UserName=name)["Tags"],
        TOKENS[5]: lambda: route53.list_tags_for_resource(ResourceType="hostedzone", ResourceId=name)["ResourceTagSet"][
            "Tags"
        ],
        TOKENS[6]: lambda: ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"],
    }
    return {each["Key"]: each["Value"] for each in requested[token]()}


@pytest.mark.parametrize("token", TOKENS)
def test_a_resource_has_them_below_its_own_and_a_preview_shows_no_change(
    cloud: Cloud, tagging: Host, token: str
) -> None:
    given = {**inputs(cloud)[token], "tags": OWN}
    made = tagging.create(token, given)
    assert seen(cloud, token, made.id) == ALL
    assert (made.outputs["tags"], made.outputs["tagsAll"]) == (OWN, ALL)
    assert tagging.diff(made, given).changes == NONE
    read = tagging.refresh(made)
    assert read is not None and read.inputs == made.inputs
    assert tagging.diff(read, given).changes == NONE

    renamed = {**given, "tags": {"rollcall-stack": "local"}}
    assert "tags" in list(tagging.diff(read, renamed).diffs)
    changed = tagging.update(read, renamed)
    assert seen(cloud, token, made.id) == {**DEFAULTS, "rollcall-stack": "local"}
    assert tagging.diff(changed, renamed).changes == NONE

    context, settings = host({"cost": "8"})
    with context as another:
        another.configure(**settings)
        assert list(another.diff(changed, renamed).diffs) == ["tagsAll"]
        changed = another.update(changed, renamed)
        assert seen(cloud, token, made.id) == {"cost": "8", "rollcall-stack": "local"}
        another.delete(changed)


def test_one_that_the_cloud_refuses_fails_the_creation(cloud: Cloud) -> None:
    context, settings = host({"cost center": "7"})
    with context as made:
        made.configure(**settings)
        given = {**inputs(cloud)["aws:ec2/instance:Instance"], "metadataOptions": {"instanceMetadataTags": "enabled"}}
        with pytest.raises(RefusedError, match="'cost center' is not a valid tag key"):
            made.create("aws:ec2/instance:Instance", given)


def test_those_of_the_environment_are_below_those_of_the_configuration() -> None:
    environ = {"TF_AWS_DEFAULT_TAGS_team": "ops", "TF_AWS_DEFAULT_TAGS_site": "x", "OTHER": "y"}
    assert default_tags({"defaultTags": {"tags": {"team": "web"}}}, environ) == {"team": "web", "site": "x"}
    assert default_tags({}, {}) == {}
