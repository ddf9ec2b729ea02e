"""Permission groups, and what the policies of a token let it do.

Names: https://developers.cloudflare.com/fundamentals/api/reference/permissions/ ; the ids are the same for everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from localcloud.cloudflare import errors
from localcloud.cloudflare.model import new_id

USER = "com.cloudflare.api.user"
ACCOUNT = "com.cloudflare.api.account"
ZONE = "com.cloudflare.api.account.zone"


@dataclass(frozen=True)
class Group:
    id: str
    name: str
    scope: str

    def body(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "description": "", "scopes": [self.scope]}


GROUPS = (
    Group("0cc3a61731504c89b99ec1be78b77aa0", "API Tokens Read", USER),
    Group("686d18d5ac6c441c867cbf6771e58a0a", "API Tokens Write", USER),
    Group("3518d0f75557482e952c6762d3e64903", "Memberships Read", USER),
    Group("9201bc6f42d440968aaab0c6f17ebb1d", "Memberships Write", USER),
    Group("8acbe5bb0d54464ab867149d7f7cf8ac", "User Details Read", USER),
    Group("55a5e17cc99e4a3fa1f3432d262f2e55", "User Details Write", USER),
    Group("eb56a6953c034b9d97dd838155666f06", "Account API Tokens Read", ACCOUNT),
    Group("5bc3f8b21c554832afc660159ab75fa4", "Account API Tokens Write", ACCOUNT),
    Group("c1fde68c7bcc44588cbb6ddbc16d6480", "Account Settings Read", ACCOUNT),
    Group("1af1fa2adc104452b74a9a3364202f20", "Account Settings Write", ACCOUNT),
    Group("82e64a83756745bbbb1c9c2701bf816b", "DNS Read", ZONE),
    Group("4755a26eedb94da69e1066d98aa820be", "DNS Write", ZONE),
    Group("7b7216b327b04b8fbc8f524e1f9b7531", "SSL and Certificates Read", ZONE),
    Group("c03055bc037c4ea9afb9a9f104b7b721", "SSL and Certificates Write", ZONE),
    Group("c8fed203ed3043cba015a93ad1616f1f", "Zone Read", ZONE),
    Group("517b21aee92c4d89936c976ba6e4be55", "Zone Settings Read", ZONE),
    Group("3030687196b94b638145a3953da2b699", "Zone Settings Write", ZONE),
    Group("e6d2666161e84845a636613608cee8d5", "Zone Write", ZONE),
)
_BY_ID = {group.id: group for group in GROUPS}


@dataclass(frozen=True)
class Policy:
    """`resources` are flat: full resource names, `*` at the end for all of a kind; a nested pair is `outer/inner`."""

    id: str
    allow: bool
    groups: tuple[Group, ...]
    resources: tuple[str, ...]
    shown: Mapping[str, Any]

    def body(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "effect": "allow" if self.allow else "deny",
            "resources": dict(self.shown),
            "permission_groups": [{"id": group.id, "name": group.name} for group in self.groups],
        }

    def covers(self, resource: str, account: str) -> bool:
        return any(_covers(each, resource, account) for each in self.resources)


@dataclass(frozen=True)
class Grants:
    """What the policies of one token add up to. `everything` is the operator's."""

    policies: tuple[Policy, ...] = ()
    everything: bool = False

    def allow(self, names: Iterable[str], resource: str, account: str) -> bool:
        """Whether one of the permission groups with these names is granted, and not denied, on the resource."""
        if self.everything:
            return True
        wanted = set(names)

        def hit(policy: Policy) -> set[str]:
            return {group.name for group in policy.groups if group.name in wanted}

        on_it = [policy for policy in self.policies if policy.covers(resource, account)]
        allowed = {name for policy in on_it if policy.allow for name in hit(policy)}
        denied = {name for policy in on_it if not policy.allow for name in hit(policy)}
        return bool(allowed - denied)


def groups(name: str | None, scope: str | None) -> list[dict[str, Any]]:
    """The permission groups with this name and scope, as the API shows them."""
    return [
        group.body()
        for group in GROUPS
        if (name is None or group.name == name) and (scope is None or group.scope == scope)
    ]


def parsed(given: object, owned_by_account: bool) -> tuple[Policy, ...]:
    """Policies from a request's body. Raises ApiError where one is not well-formed or its parts do not fit."""
    if not isinstance(given, list) or not given:
        raise errors.bad_token("Must have at least one policy")
    return tuple(_policy(each, owned_by_account) for each in given)


def _policy(given: object, owned_by_account: bool) -> Policy:
    if not isinstance(given, Mapping):
        raise errors.bad_token("A policy must be an object")
    if given.get("effect") not in ("allow", "deny"):
        raise errors.bad_token("Effect must be allow or deny")
    wanted = given.get("permission_groups")
    if not isinstance(wanted, list) or not wanted:
        raise errors.bad_token("Must have at least one permission group")
    found = tuple(_group(each) for each in wanted)
    resources = given.get("resources")
    if not isinstance(resources, Mapping) or not resources:
        raise errors.bad_token("Must have at least one resource")
    flat = tuple(_flat(resources))
    for group in found:
        if owned_by_account and group.scope == USER:
            raise errors.bad_token(f'Permission group "{group.name}" is not for tokens of an account')
        if not any(_kind(each) == group.scope for each in flat):
            raise errors.bad_token(f'Permission group "{group.name}" does not apply to the resources of its policy')
    return Policy(new_id(), given["effect"] == "allow", found, flat, dict(resources))


def _group(given: object) -> Group:
    if not isinstance(given, Mapping) or not given.get("id"):
        raise errors.bad_token("These rules must pass for permission_groups: id must be present")
    group = _BY_ID.get(str(given["id"]))
    if group is None:
        raise errors.bad_token(f"Permission group {given['id']} does not exist")
    return group


def _flat(resources: Mapping[Any, Any]) -> Iterable[str]:
    for outer, value in resources.items():
        if not isinstance(outer, str) or not _kind(outer):
            raise errors.bad_token(f"Resource {outer} is not valid")
        if value == "*":
            yield outer
            continue
        if not isinstance(value, Mapping) or _kind(outer) != ACCOUNT or not value:
            raise errors.bad_token(f"Resource {outer} must have the value *")
        for inner, star in value.items():
            if star != "*" or not isinstance(inner, str) or _kind(inner) != ZONE:
                raise errors.bad_token(f"Resource {inner} is not valid in {outer}")
            yield f"{outer}/{inner}"


def _kind(resource: str) -> str:
    """The scope that a resource's name belongs to, or an empty text."""
    scope, _, name = resource.rpartition("/")[2].rpartition(".")
    hexadecimal = len(name) == 32 and set(name) <= set("0123456789abcdef")
    return scope if scope in (USER, ACCOUNT, ZONE) and (name == "*" or hexadecimal) else ""


def _covers(granted: str, resource: str, account: str) -> bool:
    outer, _, inner = granted.rpartition("/")
    if outer and outer not in (f"{ACCOUNT}.*", f"{ACCOUNT}.{account}"):
        return False
    return inner in (resource, f"{resource.rpartition('.')[0]}.*")
