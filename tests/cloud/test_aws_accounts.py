"""The local STS with two accounts: who may become whom, and what the session may then do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.cloud.aws_accounts import AUDIENCE, ISSUER, PEOPLE, TARGET, World, token, two_accounts
from tests.cloud.aws_cloud import allow

pytestmark = pytest.mark.clouds
HOST = ISSUER.removeprefix("https://")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with two_accounts() as made:
        yield made


def refused(call: Any, **given: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as error:
        call(**given)
    detail = error.value.response["Error"]
    return detail["Code"], detail["Message"]


def keys(made: Any) -> tuple[str, str, str]:
    found = made["Credentials"]
    return found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]


def test_each_key_is_its_own_accounts(world: World) -> None:
    assert world.client("sts").get_caller_identity()["Account"] == TARGET
    assert world.client("sts", world.ann).get_caller_identity()["Arn"] == f"arn:aws:iam::{PEOPLE}:user/ann"
    assert refused(world.client("ec2", world.ann).describe_instances)[0] == "UnauthorizedOperation"
    assert refused(world.client("sts", ("AKIANOBODY0000000001", "x")).get_caller_identity)[0] == "InvalidClientTokenId"


def test_a_hosted_zone_of_another_account_is_denied_and_one_that_no_account_has_is_not_found(world: World) -> None:
    """Otherwise a zone that the caller may not see would pass for a deleted one."""
    route53 = world.client("route53")
    theirs = world.people.add_zone("people.example")
    for zone, code in ((theirs, "AccessDenied"), ("Z00000000000000000000", "NoSuchHostedZone")):
        assert refused(route53.get_hosted_zone, Id=zone)[0] == code
        assert refused(route53.list_resource_record_sets, HostedZoneId=zone)[0] == code
        assert refused(route53.delete_hosted_zone, Id=zone)[0] == code


def test_a_role_of_another_account_is_assumed_by_whom_it_trusts_with_the_right_external_id(world: World) -> None:
    arn = world.role("deploy", {"AWS": f"arn:aws:iam::{PEOPLE}:root"}, StringEquals={"sts:ExternalId": "shop"})
    sts = world.client("sts", world.ann)
    for wrong in ({}, {"ExternalId": "other"}):
        code, message = refused(sts.assume_role, RoleArn=arn, RoleSessionName="ann", **wrong)
        assert code == "AccessDenied" and message.endswith(
            f"is not authorized to perform: sts:AssumeRole on resource: {arn}"
        )
    made = sts.assume_role(RoleArn=arn, RoleSessionName="ann", ExternalId="shop")
    assert made["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{TARGET}:assumed-role/deploy/ann"
    assert world.client("sts", keys(made)).get_caller_identity()["Account"] == TARGET
    nowhere = arn.replace(TARGET, "333333333333")
    assert refused(sts.assume_role, RoleArn=nowhere, RoleSessionName="ann")[0] == "AccessDenied"


def test_a_session_is_as_long_as_its_role_allows_and_an_hour_by_another_role(world: World) -> None:
    first = world.role("first", {"AWS": PEOPLE})
    second = world.role("second", {"AWS": first})
    sts = world.client("sts", world.ann)
    assert refused(sts.assume_role, RoleArn=first, RoleSessionName="ann", DurationSeconds=7201)[0] == "ValidationError"
    by_first = world.client("sts", keys(sts.assume_role(RoleArn=first, RoleSessionName="ann", DurationSeconds=7200)))
    message = refused(by_first.assume_role, RoleArn=second, RoleSessionName="ann", DurationSeconds=7200)[1]
    assert "role chaining" in message
    made = by_first.assume_role(RoleArn=second, RoleSessionName="ann", DurationSeconds=3600)
    assert made["AssumedRoleUser"]["Arn"].endswith("assumed-role/second/ann")
    assert refused(sts.assume_role, RoleArn=second, RoleSessionName="ann")[0] == "AccessDenied"


def test_a_session_may_do_what_both_its_role_and_its_policies_allow(world: World) -> None:
    arn = world.role("limited", {"AWS": PEOPLE}, policy=allow("ec2:*"))
    sts = world.client("sts", world.ann)
    iam = world.client("iam")
    managed = iam.create_policy(PolicyName="reads", PolicyDocument=json.dumps(allow("ec2:DescribeRegions")))
    for limit in (
        {"Policy": json.dumps(allow("ec2:DescribeRegions"))},
        {"PolicyArns": [{"arn": managed["Policy"]["Arn"]}]},
    ):
        ec2 = world.client("ec2", keys(sts.assume_role(RoleArn=arn, RoleSessionName="ann", **limit)))
        assert ec2.describe_regions()["Regions"]
        code, message = refused(ec2.describe_instances)
        assert (
            code == "UnauthorizedOperation" and "no session policy allows the ec2:DescribeInstances action" in message
        )
    beyond = sts.assume_role(RoleArn=arn, RoleSessionName="ann", Policy=json.dumps(allow("*")))
    assert refused(world.client("iam", keys(beyond)).list_roles)[0] == "AccessDenied"
    broken = refused(sts.assume_role, RoleArn=arn, RoleSessionName="ann", Policy="{")
    assert broken[0] == "MalformedPolicyDocument"


def test_tags_and_a_source_identity_need_trust_and_go_on_to_the_next_role(world: World) -> None:
    tagged = {"Tags": [{"Key": "team", "Value": "shop"}, {"Key": "on", "Value": "call"}], "TransitiveTagKeys": ["team"]}
    plain = world.role("plain", {"AWS": PEOPLE})
    all_actions = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    first = world.role("tagging", {"AWS": PEOPLE}, actions=all_actions)
    only = allow("ec2:DescribeInstances", StringEquals={"aws:PrincipalTag/team": "shop", "aws:SourceIdentity": "ann"})
    second = world.role("tagged", {"AWS": first}, actions=all_actions, policy=only)
    sts = world.client("sts", world.ann)
    for given in (tagged, {"SourceIdentity": "ann"}):
        assert refused(sts.assume_role, RoleArn=plain, RoleSessionName="ann", **given)[0] == "AccessDenied"
    made = sts.assume_role(RoleArn=first, RoleSessionName="ann", SourceIdentity="ann", **tagged)
    assert made["SourceIdentity"] == "ann"
    by_first = world.client("sts", keys(made))
    allowed = by_first.assume_role(RoleArn=second, RoleSessionName="ann")
    assert world.client("ec2", keys(allowed)).describe_instances()["Reservations"] == []
    untagged = world.client("sts", keys(sts.assume_role(RoleArn=first, RoleSessionName="ann")))
    made = untagged.assume_role(RoleArn=second, RoleSessionName="ann")
    assert refused(world.client("ec2", keys(made)).describe_instances)[0] == "UnauthorizedOperation"
    assert (
        refused(by_first.assume_role, RoleArn=second, RoleSessionName="a2", SourceIdentity="bob")[0] == "AccessDenied"
    )
    lonely = {"Tags": tagged["Tags"], "TransitiveTagKeys": ["other"]}
    assert refused(sts.assume_role, RoleArn=first, RoleSessionName="ann", **lonely)[0] == "ValidationError"


@pytest.mark.parametrize(
    "wrong",
    [{"RoleSessionName": "a b"}, {"ExternalId": "a b"}, {"DurationSeconds": 899}, {"SourceIdentity": "x" * 65}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_the_api_does_not_take_is_a_validation_error(world: World, wrong: dict[str, Any]) -> None:
    given = {"RoleArn": f"arn:aws:iam::{TARGET}:role/deploy", "RoleSessionName": "ann", **wrong}
    # The SDK would check some of it by itself.
    sts = world.client("sts", world.ann, config=Config(parameter_validation=False))
    assert refused(sts.assume_role, **given)[0] == "ValidationError"


def test_a_token_of_an_issuer_that_the_account_knows_is_a_role(world: World) -> None:
    provider = f"arn:aws:iam::{TARGET}:oidc-provider/{HOST}"
    arn = world.role(
        "by-token",
        {"Federated": provider},
        actions="sts:AssumeRoleWithWebIdentity",
        StringEquals={f"{HOST}:aud": AUDIENCE, f"{HOST}:sub": "repo:shop/rollcall"},
    )
    sts = world.client("sts", ("-", "-"))

    def assume(given: str) -> Any:
        return sts.assume_role_with_web_identity(RoleArn=arn, RoleSessionName="ci", WebIdentityToken=given)

    made = assume(token())
    assert world.client("sts", keys(made)).get_caller_identity()["Arn"].endswith("assumed-role/by-token/ci")
    assert (made["Provider"], made["Audience"]) == (ISSUER, AUDIENCE)
    assert refused(assume, given=token("repo:evil/fork"))[0] == "AccessDenied"
    assert refused(assume, given=token(seconds=-1))[0] == "ExpiredTokenException"
    assert refused(assume, given=token(audience="other"))[0] == "InvalidIdentityToken"
    forged = token()
    assert refused(assume, given=f"{forged[:-4]}AAAA")[0] == "InvalidIdentityToken"
    assert refused(assume, given="no.jwt")[0] == "InvalidIdentityToken"


def test_the_log_names_the_key_of_each_request(world: World) -> None:
    world.calls()
    world.client("sts", world.ann).get_caller_identity()
    world.client("route53").list_hosted_zones()
    assert world.calls() == [(world.ann[0], "sts:GetCallerIdentity"), (world.root[0], "route53:GET")]
