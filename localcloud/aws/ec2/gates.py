"""Security groups as packet filters: a machine accepts what any of its groups allows, and sends what any of them allows.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-rules.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from localcloud.network.packets import Gate, Line, Protocol

# By name and by number, as the API takes both.
_PROTOCOLS: Mapping[str, Protocol] = {
    **{"-1": "any", "tcp": "tcp", "6": "tcp", "udp": "udp", "17": "udp"},
    **{"icmp": "icmp", "1": "icmp", "icmpv6": "icmp6", "58": "icmp6", "50": "esp", "51": "ah"},
}


def gates(machines: Iterable[tuple[Any, tuple[str, ...]]]) -> list[Gate]:
    """Return the gate of each of moto's instances, with the addresses that its machine has on the network."""
    found = [(instance, addresses, _groups(instance)) for instance, addresses in machines]
    members: dict[str, list[str]] = {}
    for _, addresses, groups in found:
        for group in groups:
            members.setdefault(group.id, []).extend(addresses)
    return [
        Gate(
            machine=instance.id,
            addresses=addresses,
            inbound=tuple(_lines((rule for group in groups for rule in group.ingress_rules), members)),
            outbound=tuple(_lines((rule for group in groups for rule in group.egress_rules), members)),
            lets_out=False,
        )
        for instance, addresses, groups in found
    ]


def _groups(instance: Any) -> list[Any]:
    return sorted(instance.nics[0].group_set, key=lambda each: str(each.id))


def _lines(rules: Iterable[Any], members: Mapping[str, list[str]]) -> Iterator[Line]:
    """moto has one rule for each network or group that a permission names."""
    for rule in rules:
        protocol = _PROTOCOLS.get(str(rule.ip_protocol).lower())
        if protocol is None:
            continue
        low, high = rule.from_port, rule.to_port
        given = low not in (None, -1)
        yield Line(
            allow=True,
            protocol=protocol,
            peers=_peers(rule, members),
            numbers=((low, high),) if given and protocol in ("tcp", "udp") else (),
            # For ICMP the first port is the type, and the last the code.
            kinds=((low, None if high == -1 else high),) if given and protocol in ("icmp", "icmp6") else (),
        )


def _peers(rule: Any, members: Mapping[str, list[str]]) -> tuple[str, ...]:
    if rule.source_group:
        return tuple(sorted(members.get(rule.source_group.get("GroupId", ""), ())))
    network = rule.ip_range.get("CidrIp") or rule.ip_range.get("CidrIpv6")
    return (network,) if network else ()
