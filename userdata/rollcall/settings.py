"""What a machine is told, as data: one table of keys, EC2 tags and Joyent metadata alike.

The values use only the characters that EC2 allows in tags, and a value fits EC2's 256 characters. Each membership
(a site or an incarnation of a service that the machine joins) is one value of `key=value` words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, ClassVar, TypeVar, get_type_hints

from rollcall.ownership import Owner

STACK = "rollcall-stack"
FLEET = "rollcall-fleet"
MACHINE = "rollcall-machine"
GENERATION = "rollcall-generation"
WORKLOADS = "rollcall-workloads"
# Before the name of a workload of the operator's: the digest of its release.
WORKLOAD = "rollcall-workload-"
# Before the name of a workload that has secrets: where they are, which they are, and when this machine takes them.
SECRETS = "rollcall-secrets-"
RELEASE = "rollcall-release"
STORE = "rollcall-store"
DRAIN = "rollcall-drain"
STATUS = "rollcall-status"
PROBE = "rollcall-probe"
JOIN = "rollcall-join-"
# Below it, in a directory's zone, are the hosts of its services' machines.
HOSTS_LABEL = "rc"
LONGEST_VALUE = 256
# A check every two seconds: what is over within 8 s takes no machine out of DNS (docs/agents.md).
FALL = 5


class SettingsError(ValueError):
    """A machine was told something that it cannot use; the message names the key and what it should be."""


class Join:
    """What a machine joins: the attributes and methods that the rest of the agent uses, whatever DNS provider has the zone.

    A provider's class is a frozen dataclass, below one of the two shapes: the addresses of a host (SiteJoin), or the SRV set of a
    service (ServiceJoin). Its fields are the words of `format_join`, whose first word is `KIND`.
    """

    KIND: ClassVar[str]
    # Whether DNS shows all that a member wrote. Where it does not, only the provider's API can confirm it.
    CONFIRMED_BY_DNS: ClassVar[bool] = True
    # Whether each member is there by the name of a host of its own, which has its generation, and not by its address.
    HAS_HOSTS: ClassVar[bool] = False
    # For so many seconds after a change the name servers may still answer as before it.
    PROPAGATION_S: ClassVar[float] = 0.0
    ttl: int
    rise: int
    fall: int
    ipv6: bool

    if TYPE_CHECKING:

        @property
        def zone(self) -> str:
            """The provider's id of the zone."""

        @property
        def domain(self) -> str:
            """The zone's name."""

    @property
    def label(self) -> str:
        """What it is, as a log line names it."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Where its members are in DNS."""
        raise NotImplementedError

    @property
    def challenges(self) -> str:
        """The name below which members are challenged."""
        raise NotImplementedError

    @property
    def challenger_suffix(self) -> str:
        """What a challenge names besides the challenger, where several record sets share a member's challenges."""
        return ""

    @property
    def checks(self) -> tuple[str, ...]:
        """The health checks that must all be good."""
        raise NotImplementedError

    @property
    def floors(self) -> dict[str, int]:
        """How many machines stay whatever their health, by the type of the record set."""
        raise NotImplementedError

    @property
    def cached_s(self) -> float:
        """Seconds for which a resolver may still answer with a record that is gone."""
        return float(self.ttl)

    @property
    def hides_members(self) -> bool:
        """Whether DNS answers with other addresses than the members'."""
        return False

    @property
    def origin_secret(self) -> str:
        """The name of the secret with the key and certificate for TLS to an edge; empty where there is no edge."""
        return ""

    def without_floors(self: _J) -> _J:
        """The same membership with no say about the other machines of its record set."""
        raise NotImplementedError

    def is_member(self, answer: str) -> bool:
        """Whether an answer of DNS may be a member of Rollcall's: an address, or the target of an SRV."""
        return True

    def same_place(self, other: Join) -> bool:
        """Whether it is the same record set, perhaps with another TTL or weight: then it is changed, not left and joined again."""
        return type(self) is type(other) and self.label == other.label and self.zone == other.zone


class SiteJoin(Join):
    """The machine's public address in the A records of `host`; with `ipv6` one of each family. `labels`: so many of `host` stand before
    the zone's name. So many machines stay in the A records whatever their health: `floor`; in the AAAA: `floor6`."""

    host: str
    check: str
    labels: int
    floor: int
    floor6: int

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
        return (self.check,)

    @property
    def floors(self) -> dict[str, int]:
        return {"A": self.floor, "AAAA": self.floor6}

    def without_floors(self: _S) -> _S:
        return replace(self, floor=1, floor6=1)  # type: ignore[type-var]


@dataclass(frozen=True, kw_only=True)
class ServiceJoin(Join):
    """The SRV record set of one incarnation of a service (RFC 2782, RFC 6763).

    `zone` is the provider's id of the zone, `domain` its name; the set is at `incarnation.service.domain`, as
    `v1._theService._tcp.unilans.net`. `key` names the secret with the provider's key. `check` is that the port accepts, unless told.
    `ipv6`: the machine's host has an address of each family. So many machines stay in the set whatever their health: `floor`. `srv`:
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

    `ttl` in seconds (1: automatic); `token` names the secret that holds the API token (an SSM parameter on EC2, a
    metadata key on Joyent); `origin` the one with the private key and certificate (PEM) for TLS to Cloudflare's edge; `check`
    is `http:PORT:PATH`, `tcp:PORT` or `command:PATH`; healthy after `rise` good ones in a row, unhealthy after `fall` bad ones.
    """

    KIND: ClassVar[str] = "cloudflare"
    # A record's mark is its comment, which no name server knows.
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
    ipv6: bool = False
    labels: int = 1
    floor: int = 1
    floor6: int = 1

    @property
    def checks(self) -> tuple[str, ...]:
        """With TLS to the edge, a machine is healthy only when it answers there too."""
        return (self.check, "tcp:443") if self.origin else (self.check,)

    @property
    def cached_s(self) -> float:
        """Cloudflare answers names with an automatic TTL for 300 s; a proxied name's addresses do not change when a machine leaves."""
        return 0.0 if self.proxied else 300.0 if self.ttl == 1 else float(self.ttl)

    @property
    def hides_members(self) -> bool:
        return self.proxied

    @property
    def origin_secret(self) -> str:
        return self.origin


@dataclass(frozen=True, kw_only=True)
class Route53Join(ServiceJoin):
    """A service in the Route53 hosted zone with the id `zone` (`Z…`). `key` names the secret with an IAM user's key (`ACCESS_KEY_ID
    SECRET`) where the machine has no instance role; empty: the role is used."""

    KIND: ClassVar[str] = "route53"
    PROPAGATION_S: ClassVar[float] = 15.0


@dataclass(frozen=True, kw_only=True)
class Rfc2136SiteJoin(SiteJoin):
    """A site in a zone that the name server at `server` (`ADDRESS@PORT`) lets this machine update; `key` names the secret with the TSIG
    key. `check`, `rise` and `fall` as in CloudflareJoin."""

    KIND: ClassVar[str] = "rfc2136-site"
    # The server is asked itself, since name servers beside it may be late, and which of them has a mark is not known.
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

    @property
    def zone(self) -> str:
        return self.domain


@dataclass(frozen=True, kw_only=True)
class Rfc2136Join(ServiceJoin):
    """A service in a zone that the name server at `server` (`ADDRESS@PORT`) lets this machine update; `key` names the secret with the
    TSIG key."""

    KIND: ClassVar[str] = "rfc2136"
    # Secondaries follow their primary by NOTIFY (RFC 1996).
    PROPAGATION_S: ClassVar[float] = 15.0
    zone: str = ""
    server: str


# By the first word of a membership. What each does in DNS: rollcall.providers.
KINDS: dict[str, type[Join]] = {each.KIND: each for each in (CloudflareJoin, Route53Join, Rfc2136SiteJoin, Rfc2136Join)}


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """The secrets of a workload. Another `revision` is another value of one of them, or a rotation: the machine fetches them and restarts
    the workload, after those of its fleet with a lower `turn`. `prefix` comes before each secret's name in the machine's cloud."""

    workload: str
    revision: str
    turn: int
    prefix: str

    @property
    def words(self) -> str:
        return f"revision={self.revision} turn={self.turn} prefix={self.prefix}"


@dataclass(frozen=True, kw_only=True)
class MachineSettings:
    """All that a machine is told. `drain` asks it to leave and stay away while it goes on serving; `probe` names the secret with the
    key by which machines of the stack ask each other whether they live; without it this machine watches no other; `secrets` are those
    of its workloads."""

    stack: str
    fleet: str
    machine: str
    generation: str
    workloads: tuple[str, ...] = ()
    joins: tuple[Join, ...] = field(default=())
    drain: bool = False
    probe: str = ""
    secrets: tuple[Secrets, ...] = ()

    @classmethod
    def from_keys(cls, keys: Mapping[str, str], instance: str = "") -> MachineSettings:
        """Read the table; keys that are not Rollcall's are ignored. Raises SettingsError naming the key at fault.

        A machine that Rollcall did not make (of an Auto Scaling group) is told the same as its brothers, so its generation
        and its name come from its `instance` id.
        """
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
        )


def record_type(address: str) -> str:
    """In which type of record an address stands."""
    return "AAAA" if ":" in address else "A"


def challenge_name(owner: Owner, told: Join) -> str:
    """Where a machine is asked whether it lives: a TXT below the label of Rollcall, under what it joins."""
    return f"{owner.generation}.c.rc.{told.challenges}"


def format_join(join: Join) -> str:
    """One membership as words: `cloudflare zone=… host=… token=… ttl=60`; what is as by default goes without saying.

    Raises SettingsError where EC2 would not take it.
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
    """The membership that `format_join` wrote. Raises SettingsError naming `key` and the word at fault."""
    kind, *words = text.split() or [""]
    if kind not in KINDS:
        raise SettingsError(f"{key}: {kind!r} is none of {', '.join(KINDS)}")
    hints = get_type_hints(KINDS[kind])
    known = {each.name: hints[each.name] for each in fields(KINDS[kind])}  # type: ignore[arg-type]
    values: dict[str, str | int | bool] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in known:
            raise SettingsError(f"{key}: {word!r} is none of {', '.join(known)} with =VALUE")
        values[name] = _typed(value, known[name], f"{key}: {name}")
    try:
        return KINDS[kind](**values)  # type: ignore[arg-type]
    except TypeError as lacking:
        raise SettingsError(f"{key}: {lacking}") from lacking


def parse_secrets(key: str, text: str) -> Secrets:
    """The secrets of a workload as `Secrets.words` has them. Raises SettingsError naming `key`."""
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
