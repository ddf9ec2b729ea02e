"""Whether a machine was made by Rollcall, as its cloud shows it: on the local EC2 and CloudAPI, with tags that anybody has copied."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from components.compute.ec2 import Ec2View, group_description, role_description
from components.compute.triton import BOOT_SIGNATURE, TritonView
from components.joyent.machine_fields import USER_SCRIPT
from components.joyent.records import MachineRecord
from components.resources import userdata
from localcloud.machines.compute import InstantHypervisor
from rollcall.settings import FLEET, GENERATION, MACHINE, STACK
from tests.cloud.aws_cloud import TRUST, Cloud, point_shell_at, running
from tests.cloud.cloudapi_server import Front, Lab

pytestmark = pytest.mark.clouds
TAGS = {STACK: "local", FLEET: "web", MACHINE: "0", GENERATION: "aaaaaa"}


class Account:
    """An AWS account with what two fleets of Rollcall's have."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.ec2, self.iam = cloud, cloud.client("ec2"), cloud.client("iam")
        (vpc,) = self.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        self.vpc = vpc["VpcId"]

    def group(self, description: str) -> str:
        name = f"group-{len(self.ec2.describe_security_groups()['SecurityGroups'])}"
        return str(self.ec2.create_security_group(GroupName=name, Description=description, VpcId=self.vpc)["GroupId"])

    def profile(self, description: str) -> str:
        name = f"profile-{len(self.iam.list_roles()['Roles'])}"
        self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST, Description=description)
        self.iam.create_instance_profile(InstanceProfileName=name)
        self.iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        return name

    def instance(self, group: str = "", profile: str = "", **tags: str) -> str:
        """A running instance with the tags of the fleet's first machine, or these."""
        options: dict[str, Any] = {"SecurityGroupIds": [self.group(group)]} if group else {}
        if profile:
            options["IamInstanceProfile"] = {"Name": self.profile(profile)}
        (made,) = self.cloud.run(**options)
        given = {**TAGS, **tags}
        self.ec2.create_tags(Resources=[made], Tags=[{"Key": key, "Value": value} for key, value in given.items()])
        return made


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with running(hypervisor=InstantHypervisor()) as made:
        yield made


@pytest.fixture
def account(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Account:
    point_shell_at(cloud, monkeypatch)
    return Account(cloud)


def doubts(instance: str, stack: str = "local") -> str:
    """Why it is not proven that the stack made this instance; empty where it is."""
    view = Ec2View("us-west-2")
    (seen,) = (each for each in view.machines(stack) if each.instance == instance)
    return view.unproven(stack, [seen]).get(instance, "")


GROUP, ROLE = group_description("local", "web"), role_description("local", "web")


class TestOnEc2:
    def test_one_in_the_fleets_group_with_the_fleets_role_is_proven(self, account: Account) -> None:
        assert doubts(account.instance(GROUP, ROLE)) == ""

    @pytest.mark.parametrize(
        ("group", "role", "why"),
        [
            ("", "", "it is in no security group of the fleet's"),
            ("", ROLE, "it is in no security group of the fleet's"),
            (group_description("local", "api"), ROLE, "it is in no security group of the fleet's"),
            (group_description("prod", "web"), ROLE, "it is in no security group of the fleet's"),
            (GROUP, "", "its instance profile has no role of the fleet's"),
            (GROUP, role_description("local", "api"), "its instance profile has no role of the fleet's"),
            (GROUP, role_description("prod", "web"), "its instance profile has no role of the fleet's"),
        ],
    )
    def test_one_that_lacks_either_is_not(self, account: Account, group: str, role: str, why: str) -> None:
        assert doubts(account.instance(group, role)) == why

    def test_one_of_another_fleet_with_copied_tags_is_not(self, account: Account) -> None:
        made = account.instance(group_description("local", "api"), role_description("local", "api"))
        assert doubts(made) == "it is in no security group of the fleet's"

    def test_the_permission_to_tag_proves_nothing(self, account: Account) -> None:
        """IAM lets a user tag, and nothing else: the database has all tags of a machine, and the view is not taken in."""
        database = account.instance()
        iam = account.iam
        iam.create_user(UserName="tagger")
        policy = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "*"}],
        }
        iam.put_user_policy(UserName="tagger", PolicyName="tag", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName="tagger")["AccessKey"]
        theirs = account.cloud.client("ec2", (key["AccessKeyId"], key["SecretAccessKey"]))
        forged = {**TAGS, "Name": "web-0", "aws-group": GROUP, "rollcall-project": "rollcall"}
        theirs.create_tags(Resources=[database], Tags=[{"Key": name, "Value": value} for name, value in forged.items()])
        assert doubts(database) == "it is in no security group of the fleet's"

    def test_where_the_proof_may_not_be_read_it_is_not_and_the_code_is_reported(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = account.instance(GROUP, ROLE)
        iam = account.iam
        iam.create_user(UserName="half")
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}]}
        iam.put_user_policy(UserName="half", PolicyName="half", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName="half")["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        assert doubts(made) == "what would prove more cannot be read, AccessDenied"


class Listing:
    """CloudAPI's ListMachines over HTTP."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def list_machines(self, tags: Mapping[str, str] | None = None) -> list[MachineRecord]:
        found = [MachineRecord.of(each) for each in self._lab.get("/machines")]
        return [each for each in found if all(each.tags.get(key) == value for key, value in (tags or {}).items())]


class TestOnTriton:
    SCRIPT = userdata.build()

    @pytest.fixture
    def lab(self) -> Iterator[Lab]:
        front = Front()
        yield Lab(front)
        front.stop()

    def doubts(self, lab: Lab, metadata: dict[str, str], **tags: str) -> str:
        given = {**{f"tag.{key}": value for key, value in {**TAGS, **tags}.items()}}
        made = lab.running(**given, **{f"metadata.{key}": value for key, value in metadata.items()})["id"]
        view = object.__new__(TritonView)
        view._api = Listing(lab)  # type: ignore[assignment]
        (seen,) = (each for each in view.machines("local") if each.instance == made)
        return view.unproven("local", [seen]).get(made, "")

    def test_one_with_its_identity_and_our_script_in_its_metadata_is_proven(self, lab: Lab) -> None:
        assert self.doubts(lab, {**TAGS, USER_SCRIPT: self.SCRIPT}) == ""

    @pytest.mark.parametrize("lacking", [*TAGS])
    def test_a_machine_with_copied_or_changed_tags_is_not(self, lab: Lab, lacking: str) -> None:
        other = {**TAGS, USER_SCRIPT: self.SCRIPT, lacking: "another"}
        assert self.doubts(lab, other) == "its metadata do not name it as its tags do"
        del other[lacking]
        assert self.doubts(lab, other) == "its metadata do not name it as its tags do"

    def test_a_database_with_copied_tags_is_not(self, lab: Lab) -> None:
        assert self.doubts(lab, {}) == "its metadata do not name it as its tags do"
        assert self.doubts(lab, {}, **{MACHINE: "", GENERATION: ""}) == "its metadata do not name it as its tags do"

    @pytest.mark.parametrize("script", [{}, {USER_SCRIPT: "#!/bin/sh\nexec postgres\n"}])
    def test_one_that_boots_something_else_is_not(self, lab: Lab, script: dict[str, str]) -> None:
        assert self.doubts(lab, {**TAGS, **script}) == "its user-script is not Rollcall's"


def test_every_user_script_of_ours_has_the_mark_that_proves_it() -> None:
    assert BOOT_SIGNATURE in userdata.build()
