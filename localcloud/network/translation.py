"""Public addresses of machines that have another address on their interface: translated one to one, as an internet gateway does.

In a VPC a machine only knows its private address. The internet gateway of the VPC translates it into the public one and back, so another
public address takes effect without a change of the machine: https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Internet_Gateway.html

The bridge has each translated address, so that machines on it find it, and nftables rewrite the packets before they would be delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from localcloud.network.namespace import IMDS, Namespace
from localcloud.network.packets import Updater

_TABLE = "rollcall_addresses"


@dataclass(frozen=True, order=True, kw_only=True)
class Translation:
    """The addresses of a machine.

    - `wire` is the one of its interface.
    - `public` is the one at which it is reached; empty if it has none.
    - `out` is the one from which its packets come: its public address, or the one of a NAT gateway; empty without a way out.
    - `near` is the private network from which the wire address itself is reached; empty where that is no private address.
    """

    wire: str
    public: str = ""
    out: str = ""
    near: str = ""


def owned(translations: Iterable[Translation]) -> frozenset[str]:
    """Return the addresses that the bridge must have: those that no interface has."""
    found = list(translations)
    return frozenset(each for one in found for each in (one.public, one.out) if each) - {one.wire for one in found}


def ruleset(translations: Iterable[Translation]) -> str:
    """Return the table of nftables; empty if each machine has its public address on its interface."""
    found = sorted(translations)
    moved = [each for each in found if each.public != each.wire or each.near]
    if not moved:
        return ""
    to = [f"{each.public} : {each.wire}" for each in moved if each.public]
    out = [f"{each.wire} : {each.out}" for each in moved if each.out]
    hidden, shut = [each.wire for each in moved], [each.wire for each in moved if not each.out]
    near = [f"ip saddr {each} ip daddr {each} return" for each in sorted({one.near for one in moved if one.near})]
    dnat = [f"dnat ip to ip daddr map {{ {', '.join(to)} }}"] if to else []
    snat = [f"snat ip to ip saddr map {{ {', '.join(out)} }}"] if out else []
    # A connection of before an address was moved would keep its translation, so only the present pairs pass.
    passing = [
        *_pairs("ct status dnat ct direction original", "ct original ip daddr . ip daddr", to),
        *_pairs("ct status snat ct direction original", "ip saddr . ct reply ip daddr", out),
        "ct status dnat return",
        # The gateway answers from addresses of its own, and what it answers is established.
        f"ct state new ip daddr {{ {', '.join(hidden)} }} drop",
    ]
    stay = [f"ct state new ip saddr {{ {', '.join(shut)} }} drop"] if shut else []
    # A subnet's own router gives metadata and names, also without a way out.
    inside = [f"ip daddr {IMDS} return", "meta l4proto { tcp, udp } th dport 53 return"]
    return (
        f"table inet {_TABLE} {{\n"
        + "\n".join(
            [
                _chain("translate_in", ["type nat hook prerouting priority -100;", *dnat]),
                _chain("translate_local", ["type nat hook output priority -100;", *dnat]),
                _chain("translate_out", ["type nat hook postrouting priority 100;", *near, *snat]),
                _chain("forward", ["type filter hook forward priority 5;", *near, *stay, *passing]),
                _chain("output", ["type filter hook output priority 5;", *passing]),
                _chain("input", ["type filter hook input priority 5;", *inside, *stay]),
            ]
        )
        + "\n}\n"
    )


def _pairs(which: str, key: str, pairs: Sequence[str]) -> list[str]:
    """Return the rule that drops packets with `which` translation that is not one of these pairs."""
    known = ", ".join(each.replace(" : ", " . ") for each in pairs)
    return [f"{which} {key} != {{ {known} }} drop" if known else f"{which} drop"]


def _chain(name: str, rules: Sequence[str]) -> str:
    return "\n".join([f"  chain {name} {{", *(f"    {rule}" for rule in rules), "  }"])


class Translator(Updater):
    """A thread that reads twice a second which public address each machine has, and has the namespace translate accordingly."""

    name = "translator"

    def __init__(self, namespace: Namespace, translations: Callable[[], Iterable[Translation]]) -> None:
        super().__init__()
        self._namespace, self._translations = namespace, translations
        self._known: frozenset[Translation] = frozenset()
        self._owned: frozenset[str] = frozenset()

    def update(self) -> None:
        found = frozenset(self._translations())
        if found == self._known:
            return
        wanted = owned(found)
        for each in sorted(wanted - self._owned):
            self._namespace.add_address("aws", each)
        self._namespace.filter(_TABLE, ruleset(found))
        for each in sorted(self._owned - wanted):
            self._namespace.remove_address("aws", each)
        self._known, self._owned = found, wanted
