"""The stand-in for the Cloudflare plugin 6.x, over the v4 API by requests."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import requests

from localcloud.plugins.resource import (
    GoneError,
    Input,
    PluginError,
    Type,
    Values,
    flag,
    keeping,
    mapping,
    number,
    plain,
    several,
    text,
)
from localcloud.plugins.server import Plugin
from localcloud.plugins.values import secret

_URL = "https://api.cloudflare.com/client/v4"
_TIMEOUT = 30
# Retries as in the provider's client (https://github.com/cloudflare/cloudflare-go/blob/main/internal/requestconfig/requestconfig.go,
# shouldRetry and retryDelay), and as many as the provider sets: after a lost connection and at these statuses, by Retry-After or with a
# delay that doubles each time.
_TRIES = 11
_AGAIN = (408, 409, 429)
_FIRST_S, _LONGEST_S, _RETRY_AFTER_LIMIT_S = 0.5, 8.0, 60.0
_ADDRESSES = (("in", "ins"), ("not_in", "notIns"))
# The provider forgets such a token, so that the next `up` makes a new one.
_USELESS = ("expired", "revoked (exposed)")


class Api:
    """Calls with the operator's token. Raises PluginError with Cloudflare's codes, GoneError for what is not there."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        token = settings.get("apiToken") or os.environ.get("CLOUDFLARE_API_TOKEN")
        if not token:
            raise PluginError("cloudflare: no credentials; set CLOUDFLARE_API_TOKEN or cloudflare:apiToken")
        self._url = (settings.get("baseUrl") or os.environ.get("CLOUDFLARE_BASE_URL") or _URL).rstrip("/")
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        reply = self._request(method, path, body, query)
        try:
            answer = reply.json()
        except ValueError as failed:
            raise PluginError(f"cloudflare: {method} {path}: {type(failed).__name__}: {failed}") from failed
        if reply.ok and answer.get("success"):
            return answer["result"]
        # By the status alone: see the provider's resource.go of any type (Read).
        if reply.status_code == 404:
            raise GoneError(path)
        errors = answer.get("errors") or []
        causes = [inner for each in errors for inner in (each, *(each.get("error_chain") or ()))]
        message = "; ".join(f"{each.get('message')} ({each.get('code')})" for each in causes)
        raise PluginError(f"cloudflare: {method} {path}: HTTP {reply.status_code}: {message}")

    def _request(self, method: str, path: str, body: Any, query: Mapping[str, Any] | None) -> requests.Response:
        """Return the first answer that needs no retry, or the last one."""
        for tried in range(_TRIES):
            reply, failed = None, None
            try:
                reply = self._session.request(method, self._url + path, json=body, params=query, timeout=_TIMEOUT)
            except requests.RequestException as lost:
                failed = lost
            if reply is not None and reply.status_code not in _AGAIN and reply.status_code < 500:
                return reply
            if tried < _TRIES - 1:
                time.sleep(_delay_s(reply, tried))
        if reply is None:
            raise PluginError(f"cloudflare: {method} {path}: {type(failed).__name__}: {failed}") from failed
        return reply


def _delay_s(reply: requests.Response | None, tried: int) -> float:
    with contextlib.suppress(ValueError):
        retry_after = float("" if reply is None else reply.headers.get("Retry-After", ""))
        if 0 <= retry_after < _RETRY_AFTER_LIMIT_S:
            return retry_after
    shorter: float = random.uniform(0.75, 1)  # noqa: S311
    return min(_LONGEST_S, _FIRST_S * 2.0**tried) * shorter


class Resource(Type):
    """A resource of Cloudflare. As in the provider, a delete fails for an object that does not exist (resource.go of any type, Delete)."""

    deletes_what_is_gone = False


def _snake(word: str) -> str:
    return re.sub(r"([A-Z])", lambda match: f"_{match[1].lower()}", word)


def _camel(word: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), word)


def _renamed(value: Any, rename: Callable[[str], str]) -> Any:
    """An object within an input, or within an answer, with the other side's names."""
    return {rename(key): _renamed(item, rename) for key, item in value.items()} if isinstance(value, Mapping) else value


class DnsRecord(Resource):
    """Imported as `ZONE/RECORD`."""

    token = "cloudflare:index/dnsRecord:DnsRecord"
    inputs = {
        "zoneId": text(required=True, replaces=True),
        "name": text(required=True),
        "type": text(required=True, replaces=True),
        "ttl": number(required=True),
        "content": text(computed=True),
        "proxied": flag(default=False),
        "comment": text(),
        "priority": number(),
        "data": mapping(computed=True),
        "tags": several(),
        "settings": mapping(computed=True),
        "includeShadowMetadata": flag(),
        "privateRouting": flag(),
    }
    _sent = ("name", "type", "ttl", "content", "proxied", "comment", "priority", "data", "tags", "settings")

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        if given.get("proxied") and given["ttl"] != 1:
            raise PluginError("cloudflare: ttl must be set to 1 when `proxied` is true")
        made = self.api.call("POST", f"/zones/{given['zoneId']}/dns_records", self._body(given))
        return made["id"], self._outputs(made)

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        zone, _, record = identity.rpartition("/")
        zone = zone or state["zoneId"]
        found = self.api.call("GET", f"/zones/{zone}/dns_records/{record}")
        now = {key: None if found.get(key) in ([], {}) else _renamed(found.get(key), _camel) for key in self._sent}
        return self._outputs(found), {**now, "zoneId": zone}

    def identity(self, given: str) -> str:
        return given.rpartition("/")[2]

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        return self._outputs(self.api.call("PUT", f"/zones/{new['zoneId']}/dns_records/{identity}", self._body(new)))

    def delete(self, identity: str, state: Values) -> None:
        self.api.call("DELETE", f"/zones/{state['zoneId']}/dns_records/{identity}")

    def same(self, key: str, before: Any, after: Any) -> bool:
        if key == "settings" and isinstance(before, Mapping) and isinstance(after, Mapping):
            # Cloudflare fills in those that a program does not give.
            return all(before.get(option) == value for option, value in after.items())
        return super().same(key, before, after)

    def _body(self, given: Values) -> dict[str, Any]:
        return {key: _renamed(plain(given[key]), _snake) for key in self._sent if given.get(key) is not None}

    @staticmethod
    def _outputs(found: Values) -> dict[str, Any]:
        return {
            "id": found.get("id"),
            "content": found.get("content"),
            "proxiable": found.get("proxiable"),
            "proxied": found.get("proxied"),
            "createdOn": found.get("created_on"),
            "modifiedOn": found.get("modified_on"),
            "commentModifiedOn": found.get("comment_modified_on"),
            "meta": json.dumps(found.get("meta") or {}),
        }


class ZoneSetting(Resource):
    """Imported as `ZONE/SETTING`."""

    token = "cloudflare:index/zoneSetting:ZoneSetting"
    inputs = {
        "zoneId": text(required=True, replaces=True),
        "settingId": text(required=True, replaces=True),
        "value": Input(required=True),
        "enabled": flag(),
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        return str(given["settingId"]), self.update("", {}, given)

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        zone, _, setting = identity.rpartition("/")
        zone = zone or state["zoneId"]
        found = self.api.call("GET", f"/zones/{zone}/settings/{setting}")
        return self._outputs(found), {"zoneId": zone, "settingId": setting, "value": found["value"]}

    def identity(self, given: str) -> str:
        return given.rpartition("/")[2]

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        path = f"/zones/{new['zoneId']}/settings/{new['settingId']}"
        return self._outputs(self.api.call("PATCH", path, {"value": plain(new["value"])}))

    def delete(self, identity: str, state: Values) -> None:
        """The real plugin forgets a setting and leaves it as it is, since a setting cannot be deleted."""

    @staticmethod
    def _outputs(found: Values) -> dict[str, Any]:
        return {"editable": found.get("editable"), "modifiedOn": found.get("modified_on")}


class ApiToken(Resource):
    token = "cloudflare:index/apiToken:ApiToken"
    inputs = {
        "name": text(required=True),
        "policies": several(required=True),
        "condition": mapping(),
        "expiresOn": text(),
        "notBefore": text(),
        "status": text(computed=True, choices=("active", "disabled", "expired")),
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        home = self._home(given)
        made = self.api.call("POST", home, self._body(given))
        shown = {"value": secret(made["value"])}
        if given.get("status", "active") != "active":
            with keeping(made["id"], shown):
                made = self.api.call("PUT", f"{home}/{made['id']}", {**self._body(given), "status": given["status"]})
        return made["id"], {**self._outputs(made), **shown}

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        account, _, token = identity.rpartition("/")
        owner = {"accountId": account} if account else {key: state[key] for key in ("accountId",) if state.get(key)}
        found = self.api.call("GET", f"{self._home(owner)}/{token}")
        if found.get("status") in _USELESS:
            raise GoneError(identity)
        policies = [_policy_input(each) for each in found["policies"]]
        # The value is shown once, at creation: what the state has is kept.
        stored = {"value": secret(state["value"])} if state.get("value") else {}
        now = {"name": found["name"], "policies": policies, "condition": _condition_input(found.get("condition"))}
        now |= {
            "expiresOn": found.get("expires_on"),
            "notBefore": found.get("not_before"),
            "status": found.get("status"),
        }
        return {**self._outputs(found), **stored}, {**now, **owner}

    def identity(self, given: str) -> str:
        return given.rpartition("/")[2]

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        body = {**self._body(new), "status": new.get("status", "active")}
        outputs = self._outputs(self.api.call("PUT", f"{self._home(new)}/{identity}", body))
        return {**outputs, **({"value": secret(old["value"])} if old.get("value") else {})}

    def delete(self, identity: str, state: Values) -> None:
        self.api.call("DELETE", f"{self._home(state)}/{identity}")

    def _home(self, given: Values) -> str:
        return "/user/tokens"

    @staticmethod
    def _body(given: Values) -> dict[str, Any]:
        policies = [
            {
                "effect": policy["effect"],
                "permission_groups": [{"id": group["id"]} for group in policy["permissionGroups"]],
                "resources": json.loads(policy["resources"]),
            }
            for policy in given["policies"]
        ]
        body = {"name": given["name"], "policies": policies, "condition": _condition(given.get("condition"))}
        body |= {"expires_on": given.get("expiresOn"), "not_before": given.get("notBefore")}
        return {key: value for key, value in body.items() if value is not None}

    @staticmethod
    def _outputs(found: Values) -> dict[str, Any]:
        return {
            "issuedOn": found.get("issued_on"),
            "modifiedOn": found.get("modified_on"),
            "status": found.get("status"),
        }


class AccountToken(ApiToken):
    """Imported as `ACCOUNT/TOKEN`."""

    token = "cloudflare:index/accountToken:AccountToken"
    inputs = {"accountId": text(required=True, replaces=True), **ApiToken.inputs}

    def _home(self, given: Values) -> str:
        return f"/accounts/{given['accountId']}/tokens"


def _condition(given: Values | None) -> dict[str, Any] | None:
    """Return the addresses from which a token may be used. Pulumi's names of lists are in the plural."""
    found = (given or {}).get("requestIp")
    if not found:
        return None
    return {"request_ip": {key: list(found[name]) for key, name in _ADDRESSES if found.get(name)}}


def _condition_input(found: Values | None) -> dict[str, Any] | None:
    wanted = (found or {}).get("request_ip")
    return {"requestIp": {name: wanted[key] for key, name in _ADDRESSES if wanted.get(key)}} if wanted else None


def _policy_input(policy: Values) -> dict[str, Any]:
    """The provider keeps `resources` as the text that the API answered with, which has no spaces."""
    groups = [{"id": each["id"]} for each in policy["permission_groups"]]
    resources = json.dumps(policy["resources"], separators=(",", ":"))
    return {"effect": policy["effect"], "permissionGroups": groups, "resources": resources}


class OriginCaCertificate(Resource):
    """Every change makes a new certificate. A delete revokes it, and a revoked certificate counts as deleted."""

    token = "cloudflare:index/originCaCertificate:OriginCaCertificate"
    inputs = {
        "csr": text(required=True, replaces=True),
        "hostnames": several(required=True, replaces=True),
        "requestType": text(required=True, replaces=True, choices=("origin-rsa", "origin-ecc", "keyless-certificate")),
        "requestedValidity": number(replaces=True, default=5475, choices=(7, 30, 90, 365, 730, 1095, 5475)),
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        body = {_snake(key): plain(given[key]) for key in self.inputs}
        made = self.api.call("POST", "/certificates", body)
        return made["id"], self._outputs(made)

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        found = self.api.call("GET", f"/certificates/{identity}")
        return self._outputs(found), {key: found.get(_snake(key)) for key in self.inputs}

    def delete(self, identity: str, state: Values) -> None:
        self.api.call("DELETE", f"/certificates/{identity}")

    @staticmethod
    def _outputs(found: Values) -> dict[str, Any]:
        return {"certificate": found["certificate"], "expiresOn": found["expires_on"]}


class Zone(Resource):
    token = "cloudflare:index/zone:Zone"
    inputs = {
        "account": mapping(required=True, replaces=True),
        "name": text(required=True, replaces=True),
        "type": text(default="full", choices=("full", "partial", "secondary", "internal")),
        "paused": flag(default=False),
        "vanityNameServers": several(computed=True),
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        made = self.api.call(
            "POST", "/zones", {"name": given["name"], "account": given["account"], "type": given.get("type", "full")}
        )
        if given.get("paused"):
            with keeping(made["id"], _zone_outputs(made)):
                made = self.api.call("PATCH", f"/zones/{made['id']}", {"paused": True})
        return made["id"], _zone_outputs(made)

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        found = self.api.call("GET", f"/zones/{identity}")
        return _zone_outputs(found), {
            "name": found["name"],
            "account": {"id": found["account"]["id"]},
            "type": found["type"],
            "paused": found["paused"],
        }

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        names = {"paused": "paused", "type": "type", "vanityNameServers": "vanity_name_servers"}
        changed = {names[key]: plain(new[key]) for key in self.differences(old, new)}
        return _zone_outputs(self.api.call("PATCH", f"/zones/{identity}", changed))

    def delete(self, identity: str, state: Values) -> None:
        self.api.call("DELETE", f"/zones/{identity}")


def _zone_outputs(found: Values) -> dict[str, Any]:
    return {
        "name": found["name"],
        "status": found["status"],
        "nameServers": found["name_servers"],
        "paused": found["paused"],
        "type": found["type"],
        "createdOn": found["created_on"],
        "modifiedOn": found["modified_on"],
    }


def get_zone(api: Api, given: Values) -> dict[str, Any]:
    wanted = given.get("filter") or {}
    if given.get("zoneId"):
        zone = api.call("GET", f"/zones/{given['zoneId']}")
    else:
        query = {key: wanted[key] for key in ("name", "status") if wanted.get(key)}
        found = api.call("GET", "/zones", query=query)
        if len(found) != 1:
            raise PluginError(f"cloudflare: {len(found)} zones fit the filter {query}; exactly one must")
        (zone,) = found
    return {**_zone_outputs(zone), "id": zone["id"], "zoneId": zone["id"], "account": zone["account"]}


def get_groups(api: Api, given: Values) -> dict[str, Any]:
    query = {key: given[key] for key in ("name", "scope") if given.get(key)}
    return {**query, "id": "groups", "results": api.call("GET", "/user/tokens/permission_groups", query=query)}


def get_account_groups(api: Api, given: Values) -> dict[str, Any]:
    query = {key: given[key] for key in ("name", "scope") if given.get(key)}
    path = f"/accounts/{given['accountId']}/tokens/permission_groups"
    return {**query, "accountId": given["accountId"], "id": "groups", "results": api.call("GET", path, query=query)}


def get_accounts(api: Api, given: Values) -> dict[str, Any]:
    return {"id": "accounts", "results": api.call("GET", "/accounts")}


def get_ranges(api: Api, given: Values) -> dict[str, Any]:
    found = api.call("GET", "/ips")
    return {
        "id": "ips",
        "ipv4Cidrs": found["ipv4_cidrs"],
        "ipv6Cidrs": found.get("ipv6_cidrs", []),
        "etag": found["etag"],
    }


class Cloudflare(Plugin):
    name = "cloudflare"
    types = (DnsRecord, ZoneSetting, ApiToken, AccountToken, OriginCaCertificate, Zone)
    functions = {
        "cloudflare:index/getZone:getZone": get_zone,
        "cloudflare:index/getApiTokenPermissionGroupsList:getApiTokenPermissionGroupsList": get_groups,
        "cloudflare:index/getAccountApiTokenPermissionGroupsList:getAccountApiTokenPermissionGroupsList": get_account_groups,
        "cloudflare:index/getAccounts:getAccounts": get_accounts,
        "cloudflare:index/getIpRanges:getIpRanges": get_ranges,
    }
    settings = ("apiToken", "apiKey", "email", "baseUrl", "apiUserServiceKey", "userAgentOperatorSuffix")

    def client(self, settings: Mapping[str, Any]) -> Api:
        return Api(settings)


PLUGIN = Cloudflare()
