"""Names of records: relative or whole, in Unicode or Punycode, on their way to one form."""

from __future__ import annotations

import re

from localcloud.cloudflare import errors

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?|[_]")
_LONGEST = 253


def record_name(given: object, zone: str) -> str:
    """The whole name of a record in `zone`: lower case, Punycode, no final dot. `@` is the zone itself.

    Raises ApiError 9000 where it is none. A name outside the zone is taken as relative, as Cloudflare does.
    """
    if not isinstance(given, str) or not given:
        raise errors.field_required("name")
    name = _ascii(given)
    if name == "@":
        return zone
    if name != zone and not name.endswith(f".{zone}"):
        name = f"{name}.{zone}"
    if not is_host(name.removeprefix("*.")):
        raise errors.bad_name()
    return name


def host(given: object) -> str | None:
    """`given` as a host name in lower case without the final dot; None where it is none."""
    if not isinstance(given, str):
        return None
    try:
        name = _ascii(given)
    except errors.ApiError:
        return None
    last = name.rpartition(".")[2]
    return name if is_host(name) and "." in name and not last.isdecimal() else None


def is_host(name: str) -> bool:
    return len(name) <= _LONGEST and all(_LABEL.fullmatch(label) for label in name.split("."))


def _ascii(given: str) -> str:
    name = given.strip().rstrip(".").lower()
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError as unreadable:
        raise errors.bad_name() from unreadable
