"""Cloud firewall rules as packet filters.

If a machine's firewall is on and no rule matches, incoming packets are dropped and outgoing ones pass. A higher priority comes first. Among
equals the rule against that default wins (README of sdc-fwrule, "Overview").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from localcloud.network.packets import Gate, Line, Protocol
from localcloud.triton.firewall import Parsed, Rule, Target
from localcloud.triton.model import Machine, Nic

_RANGE = re.compile(r"(\d+)(?: - (\d+))?")
_TYPE = re.compile(r"TYPE (\d+)(?: CODE (\d+))?")
_PROTOCOLS: dict[str, Protocol] = {
    "tcp": "tcp", "udp": "udp", "icmp": "icmp", "icmp6": "icmp6", "ah": "ah", "esp": "esp",
}  # fmt: skip


def gates(rules: Iterable[Rule], machines: Iterable[Machine]) -> list[Gate]:
    """Return the gate of each machine that has its firewall on. Disabled rules have no effect."""
    account = list(machines)
    live = [rule.parsed for rule in rules if rule.enabled]
    return [
        Gate(
            machine=machine.id,
            addresses=tuple(nic.ip for nic in _nics(machine)),
            inbound=_lines(live, machine, account, inbound=True),
            outbound=_lines(live, machine, account, inbound=False),
        )
        for machine in account
        if machine.firewall and _nics(machine)
    ]


def _lines(rules: Sequence[Parsed], machine: Machine, account: Sequence[Machine], *, inbound: bool) -> tuple[Line, ...]:
    found: list[tuple[int, bool, Line]] = []
    for rule in rules:
        here, there = (rule.destination, rule.source) if inbound else (rule.source, rule.destination)
        if not any(target.covers(machine) for target in here):
            continue
        allow = rule.action == "ALLOW"
        numbers, kinds = _numbers(rule)
        peers = _peers(there, account)
        line = Line(allow=allow, protocol=_PROTOCOLS[rule.protocol], peers=peers, numbers=numbers, kinds=kinds)
        found.append((-rule.priority, allow is not inbound, line))
    return tuple(line for _, _, line in sorted(found, key=lambda each: each[:2]))


def _peers(targets: Sequence[Target], account: Sequence[Machine]) -> tuple[str, ...] | None:
    if any(target.kind == "any" for target in targets):
        return None
    machines = {nic.ip for each in account if any(target.covers(each) for target in targets) for nic in _nics(each)}
    return tuple(sorted(machines | {target.key for target in targets if target.kind in ("ip", "subnet")}))


def _numbers(rule: Parsed) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int | None], ...]]:
    """The ports or ICMP types of a rule; none where it says `all`."""
    if "all" in rule.details:
        return (), ()
    if rule.protocol.startswith("icmp"):
        return (), tuple((int(kind), int(code) if code else None) for kind, code in _TYPE.findall(rule.details))
    return tuple((int(low), int(high or low)) for low, high in _RANGE.findall(rule.details)), ()


def _nics(machine: Machine) -> list[Nic]:
    """A machine that is being made boots with its NICs before they are shown."""
    return machine.nics or machine.wanted_nics
