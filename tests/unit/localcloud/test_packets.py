"""What gates say, as rules of nftables."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from localcloud.network import packets
from localcloud.network.namespace import Namespace, NamespaceError, name_for
from localcloud.network.packets import Gate, Line, ruleset

WEB = Line(allow=True, protocol="tcp", numbers=((80, 80), (8000, 8010)))
EDGE = ("198.51.100.2/32", "2400:cb00::/32")
GATE = Gate(machine="i-1", addresses=("198.51.100.10",))
ROWS: list[tuple[str, Line, list[str]]] = [
    ("ports of anyone", WEB, ["tcp dport 80-80 accept", "tcp dport 8000-8010 accept"]),
    ("a block", replace(WEB, allow=False, numbers=((80, 80),)), ["tcp dport 80-80 drop"]),
    (
        "networks of both families, one within another",
        Line(allow=True, protocol="udp", numbers=((4217, 4217),), peers=(*EDGE, "198.51.100.0/24")),
        [
            "ip saddr { 198.51.100.0/24 } udp dport 4217-4217 accept",
            "ip6 saddr { 2400:cb00::/32 } udp dport 4217-4217 accept",
        ],
    ),
    ("no peer", replace(WEB, peers=()), []),
    (
        "everybody of one family",
        replace(WEB, peers=("0.0.0.0/0",), numbers=()),
        ["meta nfproto ipv4 meta l4proto tcp accept"],
    ),
    ("everything", Line(allow=True, protocol="any", peers=("::/0",)), ["meta nfproto ipv6 accept"]),
    ("pings", Line(allow=True, protocol="icmp", kinds=((8, None),)), ["icmp type 8 accept"]),
    ("a code", Line(allow=False, protocol="icmp6", kinds=((1, 4),)), ["icmpv6 type 1 icmpv6 code 4 drop"]),
    ("all ICMP", Line(allow=True, protocol="icmp6"), ["meta l4proto ipv6-icmp accept"]),
    ("esp", Line(allow=True, protocol="esp"), ["meta l4proto esp accept"]),
]


def chain(text: str, name: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    start = next(at for at, line in enumerate(lines) if line.startswith(f"chain {name} {{"))
    return lines[start + 1 : lines.index("}", start)]


@pytest.mark.parametrize(("line", "rules"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_line_that_lets_in(line: Line, rules: list[str]) -> None:
    assert chain(ruleset([replace(GATE, inbound=(line,))]), "to_0") == [*rules, "drop"]


def test_the_order_of_lines_is_kept_and_the_rest_is_dropped() -> None:
    block = Line(allow=False, protocol="tcp", peers=("192.0.2.1/32",))
    found = chain(ruleset([replace(GATE, inbound=(block, WEB))]), "to_0")
    assert found[0] == "ip saddr { 192.0.2.1/32 } meta l4proto tcp drop" and found[-1] == "drop"


def test_what_may_go_out_goes_on_to_the_receivers_own_gate() -> None:
    mail = Line(allow=False, protocol="tcp", numbers=((25, 25),))
    out = Gate(machine="a", addresses=("203.0.113.10",), outbound=(mail,))
    text = ruleset([out, GATE])
    assert chain(text, "from_0") == ["tcp dport 25-25 drop", "return"]
    passing = chain(text, "passing")
    assert passing.index("ip saddr vmap { 203.0.113.10 : jump from_0 }") < next(
        at for at, rule in enumerate(passing) if rule.startswith("ip daddr vmap")
    )
    allowed = ruleset([replace(out, lets_out=False, outbound=(replace(mail, allow=True),))])
    assert chain(allowed, "from_0") == ["tcp dport 25-25 return", "drop"]


def test_a_gate_without_rules_for_what_goes_out_is_not_asked() -> None:
    assert "from_" not in ruleset([GATE])
    assert chain(ruleset([replace(GATE, lets_out=False)]), "from_0") == ["drop"]


def test_machines_without_a_gate_are_open_but_in_a_closed_network() -> None:
    assert [rule for rule in chain(ruleset([]), "passing") if "drop" in rule] == []
    assert chain(ruleset([], ["198.51.100.0/24"]), "passing")[-1] == "ip daddr 198.51.100.0/24 drop"


def test_the_same_gates_in_another_order_are_the_same_rules() -> None:
    other = Gate(machine="i-0", addresses=("198.51.100.11",))
    assert ruleset([GATE, other]) == ruleset([other, GATE])


@pytest.mark.machines
@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace takes root")
def test_the_kernel_takes_every_row(tmp_path: Path) -> None:
    gates = [
        Gate(machine=name, addresses=(f"198.51.100.{10 + at}", f"2001:db8::{at}"), inbound=(line,), outbound=(line,))
        for at, (name, line, _) in enumerate(ROWS)
    ]
    namespace = Namespace(name_for(tmp_path, f"packets-{os.getpid()}"))
    namespace.create()
    try:
        namespace.see_bridged_packets()
        for text in (ruleset(gates, ["198.51.100.0/24", "2001:db8::/64"]), ruleset([])):
            namespace.filter("rollcall_gates", text)
            shown = subprocess.run(
                ["nsenter", f"--net={namespace.path}", "nft", "list", "table", "inet", "rollcall_gates"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert shown.count("chain to_") == text.count("chain to_")
    finally:
        namespace.destroy()


class Recorded:
    """A namespace that notes which rules it was given."""

    def __init__(self) -> None:
        self.filters: list[str] = []
        self.refuses = False

    def filter(self, table: str, text: str) -> None:
        if self.refuses:
            raise NamespaceError("refused")
        self.filters.append(text)


def test_rules_are_made_again_only_after_a_gate_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[Gate]] = []

    def counted(gates: Iterable[Gate], closed: Sequence[str] = ()) -> str:
        made.append([*gates])
        return ruleset(made[-1], closed)

    monkeypatch.setattr(packets, "ruleset", counted)
    gates, namespace = [GATE], Recorded()
    keeper = packets.Gatekeeper(namespace, lambda: iter(gates))  # type: ignore[arg-type]
    keeper.update()
    keeper.update()
    assert len(made) == len(namespace.filters) == 1
    gates.append(replace(GATE, machine="i-2", addresses=("198.51.100.11",)))
    namespace.refuses = True
    with pytest.raises(NamespaceError):
        keeper.update()
    namespace.refuses = False
    keeper.update()
    assert len(made) == 3 and "198.51.100.11" in namespace.filters[1], "rules that were refused are tried again"
