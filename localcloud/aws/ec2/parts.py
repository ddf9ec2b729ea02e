"""What EC2 does not delete or take apart while something needs it, and moto does.

The codes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from localcloud.aws.operations import not_emulated
from localcloud.aws.wire import AwsError, Call


def volume_of(call: Call, store: Any) -> list[tuple[str, str]]:
    """The fields of a DetachVolume: the instance and the device, which a client may leave out and moto asks for."""
    volume = store.volumes.get(call.get("VolumeId"))
    if volume is None:
        return list(call.form)
    attachment = volume.attachment
    if attachment is None:
        raise AwsError("IncorrectState", f"Volume '{volume.id}' is in the 'available' state.")
    if attachment.device == attachment.instance.root_device_name:
        if attachment.instance._state.name != "stopped":
            # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DetachVolume.html
            message = f"Unable to detach root volume '{volume.id}' from instance '{attachment.instance.id}'"
            raise AwsError("OperationNotPermitted", message)
        raise not_emulated(call, "a machine keeps its root volume")
    kept = [pair for pair in call.form if pair[0] not in ("InstanceId", "Device")]
    return [*kept, ("InstanceId", attachment.instance.id), ("Device", attachment.device)]


def _group(call: Call, store: Any) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSecurityGroup.html ; moto forgets the machines that are
    shutting down, and the default group, without which nothing is launched."""
    identity, name = call.get("GroupId"), call.get("GroupName")
    if not identity and not name:
        raise AwsError("MissingParameter", "The request must contain the parameter groupName or groupId")
    default = next((each.id for each in store.vpcs.values() if each.is_default), None)
    groups = [each for groups in store.groups.values() for each in groups.values()]
    for group in groups:
        if group.id != identity and (identity or group.name != name or group.vpc_id != default):
            continue
        if group.name == "default":
            message = f'the specified group: "{group.id}" name: "default" cannot be deleted by a user'
            raise AwsError("CannotDelete", message)
        if any(each.id == group.id for interface in store.enis.values() for each in interface.group_set):
            raise AwsError("DependencyViolation", f"resource {group.id} has a dependent object")


def _subnet(call: Call, store: Any) -> None:
    subnet = call.get("SubnetId")
    if any(each.subnet.id == subnet for each in store.enis.values()):
        raise AwsError("DependencyViolation", f"The subnet '{subnet}' has dependencies and cannot be deleted.")


def check_interface(call: Call, store: Any) -> None:
    interface = store.enis.get(call.get("NetworkInterfaceId"))
    if interface is not None and interface.instance is not None:
        raise AwsError("InvalidParameterValue", f"Network interface '{interface.id}' is currently in use.")


def _attachment(call: Call, store: Any) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/network-interface-attachments.html"""
    wanted = call.get("AttachmentId")
    if any(each.attachment_id == wanted and each.device_index == 0 for each in store.enis.values()):
        raise AwsError("OperationNotPermitted", "The network interface at device index 0 cannot be detached.")


def _image(call: Call, _store: Any) -> None:
    """Refuse to remove an image, because all images belong to other accounts. moto would allow it."""
    raise AwsError("AuthFailure", f"Not authorized for image:{call.get('ImageId')}", 403)


CHECKS: dict[str, Callable[[Call, Any], None]] = {
    "DeleteSecurityGroup": _group,
    "DeleteSubnet": _subnet,
    "DetachNetworkInterface": _attachment,
    "DeregisterImage": _image,
    "ModifyImageAttribute": _image,
    "ResetImageAttribute": _image,
}
"""The functions, by action, that raise AwsError if a part that is in use would be removed. They get a request and moto's EC2 backend."""
