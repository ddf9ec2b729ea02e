"""SSH keys of an account or of one of its users."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from localcloud.triton.errors import invalid_argument, not_found
from localcloud.triton.signature import PublicKey


@dataclass(frozen=True)
class SshKey:
    name: str
    fingerprint: str
    openssh: str
    public: PublicKey

    def body(self) -> dict[str, Any]:
        return {"name": self.name, "fingerprint": self.fingerprint, "key": self.openssh}


class KeyRing:
    """Keys in the order in which they were added. Names are not unique, fingerprints are."""

    def __init__(self) -> None:
        self._keys: list[SshKey] = []

    def add(self, name: str | None, openssh: str) -> SshKey:
        """Raise ApiError for a text that is not a key, and for a key that exists already."""
        words = openssh.split(" ")
        if len(words) < 2:
            raise invalid_argument("key is invalid")
        refusal = invalid_argument("key already exists or is invalid")
        try:
            public = load_ssh_public_key(openssh.strip().encode())
            digest = hashlib.md5(base64.b64decode(words[1].strip(), validate=True)).hexdigest()  # noqa: S324 - the API's form
        except (ValueError, UnsupportedAlgorithm, binascii.Error) as wrong:
            raise refusal from wrong
        fingerprint = ":".join(digest[at : at + 2] for at in range(0, 32, 2))
        if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
            raise refusal
        if any(key.fingerprint == fingerprint for key in self._keys):
            raise refusal
        key = SshKey(name or fingerprint, fingerprint, openssh, public)
        self._keys = [*self._keys, key]
        return key

    def find(self, name: str) -> SshKey | None:
        """By fingerprint, or else the first with this name."""
        return next(
            (key for key in self._keys if key.fingerprint == name),
            next((key for key in self._keys if key.name == name), None),
        )

    def get(self, name: str) -> SshKey:
        """Raises ApiError 404."""
        key = self.find(name)
        if key is None:
            raise not_found(f"{name} does not exist")
        return key

    def remove(self, name: str) -> None:
        """Raises ApiError 404."""
        gone = self.get(name)
        self._keys = [key for key in self._keys if key is not gone]

    def all(self) -> tuple[SshKey, ...]:
        return tuple(self._keys)
