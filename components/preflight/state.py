"""Read the stack's state as a run of the program begins, from the engine that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi

_READ = "pulumi:pulumi:readStackResourceOutputs"
_DIY = "organization"


class PriorState:
    """The resources of the state, by type and name. The names are the program's.

    Outputs are converted one by one, when they are asked for: a state of hundreds of machines is megabytes.
    """

    def __init__(self, resources: Mapping[str, Any]) -> None:
        self._found = {(_type(urn), urn.rpartition("::")[2]): each for urn, each in resources.items()}

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._found

    def outputs(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """Return the plain outputs of the resource; None where the state has none of this type and name."""
        found = self._found.get((kind, name))
        return None if found is None else _plain(found).get("outputs") or {}

    def outputs_of(self, kind: str) -> list[Mapping[str, Any]]:
        """Return the plain outputs of every resource of this type."""
        return [_plain(found).get("outputs") or {} for (each, _), found in self._found.items() if each == kind]


def prior_state() -> PriorState | None:
    """Return the state before this run. None: the engine's backend does not give it. Then nothing may be concluded."""
    import grpc
    from google.protobuf import struct_pb2
    from pulumi.runtime.proto import resource_pb2
    from pulumi.runtime.settings import get_monitor

    stack, of = pulumi.get_stack(), pulumi.get_organization()
    # A backend without organizations gives `_DIY` as its organization; a bare name is looked up in the project that runs.
    name = stack if of in ("", _DIY) else f"{of}/{pulumi.get_project()}/{stack}"
    request = struct_pb2.Struct()
    request.update({"stackName": name})
    try:
        # The SDK's invoke would convert every output of the whole state to a Python value.
        reply: Any = get_monitor().Invoke(resource_pb2.ResourceInvokeRequest(tok=_READ, args=request))  # type: ignore[union-attr]
    except grpc.RpcError as refused:
        pulumi.warn(
            f"the stack's own state cannot be looked up ({refused}); resources that exist already cannot be "
            "distinguished from those of this stack"
        )
        return None
    found = getattr(reply, "return").fields.get("outputs")
    return PriorState(_secretless(found) if found is not None else {})


def _secretless(value: Any) -> Mapping[str, Any]:
    """Return the mapping in a wire value. The engine wraps a value that contains a secret."""
    fields = value.struct_value.fields
    return _secretless(fields["value"]) if _is_secret(fields) else fields


def _is_secret(fields: Mapping[str, Any]) -> bool:
    from pulumi.runtime.rpc import _special_secret_sig, _special_sig_key

    return _special_sig_key in fields and fields[_special_sig_key].string_value == _special_secret_sig


def _plain(value: Any) -> Any:
    """Return a wire value as Python has it, without secrets."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        fields = value.struct_value.fields
        return None if _is_secret(fields) else {key: _plain(each) for key, each in fields.items()}
    if kind == "list_value":
        return [_plain(each) for each in value.list_value.values]
    return None if kind is None or kind == "null_value" else getattr(value, kind)


def _type(urn: str) -> str:
    """Return the type in a URN: `urn:pulumi:STACK::PROJECT::PARENT$TYPE::NAME` -> TYPE"""
    return urn.split("::")[2].rpartition("$")[2]
