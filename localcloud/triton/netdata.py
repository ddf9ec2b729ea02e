"""Networks of the data centre and the addresses on them."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from localcloud.triton.catalogue import DATACENTER, fixed_id
from localcloud.triton.errors import ApiError, invalid_argument, validation_failed

_RESOLVERS = ["8.8.8.8", "8.8.4.4"]
_PRIVATE_RANGE = "10.88.0.0/21"
# The VLAN that every account has on its fabric (docs/index.md of sdc-cloudapi, ListFabricVLANs).
DEFAULT_VLAN = 2


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names of a data centre's networks: `public`, `private`, and `fabrics` (those on the account's fabric, each with its subnet).

    The defaults are those of Joyent's public cloud, which has closed. Today's public operator uses `MNX-Triton-Public`. Private operators
    choose their own names.
    """

    public: Sequence[str] = ("Joyent-SDC-Public",)
    private: Sequence[str] = ("Joyent-SDC-Private",)
    fabrics: Mapping[str, str] = field(default_factory=dict)


class Addresses:
    """The addresses of a network, used in order. A released address is used again only after all others.

    By default they are .10 to .250 of a /24, and correspondingly for a larger range.
    """

    def __init__(self, subnet: str, first: str = "", last: str = "") -> None:
        self.subnet = ipaddress.IPv4Network(subnet)
        self.gateway = str(self.subnet.network_address + 1)
        self.first = ipaddress.IPv4Address(first) if first else self.subnet.network_address + 10
        self.last = ipaddress.IPv4Address(last) if last else self.subnet.broadcast_address - 5
        self._next = self.first
        self.used: dict[str, str] = {}
        self.reserved: set[str] = set()

    def take(self, machine: str, wanted: str | None = None) -> str:
        """An address for a machine. Raises ApiError where `wanted` is not free or the network is full."""
        if wanted is not None:
            return self._take(machine, wanted)
        for _ in range(int(self.last) - int(self.first) + 1):
            address = str(self._next)
            self._next = self._next + 1 if self._next < self.last else self.first
            if address not in self.used and address not in self.reserved:
                self.used[address] = machine
                return address
        raise ApiError(507, "SubnetFull", "No more free IPs")

    def _take(self, machine: str, wanted: str) -> str:
        try:
            inside = ipaddress.IPv4Address(wanted) in self.subnet
        except ValueError:
            inside = False
        if not inside:
            raise invalid_argument(f"cannot validate {wanted}: it is not in {self.subnet}")
        if wanted == self.gateway:
            raise invalid_argument(f"cannot use {wanted} because it is a managed IP")
        if wanted in self.used:
            raise validation_failed("Invalid VM parameters", "ip", "UsedBy", f"IP {wanted} is in use")
        self.used[wanted] = machine
        return wanted

    def move(self, first: ipaddress.IPv4Address, last: ipaddress.IPv4Address) -> None:
        """Give out other addresses from now on."""
        self.first, self.last = first, last
        self._next = self._next if first <= self._next <= last else first

    def release(self, address: str) -> None:
        self.used.pop(address, None)


@dataclass
class Network:
    """A network, or with `members` a pool of networks, which has no addresses itself."""

    name: str
    id: str
    addresses: Addresses
    public: bool
    description: str = ""
    owner: str | None = None
    members: tuple[Network, ...] = ()
    vlan_id: int | None = None
    resolvers: list[str] = field(default_factory=list)
    routes: dict[str, str] = field(default_factory=dict)
    gateway: str | None = None
    internet_nat: bool = True

    @property
    def fabric(self) -> bool:
        return self.vlan_id is not None

    def real(self) -> Network:
        """Itself, or the member of a pool that is used least."""
        return min(self.members, key=lambda member: len(member.addresses.used)) if self.members else self

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"id": self.id, "name": self.name, "public": self.public}
        if self.description:
            body["description"] = self.description
        if self.vlan_id is None:
            return body
        addresses = self.addresses
        body.update(
            fabric=True, vlan_id=self.vlan_id, subnet=str(addresses.subnet), provision_start_ip=str(addresses.first),
            provision_end_ip=str(addresses.last), resolvers=self.resolvers, routes=self.routes,
            internet_nat=self.internet_nat,
        )  # fmt: skip
        return {**body, "gateway": self.gateway} if self.gateway else body


def networks(
    names: Names, public_range: str, pool: bool, owner: str, datacenter: str, addresses: tuple[str, str] | None = None
) -> list[Network]:
    """Return the networks of a data centre, with ids that differ between data centres.

    The public ones share `public_range`; `addresses` limits it to the addresses between its first and last. `pool`: each public network is
    a pool of two, as in the public cloud.
    """
    where = "" if datacenter == DATACENTER else f" in {datacenter}"

    def network(name: str, given: Addresses, **others: Any) -> Network:
        return Network(name, fixed_id(f"network {name}{where}"), given, resolvers=_RESOLVERS, **others)

    def public(name: str, parts: Iterator[Addresses]) -> Network:
        if not pool:
            return network(name, next(parts), public=True)
        members = tuple(network(f"{name}-{at}", next(parts), public=True) for at in (1, 2))
        return Network(name, fixed_id(f"pool {name}{where}"), members[0].addresses, True, members=members)

    parts = _parts(public_range, addresses, len(names.public) * (2 if pool else 1))
    found = [public(name, parts) for name in names.public]
    found += [network(name, Addresses(_PRIVATE_RANGE), public=False, owner=owner) for name in names.private]
    for name, subnet in names.fabrics.items():
        on_fabric = Addresses(subnet)
        on_fabric.reserved.add(on_fabric.gateway)
        # The owner's alone, and never public (translateNetwork of lib/endpoints/networks.js).
        found.append(
            network(name, on_fabric, public=False, owner=owner, vlan_id=DEFAULT_VLAN, gateway=on_fabric.gateway)
        )
    return found


def _parts(public_range: str, addresses: tuple[str, str] | None, count: int) -> Iterator[Addresses]:
    """Yield the addresses of `count` networks: halves of halves of the range, or equal parts of `addresses`."""
    if addresses is None:
        whole = ipaddress.IPv4Network(public_range)
        halvings = (count - 1).bit_length()
        yield from (Addresses(str(each)) for each in itertools.islice(whole.subnets(halvings), count))
        return
    first, last = (int(ipaddress.IPv4Address(each)) for each in addresses)
    size = (last - first + 1) // count
    for at in range(count):
        start = first + at * size
        end = last if at == count - 1 else start + size - 1
        yield Addresses(public_range, str(ipaddress.IPv4Address(start)), str(ipaddress.IPv4Address(end)))
