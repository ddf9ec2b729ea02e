"""Contents of DNS records by type: checked as the API checks them, and as an authoritative server writes them.

https://developers.cloudflare.com/dns/manage-dns-records/reference/dns-record-types/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.rdata
import dns.rdataclass

from localcloud.cloudflare import errors, names
from localcloud.cloudflare.model import Fields
from localcloud.cloudflare.text import character_strings, is_split, quoted

_WIRE_LIMIT = 4096
_WORD = 65535


@dataclass(frozen=True)
class Content:
    text: str
    data: Mapping[str, Any] | None = None
    priority: int | None = None


def checked(kind: str, body: Mapping[str, Any], name: str) -> Content:
    """The content of a record of type `kind` named `name` from a request's body. Raises ApiError."""
    if kind in _STRUCTURED:
        content = _structured(kind, body, name)
    elif kind in _PLAIN:
        given = body.get("content")
        if given is None or given == "":
            raise errors.field_required("content")
        if not isinstance(given, str):
            raise errors.invalid("content must be a string")
        content = _PLAIN[kind](given.strip() if kind != "TXT" else given, body, name)
    else:
        raise errors.bad_type()
    _check_wire(kind, content)
    return content


def presented(fields: Fields) -> str:
    """The value in presentation format, RFC 1035 section 5.1; host names end with a dot."""
    if fields.type == "TXT":
        return quoted(character_strings(fields.content))
    if fields.type in ("CNAME", "NS", "PTR"):
        return f"{fields.content}."
    if fields.type == "MX":
        return f"{fields.priority} {_dotted(fields.content)}"
    if fields.type == "SRV":
        front, _, target = fields.content.rpartition(" ")
        return f"{fields.priority} {front} {_dotted(target)}"
    if fields.type == "URI":
        return f"{fields.priority} {fields.content}"
    return fields.content


def _ipv4(given: str, body: Mapping[str, Any], name: str) -> Content:
    try:
        return Content(str(ipaddress.IPv4Address(given)))
    except ValueError as wrong:
        raise errors.bad_ipv4() from wrong


def _ipv6(given: str, body: Mapping[str, Any], name: str) -> Content:
    try:
        return Content(str(ipaddress.IPv6Address(given)))
    except ValueError as wrong:
        raise errors.bad_ipv6() from wrong


def _cname(given: str, body: Mapping[str, Any], name: str) -> Content:
    target = names.host(given)
    if target is None:
        raise errors.bad_cname()
    if target == name:
        raise errors.cname_to_itself()
    return Content(target)


def _mx(given: str, body: Mapping[str, Any], name: str) -> Content:
    priority = _number(body.get("priority"), "priority", errors.field_required)
    if given == ".":  # RFC 7505: no mail at all
        return Content(".", None, priority)
    target = names.host(given)
    if target is None:
        raise errors.bad_mx()
    return Content(target, None, priority)


def _text(given: str, body: Mapping[str, Any], name: str) -> Content:
    """A string of over 255 bytes comes back in parts, each in quotes; what needs no split comes back as it was given.

    "Strings exceeding this allowed maximum length are automatically split": the content of a TXT record in
    https://developers.cloudflare.com/api/resources/dns/subresources/records/methods/create/ , as in
    https://github.com/cloudflare/terraform-provider-cloudflare/issues/6238
    """
    strings = character_strings(given)
    return Content(quoted(strings) if is_split(given, strings) else given)


def _any_host(given: str, body: Mapping[str, Any], name: str) -> Content:
    target = names.host(given)
    if target is None:
        raise errors.invalid("content must be a host name")
    return Content(target)


def _as_it_is(given: str, body: Mapping[str, Any], name: str) -> Content:
    return Content(given)


_PLAIN: Mapping[str, Callable[[str, Mapping[str, Any], str], Content]] = {
    "A": _ipv4,
    "AAAA": _ipv6,
    "CNAME": _cname,
    "MX": _mx,
    "NS": _any_host,
    "OPENPGPKEY": _as_it_is,
    "PTR": _any_host,
    "TXT": _text,
}
# The fields of `data` in the order in which they make the content; in quotes what is a character string there.
_STRUCTURED: Mapping[str, tuple[str, ...]] = {
    "CAA": ("flags", "tag", '"value"'),
    "CERT": ("type", "key_tag", "algorithm", "certificate"),
    "DNSKEY": ("flags", "protocol", "algorithm", "public_key"),
    "DS": ("key_tag", "algorithm", "digest_type", "digest"),
    "HTTPS": ("priority", "target", "value"),
    "LOC": (),
    "NAPTR": ("order", "preference", '"flags"', '"service"', '"regex"', "replacement"),
    "SMIMEA": ("usage", "selector", "matching_type", "certificate"),
    "SRV": ("weight", "port", "target"),
    "SSHFP": ("algorithm", "type", "fingerprint"),
    "SVCB": ("priority", "target", "value"),
    "TLSA": ("usage", "selector", "matching_type", "certificate"),
    "URI": ("weight", '"target"'),
}
TYPES = (*_PLAIN, *_STRUCTURED)


def _structured(kind: str, body: Mapping[str, Any], name: str) -> Content:
    data = body.get("data")
    if not isinstance(data, Mapping):
        raise errors.field_required("data")
    if kind == "SRV":
        return _srv(data, name)
    if kind == "LOC":
        return Content(_location(data), dict(data))
    priority = None
    if kind == "URI":
        priority = _number(body.get("priority", data.get("priority")), "priority", errors.field_required)
    words: list[str] = []
    values = dict(data)
    for each in _STRUCTURED[kind]:
        field = each.strip('"')
        value = data.get(field)
        if value is None and not (kind in ("HTTPS", "SVCB") and field == "value"):
            raise errors.data_field_required(field)
        if kind in ("HTTPS", "SVCB") and isinstance(value, str):
            # octoDNS writes the parameters with a blank in front, and reads them without.
            values[field] = value = value.strip()
        word = _word(value)
        words.append(f'"{word}"' if each != field else word)
    return Content(" ".join(word for word in words if word), values, priority)


def _srv(data: Mapping[str, Any], name: str) -> Content:
    """RFC 2782. The name is `_service._proto.…`; other names are refused as invalid."""
    labels = name.split(".")
    if len(labels) < 3 or not (labels[0].startswith("_") and labels[1].startswith("_")):
        raise errors.bad_name()
    numbers = {
        field: _number(data.get(field), field, errors.data_field_required) for field in ("priority", "weight", "port")
    }
    if data.get("target") is None:
        raise errors.data_field_required("target")
    target = "." if data["target"] == "." else names.host(data["target"])
    if target is None:
        raise errors.invalid("target must be a host name")
    text = f"{numbers['weight']} {numbers['port']} {target}"
    return Content(text, {**numbers, "target": target}, numbers["priority"])


def _location(data: Mapping[str, Any]) -> str:
    words: list[str] = []
    for axis in ("lat", "long"):
        for part in ("degrees", "minutes", "seconds", "direction"):
            if data.get(f"{axis}_{part}") is None:
                raise errors.data_field_required(f"{axis}_{part}")
            words.append(_word(data[f"{axis}_{part}"]))
    for field, usual in (("altitude", 0), ("size", 1), ("precision_horz", 10000), ("precision_vert", 10)):
        metres = data.get(field, usual)
        if isinstance(metres, bool) or not isinstance(metres, (int, float)):
            raise errors.invalid(f"{field} must be a number of metres")
        words.append(f"{metres:.2f}m")
    return " ".join(words)


def _word(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _number(value: object, field: str, required: Callable[[str], errors.ApiError]) -> int:
    if value is None:
        raise required(field)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise errors.invalid(f"{field} must be a whole number")
    if not 0 <= value <= _WORD:
        raise errors.invalid(f"{field} must be from 0 to {_WORD}")
    return int(value)


def _dotted(target: str) -> str:
    return target if target.endswith(".") else f"{target}."


def _check_wire(kind: str, content: Content) -> None:
    fields = Fields(name="", type=kind, content=content.text, priority=content.priority)
    try:
        wire = dns.rdata.from_text(dns.rdataclass.IN, kind, presented(fields)).to_wire()
    except (dns.exception.DNSException, ValueError) as unreadable:
        raise errors.invalid(f"content for {kind} record is invalid") from unreadable
    if wire is not None and len(wire) > _WIRE_LIMIT:
        raise errors.too_long()
