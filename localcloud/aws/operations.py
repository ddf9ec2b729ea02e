"""Check every operation of EC2, IAM, STS and SSM: it exists, the request has all required members, and the local AWS emulates it.

Which operations there are and what they require is in the services' API models, as botocore has them. The codes:
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html ,
https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html ,
https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html ,
https://docs.aws.amazon.com/systems-manager/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

from localcloud.aws.wire import AwsError, Call

_MODELLED = ("ec2", "iam", "sts", "ssm")
_TYPES = {"string": str, "list": list, "structure": dict, "map": dict, "boolean": bool, "integer": int}
_UNSUPPORTED = {"ssm": "UnsupportedOperationException"}

# moto answers these with success, but they would have no effect on a machine.
_OF_MACHINES = {
    "AssignPrivateIpAddresses": "a machine has one private address",
    "AttachNetworkInterface": "a machine has one interface",
    "AttachVolume": "a machine has its root volume only",
    "CreateVpcPeeringConnection": "a VPC leads to no other VPC",
    "CreateFleet": "it boots machines for RunInstances only",
    "CreateImage": "it boots the images of its catalogue only",
    "CopyImage": "it boots the images of its catalogue only",
    "ImportImage": "it boots the images of its catalogue only",
    "ModifySpotFleetRequest": "it boots machines for RunInstances only",
    "RegisterImage": "it boots the images of its catalogue only",
    "RequestSpotFleet": "it boots machines for RunInstances only",
    "RequestSpotInstances": "it boots machines for RunInstances only",
    "RunScheduledInstances": "it boots machines for RunInstances only",
}
# All others of SSM are about agents on machines, which run nothing here. SendCommand to an instance is answered as SSM does then (ssm.py).
_OF_PARAMETERS = frozenset(
    {
        "AddTagsToResource",
        "DeleteParameter",
        "DeleteParameters",
        "DescribeParameters",
        "GetParameter",
        "GetParameterHistory",
        "GetParameters",
        "GetParametersByPath",
        "LabelParameterVersion",
        "ListTagsForResource",
        "PutParameter",
        "RemoveTagsFromResource",
        "UnlabelParameterVersion",
    }
)


def check(call: Call) -> None:
    """Raises AwsError for an operation that is unknown, not emulated, or lacks what it requires."""
    if call.service not in _MODELLED:
        return
    if not call.action and call.service != "ssm":
        raise AwsError("MissingAction", "The request must contain the parameter Action")
    operation = model(call)
    if operation is None:
        raise _unknown(call)
    if call.service == "ec2" and (why := _OF_MACHINES.get(call.action)):
        raise not_emulated(call, why)
    is_refused = call.action == "SendCommand" and bool(call.json().get("InstanceIds"))
    if call.service == "ssm" and call.action not in _OF_PARAMETERS and not is_refused:
        raise not_emulated(call, "it has Parameter Store, and no agent that carries out commands on a machine")
    members = operation.input_shape.members if operation.input_shape else {}
    given = _in_json(call, members) if call.service == "ssm" else {key.partition(".")[0] for key, _ in call.form}
    for name in sorted(operation.input_shape.required_members) if members else ():
        if _wire_name(call.service, name, members[name]) not in given:
            raise _missing(call, name)


def model(call: Call) -> Any | None:
    """The operation as its service's API model describes it."""
    service = importlib.import_module("moto.core.utils").get_service_model(call.service)
    return service.operation_model(call.action) if call.action in service.operation_names else None


def not_emulated(call: Call, why: str, *, action: str = "") -> AwsError:
    """Return the refusal of an operation that is not emulated. It is not a server error, because clients would retry that."""
    code = _UNSUPPORTED.get(call.service, "UnsupportedOperation")
    return AwsError(code, f"The local {call.service} does not emulate {action or call.action}: {why}.")


def by_path(call: Call) -> str | None:
    """The operation of a REST service (Route53) that the request's method and path name, or None."""
    service = importlib.import_module("moto.core.utils").get_service_model(call.service)
    for name in service.operation_names:
        http = service.operation_model(name).http
        uri = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(http["requestUri"].partition("?")[0]))
        if http["method"] == call.method and re.fullmatch(f"{uri}/?", call.path):
            return str(name)
    return None


def _unknown(call: Call) -> AwsError:
    if call.service == "ssm":
        return AwsError("UnknownOperationException", f"The operation {call.action} is not one of SSM's.")
    if call.service == "ec2":
        return AwsError("InvalidAction", f"The action {call.action} is not valid for this web service.")
    version = call.get("Version") or ""
    return AwsError("InvalidAction", f"Could not find operation {call.action} for version {version}")


def _missing(call: Call, name: str) -> AwsError:
    if call.service == "ec2":
        return AwsError("MissingParameter", f"The request must contain the parameter {name}")
    field = f"{name[0].lower()}{name[1:]}"
    message = (
        f"1 validation error detected: Value null at '{field}' failed to satisfy constraint: Member must not be null"
    )
    return AwsError("ValidationException" if call.service == "ssm" else "ValidationError", message)


def _in_json(call: Call, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the members of a request in JSON. A null member counts as missing. Raises AwsError for a member of another type."""
    given = {name: value for name, value in call.json().items() if value is not None}
    for name, value in given.items():
        wanted = _TYPES.get(members[name].type_name) if name in members else None
        if wanted and not isinstance(value, wanted):
            raise AwsError(
                "SerializationException", f"The type of {name} is wrong: a {members[name].type_name} is expected."
            )
    return given


def _wire_name(service: str, name: str, shape: Any) -> str:
    """EC2's requests name a member by its `queryName`, or by its location's name with a capital letter."""
    if service != "ec2":
        return name
    serialization = shape.serialization
    written = str(serialization.get("queryName") or serialization.get("name") or name)
    return f"{written[0].upper()}{written[1:]}"
