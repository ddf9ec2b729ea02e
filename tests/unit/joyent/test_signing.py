from __future__ import annotations

import base64
import importlib.util
import re
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from components.joyent import fingerprints, signing
from components.joyent.errors import ConfigurationError
from components.joyent.fingerprints import md5_of, sha256_of
from components.joyent.signing import blob_of, find_signer, signer_of

KEYS: dict[str, Any] = {
    "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}
ALGORITHMS = {
    "rsa": "rsa-sha256", "p256": "ecdsa-sha256", "p384": "ecdsa-sha512", "p521": "ecdsa-sha512", "ed25519": "ed25519-sha512"
}  # fmt: skip
HASHES = {"ecdsa-sha256": hashes.SHA256(), "ecdsa-sha512": hashes.SHA512()}
OPENSSH, PKCS8, TRADITIONAL = (
    serialization.PrivateFormat.OpenSSH, serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL
)  # fmt: skip


def pem(key: Any, form: serialization.PrivateFormat = OPENSSH, passphrase: str = "") -> bytes:
    secret = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    text: bytes = key.private_bytes(serialization.Encoding.PEM, form, secret)
    return text


def verify(key: Any, algorithm: str, signature: bytes, message: bytes) -> None:
    public = key.public_key()
    if algorithm == "rsa-sha256":
        public.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    elif algorithm == "ed25519-sha512":
        public.verify(signature, message)
    else:
        public.verify(signature, message, ec.ECDSA(HASHES[algorithm]))


@pytest.mark.parametrize("form", [OPENSSH, PKCS8, TRADITIONAL])
@pytest.mark.parametrize("kind", KEYS)
def test_each_kind_of_key_signs_as_the_server_verifies(kind: str, form: serialization.PrivateFormat) -> None:
    if kind == "ed25519" and form is TRADITIONAL:
        pytest.skip("there is no such form of an ed25519 key")
    signer = signer_of(pem(KEYS[kind], form), source="it")
    assert signer.algorithm == ALGORITHMS[kind]
    verify(KEYS[kind], signer.algorithm, signer.sign(b"message"), b"message")


def test_the_header_has_the_form_of_the_official_client() -> None:
    signer = signer_of(pem(KEYS["rsa"]), source="it")
    made = signing.headers(signer, account="acct", user="", method="GET", target="/acct/machines?limit=2", date="D")
    assert made["Date"] == "D"
    form = r'Signature keyId="/acct/keys/([0-9a-f:]{47})",algorithm="rsa-sha256",headers="\(request-target\) date",signature="(.+)"'
    found = re.fullmatch(form, made["Authorization"])
    assert found
    assert found[1] == signer.md5
    text = b"(request-target): get /acct/machines?limit=2\ndate: D"
    verify(KEYS["rsa"], "rsa-sha256", base64.b64decode(found[2]), text)


def test_a_sub_user_is_in_the_key_id() -> None:
    signer = signer_of(pem(KEYS["ed25519"]), source="it")
    made = signing.headers(signer, account="acct", user="bob", method="GET", target="/acct")
    assert f'keyId="/acct/users/bob/keys/{signer.md5}"' in made["Authorization"]


# How a user may write a fingerprint.
FORMS = ["md5", "with its name", "upper case", "sha256", "sha256 padded"]


def forms_of(kind: str) -> list[str]:
    blob = blob_of(KEYS[kind].public_key())
    return [md5_of(blob), f"MD5:{md5_of(blob)}", md5_of(blob).upper(), sha256_of(blob), sha256_of(blob) + "="]


@pytest.mark.parametrize("key_id", [*forms_of("p256"), "my-laptop", ""], ids=[*FORMS, "name", "none"])
def test_whatever_form_a_key_id_has_the_md5_goes_on_the_wire(key_id: str) -> None:
    signer = signer_of(pem(KEYS["p256"]), source="it", key_id=key_id)
    assert signer.md5 == forms_of("p256")[0]


@pytest.mark.parametrize("key_id", forms_of("rsa"), ids=FORMS)
def test_another_key_than_the_key_id_says_is_refused(key_id: str) -> None:
    with pytest.raises(ConfigurationError, match=r"not .* as the key id says"):
        signer_of(pem(KEYS["p256"]), source="it", key_id=key_id)


@pytest.mark.parametrize("form", [PKCS8, TRADITIONAL])
def test_an_encrypted_key_needs_its_passphrase(form: serialization.PrivateFormat) -> None:
    text = pem(KEYS["rsa"], form, "open sesame")
    with pytest.raises(ConfigurationError, match=r"encrypted.*TRITON_KEY_PASSPHRASE"):
        signer_of(text, source="it")
    with pytest.raises(ConfigurationError, match="the passphrase is wrong"):
        signer_of(text, source="it", passphrase="no")
    assert signer_of(text, source="it", passphrase="open sesame").md5 == forms_of("rsa")[0]


# Made by `ssh-keygen -t ed25519 -N "open sesame"`; used nowhere else.
ENCRYPTED = b"""-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABA5tO0Ejo
12OL+qISfKNgG1AAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIAn9hHrLuxgiRd6r
BscHwinzqUJr9G35tVKhRT4PnOo2AAAAkNTTHiiOEIB0f6UwqIBM/rQTEgm/r1RYCdEgVY
5F3MA8GoLk+8PVGSe3NfZ4X35sKl3zYlIq1IC4SV5J1HVnz9wux92ichDCiNkWMn+KYVGL
9utg87z67hTDpYOQGb4LX10F+zW/KkUllnaIDl+heWGlu6y94nk4yfFEXRo7vIB0P+Oirb
hz1pI82uCL7Gb+Jw==
-----END OPENSSH PRIVATE KEY-----
"""


def test_an_encrypted_openssh_key_needs_its_passphrase() -> None:
    with pytest.raises(ConfigurationError, match=r"encrypted.*TRITON_KEY_PASSPHRASE"):
        signer_of(ENCRYPTED, source="it")


def test_an_encrypted_openssh_key_is_opened_or_the_missing_package_is_named() -> None:
    if importlib.util.find_spec("bcrypt"):
        assert signer_of(ENCRYPTED, source="it", passphrase="open sesame").algorithm == "ed25519-sha512"
    else:
        with pytest.raises(ConfigurationError, match="pip install bcrypt"):
            signer_of(ENCRYPTED, source="it", passphrase="open sesame")


def test_a_passphrase_that_is_not_needed_does_no_harm() -> None:
    assert signer_of(pem(KEYS["rsa"]), source="it", passphrase="x").md5 == forms_of("rsa")[0]


def public_text(kind: str) -> bytes:
    text: bytes = (
        KEYS[kind].public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    )
    return text


def test_an_unusable_private_key_is_described() -> None:
    with pytest.raises(ConfigurationError, match="a public key"):
        signer_of(public_text("rsa"), source="it")
    with pytest.raises(ConfigurationError, match="not a private key"):
        signer_of(b"hello", source="it")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        signer_of(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", source="it")
    with pytest.raises(ConfigurationError, match="CloudAPI takes RSA, ECDSA and ed25519"):
        signer_of(pem(dsa.generate_private_key(1024), PKCS8), source="it")


@pytest.mark.parametrize("parts", [("d",), ("dmp1",), ("iqmp",), ("d", "dmp1")], ids="-".join)
def test_an_inconsistent_rsa_key_signs_correctly_or_is_refused(parts: tuple[str, ...]) -> None:
    numbers = KEYS["rsa"].private_numbers()
    broken = {name: getattr(numbers, name) for name in ("p", "q", "d", "dmp1", "dmq1", "iqmp")}
    broken |= {name: broken[name] - 2 for name in parts}
    key = rsa.RSAPrivateNumbers(**broken, public_numbers=numbers.public_numbers).private_key(
        unsafe_skip_rsa_key_validation=True
    )
    if len(parts) == 1:
        # OpenSSL checks what it computed from some parts, and computes it from the others where it is wrong.
        verify(key, "rsa-sha256", signer_of(pem(key, PKCS8), source="it").sign(b"text"), b"text")
    else:
        with pytest.raises(ConfigurationError, match=r"it: it cannot be read \(it does not sign"):
            signer_of(pem(key, PKCS8), source="it")


def test_a_signer_does_not_show_its_key() -> None:
    signer = signer_of(pem(KEYS["rsa"]), source="it")
    assert repr(signer) == f"KeySigner({signer.md5}, rsa-sha256)"


def find(tmp_path: Path, environ: dict[str, str] | None = None, /, **given: str) -> fingerprints.Signer:
    given_settings = {"key_id": "", "key_file": "", "key_material": "", "passphrase": "", **given}
    return find_signer(**given_settings, environ=environ or {}, home=tmp_path)


def test_a_key_is_found_in_ssh_by_its_fingerprint(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    for kind in ("rsa", "p256"):
        (tmp_path / ".ssh" / f"id_{kind}").write_bytes(pem(KEYS[kind]))
        (tmp_path / ".ssh" / f"id_{kind}.pub").write_bytes(public_text(kind) + b" me@home\n")
    for key_id in forms_of("p256"):
        assert find(tmp_path, key_id=key_id).algorithm == "ecdsa-sha256"


def test_a_key_file_and_material_are_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(pem(KEYS["rsa"]))
    assert find(tmp_path, key_file=str(path)).algorithm == "rsa-sha256"
    assert find(tmp_path, key_material=pem(KEYS["rsa"]).decode()).algorithm == "rsa-sha256"
    assert find(tmp_path, key_material=str(path)).algorithm == "rsa-sha256"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "TRITON_KEY_ID: is not set"),
        ({"key_id": forms_of("rsa")[0]}, "no key .* in an ssh-agent or in ~/.ssh. Set TRITON_KEY_FILE"),
        ({"key_file": "/nowhere/key"}, "/nowhere/key: cannot be read .No such file.*TRITON_KEY_FILE"),
    ],
)
def test_a_missing_key_names_the_fix(tmp_path: Path, given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        find(tmp_path, None, **given)


class Agent:
    """An ssh-agent with some keys (draft-ietf-sshm-ssh-agent), one request a connection."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.flags: list[int] = []
        self.locked = False
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(self.path)
        self._server.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.connect(self.path)
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        while True:
            client, _ = self._server.accept()
            with client:
                head = client.recv(4)
                if not head:
                    return
                answer = self._answer(client.recv(struct.unpack(">I", head)[0]))
                client.sendall(struct.pack(">I", len(answer)) + answer)

    def _answer(self, request: bytes) -> bytes:
        if request[0] == 11:
            keys = b"".join(text(blob_of(key.public_key())) + text(kind.encode()) for kind, key in KEYS.items())
            return b"\x0c" + struct.pack(">I", len(KEYS)) + keys
        blob, rest = take(request[1:])
        message, flags = take(rest)
        self.flags.append(struct.unpack(">I", flags)[0])
        key = next(key for key in KEYS.values() if blob_of(key.public_key()) == blob)
        return b"\x05" if self.locked else b"\x0e" + text(text(b"kind") + text(self._signed(key, message)))

    def _signed(self, key: Any, message: bytes) -> bytes:
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key.sign(message)
        digest = {256: hashes.SHA256(), 521: hashes.SHA512()}[key.key_size]
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
        return text(mpint(r)) + text(mpint(s))


def text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def take(data: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack(">I", data[:4])
    return data[4 : 4 + length], data[4 + length :]


def mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    running = Agent(tmp_path / "agent")
    yield running
    running.close()


@pytest.mark.parametrize("kind", ["rsa", "p256", "p521", "ed25519"])
def test_an_agent_signs_as_a_file_does(tmp_path: Path, agent: Agent, kind: str) -> None:
    for key_id in (forms_of(kind)[0], forms_of(kind)[3], kind):
        signer = find(tmp_path, {"SSH_AUTH_SOCK": agent.path}, key_id=key_id)
        assert signer.md5 == forms_of(kind)[0]
        assert signer.algorithm == ALGORITHMS[kind]
        verify(KEYS[kind], signer.algorithm, signer.sign(b"message"), b"message")
        assert agent.flags[-1] == (2 if kind == "rsa" else 0)


def test_p384_through_an_agent_is_refused_with_the_way_out(tmp_path: Path, agent: Agent) -> None:
    with pytest.raises(ConfigurationError, match=r"does not work through an agent. Set TRITON_KEY_FILE"):
        find(tmp_path, {"SSH_AUTH_SOCK": agent.path}, key_id="p384")


def test_a_locked_agent_is_named(tmp_path: Path, agent: Agent) -> None:
    signer = find(tmp_path, {"SSH_AUTH_SOCK": agent.path}, key_id="rsa")
    agent.locked = True
    with pytest.raises(ConfigurationError, match=r"refuses to sign.*Unlock it"):
        signer.sign(b"message")


def test_an_ssh_agent_that_is_gone_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no key x in an ssh-agent"):
        find(tmp_path, {"SSH_AUTH_SOCK": str(tmp_path / "none")}, key_id="x")
