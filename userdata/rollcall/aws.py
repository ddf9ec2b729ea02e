"""Signed requests to AWS's APIs by `requests` alone: an idle agent has no room for boto3, which takes 40 MB.

The credentials are an access key that the caller has, or those of the instance's role.
"""

from __future__ import annotations

import calendar
import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol
from xml.etree.ElementTree import XML, Element, ParseError

import requests
from urllib3.exceptions import HTTPError

from rollcall.errors import FatalError, RollcallError, TransientError
from rollcall.imds import InstanceMetadata
from rollcall.sigv4 import Credentials, encoded, signature_headers

_CONNECT_S, _READ_S = 5.0, 15.0
# The limit of a reply. Route53 lists 300 record sets at a time, and a large set has 32,000 characters.
_REPLY_LIMIT_BYTES = 16 << 20
_CHUNK_BYTES = 64 << 10
# AWS provides the role's next credentials at least five minutes before the old ones expire.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html
_RENEW_BEFORE_S = 300.0
_ROLES = "iam/security-credentials/"
# https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html, and ExpiredToken of Route53 and SSM.
_OLD_CREDENTIALS = "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"
# OpenSSL finds certificates here by their hash, so a connection loads the one that it needs and not all of them.
_CERTIFICATES = Path("/etc/ssl/certs")


class AwsRefusedError(RollcallError):
    """A refusal of an AWS API: its code and its message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"code={code} message={message[:200]!r}")
        self.status = status
        self.code = code
        self.message = message


class CredentialSource(Protocol):
    def current(self) -> Credentials:
        """Return credentials that are valid now. Raises TransientError."""

    def renew(self) -> bool:
        """Read the credentials again. Return whether they have changed."""


class AccessKey:
    """An IAM user's access key, as `ACCESS_KEY_ID SECRET`. Raises FatalError if it does not have this form."""

    def __init__(self, key: str) -> None:
        words = key.split()
        if len(words) != 2:
            raise FatalError("reason=bad-access-key fix='write ACCESS_KEY_ID SECRET'")
        self._credentials = Credentials(words[0], words[1])

    def current(self) -> Credentials:
        return self._credentials

    def renew(self) -> bool:
        return False


class InstanceRole:
    """The temporary credentials of the instance's role, from its metadata service."""

    def __init__(self, metadata: InstanceMetadata | None = None, clock: Callable[[], float] = time.time) -> None:
        self._metadata = metadata or InstanceMetadata()
        self._clock = clock
        self._credentials = Credentials("", "", expires=0.0)

    def current(self) -> Credentials:
        left = self._credentials.expires - self._clock()
        if left < _RENEW_BEFORE_S:
            try:
                self._credentials = self._read()
            except TransientError:
                # Use the old credentials until they expire.
                if left <= 0:
                    raise
        return self._credentials

    def renew(self) -> bool:
        before, self._credentials = self._credentials, self._read()
        return self._credentials != before

    def _read(self) -> Credentials:
        roles = self._metadata.get(_ROLES, missing="").split()
        if not roles:
            raise TransientError("reason=no-credentials fix='give the instance its role'")
        try:
            found = json.loads(self._metadata.get(f"{_ROLES}{roles[0]}"))
            expires = calendar.timegm(time.strptime(found["Expiration"], "%Y-%m-%dT%H:%M:%SZ"))
            return Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["Token"], float(expires))
        except (AttributeError, KeyError, TypeError, ValueError) as other:
            # If EC2 may not assume the role, the reply says so instead: {"Code": "AssumeRoleUnauthorizedAccess", …}.
            raise TransientError(f"reason=no-credentials error={type(other).__name__}") from other


class AwsClient:
    """One AWS service in one region.

    It sends each request once. Only if the credentials have expired, it reads them again and repeats the request. After `within` seconds it
    sends no more requests.
    """

    def __init__(self, service: str, region: str, source: CredentialSource, url: str, within: float = math.inf) -> None:
        self._service = service
        self._region = region
        self._source = source
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.verify = _trusted()
        self._until = time.monotonic() + within

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the reply's body. Raises TransientError, and AwsRefusedError."""
        pairs = "&".join(f"{encoded(name)}={encoded(value)}" for name, value in (query or {}).items())
        url = f"{self._url}{path}{'?' if pairs else ''}{pairs}"
        try:
            return self._send(method, url, body, headers or {})
        except AwsRefusedError as refused:
            if refused.code not in _OLD_CREDENTIALS or not self._source.renew():
                raise
            return self._send(method, url, body, headers or {})

    def close(self) -> None:
        """Close the connections, and send no more requests."""
        self._until = 0.0
        self._session.close()

    def _send(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        credentials = self._source.current()
        left = self._until - time.monotonic()
        if left <= 0:
            raise TransientError(f"reason=too-slow api={self._service}")

        def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
            # Sign the URL that is sent: `requests` may change the given one.
            request.headers.update(
                signature_headers(
                    credentials,
                    method=method,
                    url=request.url or url,
                    headers=headers,
                    body=body,
                    service=self._service,
                    region=self._region,
                    now=time.time(),
                )
            )
            return request

        try:
            with self._session.request(
                method,
                url,
                data=body or None,
                # The limit counts the bytes as they arrive, so the reply must not be compressed.
                headers={**headers, "Accept-Encoding": "identity"},
                auth=sign,
                timeout=(min(_CONNECT_S, left), min(_READ_S, left)),
                allow_redirects=False,
                stream=True,
            ) as reply:
                found, status = _limited(reply), reply.status_code
        except (requests.RequestException, HTTPError, OSError) as failed:
            # The second and the third exception occur while the body is read.
            raise TransientError(f"reason=unreachable api={self._service} error={type(failed).__name__}") from failed
        if len(found) > _REPLY_LIMIT_BYTES:
            raise TransientError(f"reason=garbled-reply api={self._service} status={status} error=too-long")
        if not 200 <= status < 300:
            raise refused_error(status, found)
        return found


def parsed_xml(body: bytes) -> Element:
    """Return the root element with names without namespaces.

    Raises ValueError for garbled XML, and for a document type, because its entities could grow without limit.
    """
    text = body.decode("utf-8")
    if "<!DOCTYPE" in text:
        raise ValueError("a document type")
    try:
        root = XML(text)
    except ParseError as broken:
        raise ValueError(str(broken)) from broken
    for each in root.iter():
        each.tag = each.tag.rpartition("}")[2]
    return root


def refused_error(status: int, body: bytes) -> AwsRefusedError:
    """Return the error in a reply, in XML or in JSON. If the reply has none, the code is its status."""
    code = message = ""
    with contextlib.suppress(AttributeError, TypeError, ValueError):
        if body.lstrip()[:1] == b"{":
            reply = json.loads(body)
            # com.amazonaws.ssm#ParameterNotFound: https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
            code = str(reply.get("__type") or "").rpartition("#")[2]
            message = str(reply.get("message") or reply.get("Message") or "")
        else:
            root = parsed_xml(body)
            code = root.findtext(".//Code") or ""
            message = root.findtext(".//Message") or ""
            if not code and root.find("Messages") is not None:
                # <InvalidChangeBatch><Messages><Message>…: Route53 writes this error in this form, or in the form of all others.
                code = root.tag
                message = " ".join(each.text or "" for each in root.iter("Message"))
    return AwsRefusedError(status, code or str(status), message)


def _limited(reply: requests.Response) -> bytes:
    """Return a body up to the limit, and one byte more if it is longer."""
    found = bytearray()
    while chunk := reply.raw.read(min(_CHUNK_BYTES, _REPLY_LIMIT_BYTES + 1 - len(found)), decode_content=False):
        found += chunk
    return bytes(found)


def _trusted() -> str | bool:
    return str(_CERTIFICATES) if next(_CERTIFICATES.glob("*.0"), None) else True
