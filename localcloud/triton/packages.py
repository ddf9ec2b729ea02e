"""Packages: the sizes of machines."""

from __future__ import annotations

import re

from localcloud.triton.call import Call, Reply
from localcloud.triton.catalogue import Package
from localcloud.triton.errors import not_found
from localcloud.triton.store import Store

_UUID = re.compile(r"[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}")
_FILTERS = ("brand", "name", "memory", "disk", "swap", "lwps", "version", "vcpus", "group", "flexible_disk")


def package_named(store: Store, wanted: str) -> Package | None:
    """By id (active or not; ApiError 404 where unknown), or the highest version of the active ones with this name."""
    if _UUID.fullmatch(wanted):
        found = next((each for each in store.packages if each.id == wanted), None)
        if found is None:
            raise not_found("Package does not exist")
        return found
    named = [each for each in store.packages if each.active and each.name == wanted]
    return max(named, key=lambda each: tuple(int(part) for part in each.version.split(".")), default=None)


def list_packages(call: Call) -> Reply:
    """List packages that match all given filters. `*` in a filter matches any text."""
    shown = [each.body() for each in call.store.packages if each.active]
    for name in _FILTERS:
        if call.params.get(name):
            pattern = ".*".join(re.escape(part) for part in str(call.params[name]).split("*"))
            shown = [body for body in shown if re.fullmatch(pattern, _text(body.get(name)))]
    return Reply(200, shown)


def get_package(call: Call) -> Reply:
    found = package_named(call.store, call.path["package"])
    if found is None:
        raise not_found(f"{call.path['package']} not found")
    return Reply(200, found.body())


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
