"""Sign with a key that stays in an ssh-agent (draft-ietf-sshm-ssh-agent)."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from components.joyent.errors import ConfigurationError
from components.joyent.fingerprints import Signer, is_fingerprint, md5_of, names

_REQUEST_IDENTITIES, _IDENTITIES_ANSWER, _SIGN_REQUEST, _SIGN_RESPONSE = 11, 12, 13, 14
_RSA_SHA2_256 = 2
_ALGORITHMS = {
    "ssh-rsa": "rsa-sha256",
    "ecdsa-sha2-nistp256": "ecdsa-sha256",
    "ecdsa-sha2-nistp521": "ecdsa-sha512",
    "ssh-ed25519": "ed25519-sha512",
}


@dataclass(frozen=True)
class AgentSigner:
    """A key of the agent behind the Unix socket `path`; each signature is one short connection."""

    path: str
    blob: bytes
    md5: str
    algorithm: str

    def sign(self, message: bytes) -> bytes:
        """Sign a message. Raises ConfigurationError when the agent refuses (locked, confirmation denied) or is gone."""
        flags = _RSA_SHA2_256 if self.algorithm == "rsa-sha256" else 0
        answer = _request(self.path, _SIGN_REQUEST, _string(self.blob) + _string(message) + struct.pack(">I", flags))
        if answer[:1] != bytes([_SIGN_RESPONSE]):
            raise ConfigurationError(f"ssh-agent: refuses to sign with {self.md5}. Unlock it, or set TRITON_KEY_FILE.")
        signature, _ = _take(answer[1:])
        _, rest = _take(signature)
        raw, _ = _take(rest)
        return _as_der(raw) if self.algorithm.startswith("ecdsa") else raw


def signer_from_agent(key_id: str, path: str) -> Signer | None:
    """Return the agent's key with the fingerprint or the comment `key_id`; None without such a key or without an agent.

    Raises ConfigurationError for a P-384 key: an agent always uses SHA-384 for it, which CloudAPI does not know.
    """
    if not path:
        return None
    try:
        answer = _request(path, _REQUEST_IDENTITIES, b"")
    except ConfigurationError:
        return None
    if answer[:1] != bytes([_IDENTITIES_ANSWER]):
        return None
    (count,) = struct.unpack(">I", answer[1:5])
    rest = answer[5:]
    for _ in range(count):
        blob, rest = _take(rest)
        comment, rest = _take(rest)
        if names(key_id, blob) if is_fingerprint(key_id) else comment.decode(errors="replace") == key_id:
            kind = _take(blob)[0].decode()
            if kind not in _ALGORITHMS:
                raise ConfigurationError(
                    f"ssh-agent: its key {key_id} is {kind}, which does not work through an agent. Set TRITON_KEY_FILE."
                )
            return AgentSigner(path, blob, md5_of(blob), _ALGORITHMS[kind])
    return None


def _request(path: str, kind: int, body: bytes) -> bytes:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(30)
            agent.connect(path)
            agent.sendall(struct.pack(">IB", len(body) + 1, kind) + body)
            (length,) = struct.unpack(">I", _exactly(agent, 4))
            return _exactly(agent, length)
    except OSError as gone:
        raise ConfigurationError(
            f"ssh-agent: does not answer at {path} ({gone}). Start it, or set TRITON_KEY_FILE."
        ) from gone


def _exactly(agent: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        part = agent.recv(count - len(got))
        if not part:
            raise ConnectionError("it closed the connection")
        got += part
    return got


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _take(data: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack(">I", data[:4])
    return data[4 : 4 + length], data[4 + length :]


def _as_der(raw: bytes) -> bytes:
    r, rest = _take(raw)
    s, _ = _take(rest)
    return encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
