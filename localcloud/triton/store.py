"""All data of one account in the local data centre. A reader or writer must have `lock`."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from localcloud.triton import catalogue
from localcloud.triton.catalogue import Image, Package
from localcloud.triton.errors import not_found
from localcloud.triton.firewall import Rule
from localcloud.triton.jobs import Jobs
from localcloud.triton.keys import KeyRing
from localcloud.triton.model import Machine, dnsified
from localcloud.triton.netdata import DEFAULT_VLAN, Network

# Names under a top-level domain kept for tests (RFC 2606).
CNS_ZONE = "cns.rollcall.test"


@dataclass
class User:
    """A sub-user of the account. `administrator`: has the role of that name by default and may do everything."""

    login: str
    email: str
    administrator: bool = False
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    keys: KeyRing = field(default_factory=KeyRing)
    created: float = 0.0
    updated: float = 0.0
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Options:
    """`job_delay` is how long each job but provisioning takes, in seconds; `quota` limits the number of machines;
    `fabric_packages` is how the names of packages begin that may be used on a fabric, where not all may."""

    provisioning: float = 0.0
    job_delay: float = 0.2
    quota: int | None = None
    cns: bool = False
    fabric_packages: tuple[str, ...] = ()


class Store:
    """One account; `switch` asks for a fault by its name."""

    def __init__(
        self,
        login: str,
        options: Options,
        clock: Callable[[], float],
        switch: Callable[[str], str | None],
        networks: Callable[[str], list[Network]],
        datacenter: str = catalogue.DATACENTER,
    ) -> None:
        self.datacenter = datacenter
        self.lock = threading.RLock()
        self.login, self.id = login, catalogue.fixed_id(f"account {login}")
        self.options, self.clock, self.switch = options, clock, switch
        self.created = clock()
        self.disabled, self.approved = False, True
        self.cns = options.cns
        self.fields: dict[str, Any] = {"email": f"{login}@rollcall.invalid"}
        self.keys = KeyRing()
        self.users: dict[str, User] = {}
        self.datacenters: dict[str, str] = {}
        """Other data centres of the same cloud: name and URL."""
        self.machines: dict[str, Machine] = {}
        self.images: list[Image] = catalogue.images()
        self.packages: list[Package] = catalogue.packages()
        self.networks: list[Network] = networks(self.id)
        self.vlans: dict[int, dict[str, Any]] = {}
        if any(network.vlan_id == DEFAULT_VLAN for network in self.networks):
            self.vlans[DEFAULT_VLAN] = {"vlan_id": DEFAULT_VLAN, "name": "default"}
        self.rules: dict[str, Rule] = {}
        self.default_network: str | None = None
        self.jobs: Jobs
        self._servers = itertools.cycle(catalogue.SERVERS)

    def server(self) -> str:
        return next(self._servers)

    def alive(self) -> Iterable[Machine]:
        return [machine for machine in self.machines.values() if machine.exists]

    def machine(self, machine_id: str) -> Machine:
        """Return a machine, also a deleted one. Raises ApiError 404."""
        machine = self.machines.get(machine_id)
        if machine is None:
            raise not_found("VM not found")
        return machine

    def network(self, network_id: str) -> Network | None:
        """A network or pool that the account may use."""
        return next((each for each in self.networks if each.id == network_id), None)

    def image(self, image_id: str, *, any_owner: bool = False) -> Image:
        """Return an image. Raises ApiError 404 if it is unknown, destroyed, or belongs to another account."""
        for image in self.images:
            if image.id == image_id and (any_owner or image.visible_to(self.id)):
                return image
        raise not_found("image not found")

    def user(self, name: str) -> User:
        """By id or login. Raises ApiError 404."""
        for user in self.users.values():
            if name in (user.id, user.login):
                return user
        raise not_found(f"{name} does not exist")

    def suffixes(self) -> list[str]:
        return [f"{kind}.{self.id}.{CNS_ZONE}" for kind in ("svc", "inst")]

    def dns_names(self, machine: Machine) -> list[str]:
        """What Triton CNS publishes for a machine: instance names while it is there, service names while it is up."""
        if machine.tags.get("triton.cns.disable", False) is not False or not machine.exists:
            return []
        service, instance = self.suffixes()
        names = [f"{machine.id}.{instance}", f"{dnsified(machine.name)}.{instance}"]
        services = machine.tags.get("triton.cns.services")
        up = machine.state == "running" and machine.metadata.get("triton.cns.status", "up") == "up"
        if isinstance(services, str) and up:
            names += [f"{each.strip().partition(':')[0]}.{service}" for each in services.split(",")]
        return names
