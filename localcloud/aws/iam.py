"""What IAM refuses and moto does not: tags of the wrong form, and policies that are too long.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
"""

from __future__ import annotations

from collections.abc import Mapping

from localcloud.aws import tagrules
from localcloud.aws.wire import Call

# Keys of users and roles are compared without their case, those of all others with it.
_CASELESS = ("CreateRole", "CreateUser", "TagRole", "TagUser")


def check(call: Call) -> None:
    """Raises AwsError for a request that IAM would refuse."""
    tags = [_pair(each) for each in call.groups("Tags.member").values()]
    if tags:
        tagrules.check(tags, tagrules.IAM, same=str.lower if call.action in _CASELESS else str)


def _pair(tag: Mapping[str, str]) -> tuple[str, str]:
    return tag.get("Key", ""), tag.get("Value", "")
