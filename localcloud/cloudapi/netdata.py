"""Networks of the data centre and the addresses on them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from localcloud.cloudapi.catalogue import DATACENTER, fixed_id
from localcloud.cloudapi.errors import ApiError, invalid_argument, validation_failed

_RESOLVERS = ["8.8.8.8", "8.8.4.4"]
_PUBLIC, _PRIVATE = "Joyent-SDC-Public", "Joyent-SDC-Private"
_PRIVATE_RANGE = "10.88.0.0/21"


class Addresses:
    """The addresses of a network, given out in turn: one that came back waits until all others have been used.

    Unless told otherwise from .10 to .250 of a /24, and likewise of a larger range.
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
    """A network, or with `members` a pool of networks, which has no addresses of its own."""

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
    public_range: str, pool: bool, owner: str, datacenter: str = DATACENTER, addresses: tuple[str, str] | None = None
) -> list[Network]:
    """The public and the private network; their names are those of every data centre, their ids its own. `pool`: the public one
    is a pool of two networks, as in the public cloud."""
    where = "" if datacenter == DATACENTER else f" in {datacenter}"
    whole = ipaddress.IPv4Network(public_range)
    parts = [str(half) for half in whole.subnets(1)] if pool else [str(whole)]
    real = tuple(
        Network(
            name, fixed_id(f"network {name}{where}"), Addresses(part, *(addresses or ())), True, resolvers=_RESOLVERS
        )
        for part, name in zip(parts, (f"{_PUBLIC}-1", f"{_PUBLIC}-2") if pool else (_PUBLIC,), strict=True)
    )
    public = real[0]
    if pool:
        public = Network(_PUBLIC, fixed_id(f"pool {_PUBLIC}{where}"), real[0].addresses, True, members=real)
    private = Network(
        _PRIVATE,
        fixed_id(f"network {_PRIVATE}{where}"),
        Addresses(_PRIVATE_RANGE),
        False,
        owner=owner,
        resolvers=_RESOLVERS,
    )
    return [public, private]
