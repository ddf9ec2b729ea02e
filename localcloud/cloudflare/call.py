"""A request to the API: its caller, its parameters, and the caller's permissions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from werkzeug.wrappers import Request

from localcloud.cloudflare import errors
from localcloud.cloudflare.permissions import ZONE
from localcloud.cloudflare.store import Store, Zone
from localcloud.cloudflare.tokens import WELL_FORMED, Token


@dataclass(frozen=True)
class Reply:
    """What goes into the envelope of a success."""

    result: Any
    info: Mapping[str, Any] | None = None
    messages: Sequence[Mapping[str, Any]] = ()


@dataclass
class Call:
    """A request. `args` are the variables of its route. `token` identifies the caller; it is None only if the route needs no token."""

    store: Store
    request: Request
    args: Mapping[str, str]
    token: Token | None
    query: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.query = self.request.args.to_dict()

    @property
    def now(self) -> float:
        return self.store.clock()

    def body(self) -> Mapping[str, Any]:
        """The JSON object that was sent. Raises ApiError."""
        try:
            body = json.loads(self.request.get_data(), parse_constant=_no_json, parse_float=_finite)
        except (ValueError, RecursionError) as unreadable:
            raise errors.unreadable_body() from unreadable
        if self.request.mimetype != "application/json" or not isinstance(body, dict):
            raise errors.unreadable_body()
        return body

    def may(self, names: Iterable[str], resource: str) -> bool:
        zone = self.store.zones.get(resource.rpartition(".")[2]) if resource.startswith(f"{ZONE}.") else None
        account = zone.account if zone is not None else self.store.account_id
        if self.token is None or (self.token.owner == "account" and account != self.store.account_id):
            return False
        return self.token.grants.allow(names, resource, account)

    def need(self, names: Iterable[str], resource: str, refusal: errors.ApiError | None = None) -> None:
        """Raise ApiError unless one of these permission groups is granted on the resource."""
        if not self.may(names, resource):
            raise refusal or errors.unauthorized()

    def zone(self, names: Iterable[str], refusal: errors.ApiError, missing: errors.ApiError) -> Zone:
        """Return the zone of the route. Raise `refusal` if the token lacks the permission, and `missing` if there is no such zone."""
        zone_id = self.args["zone_id"]
        self.need(names, f"{ZONE}.{zone_id}", refusal)
        found = self.store.zones.get(zone_id)
        if found is None:
            raise missing
        return found


def authenticated(request: Request, store: Store, *, verifies: bool) -> Token:
    """Return the token of a request. Raises ApiError.

    `verifies`: the request is about the token itself, so it is answered even if the token is expired or disabled.
    """
    header = request.headers.get("Authorization")
    if header is None:
        given = "X-Auth-Key" in request.headers or "X-Auth-Email" in request.headers
        raise errors.bad_auth_key() if given else errors.no_credentials()
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "bearer" or not WELL_FORMED.fullmatch(value):
        raise errors.bad_authorization()
    with store.lock:
        token = store.tokens.known(value)
    if token is None:
        raise errors.unknown_token() if verifies else errors.invalid_access_token()
    if not verifies:
        token.check_use(request.remote_addr or "", store.clock())
        with store.lock:
            store.tokens.use(token, store.clock())
    return token


def _no_json(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is out of range")
    return number
