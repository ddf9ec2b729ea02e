"""Create the ServiceDirectory: the static part of DNS-SD in a Route53 hosted zone. It has no SRV records: those belong to live machines.

RFC 6763: section 4.1 (PTR from a service to its instances), 6 (TXT), 9 (enumeration of services).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pulumi

from components.config.models import IncarnationSettings, ServiceDiscoverySettings
from components.resources import aws_sdk as aws
from components.resources.tags import deployment
from components.resources.zone_soa import PRIVATE_TTL_S, TTL_S, ZoneSoa

ENUMERATION = "_services._dns-sd._udp"


@dataclass(frozen=True, kw_only=True)
class StaticRecord:
    """A record set that the stack writes: the resource's name, and the set as the provider takes it."""

    resource: str
    name: str
    type: str
    ttl: int
    values: tuple[str, ...]

    @property
    def wire(self) -> tuple[str, ...]:
        """Return the values as Route53's API has them, sorted. The provider adds a TXT's outer quotes."""
        return tuple(sorted(f'"{each}"' if self.type == "TXT" else each for each in self.values))


@dataclass(frozen=True, kw_only=True)
class ServiceDirectoryArgs:
    """The inputs of a ServiceDirectory.

    `settings` are as in the stack's configuration. `taken` are the ids of existing records that the stack takes over,
    by resource. `vpcs` are those of a private zone that is made.
    """

    settings: ServiceDiscoverySettings
    taken: Mapping[str, str] = field(default_factory=dict)
    vpcs: Sequence[Mapping[str, pulumi.Input[str]]] = ()


class ServiceDirectory(pulumi.ComponentResource):
    """The adopted hosted zone (or a new one with `create`) and its static records.

    Each service has a PTR to its incarnations and each incarnation has its TXT. The enumeration lists the services.
    `zone_id` is the hosted zone's id, `zone_arn` its ARN, `static` the records.
    """

    zone_id: pulumi.Output[str]
    zone_arn: pulumi.Output[str]

    def __init__(self, name: str, args: ServiceDirectoryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("rollcall:index:ServiceDirectory", name, None, opts)
        self._settings, self._taken, self._vpcs = args.settings, args.taken, args.vpcs
        self.zone_id, self.zone_arn = self._zone(name)
        self.static: list[pulumi.Resource] = [self._record(each) for each in static_records(args.settings, name)]
        if args.settings.manages_soa:
            self.static.append(
                ZoneSoa(
                    f"{name}-soa",
                    zone=self.zone_id,
                    domain=args.settings.zone,
                    stack=deployment(),
                    ttl=PRIVATE_TTL_S if args.settings.private else TTL_S,
                    opts=pulumi.ResourceOptions(parent=self),
                )
            )
        self.register_outputs({"zone_id": self.zone_id})

    def _zone(self, name: str) -> tuple[pulumi.Output[str], pulumi.Output[str]]:
        if self._settings.create:
            # Never emptied by force: the zone must survive the stack.
            retained = pulumi.ResourceOptions(parent=self, retain_on_delete=True)
            made = aws.route53.Zone(
                f"{name}-zone",
                name=self._settings.zone,
                force_destroy=False,
                vpcs=[*self._vpcs] or None,
                opts=retained,
            )
            return made.zone_id, made.arn
        invoke_options = pulumi.InvokeOutputOptions(parent=self)
        if self._settings.zone_id:
            found = aws.route53.get_zone_output(zone_id=self._settings.zone_id, opts=invoke_options)
        else:
            # There may be a zone of the other kind with the same name.
            found = aws.route53.get_zone_output(
                name=self._settings.zone, private_zone=self._settings.private, opts=invoke_options
            )
        return found.zone_id, found.arn

    def _record(self, record: StaticRecord) -> pulumi.Resource:
        return aws.route53.Record(
            record.resource,
            zone_id=self.zone_id,
            name=record.name,
            type=record.type,
            ttl=record.ttl,
            records=list(record.values),
            opts=pulumi.ResourceOptions(parent=self, import_=self._taken.get(record.resource)),
        )


def static_records(
    settings: ServiceDiscoverySettings,
    name: str = "directory",
    txt: Callable[[IncarnationSettings], str] | None = None,
) -> list[StaticRecord]:
    """Return the static records of the directory called `name`.

    `txt` gives the value of an incarnation's TXT, without its outer quotes.
    """
    zone = settings.zone

    def record(resource: str, label: str, rtype: str, values: list[str]) -> StaticRecord:
        # Route53 keeps names in lower case.
        return StaticRecord(
            resource=resource, name=f"{label}.{zone}".lower(), type=rtype, ttl=settings.ttl, values=tuple(values)
        )

    made = []
    if settings.publish_service_types:
        services = sorted(f"{service.label}.{zone}." for service in settings.services)
        made.append(record(f"{name}-services", ENUMERATION, "PTR", services))
    for service in settings.services:
        of = f"{name}-{service.name}"
        sets = {each: incarnation for incarnation in service.incarnations for each in incarnation.sets}
        made.append(
            record(f"{of}-ptr", service.label, "PTR", [f"{each}.{service.label}.{zone}." for each in sorted(sets)])
        )
        for each, incarnation in sets.items():
            made.append(record(f"{of}-{each}-txt", f"{each}.{service.label}", "TXT", [(txt or txt_value)(incarnation)]))
    return made


def txt_value(incarnation: IncarnationSettings) -> str:
    """Return the TXT of an incarnation as the provider takes it: one record of several strings. The provider adds the outer quotes.

    https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/ResourceRecordTypes.html#TXTFormat. Without keys and
    values it is one empty string (RFC 6763 section 6.1).
    """
    return '" "'.join(_escaped(f"{key}={value}", "\\{:03o}") for key, value in _sorted(incarnation.txt).items())


def zone_file_txt(incarnation: IncarnationSettings) -> str:
    """Return the same as a zone file has it, where the number of a byte is decimal (RFC 1035 section 5.1)."""
    return '" "'.join(_escaped(f"{key}={value}", "\\{:03d}") for key, value in _sorted(incarnation.txt).items())


def _sorted(txt: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(txt.items()))


def _escaped(text: str, form: str) -> str:
    """Return printable ASCII as it is, `"` and `\\` with a backslash, every other byte in `form`."""
    shown = {ord('"'): '\\"', ord("\\"): "\\\\"}
    return "".join(
        shown.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else form.format(byte)) for byte in text.encode()
    )
