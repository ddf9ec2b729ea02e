"""Calculate the fingerprints of a CloudAPI key, and define what signs with it."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Protocol

_MD5 = re.compile(r"(?:MD5:)?((?:[0-9a-f]{2}:){15}[0-9a-f]{2})", re.IGNORECASE)


class Signer(Protocol):
    """A key that signs.

    `md5` is the colon-hex fingerprint without a prefix. `algorithm` is the name that CloudAPI knows (`rsa-sha256`).
    """

    @property
    def md5(self) -> str: ...

    @property
    def algorithm(self) -> str: ...

    def sign(self, message: bytes) -> bytes:
        """Return the signature of the unhashed `message`: RSA PKCS#1 v1.5, ECDSA as DER, ed25519 as 64 raw bytes."""


def md5_of(blob: bytes) -> str:
    """Return the MD5 fingerprint of a public key in SSH's wire form."""
    digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    return ":".join(digest[at : at + 2] for at in range(0, 32, 2))


def sha256_of(blob: bytes) -> str:
    """Return the fingerprint as `ssh-keygen -l` shows it: `SHA256:` and base64 without padding."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def is_fingerprint(key_id: str) -> bool:
    return bool(_MD5.fullmatch(key_id)) or key_id.startswith("SHA256:")


def names(key_id: str, blob: bytes) -> bool:
    """Return whether the fingerprint `key_id`, in any of its forms, is that of the public key `blob`."""
    md5 = _MD5.fullmatch(key_id)
    if md5:
        return md5[1].lower() == md5_of(blob)
    return key_id.rstrip("=") == sha256_of(blob)
