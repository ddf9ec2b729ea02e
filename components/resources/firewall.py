"""Open a fleet's machines on both clouds: what they serve to all addresses, but a proxied site to the edge only.

EC2 has these rules in a security group. Triton has them in firewall rules for the machines with the fleet's tag.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from components.joyent import FirewallRule, FirewallRuleArgs
from components.resources import cloudflare_sdk
from components.resources.tags import deployment
from rollcall import probe

FIREWALL_TAG = "rollcall-firewall"
# Agents ask each other here whether they run. The port is open to all addresses, because members' addresses are not
# known before they boot. A request that is not signed (`rollcall.probe`) gets no reply.
AGENT_PROBES = (probe.PORT, "udp")
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
class IngressRule:
    """A port that machines serve, and the networks that may reach it. None: all networks."""

    port: int
    protocol: str
    only_from: Ranges | None = None


def published(parent: pulumi.Resource) -> Ranges:
    """Return Cloudflare's current ranges (https://www.cloudflare.com/ips/). Raises ValueError if there are none.

    Without a range, the firewall would close the site to all addresses. The ranges must be known at once, since the
    number of Triton's rules depends on them.
    """
    found = cloudflare_sdk.get_ip_ranges(opts=pulumi.InvokeOptions(parent=parent))
    ranges = _ranges((*(found.ipv4_cidrs or ()), *(found.ipv6_cidrs or ())))
    if not ranges.v4:
        raise ValueError("Cloudflare published no addresses of its edge")
    return ranges


def ingress_rules(served: Iterable[IngressRule], operators: Sequence[str] = ()) -> list[IngressRule]:
    """Return one rule for each port that is `served`, sorted by port, and the rules that every machine that serves needs.

    A port that one rule opens to all networks is open to all networks. `operators` are the networks that may use SSH.
    """
    found: dict[tuple[int, str], IngressRule] = {}
    for each in served:
        known = found.get((each.port, each.protocol))
        found[each.port, each.protocol] = known if known is not None and known.only_from is None else each
    if found:
        found.setdefault(AGENT_PROBES, IngressRule(port=AGENT_PROBES[0], protocol=AGENT_PROBES[1]))
    if operators:
        found[SSH] = IngressRule(port=SSH[0], protocol=SSH[1], only_from=_ranges(operators))
    return [found[key] for key in sorted(found)]


def is_closed(served: Iterable[IngressRule]) -> bool:
    """Return whether any of these ports is open to some networks only."""
    return any(each.only_from is not None for each in served)


def _ranges(networks: Iterable[str]) -> Ranges:
    known = sorted(set(networks))
    return Ranges(v4=tuple(each for each in known if ":" not in each), v6=tuple(each for each in known if ":" in each))


def security_group_rules(found: Sequence[IngressRule], *, ipv6: bool = False) -> list[dict[str, Any]]:
    """Return the rules of a security group. With `ipv6`, "all networks" includes all IPv6 networks.

    An EC2 group can have 60 networks; Cloudflare has published 22 for years.
    """
    return [
        {
            "protocol": rule.protocol,
            "from_port": rule.port,
            "to_port": rule.port,
            "description": _described(rule),
            **{key: [*networks] for key, networks in _by_family(rule, ipv6).items() if networks},
        }
        for rule in found
    ]


def _by_family(rule: IngressRule, ipv6: bool) -> dict[str, tuple[str, ...]]:
    ranges = rule.only_from or Ranges(v4=(ANYONE,), v6=(ANYONE_V6,) if ipv6 else ())
    return {"cidr_blocks": ranges.v4, "ipv6_cidr_blocks": ranges.v6}


def _described(rule: IngressRule) -> str:
    known = {AGENT_PROBES: "agents asking agents", SSH: "operators"}
    return known.get((rule.port, rule.protocol)) or ("visitors" if rule.only_from is None else "the edge of Cloudflare")


def tags(fleet: str) -> dict[str, str]:
    """Return the tags by which Triton's rules find the machines of a closed fleet.

    Another stack may use the same fleet name.
    """
    return {FIREWALL_TAG: f"{deployment()}/{fleet}"}


def firewall_rules(
    fleet: str, found: Sequence[IngressRule], parent: pulumi.Resource, datacenter: str | None = None
) -> list[FirewallRule]:
    """Create Triton's rules for the machines with the fleet's tag.

    They take effect where a machine's firewall is on.
    """
    ((key, value),) = tags(fleet).items()
    machines = f'tag "{key}" = "{value}"'
    return [
        FirewallRule(
            f"{fleet}-firewall-{rule.port}" + (f"-{number}" if number else ""),
            FirewallRuleArgs(
                rule=f"FROM {source} TO {machines} ALLOW {rule.protocol} PORT {rule.port}",
                description=_described(rule),
                datacenter=datacenter,
            ),
            opts=pulumi.ResourceOptions(parent=parent),
        )
        for rule in found
        for number, source in enumerate(_sources(rule))
    ]


def _sources(rule: IngressRule) -> Iterator[str]:
    """Yield the text that follows FROM in a rule, for as many rules as are needed."""
    if rule.only_from is None:
        yield "any"
        return
    networks = [f"subnet {each}" for each in (*rule.only_from.v4, *rule.only_from.v6)]
    for start in range(0, len(networks), _MOST_TARGETS):
        some = list(itertools.islice(networks, start, start + _MOST_TARGETS))
        yield f"({' OR '.join(some)})" if len(some) > 1 else some[0]
