"""ModifyInstanceAttribute. moto takes a change that it does not know for a removal of all security groups."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from localcloud.aws.ec2.interfaces import check_groups
from localcloud.aws.ec2.launch import check_user_data
from localcloud.aws.wire import AwsError, Call

# Attribute -> moto's field. The API gives the value as `Attribute` and `Value`, or as `NAME.Value` with a capital.
_STOPPED_ONLY = {"instanceType": "instance_type", "userData": "user_data", "ebsOptimized": "ebs_optimized"}
_ANY_TIME = {
    "disableApiTermination": "disable_api_termination",
    "disableApiStop": "disable_api_stop",
    "instanceInitiatedShutdownBehavior": "instance_initiated_shutdown_behavior",
    "sourceDestCheck": "source_dest_check",
}
_FIELDS = {**_STOPPED_ONLY, **_ANY_TIME}


def modify(call: Call, store: Any, state: str, quota: Callable[[str], float]) -> bool:
    """Change the instance as the request says. Return False if it is about volumes, which moto changes. Raises AwsError."""
    instance = store.get_instance(call.get("InstanceId"))
    groups = call.members("GroupId")
    changes = _changes(call)
    if groups:
        _set_groups(instance, store, groups, quota)
        return True
    if call.groups("BlockDeviceMapping"):
        return False
    if len(changes) != 1:
        raise AwsError("InvalidParameterCombination", "Exactly one attribute that can be modified must be given")
    name, text = next(iter(changes.items()))
    if name in _STOPPED_ONLY and state != "stopped":
        raise AwsError("IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'stopped' state.")
    store.modify_instance_attribute(instance.id, _FIELDS[name], _CHECKS[name](text, store))
    return True


def _changes(call: Call) -> dict[str, str]:
    found = {name: value for name in _FIELDS if (value := call.get(f"{name[0].upper()}{name[1:]}.Value")) is not None}
    attribute = call.get("Attribute")
    if attribute in _FIELDS:
        found[attribute] = call.get("Value") or ""
    elif attribute is not None:
        raise AwsError(
            "InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid. Unknown attribute."
        )
    return found


def _set_groups(instance: Any, store: Any, wanted: list[str], quota: Callable[[str], float]) -> None:
    check_groups(store, wanted, instance.nics[0].subnet, quota)
    instance.security_groups = [store.get_security_group_from_id(each) for each in wanted]
    # The interface contains groups too. A group that is in neither can be deleted.
    instance.nics[0]._group_set = list(instance.security_groups)


def _flag(text: str, _: Any) -> bool:
    if text.lower() not in ("true", "false"):
        raise AwsError("InvalidParameterValue", f"Value ({text}) is neither true nor false")
    return text.lower() == "true"


def _user_data(text: str, _: Any) -> Any:
    check_user_data(text)
    return importlib.import_module("moto.core.types").Base64EncodedString(text) if text else None


def _instance_type(text: str, store: Any) -> str:
    if not any(each["InstanceType"] == text for each in store.instance_types):
        raise AwsError("InvalidInstanceAttributeValue", f"Invalid value '{text}' for InstanceType.")
    return text


def _behavior(text: str, _: Any) -> str:
    if text not in ("stop", "terminate"):
        raise AwsError(
            "InvalidParameterValue", f"Value ({text}) for parameter instanceInitiatedShutdownBehavior is invalid."
        )
    return text


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "userData": _user_data,
    "instanceType": _instance_type,
    "instanceInitiatedShutdownBehavior": _behavior,
    **dict.fromkeys(("ebsOptimized", "disableApiTermination", "disableApiStop", "sourceDestCheck"), _flag),
}
