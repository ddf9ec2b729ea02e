"""Who may come to a fleet's machines, on both clouds: everybody to what they serve, but to a proxied site its edge only.

EC2 has it in a security group, Triton in firewall rules for the machines that carry the fleet's own tag.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi

from components.joyent import FirewallRule, FirewallRuleArgs
from components.resources import cloudflare_sdk
from components.resources.tags import deployment
from rollcall import probe

if TYPE_CHECKING:
    from components.resources.fleets.base import Membership

DOORS_TAG = "rollcall-doors"
# Where agents ask each other whether they live. Open to everybody, because members' addresses are not known before they boot; what is not
# signed (`rollcall.probe`) gets no reply.
WATCH = (probe.PORT, "udp")
SSH = (22, "tcp")
ANYONE, ANYONE_V6 = "0.0.0.0/0", "::/0"
# sdc-fwrule, lib/rule.js: "maximum of 24 targets allowed per side".
_MOST_TARGETS = 24


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Networks in CIDR, sorted."""

    v4: tuple[str, ...]
    v6: tuple[str, ...] = ()


@dataclass(frozen=True, order=True, kw_only=True)
class Door:
    """A port that machines serve, and the networks that may come to it; None is everybody."""

    port: int
    protocol: str
    only_from: Ranges | None = None


def published(parent: pulumi.Resource) -> Ranges:
    """Cloudflare's ranges of this moment (https://www.cloudflare.com/ips/). Known at once, since Triton's rules are as many as
    it takes to name them all. Raises ValueError where there is none: it would close the site to everybody."""
    found = cloudflare_sdk.get_ip_ranges(opts=pulumi.InvokeOptions(parent=parent))
    ranges = _ranges((*(found.ipv4_cidrs or ()), *(found.ipv6_cidrs or ())))
    if not ranges.v4:
        raise ValueError("Cloudflare published no addresses of its edge")
    return ranges


def doors(memberships: Sequence[Membership], operators: Sequence[str] = ()) -> list[Door]:
    """One for each port, by port. Where one membership has a port for everybody, it is. `operators` are the networks that SSH is for."""
    found: dict[tuple[int, str], Door] = {}
    for each in memberships:
        port, _, protocol = each.port.partition("/")
        door = Door(port=int(port), protocol=protocol, only_from=each.only_from)
        known = found.get((door.port, protocol))
        found[door.port, protocol] = known if known is not None and known.only_from is None else door
    if memberships:
        found.setdefault(WATCH, Door(port=WATCH[0], protocol=WATCH[1]))
    if operators:
        found[SSH] = Door(port=SSH[0], protocol=SSH[1], only_from=_ranges(operators))
    return [found[key] for key in sorted(found)]


def is_closed(memberships: Sequence[Membership]) -> bool:
    """Whether any port of these is for somebody only."""
    return any(each.only_from is not None for each in memberships)


def _ranges(networks: Iterable[str]) -> Ranges:
    known = sorted(set(networks))
    return Ranges(v4=tuple(each for each in known if ":" not in each), v6=tuple(each for each in known if ":" in each))


def ingress(found: Sequence[Door], *, ipv6: bool = False) -> list[dict[str, Any]]:
    """The rules of a security group; with `ipv6` everybody is everybody by that too. An EC2 group holds 60 networks; Cloudflare
    has published 22 for years."""
    return [
        {
            "protocol": door.protocol,
            "from_port": door.port,
            "to_port": door.port,
            "description": _described(door),
            **{key: [*networks] for key, networks in _by_family(door, ipv6).items() if networks},
        }
        for door in found
    ]


def _by_family(door: Door, ipv6: bool) -> dict[str, tuple[str, ...]]:
    ranges = door.only_from or Ranges(v4=(ANYONE,), v6=(ANYONE_V6,) if ipv6 else ())
    return {"cidr_blocks": ranges.v4, "ipv6_cidr_blocks": ranges.v6}


def _described(door: Door) -> str:
    known = {WATCH: "agents asking agents", SSH: "operators"}
    return known.get((door.port, door.protocol)) or ("visitors" if door.only_from is None else "the edge of Cloudflare")


def tags(fleet: str) -> dict[str, str]:
    """By what Triton's rules find the machines of a closed fleet: the fleet's name alone may be another stack's too."""
    return {DOORS_TAG: f"{deployment()}/{fleet}"}


def firewall_rules(
    fleet: str, found: Sequence[Door], parent: pulumi.Resource, datacenter: str | None = None
) -> list[FirewallRule]:
    """Triton's rules for the machines with the fleet's tag; they count where a machine's firewall is on."""
    ((key, value),) = tags(fleet).items()
    machines = f'tag "{key}" = "{value}"'
    return [
        FirewallRule(
            f"{fleet}-door-{door.port}" + (f"-{number}" if number else ""),
            FirewallRuleArgs(
                rule=f"FROM {source} TO {machines} ALLOW {door.protocol} PORT {door.port}",
                description=_described(door),
                datacenter=datacenter,
            ),
            opts=pulumi.ResourceOptions(parent=parent),
        )
        for door in found
        for number, source in enumerate(_sources(door))
    ]


def _sources(door: Door) -> Iterator[str]:
    """What stands after FROM, in as many rules as it takes."""
    if door.only_from is None:
        yield "any"
        return
    networks = [f"subnet {each}" for each in (*door.only_from.v4, *door.only_from.v6)]
    for start in range(0, len(networks), _MOST_TARGETS):
        some = list(itertools.islice(networks, start, start + _MOST_TARGETS))
        yield f"({' OR '.join(some)})" if len(some) > 1 else some[0]
