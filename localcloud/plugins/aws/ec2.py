"""aws:ec2: SecurityGroup, Instance, PlacementGroup; aws:ec2transitgateway: InstanceState (where the SDK has it)."""

from __future__ import annotations

import base64
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from localcloud.plugins.aws.common import REGION, TAGS, Regional, from_tags, gone_on, retag, to_tags
from localcloud.plugins.resource import (
    GoneError,
    PluginError,
    Values,
    flag,
    keeping,
    mapping,
    number,
    plain,
    several,
    text,
)

_POLL, _PATIENCE = 0.5, 600.0
# Changed while the instance runs: the input, and what EC2 calls it.
_ATTRIBUTES = {
    "disableApiTermination": "DisableApiTermination",
    "ebsOptimized": "EbsOptimized",
    "instanceInitiatedShutdownBehavior": "InstanceInitiatedShutdownBehavior",
}
# What an existing network interface decides.
_OF_THE_INTERFACE = ("subnetId", "vpcSecurityGroupIds", "associatePublicIpAddress", "ipv6AddressCount")
# The cloud fills in the options that a program does not give.
_COMPUTED_WITHIN = ("primaryNetworkInterface", "metadataOptions", "rootBlockDevice", "creditSpecification")
# What the stand-in does not change. The provider replaces the instance for ipv6AddressCount.
_REPLACING = ("creditSpecification", "ipv6AddressCount", "volumeTags")
# Which properties of volumes replace the instance, and which change in place:
# https://github.com/hashicorp/terraform-provider-aws/blob/main/internal/service/ec2/ec2_instance.go
_ROOT_REPLACES = ("encrypted", "kmsKeyId")
_ROOT_CHANGES = {"volumeSize": "Size", "volumeType": "VolumeType", "iops": "Iops", "throughput": "Throughput"}
# The name of a property of a volume, and what EC2 calls it at a launch.
_EBS = {
    "deleteOnTermination": "DeleteOnTermination",
    "encrypted": "Encrypted",
    "iops": "Iops",
    "kmsKeyId": "KmsKeyId",
    "snapshotId": "SnapshotId",
    "throughput": "Throughput",
    "volumeSize": "VolumeSize",
    "volumeType": "VolumeType",
}


class SecurityGroup(Regional):
    token = "aws:ec2/securityGroup:SecurityGroup"
    named = "name"
    inputs = {
        "name": text(replaces=True),
        "namePrefix": text(replaces=True),
        "description": text(replaces=True, default="Managed by Pulumi"),
        "vpcId": text(replaces=True, computed=True),
        "ingress": several(computed=True),
        "egress": several(computed=True),
        "revokeRulesOnDelete": flag(default=False),
        **REGION,
        **TAGS,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        ec2 = self.api.client("ec2")
        vpc = {"VpcId": given["vpcId"]} if given.get("vpcId") else {}
        tags = (
            {"TagSpecifications": [{"ResourceType": "security-group", "Tags": to_tags(given["tags"])}]}
            if given.get("tags")
            else {}
        )
        made = ec2.create_security_group(GroupName=given["name"], Description=given["description"], **vpc, **tags)[
            "GroupId"
        ]
        with keeping(made):
            self._set_rules(made, given)
        return made, self._outputs(made, given)

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        found = self._describe(identity)
        tags = from_tags(found.get("Tags"))
        now = {
            "name": found["GroupName"],
            "description": found["Description"],
            "vpcId": found.get("VpcId"),
            "ingress": _rules(found["IpPermissions"]),
            "egress": _rules(found["IpPermissionsEgress"]),
            "tags": tags or None,
        }
        return {"arn": self._arn(identity, found["OwnerId"]), "ownerId": found["OwnerId"], "tagsAll": tags}, now

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        self._set_rules(identity, new)
        retag(self.api.client("ec2"), identity, old.get("tags"), new.get("tags"))
        return self._outputs(identity, new)

    def delete(self, identity: str, state: Values) -> None:
        with gone_on("InvalidGroup.NotFound"):
            self.api.client("ec2").delete_security_group(GroupId=identity)

    def same(self, key: str, before: Any, after: Any) -> bool:
        if key in ("ingress", "egress"):
            return sorted(map(_rule_key, before or ())) == sorted(map(_rule_key, after or ()))
        return super().same(key, before, after)

    def _describe(self, identity: str) -> Mapping[str, Any]:
        with gone_on("InvalidGroup.NotFound", "InvalidGroupId.Malformed"):
            groups = self.api.client("ec2").describe_security_groups(GroupIds=[identity])["SecurityGroups"]
        if not groups:
            raise GoneError(identity)
        found: Mapping[str, Any] = groups[0]
        return found

    def _set_rules(self, identity: str, given: Values) -> None:
        """Set exactly the given rules. Remove also the first one of AWS, which allows all outgoing traffic."""
        ec2, found = self.api.client("ec2"), self._describe(identity)
        for key, api, revoke, allow in (
            ("ingress", "IpPermissions", ec2.revoke_security_group_ingress, ec2.authorize_security_group_ingress),
            ("egress", "IpPermissionsEgress", ec2.revoke_security_group_egress, ec2.authorize_security_group_egress),
        ):
            wanted, present = list(given.get(key) or ()), _rules(found[api])
            gone = [each for each in present if _rule_key(each) not in set(map(_rule_key, wanted))]
            new = [each for each in wanted if _rule_key(each) not in set(map(_rule_key, present))]
            if gone:
                revoke(GroupId=identity, IpPermissions=[_permission(each) for each in gone])
            if new:
                allow(GroupId=identity, IpPermissions=[_permission(each) for each in new])

    def _outputs(self, identity: str, given: Values) -> dict[str, Any]:
        owner = self._describe(identity)["OwnerId"]
        return {"arn": self._arn(identity, owner), "ownerId": owner, "tagsAll": dict(given.get("tags") or {})}

    def _arn(self, identity: str, owner: str) -> str:
        return f"arn:aws:ec2:{self.api.region}:{owner}:security-group/{identity}"


def _permission(rule: Values) -> dict[str, Any]:
    described = {"Description": rule["description"]} if rule.get("description") else {}
    made: dict[str, Any] = {"IpProtocol": str(rule["protocol"])}
    if made["IpProtocol"] != "-1":
        made |= {"FromPort": int(rule["fromPort"]), "ToPort": int(rule["toPort"])}
    made["IpRanges"] = [{"CidrIp": each, **described} for each in rule.get("cidrBlocks") or ()]
    made["Ipv6Ranges"] = [{"CidrIpv6": each, **described} for each in rule.get("ipv6CidrBlocks") or ()]
    made["UserIdGroupPairs"] = [{"GroupId": each, **described} for each in rule.get("securityGroups") or ()]
    return {key: value for key, value in made.items() if value}


def _rules(permissions: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One rule for each protocol, ports and description, as a program writes them."""
    found = []
    for each in permissions:
        open_ports = each["IpProtocol"] == "-1"
        base = {
            "protocol": each["IpProtocol"],
            "fromPort": 0 if open_ports else each.get("FromPort", 0),
            "toPort": 0 if open_ports else each.get("ToPort", 0),
        }
        by_text: dict[str, dict[str, list[str]]] = {}
        for key, inner, name in (
            ("IpRanges", "CidrIp", "cidrBlocks"),
            ("Ipv6Ranges", "CidrIpv6", "ipv6CidrBlocks"),
            ("UserIdGroupPairs", "GroupId", "securityGroups"),
        ):
            for item in each.get(key) or ():
                by_text.setdefault(item.get("Description") or "", {}).setdefault(name, []).append(item[inner])
        for description, ranges in by_text.items():
            found.append({**base, **ranges, **({"description": description} if description else {})})
    return found


def _rule_key(rule: Values) -> tuple[Any, ...]:
    ports = (0, 0) if str(rule["protocol"]) == "-1" else (int(rule["fromPort"]), int(rule["toPort"]))
    ranges = tuple(tuple(sorted(rule.get(key) or ())) for key in ("cidrBlocks", "ipv6CidrBlocks", "securityGroups"))
    return (str(rule["protocol"]), *ports, *ranges, rule.get("description") or "")


class Instance(Regional):
    token = "aws:ec2/instance:Instance"
    inputs = {
        "ami": text(replaces=True, computed=True),
        "instanceType": text(computed=True),
        "subnetId": text(replaces=True, computed=True),
        "availabilityZone": text(replaces=True, computed=True),
        "vpcSecurityGroupIds": several(computed=True),
        "associatePublicIpAddress": flag(replaces=True, computed=True),
        "primaryNetworkInterface": mapping(replaces=True, computed=True),
        "iamInstanceProfile": text(computed=True),
        "userData": text(),
        "userDataBase64": text(computed=True),
        "userDataReplaceOnChange": flag(default=False),
        "keyName": text(replaces=True, computed=True),
        # https://github.com/hashicorp/terraform-provider-aws/blob/main/internal/service/ec2/ec2_instance.go: ForceNew
        "placementGroup": text(replaces=True, computed=True),
        "metadataOptions": mapping(computed=True),
        "rootBlockDevice": mapping(computed=True),
        "ebsBlockDevices": several(computed=True, replaces=True),
        "disableApiTermination": flag(computed=True),
        "ebsOptimized": flag(computed=True),
        "monitoring": flag(computed=True),
        "creditSpecification": mapping(computed=True),
        "ipv6AddressCount": number(computed=True),
        "instanceInitiatedShutdownBehavior": text(computed=True, choices=("stop", "terminate")),
        "volumeTags": mapping(),
        **REGION,
        **TAGS,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        made = self.api.client("ec2").run_instances(**self._request(given))["Instances"][0]["InstanceId"]
        with keeping(made):
            found = _wait(self.api, made, "running")
            # The provider tags volumes by a separate call, once the instance runs.
            retag(self.api.client("ec2"), _root_volume(found), {}, (given.get("rootBlockDevice") or {}).get("tags"))
            for each in given.get("ebsBlockDevices") or ():
                retag(self.api.client("ec2"), _volume_at(found, each["deviceName"]), {}, each.get("tags"))
        return made, _instance_outputs(found, self.api.region)

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        found = _describe(self.api, identity)
        if found["State"]["Name"] in ("terminated", "shutting-down"):
            raise GoneError(identity)
        options = found.get("MetadataOptions") or {}
        profile = (found.get("IamInstanceProfile") or {}).get("Arn", "").rpartition("/")[2]
        given = state.get("metadataOptions") or {}
        names = {
            "httpEndpoint": "HttpEndpoint",
            "httpTokens": "HttpTokens",
            "httpPutResponseHopLimit": "HttpPutResponseHopLimit",
            "instanceMetadataTags": "InstanceMetadataTags",
        }
        now = {
            "ami": found["ImageId"],
            "instanceType": found["InstanceType"],
            "subnetId": found.get("SubnetId"),
            "vpcSecurityGroupIds": sorted(each["GroupId"] for each in found.get("SecurityGroups", ())),
            "iamInstanceProfile": profile or None,
            "metadataOptions": {
                key: options.get(api, given.get(key))
                for key, api in names.items()
                if key in given or not state.get("ami")
            },
            "keyName": found.get("KeyName"),
            "placementGroup": (found.get("Placement") or {}).get("GroupName") or None,
            "tags": from_tags(found.get("Tags")) or None,
        }
        # As the provider has it: whether the primary interface has an Association, so false for a stopped instance. A program
        # that gives it must ignore its changes.
        if "associatePublicIpAddress" in state or not state.get("ami"):
            now["associatePublicIpAddress"] = _has_association(found)
        if state.get("primaryNetworkInterface"):
            interfaces = found.get("NetworkInterfaces", ())
            first = next((each["NetworkInterfaceId"] for each in interfaces), None)
            now["primaryNetworkInterface"] = {"networkInterfaceId": first}
            now = {key: value for key, value in now.items() if key not in _OF_THE_INTERFACE}
        if state.get("ipv6AddressCount") is not None:
            now["ipv6AddressCount"] = len(_ipv6(found))
        if state.get("rootBlockDevice"):
            now["rootBlockDevice"] = self._volume(_root_volume(found), state["rootBlockDevice"])
        if state.get("ebsBlockDevices"):
            now["ebsBlockDevices"] = [
                self._volume(volume, each)
                for each in state["ebsBlockDevices"]
                if (volume := _volume_at(found, each["deviceName"]))
            ]
        if state.get("monitoring") is not None:
            now["monitoring"] = (found.get("Monitoring") or {}).get("State") in ("enabled", "pending")
        return _instance_outputs(found, self.api.region), {
            key: value for key, value in now.items() if value is not None or key == "tags"
        }

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        ec2 = self.api.client("ec2")
        changed = set(super().differences(old, new))
        before, after = (dict(each.get("rootBlockDevice") or {}) for each in (old, new))
        if "rootBlockDevice" in changed:
            retag(ec2, _root_volume(_describe(self.api, identity)), before.pop("tags", None), after.pop("tags", None))
            modified = {
                element: plain(after[key])
                for key, element in _ROOT_CHANGES.items()
                if after.get(key) is not None and plain(before.get(key)) != plain(after[key])
            }
            if modified:
                self._modify_root(identity, modified)
        if "monitoring" in changed:
            (ec2.monitor_instances if new.get("monitoring") else ec2.unmonitor_instances)(InstanceIds=[identity])
        if fixed := sorted(changed & set(_REPLACING)):
            raise PluginError(f"aws: the stand-in does not change {', '.join(fixed)} of an instance that exists")
        retag(ec2, identity, old.get("tags"), new.get("tags"))
        if "vpcSecurityGroupIds" in changed:
            ec2.modify_instance_attribute(InstanceId=identity, Groups=list(new["vpcSecurityGroupIds"]))
        if "metadataOptions" in changed:
            ec2.modify_instance_metadata_options(InstanceId=identity, **_metadata_options(new["metadataOptions"]))
        for key, element in _ATTRIBUTES.items():
            if key in changed:
                ec2.modify_instance_attribute(InstanceId=identity, **{element: {"Value": new[key]}})
        if "iamInstanceProfile" in changed:
            self._change_profile(identity, new["iamInstanceProfile"])
        if changed & {"instanceType", "userData", "userDataBase64"}:
            self._change_stopped(identity, new, changed)
        return {
            **_instance_outputs(_describe(self.api, identity), self.api.region),
            "tags": dict(new.get("tags") or {}),
        }

    def delete(self, identity: str, state: Values) -> None:
        with gone_on("InvalidInstanceID.NotFound"):
            self.api.client("ec2").terminate_instances(InstanceIds=[identity])
        _wait(self.api, identity, "terminated")

    def faults(self, given: Values) -> list[tuple[str, str]]:
        found = super().faults(given)
        if given.get("userData") is not None and given.get("userDataBase64") is not None:
            found.append(("userData", "userData and userDataBase64 exclude each other"))
        if given.get("primaryNetworkInterface") is not None:
            # ConflictsWith of primary_network_interface in internal/service/ec2/ec2_instance.go of the provider.
            wrong = [key for key in _OF_THE_INTERFACE if given.get(key) is not None]
            found += [(key, f"{key} and primaryNetworkInterface exclude each other") for key in wrong]
        return found

    def same(self, key: str, before: Any, after: Any) -> bool:
        if key in _COMPUTED_WITHIN and isinstance(before, Mapping) and isinstance(after, Mapping):
            return all(plain(before.get(option)) == plain(value) for option, value in after.items())
        if key == "ebsBlockDevices":
            return _by_device(before, after or ()) == _by_device(after, after or ())
        if key == "vpcSecurityGroupIds":
            # It is a set in the provider.
            return sorted(map(plain, before or ())) == sorted(map(plain, after or ()))
        return super().same(key, before, after)

    def differences(self, old: Values, new: Values) -> dict[str, str]:
        found = super().differences(old, new)
        before, after = (each.get("rootBlockDevice") or {} for each in (old, new))
        if "rootBlockDevice" in found and any(
            plain(before.get(key)) != plain(after[key]) for key in _ROOT_REPLACES if key in after
        ):
            found["rootBlockDevice"] = "update_replace"
        if new.get("userDataReplaceOnChange"):
            return {
                key: f"{how}_replace" if key.startswith("userData") and "_" not in how else how
                for key, how in found.items()
            }
        return found

    def _modify_root(self, identity: str, changes: dict[str, Any]) -> None:
        """Change the root volume, and wait until it is changed."""
        ec2, volume = self.api.client("ec2"), _root_volume(_describe(self.api, identity))
        ec2.modify_volume(VolumeId=volume, **changes)
        end = time.monotonic() + _PATIENCE
        while True:
            done = ec2.describe_volumes_modifications(VolumeIds=[volume])["VolumesModifications"]
            if all(each["ModificationState"] in ("optimizing", "completed") for each in done):
                return
            if time.monotonic() > end:
                raise PluginError(f"aws: {volume} is not changed after {_PATIENCE:.0f} s")
            time.sleep(_POLL)

    def _volume(self, identity: str, given: Values) -> dict[str, Any]:
        """Return the properties of a volume that the program gives."""
        volume = self.api.client("ec2").describe_volumes(VolumeIds=[identity])["Volumes"][0]
        here = {
            "encrypted": volume["Encrypted"],
            "volumeType": volume["VolumeType"],
            "volumeSize": volume["Size"],
            "iops": volume.get("Iops"),
            "throughput": volume.get("Throughput"),
            "kmsKeyId": volume.get("KmsKeyId"),
            "tags": from_tags(volume.get("Tags")) or None,
        }
        return {**given, **{key: value for key, value in here.items() if key in given}}

    def _change_profile(self, identity: str, wanted: str) -> None:
        ec2 = self.api.client("ec2")
        mine = [{"Name": "instance-id", "Values": [identity]}]
        found = ec2.describe_iam_instance_profile_associations(Filters=mine)["IamInstanceProfileAssociations"]
        associations = [each["AssociationId"] for each in found if each["State"] in ("associating", "associated")]
        if associations:
            ec2.replace_iam_instance_profile_association(
                AssociationId=associations[0], IamInstanceProfile={"Name": wanted}
            )
        else:
            ec2.associate_iam_instance_profile(InstanceId=identity, IamInstanceProfile={"Name": wanted})

    def _change_stopped(self, identity: str, new: Values, keys: Collection[str]) -> None:
        """A new type or userdata takes a stop and a start, as the real plugin does it."""
        ec2 = self.api.client("ec2")
        ec2.stop_instances(InstanceIds=[identity])
        _wait(self.api, identity, "stopped")
        if "instanceType" in keys:
            ec2.modify_instance_attribute(InstanceId=identity, InstanceType={"Value": new["instanceType"]})
        if "userDataBase64" in keys or "userData" in keys:
            ec2.modify_instance_attribute(InstanceId=identity, UserData={"Value": _user_data(new)})
        ec2.start_instances(InstanceIds=[identity])
        _wait(self.api, identity, "running")

    def _request(self, given: Values) -> dict[str, Any]:
        """Return the RunInstances request for an instance."""
        request: dict[str, Any] = {
            "MinCount": 1,
            "MaxCount": 1,
            "ImageId": given["ami"],
            "InstanceType": given.get("instanceType", "t3.micro"),
            "NetworkInterfaces": [_interface(given)],
        }
        request.update(_configuration(given))
        disks = [self._root_device(given)] if given.get("rootBlockDevice") else []
        disks += [{"DeviceName": each["deviceName"], "Ebs": _ebs(each)} for each in given.get("ebsBlockDevices") or ()]
        if disks:
            request["BlockDeviceMappings"] = disks
        for key, element in _ATTRIBUTES.items():
            if given.get(key) is not None:
                request[element] = given[key]
        if given.get("monitoring") is not None:
            request["Monitoring"] = {"Enabled": given["monitoring"]}
        if (given.get("creditSpecification") or {}).get("cpuCredits"):
            request["CreditSpecification"] = {"CpuCredits": given["creditSpecification"]["cpuCredits"]}
        tagged = [
            {"ResourceType": kind, "Tags": to_tags(given[key])}
            for kind, key in (("instance", "tags"), ("volume", "volumeTags"))
            if given.get(key)
        ]
        return {**request, "TagSpecifications": tagged} if tagged else request

    def _root_device(self, given: Values) -> dict[str, Any]:
        """Return the root volume, under the name that the image has for it."""
        images = self.api.client("ec2").describe_images(ImageIds=[given["ami"]])["Images"]
        root = images[0]["RootDeviceName"] if images else "/dev/xvda"
        return {"DeviceName": root, "Ebs": _ebs(given["rootBlockDevice"])}


def _ebs(disk: Values) -> dict[str, Any]:
    """Return a volume as a launch has it."""
    # As the schema of the provider has it.
    given = {"deleteOnTermination": True, **disk}
    return {element: plain(given[key]) for key, element in _EBS.items() if given.get(key) is not None}


def _by_device(disks: Iterable[Values] | None, wanted: Iterable[Values]) -> dict[str, dict[str, Any]]:
    """Return the volumes by their devices, with the properties that the program gives.

    Tags are left out: the provider sees no change of them (https://github.com/hashicorp/terraform-provider-aws/issues/19406).
    """
    given = {each["deviceName"]: {*each} - {"tags"} for each in wanted}
    return {
        each["deviceName"]: {
            key: plain(each.get(key)) for key in sorted(given.get(each["deviceName"], {*each} - {"tags"}))
        }
        for each in disks or ()
    }


def _configuration(given: Values) -> dict[str, Any]:
    """Return what an instance has from its cloud: role, user data, key pair, and how it is asked for metadata."""
    found: dict[str, Any] = {}
    if given.get("iamInstanceProfile"):
        found["IamInstanceProfile"] = {"Name": given["iamInstanceProfile"]}
    if given.get("userDataBase64") or given.get("userData"):
        found["UserData"] = _user_data(given)
    if given.get("keyName"):
        found["KeyName"] = given["keyName"]
    if given.get("placementGroup"):
        found["Placement"] = {"GroupName": given["placementGroup"]}
    if given.get("metadataOptions"):
        found["MetadataOptions"] = _metadata_options(given["metadataOptions"])
    return found


def _interface(given: Values) -> dict[str, Any]:
    """Return the primary network interface of an instance."""
    if existing := given.get("primaryNetworkInterface"):
        return {"DeviceIndex": 0, "NetworkInterfaceId": existing["networkInterfaceId"]}
    interface: dict[str, Any] = {"DeviceIndex": 0}
    if given.get("subnetId"):
        interface["SubnetId"] = given["subnetId"]
    if given.get("vpcSecurityGroupIds"):
        interface["Groups"] = list(given["vpcSecurityGroupIds"])
    if given.get("ipv6AddressCount"):
        interface["Ipv6AddressCount"] = int(given["ipv6AddressCount"])
    if given.get("associatePublicIpAddress") is not None:
        interface["AssociatePublicIpAddress"] = given["associatePublicIpAddress"]
    return interface


class PlacementGroup(Regional):
    """Checked as in internal/service/ec2/ec2_placement_group.go of terraform-provider-aws, where the id is the name."""

    token = "aws:ec2/placementGroup:PlacementGroup"
    named = "name"
    inputs = {
        "name": text(replaces=True),
        "strategy": text(required=True, replaces=True, choices=("cluster", "spread", "partition")),
        "partitionCount": number(replaces=True, computed=True),
        "spreadLevel": text(replaces=True, computed=True, choices=("host", "rack")),
        **REGION,
        **TAGS,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        request: dict[str, Any] = {"GroupName": given["name"], "Strategy": given["strategy"]}
        if given.get("partitionCount"):
            request["PartitionCount"] = int(given["partitionCount"])
        if given.get("spreadLevel"):
            request["SpreadLevel"] = given["spreadLevel"]
        if given.get("tags"):
            request["TagSpecifications"] = [{"ResourceType": "placement-group", "Tags": to_tags(given["tags"])}]
        self.api.client("ec2").create_placement_group(**request)
        return given["name"], self.read(given["name"], given)[0]

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        with gone_on("InvalidPlacementGroup.Unknown"):
            found = self.api.client("ec2").describe_placement_groups(GroupNames=[identity])["PlacementGroups"][0]
        tags = from_tags(found.get("Tags"))
        now = {
            "name": found["GroupName"],
            "strategy": found["Strategy"],
            **({"partitionCount": found["PartitionCount"]} if state.get("partitionCount") else {}),
            **({"spreadLevel": found["SpreadLevel"]} if state.get("spreadLevel") else {}),
            "tags": tags or None,
        }
        return {"arn": found["GroupArn"], "placementGroupId": found["GroupId"], "tagsAll": tags}, now

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        outputs = self.read(identity, new)[0]
        retag(self.api.client("ec2"), outputs["placementGroupId"], old.get("tags"), new.get("tags"))
        return {**outputs, "tagsAll": dict(new.get("tags") or {})}

    def delete(self, identity: str, state: Values) -> None:
        with gone_on("InvalidPlacementGroup.Unknown"):
            self.api.client("ec2").delete_placement_group(GroupName=identity)

    def faults(self, given: Values) -> list[tuple[str, str]]:
        found, strategy = super().faults(given), given.get("strategy")
        for key, only in (("partitionCount", "partition"), ("spreadLevel", "spread")):
            if given.get(key) and strategy != only:
                found.append((key, f"{key} must not be set when strategy is {strategy}"))
        return found


class InstanceState(Regional):
    """Whether an instance runs. Deleting this resource does not change the instance."""

    token = "aws:ec2transitgateway/instanceState:InstanceState"
    inputs = {
        "instanceId": text(required=True, replaces=True),
        "state": text(required=True, choices=("running", "stopped")),
        "force": flag(default=False),
        **REGION,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        self.update(given["instanceId"], {}, given)
        return given["instanceId"], {}

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        found = _describe(self.api, identity)["State"]["Name"]
        if found in ("terminated", "shutting-down"):
            raise GoneError(identity)
        return {}, {"instanceId": identity, "state": found, "force": bool(state.get("force"))}

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        ec2 = self.api.client("ec2")
        if _wait(self.api, identity, "running", "stopped")["State"]["Name"] != new["state"]:
            if new["state"] == "stopped":
                ec2.stop_instances(InstanceIds=[identity], Force=bool(new.get("force")))
            else:
                ec2.start_instances(InstanceIds=[identity])
            _wait(self.api, identity, new["state"])
        return {}

    def delete(self, identity: str, state: Values) -> None:
        """Do nothing: the instance stays as it is."""


def _describe(api: Any, identity: str) -> Mapping[str, Any]:
    with gone_on("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"):
        reservations = api.client("ec2").describe_instances(InstanceIds=[identity])["Reservations"]
    found: list[Mapping[str, Any]] = [
        {**each, "OwnerId": reservation.get("OwnerId", "")}
        for reservation in reservations
        for each in reservation["Instances"]
    ]
    if not found:
        raise GoneError(identity)
    return found[0]


def _wait(api: Any, identity: str, *states: str) -> Mapping[str, Any]:
    """Wait until the instance is in one of `states`, and return it. Raises PluginError as soon as it cannot reach any of them."""
    wanted, end = " or ".join(states), time.monotonic() + _PATIENCE
    while True:
        try:
            found = _describe(api, identity)
        except GoneError:
            if "terminated" in states:
                return {}
            raise PluginError(f"aws: {identity} is gone while it was expected to be {wanted}") from None
        name = found["State"]["Name"]
        if name in states:
            return found
        ended = name in ("terminated", "shutting-down") or (name == "stopped" and "running" in states)
        if ended and "terminated" not in states:
            reason = (found.get("StateReason") or {}).get("Message", "no reason given")
            raise PluginError(f"aws: {identity} is {name} instead of {wanted}: {reason}")
        if time.monotonic() > end:
            raise PluginError(f"aws: {identity} is {name}, not {wanted}, after {_PATIENCE:.0f} s")
        time.sleep(_POLL)


def _root_volume(found: Mapping[str, Any]) -> str:
    """The id of an instance's root volume."""
    disks = found.get("BlockDeviceMappings", ())
    return next(str(each["Ebs"]["VolumeId"]) for each in disks if each["DeviceName"] == found["RootDeviceName"])


def _volume_at(found: Mapping[str, Any], device: str) -> str:
    """Return the id of an instance's volume with this device; empty if there is none."""
    disks = found.get("BlockDeviceMappings", ())
    return next((str(each["Ebs"]["VolumeId"]) for each in disks if each["DeviceName"] == device), "")


def _user_data(given: Values) -> bytes:
    """Return the user data without Base64, because boto3 encodes it."""
    return base64.b64decode(given["userDataBase64"]) if given.get("userDataBase64") else str(given["userData"]).encode()


def _metadata_options(given: Values) -> dict[str, Any]:
    names = {
        "httpEndpoint": "HttpEndpoint",
        "httpTokens": "HttpTokens",
        "httpPutResponseHopLimit": "HttpPutResponseHopLimit",
        "instanceMetadataTags": "InstanceMetadataTags",
    }
    return {names[key]: plain(value) for key, value in given.items() if key in names}


def _instance_outputs(found: Mapping[str, Any], region: str) -> dict[str, Any]:
    tags = from_tags(found.get("Tags"))
    return {
        "arn": f"arn:aws:ec2:{region}:{found['OwnerId']}:instance/{found['InstanceId']}",
        "availabilityZone": (found.get("Placement") or {}).get("AvailabilityZone"),
        "instanceState": found["State"]["Name"],
        "publicIp": found.get("PublicIpAddress") or "",
        "publicDns": found.get("PublicDnsName") or "",
        "privateIp": found.get("PrivateIpAddress") or "",
        "ipv6Addresses": _ipv6(found),
        "privateDns": found.get("PrivateDnsName") or "",
        "primaryNetworkInterfaceId": next(
            (each["NetworkInterfaceId"] for each in found.get("NetworkInterfaces", ())), ""
        ),
        "tagsAll": tags,
    }


def _has_association(found: Mapping[str, Any]) -> bool:
    interfaces = found.get("NetworkInterfaces", ())
    return any("Association" in each for each in interfaces if each["Attachment"]["DeviceIndex"] == 0)


def _ipv6(found: Mapping[str, Any]) -> list[str]:
    """The addresses of the first interface."""
    return [
        each["Ipv6Address"] for nic in found.get("NetworkInterfaces", ())[:1] for each in nic.get("Ipv6Addresses", ())
    ]


TYPES = (SecurityGroup, Instance, PlacementGroup, InstanceState)
