"""Values as the engine sends them (google.protobuf.Struct) and as Python has them.

Secrets are not accepted by the stand-ins: the engine unwraps them, and marks outputs of the same name secret by itself.
https://github.com/pulumi/pulumi/blob/master/proto/pulumi/provider.proto
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import struct_pb2

from localcloud.plugins.resource import UNKNOWN

_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
# By the kind that the value will have: a string, boolean, number, list, asset, archive or object.
_UNKNOWNS = frozenset(
    {
        _UNKNOWN,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "030794c1-ac77-496b-92df-f27374a8bd58",
        "e48ece36-62e2-4504-bad9-02848725956a",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"


def received(struct: struct_pb2.Struct) -> dict[str, Any]:
    return {key: _received(value) for key, value in struct.fields.items()}


def sent(values: Mapping[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    for key, value in values.items():
        if value is not None:
            struct.fields[key].CopyFrom(_sent(value))
    return struct


def secret(value: Any) -> dict[str, Any]:
    """Return an output that the engine encrypts in the state."""
    return {_SIGNATURE: _SECRET, "value": value}


def _received(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        found = received(value.struct_value)
        return found.get("value") if found.get(_SIGNATURE) == _SECRET else found
    if kind == "list_value":
        return [_received(each) for each in value.list_value.values]
    if kind == "number_value":
        return int(value.number_value) if value.number_value.is_integer() else value.number_value
    if kind == "string_value":
        return UNKNOWN if value.string_value in _UNKNOWNS else value.string_value
    return value.bool_value if kind == "bool_value" else None


def _sent(value: Any) -> struct_pb2.Value:
    made = struct_pb2.Value()
    if value is UNKNOWN:
        made.string_value = _UNKNOWN
    elif value is None:
        made.null_value = struct_pb2.NULL_VALUE
    elif isinstance(value, bool):
        made.bool_value = value
    elif isinstance(value, int | float):
        made.number_value = value
    elif isinstance(value, str):
        made.string_value = value
    elif isinstance(value, Mapping):
        made.struct_value.CopyFrom(sent(value))
    elif isinstance(value, Sequence):
        made.list_value.SetInParent()
        made.list_value.values.extend(_sent(each) for each in value)
    else:
        made.string_value = str(value)
    return made
