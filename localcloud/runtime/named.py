"""What a stack's configuration names that its operator has: zones, and Debian packages for workloads.

Pure functions of the stack's configuration. A value of another shape than expected is left out: the program reports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from localcloud.machines.image import ImageError, release_of

_SITES, _DIRECTORIES = ("site", "sites"), ("serviceDiscovery",)


def zones(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the names of zones that the stack uses and does not create, for `cloudflare` and `route53`."""
    found: dict[str, set[str]] = {"cloudflare": set(), "route53": set()}
    for provider, keys in (("cloudflare", _SITES), ("route53", _DIRECTORIES)):
        for key in keys:
            for each in _with_zone(config.get(f"rollcall:{key}")):
                if each.get("provider", provider) == provider and each.get("create") is not True:
                    found[provider].add(each["zone"].lower())
    # A name has a dot; an id of a zone has none.
    return {provider: sorted(each for each in names if "." in each) for provider, names in found.items()}


def _with_zone(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield this mapping, or the mappings in it, that have a zone's name."""
    if not isinstance(value, Mapping):
        return
    if isinstance(value.get("zone"), str):
        yield value
        return
    for each in value.values():
        if isinstance(each, Mapping) and isinstance(each.get("zone"), str):
            yield each


def packages(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the packages that each Debian release needs, by the images of the fleets that run a workload."""
    workloads, fleets = config.get("rollcall:workloads"), config.get("rollcall:fleets")
    found: dict[str, set[str]] = {}
    for fleet in fleets.values() if isinstance(fleets, Mapping) else ():
        release = _release(fleet)
        if not release or not isinstance(workloads, Mapping) or not isinstance(fleet.get("runs"), list):
            continue
        for name in fleet["runs"]:
            workload = workloads.get(name) if isinstance(name, str) else None
            listed = workload.get("packages") if isinstance(workload, Mapping) else None
            named = [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []
            if named:
                found.setdefault(release, set()).update(named)
    return {release: sorted(names) for release, names in found.items()}


def _release(fleet: Any) -> str:
    image = fleet.get("image") if isinstance(fleet, Mapping) else None
    if not isinstance(image, str):
        return ""
    try:
        return release_of(image)
    except ImageError:
        return ""
