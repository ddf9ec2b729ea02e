"""AWS Signature Version 4 in the Authorization header, for services other than S3.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import math
import posixpath
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Credentials:
    """An access key. `token` belongs to temporary credentials, which are valid until `expires` (seconds since 1970)."""

    key_id: str
    secret: str
    token: str = ""
    expires: float = math.inf

    def __repr__(self) -> str:
        return f"Credentials({self.key_id})"


def signature_headers(
    credentials: Credentials,
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    service: str,
    region: str,
    now: float,
) -> dict[str, str]:
    """Return the headers that sign a request: the date, the session token and Authorization.

    `headers` are signed too, and so is the Host header that an HTTP client derives from `url`.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    added = {"X-Amz-Date": stamp}
    if credentials.token:
        added["X-Amz-Security-Token"] = credentials.token
    given = {**headers, "Host": _host(url), **added}
    values = {name.lower(): " ".join(value.split()) for name, value in given.items()}
    names = ";".join(sorted(values))
    canonical = "\n".join(
        (
            method,
            # S3 does not encode a path a second time: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
            urlsplit(url).path if service == "s3" else _canonical_path(urlsplit(url).path),
            _canonical_query(urlsplit(url).query),
            *(f"{name}:{values[name]}" for name in sorted(values)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = "\n".join((_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{credentials.secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    added["Authorization"] = (
        f"{_ALGORITHM} Credential={credentials.key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return added


def encoded(text: str) -> str:
    """Percent-encode all characters except the unreserved ones of RFC 3986."""
    return quote(text, safe="-_.~")


def _host(url: str) -> str:
    """Return the Host header of a request. HTTP clients leave a default port out."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return host.rpartition(":")[0] if parts.port == _DEFAULT_PORTS.get(parts.scheme) else host


def _canonical_path(path: str) -> str:
    """Remove dot segments and empty ones, and encode the path once more, as every service except S3 requires."""
    normal = posixpath.normpath(f"/{path.lstrip('/')}")
    return quote(f"{normal}/" if path.endswith("/") and normal != "/" else normal, safe="/-_.~")


def _canonical_query(query: str) -> str:
    pairs = (part.partition("=") for part in query.split("&") if part)
    # Sort by name and then by value: `a=1` comes before `a-b=1`, although `-` sorts before `=`.
    ordered = sorted((encoded(unquote(name)), encoded(unquote(value))) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in ordered)
