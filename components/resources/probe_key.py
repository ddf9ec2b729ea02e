"""Create the ProbeKey, with which a stack's machines ask each other whether they run (`rollcall.probe`).

The names of its module and classes are part of the state's format and are never changed.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider


class ProbeKeyProvider(ResourceProvider):
    """Makes the key once. Only a replacement makes a new one."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        value = secrets.token_hex(32)
        return CreateResult(hashlib.sha256(value.encode()).hexdigest()[:16], {**props, "value": value})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        return DiffResult(changes=False, replaces=[], stables=[], delete_before_replace=False)


class ProbeKey(Resource, module="rollcall", name="ProbeKey"):  # type: ignore[call-arg]
    """A random key. Another `rotation_trigger` makes another key. `value` is a secret."""

    value: pulumi.Output[str]

    def __init__(self, name: str, rotation_trigger: str = "", opts: pulumi.ResourceOptions | None = None) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["value"], replacement_trigger=[rotation_trigger])
        super().__init__(ProbeKeyProvider(), name, {"value": None}, pulumi.ResourceOptions.merge(opts, secret))
