"""Define the keys of the stack's configuration: the type, range, default and description of each.

A new key is one line here and `make reference`, which writes the tables of docs/configuration.md and the JSON Schema of
the editors. The models are standard dataclasses that pydantic validates
(https://docs.pydantic.dev/latest/concepts/dataclasses/): to read a configuration checks it
(components/config/reader.py), and to construct one in code costs nothing. A field with `init=False` is not a key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema

from components.config.availability_zones import ALL_ZONES
from components.config.errors import at
from components.config.machine_keys import (
    APT_MIRROR,
    DEVICES,
    MOST_VOLUMES,
    NO_DISK,
    PROXY,
    TIMEZONE,
    DiskSettings,
    LogsSettings,
    PoliciesSettings,
    VolumeSettings,
)
from components.config.rules import ByName, Form, NumberAsText, OneOf, OneOrMore, Selection, WordOrList, refused
from components.config.section import Section
from rollcall.machine import APT_MIRROR as APT_MIRROR_KEY
from rollcall.machine import LOGS, VOLUMES
from rollcall.machine import PROXY as PROXY_KEY
from rollcall.machine import TIMEZONE as TIMEZONE_KEY
from rollcall.settings import FALL, HOSTS_LABEL, PRIVATE, PUBLIC
from rollcall.volume_settings import Volume, format_volumes

# The clouds are defined in components/compute/base.py and fleets.py.
CLOUDS = ("aws", "joyent")
# The providers of a zone are defined in components/dns/registry.py.
DYNAMIC = "rfc2136"
SITE_PROVIDERS = ("cloudflare", DYNAMIC)
DIRECTORY_PROVIDERS = ("route53", DYNAMIC)
PROTECTIONS = ("off", "low", "medium", "high", "under_attack")
PROTOCOLS = ("tcp", "udp")
ADDRESSES = (PUBLIC, PRIVATE)
CONFINEMENTS = ("enforced", "best-effort")
REPLACE, IN_PLACE = "replace", "in-place"
SPREAD, PARTITION = "spread", "partition"
PLACEMENTS = (SPREAD, PARTITION)
# The text before the name of a site in `joins`.
SITE = "site/"
# Secrets. They are not part of the settings, and no check prints them.
MACHINE_TOKEN = "machineToken"
TSIG_KEY, MACHINE_TSIG_KEY = "tsigKey", "machineTsigKey"
# The form of a secret in a stack's file.
_SECURE = {
    "type": "object",
    "properties": {"secure": {"type": "string"}},
    "required": ["secure"],
    "additionalProperties": False,
}


def _secret_key(description: str) -> dict[str, Any]:
    return {"description": description, **_SECURE}


SECRET_KEYS = {
    MACHINE_TOKEN: _secret_key(
        "`pulumi config set --secret rollcall:machineToken`: a Cloudflare token for the machines that was made elsewhere"
    ),
    TSIG_KEY: _secret_key(
        "`pulumi config set --secret rollcall:tsigKey`: the key of zones with `provider: rfc2136`, as `hmac-sha256:NAME:BASE64`"
    ),
    MACHINE_TSIG_KEY: _secret_key(
        "`pulumi config set --secret rollcall:machineTsigKey`: the key that machines get in the place of `tsigKey`"
    ),
}
# The public parameter with which each vendor publishes the current image of a name on EC2
# (https://wiki.debian.org/Cloud/AmazonEC2Image/Trixie).
EC2_IMAGES = {
    "debian-12": "/aws/service/debian/release/12/latest/amd64",
    "debian-13": "/aws/service/debian/release/13/latest/amd64",
    "ubuntu-24.04": "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
}
# The architectures of EC2's instance types for which there are images.
X86, ARM = "x86_64", "arm64"
_DEBIAN_NAMES = {X86: "amd64", ARM: "arm64"}
CLOUDFLARE_ID = r"[0-9a-f]{32}"
HOSTED_ZONE_ID = r"Z[0-9A-Z]{1,31}"
LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
SERVICE_NAME = r"(?=.{1,15}$)(?=.*[A-Za-z])[A-Za-z0-9](?:[A-Za-z0-9]|-(?!-))*(?<!-)"
FLEET_NAME = rf"(?=.{{1,30}}$){LABEL}"
CLOUDFLARE_FREE_RECORDS = 200
_ZONE = rf"(?=.{{1,253}}$)(?:{LABEL}\.)+{LABEL}"
_PORT = r"(?![0-9]{6})0*(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_CHECK = rf"http:{_PORT}:/\S*|tcp:{_PORT}|command:/\S+"
_SECONDS = {"unit": " seconds"}
# The name of a field that the program fills in: no key of a configuration has this name (reader.plain).
NOT_A_KEY = Field(init=False, exclude=True, alias="\0")


_SITE_ZONE = Form(
    f"{_ZONE}|{CLOUDFLARE_ID}",
    "is not the name of a zone",
    "Write it in lower case without a final dot, as scalability.expert",
)
_DIRECTORY_ZONE = Form(f"{_ZONE}|{HOSTED_ZONE_ID}", _SITE_ZONE.problem, "Write it in lower case, as unilans.net")
_CLOUDFLARE_ID = Form(
    CLOUDFLARE_ID, "is not an id of Cloudflare", "Copy it from the overview of the zone: 32 digits of 0-9 and a-f"
)
_HOSTED_ZONE_ID = Form(HOSTED_ZONE_ID, "is not the id of a hosted zone", "Write it as Z0123456789ABCDEFGHIJ")
_VPC = re.compile(r"(?:[a-z]{2}(?:-[a-z]+)+-\d/)?vpc-[0-9a-f]{8}(?:[0-9a-f]{9})?")
_HOST = Form(
    rf"{LABEL}(?:\.{LABEL})*", "is not a host name below the zone", "Write one label or more in lower case, as www"
)
_SITE_HEALTH_CHECK = Form(
    rf"{_CHECK}|workload:{LABEL}",
    "is not a health check",
    "Write http:PORT:PATH, tcp:PORT, command:/PATH or workload:NAME; ports are 1 to 65535",
)
_HEALTH_CHECK = Form(
    _CHECK, "is not a health check", "Write http:PORT:PATH, tcp:PORT or command:/PATH; ports are 1 to 65535"
)
_BATCH = Form(
    r"[1-9][0-9]{0,2}|1000|(?:[1-9][0-9]?|100)%",
    "is not a number of machines or a share of the fleet",
    "Set 1 to 1000, or 1% to 100%, as 25%",
)
SITE_PORT, CLOSED_PORT = 80, 443
# The samples, which are in the agent's release. An operator's workload must have another name.
SAMPLES = ("site", "the-service")
_PACKAGE = Form(
    r"[a-z0-9][a-z0-9+.-]{1,63}",
    "is not the name of a Debian package",
    "Write it as `apt show` has it, as python3-venv",
)
_ARTIFACT = Form(
    r"https://[^\s/@?#]+/[^\s?#]*[^\s/?#](?:\?[^\s#]*)?",
    "is not the https address of a file",
    "Write it as https://HOST/PATH, without a user, a password or a fragment",
)
_SHA256 = Form(r"[0-9a-f]{64}", "is not a SHA-256", "Write the 64 digits of 0-9 and a-f that `sha256sum FILE` prints")
_RUN = Form(
    r"(?:\./|/)?[A-Za-z0-9_][^\x00-\x1f\x7f]*(?<!\\)",
    "is not a command on one line",
    "Write it as ./start --port 8080 (a file of the workload) or python3 -m shop (a program of the system)",
)
_UNIT = Form(
    r"(?!(?:.*/)?\.\.?/)(?:[A-Za-z0-9._-]+/)*[A-Za-z0-9_.-]+\.service",
    "is not a unit file of the workload",
    "Write its path below the files, as deploy/shop.service; no template (`@`), socket or timer",
)
_RUN_AS = Form(
    r"(?!root$)[a-z_][a-z0-9_-]{0,31}|[1-9][0-9]{0,8}(?::[1-9][0-9]{0,8})?",
    "is not the name of a user that a workload may run as",
    "Leave it out, or name one that a package makes, as www-data. For a container, numbers may be used too, as 1000:1000",
)
# A name with the host of its registry: podman of Debian has no other place where it looks for an image. The grammar is that of
# https://github.com/distribution/reference/blob/main/reference.go
_IMAGE = Form(
    r"(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+|[a-z0-9-]+(?=:))(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)+"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?",
    "is not the image of a container",
    "Write it with its registry, as ghcr.io/acme/cart@sha256:… or docker.io/library/nginx@sha256:…",
)
_ARGUMENT = Form(r"[^\x00-\x1f\x7f]*", "is not one line", "Write it without line breaks and control characters")
_REGISTRY_USER = Form(r"[^\s:\x00-\x1f\x7f]{1,128}", "is not the name of a user", "Write it without spaces and colons")
# Those of podman's own default that a program may need to become another user. NET_BIND_SERVICE is there in any case.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")
_FOLDER = Form(
    r"(?!(?:.*/)?\.\.?(?:/|$))[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*|\.",
    "is not a folder of the workload",
    "Write it as public, relative to its files and without `..`",
)
_HTTP_CHECK = Form(rf":{_PORT}/[^\s:]*", "is not a port and a path", "Write it as :8080/healthz")
_TCP_CHECK = Form(rf":{_PORT}", "is not a port", "Write it as :8080")
_COMMAND_CHECK = Form(
    r"(?:\./|/)[A-Za-z0-9_./-]+(?: [A-Za-z0-9_.,:=/@+-]+)*",
    "is not a command of plain words",
    "Write it as ./healthy --quick, and put what needs quotes or variables into a script",
)
_MEMORY = Form(r"[1-9][0-9]{0,8}[KMG]", "is not a size", "Write it as 512M, with K, M or G as systemd has them")
_CPU = Form(r"[1-9][0-9]{0,5}%", "is not a share of a processor", "Write it as 50%, or 200% for two processors")
# CloudAPI takes a word for virtual machines only: getBrand of
# https://github.com/TritonDataCenter/sdc-cloudapi/blob/master/lib/machines.js
BRANDS = ("bhyve", "kvm")
# EXPR_KEY_RE and EXPR_VALUE_RE of https://github.com/TritonDataCenter/sdc-cloudapi/blob/master/lib/triton-affinity.js
# `$` is written as \x24: some editors take it for the end of the text, also in brackets.
AFFINITY_RULE = r"[A-Za-z_][A-Za-z0-9_.-]+(?:==|!=)~?[A-Za-z0-9:_\s.*/()?+\[\]\\^\x24|-]+"
_AFFINITY = Form(
    AFFINITY_RULE,
    "is not an affinity rule",
    "Write KEY!=VALUE or KEY==VALUE, with ~ after the sign for a rule that may be broken, as rollcall-fleet!=~web",
)
_TRITON_DISK = Form(r"remaining|[1-9][0-9]{0,8}", "is not the size of a disk", "Write MiB, as 20480, or remaining")
_USER = Form(r"(?:[a-z_][a-z0-9_-]{0,31})?", "is not the name of a user", "Write it as admin")
_URL = Form(r"https?://[^\s/]+/?", "is not the URL of a CloudAPI", "Write it as https://HOST")
# The characters that a tag of an EC2 instance may have, without those that a URL has for other things.
_HTTPS_HOST = r"https://[A-Za-z0-9][A-Za-z0-9.-]{0,252}(?::[0-9]{1,5})?"
_MIRROR_URL = Form(
    rf"{_HTTPS_HOST}(?:/[A-Za-z0-9_.=+@-]+)*/?",
    "is not the https address of a folder",
    "Write it as https://HOST/PATH, without a user, a query or a fragment",
)
_ENDPOINT = Form(
    rf"{_HTTPS_HOST}/?", "is not the https address of a store", "Write it as https://HOST, without the bucket"
)
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = Form(
    r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "is not the name of a bucket", "Use 3 to 63 of a-z, 0-9 and inner . and -"
)
_MIRROR_REGION = Form(r"[a-z0-9-]{1,40}", "is not a region", "Write it as the store's documents have it, as auto")


_EC2_ID = "[0-9a-f]{8}(?:[0-9a-f]{9})?"
PUBLIC_SUBNETS, PRIVATE_SUBNETS = "public", "private"
_VPC_CHOICE = Selection(
    f"vpc-{_EC2_ID}", "VPC", "Write its id, as vpc-0123456789abcdef0, or its tags, as {Name: company}"
)
_SUBNETS_CHOICE = Selection(
    f"subnet-{_EC2_ID}",
    "subnet",
    "Write a list of ids, as [subnet-0123456789abcdef0], tags, as {Tier: web}, or public or private",
    words=(PUBLIC_SUBNETS, PRIVATE_SUBNETS),
    several=True,
)
_GROUP = Form(f"sg-{_EC2_ID}", "is not the id of a security group", "Write it as sg-0123456789abcdef0")
# What a key that selects something of EC2 contains: an id or a word, ids, or tags.
Choice = str | tuple[str, ...] | Mapping[str, str]


def _dns_ttl(seconds: int) -> int:
    """Refuse what Cloudflare refuses (https://developers.cloudflare.com/dns/manage-dns-records/reference/ttl/)."""
    if 1 < seconds < 60:
        raise refused("is a TTL that Cloudflare does not take", "Set 60 to 86400 seconds, or 1 for automatic")
    return seconds


def _network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as wrong:
        bits = ": it has host bits set" if "host bits" in str(wrong) else ""
        raise refused(f"is not a network{bits}", "Name networks, as 198.51.100.0/24") from None
    return text


def _resolver(text: str) -> str:
    host, port = text, "53"
    if text.startswith("[") and "]:" in text:
        host, _, port = text[1:].partition("]:")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ip_address(host)
    except ValueError:
        port = ""
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise refused("is not the address of a resolver", "Write it as 192.0.2.53, 192.0.2.54:5353 or 2001:db8::53")
    return text


def _server(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return _resolver(text)
    except ValueError:
        raise refused("is not the address of a name server", "Write it as 192.0.2.53 or 192.0.2.53:5353") from None


LETSENCRYPT = "letsencrypt"
# https://letsencrypt.org/docs/acme-protocol-updates/ , https://letsencrypt.org/docs/staging-environment/
DIRECTORIES = {
    LETSENCRYPT: "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
}


def _directory(text: str) -> str:
    if text not in DIRECTORIES and not re.fullmatch(r"https://[A-Za-z0-9.-]+(:[0-9]+)?/[^\s?#]*", text):
        raise refused(
            "is not a certificate authority", f"Write {', '.join(DIRECTORIES)}, or the https address of a directory"
        )
    return text


_SERVER = Field(
    description="with `provider: rfc2136`: the address of the zone's primary name server, and its port if it is not 53."
    " The program and the machines send their updates to this server",
    examples=["192.0.2.53"],
)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise refused("is in it twice", "Name each once", name)
    return names


def _vpcs(ids: tuple[str, ...]) -> tuple[str, ...]:
    for each in ids:
        if not _VPC.fullmatch(each):
            raise refused("is not the id of a VPC", "Write it as vpc-0123456789abcdef0, or as eu-west-1/vpc-…", each)
    return _distinct(ids)


_VPCS = AfterValidator(_vpcs)


def _sealed(value: Any) -> Any:
    """Read an encrypted value of the stack's file as an empty secret: only the engine can decrypt it."""
    return "" if value is None else value


_Secret = Annotated[SecretStr, BeforeValidator(_sealed), WithJsonSchema(_SECURE)]
_no_secret = partial(SecretStr, "")
_NEEDED = {"shown": "needed"}
# The hosts of S3, of its buckets' web sites, and of CloudFront.
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".cloudfront.net")


def _number(name: str) -> int:
    if not (isinstance(name, str) and name.isascii() and name.isdecimal() and len(name) <= 9):
        raise refused("is not the number of a machine", "Number them from 0, as count has them")
    return int(name)


_Names = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)]
_Rules = Annotated[tuple[Annotated[str, _AFFINITY], ...], AfterValidator(_distinct)]
_TritonDisks = Annotated[tuple[Annotated[str, _TRITON_DISK, NumberAsText(1, 999_999_999)], ...], Field(max_length=8)]


def ec2_parameter(image: str, architecture: str = X86) -> str:
    """Return the SSM parameter that has the AMI for an image: a name of EC2_IMAGES, or the path of a parameter itself.

    Both vendors call their parameters the same for each architecture, apart from the architecture itself:
    https://wiki.debian.org/Cloud/AmazonEC2Image/Bookworm ,
    https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/
    """
    found = EC2_IMAGES.get(image)
    return image if found is None else found.replace(_DEBIAN_NAMES[X86], _DEBIAN_NAMES[architecture])


def stack_id(project: str, stack: str) -> str:
    """Return the stack as machines and DNS records name it: its name, behind the project's where that is not `rollcall`."""
    return stack if project == "rollcall" else f"{project}.{stack}"


def joins_site(join: str) -> bool:
    """Return whether a name of `joins` is a site's."""
    return join.startswith(SITE)


def joins_service(fleet: FleetSettings) -> bool:
    """Return whether a fleet joins a service."""
    return any(not joins_site(join) for join in fleet.joins)


@dataclass(frozen=True, kw_only=True)
class HealthSettings:
    """When a machine may join.

    It may join after `check` (`http:PORT:PATH`, `tcp:PORT`, `command:/PATH`) has succeeded `rise` times in a row, and
    as long as it has not failed `fall` times in a row since.
    """

    check: str
    rise: int = 1
    fall: int = FALL


_Rise = Annotated[
    int, Field(strict=True, ge=1, le=100, description="a machine is healthy after this many good checks in a row")
]
_Fall = Annotated[
    int, Field(strict=True, ge=1, le=100, description="a machine is unhealthy after this many bad checks in a row")
]
_MinRegistered = Annotated[
    int,
    Field(
        strict=True,
        ge=1,
        le=400,
        description="this many machines of a record set stay in DNS even if they are unhealthy. Machines of all clouds and all fleets"
        " count. At least 30 % of the wanted machines stay, even if `minRegistered` is smaller"
        " ([the floor](agents.md#unhealthy-machines))",
    ),
]


@dataclass(frozen=True, kw_only=True)
class AcmeSettings(Section):
    """A certificate authority with ACME (RFC 8555)."""

    directory: Annotated[
        str,
        AfterValidator(_directory),
        Field(
            description="`letsencrypt`, `letsencrypt-staging`, or the https address of the directory of another certificate authority."
            " With the certificate, you agree to its terms of service",
            examples=["letsencrypt-staging"],
        ),
    ] = LETSENCRYPT
    email: Annotated[
        str | None,
        Field(
            pattern=r"^[^\s@,]+@[^\s@,]+\.[^\s@,]+$",
            description="where the certificate authority may reach you. Let's Encrypt sends nothing",
            examples=["ops@example.com"],
        ),
    ] = None

    @property
    def url(self) -> str:
        return DIRECTORIES.get(self.directory, self.directory)


@dataclass(frozen=True, kw_only=True)
class TlsSettings(Section):
    """TLS between visitors and the machines of a site."""

    acme: Annotated[
        AcmeSettings,
        Field(description="the certificate authority, `{directory: letsencrypt, email: ops@example.com}`"),
    ] = AcmeSettings()


@dataclass(frozen=True, kw_only=True)
class SiteSettings(Section):
    """A host in a zone, where machines are by their addresses.

    Some keys concern the whole zone (components/config/site_zones.py).
    """

    name: Annotated[str, NOT_A_KEY] = ""
    zone: Annotated[
        str,
        _SITE_ZONE,
        Field(
            description="the name of the zone, or its id at Cloudflare. The stack uses the zone, and never empties it. A zone at"
            " Cloudflare must be active if machines join",
            examples=["scalability.expert"],
        ),
    ]
    provider: Annotated[
        str,
        OneOf(SITE_PROVIDERS),
        Field(
            description="the DNS provider of the zone. `rfc2136` is your own name server with dynamic updates"
            " ([rfc2136.md](rfc2136.md))"
        ),
    ] = SITE_PROVIDERS[0]
    server: Annotated[str | None, AfterValidator(_server), _SERVER] = None
    zone_id: Annotated[
        str | None,
        _CLOUDFLARE_ID,
        Field(description="the id of the zone, if the token sees several zones of this name (in several accounts)"),
    ] = None
    host: Annotated[str, _HOST, Field(description="the host name of the machines, without the zone")] = "www"
    port: Annotated[
        int,
        Field(
            strict=True,
            ge=1,
            le=65535,
            description="the port that visitors use. The machines' firewall opens it."
            " Leave it out for a proxied site: the edge connects to its machines at port 443",
        ),
    ] = SITE_PORT
    ttl: Annotated[
        int,
        Field(
            strict=True,
            ge=1,
            le=86400,
            description="the TTL of the machines' records; 1 is automatic, otherwise at least 60",
            json_schema_extra=_SECONDS,
        ),
        AfterValidator(_dns_ttl),
    ] = 120
    proxied: Annotated[
        bool,
        Field(
            strict=True,
            description="DNS answers with the addresses of Cloudflare's edge and not of the machines. The machines accept visitors"
            " only from the edge; see below",
        ),
    ] = False
    tls: Annotated[
        TlsSettings | None,
        Field(
            description="machines serve the site by https at port 443, with a certificate that visitors trust, and redirect port 80 to"
            " it: `{acme: {}}` ([certificates](certificates.md)). For a site that is not proxied, in fleets with nginx. Leave `port`"
            " out. A change of this key takes effect in place on EC2; the first `tls` of a fleet on Triton replaces its machines"
        ),
    ] = None
    protection: Annotated[
        str,
        OneOf(PROTECTIONS),
        Field(
            description="the security level of the zone. `off` changes nothing. Only `under_attack` still has an effect, because"
            " Cloudflare now detects attacks itself"
        ),
    ] = "off"
    acceleration: Annotated[
        bool,
        Field(
            strict=True,
            description="turns on early hints, HTTP/3, 0-RTT and Always Online, and turns Rocket Loader off",
        ),
    ] = False
    apex: Annotated[
        bool,
        Field(
            strict=True,
            description="make a proxied CNAME from the zone's apex to the host. If a zone has several sites, set `false`"
            " at all of them except one",
        ),
    ] = True
    create: Annotated[
        bool,
        Field(
            strict=True,
            description="create the zone. The zone is kept when the stack is destroyed, or when this key is removed. Run the first `up`"
            " with a count of 0 in the fleets that join. Machines may join when the registrar names the name servers of the zone",
        ),
    ] = False
    account_id: Annotated[
        str | None,
        _CLOUDFLARE_ID,
        Field(description="with `create`: the id of the account that gets the zone, if the token sees several"),
    ] = None
    max_records: Annotated[
        int,
        Field(
            strict=True,
            ge=1,
            le=1_000_000,
            description="how many records the zone's plan allows. All machines must fit, with the largest fleet counted twice",
        ),
    ] = CLOUDFLARE_FREE_RECORDS
    check: Annotated[
        str | None,
        _SITE_HEALTH_CHECK,
        Field(
            description="a machine may join when this check succeeds: `http:PORT:PATH`, `tcp:PORT`, `command:/PATH`, or `workload:NAME`"
            " for the check of that workload. The default is the check of the fleet's workload, or `http:PORT:/` if the workload has"
            " no check",
            json_schema_extra={"shown": "`http:PORT:/`"},
        ),
    ] = None
    rise: _Rise = 1
    fall: _Fall = FALL
    min_registered: _MinRegistered = 1
    address: Annotated[
        str | None,
        OneOf(ADDRESSES),
        Field(
            description="which address of a machine its records have: the public one, or the private one of its primary interface"
            " ([private addresses](private.md#private-addresses)). A `proxied` site must be public. If you change it, the machines change"
            " their records in place",
            json_schema_extra={"shown": "`public`"},
        ),
    ] = None

    @property
    def address_kind(self) -> str:
        return self.address or PUBLIC

    @property
    def key(self) -> str:
        """Return the key of the configuration that has it."""
        return at("rollcall:sites", self.name)

    @property
    def join(self) -> str:
        """Return its name in `joins`."""
        return f"{SITE}{self.name}"

    @property
    def fqdn(self) -> str:
        return f"{self.host}.{self.zone}"

    @property
    def is_dynamic(self) -> bool:
        """Return whether the zone is at a name server that takes dynamic updates."""
        return self.provider == DYNAMIC

    @property
    def health(self) -> HealthSettings:
        return HealthSettings(check=self.check or f"http:{self.port}:/", rise=self.rise, fall=self.fall)


@dataclass(frozen=True, kw_only=True)
class IncarnationSettings(Section):
    """One incarnation of a service: a DNS-SD service instance (RFC 6763 section 4.1) with its TXT keys and values."""

    name: Annotated[str, NOT_A_KEY] = ""
    txt: Annotated[
        Mapping[str, str], Field(description="keys and values by RFC 6763; no secrets, because everybody can read it")
    ] = field(default_factory=dict)
    shards: Annotated[
        int,
        Field(
            strict=True,
            ge=1,
            le=100,
            description="the number of SRV record sets, `v1-1` to `v1-N`, which the client merges. Use it if all machines, with the largest"
            " fleet counted twice, are more than 400. Choose it before machines join. If you change it later, machines move to other record"
            " sets. A client that has the PTR records of the service in a cache then finds no machine until they expire (`ttl` of"
            " `serviceDiscovery`). To avoid this gap, make another incarnation with the new number, and fleets that join it",
        ),
    ] = 1

    @property
    def sets(self) -> tuple[str, ...]:
        """Return the names of its SRV sets: the incarnation's name, or `v1-1` to `v1-N` where it has shards."""
        return (
            (self.name,) if self.shards == 1 else tuple(f"{self.name}-{number}" for number in range(1, self.shards + 1))
        )


@dataclass(frozen=True, kw_only=True)
class ServiceSettings(Section):
    """A service as RFC 6763 section 7 names it. `name` is without the underscore."""

    name: Annotated[str, NOT_A_KEY] = ""
    port: Annotated[int, Field(strict=True, ge=1, le=65535, description="the port of every member", examples=[4218])]
    protocol: Annotated[
        str,
        OneOf(PROTOCOLS),
        Field(
            description="with `udp`, a service cannot have port 4217: machines ask each other there whether they run"
        ),
    ] = "tcp"
    ttl: Annotated[
        int,
        Field(
            strict=True, ge=1, le=86400, description="the TTL of the machines' own records", json_schema_extra=_SECONDS
        ),
    ] = 30
    check: Annotated[
        str | None,
        _HEALTH_CHECK,
        Field(
            description="a machine may join when this check succeeds, as for a site. A service over UDP must have one",
            json_schema_extra={"shown": "`tcp:PORT`"},
        ),
    ] = None
    rise: _Rise = 1
    fall: _Fall = FALL
    min_registered: _MinRegistered = 1
    address: Annotated[
        str | None,
        OneOf(ADDRESSES),
        Field(
            description="which address of a machine its records have: the public one, or the private one of its primary interface"
            " ([private addresses](private.md#private-addresses)). Services that a fleet joins together must have the same value. If you"
            " change it, the machines change their records in place",
            json_schema_extra={"shown": "`private` in a private zone, else `public`"},
        ),
    ] = None
    incarnations: Annotated[
        tuple[IncarnationSettings, ...],
        ByName(),
        Field(description="the incarnations by name. A name is one DNS label, for example `v1`", examples=[{"v1": {}}]),
    ]
    short_name: Annotated[
        str | None,
        Field(
            description="the name `_theService._tcp.ZONE` also has the machines of this incarnation"
            " ([names](discovery.md#names-for-other-programs)). Without this key, the name is empty if the service has several"
            " incarnations",
            json_schema_extra={"shown": "the only incarnation"},
        ),
    ] = None

    @property
    def label(self) -> str:
        return f"_{self.name}._{self.protocol}"

    def srv(self, incarnation: IncarnationSettings) -> str:
        """Return the RFC 2782 names at which an incarnation's machines are (rollcall.settings.Route53Join).

        An incarnation with shards has no set with all of its machines. Below Rollcall's label there are hosts only.
        """
        if incarnation.shards > 1 or incarnation.name == HOSTS_LABEL:
            return ""
        only = incarnation.name if len(self.incarnations) == 1 else None
        return "service" if (self.short_name or only) == incarnation.name else "incarnation"

    @property
    def health(self) -> HealthSettings:
        return HealthSettings(check=self.check or f"tcp:{self.port}", rise=self.rise, fall=self.fall)


@dataclass(frozen=True, kw_only=True)
class ServiceDiscoverySettings(Section):
    """DNS-SD in a zone."""

    zone: Annotated[
        str,
        _DIRECTORY_ZONE,
        Field(
            description="the name of the zone, or its id in Route53. The stack uses the zone, and never empties it. A hosted zone"
            " is public, unless `private` is set",
            examples=["unilans.net"],
        ),
    ]
    provider: Annotated[
        str,
        OneOf(DIRECTORY_PROVIDERS),
        Field(
            description="the DNS provider of the zone. `rfc2136` is your own name server with dynamic updates"
            " ([rfc2136.md](rfc2136.md))"
        ),
    ] = DIRECTORY_PROVIDERS[0]
    server: Annotated[str | None, AfterValidator(_server), _SERVER] = None
    zone_id: Annotated[
        str | None,
        _HOSTED_ZONE_ID,
        Field(
            description="the id of the hosted zone, if the account has several public zones of this name, or several private ones"
        ),
    ] = None
    private: Annotated[
        bool,
        Field(
            strict=True,
            description="the hosted zone is private: only machines in its VPCs find it ([private zones](private.md#private-zones))."
            " There may be a public zone with the same name. Only fleets on AWS can join. If you change it, the machines leave the one"
            " zone and join the other",
        ),
    ] = False
    vpcs: Annotated[
        tuple[str, ...],
        _VPCS,
        Field(
            description="with `private` and `create`: the ids of the VPCs that find the zone. Before the id of a VPC in another region than"
            " the stack's, write the region and a slash. If you change the list, the stack associates the VPCs in place. Without"
            " `create`, the owner of the zone associates the VPCs, and `up` checks it",
            examples=[["vpc-0123456789abcdef0"]],
            json_schema_extra={"shown": "the VPCs of the fleets that join"},
        ),
    ] = ()
    services: Annotated[
        tuple[ServiceSettings, ...],
        ByName(),
        Field(
            description="the services by name. A name follows RFC 6335: 1 to 15 letters, digits and hyphens, with no hyphen at the"
            " beginning or end",
            examples=[{"theService": {"port": 4218, "incarnations": {"v1": {}}}}],
        ),
    ]
    ttl: Annotated[
        int,
        Field(
            strict=True,
            ge=1,
            le=86400,
            description="the TTL of the static records, PTR and TXT",
            json_schema_extra=_SECONDS,
        ),
    ] = 300
    create: Annotated[
        bool,
        Field(
            strict=True,
            description="create the zone. The zone is kept when the stack is destroyed, or when this key is removed. Run the first `up`"
            " with a count of 0 in the fleets that join. Machines may join when the registrar names the name servers of the zone",
        ),
    ] = False
    manage_soa: Annotated[
        bool | None,
        Field(
            strict=True,
            description="set the TTL of the zone's SOA record to 60 seconds. Then resolvers remember for 60 seconds, and not for 900,"
            " that a name does not exist. `destroy` restores the former TTL. If stacks share a zone, set it in one of them",
            json_schema_extra={"shown": "as `create`"},
        ),
    ] = None
    publish_service_types: Annotated[
        bool,
        Field(
            strict=True,
            description="write the list of the zone's service types (RFC 6763 section 9), which is one record set. If stacks share a"
            " zone, set `false` in all of them except one",
        ),
    ] = True

    @property
    def is_dynamic(self) -> bool:
        """Return whether the zone is at a name server that takes dynamic updates."""
        return self.provider == DYNAMIC

    @property
    def manages_soa(self) -> bool:
        """Return whether the stack sets the SOA's TTL. In a private zone, crashed machines stay longer in DNS without it."""
        return (self.create or self.private) if self.manage_soa is None else self.manage_soa

    def address_of(self, service: ServiceSettings) -> str:
        """Return the kind of the addresses of a service's machines."""
        return service.address or (PRIVATE if self.private else PUBLIC)


@dataclass(frozen=True, kw_only=True)
class SshSettings(Section):
    """The users who may log in to a fleet's machines.

    On EC2 all keys are required. Triton gives a machine the account's keys, and `sources` count there where the fleet's firewall
    is on.
    """

    user: Annotated[
        str,
        _USER,
        Field(
            description="the user that logs in, for example `admin`",
            json_schema_extra={"shown": "needed on EC2; `root` on Triton"},
        ),
    ] = ""
    key_name: Annotated[
        str | None,
        Field(
            description="EC2 only: a key pair of your AWS account in the fleet's region. Another key pair replaces the machines",
            json_schema_extra={"shown": "needed on EC2"},
        ),
    ] = None
    sources: Annotated[
        tuple[Annotated[str, AfterValidator(_network)], ...],
        Field(
            alias="from",
            description="the networks (CIDR) that may reach port 22",
            json_schema_extra={"shown": "needed on EC2"},
        ),
    ] = ()


@dataclass(frozen=True, kw_only=True)
class FleetSettings(Section):
    """Machines with the same job.

    `digests` are those of the releases of its workloads, by their names, once they are packed. `secured`: it joins a site with `tls`.
    `dynamic`: it joins a zone that takes dynamic updates.
    `architecture` is that of its size on EC2, once EC2 has been asked (components/preflight/architectures.py).
    """

    EMPTY: ClassVar[tuple[str, ...]] = ("ssh",)

    name: Annotated[str, NOT_A_KEY] = ""
    cloud: Annotated[str, OneOf(CLOUDS), Field(description="where the machines are", examples=[CLOUDS[0]])]
    count: Annotated[int, Field(strict=True, ge=0, le=1000, description="how many machines")] = 1
    size: Annotated[
        str, Field(description="an EC2 instance type; a Triton package by name or id", examples=["t3.micro"])
    ]
    image: Annotated[
        str,
        Field(
            description="`debian-12`, `debian-13`, `ubuntu-24.04`, an `ami-…` or the path of an SSM parameter; a Triton image"
            " by name, `name@version` or id",
            examples=["debian-12"],
        ),
    ]
    joins: Annotated[
        _Names,
        Field(
            description="`site/NAME` of `sites`, or `SERVICE/INCARNATION` of `serviceDiscovery`",
            examples=[[f"{SITE}www"]],
        ),
    ]
    runs: Annotated[
        _Names,
        Field(
            description="names of `rollcall:workloads`, or of the samples `site` and `the-service`",
            examples=[["site"]],
            json_schema_extra={"shown": "`site` for a site, `the-service` for a service"},
        ),
    ] = ()
    region: Annotated[
        str | None,
        Field(
            description="an AWS region, if it is not the stack's `aws:region`. Or the name of a data centre of Triton, if it is not the"
            " configured one (`triton datacenters` lists them). If you change it, successors are made in the new place first"
        ),
    ] = None
    timeout: Annotated[
        int,
        Field(
            strict=True,
            ge=10,
            le=3600,
            description="a roll call fails after this time without progress. There is progress when a machine answers, or when it"
            " reaches another state or step of its start for the first time. An agent that an API refused tries again after 120 s at"
            " the latest, so set more than 120",
            json_schema_extra=_SECONDS,
        ),
    ] = 300
    priority: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=65535,
            description="as in RFC 2782: clients first try the machines with the lowest number",
        ),
    ] = 10
    weight: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=65535,
            description="as in RFC 2782: the share of a machine among the machines with the same priority",
        ),
    ] = 10
    image_refresh: Annotated[
        str,
        Field(
            description='a word of your choice, for example `"2026-11"`. With another word, `up` looks up the image again, and replaces the'
            " machines by machines with the new image"
        ),
    ] = ""
    ipv6: Annotated[
        bool,
        Field(strict=True, description="an IPv6 address beside the IPv4 one, in DNS too; EC2 only; see below"),
    ] = False
    ssh: Annotated[
        SshSettings | None,
        Field(description="access by SSH: `{user: admin, keyName: operators, from: [203.0.113.0/24]}`; see below"),
    ] = None
    adopt: Annotated[
        Mapping[Annotated[int, BeforeValidator(_number)], str],
        Field(
            description="existing Triton machines, by name or id, that become members of the fleet. `{0: old-web}` makes `old-web` the"
            " machine with number 0 ([adopting.md](adopting.md))"
        ),
    ] = field(default_factory=dict)
    networks: Annotated[
        _Names,
        Field(
            description="Triton networks, by name or id, in the order of the machines' network cards:"
            " `[My-Fabric-Network, MNX-Triton-Public]`. The default is the only public network of the data centre. Triton"
            " only; see below",
            examples=[["My-Fabric-Network", "MNX-Triton-Public"]],
        ),
    ] = ()
    brand: Annotated[
        str | None,
        OneOf(BRANDS),
        Field(
            description="the kind of a virtual machine. It must fit the image and the package. For a container the image decides"
            " (`lx`, `joyent`), and CloudAPI takes no word. Triton only. If you change it, successors are made first",
            json_schema_extra={"shown": "the image decides"},
        ),
    ] = None
    affinity: Annotated[
        _Rules,
        Field(
            description="rules that choose the server of each new machine, by the tags and names of the machines that run:"
            " `[rollcall-fleet!=~web]` keeps the machines of `web` apart. Triton only; see below. If you change it, successors are"
            " made first",
            examples=[["rollcall-fleet!=~web"]],
        ),
    ] = ()
    disks: Annotated[
        _TritonDisks,
        Field(
            description="the sizes of the disks in MiB, the boot disk first: `[20480, remaining]`. At most one size is `remaining`. The"
            " machine must be `bhyve`, with a package that has flexible disk space. Triton only. If you change it, successors are"
            " made first",
            examples=[[20480, "remaining"]],
        ),
    ] = ()
    deletion_protection: Annotated[
        bool | None,
        Field(
            strict=True,
            description="CloudAPI refuses to delete the machines. Rollcall turns it off for a machine that the program deletes on purpose."
            " `false` turns it off for all. Without the key, Rollcall does not touch it. Triton only; see below. A change is in place",
        ),
    ] = None
    zones: Annotated[
        tuple[str, ...],
        WordOrList(ALL_ZONES),
        AfterValidator(_distinct),
        Field(
            description="`all`, or a list of availability zones, all by name (`us-west-2a`) or all by id (`usw2-az1`). Machines are spread"
            " over them by their number, and a zone without capacity is passed over. A machine in a zone that is no longer in the list is"
            " replaced, successor first. Any other change replaces nothing. EC2 only ([zones](zones.md))",
            examples=[["us-west-2a", "us-west-2b"]],
            json_schema_extra={
                "shown": "all zones that offer the size, without passing any over",
                "takes": "`all`, or a list of zones",
            },
        ),
    ] = ()
    placement: Annotated[
        str | None,
        OneOf(PLACEMENTS),
        Field(
            description="`spread`: each machine of a zone is on hardware of its own, at most 7 in a zone. `partition`: the machines of a"
            " zone are spread over 7 groups of racks. If you change it, all machines are replaced, successors first. EC2 only"
            " ([zones](zones.md#placement))"
        ),
    ] = None
    vpc: Annotated[
        Choice | None,
        _VPC_CHOICE,
        Field(
            description="the VPC of the machines: its id, or tags that only this VPC has, as `{Name: company}`. The default is the VPC of"
            " `subnets` if they are ids, otherwise the region's default VPC. EC2 only. Another value makes successors first"
            " ([network.md](network.md))",
            examples=["vpc-0123456789abcdef0"],
            json_schema_extra={"takes": "an id, or tags", "shown": "the default VPC"},
        ),
    ] = None
    subnets: Annotated[
        Choice | None,
        _SUBNETS_CHOICE,
        Field(
            description="the subnets of the machines: a list of ids, tags that they have, or all that are `public` or `private` by their"
            " routes. By default the public ones if the machines have public addresses, otherwise the private ones if there are any. EC2"
            " only. Another value makes successors first",
            examples=[["subnet-0123456789abcdef0"]],
            json_schema_extra={"takes": "ids, tags, `public`, `private`", "shown": "see there"},
        ),
    ] = None
    security_groups: Annotated[
        Annotated[tuple[Annotated[str, _GROUP], ...], Field(min_length=1, max_length=15)],
        AfterValidator(_distinct),
        Field(
            description="security groups of the VPC that the machines have besides the one that Rollcall makes, by id. EC2 only."
            " Another value changes running machines; with `stableAddresses` too",
            examples=[["sg-0123456789abcdef0"]],
        ),
    ] = ()
    public_address: Annotated[
        bool | None,
        Field(
            strict=True,
            description="whether the machines have public IPv4 addresses. The default is `true`, except in a chosen `vpc` or"
            " `subnets` if all that they join has private addresses. EC2 only. Another value makes successors first",
            json_schema_extra={"shown": "see there"},
        ),
    ] = None
    stable_addresses: Annotated[
        bool,
        Field(
            strict=True,
            description="give the machines elastic addresses that stay the stack's: two for each machine, so that a successor has the"
            " other one. EC2 only. Another value makes successors first",
        ),
    ] = False
    release: Annotated[
        str,
        OneOf((REPLACE, IN_PLACE)),
        Field(
            description="what happens when a workload changes: `replace` makes other machines, and `in-place` changes the machines that"
            " there are, batch by batch ([roll-outs](releases.md))"
        ),
    ] = REPLACE
    batch: Annotated[
        str,
        _BATCH,
        NumberAsText(1, 1000),
        Field(
            description="with `release: in-place`: how many machines change at the same time, or which share of the fleet, rounded up",
            json_schema_extra={"takes": "`1` to `1000`, or `1%` to `100%`"},
        ),
    ] = "1"
    min_healthy_time: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=3600,
            description="with `release: in-place`: how long a machine must be healthy without interruption before the next batch",
            json_schema_extra=_SECONDS,
        ),
    ] = 10
    deadline: Annotated[
        int,
        Field(
            strict=True,
            ge=10,
            le=7200,
            description="with `release: in-place`: how long after the change a machine may take to be healthy. A machine that takes longer"
            " goes back to the release that it ran before, and `up` fails",
            json_schema_extra=_SECONDS,
        ),
    ] = 300
    canary: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=1000,
            description="with `release: in-place`: so many machines change first, and the others when you run `rollcall promote`",
        ),
    ] = 0
    disk: Annotated[
        DiskSettings,
        Field(
            description="the root volume of an EC2 machine: `{size: 20, type: gp3}` ([machines.md](machines.md#disks)). EC2 only"
        ),
    ] = NO_DISK
    volumes: Annotated[
        tuple[VolumeSettings, ...],
        Field(
            description="further volumes of each EC2 machine: `[{size: 100, mount: /srv/data}]` ([machines.md](machines.md#volumes))."
            " A change replaces the machines, successors first",
            max_length=MOST_VOLUMES,
        ),
    ] = ()
    tags: Annotated[
        Mapping[str, str],
        Field(
            description="tags of your choice on the machines, and on EC2 on their volumes too: `{team: web}`. They change in place"
            " ([machines.md](machines.md#tags))"
        ),
    ] = field(default_factory=dict)
    monitoring: Annotated[
        bool | None,
        Field(
            strict=True,
            description="detailed monitoring by CloudWatch, each minute and not each five minutes. EC2 only. It changes in place. Without"
            " the key a machine keeps what it has, so `false` turns it off",
            json_schema_extra={"shown": "off for a new machine"},
        ),
    ] = None
    policies: Annotated[
        PoliciesSettings | None,
        Field(
            description="what workloads with `awsCredentials` may do in AWS: `{managed: [ARN], statements: [{actions: [s3:GetObject],"
            " resources: [ARN]}]}`. EC2 only. A change is in place ([machines.md](machines.md#permissions-in-aws))"
        ),
    ] = None
    timezone: Annotated[
        str | None,
        TIMEZONE,
        Field(
            description="the time zone of the machines, for example `Europe/Berlin`. It changes in place",
            json_schema_extra={"shown": "that of the image"},
        ),
    ] = None
    proxy: Annotated[
        str | None,
        PROXY,
        Field(
            description="an HTTP proxy for apt, the agent, its downloads and podman: `http://proxy.example.net:3128`. Workloads get it by"
            " their environment. A change replaces the machines, successors first ([machines.md](machines.md#proxy))"
        ),
    ] = None
    apt_mirror: Annotated[
        str | None,
        APT_MIRROR,
        Field(
            description="the mirror from which machines install packages, for example `https://mirror.example.net/debian`. It changes in"
            " place ([machines.md](machines.md#mirror-of-packages))",
            json_schema_extra={"shown": "that of the image"},
        ),
    ] = None
    logs: Annotated[
        LogsSettings | None,
        Field(
            description="where the machines send their journal: `{syslog: logs.example.net:514}`. It changes in place"
            " ([machines.md](machines.md#logs))"
        ),
    ] = None
    digests: Annotated[Mapping[str, str], NOT_A_KEY] = field(default_factory=dict)
    secured: Annotated[bool, NOT_A_KEY] = False
    dynamic: Annotated[bool, NOT_A_KEY] = False
    architecture: Annotated[str, NOT_A_KEY] = X86

    @property
    def system_settings(self) -> dict[str, str]:
        """Return the settings of the machines' system, by their keys."""
        volumes = [Volume(device=device, mount=each.mount) for device, each in self.volume_devices]
        found = {
            VOLUMES: format_volumes(volumes),
            TIMEZONE_KEY: self.timezone,
            PROXY_KEY: self.proxy,
            APT_MIRROR_KEY: self.apt_mirror,
            LOGS: self.logs.words if self.logs else None,
        }
        return {key: value.rstrip("/") for key, value in found.items() if value}

    @property
    def volume_devices(self) -> tuple[tuple[str, VolumeSettings], ...]:
        """Return the further volumes, each with the name of its device."""
        return tuple(zip(DEVICES, self.volumes, strict=False))

    @property
    def stable_count(self) -> int:
        """Return how many elastic addresses the fleet needs: a replacement makes all successors before a machine leaves."""
        return 2 * self.count if self.stable_addresses else 0

    @property
    def in_place(self) -> bool:
        """Return whether another release of a workload changes the machines instead of replacing them."""
        return self.release == IN_PLACE

    @property
    def disk_sizes(self) -> list[int | str]:
        """Return the sizes of a Triton machine's disks as CloudAPI takes them: MiB, or the text `remaining`."""
        return [each if each == "remaining" else int(each) for each in self.disks]

    @property
    def batch_size(self) -> int:
        """Return how many machines change at the same time."""
        share = self.batch.removesuffix("%")
        size = math.ceil(self.count * int(share) / 100) if share != self.batch else int(share)
        return max(1, min(size, self.count))


@dataclass(frozen=True, kw_only=True)
class NginxSettings(Section):
    """A static site."""

    root: Annotated[str, _FOLDER, Field(description="the folder below `files` that is served")] = "."


@dataclass(frozen=True, kw_only=True)
class CheckSettings(Section):
    """When a workload is healthy."""

    EVERY_S: ClassVar[int] = 5
    TIMEOUT_S: ClassVar[int] = 3

    http: Annotated[
        str | None,
        _HTTP_CHECK,
        Field(
            description="port and path that answer with 2xx or 3xx, for example `:8080/healthz`",
            examples=[":8080/healthz"],
        ),
    ] = None
    tcp: Annotated[
        str | None,
        _TCP_CHECK,
        Field(description="a port that accepts connections, for example `:5432`", examples=[":5432"]),
    ] = None
    command: Annotated[
        str | None,
        _COMMAND_CHECK,
        Field(
            description="a command that must exit with 0. It runs as the workload's user, with the workload's confinement."
            " An example is `./healthy --quick`",
            examples=["./healthy --quick"],
        ),
    ] = None
    timeout: Annotated[
        int | None,
        Field(
            strict=True,
            ge=1,
            le=60,
            description="how long an answer may take. Only a command may have more than 10 seconds",
            json_schema_extra={**_SECONDS, "shown": "`3`"},
        ),
    ] = None
    interval: Annotated[
        int | None,
        Field(
            strict=True,
            ge=2,
            le=300,
            description="how long to wait between two runs of a command; the agent makes the other checks every 2 seconds",
            json_schema_extra={**_SECONDS, "shown": "`5`"},
        ),
    ] = None
    grace: Annotated[
        int | None,
        Field(
            strict=True,
            ge=1,
            le=3600,
            description="how long a start may take until the check is good. If it takes longer, the workload is started again",
            json_schema_extra=_SECONDS,
        ),
    ] = None

    @property
    def words(self) -> str:
        """Return the check as machines have it: `http:8080:/healthz`."""
        if self.command:
            return f"command:{self.command}"
        port, slash, path = (self.http or self.tcp or "")[1:].partition("/")
        return f"http:{port}:{slash}{path}" if self.http else f"tcp:{port}"


@dataclass(frozen=True, kw_only=True)
class BeforeSettings(Section):
    """A command that runs once for a release."""

    run: Annotated[
        str,
        _RUN,
        Field(
            description="the command, in the form of `run` of the workload. It has the same user, environment, secrets and confinement",
            examples=["./migrate"],
        ),
    ]
    timeout: Annotated[
        int,
        Field(
            strict=True,
            ge=10,
            le=7200,
            description="how long the command may take. After this time it has failed. If the machine that runs it crashes,"
            " another machine runs it again after this time and one minute more",
            json_schema_extra=_SECONDS,
        ),
    ] = 180


def without_tag(image: str) -> str:
    """Return the name of an image without its tag. A port of the registry is before a slash, and a tag is not."""
    name, colon, tag = image.rpartition(":")
    return name if colon and "/" not in tag else image


@dataclass(frozen=True, kw_only=True)
class RegistrySettings(Section):
    """The login at a private registry."""

    user: Annotated[
        str,
        _REGISTRY_USER,
        Field(description="the name of the user, or what the registry takes as one", examples=["acme"]),
    ]
    password: Annotated[
        _Secret,
        Field(
            description="the password or the token:"
            " `pulumi config set --secret --path 'rollcall:workloads.cart.registry.password'`",
            json_schema_extra=_NEEDED,
            default_factory=_no_secret,
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class WorkloadSettings(Section):
    """What machines run beside the agent."""

    EMPTY: ClassVar[tuple[str, ...]] = ("nginx",)

    name: Annotated[str, NOT_A_KEY] = ""
    files: Annotated[
        str | None,
        Field(
            description="a folder, relative to the folder of the project. Each `up` packs it",
            examples=["workloads/www"],
        ),
    ] = None
    exclude: Annotated[
        tuple[str, ...],
        Field(
            description="the parts of `files` that are not packed, in lines as in a `.gitignore`. `.git`, `.env`, keys and similar files"
            " are never packed, unless a line includes them: `!.env`",
            examples=[["node_modules", "*.map"]],
        ),
    ] = ()
    artifact: Annotated[
        str | None,
        _ARTIFACT,
        Field(
            description="an https address, in place of `files`: a `.tar`, `.tar.gz`, `.tgz`, `.tar.bz2` or `.tar.xz` is unpacked,"
            " any other file is a program",
            examples=["https://releases.example.com/api-1.4.2.tar.gz"],
        ),
    ] = None
    sha256: Annotated[
        str | None,
        _SHA256,
        Field(description="the SHA-256 of the artifact; needed with `artifact`", examples=["0" * 64]),
    ] = None
    packages: Annotated[
        tuple[Annotated[str, _PACKAGE], ...],
        Field(description="the Debian packages that the workload needs", examples=[["python3-venv"]], max_length=50),
        AfterValidator(_distinct),
    ] = ()
    run: Annotated[
        str | None,
        _RUN,
        Field(
            description="the command, as `ExecStart` of systemd: `./start` is a file of the workload. There is no shell, but `${NAME}` is"
            " replaced by the value in `env`",
            examples=["./start"],
        ),
    ] = None
    unit: Annotated[
        str | None,
        _UNIT,
        Field(
            description="in place of `run`: a systemd unit file among its files, for settings that `run` does not have"
            " ([a systemd unit](workloads.md#a-systemd-unit))",
            examples=["deploy/shop.service"],
        ),
    ] = None
    before: Annotated[
        BeforeSettings | None,
        Field(
            description="a command that runs once for each release, on one machine, before the release starts on any machine:"
            " `{run: ./migrate, timeout: 180}` ([before a release](workloads.md#before-a-release))"
        ),
    ] = None
    user: Annotated[
        str | None,
        _RUN_AS,
        Field(description="the user that the workload runs as", json_schema_extra={"shown": "its own user"}),
    ] = None
    env: Annotated[
        Mapping[str, str],
        Field(description="environment variables. Put no secrets here: they are in the state and on the disk"),
    ] = field(default_factory=dict)
    secrets: Annotated[
        Mapping[str, _Secret],
        Field(
            description="the secrets of the workload by name:"
            " `pulumi config set --secret --path 'rollcall:workloads.shop.secrets.DATABASE_URL'`."
            " The app reads the file `$CREDENTIALS_DIRECTORY/DATABASE_URL` ([secrets](workloads.md#secrets))"
        ),
    ] = field(default_factory=dict)
    memory: Annotated[
        str | None,
        _MEMORY,
        Field(
            description="as `MemoryMax` of systemd: an app that uses more memory is killed, and started again",
            examples=["512M"],
        ),
    ] = None
    cpu: Annotated[
        str | None,
        _CPU,
        Field(description="as `CPUQuota` of systemd: 100% is one processor", examples=["50%"]),
    ] = None
    confinement: Annotated[
        str,
        OneOf(CONFINEMENTS),
        Field(
            description="`best-effort` also runs the workload on a machine that cannot enforce the confinement, for example in an LX"
            " zone ([confinement](workloads.md#confinement))"
        ),
    ] = CONFINEMENTS[0]
    nginx: Annotated[
        NginxSettings | None,
        Field(description="in place of `run` and `unit`: nginx serves the files as a static site, `{root: public}`"),
    ] = None
    container: Annotated[
        str | None,
        _IMAGE,
        Field(
            description="in place of `run`: the image of a container, with its registry and its digest"
            " ([a container](workloads.md#a-container))",
            examples=[f"ghcr.io/acme/cart@sha256:{'0' * 64}"],
        ),
    ] = None
    registry: Annotated[
        RegistrySettings | None,
        Field(description="with `container`: the login at a private registry, `{user: acme, password: {secure: …}}`"),
    ] = None
    ports: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=1, le=65535)], ...],
        Field(
            description="with `container`: the ports that it listens on. It has the network of the machine",
            examples=[[8080]],
            max_length=20,
        ),
    ] = ()
    args: Annotated[
        tuple[Annotated[str, _ARGUMENT], ...],
        Field(
            description="with `container`: the arguments for what the image starts, in place of its own (`CMD`)",
            examples=[["--port", "8080"]],
            max_length=100,
        ),
    ] = ()
    capabilities: Annotated[
        tuple[Annotated[str, OneOf(CAPABILITIES)], ...],
        Field(
            description="with `container`: additional Linux capabilities. Without this key the container may only listen on ports below"
            " 1024. An image that starts as root and changes to another user needs `[CHOWN, SETGID, SETUID]`"
        ),
        AfterValidator(_distinct),
    ] = ()
    read_only: Annotated[
        bool,
        Field(
            strict=True,
            description="with `container`: it may write to `/tmp`, `/var/tmp` and `/run` only, which are in memory",
        ),
    ] = False
    aws_credentials: Annotated[
        bool,
        Field(
            strict=True,
            description="whether it gets temporary credentials of AWS with the `policies` of its fleet. Each of its fleets must be on EC2"
            " and have `policies` ([machines.md](machines.md#permissions-in-aws))",
        ),
    ] = False
    check: Annotated[
        tuple[CheckSettings, ...],
        Field(max_length=10),
        OneOrMore(),
        Field(
            description="the check of the workload: `{http: ':8080/healthz', grace: 60}`, or a list of such checks that must all be good."
            " It decides whether a machine may be in DNS, for each site and service without a check of its own"
        ),
    ] = ()

    drain: Annotated[
        bool,
        Field(
            strict=True,
            description="whether a machine of a fleet with `release: in-place` leaves DNS while it changes this workload. `false` is for"
            " static files only",
        ),
    ] = True

    @property
    def check_words(self) -> str | None:
        """Return the check as machine settings have it. One that is more than an address is in the definition: `workload:NAME`."""
        if not self.check:
            return None
        return self.check[0].words if self.has_plain_check else f"workload:{self.name}"

    @property
    def has_plain_check(self) -> bool:
        """Return whether its only check is an address without a timeout."""
        return len(self.check) == 1 and self.check[0].command is None and self.check[0].timeout is None


@dataclass(frozen=True, kw_only=True)
class MirrorUploadSettings(Section):
    """The access key with which `up` writes releases into a bucket. No machine gets it."""

    access_key: Annotated[
        _Secret, Field(description="the id of the access key", json_schema_extra=_NEEDED, default_factory=_no_secret)
    ]
    secret_key: Annotated[
        _Secret, Field(description="its secret part", json_schema_extra=_NEEDED, default_factory=_no_secret)
    ]


@dataclass(frozen=True, kw_only=True)
class MirrorSettings(Section):
    """Another store of the same releases: a web server, or a bucket of an S3-compatible store."""

    name: Annotated[str, NOT_A_KEY] = ""
    https: Annotated[
        str | None,
        _MIRROR_URL,
        Field(
            description="the address of a folder on a web server that you fill, with what `rollcall release export FOLDER` writes",
            examples=["https://mirror.example.net/rollcall"],
        ),
    ] = None
    endpoint: Annotated[
        str | None,
        _ENDPOINT,
        Field(
            description="in place of `https`: the address of an S3-compatible store",
            examples=["https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com"],
        ),
    ] = None
    bucket: Annotated[
        str | None,
        _BUCKET,
        Field(description="with `endpoint`: the bucket, which exists already", examples=["rollcall-releases"]),
    ] = None
    region: Annotated[
        str | None,
        _MIRROR_REGION,
        Field(
            description="with `endpoint`: the region that requests are signed for",
            examples=["us-west-2"],
            json_schema_extra={"shown": "`auto`"},
        ),
    ] = None
    access_key: Annotated[
        _Secret,
        Field(
            description="with `endpoint`: the id of the access key that machines get. It needs to read the objects below"
            " `releases/`, and nothing else: `pulumi config set --secret --path 'rollcall:mirrors.r2.accessKey'`",
            json_schema_extra={"shown": "none"},
        ),
    ] = field(default_factory=_no_secret)
    secret_key: Annotated[
        _Secret,
        Field(
            description="with `endpoint`: the secret part of that key, in the same way",
            json_schema_extra={"shown": "none"},
        ),
    ] = field(default_factory=_no_secret)
    upload: Annotated[
        MirrorUploadSettings | None,
        Field(
            description="with `endpoint`: the key with which each `up` writes the releases into the bucket, as"
            " `{accessKey: …, secretKey: …}`. Without it, you upload what `rollcall release export FOLDER` writes"
        ),
    ] = None

    @property
    def key(self) -> str:
        """Return the key of the configuration that has it."""
        return at("rollcall:mirrors", self.name)

    @property
    def address(self) -> str:
        """Return the address of the folder or of the store, without a final slash."""
        return (self.https or self.endpoint or "").rstrip("/")

    @property
    def is_in_aws(self) -> bool:
        """Return whether it fails together with AWS."""
        host = self.address.removeprefix("https://").partition("/")[0].partition(":")[0].lower()
        return host.endswith(_AWS_DOMAINS)


@dataclass(frozen=True, kw_only=True)
class JoyentSettings(Section):
    """The address and the account of CloudAPI. TRITON_* in the environment comes first. Never the key itself."""

    url: Annotated[str | None, _URL, Field(description="where CloudAPI is, as `TRITON_URL`")] = None
    account: Annotated[str | None, Field(description="the account's name, as `TRITON_ACCOUNT`")] = None
    key_id: Annotated[str | None, Field(description="the fingerprint of the account's key, as `TRITON_KEY_ID`")] = None


@dataclass(frozen=True, kw_only=True)
class Subnet:
    """A subnet of EC2, with the name and the id of its zone."""

    id: str
    zone: str
    zone_id: str = ""


@dataclass(frozen=True, kw_only=True)
class FleetVpc:
    """The VPC of a fleet, and the subnets for its machines. Neighbours in the list are in different zones, if possible."""

    id: str
    subnets: tuple[Subnet, ...]


@dataclass(frozen=True, kw_only=True)
class Settings(Section):
    """The keys `rollcall:…` of a stack.

    `network_ids` has the networks of each Triton fleet by its name, once its data centre has been asked
    (components/preflight/triton_networks.py). `given_networks` are the EC2 fleets for which the program gives a VPC (rollcall_pulumi).
    `vpcs` has the VPC of each EC2 fleet that chooses one (components/preflight/vpcs.py).
    """

    stack: Annotated[str, NOT_A_KEY] = ""
    sites: Annotated[
        tuple[SiteSettings, ...],
        ByName(),
        Field(
            description="hosts where machines are by their addresses, by name",
            examples=[{"www": {"zone": "scalability.expert"}}],
        ),
    ] = ()
    service_discovery: Annotated[ServiceDiscoverySettings | None, Field(description="DNS-SD services")] = None
    fleets: Annotated[
        tuple[FleetSettings, ...], ByName(), Field(description="machines with the same job, by name")
    ] = ()
    workloads: Annotated[
        tuple[WorkloadSettings, ...], ByName(), Field(description="what machines run beside the agent, by name")
    ] = ()
    mirrors: Annotated[
        tuple[MirrorSettings, ...],
        ByName(),
        Field(
            description="other stores of the releases, by name. A machine asks them, in the order of their names, if its cloud's store"
            " does not have its release"
        ),
    ] = ()
    joyent: Annotated[
        JoyentSettings,
        Field(
            description="where CloudAPI is, without `TRITON_*` in the environment, which has precedence. Never the key itself"
        ),
    ] = JoyentSettings()
    drain_delay: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=86400,
            description="how long a leaving machine serves after its records are gone; the longest TTL if that is shorter",
            json_schema_extra=_SECONDS,
        ),
    ] = 86400
    keep_releases: Annotated[
        int,
        Field(
            strict=True,
            ge=2,
            le=100,
            description="how many releases of the agent and of each workload stay in a bucket of the stack; those that fleets or"
            " machines name always do",
        ),
    ] = 5
    safe_deletes: Annotated[
        bool,
        Field(strict=True, description="refuse to remove many leftover records or to end many machines at once"),
    ] = True
    rotation_trigger: Annotated[
        str,
        Field(description="a word; another word renews every secret of the stack, and revokes the old ones"),
    ] = ""
    resolvers: Annotated[
        tuple[Annotated[str, AfterValidator(_resolver)], ...],
        Field(
            description="addresses of recursive resolvers, which say where a zone's name servers are, and are asked if none of"
            " those can be asked; by default this machine's own",
            examples=[["192.0.2.53"]],
            max_length=8,
        ),
        AfterValidator(_distinct),
    ] = ()
    network_ids: Annotated[Mapping[str, tuple[str, ...]], NOT_A_KEY] = field(default_factory=dict)
    given_networks: Annotated[frozenset[str], NOT_A_KEY] = frozenset()
    vpcs: Annotated[Mapping[str, FleetVpc], NOT_A_KEY, WithJsonSchema({})] = field(default_factory=dict)

    @property
    def joins(self) -> tuple[str, ...]:
        """Return every name that a fleet's `joins` may contain: `site/NAME`, `SERVICE/INCARNATION`."""
        services = self.service_discovery.services if self.service_discovery is not None else ()
        return tuple(each.join for each in self.sites) + tuple(
            f"{service.name}/{each.name}" for service in services for each in service.incarnations
        )

    def vpc_of(self, fleet: FleetSettings) -> str:
        """Return the id of the VPC that an EC2 fleet chooses; empty for the default VPC."""
        return self.vpcs[fleet.name].id if fleet.name in self.vpcs else ""

    def address_of(self, join: str) -> str:
        """Return the kind of the addresses of the machines at a name of `joins`."""
        if joins_site(join):
            return next((each.address_kind for each in self.sites if each.join == join), PUBLIC)
        directory = self.service_discovery
        services = directory.services if directory is not None else ()
        named = next((each for each in services if each.name == join.partition("/")[0]), None)
        return directory.address_of(named) if directory is not None and named is not None else PUBLIC

    def joins_private_zone(self, fleet: FleetSettings) -> bool:
        """Return whether a fleet joins services in a private hosted zone."""
        return self.service_discovery is not None and self.service_discovery.private and joins_service(fleet)

    def public_joins(self, fleet: FleetSettings) -> tuple[str, ...]:
        """Return what a fleet joins with public addresses."""
        return tuple(each for each in fleet.joins if self.address_of(each) == PUBLIC)

    def has_public_address(self, fleet: FleetSettings) -> bool:
        """Return whether the machines of an EC2 fleet have public IPv4 addresses.

        In the default VPC they need them to reach the APIs, also if they register private ones.
        """
        if fleet.public_address is not None:
            return fleet.public_address
        return bool(self.public_joins(fleet)) or (fleet.vpc is None and fleet.subnets is None)

    def chooses_vpc(self, fleet: FleetSettings) -> bool:
        """Return whether an EC2 fleet chooses its VPC or its subnets. Otherwise it is in the subnets of the default VPC."""
        return fleet.vpc is not None or fleet.subnets is not None or not self.has_public_address(fleet)

    def has_iam_user(self, fleet: FleetSettings) -> bool:
        """Return whether AWS gives a fleet's machines an access key: they join a service in Route53, and have no instance role."""
        in_route53 = self.service_discovery is not None and not self.service_discovery.is_dynamic
        return fleet.cloud != "aws" and in_route53 and joins_service(fleet)

    @property
    def uses_aws(self) -> bool:
        in_route53 = self.service_discovery is not None and not self.service_discovery.is_dynamic
        return in_route53 or any(fleet.cloud == "aws" for fleet in self.fleets)

    def without_dynamic_zones(self) -> Settings:
        """Return the settings for checks that ask Cloudflare and Route53: without dynamic zones."""
        directory = self.service_discovery
        return replace(
            self,
            sites=tuple(each for each in self.sites if not each.is_dynamic),
            service_discovery=None if directory and directory.is_dynamic else directory,
        )

    def workloads_of(self, fleet: FleetSettings) -> tuple[WorkloadSettings, ...]:
        """Return the operator's workloads that a fleet runs, in its order."""
        known = {each.name: each for each in self.workloads}
        return tuple(known[name] for name in fleet.runs if name in known)

    def checked_by(self, fleet: FleetSettings) -> str | None:
        """Return the check of a fleet's workloads, for joins without a separate check."""
        checked = next((each for each in self.workloads_of(fleet) if each.check), None)
        return _check_of(checked, fleet) if checked is not None else None

    def sites_of(self, fleet: FleetSettings) -> tuple[SiteSettings, ...]:
        """Return the sites that a fleet joins, each with the check that its machines use for it."""
        known = {each.join: each for each in self.sites}
        joined = (known[join] for join in fleet.joins if join in known)
        return tuple(replace(each, check=self._own_check(each, fleet) or self.checked_by(fleet)) for each in joined)

    def with_secured(self) -> Settings:
        """Return the settings with the fleets that join a site with `tls`, or a zone that takes dynamic updates."""
        secured = {each.join for each in self.sites if each.tls is not None}
        dynamic = {each.join for each in self.sites if each.is_dynamic}
        directory = self.service_discovery is not None and self.service_discovery.is_dynamic
        return replace(
            self,
            fleets=tuple(
                replace(
                    each,
                    secured=not secured.isdisjoint(each.joins),
                    dynamic=not dynamic.isdisjoint(each.joins) or (directory and joins_service(each)),
                )
                for each in self.fleets
            ),
        )

    def _own_check(self, site: SiteSettings, fleet: FleetSettings) -> str | None:
        """Return the check of a site. It may be that of a workload."""
        kind, _, name = (site.check or "").partition(":")
        if kind != "workload":
            return site.check
        return next((_check_of(each, fleet) for each in self.workloads if each.name == name and each.check), None)

    @property
    def cloudflare_sites(self) -> int:
        """Return how many sites share what Cloudflare's API allows."""
        return sum(not each.is_dynamic for each in self.sites)

    def fleets_at(self, join: str) -> tuple[FleetSettings, ...]:
        """Return the fleets that join this."""
        return tuple(each for each in self.fleets if join in each.joins)

    def service_discovery_of(self, fleet: FleetSettings) -> ServiceDiscoverySettings | None:
        """Return the services with the checks that a fleet's machines use for its services."""
        check = self.checked_by(fleet)
        if self.service_discovery is None or check is None:
            return self.service_discovery
        services = (replace(each, check=each.check or check) for each in self.service_discovery.services)
        return replace(self.service_discovery, services=tuple(services))

    def fleets_of(self, cloud: str) -> tuple[FleetSettings, ...]:
        return tuple(fleet for fleet in self.fleets if fleet.cloud == cloud)

    def by_region(self, cloud: str) -> dict[str, tuple[FleetSettings, ...]]:
        """Return a cloud's fleets by the region or data centre that they name; an empty text is the stack's region."""
        regions = dict.fromkeys(fleet.region or "" for fleet in self.fleets_of(cloud))
        return {
            region: tuple(fleet for fleet in self.fleets_of(cloud) if (fleet.region or "") == region)
            for region in regions
        }

    def at_home(self, own: Mapping[str, str]) -> Settings:
        """Return the settings without the name of each cloud's default region (`own`, by cloud).

        A fleet that names no region is there.
        """
        fleets = (
            replace(fleet, region=None) if fleet.region == own.get(fleet.cloud) else fleet for fleet in self.fleets
        )
        return replace(self, fleets=tuple(fleets))


def _check_of(workload: WorkloadSettings, fleet: FleetSettings) -> str | None:
    """Return the check of a workload as the machines of a fleet have it.

    Machines that change in place find the check in the definition of the release that they run. So another check is not
    another setting.
    """
    return f"workload:{workload.name}" if fleet.in_place else workload.check_words


# The keys of the stack's configuration, without `rollcall:`.
KEYS = (
    "sites",
    "serviceDiscovery",
    "fleets",
    "workloads",
    "mirrors",
    "joyent",
    "drainDelay",
    "keepReleases",
    "safeDeletes",
    "rotationTrigger",
    "resolvers",
)
# The keys with text as their value; the value of the others is JSON.
TEXTS = ("rotationTrigger",)
