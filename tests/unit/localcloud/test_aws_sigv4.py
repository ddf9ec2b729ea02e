"""Signatures that botocore makes are taken; with anything changed afterwards they are not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from localcloud.aws.sigv4 import SKEW, Claim, ClockError, SignatureError, verify

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def signed(method: str, url: str, body: bytes = b"", **headers: str) -> dict[str, Any]:
    """A request as a server receives it, signed by botocore."""
    request = AWSRequest(method=method, url=url, data=body, headers={"Host": "127.0.0.1:4566", **headers})
    SigV4Auth(Credentials("AKID", SECRET), "route53", "us-east-1").add_auth(request)
    rest = url.partition("//")[2]
    path, _, query = ("/" + rest.partition("/")[2]).partition("?")
    sent = {name.lower(): value for name, value in request.headers.items()}
    return {"method": method, "path": path, "query": query, "headers": sent, "body": body}


def check(request: Mapping[str, Any], secret: str = SECRET, **changed: Any) -> None:
    requested = {**request, **changed}
    stamp = requested["headers"]["x-amz-date"]
    now = requested.pop("now", None) or datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    verify(Claim.parse(requested["headers"]["authorization"]), secret, now=now, **requested)


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("GET", "http://127.0.0.1:4566/2013-04-01/hostedzone/Z1/rrset", b""),
        ("GET", "http://127.0.0.1:4566/2013-04-01/hostedzone/Z1/rrset?name=%5C052.a.b&type=SRV&maxitems=3", b""),
        ("GET", "http://127.0.0.1:4566/a%20b/c~d?x=%C3%BC&empty=&a=2&a=1", b""),
        ("POST", "http://127.0.0.1:4566/", b"Action=RunInstances&UserData=%2B%2F"),
    ],
)
def test_what_botocore_signs_is_verified(method: str, url: str, body: bytes) -> None:
    check(signed(method, url, body, **{"X-Note": "  two   spaces "}))


def test_any_change_after_signing_is_noticed() -> None:
    request = signed("POST", "http://127.0.0.1:4566/p?a=1", b"body", **{"X-Amz-Note": "x"})
    check(request)
    for changed in (
        {"method": "PUT"},
        {"path": "/q"},
        {"query": "a=2"},
        {"body": b"bodY"},
        {"headers": {**request["headers"], "x-amz-note": "y"}},
        {"headers": {**request["headers"], "host": "elsewhere"}},
        {"secret": "another"},
    ):
        with pytest.raises(SignatureError):
            check(request, **changed)


def test_a_clock_that_differs_by_more_than_five_minutes_is_refused() -> None:
    request = signed("GET", "http://127.0.0.1:4566/")
    now = datetime.now(UTC).timestamp()
    check(request, now=now + SKEW - 10)
    check(request, now=now - SKEW + 10)
    with pytest.raises(ClockError, match="expired"):
        check(request, now=now + SKEW + 10)
    with pytest.raises(ClockError, match="not yet current"):
        check(request, now=now - SKEW - 10)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer x",
        "AWS AKID:signature",
        "AWS4-HMAC-SHA256 Credential=AKID/20261123/us-east-1/route53/aws4_request, SignedHeaders=host",
        "AWS4-HMAC-SHA256 Credential=AKID/us-east-1/route53/aws4_request, SignedHeaders=host, Signature=" + "0" * 64,
    ],
)
def test_an_incomplete_signature_header_is_refused(header: str) -> None:
    with pytest.raises(SignatureError):
        Claim.parse(header)


def test_host_must_be_signed_and_the_date_be_that_of_the_scope() -> None:
    request = signed("GET", "http://127.0.0.1:4566/")
    header = request["headers"]["authorization"]
    unsigned = {**request["headers"], "authorization": header.replace("SignedHeaders=host;", "SignedHeaders=")}
    with pytest.raises(SignatureError, match="signed headers"):
        check(request, headers=unsigned)
    with pytest.raises(SignatureError, match="scope"):
        check(request, headers={**request["headers"], "x-amz-date": "20200101T000000Z"})
