"""A request to the AWS APIs, and an answer, with errors in the protocol of each API."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

SERVICES = ("ec2", "iam", "sts", "ssm", "route53", "s3", "servicequotas")
_IN_JSON = ("ssm", "servicequotas")
_LARGEST_BODY = 8 << 20
_XML = "text/xml;charset=UTF-8"
_JSON = "application/x-amz-json-1.1"
STS_VERSION = "2011-06-15"
_NAMESPACES = {
    "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
    "route53": "https://route53.amazonaws.com/doc/2013-04-01/",
}


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int = 200
    body: bytes = b""
    content_type: str = _XML
    headers: Mapping[str, str] = field(default_factory=dict)


class AwsError(Exception):
    """A refusal of an AWS API: its code, its message for people, and the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request. `path` and `query` are as they came (percent-encoded); header names are lower case.

    `service` is what the signature or else the host names; `form` holds the fields of the query protocols (EC2, IAM, STS).
    """

    service: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    source: str = ""
    form: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, environ: WSGIEnvironment) -> Call:
        """Raises AwsError (RequestEntityTooLarge) for a body that no AWS API would take."""
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length > _LARGEST_BODY:
            raise AwsError("RequestEntityTooLarge", "Request body is too large", 413)
        body = environ["wsgi.input"].read(length) if length else b""
        headers = {
            key[5:].replace("_", "-").lower(): str(value) for key, value in environ.items() if key[:5] == "HTTP_"
        }
        headers["content-type"] = environ.get("CONTENT_TYPE", "")
        headers["content-length"] = environ.get("CONTENT_LENGTH", "")
        raw = environ.get("REQUEST_URI") or environ.get("RAW_URI") or environ.get("PATH_INFO", "/")
        path, _, query = raw.partition("?")
        if "://" in path:
            path = "/" + path.partition("://")[2].partition("/")[2]
        service = service_of(headers)
        form: tuple[tuple[str, str], ...] = ()
        if service in ("ec2", "iam", "sts", ""):
            text = body.decode("utf-8", "replace") if environ["REQUEST_METHOD"] == "POST" else query
            form = tuple(parse_qsl(text, keep_blank_values=True))
        if not service and dict(form).get("Version") == STS_VERSION:
            # AssumeRoleWithWebIdentity is not signed, and at another host than AWS's nothing else names the service.
            service = "sts"
        return cls(
            service=service,
            method=environ["REQUEST_METHOD"],
            path=path or "/",
            query=query,
            headers=headers,
            body=body,
            source=environ.get("REMOTE_ADDR", ""),
            form=form,
        )

    @property
    def region(self) -> str:
        """The region in the signature's scope; empty without a signature."""
        scope = scope_of(self.headers)
        return scope[2] if len(scope) == 5 else ""

    @property
    def action(self) -> str:
        """The action, for example `RunInstances` or `GetParameter`; empty for Route53, where the path selects the action."""
        if self.service in _IN_JSON:
            return self.headers.get("x-amz-target", "").rpartition(".")[2]
        return self.get("Action") or ""

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.form if key == name), None)

    def members(self, prefix: str) -> list[str]:
        """The values of `prefix.1`, `prefix.2`, … in the order of their numbers."""
        found = []
        for key, value in self.form:
            head, _, number = key.rpartition(".")
            if head == prefix and number.isdecimal():
                found.append((int(number), value))
        return [value for _, value in sorted(found)]

    def groups(self, prefix: str) -> dict[int, dict[str, str]]:
        """`prefix.N.REST=value` as {N: {REST: value}}."""
        found: dict[int, dict[str, str]] = {}
        for key, value in self.form:
            number, _, rest = key[len(prefix) + 1 :].partition(".")
            if key.startswith(f"{prefix}.") and number.isdecimal() and rest:
                found.setdefault(int(number), {})[rest] = value
        return dict(sorted(found.items()))

    def json(self) -> dict[str, Any]:
        try:
            found = json.loads(self.body or b"{}")
        except ValueError as unread:
            raise AwsError("SerializationException", "the body is not JSON") from unread
        if not isinstance(found, dict):
            raise AwsError("SerializationException", "the body is not a JSON object")
        return found

    @property
    def segments(self) -> list[str]:
        return [unquote(part) for part in self.path.split("/") if part]

    def query_parameters(self) -> dict[str, str]:
        """The query's fields, decoded."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


def service_of(headers: Mapping[str, str]) -> str:
    """The service in the signature's scope; without a signature the host's first label; else an empty text."""
    scope = scope_of(headers)
    if len(scope) == 5:
        return scope[3]
    host = headers.get("host", "").partition(":")[0]
    if not host.endswith("amazonaws.com"):
        return ""
    # A bucket's name may be in front: https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
    return "s3" if "s3" in host.split(".") else host.partition(".")[0]


def scope_of(headers: Mapping[str, str]) -> list[str]:
    """Key, date, region, service and `aws4_request`, or something shorter."""
    _, _, credential = headers.get("authorization", "").partition("Credential=")
    return credential.partition(",")[0].strip().split("/")


def request_id() -> str:
    return str(uuid.uuid4())


def render(service: str, error: AwsError, *, in_json: bool = False) -> Reply:
    """An error as the service's protocol writes it. `in_json`: so did the client, of a service that we do not know."""
    rid, code, message = request_id(), escape(error.code), escape(error.message)
    if in_json or service in _IN_JSON:
        body = json.dumps({"__type": error.code, "message": error.message}).encode()
        headers = {"x-amzn-RequestId": rid, "x-amzn-ErrorType": error.code}
        return Reply(status=error.status, body=body, content_type=_JSON, headers=headers)
    if service == "ec2":
        text = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
            f"<RequestID>{rid}</RequestID></Response>"
        )
    elif service == "s3":
        # https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
        text = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{rid}</RequestId></Error>"
    else:
        kind = "Sender" if error.status < 500 else "Receiver"
        text = (
            f'<ErrorResponse xmlns="{_NAMESPACES.get(service, _NAMESPACES["sts"])}"><Error><Type>{kind}</Type>'
            f"<Code>{code}</Code><Message>{message}</Message></Error><RequestId>{rid}</RequestId></ErrorResponse>"
        )
    return Reply(status=error.status, body=xml(text), headers={"x-amzn-RequestId": rid})


def xml(text: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
