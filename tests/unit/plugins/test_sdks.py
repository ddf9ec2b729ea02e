"""The stand-ins' types beside the vendors' SDKs: no input that these do not have, none required that they do not require."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest
from pulumi._types import input_type_py_to_pulumi_names

from localcloud.plugins import STAND_INS
from localcloud.plugins.resource import Type
from tests.plugin_host import sdk_class

TYPES = [each for name in STAND_INS for each in import_module(f"localcloud.plugins.{name}").PLUGIN.types]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: str(kind.token))
def test_inputs_are_the_sdks(kind: type[Type]) -> None:
    theirs = sdk_class(kind.token, "Args")
    names = input_type_py_to_pulumi_names(theirs)
    signature = inspect.signature(theirs.__init__).parameters
    required = {
        names[key] for key, each in signature.items() if key in names and each.default is inspect.Parameter.empty
    }
    # What the cloud itself fills in and the provider lets a program give is no input in the SDK.
    ours = {key: spec for key, spec in kind.inputs.items() if key != "tagsAll"}
    assert set(ours) <= set(names.values())
    assert {key for key, spec in ours.items() if spec.required} == required
