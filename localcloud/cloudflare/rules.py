"""The rules for a DNS record: for the record alone (`drafted`), and together with the others at its name (`check_beside`)."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from localcloud.cloudflare import contents, errors, names
from localcloud.cloudflare.model import PROXIABLE, Fields, Plan
from localcloud.cloudflare.text import character_strings

AUTOMATIC_TTL = 1
_SHORTEST_TTL, _SHORTEST_ENTERPRISE_TTL, _LONGEST_TTL = 60, 30, 86400
_SET_LIMIT = 8192
_TAG = re.compile(r"[A-Za-z0-9_-]{1,32}(:.{0,100})?")
# Addresses that must not be proxied: private ones, local ones, and Cloudflare's own resolver. Documentation addresses are allowed.
_NEVER_PROXIED = tuple(
    ipaddress.ip_network(each)
    for each in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "224.0.0.0/4", "1.1.1.1/32", "1.0.0.1/32", "::1/128", "fc00::/7", "fe80::/10"),
    )
)


def drafted(
    body: Mapping[str, Any], zone: str, plan: Plan, edges: tuple[str, ...], before: Fields | None = None
) -> Fields:
    """The record that `body` asks for in `zone`; with `before`, what `body` leaves out stays as it was (PATCH).

    `edges` are the edge's own addresses, which a proxied record must not name. Raises ApiError.
    """
    merged = {**(_as_body(before) if before else {}), **body}
    kind = merged.get("type")
    if not isinstance(kind, str):
        raise errors.field_required("type")
    name = names.record_name(merged.get("name"), zone)
    content = contents.checked(kind.upper(), merged, name)
    fields = Fields(
        name=name,
        type=kind.upper(),
        content=content.text,
        priority=content.priority,
        data=content.data,
        ttl=_ttl(merged.get("ttl"), plan),
        proxied=_proxied(merged.get("proxied")),
        comment=_comment(merged.get("comment"), plan),
        tags=_tags(merged.get("tags"), plan),
        settings=_settings(merged.get("settings"), kind.upper(), plan),
    )
    if not fields.proxied:
        return fields
    _check_proxiable(fields, edges)
    return dataclasses.replace(fields, ttl=AUTOMATIC_TTL)


def check_beside(fields: Fields, others: Iterable[Fields], zone: str) -> None:
    """Raise ApiError if `fields` cannot be at the same name as `others`.

    As Cloudflare has it, a CNAME excludes addresses and another CNAME, but not TXT or MX.
    """
    here = list(others)
    if fields.type == "CNAME" and any(each.type in PROXIABLE for each in here):
        raise errors.address_or_cname_exists()
    if fields.type in ("A", "AAAA") and any(each.type == "CNAME" for each in here):
        raise errors.cname_exists()
    if fields.name != zone:
        if fields.type != "NS" and any(each.type == "NS" for each in here):
            raise errors.ns_exists()
        if fields.type == "NS" and any(each.type != "NS" for each in here):
            raise errors.record_exists()
    same_type = [each for each in here if each.type == fields.type]
    if any((each.content, each.priority) == (fields.content, fields.priority) for each in same_type):
        raise errors.identical_record()
    if sum(map(_length, [*same_type, fields])) > _SET_LIMIT:
        raise errors.set_too_long()


def _length(fields: Fields) -> int:
    """What counts of a content: of a TXT record without the quotes at which it was split."""
    return sum(map(len, character_strings(fields.content))) if fields.type == "TXT" else len(fields.content)


def _as_body(before: Fields) -> dict[str, Any]:
    body = {field.name: getattr(before, field.name) for field in dataclasses.fields(before)}
    return {key: value for key, value in body.items() if value is not None}


def _ttl(given: object, plan: Plan) -> int:
    if given is None:
        return AUTOMATIC_TTL
    if isinstance(given, bool) or not isinstance(given, (int, float)) or given != int(given):
        raise errors.bad_ttl()
    least = _SHORTEST_ENTERPRISE_TTL if plan.legacy_id == "enterprise" else _SHORTEST_TTL
    if given != AUTOMATIC_TTL and not least <= given <= _LONGEST_TTL:
        raise errors.bad_ttl()
    return int(given)


def _proxied(given: object) -> bool:
    if given is None:
        return False
    if not isinstance(given, bool):
        raise errors.invalid("proxied must be a boolean")
    return given


def _check_proxiable(fields: Fields, edges: tuple[str, ...]) -> None:
    if fields.type not in PROXIABLE:
        raise errors.type_not_proxiable()
    if fields.type == "CNAME":
        return
    address = ipaddress.ip_address(fields.content)
    if fields.content in edges or any(address in network for network in _NEVER_PROXIED):
        raise errors.target_not_proxiable(fields.content)


def _comment(given: object, plan: Plan) -> str | None:
    if given is None or given == "":
        return None
    if not isinstance(given, str):
        raise errors.invalid("comment must be a string")
    if len(given) > plan.comment:
        raise errors.comment_too_long(plan.comment)
    return given


def _tags(given: object, plan: Plan) -> tuple[str, ...]:
    if given is None:
        return ()
    if not isinstance(given, (list, tuple)) or not all(isinstance(each, str) for each in given):
        raise errors.invalid("tags must be a list of strings")
    if len(given) > plan.tags:
        raise errors.too_many_tags(len(given), plan.tags)
    if not all(_TAG.fullmatch(each) for each in given):
        raise errors.invalid("a tag is NAME:VALUE, the name of letters, digits, - and _")
    return tuple(given)


def _settings(given: object, kind: str, plan: Plan) -> dict[str, bool]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise errors.invalid("settings must be an object")
    known = ("ipv4_only", "ipv6_only", *(("flatten_cname",) if kind == "CNAME" else ()))
    settings = {key: value for key, value in given.items() if value is not None}
    for key, value in settings.items():
        if key not in known or not isinstance(value, bool):
            raise errors.invalid(f"settings.{key} is not allowed")
    if settings.get("flatten_cname") and not plan.paid:
        raise errors.invalid("settings.flatten_cname needs a paid plan")
    if settings.get("ipv4_only") and settings.get("ipv6_only"):
        raise errors.invalid("settings.ipv4_only and settings.ipv6_only exclude each other")
    return settings
