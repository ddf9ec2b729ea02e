"""The DNS providers that there are, by the `kind` of a place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.dns.base import Records
from components.dns.cloudflare import Place, SiteRecords
from components.dns.cloudflare_access import cloudflare_token, cloudflare_url
from components.dns.cloudflare_store import RecordStore
from components.dns.route53 import ServicePlace, ServiceRecords
from rollcall.zoneview import ZoneView

AnyPlace = Place | ServicePlace


def place_of(inputs: Mapping[str, Any]) -> AnyPlace:
    """The place that a resource's inputs name."""
    return ServicePlace.from_inputs(inputs) if inputs["kind"] == "route53" else Place.from_inputs(inputs)


def records_of(
    places: Sequence[AnyPlace], views: Mapping[str, ZoneView], config: Mapping[str, str]
) -> tuple[Records, ...]:
    """The records of each place. `views` has what the name servers of each zone answer, by the zone's name."""
    # Whoever asks here retries.
    store = RecordStore(cloudflare_token(config.get), cloudflare_url(config.get), retries=False)
    return tuple(
        SiteRecords(place, store, views[place.domain])
        if isinstance(place, Place)
        else ServiceRecords(place, config=config, view=views[place.domain])
        for place in places
    )
