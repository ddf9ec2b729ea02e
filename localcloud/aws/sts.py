"""STS: the identity of the caller, and roles that callers assume, also in another account and with an OpenID Connect token.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html and API_AssumeRoleWithWebIdentity.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import unquote
from xml.sax.saxutils import escape

from localcloud.aws.identity import Credentials, Granted, Principal, Sessions
from localcloud.aws.moto_backends import Moto
from localcloud.aws.openid import Claims, Issuers
from localcloud.aws.operations import not_emulated
from localcloud.aws.policy import Decision, Policy, Request, Value, evaluate
from localcloud.aws.wire import AwsError, Call, Reply, request_id, xml

_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_SHORTEST, _LONGEST, _CHAINED = 900, 43200, 3600
_MOST_POLICIES, _MOST_TAGS, _LONGEST_POLICY = 10, 50, 2048


class Account(Protocol):
    """An account as the STS of another one sees it."""

    @property
    def sts(self) -> StsApi: ...


class StsApi:
    """`accounts` finds an account by its number, for roles there."""

    def __init__(
        self, moto: Moto, sessions: Sessions, issuers: Issuers, accounts: Callable[[str], Account | None]
    ) -> None:
        self._moto = moto
        self._sessions = sessions
        self._issuers = issuers
        self._accounts = accounts

    def answer(self, call: Call, principal: Principal) -> Reply:
        """Raises AwsError."""
        if call.action == "GetCallerIdentity":
            return _result(
                call.action,
                f"<Arn>{escape(principal.arn)}</Arn><UserId>{escape(principal.user_id)}</UserId>"
                f"<Account>{self._moto.account}</Account>",
            )
        if call.action == "AssumeRole":
            return self._assume(call, principal)
        raise not_emulated(call, "it has AssumeRole, AssumeRoleWithWebIdentity and GetCallerIdentity")

    def with_web_identity(self, call: Call) -> Reply:
        """Answer AssumeRoleWithWebIdentity, which is not signed. Raises AwsError."""
        there = self._of(call.get("RoleArn") or "")
        _check_names(call)
        claims = (there or self)._issuers.verified(call.get("WebIdentityToken") or "")
        role = there.role(call) if there else None
        if there is None or role is None or not there.trusts_claims(role, claims):
            raise AwsError("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", 403)
        made = there.issue(call, role, Granted(policies=there.limits(call)), chained=False)
        beside = (
            f"<SubjectFromWebIdentityToken>{escape(claims.subject)}</SubjectFromWebIdentityToken>"
            f"<Audience>{escape(claims.audience)}</Audience><Provider>{escape(claims.issuer)}</Provider>"
        )
        return _result(call.action, beside + _credentials(made))

    def _assume(self, call: Call, principal: Principal) -> Reply:
        _check_names(call)
        granted = _granted(call, principal)
        there = self._of(call.get("RoleArn") or "")
        role = there.role(call) if there else None
        if there is None or role is None or not there.trusts(role, principal, call, granted):
            arn = call.get("RoleArn") or ""
            message = f"User: {principal.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}"
            raise AwsError("AccessDenied", message, 403)
        limited = Granted(**{**vars(granted), "policies": there.limits(call)})
        made = there.issue(call, role, limited, chained=principal.kind == "role")
        return _result(call.action, _credentials(made))

    def _of(self, arn: str) -> StsApi | None:
        """Return the STS of the account of a role."""
        account = [*arn.split(":"), "", "", "", "", ""][4]
        if account == self._moto.account:
            return self
        found = self._accounts(account)
        return found.sts if found is not None else None

    # Of the account that the role is in

    def role(self, call: Call) -> Any:
        arn = call.get("RoleArn")
        return next((each for each in list(self._moto.iam.roles.values()) if each.arn == arn), None)

    def issue(self, call: Call, role: Any, granted: Granted, *, chained: bool) -> Credentials:
        """Raises AwsError where the session would be too long."""
        seconds = int(call.get("DurationSeconds") or 3600)
        if chained and seconds > _CHAINED:
            message = (
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
            )
            raise AwsError("ValidationError", message)
        if seconds > int(role.max_session_duration or 3600):
            message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            raise AwsError("ValidationError", message)
        return self._sessions.assume(role, call.get("RoleSessionName") or "", seconds, granted)

    def limits(self, call: Call) -> tuple[Policy, ...]:
        """Return the session policies. Raises AwsError for an invalid policy."""
        found: list[Policy] = []
        text = call.get("Policy")
        if text:
            if len(text) > _LONGEST_POLICY:
                raise AwsError("PackedPolicyTooLarge", "Packed policy consumes more than 100% of allotted space.")
            found.append(_policy(text))
        arns = [each.get("arn", "") for each in call.groups("PolicyArns.member").values()]
        if len(arns) > _MOST_POLICIES:
            raise AwsError("ValidationError", f"Member must have length less than or equal to {_MOST_POLICIES}")
        for arn in arns:
            managed = self._moto.iam.managed_policies.get(arn)
            if managed is None:
                raise AwsError("ValidationError", f"The specified policy {arn} does not exist.")
            version = next(each for each in managed.versions if each.version_id == managed.default_version_id)
            found.append(_policy(str(version.document)))
        return tuple(found)

    def trusts(self, role: Any, principal: Principal, call: Call, granted: Granted) -> bool:
        """Return whether the trust policy allows this principal all that it asks for."""
        named = {"*", principal.account, f"arn:aws:iam::{principal.account}:root", principal.arn}
        if principal.kind == "role":
            named.add(f"arn:aws:iam::{principal.account}:role/{principal.name}")
        actions = ["AssumeRole"]
        actions += ["TagSession"] if granted.tags else []
        actions += ["SetSourceIdentity"] if granted.source_identity else []
        context: dict[str, Value] = {
            "aws:PrincipalArn": principal.arn,
            "aws:PrincipalAccount": principal.account,
            "sts:RoleSessionName": call.get("RoleSessionName") or "",
            **{f"aws:RequestTag/{key}": value for key, value in granted.tags.items()},
        }
        if call.get("ExternalId"):
            context["sts:ExternalId"] = call.get("ExternalId") or ""
        if granted.source_identity:
            context["sts:SourceIdentity"] = granted.source_identity
        mine = _statements(role, "AWS", named)
        return all(_allows(mine, f"sts:{action}", context) for action in actions)

    def trusts_claims(self, role: Any, claims: Claims) -> bool:
        provider = f"arn:aws:iam::{self._moto.account}:oidc-provider/{claims.host}"
        known = list(self._moto.iam.open_id_providers.values())
        if not any(each.arn == provider and claims.audience in each.client_id_list for each in known):
            message = f"No OpenIDConnect provider found in your account for {claims.issuer}"
            raise AwsError("InvalidIdentityToken", message)
        context: dict[str, Value] = {f"{claims.host}:aud": claims.audience, f"{claims.host}:sub": claims.subject}
        return _allows(_statements(role, "Federated", {provider}), "sts:AssumeRoleWithWebIdentity", context)


def _check_names(call: Call) -> None:
    """Raises AwsError for what the API's patterns do not take."""
    seconds = call.get("DurationSeconds") or "3600"
    wrong = [
        (not (call.get("RoleArn") or "").startswith("arn:"), f"{call.get('RoleArn')} is invalid"),
        (not _NAME.fullmatch(call.get("RoleSessionName") or ""), "roleSessionName must satisfy [\\w+=,.@-]{2,64}"),
        (not _EXTERNAL_ID.fullmatch(call.get("ExternalId") or "xx"), "externalId must satisfy [\\w+=,.@:\\/-]{2,1224}"),
        (not _NAME.fullmatch(call.get("SourceIdentity") or "xx"), "sourceIdentity must satisfy [\\w+=,.@-]{2,64}"),
        (
            not seconds.isdecimal() or not _SHORTEST <= int(seconds) <= _LONGEST,
            f"durationSeconds must be from {_SHORTEST} to {_LONGEST}",
        ),
    ]
    for is_wrong, message in wrong:
        if is_wrong:
            raise AwsError("ValidationError", f"1 validation error detected: {message}")


def _granted(call: Call, principal: Principal) -> Granted:
    """Return the tags and the source identity of a new session. It inherits transitive tags and the source identity."""
    tags = {each.get("Key", ""): each.get("Value", "") for each in call.groups("Tags.member").values()}
    before = principal.granted
    inherited = {key: before.tags[key] for key in before.transitive}
    if len(tags) > _MOST_TAGS:
        raise AwsError("ValidationError", f"Member must have length less than or equal to {_MOST_TAGS}")
    if set(tags) & set(inherited):
        raise AwsError(
            "InvalidParameterValue", "One of the specified transitive tag keys can't be set because it conflicts."
        )
    transitive = set(call.members("TransitiveTagKeys.member"))
    if not transitive <= set(tags):
        message = "The specified transitive tag key must be included in the requested tags."
        raise AwsError("ValidationError", message)
    source = call.get("SourceIdentity") or before.source_identity
    if before.source_identity and source != before.source_identity:
        raise AwsError("AccessDenied", f"User: {principal.arn} cannot change its source identity", 403)
    return Granted(tags={**inherited, **tags}, transitive=before.transitive | transitive, source_identity=source)


def _statements(role: Any, kind: str, named: set[str]) -> list[Mapping[str, Any]]:
    """Those of a trust policy that name one of these principals, for the role itself."""
    document = role.assume_role_policy_document
    loaded = json.loads(document if document.lstrip().startswith("{") else unquote(document))
    statements = loaded.get("Statement", [])
    statements = statements if isinstance(statements, list) else [statements]
    return [
        {**statement, "Resource": "*"}
        for statement in statements
        if named & set(_principals(statement.get("Principal", {}), kind))
    ]


def _allows(statements: list[Mapping[str, Any]], action: str, context: Mapping[str, Value]) -> bool:
    request = Request(action=action, resource="*", context=context)
    return evaluate([{"Statement": statements}], request) is Decision.ALLOWED


def _principals(value: Any, kind: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    named = value.get(kind, [])
    return [named] if isinstance(named, str) else list(named)


def _policy(text: str) -> Policy:
    try:
        loaded = json.loads(text if text.lstrip().startswith("{") else unquote(text))
    except ValueError as wrong:
        raise AwsError("MalformedPolicyDocument", "This policy contains invalid Json") from wrong
    if not isinstance(loaded, dict):
        raise AwsError("MalformedPolicyDocument", "This policy contains invalid Json")
    return loaded


def _credentials(made: Credentials) -> str:
    until = datetime.fromtimestamp(made.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    source = made.principal.granted.source_identity
    return (
        f"<AssumedRoleUser><AssumedRoleId>{escape(made.principal.user_id)}</AssumedRoleId>"
        f"<Arn>{escape(made.principal.arn)}</Arn></AssumedRoleUser><Credentials><AccessKeyId>{made.key_id}</AccessKeyId>"
        f"<SecretAccessKey>{made.secret}</SecretAccessKey><SessionToken>{made.token}</SessionToken>"
        f"<Expiration>{until}</Expiration></Credentials>"
        + (f"<SourceIdentity>{escape(source)}</SourceIdentity>" if source else "")
    )


def _result(action: str, content: str) -> Reply:
    return Reply(
        body=xml(
            f'<{action}Response xmlns="{_NAMESPACE}"><{action}Result>{content}</{action}Result>'
            f"<ResponseMetadata><RequestId>{request_id()}</RequestId></ResponseMetadata></{action}Response>"
        )
    )
