"""The agents of machines that do not boot. A machine that its cloud lists as running joins what its settings name, until it is drained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.dns.route53 import BotoRoute53
from components.joyent.session import session_of
from localcloud.aws.catalogue import REGIONS
from rollcall.errors import RollcallError
from rollcall.ownership import Owner
from rollcall.registry import CloudflareRegistry
from rollcall.route53 import Route53Registry, Route53Store
from rollcall.settings import CloudflareJoin, Join, MachineSettings, Route53Join
from tests.integration.deployed import Deployed
from tests.integration.ticking import Ticking


@dataclass
class Guest:
    """A machine that runs: what its agent reads, and the records that it is in."""

    owner: Owner
    joins: tuple[Join, ...]
    addresses: tuple[str, ...]
    drained: bool
    registries: dict[Join, CloudflareRegistry | Route53Registry] = field(default_factory=dict)


class Hands(Ticking):
    """`mute` are fleets with machines that do not join, `drained` the instances that were ever asked to leave, `refused` the errors that
    agents got from the DNS APIs. The process must have the sandbox's environment."""

    every = 0.2

    def __init__(self, deployed: Deployed) -> None:
        super().__init__()
        self._deployed = deployed
        self._route53 = deployed.aws("route53")
        self._ec2 = [deployed.aws("ec2", {"AWS_REGION": region}) for region in REGIONS[:1]]
        self._joined: dict[str, Guest] = {}
        self.mute: set[str] = set()
        self.drained: set[str] = set()
        self.refused: list[str] = []

    def guests(self) -> list[Guest]:
        return [*self._on_ec2(), *self._on_triton()]

    def _on_ec2(self) -> list[Guest]:
        running = [{"Name": "instance-state-name", "Values": ["running"]}]
        found = [each for ec2 in self._ec2 for each in ec2.describe_instances(Filters=running)["Reservations"]]
        return [
            _guest({tag["Key"]: tag["Value"] for tag in each["Tags"]}, each["InstanceId"], each["PublicIpAddress"])
            for reservation in found
            for each in reservation["Instances"]
        ]

    def _on_triton(self) -> list[Guest]:
        machines = session_of({}, "").api.list_machines()
        return [_guest(each.metadata, each.id, each.primary_ip or "") for each in machines if each.state == "running"]

    def tick(self) -> None:
        found = {each.owner.instance: each for each in self.guests()}
        for instance, guest in found.items():
            before = self._joined.get(instance)
            guest.registries = before.registries if before else {}
            if guest.drained:
                self.drained.add(instance)
            wanted = () if guest.drained or guest.owner.fleet in self.mute else guest.joins
            for join in [each for each in guest.registries if each not in wanted]:
                self._ask(guest.registries.pop(join).leave, guest.owner)
            for join in [each for each in wanted if each not in guest.registries]:
                registry = self._registry(join)
                if self._ask(registry.join, guest.owner, *guest.addresses):
                    guest.registries[join] = registry
        self._joined = found

    def _ask(self, act: Any, *given: Any) -> bool:
        try:
            act(*given)
        except RollcallError as refused:
            self.refused.append(str(refused))
            return False
        return True

    def _registry(self, join: Join) -> CloudflareRegistry | Route53Registry:
        if isinstance(join, CloudflareJoin):
            return CloudflareRegistry(join, lambda: self._deployed.env["CLOUDFLARE_API_TOKEN"])
        assert isinstance(join, Route53Join)
        return Route53Registry(join, Route53Store(join.zone, BotoRoute53(self._route53)), pause=lambda _: None)


def _guest(join: Mapping[str, str], instance: str, address: str) -> Guest:
    settings = MachineSettings.from_keys(join, instance)
    owner = Owner(settings.stack, settings.fleet, settings.machine, settings.generation, instance)
    return Guest(owner, settings.joins, (address,), settings.drain)
