"""The user, API tokens of the user and of the account, and Origin CA certificates: the API's answers."""

from __future__ import annotations

import dataclasses
from typing import Any

from localcloud.cloudflare import certificates, errors, filters, permissions
from localcloud.cloudflare.call import Call, Reply
from localcloud.cloudflare.certificates import Certificate, OriginCa
from localcloud.cloudflare.model import day_stamp, stamp
from localcloud.cloudflare.permissions import ACCOUNT, ZONE
from localcloud.cloudflare.store import ACCOUNT_NAME, EMAIL
from localcloud.cloudflare.tokens import Token

_SSL_READ = ("SSL and Certificates Read", "SSL and Certificates Write")
_VALID = {"code": 10000, "message": "This API Token is valid and active", "type": None}


def get_user(call: Call) -> Reply:
    call.need(("User Details Read", "User Details Write"), call.store.user)
    body = {
        "id": call.store.user_id,
        "email": EMAIL,
        "first_name": None,
        "last_name": None,
        "suspended": False,
        "two_factor_authentication_enabled": False,
        "two_factor_authentication_locked": False,
        "has_pro_zones": False,
        "has_business_zones": False,
        "has_enterprise_zones": False,
        "organizations": [{"id": call.store.account_id, "name": ACCOUNT_NAME, "status": "member"}],
    }
    return Reply(body)


def verify_token(call: Call) -> Reply:
    """Verify a token. Each kind of token is known at one address only: an account's token is unknown at `/user/tokens/verify`."""
    token = call.token
    if token is None or token.owner != _owner(call):
        raise errors.unknown_token()
    state = token.state(call.now)
    body: dict[str, Any] = {"id": token.id, "status": state}
    for field in ("not_before", "expires_on"):
        if (moment := getattr(token, field)) is not None:
            body[field] = day_stamp(moment)
    return Reply(body, messages=[_VALID] if state == "active" else [])


def list_tokens(call: Call) -> Reply:
    _need(call, "Read", "Write")
    with call.store.lock:
        found = call.store.tokens.list(_owner(call))
    if call.query.get("include_expired") == "false":
        found = [token for token in found if token.state(call.now) != "expired"]
    page = filters.paged(found, call.query, usual=20, most=100)
    return Reply([token.body(call.now) for token in page.items], page.info)


def get_token(call: Call) -> Reply:
    _need(call, "Read", "Write")
    with call.store.lock:
        return Reply(call.store.tokens.get(_owner(call), call.args["token_id"]).body(call.now))


def create_token(call: Call) -> Reply:
    _need(call, "Write")
    body = call.body()
    with call.store.lock:
        token, value = call.store.tokens.create(_owner(call), body, call.now)
        try:
            _check_common(call, token)
        except errors.ApiError:
            call.store.tokens.delete(token.owner, token.id)
            raise
    return Reply({**token.body(call.now), "value": value})


def update_token(call: Call) -> Reply:
    _need(call, "Write")
    body = call.body()
    with call.store.lock:
        return Reply(call.store.tokens.update(_owner(call), call.args["token_id"], body, call.now).body(call.now))


def roll_token(call: Call) -> Reply:
    """PUT …/value. The result is the new value alone."""
    _need(call, "Write")
    with call.store.lock:
        return Reply(call.store.tokens.roll(_owner(call), call.args["token_id"], call.now))


def delete_token(call: Call) -> Reply:
    _need(call, "Write")
    with call.store.lock:
        call.store.tokens.delete(_owner(call), call.args["token_id"])
    return Reply({"id": call.args["token_id"]})


def list_groups(call: Call) -> Reply:
    _need(call, "Read", "Write")
    found = permissions.groups(call.query.get("name"), call.query.get("scope"))
    if _owner(call) == "account":
        found = [group for group in found if permissions.USER not in group["scopes"]]
    return Reply(found)


class OriginCertificates:
    """Certificates that were signed. Its CA is made at the first use."""

    def __init__(self) -> None:
        self._signed: dict[str, Certificate] = {}
        self._ca: OriginCa | None = None

    def ca(self, now: float) -> OriginCa:
        if self._ca is None:
            self._ca = OriginCa(now)
        return self._ca

    def create(self, call: Call) -> Reply:
        body = call.body()
        with call.store.lock:
            for host in certificates.hostnames(body):
                self._check_host(call, host, ("SSL and Certificates Write",))
            made = self.ca(call.now).sign(body, call.now)
            self._signed[made.id] = made
        return Reply(made.body())

    def list(self, call: Call) -> Reply:
        zone = call.store.zones.get(call.query.get("zone_id", ""))
        if zone is None:
            raise certificates.no_zone_named()
        call.need(_SSL_READ, f"{ZONE}.{zone.id}", certificates.not_authorized())
        with call.store.lock:
            found = [
                each
                for each in self._signed.values()
                if each.revoked_at is None and any(call.store.zone_of(host) is zone for host in each.hosts)
            ]
        page = filters.paged(found, call.query, usual=20, most=100)
        return Reply([each.body() for each in page.items], page.info)

    def get(self, call: Call) -> Reply:
        return Reply(self._found(call, _SSL_READ).body())

    def revoke(self, call: Call) -> Reply:
        with call.store.lock:
            found = self._found(call, ("SSL and Certificates Write",))
            self._signed[found.id] = dataclasses.replace(found, revoked_at=call.now)
        return Reply({"id": found.id, "revoked_at": stamp(call.now)})

    def is_revoked(self, serial: int) -> bool:
        found = self._signed.get(str(serial))
        return found is not None and found.revoked_at is not None

    def _found(self, call: Call, names: tuple[str, ...]) -> Certificate:
        found = self._signed.get(call.args["certificate_id"])
        # Cloudflare does not document what happens to a certificate of a deleted zone. Here it is removed with its zone.
        gone = found is not None and not any(call.store.zone_of(host.removeprefix("*.")) for host in found.hosts)
        if found is None or gone or found.revoked_at is not None:
            raise certificates.unknown()
        for host in found.hosts:
            self._check_host(call, host, names)
        return found

    @staticmethod
    def _check_host(call: Call, host: str, names: tuple[str, ...]) -> None:
        zone = call.store.zone_of(host.removeprefix("*."))
        if zone is None:
            raise certificates.not_yours(host)
        call.need(names, f"{ZONE}.{zone.id}", certificates.not_authorized())


def _owner(call: Call) -> str:
    return "account" if "account_id" in call.args else "user"


def _need(call: Call, *levels: str) -> None:
    if _owner(call) == "user":
        return call.need([f"API Tokens {each}" for each in levels], call.store.user)
    account = f"{ACCOUNT}.{call.args['account_id']}"
    if call.args["account_id"] != call.store.account_id:
        raise errors.unauthorized()
    return call.need([f"Account API Tokens {each}" for each in levels], account)


def _check_common(call: Call, made: Token) -> None:
    """A token of the account that names a single zone may give only what its maker holds there
    (terraform-provider-cloudflare issue 7241); for all zones, and for the user's own tokens, this is not asked."""
    if made.owner != "account":
        return
    for policy in made.grants.policies:
        zones = [each for each in policy.resources if each.startswith(f"{ZONE}.") and not each.endswith(".*")]
        for zone in zones:
            for group in policy.groups:
                if group.scope == ZONE and not call.may((group.name,), zone):
                    raise errors.bad_token(
                        f'Failed common permission check against resources. (Permission group: "{group.name}")'
                    )
