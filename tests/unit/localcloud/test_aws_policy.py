"""IAM's evaluation of policies, by a table; each row that allows has a twin in which one thing differs."""

from __future__ import annotations

from typing import Any

import pytest

from localcloud.aws.policy import Decision, Request, Value, evaluate

ZONE = "arn:aws:route53:::hostedzone/Z1"
CHANGE = "route53:ChangeResourceRecordSets"
NAMES = f"{CHANGE}NormalizedRecordNames"
ALLOWED, NOT_ALLOWED, DENIED = Decision.ALLOWED, Decision.NOT_ALLOWED, Decision.DENIED


def statement(effect: str = "Allow", **parts: Any) -> dict[str, Any]:
    parts.setdefault("Action", CHANGE)
    parts.setdefault("Resource", ZONE)
    if "NotAction" in parts:
        del parts["Action"]
    if "NotResource" in parts:
        del parts["Resource"]
    return {"Effect": effect, **parts}


def decide(
    *statements: dict[str, Any], action: str = CHANGE, resource: str = ZONE, context: dict[str, Value] | None = None
) -> Decision:
    return evaluate(
        [{"Version": "2012-10-17", "Statement": list(statements)}],
        Request(action=action, resource=resource, context=context or {}),
    )


@pytest.mark.parametrize(
    ("parts", "action", "resource", "decision"),
    [
        ({}, CHANGE, ZONE, ALLOWED),
        ({}, "route53:GetHostedZone", ZONE, NOT_ALLOWED),
        ({}, CHANGE, ZONE + "2", NOT_ALLOWED),
        ({"Action": "ROUTE53:changeresourcerecordsets"}, CHANGE, ZONE, ALLOWED),
        ({"Action": "route53:Change*"}, CHANGE, ZONE, ALLOWED),
        ({"Action": "route53:Change?"}, CHANGE, ZONE, NOT_ALLOWED),
        ({"Action": ["ssm:*", CHANGE]}, CHANGE, ZONE, ALLOWED),
        ({"Action": "*"}, "ssm:GetParameter", ZONE, ALLOWED),
        ({"NotAction": "ssm:*"}, CHANGE, ZONE, ALLOWED),
        ({"NotAction": "route53:*"}, CHANGE, ZONE, NOT_ALLOWED),
        ({"Resource": "arn:aws:route53:::hostedzone/*"}, CHANGE, ZONE, ALLOWED),
        ({"Resource": "arn:aws:route53:::HOSTEDZONE/Z1"}, CHANGE, ZONE, NOT_ALLOWED),
        ({"Resource": ["arn:aws:s3:::a", ZONE]}, CHANGE, ZONE, ALLOWED),
        ({"NotResource": ZONE}, CHANGE, ZONE, NOT_ALLOWED),
        ({"NotResource": ZONE}, CHANGE, ZONE + "2", ALLOWED),
    ],
)
def test_actions_and_resources_with_wildcards(
    parts: dict[str, Any], action: str, resource: str, decision: Decision
) -> None:
    assert decide(statement(**parts), action=action, resource=resource) is decision


def test_an_explicit_deny_wins_over_any_allow_wherever_it_stays() -> None:
    allow, deny = statement(Action="*", Resource="*"), statement("Deny")
    assert decide(allow, deny) is DENIED
    assert decide(deny, allow) is DENIED
    assert decide(allow, deny, resource=ZONE + "2") is ALLOWED


def test_policies_add_up_and_none_allows_nothing() -> None:
    request = Request(action=CHANGE, resource=ZONE)
    assert evaluate([], request) is NOT_ALLOWED
    other = {"Statement": statement(Action="ssm:*")}
    assert evaluate([other, {"Statement": statement()}], request) is ALLOWED


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ({"StringEquals": {"k": "a"}}, {"k": "a"}, True),
        ({"StringEquals": {"k": "a"}}, {"k": "A"}, False),
        ({"StringEquals": {"k": ["b", "a"]}}, {"k": "a"}, True),
        ({"StringEquals": {"K": "a"}}, {"k": "a"}, True),
        ({"StringEquals": {"k": "a"}}, {}, False),
        ({"StringEqualsIfExists": {"k": "a"}}, {}, True),
        ({"StringEqualsIfExists": {"k": "a"}}, {"k": "b"}, False),
        ({"StringEqualsIgnoreCase": {"k": "a"}}, {"k": "A"}, True),
        ({"StringNotEquals": {"k": ["a", "b"]}}, {"k": "c"}, True),
        ({"StringNotEquals": {"k": ["a", "b"]}}, {"k": "b"}, False),
        ({"StringNotEquals": {"k": "a"}}, {}, True),
        ({"StringLike": {"k": "*.rc.unilans.net"}}, {"k": "0a1b2c.rc.unilans.net"}, True),
        ({"StringLike": {"k": "*.rc.unilans.net"}}, {"k": "rc.unilans.net"}, False),
        ({"StringNotLike": {"k": "a*"}}, {"k": "b"}, True),
        ({"StringEquals": {"k": "*"}}, {"k": "b"}, False),
        ({"Bool": {"k": "true"}}, {"k": "true"}, True),
        ({"Bool": {"k": True}}, {"k": "true"}, True),
        ({"Bool": {"k": "true"}}, {"k": "false"}, False),
        ({"Null": {"k": "true"}}, {}, True),
        ({"Null": {"k": "false"}}, {}, False),
        ({"Null": {"k": "false"}}, {"k": ()}, False),
        ({"Null": {"k": "false"}}, {"k": ("a",)}, True),
        ({"NumericLessThan": {"k": "10"}}, {"k": "9"}, True),
        ({"NumericLessThan": {"k": "10"}}, {"k": "10"}, False),
        ({"NumericNotEquals": {"k": "10"}}, {"k": "11"}, True),
        ({"NumericEquals": {"k": "10"}}, {"k": "ten"}, False),
        ({"DateGreaterThan": {"k": "2026-01-01T00:00:00Z"}}, {"k": "2026-11-23T10:00:00Z"}, True),
        ({"DateGreaterThan": {"k": "2027-01-01T00:00:00Z"}}, {"k": "2026-11-23T10:00:00Z"}, False),
        ({"IpAddress": {"k": "198.51.100.0/24"}}, {"k": "198.51.100.7"}, True),
        ({"IpAddress": {"k": "198.51.100.0/24"}}, {"k": "203.0.113.7"}, False),
        ({"NotIpAddress": {"k": "198.51.100.0/24"}}, {"k": "203.0.113.7"}, True),
        ({"ArnLike": {"k": "arn:aws:ec2:*:1:instance/*"}}, {"k": "arn:aws:ec2:us-west-2:1:instance/i-1"}, True),
        ({"ArnLike": {"k": "arn:aws:ec2:*:instance/*"}}, {"k": "arn:aws:ec2:us-west-2:1:instance/i-1"}, False),
        ({"StringEquals": {"k": "a", "l": "b"}}, {"k": "a", "l": "c"}, False),
        ({"StringEquals": {"k": "a"}, "Bool": {"l": "true"}}, {"k": "a", "l": "true"}, True),
        ({"NoSuchOperator": {"k": "a"}}, {"k": "a"}, False),
    ],
)
def test_conditions_on_keys_with_one_value(condition: Any, context: dict[str, Value], holds: bool) -> None:
    assert decide(statement(Condition=condition), context=context) is (ALLOWED if holds else NOT_ALLOWED)


@pytest.mark.parametrize(
    ("operator", "values", "holds"),
    [
        ("ForAllValues:StringEquals", ("a", "b"), True),
        ("ForAllValues:StringEquals", ("a", "c"), False),
        ("ForAllValues:StringEquals", (), True),
        ("ForAllValues:StringEquals", None, True),
        ("ForAllValues:StringNotEquals", ("c", "d"), True),
        ("ForAllValues:StringNotEquals", ("a", "d"), False),
        ("ForAnyValue:StringEquals", ("c", "b"), True),
        ("ForAnyValue:StringEquals", ("c",), False),
        ("ForAnyValue:StringEquals", (), False),
        ("ForAnyValue:StringEquals", None, False),
        ("ForAnyValue:StringNotEquals", ("a", "c"), True),
        ("ForAnyValue:StringNotEquals", ("a", "b"), False),
        ("ForAnyValue:StringNotEquals", None, False),
    ],
)
def test_conditions_on_keys_with_several_values(operator: str, values: tuple[str, ...] | None, holds: bool) -> None:
    context: dict[str, Value] = {} if values is None else {NAMES: values}
    found = decide(statement(Condition={operator: {NAMES: ["a", "b"]}}), context=context)
    assert found is (ALLOWED if holds else NOT_ALLOWED)


def test_for_all_values_lets_a_missing_key_through_unless_null_forbids_it() -> None:
    condition: dict[str, Any] = {"ForAllValues:StringLike": {NAMES: "*.rc.unilans.net"}}
    assert decide(statement(Condition=condition)) is ALLOWED
    condition["Null"] = {NAMES: "false"}
    assert decide(statement(Condition=condition)) is NOT_ALLOWED
    assert decide(statement(Condition=condition), context={NAMES: ("a.rc.unilans.net",)}) is ALLOWED


def test_policy_variables_are_filled_and_an_unknown_one_matches_nothing() -> None:
    own = statement(Action="iam:*", Resource="arn:aws:iam::1:user/${aws:username}")
    requested: dict[str, Any] = {"action": "iam:GetUser", "resource": "arn:aws:iam::1:user/ann"}
    assert decide(own, context={"aws:username": "ann"}, **requested) is ALLOWED
    assert decide(own, context={"aws:username": "bob"}, **requested) is NOT_ALLOWED
    assert decide(own, **requested) is NOT_ALLOWED
    fallback = statement(Action="iam:*", Resource="arn:aws:iam::1:user/${aws:username, 'ann'}")
    assert decide(fallback, **requested) is ALLOWED
