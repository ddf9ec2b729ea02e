"""ServiceDirectory: what is static of DNS-SD in a Route53 hosted zone. No SRV: those belong to live machines.

RFC 6763: section 4.1 (PTR from a service to its instances), 6 (TXT), 9 (enumeration of services).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.settings import DirectorySettings, IncarnationSettings, ServiceSettings

_ENUMERATION = "_services._dns-sd._udp"


@dataclass(frozen=True, kw_only=True)
class ServiceDirectoryArgs:
    """`settings` as the stack's configuration has them."""

    settings: DirectorySettings


class ServiceDirectory(pulumi.ComponentResource):
    """The adopted hosted zone (or a new one with `create`); for each service a PTR to its incarnations, for each incarnation
    its TXT, and the enumeration of the services.

    `zone_id` is the hosted zone's id, `zone_arn` its ARN, `static` the records.
    """

    zone_id: pulumi.Output[str]
    zone_arn: pulumi.Output[str]

    def __init__(self, name: str, args: ServiceDirectoryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("rollcall:index:ServiceDirectory", name, None, opts)
        self._settings = settings = args.settings
        self.zone_id, self.zone_arn = self._zone(name)
        services = sorted(f"{service.label}.{settings.zone}." for service in settings.services)
        self.static: list[pulumi.Resource] = []
        if settings.enumerate:
            self.static.append(self._record(f"{name}-services", _ENUMERATION, "PTR", services))
        for service in settings.services:
            self.static += self._service(f"{name}-{service.name}", service)
        self.register_outputs({"zone_id": self.zone_id})

    def _zone(self, name: str) -> tuple[pulumi.Output[str], pulumi.Output[str]]:
        if self._settings.create:
            # Never emptied by force: the zone outlives the stack.
            kept = pulumi.ResourceOptions(parent=self, protect=True, retain_on_delete=True)
            made = aws.route53.Zone(f"{name}-zone", name=self._settings.zone, force_destroy=False, opts=kept)
            return made.zone_id, made.arn
        # A private zone of the same name would answer to nobody outside its VPC.
        found = aws.route53.get_zone_output(
            name=self._settings.zone, private_zone=False, opts=pulumi.InvokeOutputOptions(parent=self)
        )
        return found.zone_id, found.arn

    def _service(self, name: str, service: ServiceSettings) -> list[pulumi.Resource]:
        sets = {each: incarnation for incarnation in service.incarnations for each in incarnation.sets}
        instances = [f"{each}.{service.label}.{self._settings.zone}." for each in sorted(sets)]
        made = [self._record(f"{name}-ptr", service.label, "PTR", instances)]
        for each, incarnation in sets.items():
            made.append(self._record(f"{name}-{each}-txt", f"{each}.{service.label}", "TXT", [txt_value(incarnation)]))
        return made

    def _record(self, name: str, label: str, rtype: str, values: list[str]) -> pulumi.Resource:
        return aws.route53.Record(
            name,
            zone_id=self.zone_id,
            # Route53 keeps names in lower case.
            name=f"{label}.{self._settings.zone}".lower(),
            type=rtype,
            ttl=self._settings.ttl,
            records=values,
            opts=pulumi.ResourceOptions(parent=self),
        )


def txt_value(incarnation: IncarnationSettings) -> str:
    """The TXT of an incarnation as the provider takes it: one record of several strings, whose outer quotes it adds itself.

    https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/ResourceRecordTypes.html#TXTFormat. Without keys and values it
    is one empty string (RFC 6763 section 6.1).
    """
    return '" "'.join(_escaped(f"{key}={value}") for key, value in _sorted(incarnation.txt).items())


def _sorted(txt: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(txt.items()))


def _escaped(text: str) -> str:
    """Printable ASCII as it is, `"` and `\\` with a backslash, every other byte as `\\ooo`."""
    shown = {ord('"'): '\\"', ord("\\"): "\\\\"}
    return "".join(shown.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}") for byte in text.encode())
