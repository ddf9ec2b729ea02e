"""Make messages from the errors of pydantic: `WHERE: PROBLEM. FIX.`

The values that a key takes are from the JSON Schema of its model, which the editors and docs/configuration.md have too.
No message contains pydantic's text, since that may quote the value
(https://docs.pydantic.dev/latest/errors/validation_errors/).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.config.errors import near, shown
from components.config.rules import OURS

Node = Mapping[str, Any]
# At the end of a location: the key of a mapping is wrong, and not its value.
KEY = "[key]"


def node_at(schema: Node, path: Sequence[str | int]) -> Node:
    """Return the part of a JSON Schema for the value at `path`; an empty one where the schema does not have it."""
    node = resolved(schema, schema)
    for step in path:
        if isinstance(step, int):
            node = node.get("items", {})
        elif step != KEY:
            node = node.get("properties", {}).get(step) or node.get("additionalProperties") or {}
        node = resolved(schema, node)
    return node


def resolved(schema: Node, node: Node) -> Node:
    """Follow a reference, and leave out that a value may be null."""
    if "$ref" in node:
        target = schema["$defs"][node["$ref"].rpartition("/")[2]]
        return {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    for each in node.get("anyOf", ()):
        if each.get("type") != "null":
            return {**resolved(schema, each), **{key: value for key, value in node.items() if key != "anyOf"}}
    return node


def problem_and_fix(error: Mapping[str, Any], schema: Node, *, hidden: bool = False) -> tuple[str, str]:
    """Return what is wrong and how to fix it. A `hidden` value is not shown."""
    kind, path, given = error["type"], error["loc"], error.get("input")
    if kind == OURS:
        about = error["ctx"]
        return f"{shown(about.get('value', given), hidden=hidden)} {about['problem']}", about["fix"]
    node = node_at(schema, path)
    if kind == "missing" or (given is None and kind != "unexpected_keyword_argument"):
        return "is missing", _example(node)
    if kind == "unexpected_keyword_argument":
        known = list(node_at(schema, path[:-1]).get("properties", {}))
        return f"is not a setting{near(path[-1], known)}", f"Use one of {', '.join(known)}, or remove it"
    if kind == "too_short":
        return "is an empty list", _example(node)
    if kind == "too_long":
        return f"names {error['ctx']['actual_length']}", f"Name {node['maxItems']} at the most"
    problem, fix = _of_type(given, node)
    return f"{shown(given, hidden=hidden)} {problem}{'' if hidden else _meant(given, node)}", fix


def _of_type(given: object, node: Node) -> tuple[str, str]:
    if "enum" in node:
        return f"is not one of {', '.join(node['enum'])}", "Set one of these"
    if "secure" in node.get("properties", {}):
        return "is not a secret", "Run `pulumi config set --secret --path`, which encrypts one text"
    kind = node.get("type")
    if kind == "integer":
        limits = f"{node['minimum']} to {node['maximum']}{node.get('unit', '')}"
        if isinstance(given, int) and not isinstance(given, bool):
            return f"is out of range ({limits})", "Set a number in this range"
        return "is not a whole number", f"Set one from {limits}{', without quotes' if isinstance(given, str) else ''}"
    if kind == "boolean":
        return "is not a boolean", "Set true or false, without quotes"
    if kind == "array":
        return "is not a list", f"Set it to a list, as {_flow(node.get('examples', [['a', 'b']])[0])}"
    if kind == "object":
        return "is not a mapping", "Write it as {key: value, …}"
    plain = not isinstance(given, list | dict)
    return "is not a text", "Put it in quotes (`--type string` of `pulumi config set`)" if plain else "Write one text"


def _meant(given: object, node: Node) -> str:
    return near(given, node["enum"]) if isinstance(given, str) and "enum" in node else ""


def _example(node: Node) -> str:
    """Return an example that sets a missing key."""
    examples = node.get("examples")
    return f"Set it, as {_flow(examples[0])}" if examples else "Set it, or take the key out"


def _flow(value: object) -> str:
    """Return a value as YAML has it on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(_flow, value)) + "]" if isinstance(value, list) else str(value)
