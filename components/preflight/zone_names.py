"""Look up the name of a zone where the configuration has its id. Everything else uses names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from components.aws import api_errors
from components.config.errors import ConfigurationError, at
from components.config.models import CLOUDFLARE_ID, HOSTED_ZONE_ID
from components.dns.cloudflare_access import Get, cloudflare_token, cloudflare_url
from components.dns.cloudflare_api import ApiFailingError, ApiRefusedError, CloudflareApi

SITES, DIRECTORY = "sites", "serviceDiscovery"
_IDS = {SITES: CLOUDFLARE_ID, DIRECTORY: HOSTED_ZONE_ID}


def named(values: Mapping[str, Any], names: Mapping[str, Callable[[str], str]]) -> dict[str, Any]:
    """Return the configuration with `zone` and `zoneId` where `zone` was an id. `names` look a name up, by key.

    Raises ConfigurationError with each id that could not be looked up.
    """
    found, faults = dict(values), list[str]()
    if DIRECTORY in found:
        found[DIRECTORY] = _named(f"rollcall:{DIRECTORY}", found[DIRECTORY], DIRECTORY, names, faults)
    if isinstance(sites := found.get(SITES), Mapping):
        found[SITES] = {
            name: _named(at(f"rollcall:{SITES}", str(name)), section, SITES, names, faults)
            for name, section in sites.items()
        }
    if faults:
        raise ConfigurationError(faults)
    return found


def _named(where: str, section: Any, key: str, names: Mapping[str, Callable[[str], str]], faults: list[str]) -> Any:
    """Return a section with the name of its zone. An id that could not be looked up is added to `faults`."""
    zone = section.get("zone") if isinstance(section, Mapping) else None
    if not isinstance(zone, str) or not re.fullmatch(_IDS[key], zone):
        return section
    try:
        return {"zoneId": zone, **section, "zone": names[key](zone)}
    except (ApiFailingError, ApiRefusedError) as failed:
        faults.append(_not_found(where, zone, str(failed)))
    except api_errors.failures() as failed:
        faults.append(_not_found(where, zone, api_errors.message_of(failed)))
    return section


def ids_from_apis(config: Get) -> dict[str, Callable[[str], str]]:
    """Return functions that ask the operator's accounts. `config` gives a key of the stack's configuration."""

    def of_site(zone: str) -> str:
        api = CloudflareApi(cloudflare_url(config), cloudflare_token(config))
        return str(api.get(f"/zones/{zone}")["name"])

    def of_directory(zone: str) -> str:
        from components.aws.session import session_of

        found = session_of(config).client("route53").get_hosted_zone(Id=zone)
        return str(found["HostedZone"]["Name"]).rstrip(".")

    return {SITES: of_site, DIRECTORY: of_directory}


def _not_found(where: str, zone: str, fault: str) -> str:
    return f"{where}.zone: the name of zone {zone} was not found: {fault}"
