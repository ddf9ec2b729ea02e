"""components.preflight.aws_permissions: which actions a stack needs, on what, and what a simulation says of them."""

from __future__ import annotations

from typing import Any

import pytest

from components.config.models import Settings
from components.config.reader import read
from components.preflight.aws_permissions import Denied, Place, needed, principal_of, simulate

WEB = {"cloud": "aws", "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}
API = {"cloud": "joyent", "size": "g1.micro", "image": "debian-12", "joins": ["theService/v1"]}
SITES = {"www": {"zone": "scalability.expert"}}
DIRECTORY = {"zone": "unilans.net", "services": {"theService": {"port": 80, "incarnations": {"v1": {}}}}}
PLACE = Place(partition="aws", account="123456789012", region="us-west-2", zone_id="Z1")
USER = "arn:aws:iam::123456789012:user/deploy"


def settings(**values: Any) -> Settings:
    return read("prod", values)


def services(actions: tuple[str, ...]) -> set[str]:
    return {each.partition(":")[0] for each in actions}


def test_only_what_the_stack_uses_is_needed() -> None:
    ec2 = needed(settings(sites=SITES, fleets={"web": WEB}))
    assert services(ec2) == {"ec2", "iam", "s3", "ssm"}
    assert "ec2:RunInstances" in ec2 and "iam:PassRole" in ec2 and "iam:CreateUser" not in ec2
    triton = needed(settings(serviceDiscovery=DIRECTORY, fleets={"api": API}))
    assert services(triton) == {"route53", "iam"}
    assert "iam:CreateUser" in triton and "iam:CreateRole" not in triton
    assert "route53:CreateHostedZone" not in triton
    made = settings(serviceDiscovery={**DIRECTORY, "create": True}, fleets={"api": API})
    assert "route53:CreateHostedZone" in needed(made)


class Iam:
    """A client that allows everything but what `answers` has; `calls` is what it was asked."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.answers, self.calls = answers, list[dict[str, Any]]()

    def get_paginator(self, operation: str) -> Iam:
        assert operation == "simulate_principal_policy"
        return self

    def paginate(self, **call: Any) -> list[dict[str, Any]]:
        self.calls.append(call)
        results = [
            {"EvalActionName": each, "EvalDecision": "allowed", **self.answers.get(each.replace(":", "_"), {})}
            for each in call["ActionNames"]
        ]
        return [{"EvaluationResults": results}]

    def calls_of(self, action: str) -> list[dict[str, Any]]:
        return [each for each in self.calls if action in each["ActionNames"]]


def context(call: dict[str, Any]) -> dict[str, Any]:
    return {each["ContextKeyName"]: each["ContextKeyValues"] for each in call["ContextEntries"]}


def test_actions_are_simulated_on_the_resources_and_with_the_conditions_of_the_program() -> None:
    iam = Iam()
    whole = settings(
        sites=SITES,
        serviceDiscovery=DIRECTORY,
        fleets={"web": WEB, "api": API, "far": {**WEB, "region": "eu-west-1"}},
    )
    found = simulate(iam, USER, whole, PLACE)
    assert (found.denied, found.in_organization) == ((), False) and found.count == len(needed(whole))
    (passing,) = iam.calls_of("iam:PassRole")
    assert context(passing)["iam:PassedToService"] == ["ec2.amazonaws.com"]
    assert passing["ResourceArns"] == [
        "arn:aws:iam::123456789012:role/web-role-1234567",
        "arn:aws:iam::123456789012:role/far-eu-west-1-role-1234567",
    ]
    near, far = iam.calls_of("ec2:RunInstances")
    assert {context(each)["aws:RequestedRegion"][0] for each in (near, far)} == {"us-west-2", "eu-west-1"}
    assert context(near)["aws:RequestTag/rollcall-stack"] == ["prod"]
    kinds = {each.rpartition("/")[0].rpartition(":")[2] for each in near["ResourceArns"]}
    assert kinds == {"instance", "network-interface", "volume", "security-group", "subnet", "image"}
    (ending, _) = iam.calls_of("ec2:TerminateInstances")
    assert context(ending)["aws:ResourceTag/rollcall-stack"] == ["prod"]
    assert "aws:RequestTag/rollcall-stack" not in context(ending)
    (records,) = iam.calls_of("route53:ChangeResourceRecordSets")
    assert records["ResourceArns"] == ["arn:aws:route53:::hostedzone/Z1"]
    names = context(records)["route53:ChangeResourceRecordSetsNormalizedRecordNames"]
    assert "_services._dns-sd._udp.unilans.net" in names
    (user,) = iam.calls_of("iam:CreateUser")
    assert user["ResourceArns"] == ["arn:aws:iam::123456789012:user/rollcall/api-user-1234567"]
    assert all(each["PolicySourceArn"] == USER for each in iam.calls)


def test_what_denies_an_action_is_named() -> None:
    arn = "arn:aws:iam::123456789012:role/web-role-1234567"
    bad = {
        "EvalResourceName": arn,
        "EvalResourceDecision": "implicitDeny",
        "MissingContextValues": ["iam:PassedToService"],
    }
    within = {"PermissionsBoundaryDecisionDetail": {"AllowedByPermissionsBoundary": False}}
    iam = Iam(
        ec2_RunInstances={
            "EvalDecision": "implicitDeny",
            "OrganizationsDecisionDetail": {"AllowedByOrganizations": False},
        },
        ec2_StopInstances={"EvalDecision": "explicitDeny"},
        iam_CreateRole={"EvalDecision": "implicitDeny", "ResourceSpecificResults": [{**bad, **within}]},
        iam_GetRole={
            "EvalDecision": "allowed",
            "ResourceSpecificResults": [{**bad, "EvalResourceDecision": "allowed"}],
        },
        ssm_PutParameter={"EvalDecision": "implicitDeny", "MissingContextValues": ["aws:PrincipalTag/team"]},
    )
    found = simulate(iam, USER, settings(sites=SITES, fleets={"web": WEB}), PLACE)
    assert found.in_organization
    by_action = {each.action: each for each in found.denied}
    assert by_action.keys() == {"ec2:RunInstances", "ec2:StopInstances", "iam:CreateRole", "ssm:PutParameter"}
    assert "service control policy" in by_action["ec2:RunInstances"].why
    assert by_action["ec2:StopInstances"].why == "a policy denies it"
    # Where AWS does not send a key that the program's other actions have, its absence is right.
    assert by_action["iam:CreateRole"] == Denied(
        action="iam:CreateRole", resources=(arn,), why="the permissions boundary does not allow it"
    )
    assert by_action["ssm:PutParameter"].missing == ("aws:PrincipalTag/team",)


def test_one_way_to_tag_a_bucket_is_enough() -> None:
    several = {f"s3_{each}": {"EvalDecision": "implicitDeny"} for each in ("TagResource", "ListTagsForResource")}
    one, ec2 = {"s3_PutBucketTagging": {"EvalDecision": "implicitDeny"}}, settings(sites=SITES, fleets={"web": WEB})
    assert simulate(Iam(**several), USER, ec2, PLACE).denied == ()
    assert simulate(Iam(**one), USER, ec2, PLACE).denied == ()
    lacking = simulate(Iam(**several, **one), USER, ec2, PLACE).denied
    assert [each.action for each in lacking] == ["s3:ListTagsForResource", "s3:TagResource"]


@pytest.mark.parametrize(
    ("caller", "principal"),
    [
        (USER, USER),
        ("arn:aws:sts::123456789012:assumed-role/deploy/ann", "arn:aws:iam::123456789012:role/ci/deploy"),
        ("arn:aws-cn:sts::123456789012:assumed-role/deploy/ann", "arn:aws:iam::123456789012:role/ci/deploy"),
        ("arn:aws:iam::123456789012:root", ""),
        ("arn:aws:sts::123456789012:federated-user/ann", ""),
    ],
    ids=["user", "session", "session in China", "root", "federated"],
)
def test_the_policies_of_a_session_are_those_of_its_role(caller: str, principal: str) -> None:
    assert principal_of(caller, lambda name: f"arn:aws:iam::123456789012:role/ci/{name}") == principal
