"""RunInstances: checked whole, in EC2's own codes, before moto makes anything."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from localcloud.aws.catalogue import image_of
from localcloud.aws.ec2 import interfaces, ipv6, volumes
from localcloud.aws.ec2.tags import check_specifications
from localcloud.aws.operations import not_emulated
from localcloud.aws.wire import AwsError, Call

LONGEST_USER_DATA = 16384
_OPTIONS = {
    "HttpTokens": ("optional", "required"),
    "HttpEndpoint": ("enabled", "disabled"),
    "InstanceMetadataTags": ("enabled", "disabled"),
    "HttpProtocolIpv6": ("enabled", "disabled"),
}
Fields = list[tuple[str, str]]


def prepare(
    call: Call,
    store: Any,
    iam: Any,
    *,
    vcpus_left: int,
    vcpu_limit: int,
    addresses_left: int,
    quota: Callable[[str], float],
) -> Fields:
    """The fields to give to moto: the count that can be had, a subnet, the root device. Raises AwsError."""
    if any(key.startswith("LaunchTemplate.") for key, _ in call.form):
        raise not_emulated(call, "it reads no launch templates at a launch")
    if any(key.startswith("CapacityReservationSpecification.CapacityReservationTarget") for key, _ in call.form):
        raise not_emulated(call, "instances run in no reservation")
    if set(call.groups("NetworkInterface")) - {1}:
        raise not_emulated(call, "a machine has one interface")
    least, most = _count(call, "MinCount"), _count(call, "MaxCount")
    if most < least:
        raise AwsError("InvalidParameterValue", f"The maximum count {most} is smaller than the minimum count {least}")
    image = _image(call, store)
    kind = _instance_type(call, store, image.architecture)
    existing = _interface(call, store)
    subnet = subnet_of(call, store)
    ipv6.check_count(call, subnet)
    interfaces.check_groups(store, _groups(call), subnet, quota)
    _check_key(call, store)
    _check_profile(call, iam)
    check_user_data(call.get("UserData"))
    check_metadata_options(call, "MetadataOptions.")
    check_specifications(call)
    volumes.check_mappings(call, image.root_device)
    each = int(kind["VCpuInfo"]["DefaultVCpus"])
    possible = min(most, vcpus_left // each)
    if possible < least:
        raise AwsError(
            "VcpuLimitExceeded",
            f"You have requested more vCPU capacity than your current vCPU limit of {vcpu_limit} allows for the instance "
            "bucket that the specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request "
            "to request an adjustment to this limit.",
        )
    possible = min(possible, addresses_left)
    if possible < least:
        raise AwsError("InsufficientAddressCapacity", "Not enough available addresses to satisfy your request.")
    if existing is None:
        interfaces.check_room(subnet, least)
        possible = min(possible, subnet.available_ip_address_count)
    default_group = next(group.id for group in store.groups[subnet.vpc_id].values() if group.name == "default")
    return _rewritten(call, possible, subnet, image.root_device, default_group)


def check_user_data(text: str | None) -> None:
    """Raises AwsError unless it is base64 of at most 16,384 bytes."""
    if not text:
        return
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as invalid:
        raise AwsError("InvalidParameterValue", "Invalid BASE64 encoding of user data") from invalid
    if len(decoded) > LONGEST_USER_DATA:
        raise AwsError("InvalidParameterValue", f"User data is limited to {LONGEST_USER_DATA} bytes")


def check_metadata_options(call: Call, prefix: str) -> None:
    for name, allowed in _OPTIONS.items():
        value = call.get(f"{prefix}{name}")
        if value is not None and value not in allowed:
            raise AwsError("InvalidParameterValue", f"The value '{value}' of {name} is not one of {', '.join(allowed)}")
    hops = call.get(f"{prefix}HttpPutResponseHopLimit")
    if hops is not None and not (hops.isdecimal() and 1 <= int(hops) <= 64):
        raise AwsError("InvalidParameterValue", f"HttpPutResponseHopLimit must be from 1 to 64, not '{hops}'")


def _count(call: Call, name: str) -> int:
    text = call.get(name)
    if text is None:
        raise AwsError("MissingParameter", f"The request must contain the parameter {name}")
    if not text.isdecimal() or int(text) < 1:
        raise AwsError("InvalidParameterValue", f"Value ({text}) for parameter {name} is invalid.")
    return int(text)


def _image(call: Call, store: Any) -> Any:
    ami = call.get("ImageId")
    if not ami:
        raise AwsError("MissingParameter", "The request must contain the parameter ImageId")
    if not ami.startswith("ami-"):
        raise AwsError("InvalidAMIID.Malformed", f'Invalid id: "{ami}" (expecting "ami-...")')
    image = image_of(ami, store.region_name)
    if image is None:
        raise AwsError("InvalidAMIID.NotFound", f"The image id '[{ami}]' does not exist")
    return image


def _instance_type(call: Call, store: Any, architecture: str) -> Any:
    wanted = call.get("InstanceType") or "m1.small"
    found = next((each for each in store.instance_types if each["InstanceType"] == wanted), None)
    if found is None:
        raise AwsError("InvalidParameterValue", f"Invalid value '{wanted}' for InstanceType.")
    architectures = found["ProcessorInfo"]["SupportedArchitectures"]
    if architecture not in architectures:
        raise AwsError(
            "InvalidParameterValue",
            f"The architecture '{','.join(architectures)}' of the specified instance type does not match the architecture "
            f"'{architecture}' of the specified AMI. Specify an instance type and an AMI that have matching architectures, and try "
            "again. You can use 'describe-instance-types' or 'describe-images' to discover the architecture of the "
            "instance type or AMI.",
        )
    return found


def subnet_of(call: Call, store: Any) -> Any:
    """Return the subnet of a launch. Raises AwsError."""
    interface = call.groups("NetworkInterface").get(1, {})
    if identity := interface.get("NetworkInterfaceId"):
        return interfaces.interface_of(store, identity).subnet
    wanted = call.get("SubnetId") or interface.get("SubnetId")
    subnets = {each.id: each for zone in store.subnets.values() for each in zone.values()}
    if wanted:
        if wanted not in subnets:
            raise AwsError("InvalidSubnetID.NotFound", f"The subnet ID '{wanted}' does not exist")
        return subnets[wanted]
    zone = call.get("Placement.AvailabilityZone")
    defaults = sorted(
        (each for each in subnets.values() if each.default_for_az), key=lambda each: str(each.availability_zone)
    )
    if not any(each.is_default for each in store.vpcs.values()):
        raise AwsError(
            "VPCIdNotSpecified",
            "No default VPC for this user. GroupName is only supported for EC2-Classic and default VPC.",
        )
    if not defaults:
        raise AwsError("MissingInput", "No subnets found for the default VPC. Please specify a subnet.")
    if zone is None:
        return defaults[0]
    fitting = [each for each in defaults if each.availability_zone == zone]
    if not fitting:
        raise AwsError("InvalidParameterValue", f"Invalid availability zone: [{zone}]")
    return fitting[0]


def _groups(call: Call) -> list[str]:
    interface = call.groups("NetworkInterface").get(1, {})
    within = [value for key, value in interface.items() if key.startswith("SecurityGroupId.")]
    return [*call.members("SecurityGroupId"), *within]


def _interface(call: Call, store: Any) -> Any | None:
    """Return the existing network interface that the launch names; None without one. Raises AwsError.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceNetworkInterfaceSpecification.html
    """
    given = call.groups("NetworkInterface").get(1, {})
    identity = given.get("NetworkInterfaceId")
    if not identity:
        return None
    found = interfaces.interface_of(store, identity)
    if found.instance is not None:
        raise AwsError("InvalidNetworkInterface.InUse", f"Interface: [{identity}] in use.")
    for what, names in (("subnet ID", ("SubnetId",)), ("security groups", ("SecurityGroupId", "SecurityGroup"))):
        if any(key.partition(".")[0] in names for key, _ in call.form):
            raise AwsError(
                "InvalidParameterCombination",
                f"Network interfaces and an instance-level {what} may not be specified on the same request",
            )
    fixed = ("SubnetId", "SecurityGroupId", "AssociatePublicIpAddress", "PrivateIpAddress", "Ipv6AddressCount")
    for key in given:
        if key.partition(".")[0] in fixed:
            raise AwsError(
                "InvalidParameterCombination",
                f"The parameter {key.partition('.')[0]} may not be specified with an existing network interface ({identity})",
            )
    if _count(call, "MaxCount") > 1:
        message = "The network interface of a request for several instances may not be an existing one"
        raise AwsError("InvalidParameterCombination", message)
    return found


def _check_key(call: Call, store: Any) -> None:
    name = call.get("KeyName")
    if name and name not in store.key_pairs:
        raise AwsError("InvalidKeyPair.NotFound", f"The key pair '{name}' does not exist")


def _check_profile(call: Call, iam: Any) -> None:
    profiles = list(iam.instance_profiles.values())
    for field, attribute in (("Name", "name"), ("Arn", "arn")):
        wanted = call.get(f"IamInstanceProfile.{field}")
        if wanted and not any(getattr(each, attribute) == wanted for each in profiles):
            raise AwsError(
                "InvalidParameterValue",
                f"Value ({wanted}) for parameter iamInstanceProfile.{field.lower()} is invalid. "
                f"Invalid IAM Instance Profile {'name' if field == 'Name' else 'ARN'}",
            )


def _rewritten(call: Call, count: int, subnet: Any, root_device: str, default_group: str) -> Fields:
    skipped = ("MinCount", "MaxCount", "BlockDeviceMapping.")
    # moto ignores the groups of an interface, but accepts those of the launch.
    inner = "NetworkInterface.1.SecurityGroupId."
    fields = [
        (f"SecurityGroupId.{key[len(inner) :]}" if key.startswith(inner) else key, value)
        for key, value in call.form
        # moto does not choose the IPv6 address.
        if not key.startswith(skipped) and not key.endswith("Ipv6AddressCount")
    ]
    given = {key for key, _ in fields}
    for key in list(given):
        # A tag without a value is one with an empty value, which moto does not know.
        if key.startswith("TagSpecification.") and key.endswith(".Key") and f"{key[:-3]}Value" not in given:
            fields.append((f"{key[:-3]}Value", ""))
    fields += [("MinCount", str(count)), ("MaxCount", str(count))]
    is_existing = bool(call.groups("NetworkInterface").get(1, {}).get("NetworkInterfaceId"))
    if is_existing:
        # moto finds the zone by it.
        fields.append(("NetworkInterface.1.SubnetId", subnet.id))
    if not call.get("SubnetId") and not call.groups("NetworkInterface"):
        fields.append(("SubnetId", subnet.id))
    if not any(key.startswith(("SecurityGroup", "NetworkInterface.")) for key, _ in call.form):
        fields.append(("SecurityGroupId.1", default_group))
    mappings = call.groups("BlockDeviceMapping")
    if not any(each.get("DeviceName") == root_device for each in mappings.values()):
        mappings[max(mappings, default=0) + 1] = {"DeviceName": root_device}
    for number, mapping in mappings.items():
        whole = {"Ebs.VolumeType": "gp3", "Ebs.DeleteOnTermination": "true", **mapping}
        if whole["DeviceName"] == root_device and "Ebs.VolumeSize" not in mapping:
            # The size of the image's snapshot, which moto would ask for.
            whole["Ebs.VolumeSize"] = str(volumes.ROOT_GIB)
        fields += [(f"BlockDeviceMapping.{number}.{key}", value) for key, value in whole.items()]
    return fields
