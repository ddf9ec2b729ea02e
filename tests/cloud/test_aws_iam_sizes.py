"""How much text the local IAM keeps in the inline policies of a user, a role and a group."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.aws_cloud import TRUST, Cloud, running

pytestmark = pytest.mark.clouds


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as made:
        yield made


def document(size: int, indent: int | None = None) -> str:
    """A policy with so many characters that are no blanks."""
    statement = {"Effect": "Allow", "Action": "route53:GetChange", "Resource": ["arn:aws:s3:::"]}
    bare = len("".join(json.dumps({"Version": "2012-10-17", "Statement": [statement]}).split()))
    statement["Resource"] = ["arn:aws:s3:::" + "x" * (size - bare)]
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, indent=indent)


def user(iam: Any) -> Callable[[str, str], None]:
    iam.create_user(UserName="u")
    return lambda name, text: iam.put_user_policy(UserName="u", PolicyName=name, PolicyDocument=text)


def role(iam: Any) -> Callable[[str, str], None]:
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST)
    return lambda name, text: iam.put_role_policy(RoleName="r", PolicyName=name, PolicyDocument=text)


def group(iam: Any) -> Callable[[str, str], None]:
    iam.create_group(GroupName="g")
    return lambda name, text: iam.put_group_policy(GroupName="g", PolicyName=name, PolicyDocument=text)


@pytest.mark.parametrize(("kind", "most"), [(user, 2048), (role, 10240), (group, 5120)])
def test_all_inline_policies_of_one_hold_so_many_characters_blanks_not_counted(
    cloud: Cloud, kind: Callable[[Any], Callable[[str, str], None]], most: int
) -> None:
    put = kind(cloud.client("iam"))

    def refused(name: str, text: str) -> None:
        with pytest.raises(
            ClientError, match=f"Maximum policy size of {most} bytes exceeded for {kind.__name__}"
        ) as found:
            put(name, text)
        error = found.value.response
        assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == ("LimitExceeded", 409)

    refused("one", document(most + 1))
    put("one", document(most, indent=8))
    refused("two", document(120))
    put("one", document(most - 120))
    put("two", document(120))
    refused("one", document(most - 119))
