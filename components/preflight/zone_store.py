"""Do what only an operator does in a Cloudflare zone: find it, and write only a record's comment."""

from __future__ import annotations

from components.config.models import Settings
from components.config.site_zones import ZoneSettings
from components.dns.cloudflare_store import RecordStore
from components.preflight import cloudflare_zone
from rollcall.cloudflare import Record
from rollcall.errors import FatalError


class ZoneStore(RecordStore):
    """A Cloudflare zone for the operator. Raises the errors of RecordStore."""

    def zone(self, zone: ZoneSettings) -> str | None:
        """Return Cloudflare's id of the zone; None where the token sees none.

        Raises FatalError where it is not one.
        """
        found = cloudflare_zone.named(self._api, zone)
        fault = cloudflare_zone.choice_fault(zone, found) if found else None
        if fault:
            raise FatalError(fault)
        return found[0].id if found else None

    def room_faults(self, settings: Settings, zone: ZoneSettings) -> list[str]:
        """Return why the zone has no room for the machines' records, if any will be there."""
        if not cloudflare_zone.is_joined(settings, zone):
            return []
        faults = (
            cloudflare_zone.room_fault(self._api, settings, zone, each)
            for each in cloudflare_zone.named(self._api, zone)
        )
        return [fault for fault in faults if fault]

    def comment(self, record: Record, text: str) -> None:
        """Set the comment. The request contains nothing else, so nothing else can change.

        https://developers.cloudflare.com/api/resources/dns/subresources/records/methods/edit/
        """
        self._call("PATCH", f"/zones/{record.zone}/dns_records/{record.id}", {"comment": text})
