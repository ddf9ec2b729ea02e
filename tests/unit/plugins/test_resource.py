"""What a type makes of its inputs: defaults, names, faults, differences."""

from __future__ import annotations

import re
from typing import Any

import pytest

from localcloud.plugins.resource import (
    UNKNOWN,
    Input,
    PartialError,
    Type,
    flag,
    keeping,
    mapping,
    number,
    plain,
    several,
    text,
    type_of_urn,
)


class Thing(Type):
    token = "fake:index/thing:Thing"
    named = "name"
    inputs = {
        "name": text(replaces=True),
        "zone": text(required=True, replaces=True),
        "color": text(choices=("red", "blue"), default="red"),
        "size": number(),
        "on": flag(),
        "parts": several(),
        "tags": mapping(),
        "address": text(computed=True),
        "image": text(computed=True, replaces=True),
        "any": Input(),
    }


THING = Thing(None)
URN = "urn:pulumi:prod::rollcall::fake:index/thing:Thing::web"
FINE: dict[str, Any] = {"name": "web", "zone": "a"}

FAULTS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "nothing wrong": ({}, {}),
    "everything given": (
        {"color": "blue", "size": 1.5, "on": True, "parts": ["a"], "tags": {"a": "b"}, "any": [1]},
        {},
    ),
    "one that there is not": ({"colour": "red"}, {"colour": "has no input 'colour'"}),
    "the engine's own": ({"__defaults": []}, {}),
    "one missing": ({"zone": None}, {"zone": "needs 'zone'"}),
    "one out of the list": ({"color": "green"}, {"color": "must be one of red, blue, not 'green'"}),
    "a number as text": ({"size": "3"}, {"size": "is a str"}),
    "a flag as number": ({"size": True}, {"size": "is a bool"}),
    "a number as flag": ({"on": 1}, {"on": "is a int"}),
    "a text as list": ({"parts": "abc"}, {"parts": "is a str"}),
    "a list as object": ({"tags": ["a"]}, {"tags": "is a list"}),
    "none of them known yet": (dict.fromkeys(("zone", "color", "size", "on", "parts", "tags"), UNKNOWN), {}),
    "several at once": ({"zone": None, "size": "3", "x": 1}, {"zone": "needs", "size": "is a str", "x": "no input"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found_by_their_input(name: str) -> None:
    change, expected = FAULTS[name]
    given = {key: value for key, value in {**FINE, **change}.items() if value is not None}
    found = dict(THING.faults(given))
    assert set(found) == set(expected)
    assert not [key for key, why in expected.items() if why not in found[key]], found
    assert not [why for why in found.values() if Thing.token not in why]


# Before, after, what differs and how. Each row without a change has a neighbour that differs in one thing.
DIFFERENCES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = {
    "the same": ({"size": 1}, {"size": 1}, {}),
    "changed": ({"size": 1}, {"size": 2}, {"size": "update"}),
    "added": ({}, {"size": 1}, {"size": "add"}),
    "taken away": ({"size": 1}, {}, {"size": "delete"}),
    "changed where it replaces": ({"zone": "a"}, {"zone": "b"}, {"zone": "update_replace"}),
    "added where it replaces": ({}, {"zone": "b"}, {"zone": "add_replace"}),
    "taken away where it replaces": ({"zone": "a"}, {}, {"zone": "delete_replace"}),
    "a computed one not given": ({"address": "192.0.2.1"}, {}, {}),
    "a computed one given": ({"address": "192.0.2.1"}, {"address": "192.0.2.2"}, {"address": "update"}),
    "a computed one not given, though it replaces": ({"image": "a"}, {}, {}),
    "a computed one given that replaces": ({"image": "a"}, {"image": "b"}, {"image": "update_replace"}),
    "a whole number as float": ({"size": 1.0}, {"size": 1}, {}),
    "a fraction": ({"size": 1.5}, {"size": 1}, {"size": "update"}),
    "false is not nothing": ({}, {"on": False}, {"on": "add"}),
    "an empty list is nothing": ({}, {"parts": []}, {}),
    "an empty text is not": ({}, {"any": ""}, {"any": "add"}),
    "no tags are nothing": ({"tags": {}}, {}, {}),
    "one tag is not": ({"tags": {"a": "b"}}, {}, {"tags": "delete"}),
    "the order of keys": ({"tags": {"a": "1", "b": "2"}}, {"tags": {"b": "2", "a": "1"}}, {}),
    "the order of a list": ({"parts": ["a", "b"]}, {"parts": ["b", "a"]}, {"parts": "update"}),
    "not known yet": ({"size": 1}, {"size": UNKNOWN}, {"size": "update"}),
    "not known yet, within": ({"parts": ["a"]}, {"parts": [{"x": UNKNOWN}]}, {"parts": "update"}),
    "not known yet where it replaces": ({"zone": "a"}, {"zone": UNKNOWN}, {"zone": "update_replace"}),
    "one that there is not": ({"colour": "a"}, {"colour": "b"}, {}),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_differences(name: str) -> None:
    before, after, expected = DIFFERENCES[name]
    assert THING.differences(before, after) == expected


def test_a_type_that_compares_by_itself_never_sees_what_is_not_known() -> None:
    class Careful(Thing):
        def same(self, key: str, before: Any, after: Any) -> bool:
            assert after is not UNKNOWN
            return sorted(before or ()) == sorted(after or ())

    careful = Careful(None)
    assert careful.differences({"parts": ["a", "b"]}, {"parts": ["b", "a"]}) == {}
    assert careful.differences({"parts": ["a"]}, {"parts": UNKNOWN}) == {"parts": "update"}


def test_defaults_are_filled_in_and_what_is_given_stays() -> None:
    assert THING.filled(URN, {}, FINE) == {**FINE, "color": "red"}
    assert THING.filled(URN, {}, {**FINE, "color": "blue", "size": None}) == {**FINE, "color": "blue"}


def test_a_name_is_made_once_and_kept() -> None:
    first, other = (THING.filled(URN, {}, {"zone": "a"})["name"] for _ in range(2))
    assert re.fullmatch("web-[0-9a-f]{7}", first)
    assert first != other
    assert THING.filled(URN, {"name": first}, {"zone": "a"})["name"] == first
    assert THING.filled(URN, {"name": first}, FINE)["name"] == "web"


def test_what_fails_after_the_resource_exists_keeps_it() -> None:
    with pytest.raises(PartialError) as failed, keeping("i-1", {"arn": "a"}):
        raise ValueError("no")
    assert (failed.value.identity, failed.value.outputs) == ("i-1", {"arn": "a"})
    assert isinstance(failed.value.__cause__, ValueError)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2.0, 2), (2.5, 2.5), ([], None), ({}, None), ({"b": None, "a": [1.0]}, {"a": [1]}), ("", ""), (False, False)],
    ids=str,
)
def test_plain_values(value: Any, expected: Any) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("urn", "expected"),
    [
        (URN, "fake:index/thing:Thing"),
        (
            "urn:pulumi:p::r::rollcall:index:Site$rollcall:index:Part$fake:index/thing:Thing::a::b",
            "fake:index/thing:Thing",
        ),
    ],
)
def test_the_type_of_a_urn_is_its_last(urn: str, expected: str) -> None:
    assert type_of_urn(urn) == expected
