"""Sign CloudAPI requests: `Authorization: Signature …` over `(request-target)` and `date`, like the official client.

A key comes as a file, as PEM text, or stays inside an ssh-agent. The key's id on the wire is always the MD5
fingerprint, whatever form the user configured (server: lib/auth.js takes a key's name or its MD5, nothing else).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from components.joyent.errors import ConfigurationError
from components.joyent.fingerprints import Signer, is_fingerprint, md5_of, names

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True)
class KeySigner:
    """Signs with a private key in this process. The key is not shown by `repr`."""

    md5: str
    algorithm: str
    _sign: Callable[[bytes], bytes]

    def __repr__(self) -> str:
        return f"KeySigner({self.md5}, {self.algorithm})"

    def sign(self, message: bytes) -> bytes:
        return self._sign(message)


def headers(
    signer: Signer, *, account: str, user: str, method: str, target: str, date: str | None = None
) -> dict[str, str]:
    """Return the `Date` and `Authorization` headers of one request. `target` is the path with its query.

    The server's parser refuses a space after a comma in the parameters.
    """
    date = date or formatdate(usegmt=True)
    text = f"(request-target): {method.lower()} {target}\ndate: {date}"
    signature = base64.b64encode(signer.sign(text.encode())).decode()
    owner = f"/{account}/users/{user}" if user else f"/{account}"
    parameters = (
        f'keyId="{owner}/keys/{signer.md5}",algorithm="{signer.algorithm}",'
        f'headers="(request-target) date",signature="{signature}"'
    )
    return {"Date": date, "Authorization": f"Signature {parameters}"}


def blob_of(key: PublicKey) -> bytes:
    text = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return base64.b64decode(text.split()[1])


def algorithm_of(key: PublicKey) -> tuple[str, hashes.HashAlgorithm | None]:
    """Return the algorithm's name on the wire and its hash.

    P-384's usual hash is SHA-384, which the server's http-signature does not know. It accepts the key with SHA-512.
    """
    if isinstance(key, rsa.RSAPublicKey):
        return "rsa-sha256", hashes.SHA256()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return ("ecdsa-sha256", hashes.SHA256()) if key.key_size == 256 else ("ecdsa-sha512", hashes.SHA512())
    return "ed25519-sha512", None


def signer_of(pem: bytes, *, source: str, passphrase: str = "", key_id: str = "") -> KeySigner:
    """Return a signer for a private key as text (OpenSSH, PKCS#1, PKCS#8, SEC1).

    `source` says where the key comes from, for messages. With `key_id` as a fingerprint the key must be that one; any
    other `key_id` is taken as the key's name in the account. Raises ConfigurationError.
    """
    key = _load(pem, source, passphrase)
    blob = blob_of(key.public_key())
    if is_fingerprint(key_id) and not names(key_id, blob):
        raise ConfigurationError(
            f"{source}: is the key {md5_of(blob)}, not {key_id} as the key id says. Correct one of them."
        )
    name, digest = algorithm_of(key.public_key())
    return KeySigner(md5_of(blob), name, _signing(key, digest))


def _signing(key: PrivateKey, digest: hashes.HashAlgorithm | None) -> Callable[[bytes], bytes]:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign
    assert digest is not None
    if isinstance(key, rsa.RSAPrivateKey):
        return lambda message: key.sign(message, padding.PKCS1v15(), digest)
    return lambda message: key.sign(message, ec.ECDSA(digest))


def _load(pem: bytes, source: str, passphrase: str) -> PrivateKey:
    openssh = b"BEGIN OPENSSH PRIVATE KEY" in pem
    if not openssh and b"PRIVATE KEY-----" not in pem:
        public = pem.lstrip().startswith((b"ssh-", b"ecdsa-")) or b"PUBLIC KEY" in pem
        kind = "a public key" if public else "not a private key"
        raise ConfigurationError(f"{source}: is {kind}. Name the private key that signs the requests (OpenSSH or PEM).")
    loader = serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
    secret = passphrase.encode() if passphrase else None
    encrypted = _encrypted(pem, openssh)
    if encrypted and secret is None:
        raise ConfigurationError(
            f"{source}: is encrypted and there is no passphrase. Set TRITON_KEY_PASSPHRASE, or add the key to an ssh-agent."
        )
    try:
        # To check whether the parts of an RSA key are primes takes half a second for 4,096 bits; the signature below is tried instead.
        key = loader(pem, password=secret if encrypted else None, unsafe_skip_rsa_key_validation=True)
    except UnsupportedAlgorithm as lacking:
        # OpenSSH encrypts its keys with bcrypt, for which `cryptography` needs a separate package.
        raise ConfigurationError(
            f"{source}: cannot be opened here ({lacking}). Run `pip install bcrypt`, or add the key to an ssh-agent."
        ) from lacking
    except (ValueError, TypeError) as unusable:
        problem = "the passphrase is wrong" if encrypted else f"it cannot be read ({unusable})"
        fix = "Correct TRITON_KEY_PASSPHRASE" if encrypted else "Name a private key"
        raise ConfigurationError(f"{source}: {problem}. {fix}.") from unusable
    if not isinstance(key, PrivateKey):
        raise ConfigurationError(
            f"{source}: is a {type(key).__name__}, and CloudAPI takes RSA, ECDSA and ed25519 keys. Name one of these."
        )
    if isinstance(key, rsa.RSAPrivateKey):
        _try(key, source)
    return key


def _try(key: rsa.RSAPrivateKey, source: str) -> None:
    """Sign with a key, and check the signature with its public part. Raises ConfigurationError."""
    try:
        signature = key.sign(b"", padding.PKCS1v15(), hashes.SHA256())
        key.public_key().verify(signature, b"", padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError) as unusable:
        raise ConfigurationError(
            f"{source}: it cannot be read (it does not sign what its public key verifies). Name a private key."
        ) from unusable


def _encrypted(pem: bytes, openssh: bool) -> bool:
    if not openssh:
        return b"ENCRYPTED" in pem
    # PROTOCOL.key of OpenSSH: magic "openssh-key-v1\0", then the cipher's name as a string; "none" is unencrypted.
    body = b"".join(line for line in pem.splitlines() if line and not line.startswith(b"-----"))
    try:
        return base64.b64decode(body)[15:23] != b"\x00\x00\x00\x04none"
    except ValueError:
        return False


def find_signer(
    *,
    key_id: str,
    key_file: str,
    key_material: str,
    passphrase: str,
    environ: Mapping[str, str],
    home: Path | None = None,
) -> Signer:
    """Return the signer that the user means: text first, then a file, then the ssh-agent, then ~/.ssh by fingerprint.

    Raises ConfigurationError when none fits.
    """
    if key_material and "PRIVATE KEY-----" not in key_material and Path(key_material).expanduser().is_file():
        key_file, key_material = key_material, ""
    if key_material:
        return signer_of(key_material.encode(), source="TRITON_KEY_MATERIAL", passphrase=passphrase, key_id=key_id)
    if key_file:
        return _from_file(Path(key_file).expanduser(), passphrase, key_id)
    if not key_id:
        raise ConfigurationError(
            "TRITON_KEY_ID: is not set. Set it to the fingerprint of a key, and TRITON_KEY_FILE unless an ssh-agent has the key."
        )
    from components.joyent.agent import signer_from_agent

    found = signer_from_agent(key_id, environ.get("SSH_AUTH_SOCK", ""))
    if found is not None:
        return found
    for public in sorted(((home or Path.home()) / ".ssh").glob("*.pub")):
        words = public.read_text(errors="replace").split()
        private = public.with_suffix("")
        if len(words) >= 2 and private.is_file() and is_fingerprint(key_id) and names(key_id, _decoded(words[1])):
            return _from_file(private, passphrase, key_id)
    raise ConfigurationError(
        f"TRITON_KEY_ID: no key {key_id} in an ssh-agent or in ~/.ssh. Set TRITON_KEY_FILE to its private key, or ssh-add it."
    )


def _from_file(path: Path, passphrase: str, key_id: str) -> KeySigner:
    try:
        pem = path.read_bytes()
    except OSError as unreadable:
        raise ConfigurationError(
            f"{path}: cannot be read ({unreadable.strerror}). Set TRITON_KEY_FILE."
        ) from unreadable
    return signer_of(pem, source=f"the key file {path}", passphrase=passphrase, key_id=key_id)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""
