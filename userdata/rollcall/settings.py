"""What a machine is told, as data: one table of keys, EC2 tags and Joyent metadata alike.

The values use only the characters that EC2 allows in tags, and a value fits EC2's 256 characters. Each membership
(a site or an incarnation of a service that the machine joins) is one value of `key=value` words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import get_type_hints

from rollcall.ownership import Owner

STACK = "rollcall-stack"
FLEET = "rollcall-fleet"
MACHINE = "rollcall-machine"
GENERATION = "rollcall-generation"
WORKLOADS = "rollcall-workloads"
# Before the name of a workload of the operator's: the digest of its release.
WORKLOAD = "rollcall-workload-"
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


@dataclass(frozen=True, kw_only=True)
class CloudflareJoin:
    """Register the machine's public address under `host` in the Cloudflare zone with id `zone`; with `ipv6` one of each family.
    `labels`: so many of `host` stand before the zone's name.

    `ttl` in seconds (1: automatic); `token` names the secret that holds the API token (an SSM parameter on EC2, a
    metadata key on Joyent); `origin` the one with the private key and certificate (PEM) for TLS to Cloudflare's edge; `check`
    is `http:PORT:PATH`, `tcp:PORT` or `command:PATH`; healthy after `rise` good ones in a row, unhealthy after `fall` bad ones. So many
    machines stay in the A records whatever their health: `floor`; in the AAAA: `floor6`.
    """

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
    def domain(self) -> str:
        """The zone's name."""
        return self.host.split(".", self.labels)[-1]

    @property
    def floors(self) -> dict[str, int]:
        """How many machines stay whatever their health, by the type of the record set."""
        return {"A": self.floor, "AAAA": self.floor6}

    @property
    def cached_s(self) -> float:
        """Seconds for which a resolver may still answer with an entry that is gone. Cloudflare answers names with an automatic TTL
        for 300 s; a proxied name's addresses do not change when a machine leaves."""
        return 0.0 if self.proxied else 300.0 if self.ttl == 1 else float(self.ttl)


@dataclass(frozen=True, kw_only=True)
class Route53Join:
    """Register the machine in the SRV record set of one incarnation of a service (RFC 2782, RFC 6763).

    `zone` is the hosted zone's id (`Z…`), `domain` its name; the set is at `incarnation.service.domain`, as
    `v1._theService._tcp.unilans.net`. `key` names the secret with an IAM user's key (`ACCESS_KEY_ID SECRET`) where the
    machine has no instance role; empty: the role is used. `check` is that the port accepts, unless told. `ipv6`: the machine's
    host has an address of each family. So many machines stay in the set whatever their health: `floor`. `srv`: which names of
    RFC 2782 have the same members: `incarnation` is `_theService._tcp.v1.unilans.net`, `service` is that one and
    `_theService._tcp.unilans.net`.
    """

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
    def floors(self) -> dict[str, int]:
        return {"SRV": self.floor}

    @property
    def cached_s(self) -> float:
        """Seconds for which a resolver may still answer with a value that is gone."""
        return float(self.ttl)


Join = CloudflareJoin | Route53Join
_KINDS: dict[str, type[CloudflareJoin] | type[Route53Join]] = {"cloudflare": CloudflareJoin, "route53": Route53Join}


@dataclass(frozen=True, kw_only=True)
class MachineSettings:
    """All that a machine is told. `drain` asks it to leave and stay away while it goes on serving; `probe` names the secret with the
    key by which machines of the stack ask each other whether they live; without it this machine watches no other."""

    stack: str
    fleet: str
    machine: str
    generation: str
    workloads: tuple[str, ...] = ()
    joins: tuple[Join, ...] = field(default=())
    drain: bool = False
    probe: str = ""

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
        )


def without_floors(join: Join) -> Join:
    """The same membership with no say about the other machines of its record set."""
    return replace(join, floor=1, floor6=1) if isinstance(join, CloudflareJoin) else replace(join, floor=1)


def record_type(address: str) -> str:
    """In which type of record an address stands."""
    return "AAAA" if ":" in address else "A"


def challenge_name(owner: Owner, told: Join) -> str:
    """Where a machine is asked whether it lives: a TXT below the label of Rollcall, under what it joins."""
    return f"{owner.generation}.c.rc.{told.host if isinstance(told, CloudflareJoin) else told.domain}"


def format_join(join: Join) -> str:
    """One membership as words: `cloudflare zone=… host=… token=… ttl=60`; what is as by default goes without saying.

    Raises SettingsError where EC2 would not take it.
    """
    kind = next(word for word, of in _KINDS.items() if isinstance(join, of))
    words = [kind]
    for item in fields(join):
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
    if kind not in _KINDS:
        raise SettingsError(f"{key}: {kind!r} is none of {', '.join(_KINDS)}")
    known = get_type_hints(_KINDS[kind])
    values: dict[str, str | int | bool] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in known:
            raise SettingsError(f"{key}: {word!r} is none of {', '.join(known)} with =VALUE")
        values[name] = _typed(value, known[name], f"{key}: {name}")
    try:
        return _KINDS[kind](**values)  # type: ignore[arg-type]
    except TypeError as lacking:
        raise SettingsError(f"{key}: {lacking}") from lacking


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
