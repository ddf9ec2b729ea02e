"""The account itself: data, keys, sub-users, data centres, services (lib/account.js, keys.js, users.js, datacenters.js)."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from localcloud.triton.call import Call, Reply
from localcloud.triton.errors import invalid_argument, missing_parameter, not_found
from localcloud.triton.keys import KeyRing
from localcloud.triton.model import iso
from localcloud.triton.store import User

_FIELDS = (
    "email", "companyName", "firstName", "lastName", "address", "city", "state", "postalCode", "country", "phone",
)  # fmt: skip
_EMAIL = re.compile(r"[^\s@]+@[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*")


def get_account(call: Call) -> Reply:
    return Reply(200, _account(call))


def update_account(call: Call) -> Reply:
    for name in _FIELDS:
        if call.params.get(name):
            call.store.fields[name] = str(call.params[name])
    if "triton_cns_enabled" in call.params:
        wanted = call.params["triton_cns_enabled"]
        if wanted not in (True, False, "true", "false"):
            raise invalid_argument('triton_cns_enabled must be either "true" or "false"')
        call.store.cns = wanted in (True, "true")
    call.store.fields["updated"] = call.store.clock()
    return Reply(200, _account(call))


def _account(call: Call) -> dict[str, Any]:
    store = call.store
    shown = {name: store.fields[name] for name in _FIELDS if name in store.fields}
    return {
        "id": store.id, "login": store.login, **shown, "triton_cns_enabled": store.cns,
        "updated": iso(store.fields.get("updated", store.created)), "created": iso(store.created),
    }  # fmt: skip


def limits(call: Call) -> Reply:
    """Answer GetAccountLimits, as a Triton does if its operator has installed the plugin for it."""
    quota, used = call.store.options.quota, sum(1 for _ in call.store.alive())
    return Reply(200, [{"by": "machines", "value": quota, "used": used}] if quota is not None else [])


def datacenters(call: Call) -> Reply:
    own = call.store.datacenter
    return Reply(200, {own: _own_url(call), **call.store.datacenters}, {"Triton-Datacenter-Name": own})


def datacenter(call: Call) -> Reply:
    name = call.path["name"]
    url = _own_url(call) if name == call.store.datacenter else call.store.datacenters.get(name)
    if url is None:
        raise not_found(f"{name} is not an available datacenter")
    return Reply(302, {"code": "ResourceMoved", "message": f"{name} {url}"}, {"Location": url})


def _own_url(call: Call) -> str:
    return call.url


def services(call: Call) -> Reply:
    """List the services. CNS is never in this list."""
    return Reply(200, {"cloudapi": _own_url(call)})


# Keys, of the account or of a sub-user


def _ring(call: Call) -> KeyRing:
    return call.store.user(call.path["user"]).keys if "user" in call.path else call.store.keys


def list_keys(call: Call) -> Reply:
    return Reply(200, [key.body() for key in _ring(call).all()])


def get_key(call: Call) -> Reply:
    return Reply(200, _ring(call).get(call.path["key"]).body())


def create_key(call: Call) -> Reply:
    text, name = call.params.get("key"), call.params.get("name")
    if not text:
        raise missing_parameter("key is a required argument")
    if not isinstance(text, str):
        raise invalid_argument("key must be a String")
    key = _ring(call).add(str(name) if name else None, text)
    owner = f"/users/{quote(call.path['user'])}" if "user" in call.path else ""
    location = f"/{call.store.login}{owner}/keys/{quote(key.fingerprint, safe='')}"
    return Reply(201, key.body(), {"Location": location})


def delete_key(call: Call) -> Reply:
    _ring(call).remove(call.path["key"])
    return Reply(204)


# Sub-users


def list_users(call: Call) -> Reply:
    return Reply(200, [_user(user) for user in call.store.users.values()])


def get_user(call: Call) -> Reply:
    return Reply(200, _user(call.store.user(call.path["user"])))


def create_user(call: Call) -> Reply:
    """A new sub-user has no role, so it may do nothing yet."""
    params = call.params
    missing = [f"{name} is required" for name in ("email", "login", "password") if not params.get(name)]
    if missing:
        raise missing_parameter(f"Request is missing required parameters: {', '.join(missing)}")
    _check_email(str(params["email"]))
    login = str(params["login"])
    if any(user.login == login for user in call.store.users.values()):
        raise invalid_argument("user is invalid")
    now = call.store.clock()
    user = User(login, str(params["email"]), created=now, updated=now)
    _set_fields(call, user)
    call.store.users[user.id] = user
    return Reply(201, _user(user), {"Location": f"/{call.store.login}/users/{quote(login)}"})


def update_user(call: Call) -> Reply:
    user = call.store.user(call.path["user"])
    if call.params.get("email"):
        _check_email(str(call.params["email"]))
        user.email = str(call.params["email"])
    _set_fields(call, user)
    user.updated = call.store.clock()
    return Reply(200, _user(user))


def delete_user(call: Call) -> Reply:
    del call.store.users[call.store.user(call.path["user"]).id]
    return Reply(204)


def _check_email(email: str) -> None:
    if not _EMAIL.fullmatch(email):
        raise invalid_argument(f"email: {email} is invalid")


def _set_fields(call: Call, user: User) -> None:
    for name in _FIELDS:
        if name != "email" and isinstance(call.params.get(name), str):
            user.fields[name] = call.params[name]


def _user(user: User) -> dict[str, Any]:
    return {
        "id": user.id, "login": user.login, "email": user.email, **user.fields, "updated": iso(user.updated),
        "created": iso(user.created),
    }  # fmt: skip
