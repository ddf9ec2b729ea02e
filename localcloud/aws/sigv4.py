"""Signature Version 4, the server's side.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
Only the Authorization header is accepted, because no client of this project uses presigned URLs.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW = 300.0
_S3_SKEW = 900.0
_HEADER = re.compile(
    rf"{ALGORITHM} +Credential=(?P<key>[^/, ]+)/(?P<date>\d{{8}})/(?P<region>[^/, ]+)/(?P<service>[^/, ]+)/aws4_request,"
    r" *SignedHeaders=(?P<headers>[^, ]+), *Signature=(?P<signature>[0-9a-f]{64})"
)


class SignatureError(ValueError):
    """The signature is missing, malformed or wrong; the message says which."""


class ClockError(SignatureError):
    """The request was signed too long ago or in the future."""


class PayloadError(SignatureError):
    """The body is not the one that was signed."""


class HeadersError(SignatureError):
    """A header that must be signed is not."""


class MissingHeaderError(SignatureError):
    """A header that the signature covers is missing."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The content of an Authorization header: the signer, the region, the service, and what was signed."""

    key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str

    @classmethod
    def parse(cls, header: str) -> Claim:
        """Raises SignatureError for anything but one well-formed SigV4 header."""
        found = _HEADER.fullmatch(header.strip())
        if found is None:
            raise SignatureError("Authorization header is not a complete AWS4-HMAC-SHA256 signature")
        return cls(
            key_id=found["key"],
            date=found["date"],
            region=found["region"],
            service=found["service"],
            signed_headers=tuple(found["headers"].split(";")),
            signature=found["signature"],
        )


def verify(
    claim: Claim,
    secret: str,
    *,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    now: float,
) -> None:
    """Raises ClockError or SignatureError unless `secret` made this signature over this request.

    `path` and `query` are as they came over the wire; `headers` have lower-case names; `now` in seconds since 1970. S3 has rules of its
    own: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    in_s3 = claim.service == "s3"
    stamp = headers.get("x-amz-date", "")
    if not stamp.startswith(claim.date):
        raise SignatureError("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP")
    if "host" not in claim.signed_headers or "x-amz-date" not in claim.signed_headers:
        raise SignatureError("'Host' and 'X-Amz-Date' must be signed headers")
    _check_clock(stamp, now, _S3_SKEW if in_s3 else SKEW)
    if in_s3:
        _check_s3_headers(claim, headers)
    digest = hashlib.sha256(body).hexdigest()
    if headers.get("x-amz-content-sha256", digest) not in (digest, "UNSIGNED-PAYLOAD"):
        raise PayloadError("The provided 'x-amz-content-sha256' header does not match what was computed.")
    canonical = "\n".join(
        (
            method,
            # Encoded once for S3, and once more for all others.
            path if in_s3 else quote(path, safe="/~"),
            _canonical_query(query),
            *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in claim.signed_headers),
            "",
            ";".join(claim.signed_headers),
            headers.get("x-amz-content-sha256", digest),
        )
    )
    scope = f"{claim.date}/{claim.region}/{claim.service}/aws4_request"
    to_sign = "\n".join((ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{secret}".encode()
    for part in (claim.date, claim.region, claim.service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    expected = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, claim.signature):
        raise SignatureError(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access"
            " Key and signing method. Consult the service documentation for details."
        )


def _check_s3_headers(claim: Claim, headers: Mapping[str, str]) -> None:
    if "x-amz-content-sha256" not in headers:
        raise MissingHeaderError("Missing required header for this request: x-amz-content-sha256")
    unsigned = sorted(name for name in headers if name.startswith("x-amz-") and name not in claim.signed_headers)
    if unsigned:
        raise HeadersError(f"There were headers present in the request which were not signed: {', '.join(unsigned)}")


def _check_clock(stamp: str, now: float, skew: float) -> None:
    try:
        signed = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError as unread:
        raise SignatureError("Date must be in ISO-8601 'basic format'") from unread
    here = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    if signed < now - skew:
        raise ClockError(f"Signature expired: {stamp} is now earlier than {here} less {skew / 60:.0f} min.")
    if signed > now + skew:
        raise ClockError(f"Signature not yet current: {stamp} is still later than {here} plus {skew / 60:.0f} min.")


def _canonical_query(query: str) -> str:
    pairs = []
    for part in query.split("&") if query else []:
        name, _, value = part.partition("=")
        pairs.append((quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~")))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))
