"""aws:iam: Role, RolePolicy, RolePolicyAttachment, InstanceProfile, User, UserPolicy, AccessKey."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from localcloud.plugins.aws.common import TAGS, Tagged, from_tags, gone_on, to_tags
from localcloud.plugins.resource import GoneError, Type, Values, flag, keeping, number, plain, text
from localcloud.plugins.values import secret

_GONE = "NoSuchEntity"


def _document(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _read_document(value: Any) -> str:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else unquote(str(value))


def _same_document(before: Any, after: Any) -> bool:
    try:
        return bool(json.loads(before or "null") == json.loads(after or "null"))
    except (TypeError, ValueError):
        return bool(before == after)


def _retag(tag: Callable[..., Any], untag: Callable[..., Any], old: Values, new: Values, **target: str) -> None:
    gone = sorted(set(old.get("tags") or {}) - set(new.get("tags") or {}))
    if gone:
        untag(**target, TagKeys=gone)
    if new.get("tags"):
        tag(**target, Tags=to_tags(new["tags"]))


class Role(Tagged):
    token = "aws:iam/role:Role"
    named = "name"
    inputs = {
        "name": text(replaces=True),
        "assumeRolePolicy": text(required=True),
        "description": text(),
        "path": text(replaces=True, default="/"),
        "maxSessionDuration": number(default=3600),
        "permissionsBoundary": text(),
        "forceDetachPolicies": flag(default=False),
        **TAGS,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        optional = {"Description": given.get("description"), "PermissionsBoundary": given.get("permissionsBoundary")}
        made = self.api.client("iam").create_role(
            RoleName=given["name"],
            AssumeRolePolicyDocument=_document(given["assumeRolePolicy"]),
            Path=given["path"],
            MaxSessionDuration=int(given["maxSessionDuration"]),
            Tags=to_tags(given.get("tags")),
            **{key: value for key, value in optional.items() if value},
        )["Role"]
        return made["RoleName"], self._outputs(made, given)

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        with gone_on(_GONE):
            found = self.api.client("iam").get_role(RoleName=identity)["Role"]
        now = {
            "name": found["RoleName"],
            "assumeRolePolicy": _read_document(found["AssumeRolePolicyDocument"]),
            "description": found.get("Description") or None,
            "path": found["Path"],
            "maxSessionDuration": found.get("MaxSessionDuration", 3600),
            "permissionsBoundary": (found.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn"),
            "tags": from_tags(found.get("Tags")) or None,
        }
        return self._outputs(found, now), now

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        iam = self.api.client("iam")
        iam.update_assume_role_policy(RoleName=identity, PolicyDocument=_document(new["assumeRolePolicy"]))
        iam.update_role(
            RoleName=identity,
            Description=new.get("description") or "",
            MaxSessionDuration=int(new["maxSessionDuration"]),
        )
        if old.get("permissionsBoundary") != new.get("permissionsBoundary"):
            if new.get("permissionsBoundary"):
                iam.put_role_permissions_boundary(RoleName=identity, PermissionsBoundary=new["permissionsBoundary"])
            else:
                iam.delete_role_permissions_boundary(RoleName=identity)
        _retag(iam.tag_role, iam.untag_role, old, new, RoleName=identity)
        return {"tagsAll": dict(new.get("tags") or {})}

    def delete(self, identity: str, state: Values) -> None:
        iam = self.api.client("iam")
        with gone_on(_GONE):
            for profile in iam.list_instance_profiles_for_role(RoleName=identity)["InstanceProfiles"]:
                iam.remove_role_from_instance_profile(
                    InstanceProfileName=profile["InstanceProfileName"], RoleName=identity
                )
            iam.delete_role(RoleName=identity)

    def same(self, key: str, before: Any, after: Any) -> bool:
        return _same_document(before, after) if key == "assumeRolePolicy" else super().same(key, before, after)

    @staticmethod
    def _outputs(found: Values, given: Values) -> dict[str, Any]:
        return {
            "arn": found["Arn"],
            "uniqueId": found["RoleId"],
            "createDate": str(found.get("CreateDate", "")),
            "tagsAll": dict(given.get("tags") or {}),
        }


class RolePolicyAttachment(Type):
    """A managed policy of a role. The provider's id is `ROLE-ARN` by an own scheme; both inputs replace it."""

    token = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
    inputs = {"role": text(required=True, replaces=True), "policyArn": text(required=True, replaces=True)}

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        self.api.client("iam").attach_role_policy(RoleName=given["role"], PolicyArn=given["policyArn"])
        return f"{given['role']}/{given['policyArn']}", {}

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        role, _, arn = identity.partition("/")
        with gone_on(_GONE):
            pages = self.api.client("iam").get_paginator("list_attached_role_policies").paginate(RoleName=role)
            attached = {each["PolicyArn"] for page in pages for each in page["AttachedPolicies"]}
        if arn not in attached:
            raise GoneError(identity)
        return {}, {"role": role, "policyArn": arn}

    def delete(self, identity: str, state: Values) -> None:
        role, _, arn = identity.partition("/")
        with gone_on(_GONE):
            self.api.client("iam").detach_role_policy(RoleName=role, PolicyArn=arn)


class RolePolicy(Type):
    token = "aws:iam/rolePolicy:RolePolicy"
    named = "name"
    inputs = {"name": text(replaces=True), "role": text(required=True, replaces=True), "policy": text(required=True)}

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        self.update("", {}, given)
        return f"{given['role']}:{given['name']}", {}

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        role, _, name = identity.partition(":")
        with gone_on(_GONE):
            found = self.api.client("iam").get_role_policy(RoleName=role, PolicyName=name)
        return {}, {"role": role, "name": name, "policy": _read_document(found["PolicyDocument"])}

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        self.api.client("iam").put_role_policy(
            RoleName=new["role"], PolicyName=new["name"], PolicyDocument=_document(new["policy"])
        )
        return {}

    def delete(self, identity: str, state: Values) -> None:
        role, _, name = identity.partition(":")
        with gone_on(_GONE):
            self.api.client("iam").delete_role_policy(RoleName=role, PolicyName=name)

    def same(self, key: str, before: Any, after: Any) -> bool:
        return _same_document(before, after) if key == "policy" else super().same(key, before, after)


class InstanceProfile(Tagged):
    token = "aws:iam/instanceProfile:InstanceProfile"
    named = "name"
    inputs = {"name": text(replaces=True), "role": text(), "path": text(replaces=True, default="/"), **TAGS}

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        iam = self.api.client("iam")
        made = iam.create_instance_profile(
            InstanceProfileName=given["name"], Path=given["path"], Tags=to_tags(given.get("tags"))
        )
        if given.get("role"):
            with keeping(given["name"], {**self._outputs(made["InstanceProfile"], given), "role": None}):
                iam.add_role_to_instance_profile(InstanceProfileName=given["name"], RoleName=given["role"])
        return given["name"], self._outputs(made["InstanceProfile"], given)

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        with gone_on(_GONE):
            found = self.api.client("iam").get_instance_profile(InstanceProfileName=identity)["InstanceProfile"]
        roles = [each["RoleName"] for each in found.get("Roles", ())]
        now = {
            "name": identity,
            "path": found["Path"],
            "role": roles[0] if roles else None,
            "tags": from_tags(found.get("Tags")) or None,
        }
        return self._outputs(found, now), now

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        iam = self.api.client("iam")
        if plain(old.get("role")) != plain(new.get("role")):
            if old.get("role"):
                iam.remove_role_from_instance_profile(InstanceProfileName=identity, RoleName=old["role"])
            if new.get("role"):
                iam.add_role_to_instance_profile(InstanceProfileName=identity, RoleName=new["role"])
        _retag(iam.tag_instance_profile, iam.untag_instance_profile, old, new, InstanceProfileName=identity)
        return self._outputs(iam.get_instance_profile(InstanceProfileName=identity)["InstanceProfile"], new)

    def delete(self, identity: str, state: Values) -> None:
        iam = self.api.client("iam")
        with gone_on(_GONE):
            for role in iam.get_instance_profile(InstanceProfileName=identity)["InstanceProfile"].get("Roles", ()):
                iam.remove_role_from_instance_profile(InstanceProfileName=identity, RoleName=role["RoleName"])
            iam.delete_instance_profile(InstanceProfileName=identity)

    @staticmethod
    def _outputs(found: Values, given: Values) -> dict[str, Any]:
        return {"arn": found["Arn"], "uniqueId": found["InstanceProfileId"], "tagsAll": dict(given.get("tags") or {})}


class User(Tagged):
    """A new name or path moves the user in place, as IAM and the provider do it."""

    token = "aws:iam/user:User"
    named = "name"
    inputs = {
        "name": text(),
        "path": text(default="/"),
        "permissionsBoundary": text(),
        "forceDestroy": flag(default=False),
        **TAGS,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        boundary = {"PermissionsBoundary": given["permissionsBoundary"]} if given.get("permissionsBoundary") else {}
        made = self.api.client("iam").create_user(
            UserName=given["name"], Path=given["path"], Tags=to_tags(given.get("tags")), **boundary
        )["User"]
        return made["UserName"], self._outputs(made, given.get("tags"))

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        found = self._get(state.get("name") or identity)
        tags = from_tags(found.get("Tags"))
        now = {
            "name": found["UserName"],
            "path": found["Path"],
            "permissionsBoundary": (found.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn"),
            "tags": tags or None,
        }
        return self._outputs(found, tags), now

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        iam, name = self.api.client("iam"), new["name"]
        with gone_on(_GONE):
            if (old["name"], old["path"]) != (name, new["path"]):
                iam.update_user(UserName=old["name"], NewUserName=name, NewPath=new["path"])
            if old.get("permissionsBoundary") != new.get("permissionsBoundary"):
                if new.get("permissionsBoundary"):
                    iam.put_user_permissions_boundary(UserName=name, PermissionsBoundary=new["permissionsBoundary"])
                else:
                    iam.delete_user_permissions_boundary(UserName=name)
            _retag(iam.tag_user, iam.untag_user, old, new, UserName=name)
        return self._outputs(self._get(name), new.get("tags"))

    def delete(self, identity: str, state: Values) -> None:
        iam, name = self.api.client("iam"), state.get("name") or identity
        with gone_on(_GONE):
            for group in iam.list_groups_for_user(UserName=name)["Groups"]:
                iam.remove_user_from_group(GroupName=group["GroupName"], UserName=name)
            if state.get("forceDestroy"):
                for key in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
                    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
            iam.delete_user(UserName=name)

    def faults(self, given: Values) -> list[tuple[str, str]]:
        found, name = super().faults(given), given.get("name")
        if isinstance(name, str) and not re.fullmatch(r"[0-9A-Za-z=,.@\-_+]+", name):
            found.append(("name", f"{name!r} must only contain letters, digits and any of =,.@-_+"))
        return found

    def _get(self, name: str) -> Values:
        with gone_on(_GONE):
            found: Values = self.api.client("iam").get_user(UserName=name)["User"]
        return found

    @staticmethod
    def _outputs(found: Values, tags: Values | None) -> dict[str, Any]:
        return {"arn": found["Arn"], "uniqueId": found["UserId"], "tagsAll": dict(tags or {})}


class UserPolicy(Type):
    token = "aws:iam/userPolicy:UserPolicy"
    named = "name"
    inputs = {"name": text(replaces=True), "user": text(required=True, replaces=True), "policy": text(required=True)}

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        self.update("", {}, given)
        return f"{given['user']}:{given['name']}", {}

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        user, _, name = identity.partition(":")
        with gone_on(_GONE):
            found = self.api.client("iam").get_user_policy(UserName=user, PolicyName=name)
        return {}, {"user": user, "name": name, "policy": _read_document(found["PolicyDocument"])}

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        self.api.client("iam").put_user_policy(
            UserName=new["user"], PolicyName=new["name"], PolicyDocument=_document(new["policy"])
        )
        return {}

    def delete(self, identity: str, state: Values) -> None:
        user, _, name = identity.partition(":")
        with gone_on(_GONE):
            self.api.client("iam").delete_user_policy(UserName=user, PolicyName=name)

    def same(self, key: str, before: Any, after: Any) -> bool:
        return _same_document(before, after) if key == "policy" else super().same(key, before, after)


class AccessKey(Type):
    """The secret is shown once, at creation: an imported key has none."""

    token = "aws:iam/accessKey:AccessKey"
    inputs = {
        "user": text(required=True, replaces=True),
        "status": text(default="Active", choices=("Active", "Inactive")),
    }
    _secrets = ("secret", "sesSmtpPasswordV4")

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        iam = self.api.client("iam")
        made = iam.create_access_key(UserName=given["user"])["AccessKey"]
        password = smtp_password(made["SecretAccessKey"], self.api.region)
        shown = {
            "secret": secret(made["SecretAccessKey"]),
            "sesSmtpPasswordV4": secret(password),
            "createDate": _date(made["CreateDate"]),
        }
        if given["status"] != made["Status"]:
            with keeping(made["AccessKeyId"], shown):
                iam.update_access_key(UserName=given["user"], AccessKeyId=made["AccessKeyId"], Status=given["status"])
        return made["AccessKeyId"], shown

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        iam = self.api.client("iam")
        with gone_on(_GONE):
            # An import has the key, but not its user.
            user = state.get("user") or iam.get_access_key_last_used(AccessKeyId=identity)["UserName"]
            keys = iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
        found = next((each for each in keys if each["AccessKeyId"] == identity), None)
        if found is None:
            raise GoneError(identity)
        secrets = {key: secret(state[key]) for key in self._secrets if state.get(key)}
        return {**secrets, "createDate": _date(found["CreateDate"])}, {"user": user, "status": found["Status"]}

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        with gone_on(_GONE):
            self.api.client("iam").update_access_key(UserName=new["user"], AccessKeyId=identity, Status=new["status"])
        return {key: secret(old[key]) for key in self._secrets if old.get(key)}

    def delete(self, identity: str, state: Values) -> None:
        with gone_on(_GONE):
            self.api.client("iam").delete_access_key(UserName=state["user"], AccessKeyId=identity)


def _date(value: Any) -> str:
    return str(value.strftime("%Y-%m-%dT%H:%M:%SZ"))


def smtp_password(key: str, region: str) -> str:
    """https://docs.aws.amazon.com/ses/latest/dg/smtp-credentials.html#smtp-credentials-convert"""
    signature = f"AWS4{key}".encode()
    for word in ("11111111", region, "ses", "aws4_request", "SendRawEmail"):
        signature = hmac.digest(signature, word.encode(), "sha256")
    return base64.b64encode(b"\x04" + signature).decode()


TYPES = (Role, RolePolicy, RolePolicyAttachment, InstanceProfile, User, UserPolicy, AccessKey)
