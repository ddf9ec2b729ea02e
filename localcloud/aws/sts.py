"""STS: who am I, and roles that somebody assumes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

from localcloud.aws.identity import Principal, Sessions
from localcloud.aws.moto_backends import Moto
from localcloud.aws.policy import Decision, Request, evaluate
from localcloud.aws.wire import AwsError, Call, Reply, request_id, xml

_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


class StsApi:
    def __init__(self, moto: Moto, sessions: Sessions) -> None:
        self._moto = moto
        self._sessions = sessions

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
        raise AwsError("InvalidAction", f"Could not find operation {call.action} for version 2011-06-15")

    def _assume(self, call: Call, principal: Principal) -> Reply:
        arn, session = call.get("RoleArn") or "", call.get("RoleSessionName") or ""
        role = next((each for each in list(self._moto.iam.roles.values()) if each.arn == arn), None)
        if role is None or not self._trusts(role, principal, call):
            raise AwsError(
                "AccessDenied",
                f"User: {principal.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}",
                403,
            )
        seconds = int(call.get("DurationSeconds") or 3600)
        if not 900 <= seconds <= int(role.max_session_duration or 3600):
            raise AwsError(
                "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            )
        made = self._sessions.assume(role, session, seconds)
        until = datetime.fromtimestamp(made.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return _result(
            call.action,
            f"<AssumedRoleUser><AssumedRoleId>{escape(made.principal.user_id)}</AssumedRoleId>"
            f"<Arn>{escape(made.principal.arn)}</Arn></AssumedRoleUser><Credentials><AccessKeyId>{made.key_id}</AccessKeyId>"
            f"<SecretAccessKey>{made.secret}</SecretAccessKey><SessionToken>{made.token}</SessionToken>"
            f"<Expiration>{until}</Expiration></Credentials>",
        )

    def _trusts(self, role: Any, principal: Principal, call: Call) -> bool:
        """The trust policy's statements that name this principal or its account, evaluated."""
        document = role.assume_role_policy_document
        loaded = json.loads(document if document.lstrip().startswith("{") else unquote(document))
        statements = loaded.get("Statement", [])
        statements = statements if isinstance(statements, list) else [statements]
        account = self._moto.account
        named = {"*", account, f"arn:aws:iam::{account}:root", principal.arn}
        mine = [
            {**statement, "Resource": "*"}
            for statement in statements
            if named & set(_aws_principals(statement.get("Principal", {})))
        ]
        external = {"sts:ExternalId": call.get("ExternalId") or ""} if call.get("ExternalId") else {}
        asked = Request(action="sts:AssumeRole", resource="*", context={"aws:PrincipalArn": principal.arn, **external})
        return evaluate([{"Statement": mine}], asked) is Decision.ALLOWED


def _aws_principals(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    named = value.get("AWS", [])
    return [named] if isinstance(named, str) else list(named)


def _result(action: str, content: str) -> Reply:
    return Reply(
        body=xml(
            f'<{action}Response xmlns="{_NAMESPACE}"><{action}Result>{content}</{action}Result>'
            f"<ResponseMetadata><RequestId>{request_id()}</RequestId></ResponseMetadata></{action}Response>"
        )
    )
