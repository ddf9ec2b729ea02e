"""Give the machines of an EC2 fleet elastic addresses that stay the stack's: `stableAddresses` (docs/decisions/0026).

Each machine has two addresses of its own, and uses one of them as long as it lives. Its successor is made while it still serves, and
takes the other one. The address is that of a network interface, which is made before the instance: so the instance never has another
address, and registers no wrong one. It goes back to the pair when the instance is terminated and its interface deleted.

A provider here is stored in the state by reference to its module and class (components/registration/resources.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from components.aws.account_settings import AWS_KEYS
from components.config.models import FleetSettings
from components.resources import aws_sdk as aws

# The interface's subnet is chosen when it is made, as that of an instance (components/resources/fleets/revision.py).
_IGNORED = ["subnetId"]


class StableAddressError(Exception):
    """No address of a machine's pair is free."""


def address_names(fleet: FleetSettings) -> list[str]:
    """Return the names of the elastic addresses of a fleet, two for each machine."""
    return [name for index in range(fleet.count) for name in _pair(fleet.name, index)]


def _pair(fleet: str, index: int) -> tuple[str, str]:
    return f"{fleet}-{index}-address-a", f"{fleet}-{index}-address-b"


class AddressChoiceProvider(ResourceProvider):
    """Chooses the address of a pair that no interface has. It changes nothing at AWS."""

    serialize_as_secret_always = False
    # A class attribute, so that what is stored in the state stays a bare reference.
    config: Mapping[str, str] = {}

    def configure(self, req: Any) -> None:
        self.config = {key: value for key in AWS_KEYS if (value := req.config.get(key)) is not None}

    def create(self, props: dict[str, Any]) -> CreateResult:
        chosen = free_one(props["machine"], props["addresses"], self._listed(props))
        return CreateResult(f"{props['machine']}/{chosen}", {**props, "allocation": chosen})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        changed = any(_olds.get(key) != _news.get(key) for key in ("machine", "region", "addresses"))
        # Another address of the pair is no reason to change the machine's own.
        moved = [] if _olds.get("allocation") in _news["addresses"] else ["addresses"]
        return DiffResult(changes=changed or bool(moved), replaces=moved, stables=[], delete_before_replace=False)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        return UpdateResult({**_news, "allocation": _olds["allocation"]})

    def _listed(self, props: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        from components.aws.session import session_of

        client = session_of(self.config.get).client("ec2", props["region"])
        found: list[Mapping[str, Any]] = client.describe_addresses(AllocationIds=list(props["addresses"]))["Addresses"]
        return found


def free_one(machine: str, pair: Sequence[str], listed: Sequence[Mapping[str, Any]]) -> str:
    """Return the first address of the pair that is not associated. Raises StableAddressError."""
    users = {each["AllocationId"]: each.get("InstanceId") or each.get("NetworkInterfaceId") for each in listed}
    free = [each for each in pair if each in users and not users[each]]
    if not free:
        taken = ", ".join(f"{each} by {users.get(each) or 'something that EC2 does not show'}" for each in pair)
        raise StableAddressError(
            f"{machine}: both of its elastic addresses are used ({taken}). Terminate what is not in the stack, or disassociate the "
            "address, and run `pulumi up` again."
        )
    return free[0]


class AddressChoice(Resource, module="rollcall", name="AddressChoice"):  # type: ignore[call-arg]
    """The allocation id of the address that a machine uses."""

    allocation: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        machine: str,
        region: str,
        addresses: Sequence[pulumi.Input[str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {"machine": machine, "region": region, "addresses": [*addresses], "allocation": None}
        super().__init__(AddressChoiceProvider(), name, props, opts)


class StableInterface:
    """The network interface of machine `index` of a fleet, with one of its two elastic addresses.

    Everything but the addresses is replaced with the machine's `deregistration`.
    """

    def __init__(
        self,
        fleet: str,
        index: int,
        *,
        region: str,
        subnet: pulumi.Input[str],
        groups: Sequence[pulumi.Input[str]],
        ipv6: bool,
        deregistration: pulumi.Resource,
        parent: pulumi.Resource,
    ) -> None:
        name = f"{fleet}-{index}"
        pair = [
            aws.ec2.Eip(each, domain="vpc", tags={"Name": each}, opts=pulumi.ResourceOptions(parent=parent))
            for each in _pair(fleet, index)
        ]
        replaced = {"parent": parent, "replace_with": [deregistration]}
        choice = AddressChoice(
            f"{name}-address",
            machine=name,
            region=region,
            addresses=[each.allocation_id for each in pair],
            opts=pulumi.ResourceOptions(**replaced, depends_on=[deregistration]),
        )
        self.interface = aws.ec2.NetworkInterface(
            f"{name}-interface",
            description=f"Rollcall's machine {name}",
            subnet_id=subnet,
            security_groups=groups,
            ipv6_address_count=1 if ipv6 else None,
            tags={"Name": name},
            opts=pulumi.ResourceOptions(**replaced, depends_on=[deregistration], ignore_changes=_IGNORED),
        )
        self.association = aws.ec2.EipAssociation(
            f"{name}-association",
            allocation_id=choice.allocation,
            network_interface_id=self.interface.id,
            opts=pulumi.ResourceOptions(**replaced),
        )
