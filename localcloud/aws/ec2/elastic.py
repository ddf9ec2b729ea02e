"""Elastic addresses, as strict as EC2: moto takes them from real networks, and moves and releases them without a check.

https://docs.aws.amazon.com/vpc/latest/userguide/vpc-eips.html ; the codes:
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from localcloud.aws.ec2 import routes
from localcloud.aws.ec2.power import Power
from localcloud.aws.ec2.replies import done, refuse_dry_run
from localcloud.aws.moto_backends import Moto
from localcloud.aws.quotas import ADDRESSES
from localcloud.aws.wire import AwsError, Call, Reply


class ElasticAddresses:
    """The elastic addresses of an account in a region. Their numbers are of the range of all public addresses."""

    def __init__(self, moto: Moto, store: Any, power: Power, quota: Callable[[str], float]) -> None:
        self._moto, self._store, self._power, self._quota = moto, store, power, quota
        self.own: dict[str, Callable[[Call], Reply]] = {
            "AllocateAddress": self._allocate,
            "AssociateAddress": self._associate,
            "DisassociateAddress": self._disassociate,
            "ReleaseAddress": self._release,
            "CreateNatGateway": self._create_nat,
            "DeleteNatGateway": self._delete_nat,
        }

    def _allocate(self, call: Call) -> Reply:
        refuse_dry_run(call)
        with self._moto.lock:
            if len(self._store.addresses) >= self._quota(ADDRESSES):
                raise AwsError("AddressLimitExceeded", "The maximum number of addresses has been reached.")
            if call.get("Address"):
                raise AwsError("InvalidAddress.NotFound", f"Address {call.get('Address')} not found")
            if not self._power.free:
                raise AwsError("InsufficientAddressCapacity", "Not enough available addresses to satisfy your request.")
            number = self._power.take()
            fields = [pair for pair in call.form if pair[0] != "Domain"]
            return self._moto.answer(call, urlencode([*fields, ("Domain", "vpc"), ("Address", number)]).encode())

    def _associate(self, call: Call) -> Reply:
        refuse_dry_run(call)
        with self._moto.lock:
            address, interface = self._address(call), self._interface(call)
            if not routes.has_internet_gateway(self._store, interface.subnet.vpc_id):
                message = f"Network {interface.subnet.vpc_id} is not attached to any internet gateway"
                raise AwsError("Gateway.NotAttached", message)
            if address.eni is interface:
                return self._moto.answer(call)
            moves = (call.get("AllowReassociation") or "").lower() == "true"
            taken = next((each for each in self._store.addresses if each.eni is interface), None)
            if (address.eni is not None or taken is not None) and not moves:
                known = address.allocation_id if address.eni is not None else interface.id
                there = next(
                    each.association_id for each in (address, taken) if each is not None and each.eni is not None
                )
                raise AwsError(
                    "Resource.AlreadyAssociated", f"resource {known} is already associated with associate-id {there}"
                )
            before = address.eni
            for each in (taken, address):
                if each is not None:
                    each.eni = each.instance = each.association_id = None
            reply = self._moto.answer(call)
            self._power.readdress(interface)
            if before is not None:
                self._power.readdress(before)
            return reply

    def _disassociate(self, call: Call) -> Reply:
        refuse_dry_run(call)
        with self._moto.lock:
            identity = call.get("AssociationId")
            found = next((each for each in self._store.addresses if identity and each.association_id == identity), None)
            if found is None:
                raise AwsError("InvalidAssociationID.NotFound", f"The association ID '{identity or ''}' does not exist")
            self._detach(found)
            return done(call, "<return>true</return>")

    def _detach(self, address: Any) -> None:
        """End the association of an address. Its interface gets an automatic one again, if it had one."""
        interface = address.eni
        address.eni = address.instance = address.association_id = None
        if interface is not None:
            self._power.readdress(interface)

    def _release(self, call: Call) -> Reply:
        refuse_dry_run(call)
        with self._moto.lock:
            address = self._address(call)
            if address.eni is not None:
                raise AwsError("InvalidIPAddress.InUse", f"Address {address.public_ip} is in use.")
            number = address.public_ip
            reply = self._moto.answer(call)
            if reply.status == 200:
                self._power.give_back(number)
            return reply

    def _address(self, call: Call) -> Any:
        identity = call.get("AllocationId")
        found = next((each for each in self._store.addresses if each.allocation_id == identity), None)
        if found is None or not identity:
            raise AwsError("InvalidAllocationID.NotFound", f"The allocation ID '{identity or ''}' does not exist")
        return found

    def _interface(self, call: Call) -> Any:
        instance, interface = call.get("InstanceId"), call.get("NetworkInterfaceId")
        if instance:
            state = self._power.state(instance)
            if state is None:
                raise AwsError("InvalidInstanceID.NotFound", f"The instance ID '{instance}' does not exist")
            if state not in ("running", "stopped", "stopping"):
                # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html, InvalidInstanceID
                message = f"The {state} instance '{instance}' is not in a valid state for this operation."
                raise AwsError("InvalidInstanceID", message)
            return self._store.get_instance(instance).nics[0]
        if interface not in self._store.enis:
            raise AwsError(
                "InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{interface or ''}' does not exist"
            )
        return self._store.enis[interface]

    def _create_nat(self, call: Call) -> Reply:
        """https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html"""
        refuse_dry_run(call)
        with self._moto.lock:
            subnets = {each.id: each for zone in self._store.subnets.values() for each in zone.values()}
            subnet = subnets.get(call.get("SubnetId") or "")
            if subnet is None:
                raise AwsError("InvalidSubnetID.NotFound", f"The subnet ID '{call.get('SubnetId')}' does not exist")
            if (call.get("ConnectivityType") or "public") == "public":
                address = self._address(call)
                if address.eni is not None:
                    message = f"Elastic IP address [{address.allocation_id}] is already associated"
                    raise AwsError("Resource.AlreadyAssociated", message)
                if not routes.has_internet_gateway(self._store, subnet.vpc_id):
                    message = f"Network {subnet.vpc_id} has no Internet gateway attached"
                    raise AwsError("Gateway.NotAttached", message)
            return self._moto.answer(call)

    def _delete_nat(self, call: Call) -> Reply:
        refuse_dry_run(call)
        with self._moto.lock:
            found = self._store.nat_gateways.get(call.get("NatGatewayId"))
            if found is None:
                raise AwsError("NatGatewayNotFound", f"The Nat Gateway {call.get('NatGatewayId')} was not found")
            reply = self._moto.answer(call)
            for each in self._store.addresses:
                if each.eni is found._eni:
                    each.eni = each.association_id = None
            self._store.enis.pop(found._eni.id, None)
            return reply
