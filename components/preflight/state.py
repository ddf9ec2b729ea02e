"""What the stack's state holds as a run of the program begins, asked of the engine that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi

_READ = "pulumi:pulumi:readStackResourceOutputs"
_DIY = "organization"


class Held:
    """The resources of the state, by type and name; names are the program's own. Outputs are converted one by one, when they are
    asked for: a state of hundreds of machines is megabytes."""

    def __init__(self, resources: Mapping[str, Any]) -> None:
        self._found = {(_type(urn), urn.rpartition("::")[2]): each for urn, each in resources.items()}

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._found

    def outputs(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """The plain outputs of the resource; None where the state has none of this type and name."""
        found = self._found.get((kind, name))
        return None if found is None else _plain(found).get("outputs") or {}

    def outputs_of(self, kind: str) -> list[Mapping[str, Any]]:
        """The plain outputs of every resource of this type."""
        return [_plain(found).get("outputs") or {} for (each, _), found in self._found.items() if each == kind]


def held() -> Held | None:
    """The state before this run. None where the engine's backend does not tell: then nothing may be concluded."""
    import grpc
    from google.protobuf import struct_pb2
    from pulumi.runtime.proto import resource_pb2
    from pulumi.runtime.settings import get_monitor

    stack, of = pulumi.get_stack(), pulumi.get_organization()
    # A backend without organizations calls its own so; a bare name is looked up in the project that runs.
    name = stack if of in ("", _DIY) else f"{of}/{pulumi.get_project()}/{stack}"
    asked = struct_pb2.Struct()
    asked.update({"stackName": name})
    try:
        # By the SDK's own invoke every output of the whole state would be made a Python value.
        reply: Any = get_monitor().Invoke(resource_pb2.ResourceInvokeRequest(tok=_READ, args=asked))  # type: ignore[union-attr]
    except grpc.RpcError as refused:
        pulumi.warn(
            f"the stack's own state cannot be looked up ({refused}); what stands already is not told from what is ours"
        )
        return None
    found = getattr(reply, "return").fields.get("outputs")
    return Held(_secretless(found) if found is not None else {})


def _secretless(value: Any) -> Mapping[str, Any]:
    """The mapping in a wire value; the engine wraps what has a secret in it."""
    fields = value.struct_value.fields
    return _secretless(fields["value"]) if _is_secret(fields) else fields


def _is_secret(fields: Mapping[str, Any]) -> bool:
    from pulumi.runtime.rpc import _special_secret_sig, _special_sig_key

    return _special_sig_key in fields and fields[_special_sig_key].string_value == _special_secret_sig


def _plain(value: Any) -> Any:
    """A wire value as Python has it, secrets left out."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        fields = value.struct_value.fields
        return None if _is_secret(fields) else {key: _plain(each) for key, each in fields.items()}
    if kind == "list_value":
        return [_plain(each) for each in value.list_value.values]
    return None if kind is None or kind == "null_value" else getattr(value, kind)


def _type(urn: str) -> str:
    """`urn:pulumi:STACK::PROJECT::PARENT$TYPE::NAME` -> TYPE"""
    return urn.split("::")[2].rpartition("$")[2]
