"""API tokens: made, changed, rolled, and recognised by the hash of their value. The value itself is not kept.

https://developers.cloudflare.com/api/resources/user/subresources/tokens/
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import ipaddress
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localcloud.cloudflare import errors, permissions
from localcloud.cloudflare.model import day_stamp, new_id
from localcloud.cloudflare.permissions import Grants

WELL_FORMED = re.compile(r"[0-9A-Za-z_-]{40,80}")
_ALPHABET = string.ascii_letters + string.digits + "_-"
_LENGTH = 40
_USER_QUOTA, _ACCOUNT_QUOTA = 50, 500


@dataclass(frozen=True, kw_only=True)
class Token:
    """`owner` is `user` or `account`. Times are seconds since the epoch."""

    id: str
    owner: str
    name: str
    digest: str
    grants: Grants
    issued_on: float
    modified_on: float
    status: str = "active"
    not_before: float | None = None
    expires_on: float | None = None
    last_used_on: float | None = None
    condition: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def state(self, now: float) -> str:
        expired = self.expires_on is not None and now >= self.expires_on
        return "expired" if expired else self.status

    def body(self, now: float) -> dict[str, Any]:
        """As the API shows it: without the value."""
        body: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "status": self.state(now),
            "issued_on": day_stamp(self.issued_on),
            "modified_on": day_stamp(self.modified_on),
            "policies": [policy.body() for policy in self.grants.policies],
        }
        for field in ("not_before", "expires_on", "last_used_on"):
            moment = getattr(self, field)
            if moment is not None:
                body[field] = day_stamp(moment)
        if self.condition:
            body["condition"] = dict(self.condition)
        return body

    def check_use(self, address: str, now: float) -> None:
        """Raise ApiError unless the token works now and from this address."""
        too_early = self.not_before is not None and now < self.not_before
        if self.state(now) != "active" or too_early:
            raise errors.invalid_access_token()
        limits = self.condition.get("request_ip", {})
        allowed, barred = limits.get("in"), limits.get("not_in") or ()
        if limits and (not address or (allowed and not _within(address, allowed)) or _within(address, barred)):
            raise errors.wrong_location(address)


class Tokens:
    """All tokens of the user and the account. Not thread-safe: the state's lock guards it."""

    def __init__(self, operator_token: str, now: float) -> None:
        if not WELL_FORMED.fullmatch(operator_token):
            raise ValueError("an API token is 40 to 80 of 0-9 A-Z a-z - _")
        operator = Token(
            id=new_id(),
            owner="user",
            name="operator",
            digest=_digest(operator_token),
            grants=Grants(everything=True),
            issued_on=now,
            modified_on=now,
        )
        self._tokens = {operator.id: operator}
        self._by_digest = {operator.digest: operator.id}

    def known(self, value: str) -> Token | None:
        token_id = self._by_digest.get(_digest(value))
        return self._tokens[token_id] if token_id else None

    def use(self, token: Token, now: float) -> None:
        """Note that a token was used."""
        if token.id in self._tokens:
            self._tokens[token.id] = dataclasses.replace(self._tokens[token.id], last_used_on=now)

    def list(self, owner: str) -> list[Token]:
        return [token for token in self._tokens.values() if token.owner == owner]

    def get(self, owner: str, token_id: str) -> Token:
        token = self._tokens.get(token_id)
        if token is None or token.owner != owner:
            raise errors.no_such_token()
        return token

    def create(self, owner: str, body: Mapping[str, Any], now: float) -> tuple[Token, str]:
        """Return a new token and its value, which cannot be read again later. Raises ApiError."""
        policies = body.get("policies")
        if isinstance(policies, list) and any(isinstance(each, Mapping) and each.get("id") for each in policies):
            raise errors.bad_token("Reusing existing policies is not supported by token creation")
        quota = _USER_QUOTA if owner == "user" else _ACCOUNT_QUOTA
        if len(self.list(owner)) >= quota:
            raise errors.bad_token(f"The quota of {quota} tokens is used up")
        value = _new_value()
        token = Token(id=new_id(), digest=_digest(value), issued_on=now, modified_on=now, **_decided(owner, body))
        self._keep(token)
        return token, value

    def update(self, owner: str, token_id: str, body: Mapping[str, Any], now: float) -> Token:
        """PUT: everything but the value is as `body` has it. Raises ApiError."""
        before = self.get(owner, token_id)
        decided = _decided(owner, body)
        status = body.get("status", "active")
        if status not in ("active", "disabled"):
            raise errors.bad_token("Status must be active or disabled")
        if before.grants.everything:
            decided["grants"] = before.grants
        token = dataclasses.replace(before, **decided, status=status, modified_on=now)
        self._tokens[token.id] = token
        return token

    def roll(self, owner: str, token_id: str, now: float) -> str:
        """A new value; the old one stops working at once."""
        before = self.get(owner, token_id)
        value = _new_value()
        del self._by_digest[before.digest]
        self._keep(dataclasses.replace(before, digest=_digest(value), modified_on=now))
        return value

    def delete(self, owner: str, token_id: str) -> None:
        token = self.get(owner, token_id)
        del self._tokens[token.id]
        del self._by_digest[token.digest]

    def _keep(self, token: Token) -> None:
        self._tokens[token.id] = token
        self._by_digest[token.digest] = token.id


def _decided(owner: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What a client decides of a token."""
    name = body.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= 120:
        raise errors.bad_token("These rules must pass for name: must have a length between 1 and 120")
    not_before, expires_on = (_moment(body.get(field), field) for field in ("not_before", "expires_on"))
    if not_before is not None and expires_on is not None and not_before >= expires_on:
        raise errors.bad_token("not_before must be earlier than expires_on")
    return {
        "owner": owner,
        "name": name,
        "grants": Grants(permissions.parsed(body.get("policies"), owned_by_account=owner == "account")),
        "not_before": not_before,
        "expires_on": expires_on,
        "condition": _condition(body.get("condition")),
    }


def _condition(given: object) -> dict[str, Any]:
    if given is None or given == {}:
        return {}
    limits = given.get("request_ip") if isinstance(given, Mapping) and set(given) == {"request_ip"} else None
    if limits is None and isinstance(given, Mapping) and set(given) <= {"request_ip", "request.ip"}:
        limits = given.get("request.ip")  # how the API itself writes it
    if not isinstance(limits, Mapping) or not set(limits) <= {"in", "not_in"}:
        raise errors.bad_token("condition must be request_ip with in or not_in")
    for networks in limits.values():
        if not isinstance(networks, list):
            raise errors.bad_token("request_ip takes lists of CIDR addresses")
        for each in networks:
            try:
                ipaddress.ip_network(each)
            except ValueError as wrong:
                raise errors.bad_token(f"{each} is not a CIDR address") from wrong
    return {"request_ip": {key: list(networks) for key, networks in limits.items()}}


def _moment(given: object, field: str) -> float | None:
    if given is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(given) if isinstance(given, str) else None
    except ValueError as wrong:
        raise errors.bad_token(f"{field} must be a time as RFC 3339 has it") from wrong
    if moment is None or moment.tzinfo is None:
        raise errors.bad_token(f"{field} must be a time as RFC 3339 has it")
    return moment.timestamp()


def _within(address: str, networks: object) -> bool:
    at = ipaddress.ip_address(address)
    return isinstance(networks, (list, tuple)) and any(at in ipaddress.ip_network(each) for each in networks)


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def _new_value() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
