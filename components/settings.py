"""The stack's configuration, typed. Read whole and checked whole before anything is created.

`read(values)` takes the plain values of the `rollcall:` keys and returns `Settings`, or raises `ConfigurationError` with
every fault: its key, what is wrong, and the mend. docs/configuration.md is made from this file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Any

from components.escaping import escaped_lines
from components.reading import Faults, Reader, near
from rollcall.ownership import Owner, OwnershipError
from rollcall.settings import CloudflareJoin, Route53Join, SettingsError, format_join

KEYS = ("site", "directory", "fleets", "joyent", "linger", "brake", "rotate", "resolvers")
# Those that are no YAML of their own.
TEXTS = ("rotate",)
LISTS = ("resolvers",)
# A secret, which no check prints.
MACHINE_TOKEN = "machineToken"
# What they are: components/clouds.py and fleets.py.
CLOUDS = ("aws", "joyent")
PROTECTIONS = ("off", "low", "medium", "high", "under_attack")
SITE_JOIN = "site"
# Where each vendor publishes the current image of a name on EC2 (https://wiki.debian.org/Cloud/AmazonEC2Image/Trixie).
EC2_IMAGES = {
    "debian-12": "/aws/service/debian/release/12/latest/amd64",
    "debian-13": "/aws/service/debian/release/13/latest/amd64",
    "ubuntu-24.04": "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
}
CLOUDFLARE_ID = re.compile(r"[0-9a-f]{32}")
HOSTED_ZONE_ID = re.compile(r"Z[0-9A-Z]{1,31}")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SERVICE = re.compile(r"(?=.{1,15}$)(?=.*[A-Za-z])[A-Za-z0-9](?:[A-Za-z0-9]|-(?!-))*(?<!-)")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_CHECK = re.compile(r"http:\d{1,5}:/\S*|tcp:\d{1,5}|command:/\S+")
_SECRET = re.compile(r"(?i)(passw|secret|token|api.?key|private.?key)|AKIA[0-9A-Z]{16}|-----BEGIN|[0-9A-Za-z+/_-]{40,}")
_LONGEST_UUID = "00000000-0000-0000-0000-000000000000"
_CLOUDFLARE_FREE_RECORDS = 200
_ROUTE53_VALUES = 400
_LONGEST_NAME, _LONGEST_LABEL = 253, 63
_LONGEST_TXT = 1300
_MOST_JOINS = 10
_MOST_RESOLVERS = 8
_ROUTE53_COMFORTABLE = 300


class ConfigurationError(Exception):
    """The stack's configuration cannot be used; the message lists every fault with its key and the mend."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(map(escaped_lines, faults))
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__(
            f"the configuration has {count}, nothing was changed:\n"
            + "\n".join(f"  - {fault}" for fault in self.faults)
        )


@dataclass(frozen=True, kw_only=True)
class HealthSettings:
    """When a machine may join: `check` (`http:PORT:PATH`, `tcp:PORT`, `command:/PATH`) is good `rise` times in a row, and not
    bad `fall` times in a row since."""

    check: str
    rise: int = 1
    fall: int = 3


@dataclass(frozen=True, kw_only=True)
class SiteSettings:
    """The public site. `ttl` in seconds; `apex`: a proxied CNAME from the zone's apex to the host. `zone_id` tells zones of one name
    apart; `account_id` is the account that a new zone is made in."""

    zone: str
    zone_id: str | None = None
    host: str = "www"
    ttl: int = 120
    proxied: bool = False
    protection: str = "off"
    acceleration: bool = False
    apex: bool = True
    create: bool = False
    account_id: str | None = None
    records: int = _CLOUDFLARE_FREE_RECORDS
    health: HealthSettings = HealthSettings(check="http:80:/")

    @property
    def fqdn(self) -> str:
        return f"{self.host}.{self.zone}"


@dataclass(frozen=True, kw_only=True)
class IncarnationSettings:
    """One incarnation of a service: a DNS-SD service instance (RFC 6763 section 4.1) with its TXT keys and values."""

    name: str
    txt: Mapping[str, str] = field(default_factory=dict)
    shards: int = 1

    @property
    def sets(self) -> tuple[str, ...]:
        """The names of its SRV sets: its own, or `v1-1` to `v1-N` where it has shards."""
        return (
            (self.name,) if self.shards == 1 else tuple(f"{self.name}-{number}" for number in range(1, self.shards + 1))
        )


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """A service as RFC 6763 section 7 names it; `name` without the underscore, `port` of every member, `ttl` in seconds of the
    machines' own records."""

    name: str
    protocol: str
    port: int
    incarnations: tuple[IncarnationSettings, ...]
    ttl: int = 30
    health: HealthSettings

    @property
    def label(self) -> str:
        return f"_{self.name}._{self.protocol}"


@dataclass(frozen=True, kw_only=True)
class DirectorySettings:
    """DNS-SD in a Route53 hosted zone; `ttl` in seconds of its static records. `enumerate`: keep the list of the zone's service
    types (RFC 6763 section 9), which is one record set and so one stack's. `zone_id` tells hosted zones of one name apart."""

    zone: str
    services: tuple[ServiceSettings, ...]
    ttl: int = 300
    create: bool = False
    enumerate: bool = True
    zone_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class SshSettings:
    """Who may log in to a fleet's machines: as `user`, from the networks `sources` (CIDR; on Triton they count where the fleet's
    firewall is on). On EC2 `key_name` names a key pair of the account; Triton gives a machine the account's own keys."""

    user: str
    key_name: str | None = None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FleetSettings:
    """Machines with the same job. `region` is another AWS region than the stack's own, or another data centre of Triton by its
    name; `timeout` in seconds for the roll call; `priority` and `weight` as in RFC 2782; another `renew` looks the image up
    anew; with `ipv6` each machine has an IPv6 address beside its IPv4 one. `adopt`: names or ids of Triton machines that are
    there and become machines of these numbers. `networks`: names or ids of Triton networks, in the order of the NICs."""

    name: str
    cloud: str
    count: int
    size: str
    image: str
    joins: tuple[str, ...]
    region: str | None = None
    timeout: int = 300
    priority: int = 10
    weight: int = 10
    renew: str = ""
    ipv6: bool = False
    ssh: SshSettings | None = None
    adopt: Mapping[int, str] = field(default_factory=dict)
    networks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class JoyentSettings:
    """Where CloudAPI is, for who does not set TRITON_* in the environment (which comes first). Never the key itself."""

    url: str | None = None
    account: str | None = None
    key_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The whole of it. `linger`: the seconds that a leaving machine serves on after its entries are gone; the longest TTL
    where that is shorter. `brake`: refuse to remove many left-over entries or machines at once. `rotate`: a word; another one
    makes every secret that the stack makes anew. `network_ids`: of each Triton fleet by its name, once its data centre has been
    asked (components/networks.py). `resolvers`: addresses of recursive DNS servers, which are asked for the zones' name servers, and in
    their place where none of those can be asked from here."""

    stack: str
    site: SiteSettings | None
    directory: DirectorySettings | None
    fleets: tuple[FleetSettings, ...]
    joyent: JoyentSettings
    linger: int = 86400
    brake: bool = True
    rotate: str = ""
    resolvers: tuple[str, ...] = ()
    network_ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def fleets_of(self, cloud: str) -> tuple[FleetSettings, ...]:
        return tuple(fleet for fleet in self.fleets if fleet.cloud == cloud)

    def by_region(self, cloud: str) -> dict[str, tuple[FleetSettings, ...]]:
        """A cloud's fleets by the region or data centre that they name; an empty text is the stack's own."""
        regions = dict.fromkeys(fleet.region or "" for fleet in self.fleets_of(cloud))
        return {
            region: tuple(fleet for fleet in self.fleets_of(cloud) if (fleet.region or "") == region)
            for region in regions
        }

    def at_home(self, own: Mapping[str, str]) -> Settings:
        """The same without the name of each cloud's own region (`own`, by cloud): it is where a fleet is that names none."""
        fleets = (
            replace(fleet, region=None) if fleet.region == own.get(fleet.cloud) else fleet for fleet in self.fleets
        )
        return replace(self, fleets=tuple(fleets))


def read(stack: str, values: Mapping[str, Any]) -> Settings:
    """The settings in `values` (`site`, `directory`, `fleets`, `joyent` as YAML gives them).

    Raises ConfigurationError with every fault found.
    """
    settings, faults = read_whole(stack, values)
    if faults:
        raise ConfigurationError(faults)
    return settings


def read_whole(stack: str, values: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """The settings in `values`, with defaults in the place of what is faulty, and every fault."""
    faults = Faults()
    top = Reader(values, "rollcall", faults)
    site = _site(Reader(values["site"], "rollcall:site", faults)) if values.get("site") else None
    directory = (
        _directory(Reader(values["directory"], "rollcall:directory", faults)) if values.get("directory") else None
    )
    fleets_reader = Reader(values.get("fleets"), "rollcall:fleets", faults)
    fleets = tuple(
        _fleet(name, Reader(values["fleets"][name], f"rollcall:fleets.{name}", faults))
        for name in fleets_reader.names()
    )
    joyent = _joyent(Reader(values.get("joyent"), "rollcall:joyent", faults))
    for name in top.names():
        if name not in KEYS:
            known = f"known are {', '.join(KEYS)}{near(name, KEYS)}"
            faults.add(f"rollcall:{name}", "is not a setting", f"remove it; {known}")
    linger = top.number("linger", 86400, least=0, most=86400, unit=" seconds")
    settings = Settings(
        stack=stack,
        site=site,
        directory=directory,
        fleets=fleets,
        joyent=joyent,
        linger=linger,
        brake=top.flag("brake", True),
        rotate=top.text("rotate", ""),
        resolvers=_resolvers(top),
    )
    if not fleets and not faults:
        faults.add(
            "rollcall:fleets",
            "names no fleet",
            "add one, as web-aws: {cloud: aws, count: 2, size: t3.micro, image: debian-12, joins: [site]}",
        )
    _check_whole(settings, faults)
    return settings, faults.found


def _resolvers(reader: Reader) -> tuple[str, ...]:
    fix = "set it to a list of addresses, as [192.0.2.53, 192.0.2.54:5353, 2001:db8::53], or leave it out for this machine's own"
    listed = reader.texts("resolvers", ())
    for each in listed:
        if not _is_resolver(each):
            reader.fault("resolvers", f"has {each!r}, which is no address of a resolver", fix)
    if len(set(listed)) != len(listed):
        reader.fault("resolvers", "names a resolver twice", "take one of them out")
    if len(listed) > _MOST_RESOLVERS:
        reader.fault("resolvers", f"names {len(listed)}", f"name {_MOST_RESOLVERS} at the most")
    return listed


def _is_resolver(text: str) -> bool:
    """Whether it is an IP address, perhaps with a port."""
    host, port = text, "53"
    if text.startswith("[") and "]:" in text:
        host, _, port = text[1:].partition("]:")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ip_address(host)
    except ValueError:
        return False
    return port.isascii() and port.isdigit() and 1 <= int(port) <= 65535 and len(port) <= 5


def _site(reader: Reader) -> SiteSettings:
    site = SiteSettings(
        zone=reader.text("zone", check=_zone_fault),
        zone_id=reader.optional_text("zoneId", check=_cloudflare_id_fault),
        host=reader.text("host", "www", check=_host_fault),
        ttl=_ttl(reader, 120),
        proxied=reader.flag("proxied", False),
        protection=reader.choice("protection", PROTECTIONS, "off"),
        acceleration=reader.flag("acceleration", False),
        apex=reader.flag("apex", True),
        create=reader.flag("create", False),
        account_id=reader.optional_text("accountId", check=_cloudflare_id_fault),
        records=reader.number("records", _CLOUDFLARE_FREE_RECORDS, least=1, most=1_000_000),
        health=_health(reader, "http:80:/"),
    )
    _check_create(reader, site)
    if site.account_id and not site.create:
        reader.fault("accountId", "is where a new zone is made, and create is off", "take it out, or set create: true")
    reader.done()
    return site


def _check_create(reader: Reader, told: SiteSettings | DirectorySettings) -> None:
    if told.create and told.zone_id:
        reader.fault("zoneId", "names a zone that is there, and create: true makes another", "keep one of the two")


def _health(reader: Reader, default: str) -> HealthSettings:
    health = HealthSettings(
        check=reader.text("check", default),
        rise=reader.number("rise", 1, least=1, most=100),
        fall=reader.number("fall", 3, least=1, most=100),
    )
    if not _CHECK.fullmatch(health.check) or not _has_port(health.check):
        reader.fault(
            "check", f"is {health.check!r}", "write http:PORT:PATH, tcp:PORT or command:/PATH; ports are 1 to 65535"
        )
    return health


def _has_port(check: str) -> bool:
    """A command has none."""
    port = check.split(":")[1]
    return not port.isdigit() or 1 <= int(port) <= 65535


def _ttl(reader: Reader, default: int) -> int:
    ttl = reader.number("ttl", default, least=1, most=86400, unit=" seconds (1: automatic)")
    if 1 < ttl < 60:
        reader.fault("ttl", f"is {ttl}", "Cloudflare takes 60 to 86400 seconds, or 1 for automatic")
    return ttl


def _directory(reader: Reader) -> DirectorySettings:
    services = reader.inner("services")
    directory = DirectorySettings(
        zone=reader.text("zone", check=_zone_fault),
        zone_id=reader.optional_text("zoneId", check=_hosted_zone_id_fault),
        services=tuple(_service(name, services.inner(name)) for name in services.names()),
        ttl=reader.number("ttl", 300, least=1, most=86400, unit=" seconds"),
        create=reader.flag("create", False),
        enumerate=reader.flag("enumerate", True),
    )
    _check_create(reader, directory)
    if not directory.services:
        reader.fault(
            "services",
            "names no service",
            "add one, as theService: {protocol: tcp, port: 4218, incarnations: {v1: {}}}",
        )
    reader.done()
    return directory


def _service(name: str, reader: Reader) -> ServiceSettings:
    if not _SERVICE.fullmatch(name):
        reader.fault(
            "",
            "is no service name",
            "RFC 6335 section 5.1 takes 1 to 15 letters, digits and single inner hyphens with at least one letter",
        )
    incarnations = reader.inner("incarnations")
    port = reader.number("port", None, least=1, most=65535)
    protocol = reader.choice("protocol", ("tcp", "udp"), "tcp")
    if protocol == "udp" and "check" not in reader:
        reader.fault(
            "check", "is needed for a UDP service", "write command:/PATH, or the tcp: or http: port that tells"
        )
    service = ServiceSettings(
        name=name,
        protocol=protocol,
        port=port,
        ttl=reader.number("ttl", 30, least=1, most=86400, unit=" seconds"),
        health=_health(reader, f"tcp:{port}"),
        incarnations=tuple(_incarnation(each, incarnations.inner(each)) for each in incarnations.names()),
    )
    if not service.incarnations:
        reader.fault("incarnations", "is empty", "name one at least, as {v1: {txt: {path: /}}}")
    reader.done()
    return service


def _incarnation(name: str, reader: Reader) -> IncarnationSettings:
    if not _LABEL.fullmatch(name):
        reader.fault("", "is no incarnation's name", "use one DNS label: 1 to 63 of a-z, 0-9 and inner hyphens")
    incarnation = IncarnationSettings(
        name=name,
        txt=reader.texts_by_name("txt"),
        shards=reader.number("shards", 1, least=1, most=100),
    )
    for key, value in incarnation.txt.items():
        _check_txt(reader, key, value)
    if len({key.lower() for key in incarnation.txt}) < len(incarnation.txt):
        reader.fault("txt", "has keys that differ in case only", "rename one (RFC 6763 section 6.4)")
    size = sum(1 + len(f"{key}={value}".encode()) for key, value in incarnation.txt.items())
    if size > _LONGEST_TXT:
        reader.fault("txt", f"has {size} bytes", f"shorten it to {_LONGEST_TXT} (RFC 6763 section 6.2)")
    reader.done()
    return incarnation


def _check_txt(reader: Reader, key: str, value: str) -> None:
    """RFC 6763 section 6: a key is printable US-ASCII without `=`; key, `=` and value fit one string of 255 bytes."""
    if not key or not all(0x20 <= ord(char) <= 0x7E and char != "=" for char in key):
        reader.fault(f"txt.{key}", "is no TXT key", "use printable ASCII without `=` (RFC 6763 section 6.4)")
    if len(f"{key}={value}".encode()) > 255:
        reader.fault(f"txt.{key}", "makes a string of over 255 bytes", "shorten it (RFC 6763 section 6.1)")
    if _SECRET.search(f"{key}={value}"):
        reader.fault(f"txt.{key}", "looks like a secret", "take it out: anyone can read a TXT record")


def _fleet(name: str, reader: Reader) -> FleetSettings:
    if not _LABEL.fullmatch(name) or len(name) > 30:
        reader.fault("", "is no fleet's name", "use 1 to 30 of a-z, 0-9 and inner hyphens")
    cloud = reader.choice("cloud", CLOUDS)
    count = reader.number("count", 1, least=0, most=1000)
    fleet = FleetSettings(
        name=name,
        cloud=cloud,
        count=count,
        size=reader.text("size"),
        image=reader.text("image"),
        joins=reader.texts("joins"),
        region=reader.optional_text("region", check=_region_fault if cloud == "aws" else _datacenter_fault),
        timeout=reader.number("timeout", 300, least=10, most=3600, unit=" seconds"),
        priority=reader.number("priority", 10, least=0, most=65535),
        weight=reader.number("weight", 10, least=0, most=65535),
        renew=reader.text("renew", ""),
        ipv6=reader.flag("ipv6", False),
        ssh=_ssh(reader.inner("ssh"), cloud) if "ssh" in reader else None,
        adopt=_adopt(reader.inner("adopt"), cloud, count) if "adopt" in reader else {},
        networks=_networks(reader, cloud),
    )
    if cloud == "aws":
        _check_ec2(reader, name, fleet.image)
    elif fleet.ipv6:
        # sdc-cloudapi, lib/machines.js and lib/validation/networks.js: of a network object it takes `ipv4_uuid`, `ipv4_ips` and
        # `ipv4_count`, and one public network a machine.
        reader.fault(
            "ipv6",
            "is on, and Triton's CloudAPI has no way to give a machine an IPv6 address beside its public IPv4 one",
            "leave it out; machines of a fleet with it and of one without may stand in one set",
        )
    reader.done()
    return fleet


def _check_ec2(reader: Reader, name: str, image: str) -> None:
    if image and image not in EC2_IMAGES and not re.fullmatch(r"ami-[0-9a-f]{8}(?:[0-9a-f]{9})?|/\S+", image):
        names = ", ".join(EC2_IMAGES)
        reader.fault(
            "image", f"is {image!r}", f"write {names}, an ami-… or the path of an SSM parameter that holds one"
        )
    # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html
    if name == "sg" or name.startswith("sg-"):
        reader.fault(
            "", "is no fleet's name on EC2", "its security group's name must not begin with sg-; rename the fleet"
        )


def _ssh(reader: Reader, cloud: str) -> SshSettings:
    on_ec2 = cloud == "aws"
    ssh = SshSettings(
        user=reader.text("user", None if on_ec2 else "root", check=_user_fault),
        key_name=(reader.text("keyName") if on_ec2 else None),
        sources=reader.texts("from", None if on_ec2 else ()),
    )
    for each in ssh.sources:
        try:
            ip_network(each)
        except ValueError as wrong:
            reader.fault("from", f"names {each!r} ({wrong})", "name networks, as 198.51.100.0/24")
    reader.done()
    return ssh


def _adopt(reader: Reader, cloud: str, count: int) -> dict[int, str]:
    if cloud == "aws" and list(reader.names()):
        reader.fault("", "is for Triton machines", "import an instance (docs/adopting.md)")
    found: dict[int, str] = {}
    for name in reader.names():
        wanted = reader.text(name)
        if not str(name).isdecimal() or int(name) >= count:
            reader.fault(
                name, "is no machine of this fleet", f"number them from 0 to {max(count - 1, 0)}, as count has them"
            )
        elif wanted in found.values():
            reader.fault(name, f"names {wanted!r} a second time", "one machine is one number")
        else:
            found[int(name)] = wanted
    return found


def _networks(reader: Reader, cloud: str) -> tuple[str, ...]:
    """Left out (or null) it is the only public network of the data centre."""
    named = reader.texts("networks", ())
    if cloud == "aws" and "networks" in reader:
        reader.fault(
            "networks", "is for Triton machines", "leave it out: EC2 machines are in the default VPC's subnets"
        )
    elif reader.is_empty("networks"):
        reader.fault(
            "networks", "names no network", "name one, or leave it out for the data centre's only public network"
        )
    for each in sorted({each for each in named if named.count(each) > 1}):
        reader.fault("networks", f"names {each!r} twice", "name each network once")
    return named


def _joyent(reader: Reader) -> JoyentSettings:
    joyent = JoyentSettings(
        url=reader.optional_text("url", check=_url_fault),
        account=reader.optional_text("account"),
        key_id=reader.optional_text("keyId"),
    )
    reader.done()
    return joyent


def _check_whole(settings: Settings, faults: Faults) -> None:
    """What no single key shows: joins that lead nowhere, ownership texts that do not fit, the zone's record quota."""
    joins = known_joins(settings)
    for fleet in settings.fleets:
        key = f"rollcall:fleets.{fleet.name}"
        for join in fleet.joins:
            if join not in joins:
                known = f"name one of {', '.join(joins)}" if joins else "configure rollcall:site or rollcall:directory"
                faults.add(f"{key}.joins", f"{join!r} leads nowhere", known)
        if len(fleet.joins) > _MOST_JOINS:
            faults.add(
                f"{key}.joins", f"names {len(fleet.joins)}", f"name {_MOST_JOINS} at most: each is a tag of the machine"
            )
        if len(set(fleet.joins)) != len(fleet.joins):
            faults.add(f"{key}.joins", "names the same twice", "name each once")
        try:
            Owner(settings.stack, fleet.name, str(max(fleet.count - 1, 0)), "000000", _LONGEST_UUID)
        except OwnershipError as wrong:
            faults.add(
                key, f"its machines could not be named in DNS ({wrong})", "shorten the stack's or the fleet's name"
            )
        if settings.site is not None and SITE_JOIN in fleet.joins:
            _check_told(settings, settings.site, fleet, faults)
    if settings.directory is not None:
        _check_names(settings.directory, faults)
        for service in settings.directory.services:
            _check_service(settings, service, faults)
        for fleet in settings.fleets:
            _check_told_of(settings.directory, fleet, faults)
    if settings.site is not None:
        joining = [fleet for fleet in settings.fleets if SITE_JOIN in fleet.joins]
        members = sum(fleet.count for fleet in joining)
        records = [fleet.count * (2 if fleet.ipv6 else 1) for fleet in joining]
        # A replacement doubles a fleet for a while, so the zone must hold the largest fleet twice.
        largest = max(records, default=0)
        if sum(records) + largest + 1 > settings.site.records:
            each = f" with {sum(records)} records" if sum(records) != members else ""
            faults.add(
                "rollcall:fleets",
                f"{members} machines join the site{each} and a replacement adds up to {largest}; "
                f"the zone's plan holds {settings.site.records} records",
                "lower the counts, or set rollcall:site.records to what your plan holds",
            )


def _check_told(settings: Settings, site: SiteSettings, fleet: FleetSettings, faults: Faults) -> None:
    """What a machine is told of the site must fit a tag: on EC2 the names of its secrets are in it (components/registrar.py)."""
    home = f"/rollcall/{settings.stack}/{fleet.name}/" if fleet.cloud == "aws" else ""
    try:
        format_join(
            CloudflareJoin(
                zone="0" * 32,
                host=site.fqdn,
                token=f"{home}cloudflare-token",
                ttl=site.ttl,
                proxied=site.proxied,
                closed=site.proxied,
                origin=f"{home}origin" if site.proxied else "",
                check=site.health.check,
                rise=site.health.rise,
                fall=site.health.fall,
                ipv6=fleet.ipv6,
            )
        )
    except SettingsError as wrong:
        short = "shorten the stack's or the fleet's name, the site's host or its check"
        faults.add(f"rollcall:fleets.{fleet.name}", f"could not be told of the site ({wrong})", short)


def _check_told_of(directory: DirectorySettings, fleet: FleetSettings, faults: Faults) -> None:
    """As of the site."""
    told = {
        f"{service.name}/{each.name}": (service, each)
        for service in directory.services
        for each in service.incarnations
    }
    for join in (each for each in fleet.joins if each in told):
        service, incarnation = told[join]
        try:
            format_join(
                Route53Join(
                    zone="Z" * 32,
                    domain=directory.zone,
                    service=service.label,
                    incarnation=incarnation.sets[-1],
                    port=service.port,
                    priority=fleet.priority,
                    weight=fleet.weight,
                    ttl=service.ttl,
                    key="" if fleet.cloud == "aws" else "route53-key",
                    ipv6=fleet.ipv6,
                    **asdict(service.health),
                )
            )
        except SettingsError as wrong:
            short = f"shorten the check of {service.name} or the name {incarnation.name}"
            faults.add(f"rollcall:fleets.{fleet.name}", f"could not be told of {join} ({wrong})", short)


def _check_names(directory: DirectorySettings, faults: Faults) -> None:
    """Names that DNS or the state cannot hold apart, or at all, and those that a client would take for another's shards."""
    key = "rollcall:directory.services"
    labels: dict[str, str] = {}
    resources: dict[str, str] = {}
    for service in directory.services:
        sets = [name for each in service.incarnations for name in each.sets]
        longest = max((f"{each}.{service.label}.{directory.zone}" for each in sets), key=len, default="")
        if len(longest) > _LONGEST_NAME or any(len(each) > _LONGEST_LABEL for each in sets):
            mend = f"a name has {_LONGEST_NAME} characters at most, a label {_LONGEST_LABEL}: shorten it"
            faults.add(f"{key}.{service.name}", f"{longest} is too long for DNS", mend)
        other = labels.setdefault(service.label.lower(), service.name)
        if other != service.name:
            faults.add(f"{key}.{service.name}", f"is {other} to DNS, which knows no upper case", "rename one")
        for resource in (f"directory-{service.name}-{each}-txt" for each in sets):
            other = resources.setdefault(resource, service.name)
            if other != service.name:
                faults.add(f"{key}.{service.name}", f"and {other} both make {resource}", "rename an incarnation")
        whole = {each.name for each in service.incarnations if each.shards == 1}
        for each in sorted(whole):
            shard = re.fullmatch(r"(.+)-[0-9]+", each)
            if shard and shard[1] not in whole:
                wrong = f"looks like a shard of {shard[1]}, and clients would take it for one"
                faults.add(f"{key}.{service.name}.incarnations.{each}", wrong, f"rename it, as {each.replace('-', '')}")


def _check_service(settings: Settings, service: ServiceSettings, faults: Faults) -> None:
    """Sets of one name, and more machines than a set holds while a fleet is replaced."""
    key = f"rollcall:directory.services.{service.name}"
    names = [name for each in service.incarnations for name in each.sets]
    for name in sorted({each for each in names if names.count(each) > 1}):
        faults.add(
            f"{key}.incarnations", f"two make a set called {name}", "rename one: shards are called NAME-1, NAME-2, …"
        )
    for each in service.incarnations:
        joining = [fleet.count for fleet in settings.fleets if f"{service.name}/{each.name}" in fleet.joins]
        most = (sum(joining) + max(joining, default=0)) / each.shards
        if most > _ROUTE53_VALUES:
            faults.add(
                f"{key}.incarnations.{each.name}",
                f"would hold {most:.0f} machines in a set while a fleet is replaced, Route53 takes {_ROUTE53_VALUES}",
                f"give it shards: {-(-(sum(joining) + max(joining)) // _ROUTE53_COMFORTABLE)}",
            )


def known_joins(settings: Settings) -> tuple[str, ...]:
    """Every name that a fleet's `joins` may hold: `site`, `SERVICE/INCARNATION`."""
    site = (SITE_JOIN,) if settings.site is not None else ()
    services = settings.directory.services if settings.directory is not None else ()
    return site + tuple(f"{service.name}/{each.name}" for service in services for each in service.incarnations)


def _zone_fault(name: str) -> str | None:
    labels = name.split(".")
    if len(labels) < 2 or len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return "no zone's name; write it in lower case without a final dot, as scalability.expert"
    return None


def _cloudflare_id_fault(text: str) -> str | None:
    return (
        None
        if CLOUDFLARE_ID.fullmatch(text)
        else "no id of Cloudflare's; copy it from the overview of the zone: 32 hex digits"
    )


def _hosted_zone_id_fault(text: str) -> str | None:
    return None if HOSTED_ZONE_ID.fullmatch(text) else "no id of a hosted zone; write it as Z0123456789ABCDEFGHIJ"


def _host_fault(name: str) -> str | None:
    if not all(_LABEL.fullmatch(label) for label in name.split(".")):
        return "no host name below the zone; write one label or more, as www"
    return None


def _region_fault(name: str) -> str | None:
    return None if _REGION.fullmatch(name) else "no AWS region; write it as eu-west-1, without a zone's letter"


def _datacenter_fault(name: str) -> str | None:
    return None if _LABEL.fullmatch(name) else "no data centre's name; `triton datacenters` lists them, as us-central-1"


def _user_fault(name: str) -> str | None:
    return None if _USER.fullmatch(name) else "no user's name; write it as admin"


def _url_fault(url: str) -> str | None:
    return None if re.fullmatch(r"https?://[^\s/]+/?", url) else "no URL of a CloudAPI; write it as https://HOST"
