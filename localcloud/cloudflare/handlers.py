"""The API's answers about zones, DNS records, zone settings, and public data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from localcloud.cloudflare import errors, filters
from localcloud.cloudflare.call import Call, Reply
from localcloud.cloudflare.permissions import ACCOUNT, ZONE
from localcloud.cloudflare.store import Zone
from localcloud.cloudflare.zonedata import Change

_ZONE_READ = ("Zone Read", "Zone Write")
_DNS_READ = ("DNS Read", "DNS Write")
_SETTINGS_READ = ("Zone Settings Read", "Zone Settings Write")
_NAME_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "equal": lambda name, wanted: name == wanted,
    "not_equal": lambda name, wanted: name != wanted,
    "starts_with": lambda name, wanted: name.startswith(wanted),
    "ends_with": lambda name, wanted: name.endswith(wanted),
    "contains": lambda name, wanted: wanted in name,
}


def list_zones(call: Call) -> Reply:
    """Zones that the token may not read are left out; of two behaviours that users report, this is the stricter."""
    store, query = call.store, call.query
    found = [zone for zone in store.zones.values() if call.may(_ZONE_READ, f"{ZONE}.{zone.id}")]
    if "name" in query:
        found = [zone for zone in found if _name_fits(zone.name, query["name"].lower())]
    if "status" in query:
        found = [zone for zone in found if zone.status == query["status"]]
    if "account.id" in query:
        found = [zone for zone in found if zone.account == query["account.id"]]
    if "account.name" in query:
        wanted = query["account.name"].lower()
        found = [zone for zone in found if _name_fits(store.accounts[zone.account].lower(), wanted)]
    found.sort(key=lambda zone: zone.name, reverse=query.get("direction") == "desc")
    page = filters.paged(found, query, usual=20, most=50)
    return Reply([store.zone_body(zone) for zone in page.items], page.info)


def get_zone(call: Call) -> Reply:
    return Reply(call.store.zone_body(_zone(call, _ZONE_READ)))


def create_zone(call: Call) -> Reply:
    """A new zone is pending until its registrar names our name servers; `activation_check` finds that it does."""
    call.need(("Zone Write",), f"{ZONE}.*")
    body = call.body()
    account = body.get("account")
    owner = str((account.get("id") if isinstance(account, Mapping) else None) or call.store.account_id)
    mine = call.token is not None and call.token.owner == "account"
    if owner not in call.store.accounts or (mine and owner != call.store.account_id):
        raise errors.unauthorized()
    if not isinstance(body.get("name"), str):
        raise errors.field_required("name")
    if body.get("type", "full") != "full":
        raise errors.invalid("only full zones can be made here")
    return Reply(call.store.zone_body(call.store.add_zone(body["name"], status="pending", account=owner)))


def edit_zone(call: Call) -> Reply:
    zone = _zone(call, ("Zone Write",))
    body = call.body()
    paused = body.get("paused", zone.paused)
    if not isinstance(paused, bool) or not set(body) <= {"paused", "type"} or body.get("type", "full") != "full":
        raise errors.invalid("of a zone only paused can be changed here")
    with call.store.lock:
        if paused != zone.paused:
            zone.paused, zone.modified_on = paused, call.now
    return Reply(call.store.zone_body(zone))


def check_activation(call: Call) -> Reply:
    zone = _zone(call, ("Zone Write",))
    with call.store.lock:
        if zone.status != "active":
            zone.status, zone.activated_on, zone.modified_on = "active", call.now, call.now
    return Reply({"id": zone.id})


def delete_zone(call: Call) -> Reply:
    zone = _zone(call, ("Zone Write",))
    call.store.remove_zone(zone)
    return Reply({"id": zone.id})


def list_records(call: Call) -> Reply:
    zone = _record_zone(call, _DNS_READ)
    found = filters.records(list(zone.data.records.values()), call.query)
    page = filters.paged(found, call.query, usual=100, most=5_000_000)
    return Reply([record.body() for record in page.items], page.info)


def get_record(call: Call) -> Reply:
    record = _record_zone(call, _DNS_READ).data.records.get(call.args["record_id"])
    if record is None:
        raise errors.no_such_record()
    return Reply(record.body())


def create_record(call: Call) -> Reply:
    return _write(call, lambda change, body: change.create(body).body())


def edit_record(call: Call) -> Reply:
    return _write(call, lambda change, body: change.edit(call.args["record_id"], body).body())


def overwrite_record(call: Call) -> Reply:
    return _write(call, lambda change, body: change.overwrite(call.args["record_id"], body).body())


def batch_records(call: Call) -> Reply:
    return _write(call, lambda change, body: change.batch(body))


def delete_record(call: Call) -> Reply:
    zone = _record_zone(call, ("DNS Write",))
    with call.store.lock:
        change = call.store.change(zone)
        record = change.delete(call.args["record_id"])
        call.store.publish(zone, change)
    return Reply({"id": record.id})


def get_dnssec(call: Call) -> Reply:
    """No zone here is signed. https://developers.cloudflare.com/api/resources/dns/subresources/dnssec/methods/get/"""
    _zone(call, _ZONE_READ)
    parts = (
        "algorithm",
        "digest",
        "digest_algorithm",
        "digest_type",
        "ds",
        "flags",
        "key_tag",
        "key_type",
        "public_key",
    )
    return Reply({"status": "disabled", **dict.fromkeys((*parts, "modified_on"))})


def list_page_rules(call: Call) -> Reply:
    """None can be made. octoDNS lists them with the records; https://developers.cloudflare.com/api/resources/page_rules/"""
    _zone(call, _ZONE_READ)
    return Reply([])


def list_settings(call: Call) -> Reply:
    zone = _zone(call, _SETTINGS_READ)
    with call.store.lock:
        return Reply(zone.settings.bodies())


def get_setting(call: Call) -> Reply:
    zone = _zone(call, _SETTINGS_READ)
    with call.store.lock:
        return Reply(zone.settings.body(call.args["setting_id"]))


def edit_setting(call: Call) -> Reply:
    return Reply(_set(call, [(call.args["setting_id"], call.body())])[0])


def edit_settings(call: Call) -> Reply:
    """Change all of the settings or none, like the other writes."""
    items = call.body().get("items")
    if not isinstance(items, list) or not all(isinstance(each, Mapping) and "id" in each for each in items):
        raise errors.refused(1004, "Missing 'items'")
    return Reply(_set(call, [(str(each["id"]), each) for each in items]))


def list_accounts(call: Call) -> Reply:
    reads, name = ("Account Settings Read", "Account Settings Write"), call.query.get("name")
    mine = call.token is not None and call.token.owner == "account"
    shown = {each: called for each, called in call.store.accounts.items() if not mine or each == call.store.account_id}
    found = [
        _account(call, each)
        for each, called in shown.items()
        if call.may(reads, f"{ACCOUNT}.{each}") and name in (None, called)
    ]
    page = filters.paged(found, call.query, usual=20, most=50)
    return Reply(list(page.items), page.info)


def get_account(call: Call) -> Reply:
    account = call.args["account_id"]
    call.need(("Account Settings Read", "Account Settings Write"), f"{ACCOUNT}.{account}")
    if account not in call.store.accounts:
        raise errors.unauthorized()
    return Reply(_account(call, account))


def list_ips(call: Call) -> Reply:
    """List Cloudflare's networks, which are the edge's addresses here. As in the real API it needs no token."""
    v4 = [f"{each}/32" for each in call.store.edges if ":" not in each]
    v6 = [f"{each}/128" for each in call.store.edges if ":" in each]
    etag = hashlib.sha256(" ".join((*v4, *v6)).encode()).hexdigest()[:32]
    return Reply({"ipv4_cidrs": v4, "ipv6_cidrs": v6, "etag": etag})


def _account(call: Call, account: str) -> dict[str, Any]:
    return {"id": account, "name": call.store.accounts[account], "type": "standard", "settings": {}}


def _name_fits(name: str, condition: str) -> bool:
    operator, colon, wanted = condition.partition(":")
    if not colon:
        return name == condition
    test = _NAME_TESTS.get(operator.removesuffix("_case_sensitive"))
    if test is None:
        raise errors.invalid(f"{operator} is not a filter operator")
    return test(name, wanted)


def _zone(call: Call, names: tuple[str, ...]) -> Zone:
    return call.zone(names, errors.unauthorized(), errors.no_such_zone())


def _record_zone(call: Call, names: tuple[str, ...]) -> Zone:
    return call.zone(names, errors.authentication_error(), errors.no_route(call.request.path))


def _write(call: Call, act: Callable[[Change, Mapping[str, Any]], Any]) -> Reply:
    """Act on a change of the zone's records; published whole, or not at all where `act` raises."""
    zone, body = _record_zone(call, ("DNS Write",)), call.body()
    with call.store.lock:
        change = call.store.change(zone)
        result = act(change, body)
        call.store.publish(zone, change)
    return Reply(result)


def _set(call: Call, wanted: list[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    zone = _zone(call, ("Zone Settings Write",))
    with call.store.lock:
        for name, body in wanted:
            zone.settings.check(name, body)
        results = [zone.settings.edit(name, body, call.now) for name, body in wanted]
        zone.shown_settings = zone.settings.values()
    return results
