"""Get a certificate for a host by ACME (RFC 8555) and DNS-01, with certbot's library `acme`.

The stack's program uses this module too (components/dns/acme_account.py). On a machine, `acme` is Debian's package python3-acme. The agent
installs it when a site needs it.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rollcall.cloudflare import CloudflareStore, Record
from rollcall.errors import FatalError, RollcallError, TransientError

if TYPE_CHECKING:
    from rollcall.rfc2136 import Rfc2136Zone
    from rollcall.settings import Join

TTL_S = 60
# For a CA that validates from several places, each with its own resolver.
VISIBLE_WITHIN_S, ISSUED_WITHIN_S = 120.0, 120.0
# Let's Encrypt's failed validations and orders come back within an hour: https://letsencrypt.org/docs/rate-limits/
AFTER_LIMIT_S = 3600.0
_POINTER = re.compile(r"rollcall certificate=(/\S+) until=(\d+) key=([0-9a-f]{16})")
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----\n?", re.S)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A certificate with its private key, and the ACME account that renews it. All are PEM.

    `since` and `until` are the first and the last second of the certificate's validity, since 1970.
    """

    directory: str
    since: int
    until: int
    key: str
    account: str
    chain: str

    @classmethod
    def parse(cls, text: str) -> Bundle:
        """Read what the program wrote (components/dns/acme_account.py). Raises FatalError, and its message has no part of it."""
        words = text.partition("\n")[0].split()
        blocks = [(each[1], each[0].rstrip("\n") + "\n") for each in _BLOCK.finditer(text)]
        keys = [block for kind, block in blocks if kind == "PRIVATE KEY"]
        chain = "".join(block for kind, block in blocks if kind == "CERTIFICATE")
        if len(words) != 4 or words[0] != "acme" or len(keys) != 2 or not chain:
            raise FatalError("reason=bad-certificate-secret")
        return cls(
            directory=words[1], since=int(words[2]), until=int(words[3]), key=keys[0], account=keys[1], chain=chain
        )

    @property
    def word(self) -> str:
        """A word that changes with the certificate. The certificate is public."""
        return hashlib.sha256(self.chain.encode()).hexdigest()[:8]

    def left(self, now: float) -> float:
        """Return which part of its validity remains: 1 for a new one, 0 or less for one that has expired."""
        return (self.until - now) / max(self.until - self.since, 1)


@dataclass(frozen=True, order=True, kw_only=True)
class Pointer:
    """The newest certificate of a host, as DNS has it beside the challenges.

    `path` is where the CA has it, `until` its end, and `key` a hash of its public key.
    """

    until: int
    path: str
    key: str

    @property
    def text(self) -> str:
        return f"rollcall certificate={self.path} until={self.until} key={self.key}"


def pointers(texts: list[str]) -> list[Pointer]:
    """Return the pointers among these texts, the newest last."""
    found = filter(None, (_POINTER.fullmatch(each.strip('"')) for each in texts))
    return sorted(Pointer(path=each[1], until=int(each[2]), key=each[3]) for each in found)


def challenge_host(host: str) -> str:
    """Return the name at which a CA looks for the challenge of a host (RFC 8555 section 8.4)."""
    return f"_acme-challenge.{host}".lower()


class CloudflareTexts:
    """The texts in a Cloudflare zone, by its id."""

    def __init__(self, store: CloudflareStore, zone: str, host: str) -> None:
        self._store, self._zone, self._name = store, zone, challenge_host(host)

    def _records(self) -> list[Record]:
        return [each for each in self._store.list(self._zone, self._name) if each.type == "TXT"]

    def list(self) -> list[str]:
        return [each.content.strip('"') for each in self._records()]

    def add(self, text: str) -> None:
        if text not in self.list():
            self._store.create(
                Record(name=self._name, type="TXT", content=f'"{text}"', ttl=TTL_S, zone=self._zone, comment="rollcall")
            )

    def remove(self, text: str) -> None:
        for each in self._records():
            if each.content.strip('"') == text:
                self._store.delete(self._zone, each.id)


class Rfc2136Texts:
    """The texts in a zone that takes dynamic updates."""

    def __init__(self, zone: Rfc2136Zone, host: str) -> None:
        self._zone, self._name = zone, challenge_host(host)

    def list(self) -> list[str]:
        return [value.strip('"') for each in self._zone.at(self._name, ("TXT",)) for value in each.values]

    def add(self, text: str) -> None:
        update = self._zone.message()
        update.add(f"{self._name}.", TTL_S, "TXT", f'"{text}"')
        self._zone.send(update)

    def remove(self, text: str) -> None:
        update = self._zone.message()
        update.delete(f"{self._name}.", "TXT", f'"{text}"')
        self._zone.send(update)


# The TXT records at the name of a host's challenges: a list of them without quotes, and how to add and remove one.
Texts = CloudflareTexts | Rfc2136Texts


def _rfc2136(join: Any, secret: Callable[[str], str]) -> Texts:
    # A machine that boots reads its identity before dnspython is installed.
    from rollcall.rfc2136 import Rfc2136Zone, TsigKey

    return Rfc2136Texts(Rfc2136Zone(join.domain, join.server, TsigKey.parse(secret(join.key))), join.host)


# By the first word of a site's settings (rollcall.settings.KINDS).
_TEXTS: dict[str, Callable[[Any, Callable[[str], str]], Texts]] = {
    "cloudflare": lambda join, secret: CloudflareTexts(CloudflareStore(secret(join.token)), join.zone, join.host),
    "rfc2136-site": _rfc2136,
}


def texts_of(join: Join, secret: Callable[[str], str]) -> Texts:
    """Return the TXT records at the challenge of a site, with the rights of this machine. `secret` returns a secret by its name."""
    return _TEXTS[join.KIND](join, secret)


def publish(texts: Texts, pointer: Pointer) -> None:
    """Write a pointer, and then remove older ones."""
    texts.add(pointer.text)
    for each in pointers(texts.list()):
        if each < pointer:
            texts.remove(each.text)


def key_hash(key: str) -> str:
    """Return a hash of the public part of a private key."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return _hash(load_pem_private_key(key.encode(), None).public_key())


def _hash(public: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()[:16]


def checked(chain: str, key: str, host: str) -> tuple[int, int]:
    """Return the first and the last second of a certificate. Raises FatalError if it is not for this key and host."""
    from cryptography import x509

    try:
        leaf = x509.load_pem_x509_certificate(chain.encode())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        good = _hash(leaf.public_key()) == key_hash(key) and host.lower() in names.get_values_for_type(x509.DNSName)
    except (ValueError, x509.ExtensionNotFound):
        good = False
    if not good:
        raise FatalError(f"reason=another-certificate host={host}")
    return _epoch(leaf, "not_valid_before"), _epoch(leaf, "not_valid_after")


def _epoch(leaf: Any, name: str) -> int:
    # Debian 12 has version 38 of cryptography, which has no `not_valid_after_utc`.
    at = getattr(leaf, f"{name}_utc", None) or getattr(leaf, name).replace(tzinfo=datetime.timezone.utc)
    return int(at.timestamp())


class Client:
    """An ACME account at a CA. `directory` is the URL of the CA's directory, `account` the account's private key.

    Every method raises TransientError if another try may help, otherwise FatalError, with what the CA answered.
    """

    def __init__(self, directory: str, account: str, trust: str = "") -> None:
        self.directory = directory
        self.account, self.trust = account, trust
        self.client: Any = None

    @contextlib.contextmanager
    def understood(self, doing: str) -> Iterator[None]:
        """Turn what the library raises into errors of Rollcall. `doing` is what fails."""
        import requests
        from acme import errors, messages

        where = f"api=acme ca={urlsplit(self.directory).hostname} doing={doing}"
        try:
            yield
        except requests.RequestException as failed:
            raise TransientError(f"reason=unreachable {where} error={type(failed).__name__}") from failed
        except messages.Error as refused:
            raise _refusal(refused, where) from refused
        except errors.ValidationError as failed:
            details = [each.error.detail for one in failed.failed_authzrs for each in one.body.challenges if each.error]
            raise FatalError(f"reason=challenge-failed {where} said={' '.join(map(str, details))[:300]!r}") from failed
        except errors.TimeoutError as late:
            raise TransientError(f"reason=late {where}") from late
        except (errors.Error, ValueError, KeyError, AttributeError) as other:
            raise TransientError(f"reason=api-failing {where} error={type(other).__name__}") from other

    def open(self, key: str = "") -> Any:
        """Return a client of the library that signs with a key, without an account, and the library's messages."""
        from acme import client, messages
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from josepy.jwa import ES256
        from josepy.jwk import JWKEC

        # The library passes it on to requests, which also takes the path of a file.
        verify: Any = self.trust or True
        jwk = JWKEC(key=load_pem_private_key((key or self.account).encode(), None))
        net = client.ClientNetwork(jwk, alg=ES256, verify_ssl=verify, user_agent="rollcall", timeout=30)
        return client.ClientV2(client.ClientV2.get_directory(self.directory, net), net), messages

    def opened(self) -> Any:
        """Return a client with the account. It exists already."""
        from acme import errors

        if self.client is None:
            made, messages = self.open()
            try:
                made.new_account(messages.NewRegistration(only_return_existing=True))
            except errors.ConflictError as there:
                # The library says so of an account that exists.
                made.net.account = messages.RegistrationResource(uri=there.location, body=messages.Registration())
            self.client = made
        return self.client

    def issue(self, key: str, host: str, texts: Texts, answered: Callable[[str], bool]) -> tuple[str, str]:
        """Return a new certificate for a key and a host, with its intermediates, and its path at the CA.

        `answered` returns whether the name servers answer with a text at the challenge's name.
        """
        from acme import challenges, messages

        put: list[str] = []
        with self.understood("order"):
            client = self.opened()
            order = client.new_order(_request(key, host))
        try:
            with self.understood("challenge"):
                for authorization in order.authorizations:
                    if authorization.body.status == messages.STATUS_VALID:
                        continue
                    each = next(one for one in authorization.body.challenges if isinstance(one.chall, challenges.DNS01))
                    put.append(each.chall.validation(client.net.key))
                    texts.add(put[-1])
                    _wait(host, put[-1], answered)
                    client.answer_challenge(each, each.chall.response(client.net.key))
            with self.understood("certificate"):
                end = datetime.datetime.now() + datetime.timedelta(seconds=ISSUED_WITHIN_S)
                done = client.poll_and_finalize(order, end)
                return str(done.fullchain_pem), urlsplit(done.body.certificate).path
        finally:
            for text in put:
                with contextlib.suppress(RollcallError):
                    texts.remove(text)

    def download(self, path: str) -> str:
        """Return a certificate of this account, with its intermediates. It may be at the same host as the directory only."""
        at = urlsplit(self.directory)
        with self.understood("download"):
            client = self.opened()
            reply = client.net.post(
                f"{at.scheme}://{at.netloc}{path}", None, new_nonce_url=client.directory["newNonce"]
            )
            return str(reply.text)


def _refusal(refused: Any, where: str) -> RollcallError:
    details = f"{where} code={refused.code} said={str(refused.detail)[:300]!r}"
    if refused.code == "rateLimited":
        return TransientError(f"reason=rate-limited {details}", AFTER_LIMIT_S)
    if refused.code in (None, "badNonce", "serverInternal"):
        return TransientError(f"reason=api-failing {details}")
    return FatalError(f"reason=refused {details}")


def _request(key: str, host: str) -> bytes:
    """Return a request for a certificate (PKCS #10)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    names = x509.SubjectAlternativeName([x509.DNSName(host)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    signed = builder.sign(load_pem_private_key(key.encode(), None), hashes.SHA256())  # type: ignore[arg-type]
    return signed.public_bytes(serialization.Encoding.PEM)


def _wait(host: str, text: str, answered: Callable[[str], bool]) -> None:
    """Wait until the name servers answer with a challenge. A CA that asks too early counts a failed validation."""
    end = time.monotonic() + VISIBLE_WITHIN_S
    while not answered(text):
        if time.monotonic() > end:
            name = challenge_host(host)
            raise TransientError(f"reason=challenge-not-visible name={name}")
        time.sleep(1)
