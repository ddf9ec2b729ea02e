"""What a stack's configuration names that its operator has: zones, and Debian packages for workloads.

Pure functions of the stack's configuration. A value of another shape than expected is left out: the program reports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localcloud.machines.image import ImageError, release_of
from rollcall.containers import PACKAGES

# What machines of a site with `tls` install (userdata/rollcall/certificates.py).
ACME = "python3-acme"


def zones(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the names of zones that the stack uses and does not create, for `cloudflare` and `route53`."""
    sites, directory = config.get("rollcall:sites"), config.get("rollcall:serviceDiscovery")
    named = {"cloudflare": [*sites.values()] if isinstance(sites, Mapping) else [], "route53": [directory]}
    found: dict[str, set[str]] = {provider: set() for provider in named}
    for provider, values in named.items():
        for each in values:
            if not isinstance(each, Mapping) or not isinstance(each.get("zone"), str):
                continue
            if each.get("provider", provider) == provider and each.get("create") is not True:
                found[provider].add(each["zone"].lower())
    # A name has a dot; an id of a zone has none.
    return {provider: sorted(each for each in names if "." in each) for provider, names in found.items()}


def secured_sites(config: Mapping[str, Any]) -> set[str]:
    """Return the sites with `tls`, by their names in `joins`. They need an ACME server."""
    sites = config.get("rollcall:sites")
    named = sites.items() if isinstance(sites, Mapping) else ()
    return {f"site/{name}" for name, each in named if isinstance(each, Mapping) and each.get("tls") is not None}


def packages(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the packages that each Debian release needs, by the images of the fleets that run a workload."""
    workloads, fleets = config.get("rollcall:workloads"), config.get("rollcall:fleets")
    found: dict[str, set[str]] = {}
    secured = secured_sites(config)
    for fleet in fleets.values() if isinstance(fleets, Mapping) else ():
        release = _release(fleet)
        if release and isinstance(fleet.get("joins"), list) and not secured.isdisjoint(map(str, fleet["joins"])):
            found.setdefault(release, set()).add(ACME)
        if not release or not isinstance(workloads, Mapping) or not isinstance(fleet.get("runs"), list):
            continue
        for name in fleet["runs"]:
            workload = workloads.get(name) if isinstance(name, str) else None
            listed = workload.get("packages") if isinstance(workload, Mapping) else None
            named = [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []
            if isinstance(workload, Mapping) and "container" in workload:
                named += PACKAGES
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
