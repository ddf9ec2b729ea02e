"""Decide whether a principal may do what it asks, by its policies in IAM and the actions and resources of a request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from localcloud.aws.identity import Principal
from localcloud.aws.policy import Decision, Policy, Request, Value, evaluate
from localcloud.aws.wire import AwsError, Call


@dataclass(frozen=True, kw_only=True)
class Need:
    """One action on one resource that a request needs, with the condition keys that its service adds."""

    action: str
    resource: str = "*"
    context: tuple[tuple[str, Value], ...] = ()


class Authorization:
    """The authorization of one account. `iam` returns moto's IAM backend, `region_of` the region of an instance."""

    def __init__(
        self, *, account: str, region_of: Callable[[str], str], iam: Callable[[], Any], clock: Callable[[], float]
    ) -> None:
        self._account = account
        self._region_of = region_of
        self._iam = iam
        self._clock = clock

    def check(self, principal: Principal, call: Call, needs: list[Need]) -> None:
        """Raise AwsError, with the text and the code of the call's service, for the first need that is not allowed."""
        if principal.kind == "operator":
            return
        policies, boundary = self._policies(principal)
        shared = self.context(principal, call)
        for need in needs:
            request = Request(action=need.action, resource=need.resource, context={**shared, **dict(need.context)})
            decision = evaluate(policies, request)
            if decision is Decision.ALLOWED and boundary is not None:
                bounded = evaluate([boundary], request)
                if bounded is not Decision.ALLOWED:
                    raise _denied(call, principal, need, bounded, "permissions boundary")
            if decision is not Decision.ALLOWED:
                raise _denied(call, principal, need, decision, "identity-based policy")
            if principal.granted.policies:
                # A session may do what both its role and its session policies allow.
                within = evaluate(principal.granted.policies, request)
                if within is not Decision.ALLOWED:
                    raise _denied(call, principal, need, within, "session policy")

    def check_resource(self, principal: Principal, call: Call, needs: list[Need], policy: Policy | None) -> None:
        """Raise AwsError as `check` does, for a resource that may have a policy.

        What the policy denies is denied to every principal. What it allows is allowed within the account.

        https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic_policy-eval-basics-id-rdp.html
        """
        left = []
        for need in needs:
            request = Request(
                action=need.action,
                resource=need.resource,
                context={**self.context(principal, call), **dict(need.context)},
            )
            decision = evaluate([_for(principal, policy)], request) if policy else Decision.NOT_ALLOWED
            if decision is Decision.DENIED:
                raise _denied(call, principal, need, decision, "resource-based policy")
            left += [need] if decision is Decision.NOT_ALLOWED else []
        self.check(principal, call, left)

    def _policies(self, principal: Principal) -> tuple[list[Policy], Policy | None]:
        iam = self._iam()
        if principal.kind == "role":
            holder = next((role for role in list(iam.roles.values()) if role.name == principal.name), None)
            groups: list[Any] = []
        else:
            holder = iam.users.get(principal.name)
            groups = [group for group in list(iam.groups.values()) if holder in group.users]
        if holder is None:
            return [], None
        return [policy for each in (holder, *groups) for policy in documents_of(each)], boundary_of(iam, holder)

    def context(self, principal: Principal, call: Call) -> dict[str, Value]:
        """Return the condition keys that every request has."""
        now = self._clock()
        found: dict[str, Value] = {
            "aws:CurrentTime": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "aws:EpochTime": str(int(now)),
            "aws:PrincipalAccount": self._account,
            "aws:PrincipalArn": principal.arn,
            "aws:PrincipalType": "User" if principal.kind == "user" else "AssumedRole",
            "aws:RequestedRegion": "us-east-1" if call.service in ("iam", "route53") else call.region,
            "aws:SecureTransport": "true",
            "aws:SourceIp": call.source,
            "aws:UserAgent": call.headers.get("user-agent", ""),
            "aws:userid": principal.user_id,
        }
        if principal.kind == "role":
            # Policies compare with the ARN of the role, not of the session.
            found["aws:PrincipalArn"] = f"arn:aws:iam::{self._account}:role/{principal.name}"
        else:
            found["aws:username"] = principal.name
        found.update({f"aws:PrincipalTag/{key}": value for key, value in principal.granted.tags.items()})
        if principal.granted.source_identity:
            found["aws:SourceIdentity"] = principal.granted.source_identity
        if principal.instance:
            region = self._region_of(principal.instance)
            arn = f"arn:aws:ec2:{region}:{self._account}:instance/{principal.instance}"
            found["ec2:SourceInstanceARN"] = found["aws:Ec2InstanceSourceArn"] = arn
        return found


def _for(principal: Principal, policy: Policy) -> Policy:
    """Return the statements of a resource's policy that concern this principal."""
    listed = policy.get("Statement", [])
    statements = listed if isinstance(listed, list) else [listed]
    return {**policy, "Statement": [each for each in statements if _is_about(principal, each.get("Principal"))]}


def _is_about(principal: Principal, named: Any) -> bool:
    whom = named.get("AWS", []) if isinstance(named, dict) else named
    role = f"arn:aws:iam::{principal.account}:role/{principal.name}"
    known = {"*", principal.arn, principal.account, f"arn:aws:iam::{principal.account}:root"}
    known |= {role} if principal.kind == "role" else set()
    return any(each in known for each in (whom if isinstance(whom, list) else [whom]))


def boundary_of(iam: Any, holder: Any) -> Policy | None:
    """Return the permissions boundary of a user or a role from moto."""
    boundary = iam.managed_policies.get(getattr(holder, "permissions_boundary_arn", None))
    return _read(_current(boundary)) if boundary is not None else None


def documents_of(holder: Any) -> Iterator[Policy]:
    """Yield inline and attached policies of a user, a group or a role from moto."""
    for text in list(holder.policies.values()):
        yield _read(text)
    for managed in list(holder.managed_policies.values()):
        yield _read(_current(managed))


def _current(managed: Any) -> str:
    version = next(each for each in managed.versions if each.version_id == managed.default_version_id)
    return str(version.document)


def _read(text: str) -> Policy:
    loaded = json.loads(text if text.lstrip().startswith("{") else unquote(text))
    return loaded if isinstance(loaded, dict) else {}


def _denied(call: Call, principal: Principal, need: Need, decision: Decision, where: str) -> AwsError:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html"""
    if decision is Decision.DENIED:
        article = "an" if where[0] == "i" else "a"
        why = f"with an explicit deny in {article} {where}"
    else:
        why = f"because no {where} allows the {need.action} action"
    message = f"User: {principal.arn} is not authorized to perform: {need.action} on resource: {need.resource} {why}"
    if call.service == "ec2":
        return AwsError("UnauthorizedOperation", f"You are not authorized to perform this operation. {message}", 403)
    if call.service == "ssm":
        return AwsError("AccessDeniedException", message, 400)
    return AwsError("AccessDenied", message, 403)
