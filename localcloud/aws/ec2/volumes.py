"""EBS volumes: what EC2 refuses of them at a launch and at a change, and moto does not.

https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html , provisioned-iops.html , hdd-vols.html
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EbsBlockDevice.html , API_ModifyVolume.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localcloud.aws.wire import AwsError, Call

# The size of every image of the catalogue.
ROOT_GIB = 8
_DEVICE = re.compile(r"(?:/dev/)?(?:sd[a-z]|xvd[a-z]{1,2}|xvda|sda1)")
_BASE_IOPS, _BASE_THROUGHPUT = 3000, 125
# Modifications of a volume in 24 hours: https://docs.aws.amazon.com/ebs/latest/userguide/modify-volume-requirements.html
MOST_MODIFICATIONS = 4


@dataclass(frozen=True, kw_only=True)
class _Type:
    size: tuple[int, int]
    iops: tuple[int, int] | None = None
    per_gib: int = 0
    throughput: tuple[int, int] | None = None
    boots: bool = True


_TYPES = {
    "gp3": _Type(size=(1, 65536), iops=(3000, 80000), per_gib=500, throughput=(125, 2000)),
    "gp2": _Type(size=(1, 16384)),
    "io2": _Type(size=(4, 65536), iops=(100, 256000), per_gib=1000),
    "io1": _Type(size=(4, 16384), iops=(100, 64000), per_gib=50),
    "st1": _Type(size=(125, 16384), boots=False),
    "sc1": _Type(size=(125, 16384), boots=False),
    "standard": _Type(size=(1, 1024)),
}


def check_mappings(call: Call, root_device: str) -> None:
    """Raises AwsError for a volume of a launch that EC2 would refuse."""
    names = set[str]()
    for each in call.groups("BlockDeviceMapping").values():
        name = each.get("DeviceName", "")
        if not _DEVICE.fullmatch(name) or name in names:
            raise AwsError("InvalidBlockDeviceMapping", f"Invalid device name {name}")
        names.add(name)
        is_root = name == root_device
        if not is_root and "Ebs.VolumeSize" not in each and "Ebs.SnapshotId" not in each:
            raise AwsError(
                "MissingParameter",
                "The request must contain the parameter size or snapshotId",
            )
        size = int(each.get("Ebs.VolumeSize", ROOT_GIB))
        if is_root and size < ROOT_GIB:
            raise AwsError(
                "InvalidBlockDeviceMapping",
                f"Volume of size {size}GB is smaller than snapshot, expect size >= {ROOT_GIB}GB",
            )
        check(_given(each, "Ebs."), size, boots=is_root)
        if each.get("Ebs.KmsKeyId") and each.get("Ebs.Encrypted") != "true":
            raise AwsError(
                "InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set."
            )


def check_change(call: Call, volume: Any) -> None:
    """Raises AwsError for a change of a volume that EC2 would refuse."""
    size = int(call.get("Size") or volume.size)
    if size < volume.size:
        raise AwsError("InvalidParameterValue", "New size cannot be smaller than existing size")
    if len(volume.modifications) >= MOST_MODIFICATIONS:
        raise AwsError(
            "VolumeModificationRateExceeded",
            "You've reached the maximum modification rate per volume limit. Wait before you modify it again.",
        )
    kind = call.get("VolumeType") or volume.volume_type
    given = {"VolumeType": kind}
    same = kind == volume.volume_type
    for name, present in (("Iops", volume.iops), ("Throughput", volume.throughput)):
        value = call.get(name) or (present if same else None)
        if value is not None:
            given[name] = str(value)
    check(given, size, boots=False, any_type=True)


def check(given: Mapping[str, str], size: int, *, boots: bool, any_type: bool = False) -> None:
    """Raises AwsError unless a volume of `size` GiB may be so. `boots`: it is a root volume."""
    name = given.get("VolumeType", "gp3")
    kind = _TYPES.get(name)
    if kind is None or (boots and not kind.boots and not any_type):
        raise AwsError("InvalidParameterValue", f"Invalid volume type: {name}")
    least, most = kind.size
    if not least <= size <= most:
        raise AwsError(
            "InvalidParameterValue", f"Volume of {size}GiB is not in the range of {name}: {least} to {most} GiB"
        )
    iops = int(given["Iops"]) if "Iops" in given else None
    if kind.iops is None and iops is not None:
        raise AwsError("InvalidParameterCombination", f"The parameter iops is not supported for {name} volumes.")
    if kind.iops is not None:
        _check_iops(kind, name, size, iops)
    throughput = int(given["Throughput"]) if "Throughput" in given else None
    if throughput is not None and kind.throughput is None:
        raise AwsError("InvalidParameterCombination", f"The parameter throughput is not supported for {name} volumes.")
    if throughput is not None and kind.throughput is not None:
        low, high = kind.throughput
        if not low <= throughput <= high:
            raise AwsError("InvalidParameterValue", f"Volume throughput of {throughput} is not in {low} to {high}")
        if throughput * 4 > (iops or _BASE_IOPS):
            raise AwsError(
                "InvalidParameterValue",
                f"Throughput (MiBps) to iops ratio of {throughput} is too high; maximum is 0.25",
            )


def _check_iops(kind: _Type, name: str, size: int, iops: int | None) -> None:
    if iops is None:
        if name != "gp3":
            raise AwsError("MissingParameter", f"The parameter iops must be specified for {name} volumes.")
        return
    assert kind.iops is not None
    least, most = kind.iops
    if not least <= iops <= most:
        raise AwsError("InvalidParameterValue", f"Volume iops of {iops} is not in {least} to {most}")
    if iops > max(size * kind.per_gib, _BASE_IOPS if name == "gp3" else 0):
        raise AwsError(
            "InvalidParameterValue",
            f"Iops to volume size ratio of {iops / size:.1f} is too high; maximum is {kind.per_gib}",
        )


def shaped(given: Mapping[str, Any]) -> dict[str, int]:
    """Return the IOPS and throughput of a volume with these parameters of an `Ebs`."""
    found = {}
    name = given.get("VolumeType") or "gp3"
    if given.get("Iops"):
        found["iops"] = int(given["Iops"])
    elif name == "gp3":
        found["iops"] = _BASE_IOPS
    if name == "gp3":
        found["throughput"] = int(given.get("Throughput") or _BASE_THROUGHPUT)
    return found


def settle(call: Call, volume: Any) -> None:
    """Give a volume that has changed what its type has, and nothing that only its former type had."""
    given = {"VolumeType": volume.volume_type, "Iops": volume.iops, "Throughput": volume.throughput}
    if call.get("VolumeType"):
        given |= {"Iops": call.get("Iops"), "Throughput": call.get("Throughput")}
    found = shaped(given)
    volume.iops, volume.throughput = found.get("iops"), found.get("throughput")


def _given(mapping: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {key[len(prefix) :]: value for key, value in mapping.items() if key.startswith(prefix)}
