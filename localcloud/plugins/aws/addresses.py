"""aws:ec2: Eip, EipAssociation, NetworkInterface.

Which input replaces is in ec2_eip.go, ec2_eip_association.go and vpc_network_interface.go of internal/service/ec2 in
https://github.com/hashicorp/terraform-provider-aws
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from localcloud.plugins.aws.common import REGION, TAGS, Regional, from_tags, gone_on, retag, to_tags
from localcloud.plugins.resource import GoneError, Values, flag, keeping, number, several, text


class Eip(Regional):
    token = "aws:ec2/eip:Eip"
    inputs = {
        "address": text(replaces=True),
        "domain": text(replaces=True, computed=True, choices=("vpc", "standard")),
        "networkBorderGroup": text(replaces=True, computed=True),
        "publicIpv4Pool": text(replaces=True, computed=True),
        **REGION,
        **TAGS,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        tags = to_tags(given.get("tags"))
        tagged = {"TagSpecifications": [{"ResourceType": "elastic-ip", "Tags": tags}]} if tags else {}
        made = self.api.client("ec2").allocate_address(Domain=given.get("domain") or "vpc", **tagged)["AllocationId"]
        with keeping(made):
            return made, self._outputs(self._found(made))

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        found = self._found(identity)
        return self._outputs(found), {"domain": found["Domain"], "tags": from_tags(found.get("Tags")) or None}

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        retag(self.api.client("ec2"), identity, old.get("tags"), new.get("tags"))
        return self._outputs(self._found(identity))

    def delete(self, identity: str, state: Values) -> None:
        """The provider ends the association that its state has, and then releases the address."""
        ec2 = self.api.client("ec2")
        if state.get("associationId"):
            with contextlib.suppress(GoneError), gone_on("InvalidAssociationID.NotFound"):
                ec2.disassociate_address(AssociationId=state["associationId"])
        with gone_on("InvalidAllocationID.NotFound"):
            ec2.release_address(AllocationId=identity)

    def _found(self, identity: str) -> Mapping[str, Any]:
        with gone_on("InvalidAllocationID.NotFound"):
            listed = self.api.client("ec2").describe_addresses(AllocationIds=[identity])["Addresses"]
        if not listed:
            raise GoneError(identity)
        found: Mapping[str, Any] = listed[0]
        return found

    def _outputs(self, found: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "allocationId": found["AllocationId"],
            "associationId": found.get("AssociationId") or "",
            "instance": found.get("InstanceId") or "",
            "networkInterface": found.get("NetworkInterfaceId") or "",
            "privateIp": found.get("PrivateIpAddress") or "",
            "publicIp": found["PublicIp"],
            "tagsAll": from_tags(found.get("Tags")),
        }


class EipAssociation(Regional):
    token = "aws:ec2/eipAssociation:EipAssociation"
    inputs = {
        "allocationId": text(replaces=True, computed=True),
        "allowReassociation": flag(replaces=True),
        "instanceId": text(replaces=True, computed=True),
        "networkInterfaceId": text(replaces=True, computed=True),
        "privateIpAddress": text(replaces=True, computed=True),
        "publicIp": text(replaces=True, computed=True),
        **REGION,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        names = {
            "allocationId": "AllocationId",
            "allowReassociation": "AllowReassociation",
            "instanceId": "InstanceId",
            "networkInterfaceId": "NetworkInterfaceId",
        }
        request = {api: given[key] for key, api in names.items() if given.get(key) is not None}
        made = self.api.client("ec2").associate_address(**request)["AssociationId"]
        return made, self._now(made)

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        now = self._now(identity)
        return now, {key: now[key] for key in ("allocationId", "networkInterfaceId")}

    def delete(self, identity: str, state: Values) -> None:
        with gone_on("InvalidAssociationID.NotFound"):
            self.api.client("ec2").disassociate_address(AssociationId=identity)

    def _now(self, identity: str) -> dict[str, Any]:
        mine = [{"Name": "association-id", "Values": [identity]}]
        listed = self.api.client("ec2").describe_addresses(Filters=mine)["Addresses"]
        if not listed:
            raise GoneError(identity)
        (found,) = listed
        return {
            "allocationId": found["AllocationId"],
            "instanceId": found.get("InstanceId") or "",
            "networkInterfaceId": found.get("NetworkInterfaceId") or "",
            "privateIpAddress": found.get("PrivateIpAddress") or "",
            "publicIp": found["PublicIp"],
        }


class NetworkInterface(Regional):
    token = "aws:ec2/networkInterface:NetworkInterface"
    inputs = {
        "subnetId": text(required=True, replaces=True),
        "description": text(default="Managed by Pulumi"),
        "securityGroups": several(computed=True),
        "ipv6AddressCount": number(computed=True),
        "sourceDestCheck": flag(default=True),
        **REGION,
        **TAGS,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        request: dict[str, Any] = {"SubnetId": given["subnetId"], "Description": given["description"]}
        if given.get("securityGroups"):
            request["Groups"] = list(given["securityGroups"])
        if given.get("ipv6AddressCount"):
            request["Ipv6AddressCount"] = int(given["ipv6AddressCount"])
        if tags := to_tags(given.get("tags")):
            request["TagSpecifications"] = [{"ResourceType": "network-interface", "Tags": tags}]
        made = self.api.client("ec2").create_network_interface(**request)["NetworkInterface"]["NetworkInterfaceId"]
        with keeping(made):
            return made, self._outputs(self._found(made))

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        found = self._found(identity)
        now = {
            "subnetId": found["SubnetId"],
            "description": found.get("Description") or "",
            "securityGroups": sorted(each["GroupId"] for each in found.get("Groups", ())),
            "sourceDestCheck": bool(found.get("SourceDestCheck", True)),
            "tags": from_tags(found.get("TagSet")) or None,
        }
        if state.get("ipv6AddressCount") is not None:
            now["ipv6AddressCount"] = len(found.get("Ipv6Addresses", ()))
        return self._outputs(found), now

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        ec2, changed = self.api.client("ec2"), self.differences(old, new)
        if "securityGroups" in changed:
            ec2.modify_network_interface_attribute(NetworkInterfaceId=identity, Groups=list(new["securityGroups"]))
        retag(ec2, identity, old.get("tags"), new.get("tags"))
        return self._outputs(self._found(identity))

    def delete(self, identity: str, state: Values) -> None:
        with gone_on("InvalidNetworkInterfaceID.NotFound"):
            self.api.client("ec2").delete_network_interface(NetworkInterfaceId=identity)

    def same(self, key: str, before: Any, after: Any) -> bool:
        if key == "securityGroups":
            return sorted(before or ()) == sorted(after or ())
        return super().same(key, before, after)

    def _found(self, identity: str) -> Mapping[str, Any]:
        with gone_on("InvalidNetworkInterfaceID.NotFound"):
            listed = self.api.client("ec2").describe_network_interfaces(NetworkInterfaceIds=[identity])
        found: Mapping[str, Any] = listed["NetworkInterfaces"][0]
        return found

    def _outputs(self, found: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "macAddress": found.get("MacAddress") or "",
            "ownerId": found.get("OwnerId") or "",
            "privateIp": found.get("PrivateIpAddress") or "",
            "ipv6Addresses": [each["Ipv6Address"] for each in found.get("Ipv6Addresses", ())],
            "tagsAll": from_tags(found.get("TagSet")),
        }


TYPES = (Eip, EipAssociation, NetworkInterface)
