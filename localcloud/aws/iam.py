"""Refuse what IAM refuses and moto accepts: tags of the wrong form, policies and names that are too long, and more than the quotas allow.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any

from localcloud.aws import tagrules
from localcloud.aws.wire import AwsError, Call

# Keys of users and roles are compared without their case, those of all others with it.
_CASELESS = ("CreateRole", "CreateUser", "TagRole", "TagUser")
# The limit of characters other than blanks, in all inline policies of one user, role or group.
_MOST = {"PutUserPolicy": ("user", 2048), "PutRolePolicy": ("role", 10240), "PutGroupPolicy": ("group", 5120)}
# The quota that GetAccountSummary shows for what an action makes.
_COUNTED = {"CreateRole": "Roles", "CreateInstanceProfile": "InstanceProfiles", "CreateUser": "Users"}
# The quota of managed policies of a role, and how the ARN of a policy of AWS begins.
_MOST_MANAGED, _OF_AWS = 10, "arn:aws:iam::aws:policy/"
_LONGEST_NAMES = {
    "CreateRole": ("RoleName", 64),
    "CreateUser": ("UserName", 64),
    "CreateInstanceProfile": ("InstanceProfileName", 128),
    "PutRolePolicy": ("PolicyName", 128),
    "PutUserPolicy": ("PolicyName", 128),
}


def check(call: Call, iam: Any) -> None:
    """Raises AwsError for a request that IAM would refuse. `iam` is moto's backend."""
    if call.action in _LONGEST_NAMES:
        _check_name(call)
    if call.action in _MOST:
        _check_size(call, iam)
    if call.action in _COUNTED:
        _check_count(_COUNTED[call.action], iam)
    if call.action == "CreateAccessKey":
        _check_keys(call, iam)
    if call.action == "AttachRolePolicy":
        _attach(call, iam)
    tags = [_pair(each) for each in call.groups("Tags.member").values()]
    if tags:
        tagrules.check(tags, tagrules.IAM, same=str.lower if call.action in _CASELESS else str)


def _check_name(call: Call) -> None:
    field, most = _LONGEST_NAMES[call.action]
    name = call.get(field) or ""
    if len(name) > most:
        member = f"{field[0].lower()}{field[1:]}"
        raise AwsError(
            "ValidationError",
            f"1 validation error detected: Value '{name}' at '{member}' failed to satisfy constraint: Member must have length "
            f"less than or equal to {most}",
        )


def _check_count(what: str, iam: Any) -> None:
    """https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html#API_CreateRole_Errors"""
    summary = iam.account_summary.summary_map
    if summary[what] >= summary[f"{what}Quota"]:
        quota = summary[f"{what}Quota"]
        raise AwsError("LimitExceeded", f"Cannot exceed quota for {what}PerAccount: {quota}", 409)


def _check_keys(call: Call, iam: Any) -> None:
    quota = iam.account_summary.summary_map["AccessKeysPerUserQuota"]
    user = iam.users.get(call.get("UserName") or "")
    if user is not None and len(user.access_keys) >= quota:
        raise AwsError("LimitExceeded", f"Cannot exceed quota for AccessKeysPerUser: {quota}", 409)


def _attach(call: Call, iam: Any) -> None:
    """Have the policy of AWS that a role gets. moto would load all of them, and attach any number.

    https://docs.aws.amazon.com/IAM/latest/APIReference/API_AttachRolePolicy.html
    """
    arn, name = call.get("PolicyArn") or "", call.get("RoleName")
    if arn.startswith(_OF_AWS) and arn not in iam.managed_policies:
        known = json.loads(importlib.import_module("moto.iam.aws_managed_policies").aws_managed_policies_data)
        policy = arn.rpartition("/")[2]
        if policy in known and f"{_OF_AWS}{known[policy]['Path'][1:]}{policy}" == arn:
            kind = importlib.import_module("moto.iam.models").AWSManagedPolicy
            iam.managed_policies[arn] = kind.from_data(policy, iam.account_id, iam.region_name, known[policy])
    role = next((each for each in iam.roles.values() if each.name == name), None)
    if role is not None and arn not in role.managed_policies and len(role.managed_policies) >= _MOST_MANAGED:
        raise AwsError("LimitExceeded", f"Cannot exceed quota for PoliciesPerRole: {_MOST_MANAGED}", 409)


def _check_size(call: Call, iam: Any) -> None:
    kind, most = _MOST[call.action]
    name = call.get(f"{kind.capitalize()}Name") or ""
    existing = {"user": iam.users, "role": {each.name: each for each in iam.roles.values()}, "group": iam.groups}[kind]
    policies = {**getattr(existing.get(name), "policies", {}), call.get("PolicyName"): call.get("PolicyDocument") or ""}
    if sum(len("".join(text.split())) for text in policies.values()) > most:
        raise AwsError("LimitExceeded", f"Maximum policy size of {most} bytes exceeded for {kind} {name}", 409)


def _pair(tag: Mapping[str, str]) -> tuple[str, str]:
    return tag.get("Key", ""), tag.get("Value", "")
