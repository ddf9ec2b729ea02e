"""Create the SiteZone: a Cloudflare zone with sites, and its static parts.

The machines write their own records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi

from components.config.site_zones import ZoneSettings
from components.resources import cloudflare_sdk
from components.resources.tags import deployment

# What `acceleration` turns on. Each is available on the free plan. docs/configuration.md lists them for the user.
# Brotli is on for every zone, and its setting was removed:
# https://developers.cloudflare.com/fundamentals/api/reference/deprecations/
# https://developers.cloudflare.com/api/resources/zones/subresources/settings/
ACCELERATION = {
    "early_hints": "on",
    "http3": "on",
    "0rtt": "on",
    "always_online": "on",
    "rocket_loader": "off",
}
_PROTECTION_SETTING = "security_level"
# The machines of a proxied site open port 443 only, to the edge only, with a certificate that it verifies. In mode
# `strict` the edge would ask the origin in plain HTTP for what a visitor asks in plain HTTP. So visitors are redirected
# to https first. https://developers.cloudflare.com/ssl/origin-configuration/ssl-modes/full-strict/
CLOSED = {"ssl": "strict", "always_use_https": "on"}


@dataclass(frozen=True, kw_only=True)
class SiteZoneArgs:
    """The inputs of a SiteZone.

    `settings` are as in the stack's configuration. `taken` are the ids of existing records that the stack takes over,
    by resource.
    """

    settings: ZoneSettings
    taken: Mapping[str, str] = field(default_factory=dict)


class SiteZone(pulumi.ComponentResource):
    """The adopted zone (or a new one with `create`), the proxied apex, and the zone settings that were asked for.

    Off, the default, changes no zone setting at all. Proxied sets those that TLS up to the machines needs. `zone_id` is
    Cloudflare's id of the zone.
    """

    zone_id: pulumi.Output[str]

    def __init__(self, name: str, args: SiteZoneArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("rollcall:index:SiteZone", name, None, opts)
        settings = args.settings
        self.zone_id = self._zone(settings)
        self.static: list[pulumi.Resource] = [
            *self._apex(settings, args.taken),
            *(self._setting(settings.zone, key, value) for key, value in zone_settings(settings).items()),
        ]
        self.register_outputs({"zone_id": self.zone_id, "zone": settings.zone})

    def _zone(self, settings: ZoneSettings) -> pulumi.Output[str]:
        if settings.create:
            # Never emptied by force: the zone must survive the stack.
            retained = pulumi.ResourceOptions(parent=self, retain_on_delete=True)
            invoke_options = pulumi.InvokeOutputOptions(parent=self)
            account = settings.account_id or cloudflare_sdk.get_accounts_output(opts=invoke_options).results[0].id
            made = cloudflare_sdk.Zone(
                zone_resource(settings.zone), name=settings.zone, account={"id": account}, opts=retained
            )
            return made.id
        if settings.zone_id:
            return pulumi.Output.from_input(settings.zone_id)
        found = cloudflare_sdk.get_zone_output(
            filter={"name": settings.zone}, opts=pulumi.InvokeOutputOptions(parent=self)
        )
        return found.id.apply(lambda zone: str(zone))

    def _apex(self, settings: ZoneSettings, taken: Mapping[str, str]) -> list[pulumi.Resource]:
        site = settings.apex
        if site is None:
            return []
        resource = apex_resource(settings.zone)
        record = cloudflare_sdk.DnsRecord(
            resource,
            zone_id=self.zone_id,
            name=settings.zone,
            type="CNAME",
            content=site.fqdn,
            proxied=True,
            ttl=1,
            comment=apex_comment(deployment()),
            opts=pulumi.ResourceOptions(parent=self, import_=taken.get(resource)),
        )
        return [record]

    def _setting(self, zone: str, key: str, value: str) -> pulumi.Resource:
        options = pulumi.ResourceOptions(parent=self)
        return cloudflare_sdk.ZoneSetting(
            setting_resource(zone, key), zone_id=self.zone_id, setting_id=key, value=value, opts=options
        )


def zone_resource(zone: str) -> str:
    """Return the name of the resource for a zone that the stack creates."""
    return f"site-{zone}-zone"


def apex_resource(zone: str) -> str:
    """Return the name of the resource for a zone's apex record."""
    return f"site-{zone}-apex"


def setting_resource(zone: str, key: str) -> str:
    """Return the name of the resource for a setting of a zone, as `always_use_https`."""
    return f"site-{zone}-{key.replace('_', '-')}"


def apex_comment(stack: str) -> str:
    """Return the comment by which a stack recognises its apex record, also one that no state contains."""
    return f"the site's apex, kept by Rollcall's stack {stack}"


def zone_settings(settings: ZoneSettings) -> dict[str, str]:
    """Return the zone settings that the sites' `proxied`, `protection` and `acceleration` need.

    Empty when all are off.
    """
    wanted: dict[str, str] = dict(CLOSED) if settings.proxied else {}
    if settings.protection != "off":
        wanted[_PROTECTION_SETTING] = settings.protection
    if settings.acceleration:
        wanted.update(ACCELERATION)
    return wanted
