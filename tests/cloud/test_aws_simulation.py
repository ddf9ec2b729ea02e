"""SimulatePrincipalPolicy of the local AWS: the decisions are those with which it also answers the calls themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.machines.compute import InstantHypervisor
from tests.cloud.aws_cloud import TRUST, Cloud, allow, running

pytestmark = pytest.mark.clouds
BUCKET, OTHER = "arn:aws:s3:::rollcall-one", "arn:aws:s3:::other"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with running(hypervisor=InstantHypervisor()) as made:
        yield made


def user(cloud: Cloud, name: str, policy: dict[str, Any]) -> str:
    iam = cloud.client("iam")
    made = iam.create_user(UserName=name)["User"]
    iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=json.dumps(policy))
    return str(made["Arn"])


def simulated(cloud: Cloud, source: str, actions: list[str], **options: Any) -> list[Any]:
    found: list[Any] = cloud.client("iam").simulate_principal_policy(
        PolicySourceArn=source, ActionNames=actions, **options
    )["EvaluationResults"]
    return found


def test_each_resource_has_its_decision_and_the_action_the_most_restrictive(cloud: Cloud) -> None:
    arn = user(cloud, "buckets", allow("s3:CreateBucket", "arn:aws:s3:::rollcall-*"))
    (found,) = simulated(cloud, arn, ["s3:CreateBucket"], ResourceArns=[BUCKET, OTHER])
    specific = {each["EvalResourceName"]: each["EvalResourceDecision"] for each in found["ResourceSpecificResults"]}
    assert specific == {BUCKET: "allowed", OTHER: "implicitDeny"} and found["EvalDecision"] == "implicitDeny"
    assert "OrganizationsDecisionDetail" not in found
    (found,) = simulated(cloud, arn, ["s3:DeleteBucket"])
    assert found["EvalDecision"] == "implicitDeny" and not found.get("ResourceSpecificResults")


def test_a_deny_wins(cloud: Cloud) -> None:
    both = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "s3:*", "Resource": OTHER},
    ]}  # fmt: skip
    arn = user(cloud, "denied", both)
    (found,) = simulated(cloud, arn, ["s3:GetObject"], ResourceArns=[BUCKET, OTHER])
    assert found["EvalDecision"] == "explicitDeny"


def test_a_condition_needs_its_key_in_the_request(cloud: Cloud) -> None:
    passing = allow("iam:PassRole", StringEquals={"iam:PassedToService": "ec2.amazonaws.com"})
    arn = user(cloud, "passer", passing)
    (found,) = simulated(cloud, arn, ["iam:PassRole"])
    assert (found["EvalDecision"], found["MissingContextValues"]) == ("implicitDeny", ["iam:PassedToService"])
    value = {
        "ContextKeyName": "iam:PassedToService",
        "ContextKeyType": "string",
        "ContextKeyValues": ["ec2.amazonaws.com"],
    }
    (found,) = simulated(cloud, arn, ["iam:PassRole"], ContextEntries=[value])
    assert (found["EvalDecision"], found.get("MissingContextValues", [])) == ("allowed", [])


def test_a_boundary_limits_and_is_named(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    limit = iam.create_policy(PolicyName="limit", PolicyDocument=json.dumps(allow("ec2:*")))["Policy"]["Arn"]
    made = iam.create_role(RoleName="bounded", AssumeRolePolicyDocument=TRUST, PermissionsBoundary=limit)
    iam.put_role_policy(RoleName="bounded", PolicyName="own", PolicyDocument=json.dumps(allow("*")))
    arn = made["Role"]["Arn"]
    within, outside = simulated(cloud, arn, ["ec2:RunInstances", "s3:CreateBucket"])
    assert (within["EvalDecision"], outside["EvalDecision"]) == ("allowed", "implicitDeny")
    assert within["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": True}
    assert outside["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": False}


def test_a_users_groups_and_a_role_count(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    arn = user(cloud, "member", allow("ec2:DescribeInstances"))
    iam.create_group(GroupName="team")
    iam.put_group_policy(GroupName="team", PolicyName="own", PolicyDocument=json.dumps(allow("ec2:RunInstances")))
    iam.add_user_to_group(GroupName="team", UserName="member")
    (found,) = simulated(cloud, arn, ["ec2:RunInstances"])
    assert found["EvalDecision"] == "allowed"
    role = iam.create_role(RoleName="deploy", Path="/ci/", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    iam.put_role_policy(RoleName="deploy", PolicyName="own", PolicyDocument=json.dumps(allow("ssm:GetParameter")))
    assert role.endswith("role/ci/deploy")
    first, second = simulated(cloud, role, ["ssm:GetParameter", "ssm:PutParameter"])
    assert (first["EvalDecision"], second["EvalDecision"]) == ("allowed", "implicitDeny")
    with pytest.raises(ClientError, match="NoSuchEntity"):
        simulated(cloud, role.replace("/ci/", "/"), ["ssm:GetParameter"])


def test_results_come_in_pages(cloud: Cloud) -> None:
    arn = user(cloud, "pages", allow("*"))
    pages = cloud.client("iam").get_paginator("simulate_principal_policy")
    actions = [f"ec2:Describe{each}" for each in "ABCDE"]
    found = pages.paginate(PolicySourceArn=arn, ActionNames=actions, PaginationConfig={"PageSize": 2})
    assert [each["EvalActionName"] for page in found for each in page["EvaluationResults"]] == actions


@pytest.mark.parametrize(
    ("source", "action", "code"),
    [
        ("arn:aws:sts::{}:assumed-role/deploy/ann", "ec2:RunInstances", "InvalidInput"),
        ("arn:aws:iam::{}:root", "ec2:RunInstances", "InvalidInput"),
        ("arn:aws:iam::{}:user/missing", "ec2:RunInstances", "NoSuchEntity"),
        ("arn:aws:iam::{}:user/operator", "RunInstances", "InvalidInput"),
        ("arn:aws:iam::{}:user/operator", "ec2:*", "InvalidInput"),
    ],
    ids=["session", "root", "unknown", "no service", "wildcard"],
)
def test_what_cannot_be_simulated_is_refused(cloud: Cloud, source: str, action: str, code: str) -> None:
    with pytest.raises(ClientError, match=code):
        simulated(cloud, source.format(cloud.aws.account), [action])


def test_the_call_needs_a_right_on_the_principal(cloud: Cloud) -> None:
    arn = user(cloud, "curious", allow("iam:SimulatePrincipalPolicy", "arn:aws:iam::*:user/curious"))
    key = cloud.client("iam").create_access_key(UserName="curious")["AccessKey"]
    iam = cloud.client("iam", (key["AccessKeyId"], key["SecretAccessKey"]))
    assert iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=["ec2:RunInstances"])["EvaluationResults"]
    with pytest.raises(ClientError, match="AccessDenied"):
        iam.simulate_principal_policy(
            PolicySourceArn=f"arn:aws:iam::{cloud.aws.account}:user/operator", ActionNames=["ec2:RunInstances"]
        )
