"""Network interfaces that are made before their machine. A machine has one, which it keeps as long as it exists.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-eni.html ; the codes:
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from localcloud.aws.ec2 import ipv6, parts
from localcloud.aws.ec2.power import STAYS
from localcloud.aws.ec2.replies import refuse_dry_run
from localcloud.aws.ec2.tags import check_specifications
from localcloud.aws.moto_backends import Moto
from localcloud.aws.quotas import GROUPS_OF_INTERFACE
from localcloud.aws.wire import AwsError, Call, Reply


class Interfaces:
    """The network interfaces of an account in a region."""

    def __init__(self, moto: Moto, store: Any, addresses: ipv6.Addresses, quota: Callable[[str], float]) -> None:
        self._moto, self._store, self._addresses, self._quota = moto, store, addresses, quota
        self.own: dict[str, Callable[[Call], Reply]] = {
            "CreateNetworkInterface": self._create,
            "ModifyNetworkInterfaceAttribute": self._modify,
            "DeleteNetworkInterface": self._delete,
        }

    def _create(self, call: Call) -> Reply:
        refuse_dry_run(call)
        check_specifications(call)
        with self._moto.lock:
            subnet = subnet_of(self._store, call.get("SubnetId") or "")
            check_groups(self._store, call.members("SecurityGroupId"), subnet, self._quota)
            check_room(subnet, 1)
            ipv6.check_count(call, subnet)
            before = set(self._store.enis)
            # moto does not choose the IPv6 address.
            reply = self._moto.answer(
                call, urlencode([each for each in call.form if each[0] != "Ipv6AddressCount"]).encode()
            )
            for each in set(self._store.enis) - before:
                setattr(self._store.enis[each], STAYS, True)
                if ipv6.requested_addresses(call):
                    self._addresses.give(self._store.enis[each])
            return reply

    def _modify(self, call: Call) -> Reply:
        refuse_dry_run(call)
        with self._moto.lock:
            interface, groups = self._interface(call), call.members("SecurityGroupId")
            if groups:
                check_groups(self._store, groups, interface.subnet, self._quota)
            reply = self._moto.answer(call)
            if groups and interface.instance is not None:
                interface.instance.security_groups = list(interface._group_set)
            return reply

    def _delete(self, call: Call) -> Reply:
        refuse_dry_run(call)
        with self._moto.lock:
            interface = self._interface(call)
            parts.check_interface(call, self._store)
            reply = self._moto.answer(call)
            # An elastic address of the interface is free then.
            for each in self._store.addresses:
                if each.eni is interface:
                    each.eni = each.instance = each.association_id = None
            interface.subnet.del_subnet_ip(interface.private_ip_address)
            return reply

    def _interface(self, call: Call) -> Any:
        return interface_of(self._store, call.get("NetworkInterfaceId") or "")


def interface_of(store: Any, identity: str) -> Any:
    """Return a network interface. Raises AwsError."""
    if not re.fullmatch(r"eni-[0-9a-f]{8}(?:[0-9a-f]{9})?", identity):
        raise AwsError("InvalidNetworkInterfaceId.Malformed", f'Invalid id: "{identity}" (expecting "eni-...")')
    if identity not in store.enis:
        raise AwsError("InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{identity}' does not exist")
    return store.enis[identity]


def subnet_of(store: Any, identity: str) -> Any:
    """Return a subnet. Raises AwsError."""
    subnets = {each.id: each for zone in store.subnets.values() for each in zone.values()}
    if identity not in subnets:
        raise AwsError("InvalidSubnetID.NotFound", f"The subnet ID '{identity}' does not exist")
    return subnets[identity]


def check_room(subnet: Any, wanted: int) -> None:
    """Raise AwsError if the subnet has fewer free addresses. EC2 keeps five of each subnet.

    https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html
    """
    if subnet.available_ip_address_count < wanted:
        raise AwsError(
            "InsufficientFreeAddressesInSubnet",
            f"There are not enough free addresses in subnet '{subnet.id}' to satisfy the requested number of instances.",
        )


def check_groups(store: Any, groups: Sequence[str], subnet: Any, quota: Callable[[str], float]) -> None:
    """Raise AwsError unless all groups are in the subnet's VPC, and are no more than an interface may have."""
    for group in groups:
        found = store.get_security_group_from_id(group)
        if found is None:
            raise AwsError("InvalidGroup.NotFound", f"The security group '{group}' does not exist")
        if found.vpc_id != subnet.vpc_id:
            raise AwsError(
                "InvalidParameter", f"Security group {group} and subnet {subnet.id} belong to different networks."
            )
    if len(set(groups)) > quota(GROUPS_OF_INTERFACE):
        raise AwsError(
            "SecurityGroupsPerInterfaceLimitExceeded",
            "The maximum number of security groups per interface has been reached.",
        )
