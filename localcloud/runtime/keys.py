"""The operator's credentials on the local clouds: new ones for each run, in files that only their owner may read."""

from __future__ import annotations

import base64
import hashlib
import secrets
import string
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


class Keys:
    """The operator's credentials, made for this run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        letters = string.ascii_letters + string.digits
        self.cloudflare = "".join(secrets.choice(letters) for _ in range(40))
        self.aws = (
            "AKIA" + "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(16)),
            "".join(secrets.choice(letters) for _ in range(40)),
        )
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        self.triton_public = public.decode()
        self.triton_fingerprint = fingerprint(self.triton_public)
        self.triton_file = folder / "triton_rsa"
        self.triton_file.touch(mode=0o600)
        self.triton_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        )
        self.triton_file.with_name("triton_rsa.pub").write_text(f"{self.triton_public}\n")

    def forget(self) -> None:
        for file in self._folder.glob("*"):
            file.unlink()


def fingerprint(public: str) -> str:
    """The MD5 fingerprint of an OpenSSH public key, as CloudAPI writes it: 16 bytes in hex with colons."""
    digest = hashlib.md5(base64.b64decode(public.split()[1])).hexdigest()  # noqa: S324 - CloudAPI's own form
    return ":".join(digest[at : at + 2] for at in range(0, 32, 2))
