"""Refuse images from which EC2 would not start a fleet's machines.

Such an image does not exist, or is for other processors than those of the instance type.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImages.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from components.aws import api_errors
from components.config.machine_checks import volume_faults
from components.config.models import FleetSettings, ec2_parameter

_NO_SUCH_IMAGE = ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidAMIID.Malformed")


def faults(
    fleets: Sequence[FleetSettings],
    region: str,
    architectures: Mapping[str, Sequence[str]],
    client: Callable[[str], Any],
) -> list[str]:
    """Return what is wrong with the images of fleets that create machines.

    `architectures` are those of each type. Raises what clients raise.
    """
    found = []
    for fleet in fleets:
        key = f"rollcall:fleets.{fleet.name}.image"
        try:
            image = _image(fleet, client)
        except LookupError as missing:
            found.append(
                f"{key}: {missing.args[0]} in {region}. Choose one that `make catalogue` lists, or give an ami-…."
            )
            continue
        kinds, own = architectures.get(fleet.size, ()), str(image.get("Architecture"))
        if image.get("State", "available") != "available":
            found.append(
                f"{key}: EC2's image {image['ImageId']} is {image['State']} in {region}. Name one that is available."
            )
        elif kinds and own not in kinds:
            found.append(
                f"{key}: the image {image['ImageId']} is for {own}, and a {fleet.size} has {', '.join(kinds)}. Name another image or size."
            )
        elif image.get("RootDeviceType", "ebs") != "ebs":
            found.append(f"{key}: the image {image['ImageId']} has no EBS root volume. Name one that has.")
        else:
            found += _disk_faults(fleet, image)
    return found


def _disk_faults(fleet: FleetSettings, image: Mapping[str, Any]) -> Iterator[str]:
    """Yield why the root volume would not fit the image. Where no size is configured, it is that of the image.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EbsBlockDevice.html
    """
    key, root = f"rollcall:fleets.{fleet.name}.disk", image.get("RootDeviceName")
    disks = (each for each in image.get("BlockDeviceMappings", ()) if each.get("DeviceName") == root)
    least = next((int(each["Ebs"]["VolumeSize"]) for each in disks if "VolumeSize" in each.get("Ebs", {})), None)
    if least is None:
        return
    size = fleet.disk.size
    if size is not None and size < least:
        yield f"{key}.size: {size} GiB is less than the {least} GiB of the image {image['ImageId']}. Set {least} or more."
    elif size is None:
        for name, problem, fix in volume_faults(fleet.disk, least, fleet.region):
            yield f"{key}.{name}: {problem}, the size of the image {image['ImageId']}. {fix}."


def _image(fleet: FleetSettings, client: Callable[[str], Any]) -> Mapping[str, Any]:
    """Return what EC2 says of the configured image. Raises LookupError with what does not exist."""
    from botocore.exceptions import ClientError

    ami = fleet.image
    if not ami.startswith("ami-"):
        name = ec2_parameter(ami, fleet.architecture)
        try:
            ami = str(client("ssm").get_parameter(Name=name)["Parameter"]["Value"])
        except ClientError as refused:
            if api_errors.code_of(refused) != "ParameterNotFound":
                raise
            raise LookupError(f"SSM has no parameter {name}") from refused
    try:
        listed = client("ec2").describe_images(ImageIds=[ami])["Images"]
    except ClientError as refused:
        if api_errors.code_of(refused) not in _NO_SUCH_IMAGE:
            raise
        listed = []
    if not listed:
        raise LookupError(f"EC2 has no image {ami} that this account may use")
    found: Mapping[str, Any] = listed[0]
    return found
