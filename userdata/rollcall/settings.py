"""The settings of a machine as data: one table of keys, the same in EC2 tags and Joyent metadata.

Values use only the characters that EC2 allows in tags, and have at most EC2's 256 characters. Each membership
(a site or an incarnation of a service that the machine joins) is one value of `key=value` words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, ClassVar, TypeVar, get_type_hints

from rollcall.in_place import HOLD, WANTED, WantedRelease, parse_wanted
from rollcall.machine import CREDENTIALS, IN_PLACE
from rollcall.ownership import Owner
from rollcall.setting_values import LONGEST_VALUE as LONGEST_VALUE
from rollcall.setting_values import SettingsError as SettingsError

STACK = "rollcall-stack"
FLEET = "rollcall-fleet"
MACHINE = "rollcall-machine"
GENERATION = "rollcall-generation"
WORKLOADS = "rollcall-workloads"
# The workloads that come with the agent's release.
SAMPLES = ("site", "the-service")
# This, and the name of an operator's workload, is the key for the digest of its release.
WORKLOAD = "rollcall-workload-"
# This, and the name of a workload with secrets, is the key for where they are, their revision, and this machine's turn.
SECRETS = "rollcall-secrets-"
RELEASE = "rollcall-release"
STORE = "rollcall-store"
# This, and the name of a mirror, is the key for where it is (userdata/get_release.py).
MIRROR = "rollcall-mirror-"
# The major number of the settings' format; without it, 1. The program adds keys and words that an agent may ignore. It raises the number
# for a change that an agent must not ignore (docs/decisions/0017).
FORMAT = "rollcall-format"
SETTINGS_FORMAT = 1
# The same for a workload's definition. 2 has `unit`, `before` and `checks`: an agent that ignored them would start something else.
DEFINITION_FORMAT = 4
DRAIN = "rollcall-drain"
STATUS = "rollcall-status"
PROBE = "rollcall-probe"
JOIN = "rollcall-join-"
# The hosts of a service's machines are below this label of the zone.
HOSTS_LABEL = "rc"
# The kinds of a machine's addresses. All members of a record set have the same kind.
PUBLIC, PRIVATE = "public", "private"
# The view of a private zone, which only the resolvers of its VPCs answer.
VPC = "vpc"
# With a check every two seconds, a fault that ends within 8 s removes no machine from DNS (docs/agents.md).
FALL = 5


class Join:
    """A record set that a machine joins: the attributes and methods that the agent uses, the same for all DNS providers.

    A provider's class is a frozen dataclass, a subclass of one of two shapes: the addresses of a host (SiteJoin), or the SRV set of a
    service (ServiceJoin). Its fields are the words of `format_join`, after the first word, which is `KIND`.
    """

    KIND: ClassVar[str]
    # Whether DNS shows all that a member wrote. If it does not, only the provider's API can confirm it.
    CONFIRMED_BY_DNS: ClassVar[bool] = True
    # Whether the record set contains the name of each member's host, which has its generation, instead of its address.
    HAS_HOSTS: ClassVar[bool] = False
    # For so many seconds after a change the name servers may still give the old answer.
    PROPAGATION_S: ClassVar[float] = 0.0
    ttl: int
    rise: int
    fall: int
    ipv6: bool
    # Which address of the machine its records have: PUBLIC or PRIVATE.
    address: str

    if TYPE_CHECKING:

        @property
        def zone(self) -> str:
            """The provider's id of the zone."""

        @property
        def domain(self) -> str:
            """The zone's name."""

    @property
    def is_private(self) -> bool:
        """Whether the records have the machine's private address."""
        return self.address == PRIVATE

    @property
    def own_resolvers(self) -> bool:
        """Whether this machine asks its own resolvers, because no name server of the zone can be asked."""
        return False

    @property
    def label(self) -> str:
        """The name of the record set in a log line."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The name at which its members are in DNS."""
        raise NotImplementedError

    @property
    def challenges(self) -> str:
        """The name below which members are challenged."""
        raise NotImplementedError

    @property
    def challenger_suffix(self) -> str:
        """The text after the challenger's name in a challenge. It is needed if several record sets share a member's challenges."""
        return ""

    @property
    def checks(self) -> tuple[str, ...]:
        """The health checks that must all be good."""
        raise NotImplementedError

    @property
    def floors(self) -> dict[str, int]:
        """How many machines stay even if they are unhealthy, by the type of the record set."""
        raise NotImplementedError

    @property
    def cached_s(self) -> float:
        """Seconds for which a resolver may still answer with a removed record."""
        return float(self.ttl)

    @property
    def hides_members(self) -> bool:
        """Whether DNS answers with addresses that are not those of the members."""
        return False

    @property
    def origin_secret(self) -> str:
        """The name of the secret with the key and certificate for TLS to an edge; empty if there is no edge."""
        return ""

    @property
    def tls_secret(self) -> str:
        """The name of the secret with a key and certificate that visitors trust; empty if there is none (rollcall.certificates)."""
        return ""

    @property
    def certificate_word(self) -> str:
        """A word that changes when the program has another certificate."""
        return ""

    @property
    def api_shares(self) -> int:
        """How many record sets share what the provider's API allows to all machines of the stack."""
        return 1

    @property
    def visited_as(self) -> tuple[str, ...]:
        """The names that the edge asks for by TLS."""
        return (self.name,)

    def without_floors(self: _J) -> _J:
        """Return the same membership without a setting about the other machines of its record set."""
        raise NotImplementedError

    def is_member(self, answer: str) -> bool:
        """Return whether an answer of DNS (an address, or the target of an SRV) may belong to a machine of Rollcall."""
        return True

    def same_record_sets(self, other: Join) -> bool:
        """Return whether `other` is the same record set, perhaps with another TTL or weight.

        Then the machine changes its records, and does not leave and join again.
        """
        return type(self) is type(other) and self.label == other.label and self.zone == other.zone


class SiteJoin(Join):
    """The machine's address in the A records of `host`; with `ipv6` one of each family.

    `labels` is how many labels of `host` are before the zone's name. `floor` is how many machines stay in the A records even if they are
    unhealthy; `floor6` is the same for the AAAA records. `tls` names the secret with a certificate that visitors trust
    (rollcall.acme_client.Bundle), and `certificate` is a word that changes with it.
    """

    host: str
    check: str
    labels: int
    floor: int
    floor6: int
    tls: str
    certificate: str

    @property
    def tls_secret(self) -> str:
        return self.tls

    @property
    def certificate_word(self) -> str:
        return self.certificate

    @property
    def domain(self) -> str:
        return self.host.split(".", self.labels)[-1]

    @property
    def label(self) -> str:
        return f"host={self.host}"

    @property
    def name(self) -> str:
        return self.host

    @property
    def challenges(self) -> str:
        return self.host

    @property
    def checks(self) -> tuple[str, ...]:
        """The health checks. With TLS, a machine is healthy only if nginx has the site's certificate too."""
        return (self.check, f"tls:443:{self.host}") if self.tls or self.origin_secret else (self.check,)

    @property
    def floors(self) -> dict[str, int]:
        return {"A": self.floor, "AAAA": self.floor6}

    def without_floors(self: _S) -> _S:
        return replace(self, floor=1, floor6=1, certificate="")  # type: ignore[type-var]


@dataclass(frozen=True, kw_only=True)
class ServiceJoin(Join):
    """The SRV record set of one incarnation of a service (RFC 2782, RFC 6763).

    `zone` is the provider's id of the zone, and `domain` is its name. The set is at `incarnation.service.domain`, for example
    `v1._theService._tcp.unilans.net`. `key` names the secret with the provider's key. The default `check` is that the port accepts. `ipv6`:
    the machine's host has an address of each family. `floor` is how many machines stay in the set even if they are unhealthy. `srv` says
    which names of RFC 2782 have the same members: `incarnation` is `_theService._tcp.v1.unilans.net`, `service` is that one and
    `_theService._tcp.unilans.net`.
    """

    HAS_HOSTS: ClassVar[bool] = True
    zone: str
    domain: str
    service: str
    incarnation: str
    port: int
    priority: int = 10
    weight: int = 10
    ttl: int = 30
    check: str = ""
    key: str = ""
    rise: int = 1
    fall: int = FALL
    ipv6: bool = False
    floor: int = 1
    srv: str = ""
    address: str = PUBLIC

    @property
    def label(self) -> str:
        return f"service={self.incarnation}.{self.service}.{self.domain}"

    @property
    def name(self) -> str:
        return f"{self.incarnation}.{self.service}.{self.domain}".lower()

    @property
    def challenges(self) -> str:
        return self.domain

    @property
    def challenger_suffix(self) -> str:
        return f"/{self.incarnation}.{self.service}"

    @property
    def checks(self) -> tuple[str, ...]:
        return (self.check or f"tcp:{self.port}",)

    @property
    def floors(self) -> dict[str, int]:
        return {"SRV": self.floor}

    def without_floors(self: _T) -> _T:
        return replace(self, floor=1)

    def is_member(self, answer: str) -> bool:
        return answer.endswith(f".{HOSTS_LABEL}.{self.domain}".lower())


_J = TypeVar("_J", bound=Join)
_S = TypeVar("_S", bound=SiteJoin)
_T = TypeVar("_T", bound=ServiceJoin)


@dataclass(frozen=True, kw_only=True)
class CloudflareJoin(SiteJoin):
    """A site in the Cloudflare zone with id `zone`.

    `ttl` is in seconds (1: automatic). `token` names the secret with the API token (an SSM parameter on EC2, a metadata key on Joyent).
    `origin` names the secret with the private key and certificate (PEM) for TLS to Cloudflare's edge. `apex`: visitors of
    the zone's apex come there, too. `sites` is how many sites of the stack share the limits of the API. `check` is `http:PORT:PATH`,
    `tcp:PORT` or `command:PATH`. The machine is healthy after `rise` good checks in a row, and unhealthy after `fall` bad ones.
    """

    KIND: ClassVar[str] = "cloudflare"
    # A record's ownership mark is its comment, which name servers do not show.
    CONFIRMED_BY_DNS: ClassVar[bool] = False
    zone: str
    host: str
    token: str
    ttl: int = 120
    proxied: bool = False
    check: str = "http:80:/"
    rise: int = 1
    fall: int = FALL
    origin: str = ""
    apex: bool = False
    sites: int = 1
    ipv6: bool = False
    labels: int = 1
    floor: int = 1
    floor6: int = 1
    tls: str = ""
    certificate: str = ""
    address: str = PUBLIC

    @property
    def cached_s(self) -> float:
        """Seconds for which a resolver may still answer with a removed record.

        An automatic TTL is 300 s at Cloudflare. The addresses of a proxied name do not change when a machine leaves.
        """
        return 0.0 if self.proxied else 300.0 if self.ttl == 1 else float(self.ttl)

    @property
    def hides_members(self) -> bool:
        return self.proxied

    @property
    def origin_secret(self) -> str:
        return self.origin

    @property
    def api_shares(self) -> int:
        return self.sites

    def without_floors(self) -> CloudflareJoin:
        return replace(self, floor=1, floor6=1, sites=1, certificate="")

    @property
    def visited_as(self) -> tuple[str, ...]:
        return (self.host, self.domain) if self.apex else (self.host,)


@dataclass(frozen=True, kw_only=True)
class Route53Join(ServiceJoin):
    """A service in the Route53 hosted zone with the id `zone` (`Z…`).

    `key` names the secret with an IAM user's key (`ACCESS_KEY_ID SECRET`), if the machine has no instance role. Empty: the role is used.
    `view` is VPC for a private zone.
    """

    KIND: ClassVar[str] = "route53"
    PROPAGATION_S: ClassVar[float] = 15.0
    view: str = ""

    @property
    def own_resolvers(self) -> bool:
        return self.view == VPC


@dataclass(frozen=True, kw_only=True)
class Rfc2136SiteJoin(SiteJoin):
    """A site in a zone that this machine may update at the name server `server` (`ADDRESS@PORT`).

    `key` names the secret with the TSIG key. `check`, `rise` and `fall` are as in CloudflareJoin.
    """

    KIND: ClassVar[str] = "rfc2136-site"
    # Only this server confirms a record: other name servers of the zone may be late, and may not have the marks.
    CONFIRMED_BY_DNS: ClassVar[bool] = False
    server: str
    host: str
    key: str
    ttl: int = 120
    check: str = "http:80:/"
    rise: int = 1
    fall: int = FALL
    ipv6: bool = False
    labels: int = 1
    floor: int = 1
    floor6: int = 1
    tls: str = ""
    certificate: str = ""
    address: str = PUBLIC

    @property
    def zone(self) -> str:
        return self.domain


@dataclass(frozen=True, kw_only=True)
class Rfc2136Join(ServiceJoin):
    """A service in a zone that this machine may update at the name server `server` (`ADDRESS@PORT`).

    `key` names the secret with the TSIG key.
    """

    KIND: ClassVar[str] = "rfc2136"
    # Secondaries follow their primary by NOTIFY (RFC 1996).
    PROPAGATION_S: ClassVar[float] = 15.0
    zone: str = ""
    server: str


# The classes by the first word of a membership. rollcall.providers has what each does in DNS.
KINDS: dict[str, type[Join]] = {each.KIND: each for each in (CloudflareJoin, Route53Join, Rfc2136SiteJoin, Rfc2136Join)}


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """The secrets of a workload.

    The `revision` changes with a value of a secret, or with a rotation. The machine then fetches the secrets and restarts the workload,
    after the machines of its fleet with a lower `turn`. `prefix` comes before each secret's name in the machine's cloud.
    """

    workload: str
    revision: str
    turn: int
    prefix: str

    @property
    def words(self) -> str:
        return f"revision={self.revision} turn={self.turn} prefix={self.prefix}"


@dataclass(frozen=True, kw_only=True)
class MachineSettings:
    """All settings of a machine.

    `drain` asks it to leave DNS and stay out while it continues to serve. `probe` names the secret with the key of probes, by which
    machines of the stack ask each other whether they run. Without it this machine watches no other. `secrets` are those of its workloads.
    `wanted` are the releases that it should run, in a fleet with `release: in-place`, and `hold` is the reason to stay out of DNS.
    `credentials` is the ARN of the role for workloads. `system` are settings of the system by their keys.
    """

    stack: str
    fleet: str
    machine: str
    generation: str
    workloads: tuple[str, ...] = ()
    joins: tuple[Join, ...] = field(default=())
    drain: bool = False
    probe: str = ""
    secrets: tuple[Secrets, ...] = ()
    wanted: tuple[WantedRelease, ...] = ()
    hold: str = ""
    credentials: str = ""
    system: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_keys(cls, keys: Mapping[str, str], instance: str = "") -> MachineSettings:
        """Read the table. Ignore keys that this agent does not know. Raises SettingsError, which names the wrong key.

        All machines of an Auto Scaling group, which Rollcall did not make, have the same settings. So such a machine gets its generation
        and its name from its `instance` id.
        """
        check_format(keys.get(FORMAT, "1"), SETTINGS_FORMAT, FORMAT)
        if instance:
            own = hashlib.sha256(instance.encode()).hexdigest()[:6]
            keys = {GENERATION: own, MACHINE: own, **keys}
        missing = [key for key in (STACK, FLEET, MACHINE, GENERATION) if not keys.get(key)]
        if missing:
            raise SettingsError(f"the machine's tags or metadata lack {', '.join(missing)}")
        joins = [(int(key[len(JOIN) :]), key) for key in keys if key.startswith(JOIN) and key[len(JOIN) :].isdecimal()]
        return cls(
            stack=keys[STACK],
            fleet=keys[FLEET],
            machine=keys[MACHINE],
            generation=keys[GENERATION],
            workloads=tuple(keys.get(WORKLOADS, "").split()),
            joins=tuple(parse_join(keys[key], key) for _, key in sorted(joins)),
            drain=keys.get(DRAIN, "").lower() == "true",
            probe=keys.get(PROBE, ""),
            secrets=tuple(parse_secrets(key, keys[key]) for key in sorted(keys) if key.startswith(SECRETS)),
            wanted=tuple(parse_wanted(key, keys[key]) for key in sorted(keys) if key.startswith(WANTED)),
            hold=keys[HOLD] or "no reason given" if HOLD in keys else "",
            credentials=keys.get(CREDENTIALS, ""),
            system={key: keys[key] for key in IN_PLACE if key in keys},
        )


def workloads_in_place(keys: Mapping[str, str]) -> tuple[str, ...]:
    """Return the workloads with releases in place: the settings of the machine name them, and say no release of theirs."""
    names = keys.get(WORKLOADS, "").split()
    return tuple(each for each in names if each not in SAMPLES and WORKLOAD + each not in keys)


def check_format(found: str, known: int, where: str) -> None:
    """Raise SettingsError if a format is newer than the `known` one."""
    if not found.isdecimal() or int(found) > known:
        raise SettingsError(
            f"{where}: has format {found!r}, and this agent reads {known}. Replace the machine by `pulumi up`"
        )


def record_type(address: str) -> str:
    """Return the type of record for an address."""
    return "AAAA" if ":" in address else "A"


def challenge_name(owner: Owner, join: Join) -> str:
    """Return the name of the TXT that asks a machine whether it runs: a name below Rollcall's label, below the name that it joins."""
    return f"{owner.generation}.c.rc.{join.challenges}"


def format_join(join: Join) -> str:
    """Return one membership as words: `cloudflare zone=… host=… token=… ttl=60`. Defaults are left out.

    Raises SettingsError if EC2 would not accept it.
    """
    words = [join.KIND]
    for item in fields(join):  # type: ignore[arg-type]
        value = getattr(join, item.name)
        if value != item.default:
            words.append(f"{item.name}={str(value).lower() if isinstance(value, bool) else value}")
    text = " ".join(words)
    if len(text) > LONGEST_VALUE:
        raise SettingsError(f"a membership is {len(text)} characters long, EC2 takes {LONGEST_VALUE}: {text}")
    return text


def parse_join(text: str, key: str = "join") -> Join:
    """Return the membership that `format_join` wrote, without words that this agent does not know.

    Raises SettingsError, which names `key` and the wrong word.
    """
    kind, *words = text.split() or [""]
    if kind not in KINDS:
        raise SettingsError(f"{key}: {kind!r} is none of {', '.join(KINDS)}")
    known = _types_of(kind)
    values: dict[str, str | int | bool] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise SettingsError(f"{key}: {word!r} is not NAME=VALUE")
        if name in known:
            values[name] = _typed(value, known[name], f"{key}: {name}")
    try:
        return KINDS[kind](**values)  # type: ignore[arg-type]
    except TypeError as lacking:
        raise SettingsError(f"{key}: {lacking}") from lacking


@cache
def _types_of(kind: str) -> Mapping[str, type]:
    """Return the words of a membership of this kind, with their types. An agent asks every ten seconds."""
    hints = get_type_hints(KINDS[kind])
    return {each.name: hints[each.name] for each in fields(KINDS[kind])}  # type: ignore[arg-type]


def parse_secrets(key: str, text: str) -> Secrets:
    """Return the secrets of a workload from the text of `Secrets.words`. Raises SettingsError, which names `key`."""
    words = dict(word.split("=", 1) for word in text.split() if "=" in word)
    try:
        return Secrets(
            workload=key[len(SECRETS) :], revision=words["revision"], turn=int(words["turn"]), prefix=words["prefix"]
        )
    except (KeyError, ValueError) as wrong:
        raise SettingsError(f"{key}: {text!r} is not revision=… turn=… prefix=…") from wrong


def _typed(value: str, kind: type, where: str) -> str | int | bool:
    if kind is int:
        if not value.isdecimal():
            raise SettingsError(f"{where} must be a whole number, not {value!r}")
        return int(value)
    if kind is bool:
        if value not in ("true", "false"):
            raise SettingsError(f"{where} must be true or false, not {value!r}")
        return value == "true"
    return value
