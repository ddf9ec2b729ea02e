"""Apply a cloud's firewall to machines' packets, by rules of nftables in the clouds' namespace.

Each cloud returns its firewall rules as `Gate`s. `ruleset` writes them as one table. `Gatekeeper` updates the namespace. Both clouds'
firewalls are stateful: packets of an accepted connection pass, also after its rule is removed.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from localcloud.network.namespace import IMDS, Namespace, NamespaceError

_log = logging.getLogger("localcloud")
_TABLE = "rollcall_gates"
EVERY = 0.5
Protocol = Literal["any", "tcp", "udp", "icmp", "icmp6", "ah", "esp"]
_FAMILIES = {4: "ip", 6: "ip6"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One rule.

    `peers` are networks; None means all, and an empty tuple means none. `numbers` are ranges of ports. `kinds` are ICMP types with their
    code (None: any). If both are empty, the rule is for all of the protocol.
    """

    allow: bool
    protocol: Protocol
    peers: tuple[str, ...] | None = None
    numbers: tuple[tuple[int, int], ...] = ()
    kinds: tuple[tuple[int, int | None], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A machine's firewall. The first line that matches a packet decides.

    If no line matches, an incoming packet is dropped, and an outgoing packet passes if `lets_out`.
    """

    machine: str
    addresses: tuple[str, ...]
    inbound: tuple[Line, ...] = ()
    outbound: tuple[Line, ...] = ()
    lets_out: bool = True


def ruleset(gates: Iterable[Gate], closed: Sequence[str] = ()) -> str:
    """Return the table for `gates`. A machine in the networks `closed` is reached only if it has a gate."""
    chains, to, out = [], [], []
    for number, gate in enumerate(sorted(gates, key=lambda each: each.machine)):
        rules = [rule for line in gate.inbound for rule in _rules(line, "saddr")]
        chains.append(_chain(f"to_{number}", gate.machine, [*rules, "drop"]))
        to += [(address, f"goto to_{number}") for address in gate.addresses]
        if gate.outbound or not gate.lets_out:
            rules = [rule for line in gate.outbound for rule in _rules(line, "daddr", passed="return")]
            chains.append(_chain(f"from_{number}", gate.machine, [*rules, "return" if gate.lets_out else "drop"]))
            out += [(address, f"jump from_{number}") for address in gate.addresses]
    shut = [f"{_family(each)} daddr {each} drop" for each in closed]
    # RFC 4890: without neighbours' solicitations and advertisements there is no IPv6 at all.
    always = [
        'oifname "lo" accept',
        "ct state established,related accept",
        "icmpv6 type { 133, 134, 135, 136 } accept",
    ]
    # The firewalls of both clouds always allow a machine's metadata and resolver.
    own = [f"ip daddr {IMDS} accept", "meta l4proto { tcp, udp } th dport 53 accept"]
    chains += [
        _chain("passing", "", [*always, *_map("saddr", out), *_map("daddr", to), *shut]),
        "  chain forward { type filter hook forward priority 10; jump passing; }",
        "  chain output { type filter hook output priority 10; jump passing; }",
        _chain("input", "", ["type filter hook input priority 10;", *always[1:], *own, *_map("saddr", out)]),
    ]
    return f"table inet {_TABLE} {{\n" + "\n".join(chains) + "\n}\n"


def _chain(name: str, comment: str, rules: Sequence[str]) -> str:
    head = f"  chain {name} {{" + (f" # {comment}" if comment else "")
    return "\n".join([head, *(f"    {rule}" for rule in rules), "  }"])


def _map(side: str, found: Sequence[tuple[str, str]]) -> list[str]:
    """A lookup by address for each family that occurs: as quick for hundreds of machines as for one."""
    lines = []
    for version, family in _FAMILIES.items():
        chosen = [f"{address} : {verdict}" for address, verdict in found if _version(address) == version]
        if chosen:
            lines.append(f"{family} {side} vmap {{ {', '.join(chosen)} }}")
    return lines


def _rules(line: Line, side: str, *, passed: str = "accept") -> list[str]:
    verdict = passed if line.allow else "drop"
    return [
        " ".join(word for word in (peers, protocol, verdict) if word)
        for peers in _peers(line.peers, side)
        for protocol in _protocol(line)
    ]


def _peers(peers: tuple[str, ...] | None, side: str) -> list[str]:
    if peers is None:
        return [""]
    found = []
    for version, family in _FAMILIES.items():
        # Networks within others would be refused as overlapping.
        chosen = ipaddress.collapse_addresses(
            ipaddress.ip_network(each)
            for each in peers
            if _version(each) == version  # type: ignore[type-var]
        )
        words = [str(each) for each in chosen]
        if words in (["0.0.0.0/0"], ["::/0"]):
            found.append(f"meta nfproto ipv{version}")
        elif words:
            found.append(f"{family} {side} {{ {', '.join(words)} }}")
    return found


def _protocol(line: Line) -> list[str]:
    if line.protocol == "any":
        return [""]
    if line.protocol in ("tcp", "udp"):
        if not line.numbers:
            return [f"meta l4proto {line.protocol}"]
        return [f"{line.protocol} dport {low}-{high}" for low, high in line.numbers]
    if line.protocol in ("icmp", "icmp6"):
        word = "icmp" if line.protocol == "icmp" else "icmpv6"
        if not line.kinds:
            return [f"meta l4proto {'icmp' if word == 'icmp' else 'ipv6-icmp'}"]
        return [
            f"{word} type {kind}" + (f" {word} code {code}" if code is not None else "") for kind, code in line.kinds
        ]
    return [f"meta l4proto {line.protocol}"]


def _family(network: str) -> str:
    return _FAMILIES[_version(network)]


def _version(network: str) -> int:
    return 6 if ":" in network else 4


class Updater:
    """A thread that calls `update` twice a second."""

    name = "updater"

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Returns when the rules of this moment are in force. Raises NamespaceError where the kernel refuses them."""
        self.update()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def update(self) -> None:
        raise NotImplementedError

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            try:
                self.update()
            except NamespaceError:
                # The old rules stay in force. A namespace that is being removed refuses new ones too.
                if not self._stop.is_set():
                    _log.exception("the clouds' rules of the %s could not be written", self.name)


class Gatekeeper(Updater):
    """A thread that reads the clouds' rules, and writes them into the namespace when they have changed."""

    name = "gatekeeper"

    def __init__(self, namespace: Namespace, gates: Callable[[], Iterable[Gate]], closed: Sequence[str] = ()) -> None:
        super().__init__()
        self._namespace, self._gates, self._closed = namespace, gates, closed
        self._known: tuple[Gate, ...] | None = None
        self._written = ""

    def start(self) -> None:
        self._namespace.see_bridged_packets()
        super().start()

    def update(self) -> None:
        gates = tuple(self._gates())
        if gates == self._known:
            return
        wanted = ruleset(gates, self._closed)
        if wanted != self._written:
            self._namespace.filter(_TABLE, wanted)
        self._known, self._written = gates, wanted
