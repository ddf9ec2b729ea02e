"""What an operator does in a Cloudflare zone beside what machines do: find it by name, and write a record's comment alone."""

from __future__ import annotations

from rollcall.cloudflare import CloudflareStore, Record


class ZoneStore(CloudflareStore):
    """Raises what CloudflareStore raises."""

    def zone(self, name: str) -> str | None:
        """Cloudflare's id of the zone; None where the token sees none of this name."""
        found = self._call("GET", "/zones", query={"name": name}).get("result") or []
        return str(found[0]["id"]) if found else None

    def comment(self, record: Record, text: str) -> None:
        """Set the comment. Nothing else is sent, so nothing else can change.

        https://developers.cloudflare.com/api/resources/dns/subresources/records/methods/edit/
        """
        self._call("PATCH", f"/zones/{record.zone}/dns_records/{record.id}", {"comment": text})
