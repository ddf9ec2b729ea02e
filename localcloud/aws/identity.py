"""Identify the caller of a request: the operator's key, IAM users' keys, and the temporary credentials of roles."""

from __future__ import annotations

import re
import secrets
import string
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from localcloud.aws.sigv4 import (
    Claim,
    ClockError,
    HeadersError,
    MissingHeaderError,
    PayloadError,
    SignatureError,
    verify,
)
from localcloud.aws.wire import AwsError, Call

GLOBAL_SERVICES = ("iam", "route53")
GLOBAL_REGION = "us-east-1"
REAL_HOST = re.compile(r"(?:[a-z0-9-]+\.)?(?:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)\.)?amazonaws\.com")
_S3_HOST = re.compile(r"(?:[a-z0-9.-]+\.)?s3(?:\.(?P<region>[a-z]{2}(?:-[a-z]+)+-\d))?\.amazonaws\.com")
_ALPHABET = string.ascii_uppercase + "234567"
# How each API says the same thing: EC2's own codes, the JSON protocol's longer ones, S3's
# (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html), and the rest.
_CODES = {
    "unknown": {
        "ec2": ("AuthFailure", 401),
        "s3": ("InvalidAccessKeyId", 403),
        "ssm": ("UnrecognizedClientException", 400),
    },
    "mismatch": {"ssm": ("InvalidSignatureException", 400)},
    "clock": {
        "ec2": ("RequestExpired", 400),
        "s3": ("RequestTimeTooSkewed", 403),
        "ssm": ("InvalidSignatureException", 400),
    },
    "expired": {
        "ec2": ("RequestExpired", 400),
        "s3": ("ExpiredToken", 400),
        "ssm": ("ExpiredTokenException", 400),
    },
    "missing": {"s3": ("AccessDenied", 403), "ssm": ("MissingAuthenticationTokenException", 400)},
    "token": {"s3": ("InvalidToken", 400)},
    "payload": {"s3": ("XAmzContentSHA256Mismatch", 400)},
    "headers": {"s3": ("AccessDenied", 403)},
    "header": {"s3": ("InvalidRequest", 400)},
}
_USUAL = {
    "unknown": ("InvalidClientTokenId", 403),
    "mismatch": ("SignatureDoesNotMatch", 403),
    "clock": ("SignatureDoesNotMatch", 403),
    "expired": ("ExpiredToken", 403),
    "missing": ("MissingAuthenticationToken", 403),
    "token": ("InvalidClientTokenId", 403),
    "payload": ("SignatureDoesNotMatch", 403),
    "headers": ("SignatureDoesNotMatch", 403),
    "header": ("SignatureDoesNotMatch", 403),
}


@dataclass(frozen=True, kw_only=True)
class Granted:
    """The parameters with which a role session was assumed.

    `policies` limit the session (none: it may do what the role may). `tags` are session tags by key, and `transitive` are those that the
    next role gets too. `source_identity` is the original caller.


    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    """

    policies: tuple[Mapping[str, Any], ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    transitive: frozenset[str] = frozenset()
    source_identity: str = ""


_NOTHING = Granted()


@dataclass(frozen=True, kw_only=True)
class Principal:
    """`kind` decides what may be done; `name` is the user's or the role's name, `user_id` what IAM calls aws:userid.

    `instance` is the EC2 instance that a role's credentials were issued to, or an empty text.
    """

    kind: Literal["operator", "user", "role"]
    name: str
    arn: str
    user_id: str
    instance: str = ""
    granted: Granted = field(default=_NOTHING, compare=False)

    @property
    def account(self) -> str:
        return self.arn.split(":")[4]


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A role's credentials; times in seconds since 1970."""

    key_id: str
    secret: str
    token: str
    issued: float
    expires: float
    principal: Principal
    role_id: str


class Sessions:
    """The role credentials that were issued and have not expired. Thread-safe."""

    def __init__(self, account: str, clock: Callable[[], float], lifetime: float = 21600.0) -> None:
        self.account = account
        self.lifetime = lifetime
        self._clock = clock
        self._lock = threading.Lock()
        self._issued: dict[str, Credentials] = {}
        self._current: dict[tuple[str, str], Credentials] = {}

    def for_instance(self, role: Any, instance: str) -> Credentials:
        """Return the instance's credentials of this role. As in the real IMDS they stay the same until shortly before they expire."""
        now = self._clock()
        with self._lock:
            current = self._current.get((instance, role.id))
            if current is None or current.expires - now <= min(900.0, self.lifetime / 2):
                current = self._issue(role.name, role.id, instance, now, self.lifetime, instance)
                self._current[instance, role.id] = current
            return current

    def assume(self, role: Any, session: str, seconds: float, granted: Granted) -> Credentials:
        """Return new credentials of a role with a session name, for `seconds`."""
        with self._lock:
            return self._issue(role.name, role.id, session, self._clock(), seconds, "", granted)

    def find(self, key_id: str) -> Credentials | None:
        with self._lock:
            return self._issued.get(key_id)

    def _issue(
        self,
        role: str,
        role_id: str,
        session: str,
        now: float,
        seconds: float,
        instance: str,
        granted: Granted = _NOTHING,
    ) -> Credentials:
        self._issued = {key: each for key, each in self._issued.items() if each.expires > now - 3600}
        made = Credentials(
            key_id="ASIA" + "".join(secrets.choice(_ALPHABET) for _ in range(16)),
            secret=secrets.token_urlsafe(30),
            token=secrets.token_urlsafe(192),
            issued=now,
            expires=now + seconds,
            role_id=role_id,
            principal=Principal(
                kind="role",
                name=role,
                arn=f"arn:aws:sts::{self.account}:assumed-role/{role}/{session}",
                user_id=f"{role_id}:{session}",
                instance=instance,
                granted=granted,
            ),
        )
        self._issued[made.key_id] = made
        return made


class Identities:
    """The identities of an account, by which the signer of a request is found. `iam` returns moto's IAM backend."""

    def __init__(
        self,
        *,
        account: str,
        regions: Sequence[str],
        operator: tuple[str, str],
        sessions: Sessions,
        iam: Callable[[], Any],
        clock: Callable[[], float],
    ) -> None:
        self._operator_key, self._operator_secret = operator
        self._operator = Principal(
            kind="operator", name="operator", arn=f"arn:aws:iam::{account}:user/operator", user_id="AIDAOPERATOR"
        )
        self._account = account
        self._regions = frozenset(regions)
        self._sessions = sessions
        self._iam = iam
        self._clock = clock

    @property
    def operator_arn(self) -> str:
        return self._operator.arn

    def of(self, call: Call) -> Principal:
        """Return the signer of a request. Raises AwsError, with the codes of the call's service, if the signer is not known."""
        header = call.headers.get("authorization", "")
        if not header:
            raise self._refused(call, "missing", "Request is missing Authentication Token")
        try:
            claim = Claim.parse(header)
        except SignatureError as malformed:
            raise AwsError("IncompleteSignature", str(malformed), 400) from malformed
        principal, secret = self._known(call, claim.key_id)
        try:
            self._check_scope(call, claim)
            verify(
                claim,
                secret,
                method=call.method,
                path=call.path,
                query=call.query,
                headers=call.headers,
                body=call.body,
                now=self._clock(),
            )
        except ClockError as late:
            message = "Request has expired." if call.service == "ec2" else str(late)
            raise self._refused(call, "clock", message) from late
        except PayloadError as other:
            raise self._refused(call, "payload", str(other)) from other
        except MissingHeaderError as missing:
            raise self._refused(call, "header", str(missing)) from missing
        except HeadersError as unsigned:
            raise self._refused(call, "headers", str(unsigned)) from unsigned
        except SignatureError as wrong:
            raise self._refused(call, "mismatch", str(wrong)) from wrong
        return principal

    def knows(self, key_id: str) -> bool:
        """Return whether this access key belongs to this account."""
        return key_id == self._operator_key or self._sessions.find(key_id) is not None or self._user(key_id) is not None

    def _known(self, call: Call, key_id: str) -> tuple[Principal, str]:
        if key_id == self._operator_key:
            return self._operator, self._operator_secret
        session = self._sessions.find(key_id)
        if session is not None:
            return self._of_session(call, session)
        found = self._user(key_id)
        if found is None:
            raise self._unknown(call)
        user, key = found
        return Principal(kind="user", name=user.name, arn=user.arn, user_id=user.id), key.secret_access_key

    def _user(self, key_id: str) -> tuple[Any, Any] | None:
        """The IAM user with this key, if it is active, and the key."""
        for user in list(self._iam().users.values()):
            for key in list(user.access_keys):
                if key.access_key_id == key_id and key.status == "Active":
                    return user, key
        return None

    def _of_session(self, call: Call, session: Credentials) -> tuple[Principal, str]:
        if call.headers.get("x-amz-security-token") != session.token:
            if call.service == "s3":
                raise self._refused(call, "token", "The provided token is malformed or otherwise invalid.")
            raise self._unknown(call)
        if session.expires <= self._clock():
            message = "The security token included in the request is expired"
            raise self._refused(call, "expired", "Request has expired." if call.service == "ec2" else message)
        if not any(role.id == session.role_id for role in list(self._iam().roles.values())):
            raise self._unknown(call)
        return session.principal, session.secret

    def _check_scope(self, call: Call, claim: Claim) -> None:
        host = call.headers.get("host", "").partition(":")[0]
        real = (_S3_HOST if call.service == "s3" else REAL_HOST).fullmatch(host)
        # A real host names its region, and a region takes what is signed for it only.
        allowed = {real["region"]} & self._regions if real and real["region"] else self._regions
        if call.service in GLOBAL_SERVICES:
            # With a custom endpoint, SDKs sign for their own region. The real host accepts only the global one.
            allowed = frozenset({GLOBAL_REGION}) if real else self._regions | {GLOBAL_REGION}
        elif call.service == "sts":
            allowed = allowed | {GLOBAL_REGION}
        if claim.region not in allowed:
            if call.service == "s3":
                message = f"The authorization header is malformed; the region '{claim.region}' is wrong"
                raise AwsError("AuthorizationHeaderMalformed", message, 400)
            raise SignatureError(f"Credential should be scoped to a valid region, not '{claim.region}'.")

    def _unknown(self, call: Call) -> AwsError:
        if call.service == "ec2":
            return self._refused(call, "unknown", "AWS was not able to validate the provided access credentials")
        return self._refused(call, "unknown", "The security token included in the request is invalid.")

    def _refused(self, call: Call, kind: str, message: str) -> AwsError:
        code, status = _CODES[kind].get(call.service, _USUAL[kind])
        return AwsError(code, message, status)
