"""Simulate policies: what a user, a group or a role of the account may do, without doing it.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html and API_EvaluationResult.html: one result for each
action, with the most restrictive decision, and in it one result for each resource. moto does not have this call.

As in the real service, the policies of resources are not read, and neither are those of a session. A condition key has a value only if
the request gives one; a policy that needs another key is reported with it (`MissingContextValues`). The account is in no organization,
so no result has `OrganizationsDecisionDetail`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from localcloud.aws.authorization import boundary_of, documents_of
from localcloud.aws.policy import Decision, Policy, Request, Value, evaluate
from localcloud.aws.wire import AwsError, Call, Reply, request_id, xml

ACTION = "SimulatePrincipalPolicy"
_NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"
_SOURCE = re.compile(r"arn:aws:iam::(?P<account>\d{12}):(?P<kind>user|group|role)/(?:[^:]*/)?(?P<name>[\w+=,.@-]+)")
_OPERATION = re.compile(r"[a-z0-9-]+:[A-Za-z0-9]+")
# Lengths of ActionNameType, and the values of ContextKeyTypeEnum.
_SHORTEST, _LONGEST = 3, 128
_TYPES = ("string", "numeric", "boolean", "ip", "binary", "date")
_KEY_TYPES = frozenset({*_TYPES, *(f"{each}List" for each in _TYPES)})
_ITEMS, _MOST_ITEMS = 100, 1000
_NAMES = {Decision.ALLOWED: "allowed", Decision.DENIED: "explicitDeny", Decision.NOT_ALLOWED: "implicitDeny"}
# From the most restrictive on.
_ORDER = (Decision.DENIED, Decision.NOT_ALLOWED, Decision.ALLOWED)
_EVERYTHING: Policy = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


class Simulator:
    """`iam` returns moto's backend. `operator` is the ARN of the principal that may do everything and that moto does not know."""

    def __init__(self, account: str, iam: Callable[[], Any], operator: str) -> None:
        self._account, self._iam, self._operator = account, iam, operator

    def answer(self, call: Call) -> Reply:
        """Raises AwsError."""
        actions = call.members("ActionNames.member")
        for each in actions:
            if not _SHORTEST <= len(each) <= _LONGEST or not _OPERATION.fullmatch(each):
                raise AwsError("InvalidInput", f"Invalid action name: {each}")
        policies, boundary = self._policies(call.get("PolicySourceArn") or "")
        context = _context(call)
        resources = call.members("ResourceArns.member") or ["*"]
        results = [_result(each, resources, policies, boundary, context) for each in actions]
        return _page(results, call)

    def _policies(self, source: str) -> tuple[list[Policy], Policy | None]:
        if source == self._operator:
            return [_EVERYTHING], None
        named = _SOURCE.fullmatch(source)
        if named is None:
            # Not of an assumed role, a federated user or the root user.
            raise AwsError(
                "InvalidInput", f"Invalid Entity Arn: {source} does not clearly define entity type and name."
            )
        iam, kind, name = self._iam(), named["kind"], named["name"]
        known = {"user": iam.users, "group": iam.groups, "role": {each.name: each for each in iam.roles.values()}}[kind]
        holder = known.get(name)
        if holder is None or named["account"] != self._account or getattr(holder, "arn", source) != source:
            raise AwsError("NoSuchEntity", f"The {kind} with name {name} cannot be found.", 404)
        groups = [each for each in iam.groups.values() if holder in each.users] if kind == "user" else []
        return [policy for each in (holder, *groups) for policy in documents_of(each)], boundary_of(iam, holder)


def _context(call: Call) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for number, given in call.groups("ContextEntries.member").items():
        key, kind = given.get("ContextKeyName", ""), given.get("ContextKeyType", "")
        if not key or kind not in _KEY_TYPES:
            raise AwsError("InvalidInput", f"Invalid context entry {number}: {key} of type {kind}")
        values = tuple(call.members(f"ContextEntries.member.{number}.ContextKeyValues.member"))
        found[key] = values if kind.endswith("List") else (values[0] if values else "")
    return found


def _result(
    action: str,
    resources: Sequence[str],
    policies: Sequence[Policy],
    boundary: Policy | None,
    context: Mapping[str, Value],
) -> str:
    """Return the `member` of one action."""
    known = {key.lower() for key in context}
    every = [*policies, *([boundary] if boundary else [])]
    missing = sorted({key for each in every for key in _keys(each) if key.lower() not in known})
    decisions, bounded, members = [], [], []
    for resource in resources:
        request = Request(action=action, resource=resource, context=context)
        decision, within = evaluate(policies, request), Decision.ALLOWED
        if boundary is not None:
            within = evaluate([boundary], request)
            decision = min(decision, within, key=_ORDER.index)
        decisions.append(decision)
        bounded.append(within)
        members.append(
            f"<member><EvalResourceName>{escape(resource)}</EvalResourceName>"
            f"<EvalResourceDecision>{_NAMES[decision]}</EvalResourceDecision><MatchedStatements/>"
            f"{_missing(missing)}{_boundary(boundary, [within])}</member>"
        )
    specific = resources != ["*"]
    return (
        f"<member><EvalActionName>{escape(action)}</EvalActionName><EvalResourceName>*</EvalResourceName>"
        f"<EvalDecision>{_NAMES[min(decisions, key=_ORDER.index)]}</EvalDecision><MatchedStatements/>"
        f"{_missing(missing)}{_boundary(boundary, bounded)}"
        f"<ResourceSpecificResults>{''.join(members) if specific else ''}</ResourceSpecificResults></member>"
    )


def _keys(policy: Policy) -> Iterable[str]:
    """Return the condition keys of a policy."""
    listed = policy.get("Statement", [])
    for statement in listed if isinstance(listed, list) else [listed]:
        for keys in statement.get("Condition", {}).values():
            yield from keys


def _missing(keys: Sequence[str]) -> str:
    return (
        f"<MissingContextValues>{''.join(f'<member>{escape(each)}</member>' for each in keys)}</MissingContextValues>"
    )


def _boundary(boundary: Policy | None, decisions: Sequence[Decision]) -> str:
    if boundary is None:
        return ""
    allowed = "true" if all(each is Decision.ALLOWED for each in decisions) else "false"
    return (
        f"<PermissionsBoundaryDecisionDetail><AllowedByPermissionsBoundary>{allowed}</AllowedByPermissionsBoundary>"
        "</PermissionsBoundaryDecisionDetail>"
    )


def _page(results: Sequence[str], call: Call) -> Reply:
    """Return a page of results. The marker is the number of the first result of the next page."""
    size, marker = call.get("MaxItems") or str(_ITEMS), call.get("Marker") or "0"
    if not size.isdecimal() or not 1 <= int(size) <= _MOST_ITEMS or not marker.isdecimal():
        raise AwsError("ValidationError", f"MaxItems or Marker is invalid: {size}, {marker}")
    start, end = int(marker), int(marker) + int(size)
    more = (
        f"<IsTruncated>true</IsTruncated><Marker>{end}</Marker>"
        if end < len(results)
        else "<IsTruncated>false</IsTruncated>"
    )
    return Reply(
        body=xml(
            f'<{ACTION}Response xmlns="{_NAMESPACE}"><{ACTION}Result>{more}<EvaluationResults>{"".join(results[start:end])}'
            f"</EvaluationResults></{ACTION}Result><ResponseMetadata><RequestId>{request_id()}</RequestId></ResponseMetadata></{ACTION}Response>"
        )
    )
