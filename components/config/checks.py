"""Check what needs more than one key: names, keys that depend on another key, wrong joins, and limits of DNS, tags and plans.

The settings may have defaults instead of values with errors. Where a key has an error, these checks add no other one to
it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from components.config import (
    floors,
    machine_checks,
    mirror_checks,
    secret_names,
    site_checks,
    vpc_checks,
    workload_checks,
)
from components.config.availability_zones import ALL_ZONES, is_zone, is_zone_id
from components.config.errors import Faults, at, may_be_secret, near, shown
from components.config.joins import service_join, site_join
from components.config.models import (
    EC2_IMAGES,
    FLEET_NAME,
    LABEL,
    SERVICE_NAME,
    SITE,
    FleetSettings,
    IncarnationSettings,
    ServiceDiscoverySettings,
    ServiceSettings,
    Settings,
    SiteSettings,
    joins_site,
)
from components.config.servers import at_port
from components.config.site_zones import zones_of
from rollcall import probe
from rollcall.ownership import Owner, OwnershipError
from rollcall.settings import (
    VPC,
    CloudflareJoin,
    Rfc2136Join,
    Rfc2136SiteJoin,
    Route53Join,
    ServiceJoin,
    SettingsError,
    SiteJoin,
    format_join,
)

_REGION = r"[a-z]{2}(?:-[a-z]+)+-\d"
_AMI_OR_PARAMETER = r"ami-[0-9a-f]{8}(?:[0-9a-f]{9})?|/\S+"
_LONGEST_UUID = "00000000-0000-0000-0000-000000000000"
_LONGEST_NAME, _LONGEST_LABEL = 253, 63
_LONGEST_TXT, _LONGEST_TXT_STRING = 1300, 255
_MOST_JOINS = 10
_ROUTE53_VALUES, _ROUTE53_COMFORTABLE = 400, 300
_MOST_VPCS = 300
_SERVICES = "rollcall:serviceDiscovery.services"
_FLEETS = "rollcall:fleets"
_NAMES_NONE = "names no fleet"
# The first words of the error for a missing fleet.
NO_FLEET = f"{_FLEETS}: {_NAMES_NONE}"


@dataclass(frozen=True)
class _Add:
    """Add an error, unless its key has one already.

    `value` and `detail` may quote values, and are not shown for `hidden` keys.
    """

    faults: Faults
    hidden: Collection[str]

    def __call__(self, where: str, problem: str, fix: str, *, value: str | None = None, detail: object = "") -> None:
        if self.faults.covers(where):
            return
        secret = re.split(r"[:.\[]", where)[1] in self.hidden
        subject = f"{shown(value, hidden=secret)} " if value is not None else ""
        # It may quote another key.
        because = f" ({detail})" if detail and not self.hidden else ""
        self.faults.add(where, f"{subject}{problem}{because}", fix)


def check(settings: Settings, faults: Faults, hidden: Collection[str] = ()) -> Settings:
    """Add every error, and return the settings with the defaults that depend on other keys."""
    add = _Add(faults, hidden)
    if not settings.fleets and not faults:
        example = "{cloud: aws, count: 2, size: t3.micro, image: debian-12, joins: [site/www]}"
        add(_FLEETS, _NAMES_NONE, f"Add one, as web-aws: {example}")
    for site in settings.sites:
        _floor(site.key, site.join, site.min_registered, settings, add)
    if settings.service_discovery is not None:
        _directory(settings.service_discovery, add)
        for service in settings.service_discovery.services:
            _capacity(settings, service, add)
            for each in service.incarnations:
                join, key = f"{service.name}/{each.name}", at(_SERVICES, service.name)
                _floor(key, join, service.min_registered, settings, add)
    workload_checks.check(settings, faults, add)
    mirror_checks.check(settings, add)
    for fleet in settings.fleets:
        _fleet(fleet, add)
        _joins(settings, fleet, faults, add)
        _names_in_dns(settings.stack, fleet, add)
        _machine_settings(settings, fleet, add)
        vpc_checks.check(settings, fleet, add)
    machine_checks.check_credentials(settings, add)
    site_checks.check(settings, add)
    return replace(settings, fleets=tuple(_with_defaults(fleet) for fleet in settings.fleets))


def _with_defaults(fleet: FleetSettings) -> FleetSettings:
    """Add the defaults of a fleet. On Triton the account's keys are root's keys."""
    if fleet.ssh is None or fleet.ssh.user or fleet.cloud == "aws":
        return fleet
    return replace(fleet, ssh=replace(fleet.ssh, user="root"))


def _created(key: str, zone: ServiceDiscoverySettings, add: _Add) -> None:
    if zone.create and zone.zone_id:
        add(f"{key}.zoneId", "names a zone that exists, and create: true makes another", "Keep one of the two")


def _dynamic(key: str, zone: ServiceDiscoverySettings, add: _Add) -> bool:
    """Return whether the zone's name server takes dynamic updates. A key that does not fit this is an error."""
    if not zone.is_dynamic:
        if zone.server is not None and not add.faults.covers(f"{key}.provider"):
            add(f"{key}.server", "is for provider: rfc2136", "Leave it out, or set the provider")
        return False
    if zone.server is None:
        add(f"{key}.server", "is missing", "Name the zone's primary name server, as 192.0.2.53")
    if zone.create:
        add(f"{key}.create", "is on, and a zone of provider: rfc2136 is made at its server", "Leave it out")
    if zone.zone_id is not None:
        add(f"{key}.zoneId", "is set, and a zone of provider: rfc2136 has only a name", "Leave it out")
    return True


def _private(directory: ServiceDiscoverySettings, add: _Add) -> None:
    key = "rollcall:serviceDiscovery"
    if directory.private and directory.is_dynamic:
        add(f"{key}.private", "is on, and is for hosted zones of Route53", "Leave it out")
    if directory.vpcs and not directory.private:
        add(f"{key}.vpcs", "is for a private zone", "Leave it out, or set private: true")
    elif directory.vpcs and not directory.create:
        fix = "Leave it out, and associate the VPCs with the zone"
        add(f"{key}.vpcs", "is for a zone that the stack makes, and create is not set", fix)
    elif len(directory.vpcs) > _MOST_VPCS:
        add(
            f"{key}.vpcs",
            f"names {len(directory.vpcs)}, and Route53 takes {_MOST_VPCS}",
            "Name fewer, or divide the zone",
        )


def _directory(directory: ServiceDiscoverySettings, add: _Add) -> None:
    _created("rollcall:serviceDiscovery", directory, add)
    _private(directory, add)
    if _dynamic("rollcall:serviceDiscovery", directory, add) and directory.manage_soa:
        add("rollcall:serviceDiscovery.manageSoa", "is on, and the SOA is the server's", "Set the SOA's minimum there")
    if not directory.services:
        example = "theService: {protocol: tcp, port: 4218, incarnations: {v1: {}}}"
        add(_SERVICES, "names no service", f"Add one, as {example}")
    for service in directory.services:
        _service(service, add)
        _lengths(directory, service, add)
    _distinct_names(directory, add)


def _service(service: ServiceSettings, add: _Add) -> None:
    key = at(_SERVICES, service.name)
    if not re.fullmatch(SERVICE_NAME, service.name):
        rule = "1 to 15 letters, digits and single inner hyphens with at least one letter"
        add(key, "is not the name of a service", f"RFC 6335 section 5.1 takes {rule}")
    if f"{service.name}/" == SITE:
        add(key, "is the word before the name of a site in joins", "Rename it")
    if (service.protocol, service.port) == ("udp", probe.PORT):
        add(
            f"{key}.port",
            f"{probe.PORT} of UDP is where Rollcall's agents ask each other",
            "Set another port, or protocol tcp",
        )
    if service.protocol == "udp" and service.check is None:
        add(f"{key}.check", "is needed for a UDP service", "Write command:/PATH, or the tcp: or http: port that tells")
    if not service.incarnations:
        add(f"{key}.incarnations", "is empty", "Name one at least, as {v1: {txt: {path: /}}}")
    for each in service.incarnations:
        _incarnation(at(key, "incarnations", each.name), each, add)
    known = sorted(each.name for each in service.incarnations if service.srv(each))
    if service.short_name is not None and service.short_name not in known:
        fix = f"Name one of {', '.join(known)}" if known else "Take it out"
        add(f"{key}.shortName", f"is {shown(service.short_name)}, which is not an incarnation without shards", fix)
    _shards(service, add)


def _incarnation(key: str, incarnation: IncarnationSettings, add: _Add) -> None:
    if not re.fullmatch(LABEL, incarnation.name):
        add(key, "is not the name of an incarnation", "Use one DNS label: 1 to 63 of a-z, 0-9 and inner hyphens")
    for name, value in incarnation.txt.items():
        _txt(at(key, "txt", name), name, value, add)
    if len({name.lower() for name in incarnation.txt}) < len(incarnation.txt):
        add(f"{key}.txt", "has keys that differ in case only", "Rename one (RFC 6763 section 6.4)")
    size = sum(1 + len(f"{name}={value}".encode()) for name, value in incarnation.txt.items())
    if size > _LONGEST_TXT:
        add(f"{key}.txt", f"has {size} bytes", f"Shorten it to {_LONGEST_TXT} (RFC 6763 section 6.2)")


def _txt(key: str, name: str, value: str, add: _Add) -> None:
    """Check a TXT key and value.

    RFC 6763 section 6: a key is printable US-ASCII without `=`; key, `=` and value fit one string of 255 bytes.
    """
    if not name or not all(0x20 <= ord(char) <= 0x7E and char != "=" for char in name):
        add(key, "is not a TXT key", "Use printable ASCII without `=` (RFC 6763 section 6.4)")
    if len(f"{name}={value}".encode()) > _LONGEST_TXT_STRING:
        add(key, f"makes a string of over {_LONGEST_TXT_STRING} bytes", "Shorten it (RFC 6763 section 6.1)")
    if may_be_secret(f"{name}={value}"):
        add(key, "looks like a secret", "Take it out: anyone can read a TXT record")


def _shards(service: ServiceSettings, add: _Add) -> None:
    """Refuse names that two incarnations or shards would share, and names that a client would take for the shards of another one."""
    key = f"{at(_SERVICES, service.name)}.incarnations"
    names = [name for each in service.incarnations for name in each.sets]
    for name in sorted({each for each in names if names.count(each) > 1}):
        add(key, f"has two that make a set called {name}", "Rename one: shards are called NAME-1, NAME-2, …")
    whole = {each.name for each in service.incarnations if each.shards == 1}
    for name in sorted(whole):
        shard = re.fullmatch(r"(.+)-[0-9]+", name)
        if shard and shard[1] not in whole:
            problem = f"looks like a shard of {shard[1]}, and clients would take it for one"
            add(at(key, name), problem, f"Rename it, as {name.replace('-', '')}")


def _lengths(directory: ServiceDiscoverySettings, service: ServiceSettings, add: _Add) -> None:
    sets = [name for each in service.incarnations for name in each.sets]
    longest = max((f"{each}.{service.label}.{directory.zone}" for each in sets), key=len, default="")
    if len(longest) > _LONGEST_NAME or any(len(each) > _LONGEST_LABEL for each in sets):
        limits = f"a name has {_LONGEST_NAME} characters at most, a label {_LONGEST_LABEL}"
        add(at(_SERVICES, service.name), "makes a name that is too long for DNS", f"Shorten it: {limits}")


def _distinct_names(directory: ServiceDiscoverySettings, add: _Add) -> None:
    """Refuse names that DNS or the state would treat as the same."""
    labels: dict[str, str] = {}
    resources: dict[str, str] = {}
    for service in directory.services:
        key = at(_SERVICES, service.name)
        other = labels.setdefault(service.label.lower(), service.name)
        if other != service.name:
            add(key, f"is {other} to DNS, which knows no upper case", "Rename one")
        for resource in (f"directory-{service.name}-{name}-txt" for each in service.incarnations for name in each.sets):
            other = resources.setdefault(resource, service.name)
            if other != service.name:
                add(key, f"and {other} both make {resource}", "Rename an incarnation")


def _floor(key: str, join: str, least: int, settings: Settings, add: _Add) -> None:
    """Refuse a floor above the number of machines. Where no machine joins yet, every number is valid."""
    members = sum(fleet.count for fleet in settings.fleets if join in fleet.joins)
    if 0 < members < least:
        few = "1 machine joins" if members == 1 else f"{members} machines join"
        add(f"{key}.minRegistered", f"is {least}, and {few} {join}", f"Set {members} at most, or raise the counts")


def _capacity(settings: Settings, service: ServiceSettings, add: _Add) -> None:
    """Refuse more machines than a set can have while a fleet is replaced."""
    dynamic = settings.service_discovery is not None and settings.service_discovery.is_dynamic
    taker = "an update" if dynamic else "Route53"
    for each in service.incarnations:
        joining = [fleet.count for fleet in settings.fleets if f"{service.name}/{each.name}" in fleet.joins]
        most = (sum(joining) + max(joining, default=0)) / each.shards
        if most > _ROUTE53_VALUES:
            add(
                at(_SERVICES, service.name, "incarnations", each.name),
                f"would hold {most:.0f} machines in a set while a fleet is replaced, {taker} takes {_ROUTE53_VALUES}",
                f"Give it shards: {-(-(sum(joining) + max(joining)) // _ROUTE53_COMFORTABLE)}",
            )


def _fleet(fleet: FleetSettings, add: _Add) -> None:
    key = at(_FLEETS, fleet.name)
    if not re.fullmatch(FLEET_NAME, fleet.name):
        add(key, "is not the name of a fleet", "Use 1 to 30 of a-z, 0-9 and inner hyphens")
    (_ec2_fleet if fleet.cloud == "aws" else _triton_fleet)(key, fleet, add)
    (machine_checks.check_ec2 if fleet.cloud == "aws" else machine_checks.check_triton)(key, fleet, add)
    machine_checks.check_system(key, fleet, add)
    of_machines: dict[str, int] = {}
    for number, machine in fleet.adopt.items():
        if number >= fleet.count:
            problem = "is not the number of a machine of this fleet"
            last = max(fleet.count - 1, 0)
            add(at(key, "adopt", str(number)), problem, f"Number them from 0 to {last}, as count has them")
        elif of_machines.setdefault(machine, number) != number:
            add(at(key, "adopt", str(number)), "is in it twice", "One machine is one number", value=machine)


def _ec2_fleet(key: str, fleet: FleetSettings, add: _Add) -> None:
    if fleet.image not in EC2_IMAGES and not re.fullmatch(_AMI_OR_PARAMETER, fleet.image):
        names = ", ".join(EC2_IMAGES)
        fix = f"Write {names}, an ami-… or the path of an SSM parameter that holds one"
        add(f"{key}.image", "is not an image", fix, value=fleet.image)
    # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html
    if fleet.name == "sg" or fleet.name.startswith("sg-"):
        problem = "cannot be the name of a fleet on EC2: its security group's name must not begin with sg-"
        add(key, problem, "Rename the fleet")
    if fleet.region is not None and not re.fullmatch(_REGION, fleet.region):
        fix = "Write it as eu-west-1, without a zone's letter"
        add(f"{key}.region", "is not an AWS region", fix, value=fleet.region)
    if fleet.ssh is not None:
        examples = {"user": "admin", "keyName": "operators", "from": "[203.0.113.0/24]"}
        given = {"user": fleet.ssh.user, "keyName": fleet.ssh.key_name, "from": fleet.ssh.sources}
        for name in (each for each, value in given.items() if not value):
            add(f"{key}.ssh.{name}", "is missing", f"Set it, as {examples[name]}")
    if fleet.adopt:
        add(f"{key}.adopt", "is for Triton machines", "Import an instance (docs/adopting.md)")
    if fleet.networks:
        fix = "Leave it out, or use vpc and subnets"
        add(f"{key}.networks", "is for Triton machines", fix)
    of_triton = {
        "brand": fleet.brand,
        "affinity": fleet.affinity,
        "disks": fleet.disks,
        "deletionProtection": fleet.deletion_protection is not None,
    }
    for name in (each for each, value in of_triton.items() if value):
        add(f"{key}.{name}", "is for Triton machines", "Leave it out")
    _zones(key, fleet, add)


def _zones(key: str, fleet: FleetSettings, add: _Add) -> None:
    """Check the form of availability zones. The preflight checks that they exist."""
    if fleet.zones == (ALL_ZONES,):
        return
    for each in fleet.zones:
        if not is_zone(each):
            fix = "Write its name as us-west-2a, its id as usw2-az1, or `zones: all`"
            add(f"{key}.zones", "is not an availability zone", fix, value=each)
    if len({is_zone_id(each) for each in fleet.zones}) > 1:
        add(f"{key}.zones", "has names and ids of zones", "Write all by name, or all by id")


def _triton_fleet(key: str, fleet: FleetSettings, add: _Add) -> None:
    for name in (each for each, value in (("zones", fleet.zones), ("placement", fleet.placement)) if value):
        add(f"{key}.{name}", "is for EC2 machines", "Leave it out: Triton itself places the machines of a data centre")
    if fleet.ipv6:
        # sdc-cloudapi, lib/machines.js and lib/validation/networks.js: of a network object it takes `ipv4_uuid`, `ipv4_ips` and
        # `ipv4_count`, and one public network a machine.
        add(
            f"{key}.ipv6",
            "is on, and Triton's CloudAPI has no way to give a machine an IPv6 address beside its public IPv4 one",
            "Leave it out; a fleet with it and one without may share a record set",
        )
    if fleet.region is not None and not re.fullmatch(LABEL, fleet.region):
        fix = "`triton datacenters` lists them, as us-central-1"
        add(f"{key}.region", "is not the name of a data centre", fix, value=fleet.region)
    if fleet.disks.count("remaining") > 1:
        # getCreateOptions of sdc-cloudapi's lib/machines.js.
        add(f"{key}.disks", "has several that are `remaining`", "Give all disks but one a size")
    if fleet.disks and fleet.brand == "kvm":
        add(f"{key}.disks", "is for bhyve machines, and the brand is kvm", "Leave it out, or set brand: bhyve")
    if fleet.ssh is not None and fleet.ssh.key_name is not None:
        fix = "Leave it out: Triton gives machines the account's own keys"
        add(f"{key}.ssh.keyName", "is for EC2 machines", fix)


def _joins(settings: Settings, fleet: FleetSettings, faults: Faults, add: _Add) -> None:
    key, known = f"{at(_FLEETS, fleet.name)}.joins", settings.joins
    fix = f"Name one of {', '.join(known)}" if known else "Configure rollcall:sites or rollcall:serviceDiscovery"
    for join in fleet.joins:
        service, _, incarnation = join.partition("/")
        home = (
            at("rollcall:sites", incarnation)
            if joins_site(join)
            else at(_SERVICES, service, "incarnations", incarnation)
        )
        if join not in known and not faults.covers(home):
            add(key, f"leads nowhere{near(join, known)}", fix, value=join)
    _private_joins(settings, fleet, key, add)
    if len(fleet.joins) > _MOST_JOINS:
        add(key, f"names {len(fleet.joins)}", f"Name {_MOST_JOINS} at most: each is a tag of the machine")


def _private_joins(settings: Settings, fleet: FleetSettings, key: str, add: _Add) -> None:
    """Refuse a fleet that cannot be in a private zone, and services that would need two addresses at one host name."""
    directory = settings.service_discovery
    if directory is None:
        return
    joined = [each for each in directory.services if any(name.startswith(f"{each.name}/") for name in fleet.joins)]
    if joined and directory.private and fleet.cloud != "aws":
        add(
            key,
            f"names a service, and {directory.zone} is a private hosted zone: the resolvers of Triton's machines do not find it",
            "Join fleets on AWS only, or use a public zone or provider: rfc2136",
        )
    kinds = {directory.address_of(each): each.name for each in joined}
    if len(kinds) > 1:
        names = " and ".join(f"{name} (address: {kind})" for kind, name in sorted(kinds.items()))
        fix = "Give them the same address, or put them in two fleets"
        add(key, f"names {names}, and a machine has one host name for all of its services", fix)


def _names_in_dns(stack: str, fleet: FleetSettings, add: _Add) -> None:
    """Check the text by which a DNS record names its machine."""
    try:
        Owner(stack, fleet.name, str(max(fleet.count - 1, 0)), "000000", _LONGEST_UUID)
    except OwnershipError as wrong:
        fix = "Shorten the stack's or the fleet's name"
        add(at(_FLEETS, fleet.name), "has machines that cannot be named in DNS", fix, detail=wrong)


def _machine_settings(settings: Settings, fleet: FleetSettings, add: _Add) -> None:
    """Refuse settings that do not fit tags: on EC2 they contain the names of secrets (components/resources/dns_credentials.py)."""
    key, directory = at(_FLEETS, fleet.name), settings.service_discovery_of(fleet)
    for site in settings.sites_of(fleet):
        try:
            _site_join(settings, site, fleet)
        except SettingsError as wrong:
            fix = "Shorten the stack's or the fleet's name, the site's host or its check"
            add(key, f"has settings of {site.join} that do not fit a tag", fix, detail=wrong)
    for service in directory.services if directory is not None else ():
        for incarnation in service.incarnations:
            join = f"{service.name}/{incarnation.name}"
            if directory is None or join not in fleet.joins:
                continue
            try:
                _service_join(settings, directory, service, incarnation, fleet)
            except SettingsError as wrong:
                fix = f"Shorten the check of {service.name} or the name {incarnation.name}"
                add(key, f"has settings of {join} that do not fit a tag", fix, detail=wrong)


def _site_join(settings: Settings, site: SiteSettings, fleet: FleetSettings) -> str:
    home = f"/rollcall/{settings.stack}/{fleet.name}/" if fleet.cloud == "aws" else ""
    kind: Callable[..., SiteJoin] = partial(
        CloudflareJoin,
        zone="0" * 32,
        token=f"{home}{secret_names.token(site.zone)}",
        proxied=site.proxied,
        apex=site.proxied and site.apex,
        sites=settings.cloudflare_sites,
        origin=f"{home}{secret_names.origin(site.name)}" if site.proxied else "",
        **_tls(site, home),
    )
    if site.is_dynamic:
        zone = next(each for each in zones_of(settings) if site.join in each.joins)
        key = f"{home}{secret_names.TSIG}"
        kind = partial(Rfc2136SiteJoin, server=at_port(zone.server or ""), key=key, **_tls(site, home))
    return format_join(site_join(kind, site, ipv6=fleet.ipv6, floors=floors.of_site(settings, site)))


def _tls(site: SiteSettings, home: str) -> dict[str, Any]:
    return {"tls": f"{home}{secret_names.tls(site.name)}", "certificate": "0" * 8} if site.tls else {}


def _service_join(
    settings: Settings,
    directory: ServiceDiscoverySettings,
    service: ServiceSettings,
    incarnation: IncarnationSettings,
    fleet: FleetSettings,
) -> str:
    home = f"/rollcall/{settings.stack}/{fleet.name}/" if fleet.cloud == "aws" else ""
    view = VPC if directory.private else ""
    kind: Callable[..., ServiceJoin] = partial(
        Route53Join, zone="Z" * 32, key="" if home else secret_names.KEY, view=view
    )
    if directory.is_dynamic:
        kind = partial(Rfc2136Join, server=at_port(directory.server or ""), key=f"{home}{secret_names.TSIG}")
    join = f"{service.name}/{incarnation.name}"
    floor = floors.of_service(settings, join, service.min_registered, incarnation.shards, 0)
    return format_join(
        service_join(kind, fleet, directory, service, incarnation, shard=incarnation.shards - 1, floor=floor)
    )
