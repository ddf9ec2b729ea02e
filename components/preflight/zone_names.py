"""Look up the name of a zone where the configuration has its id. Everything else uses names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from components.aws import api_errors
from components.config.errors import ConfigurationError
from components.config.models import CLOUDFLARE_ID, HOSTED_ZONE_ID
from components.dns.cloudflare_access import Get, cloudflare_token, cloudflare_url
from components.dns.cloudflare_api import ApiFailingError, ApiRefusedError, CloudflareApi

_IDS = {"site": CLOUDFLARE_ID, "serviceDiscovery": HOSTED_ZONE_ID}


def named(values: Mapping[str, Any], names: Mapping[str, Callable[[str], str]]) -> dict[str, Any]:
    """Return the configuration with `zone` and `zoneId` where `zone` was an id. `names` look a name up, by key.

    Raises ConfigurationError with each id that could not be looked up.
    """
    found, faults = dict(values), list[str]()
    for key, form in _IDS.items():
        section = found.get(key)
        zone = section.get("zone") if isinstance(section, Mapping) else None
        if isinstance(section, Mapping) and isinstance(zone, str) and re.fullmatch(form, zone):
            try:
                found[key] = {"zoneId": zone, **section, "zone": names[key](zone)}
            except (ApiFailingError, ApiRefusedError) as failed:
                faults.append(_not_found(key, zone, str(failed)))
            except api_errors.failures() as failed:
                faults.append(_not_found(key, zone, api_errors.message_of(failed)))
    if faults:
        raise ConfigurationError(faults)
    return found


def ids_from_apis(config: Get) -> dict[str, Callable[[str], str]]:
    """Return functions that ask the operator's accounts. `config` gives a key of the stack's configuration."""

    def of_site(zone: str) -> str:
        api = CloudflareApi(cloudflare_url(config), cloudflare_token(config))
        return str(api.get(f"/zones/{zone}")["name"])

    def of_directory(zone: str) -> str:
        from components.aws.session import session_of

        found = session_of(config).client("route53").get_hosted_zone(Id=zone)
        return str(found["HostedZone"]["Name"]).rstrip(".")

    return {"site": of_site, "serviceDiscovery": of_directory}


def _not_found(key: str, zone: str, fault: str) -> str:
    return f"rollcall:{key}.zone: the name of zone {zone} was not found: {fault}"
