"""Identify the caller: the key that signed a request, its account or sub-user, and whether they have the permission."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from localcloud.triton import signature
from localcloud.triton.catalogue import fixed_id
from localcloud.triton.errors import ApiError, invalid_credentials, invalid_header, not_authorized, not_found
from localcloud.triton.keys import KeyRing
from localcloud.triton.signature import Signed, Wire
from localcloud.triton.store import Store, User
from localcloud.triton.versions import Version

# Accounts that exist but are not ours: the operator's, and a neighbour's.
_OTHERS = ("admin", "neighbour")


@dataclass(frozen=True)
class Caller:
    """`user` is the sub-user, None for the account itself."""

    key_id: str
    user: User | None = None

    def audit(self, address: str) -> dict[str, Any]:
        return {"type": "signature", "ip": address, "keyId": self.key_id}


def parsed(wire: Wire, now: float) -> Signed | None:
    """Return the signature of a request, without reading any key; None if it has none. Raises ApiError 400."""
    header = wire.headers.get("authorization")
    if not header:
        return None
    scheme, _, rest = header.partition(" ")
    if not rest:
        raise invalid_header("BasicAuth content is invalid.")
    return signature.parse(wire, now) if scheme.lower() == "signature" else None


def caller(store: Store, signed: Signed | None, version: Version) -> Caller:
    """Raises ApiError 401; 403 for a disabled account."""
    if signed is None:
        raise invalid_credentials("You must make authenticated requests to use CloudAPI")
    login, user, name = _parts(signed.key_id, version)
    if login not in (store.login, store.id):
        raise invalid_credentials()
    found = _user(store, user) if user is not None else None
    ring: KeyRing = found.keys if found is not None else store.keys
    key = ring.find(name)
    if key is None or not signature.verified(signed, key.public):
        raise invalid_credentials()
    if store.disabled:
        raise not_authorized("Account or user is disabled")
    return Caller(signed.key_id, found)


def authorize(store: Store, user: Caller, account: str, path: str) -> None:
    """Check that `user` may act for the account in a path. Raises ApiError 403, and 404 for an unknown account."""
    if account not in ("my", store.login, store.id):
        if account in _OTHERS or account in [fixed_id(f"account {name}") for name in _OTHERS]:
            raise not_authorized(f"You do not have permission to access {path}")
        raise not_found(f"{account} does not exist")
    if user.user is not None and not user.user.administrator:
        raise not_authorized(f"You do not have permission to access {path}")


def _parts(key_id: str, version: Version) -> tuple[str, str | None, str]:
    """/ACCOUNT/keys/KEY or, from API 7.2 on, /ACCOUNT/users/USER/keys/KEY; nothing else (auth.js, signatureAuth)."""
    words = key_id.split("/")
    if len(words) == 4 and words[2] == "keys":
        return words[1], None, words[3]
    if len(words) == 6 and words[4] == "keys" and version >= (7, 2, 0):
        return words[1], words[3], words[5]
    raise invalid_credentials(f"Invalid KeyId {key_id} in authorization header")


def _user(store: Store, name: str) -> User:
    try:
        return store.user(name)
    except ApiError as unknown:
        raise invalid_credentials() from unknown
