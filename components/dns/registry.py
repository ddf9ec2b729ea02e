"""List the DNS providers: the function that reads a place from a resource's inputs, by its `kind`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from components.dns import cloudflare, rfc2136, route53
from components.dns.base import Place

PLACES: dict[str, Callable[[Mapping[str, Any]], Place]] = {
    "cloudflare": cloudflare.Place.from_inputs,
    "route53": route53.ServicePlace.from_inputs,
    rfc2136.SITE: rfc2136.SitePlace.from_inputs,
    rfc2136.SERVICE: rfc2136.DynamicServicePlace.from_inputs,
}


def place_of(inputs: Mapping[str, Any]) -> Place:
    """Return the place that a resource's inputs name."""
    return PLACES[str(inputs["kind"])](inputs)
