"""Values between the engine's wire and Python."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from pulumi.runtime import rpc

from localcloud.plugins.resource import UNKNOWN
from localcloud.plugins.values import received, secret, sent

VALUES: dict[str, Any] = {
    "text": "a",
    "empty text": "",
    "true": True,
    "false": False,
    "whole": 3,
    "zero": 0,
    "fraction": 0.5,
    "list": [1, "a", None, [True]],
    "empty list": [],
    "object": {"a": {"b": [1]}},
    "empty object": {},
    "unknown": UNKNOWN,
    "unknown within": [{"a": UNKNOWN}],
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_as_it_was_sent(name: str) -> None:
    found = received(sent({"it": VALUES[name]}))["it"]
    assert found == VALUES[name]
    assert type(found) is type(VALUES[name])


def test_what_is_none_is_not_sent() -> None:
    assert json_format.MessageToDict(sent({"a": None, "b": {"c": None, "d": 1}})) == {"b": {"d": 1.0}}


def test_a_secret_is_unwrapped_when_it_comes_and_marked_when_it_goes() -> None:
    wrapped = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": "word"}
    struct = struct_pb2.Struct()
    struct.update({"a": wrapped, "b": [{"c": wrapped}], "d": {**wrapped, "value": {"e": "f"}}})
    assert received(struct) == {"a": "word", "b": [{"c": "word"}], "d": {"e": "f"}}
    assert json_format.MessageToDict(sent({"a": secret("word")})) == {"a": wrapped}


def test_the_engines_marks_are_those_of_its_sdk() -> None:
    assert sent({"a": UNKNOWN})["a"] == rpc.UNKNOWN
    marked = sent({"a": secret(1)})["a"]
    assert marked[rpc._special_sig_key] == rpc._special_secret_sig


def test_an_unknown_number_or_list_is_unknown_too() -> None:
    struct = struct_pb2.Struct()
    struct.update({"number": "3eeb2bf0-c639-47a8-9e75-3b44932eb421", "list": "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2"})
    assert received(struct) == {"number": UNKNOWN, "list": UNKNOWN}


def test_what_the_wire_does_not_know_goes_as_text() -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd"

    assert received(sent({"a": Odd()})) == {"a": "odd"}
