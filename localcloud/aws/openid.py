"""OpenID Connect tokens, verified as STS does: signed with a known key of the issuer, and not expired.

https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_create_oidc.html
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from localcloud.aws.wire import AwsError


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a verified token says. `issuer` is a URL."""

    issuer: str
    audience: str
    subject: str

    @property
    def host(self) -> str:
        """The issuer as IAM names it in ARNs and condition keys."""
        return self.issuer.removeprefix("https://")


class Issuers:
    """The keys that issuers publish, which real STS fetches from them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._keys: dict[str, rsa.RSAPublicKey] = {}

    def add(self, url: str, key: rsa.RSAPublicKey) -> None:
        self._keys[url] = key

    def verified(self, token: str) -> Claims:
        """Raises AwsError for a token that is malformed, of an unknown issuer, forged or expired."""
        head, body, signature = _parts(token)
        issuer = str(body.get("iss", ""))
        key = self._keys.get(issuer)
        if key is None or head.get("alg") != "RS256":
            raise _invalid("Couldn't retrieve verification key from your identity provider")
        try:
            key.verify(signature, token.rpartition(".")[0].encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature as forged:
            raise _invalid("Invalid token signature") from forged
        if float(body.get("exp", 0)) <= self._clock():
            raise AwsError("ExpiredTokenException", "Token expired")
        return Claims(issuer=issuer, audience=str(body.get("aud", "")), subject=str(body.get("sub", "")))


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    try:
        head, body, signature = (base64.urlsafe_b64decode(each + "=" * (-len(each) % 4)) for each in token.split("."))
        return dict(json.loads(head)), dict(json.loads(body)), signature
    except ValueError as wrong:
        raise _invalid("The ID Token provided is not a valid JWT") from wrong


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidIdentityToken", message)
