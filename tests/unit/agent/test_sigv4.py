"""rollcall.sigv4: AWS's published examples, and the same signatures as botocore's for requests of all kinds."""

from __future__ import annotations

import calendar
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

import botocore.auth
import botocore.credentials
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from rollcall.sigv4 import Credentials, signature_headers

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEY = Credentials("AKIDEXAMPLE", SECRET)
# The session token of the suite.
TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi"
    "/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPk"
    "UL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)
NOW = float(calendar.timegm(time.strptime("20150830T123600Z", "%Y%m%dT%H%M%SZ")))
HOST = "https://example.amazonaws.com"
VANILLA = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def signed(
    method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"", key: Credentials = KEY
) -> str:
    given = {"method": method, "url": url, "body": body, "service": "service", "region": "us-east-1"}
    return signature_headers(key, headers=headers or {}, now=NOW, **given)["Authorization"]  # type: ignore[arg-type]


# Names and signatures of https://github.com/awslabs/aws-c-auth/tree/main/tests/aws-signing-test-suite/v4
@pytest.mark.parametrize(
    ("name", "method", "path", "headers", "body", "signature"),
    [
        ("get-vanilla", "GET", "/", {}, b"", VANILLA),
        ("get-relative-normalized", "GET", "/example/..", {}, b"", VANILLA),
        ("get-slash-normalized", "GET", "//", {}, b"", VANILLA),
        ("get-slash-dot-slash-normalized", "GET", "/./", {}, b"", VANILLA),
        (
            "get-space-normalized",
            "GET",
            "/example space/",
            {},
            b"",
            "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
        ),
        ("get-utf8", "GET", "/ሴ", {}, b"", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        (
            "get-vanilla-query-order-key-case",
            "GET",
            "/?Param2=value2&Param1=value1",
            {},
            b"",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "get-vanilla-query-unreserved",
            "GET",
            f"/?{UNRESERVED}={UNRESERVED}",
            {},
            b"",
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        (
            "get-vanilla-utf8-query",
            "GET",
            "/?ሴ=bar",
            {},
            b"",
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
        ),
        (
            "get-header-value-trim",
            "GET",
            "/",
            {"My-Header1": " value1", "My-Header2": ' "a   b   c"'},
            b"",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        ("post-vanilla", "POST", "/", {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "post-header-value-case",
            "POST",
            "/",
            {"My-Header1": "VALUE1"},
            b"",
            "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        ),
        (
            "post-x-www-form-urlencoded",
            "POST",
            "/",
            FORM,
            b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
)
def test_the_published_signatures_are_made(
    name: str, method: str, path: str, headers: dict[str, str], body: bytes, signature: str
) -> None:
    made = signed(method, HOST + path, headers, body)
    assert made.rpartition("=")[2] == signature, name
    assert made.startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, Signed"), (
        name
    )


def test_the_session_token_is_signed_and_sent() -> None:
    """post-sts-header-before of the suite."""
    key = Credentials("AKIDEXAMPLE", SECRET, TOKEN)
    made = signed("POST", f"{HOST}/", key=key)
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token, " in made
    assert made.endswith("=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead")


def test_the_example_of_the_documentation_is_signed_as_there() -> None:
    """ListUsers: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html"""
    made = signature_headers(
        KEY,
        method="GET",
        url="https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
        headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        body=b"",
        service="iam",
        region="us-east-1",
        now=NOW,
    )
    assert made["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


def test_a_secret_is_in_no_text_of_the_credentials() -> None:
    shown = f"{Credentials('AKIDEXAMPLE', SECRET, TOKEN)!r}"
    assert SECRET not in shown and TOKEN not in shown


@pytest.mark.parametrize("seed", range(200))
def test_any_request_is_signed_as_botocore_signs_it(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(seed)  # noqa: S311

    def text(longest: int, alphabet: str = "abcXYZ019-_.~ %+&=/?#:;@,'\"\\*ü€") -> str:
        return "".join(dice.choice(alphabet) for _ in range(dice.randrange(longest)))

    query = "&".join(f"{quote(text(6), safe='')}={quote(text(9), safe='')}" for _ in range(dice.randrange(4)))
    path = "/".join(quote(text(6), safe="") for _ in range(dice.randrange(4)))
    host = dice.choice(
        ["route53.amazonaws.com", "ssm.cn-north-1.amazonaws.com.cn", "127.0.0.1:4566", "[::1]:80", "h:443"]
    )
    url = f"{dice.choice(['http', 'https'])}://{host}/{path}{'?' if query else ''}{query}"
    headers = {f"X-Note-{index}": f"a{text(9, 'ab  ,;')}b" for index in range(dice.randrange(3))}
    body, method = text(30).encode(), dice.choice(["GET", "POST"])
    key = Credentials("AKID", text(40) or "secret", dice.choice(["", "a/token+of=a=session"]))
    service, region = dice.choice(["route53", "ssm"]), dice.choice(["us-east-1", "cn-north-1"])
    at = datetime(2026, 1, 1, tzinfo=UTC).timestamp() + dice.randrange(10**8)
    stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")

    request = AWSRequest(method=method, url=url, data=body, headers=headers)
    signer = SigV4Auth(botocore.credentials.Credentials(key.key_id, key.secret, key.token or None), service, region)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda **_: datetime.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    signer.add_auth(request)

    made = signature_headers(
        key, method=method, url=url, headers=headers, body=body, service=service, region=region, now=at
    )
    assert made == {name: request.headers[name] for name in made}
