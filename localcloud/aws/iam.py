"""Refuse what IAM refuses and moto accepts: tags of the wrong form, and policies that are too long.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localcloud.aws import tagrules
from localcloud.aws.wire import AwsError, Call

# Keys of users and roles are compared without their case, those of all others with it.
_CASELESS = ("CreateRole", "CreateUser", "TagRole", "TagUser")
# The limit of characters other than blanks, in all inline policies of one user, role or group.
_MOST = {"PutUserPolicy": ("user", 2048), "PutRolePolicy": ("role", 10240), "PutGroupPolicy": ("group", 5120)}


def check(call: Call, iam: Any) -> None:
    """Raises AwsError for a request that IAM would refuse. `iam` is moto's backend."""
    if call.action in _MOST:
        _check_size(call, iam)
    tags = [_pair(each) for each in call.groups("Tags.member").values()]
    if tags:
        tagrules.check(tags, tagrules.IAM, same=str.lower if call.action in _CASELESS else str)


def _check_size(call: Call, iam: Any) -> None:
    kind, most = _MOST[call.action]
    name = call.get(f"{kind.capitalize()}Name") or ""
    existing = {"user": iam.users, "role": {each.name: each for each in iam.roles.values()}, "group": iam.groups}[kind]
    policies = {**getattr(existing.get(name), "policies", {}), call.get("PolicyName"): call.get("PolicyDocument") or ""}
    if sum(len("".join(text.split())) for text in policies.values()) > most:
        raise AwsError("LimitExceeded", f"Maximum policy size of {most} bytes exceeded for {kind} {name}", 409)


def _pair(tag: Mapping[str, str]) -> tuple[str, str]:
    return tag.get("Key", ""), tag.get("Value", "")
