"""aws:iam: Role, RolePolicy, InstanceProfile, User, UserPolicy, AccessKey."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from localcloud.plugins.aws.common import TAGS, from_tags, gone_on, to_tags
from localcloud.plugins.resource import GoneError, PluginError, Type, Values, flag, number, plain, text
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


class Role(Type):
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
        gone = set(old.get("tags") or {}) - set(new.get("tags") or {})
        if gone:
            iam.untag_role(RoleName=identity, TagKeys=sorted(gone))
        if new.get("tags"):
            iam.tag_role(RoleName=identity, Tags=to_tags(new["tags"]))
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


class InstanceProfile(Type):
    token = "aws:iam/instanceProfile:InstanceProfile"
    named = "name"
    inputs = {"name": text(replaces=True), "role": text(), "path": text(replaces=True, default="/"), **TAGS}

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        iam = self.api.client("iam")
        made = iam.create_instance_profile(
            InstanceProfileName=given["name"], Path=given["path"], Tags=to_tags(given.get("tags"))
        )
        if given.get("role"):
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
        return {}

    def delete(self, identity: str, state: Values) -> None:
        iam = self.api.client("iam")
        with gone_on(_GONE):
            for role in iam.get_instance_profile(InstanceProfileName=identity)["InstanceProfile"].get("Roles", ()):
                iam.remove_role_from_instance_profile(InstanceProfileName=identity, RoleName=role["RoleName"])
            iam.delete_instance_profile(InstanceProfileName=identity)

    @staticmethod
    def _outputs(found: Values, given: Values) -> dict[str, Any]:
        return {"arn": found["Arn"], "uniqueId": found["InstanceProfileId"], "tagsAll": dict(given.get("tags") or {})}


class User(Type):
    token = "aws:iam/user:User"
    named = "name"
    inputs = {
        "name": text(),
        "path": text(default="/"),
        "forceDestroy": flag(default=False),
        "permissionsBoundary": text(),
        **TAGS,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        optional = {"PermissionsBoundary": given.get("permissionsBoundary"), "Tags": to_tags(given.get("tags"))}
        made = self.api.client("iam").create_user(
            UserName=given["name"], Path=given["path"], **{key: value for key, value in optional.items() if value}
        )["User"]
        return made["UserName"], self._outputs(made, given)

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        iam = self.api.client("iam")
        with gone_on(_GONE):
            found = iam.get_user(UserName=identity)["User"]
            tags = from_tags(iam.list_user_tags(UserName=identity)["Tags"])
        now = {"name": found["UserName"], "path": found["Path"], "tags": tags or None}
        return self._outputs(found, now), now

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        iam = self.api.client("iam")
        if (old["name"], old["path"]) != (new["name"], new["path"]):
            iam.update_user(UserName=old["name"], NewUserName=new["name"], NewPath=new["path"])
        gone = set(old.get("tags") or {}) - set(new.get("tags") or {})
        if gone:
            iam.untag_user(UserName=new["name"], TagKeys=sorted(gone))
        if new.get("tags"):
            iam.tag_user(UserName=new["name"], Tags=to_tags(new["tags"]))
        return self._outputs(iam.get_user(UserName=new["name"])["User"], new)

    def delete(self, identity: str, state: Values) -> None:
        iam = self.api.client("iam")
        with gone_on(_GONE):
            if state.get("forceDestroy"):
                for key in iam.list_access_keys(UserName=identity)["AccessKeyMetadata"]:
                    iam.delete_access_key(UserName=identity, AccessKeyId=key["AccessKeyId"])
            iam.delete_user(UserName=identity)

    @staticmethod
    def _outputs(found: Values, given: Values) -> dict[str, Any]:
        return {"arn": found["Arn"], "uniqueId": found["UserId"], "tagsAll": dict(given.get("tags") or {})}


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
    """Its secret is told once, at creation: it lives in the state, encrypted, and cannot be read again."""

    token = "aws:iam/accessKey:AccessKey"
    inputs = {
        "user": text(required=True, replaces=True),
        "pgpKey": text(replaces=True),
        "status": text(default="Active", choices=("Active", "Inactive")),
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        if given.get("pgpKey"):
            raise PluginError("aws: the stand-in encrypts with no PGP key; PLUGINS=real takes the vendor's plugin")
        iam = self.api.client("iam")
        made = iam.create_access_key(UserName=given["user"])["AccessKey"]
        if given["status"] != "Active":
            self.update(made["AccessKeyId"], {}, given)
        outputs = {"secret": secret(made["SecretAccessKey"]), "createDate": str(made.get("CreateDate", ""))}
        return made["AccessKeyId"], outputs

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        if not state.get("user"):
            raise PluginError("aws: an AccessKey cannot be imported: its secret is told at creation only")
        with gone_on(_GONE):
            keys = self.api.client("iam").list_access_keys(UserName=state["user"])["AccessKeyMetadata"]
        found = next((each for each in keys if each["AccessKeyId"] == identity), None)
        if found is None:
            raise GoneError(identity)
        kept = {"secret": secret(state["secret"])} if state.get("secret") else {}
        return {**kept, "createDate": state.get("createDate")}, {"user": state["user"], "status": found["Status"]}

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        self.api.client("iam").update_access_key(UserName=new["user"], AccessKeyId=identity, Status=new["status"])
        return {"secret": secret(old["secret"])} if old.get("secret") else {}

    def delete(self, identity: str, state: Values) -> None:
        with gone_on(_GONE):
            self.api.client("iam").delete_access_key(UserName=state["user"], AccessKeyId=identity)


TYPES = (Role, RolePolicy, InstanceProfile, User, UserPolicy, AccessKey)
