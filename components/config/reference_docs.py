"""`make reference`: the tables of docs/configuration.md, and the JSON Schema by which editors complete and check a stack's file.

    python -m components.config.reference_docs [--write]

Both come from components/config/models.py. Without `--write` it only reports what differs. Exit code 0: nothing differs (any more); 1:
something does.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.config.messages import Node, resolved
from components.config.reader import rollcall_keys

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = "docs/configuration.md"
SCHEMA = "docs/configuration.schema.json"
_HEAD = "| key | default | takes | what |\n|---|---|---|---|\n"
_TABLE = re.compile(r"(<!-- keys: (\S+) -->\n)(?:\|.*\n)*")
# A table of the document -> the model that has its keys.
_TABLES = {
    "sites": "SiteSettings",
    "fleets": "FleetSettings",
    "ssh": "SshSettings",
    "disk": "DiskSettings",
    "volumes": "VolumeSettings",
    "logs": "LogsSettings",
    "policies": "PoliciesSettings",
    "statements": "StatementSettings",
    "serviceDiscovery": "ServiceDiscoverySettings",
    "services": "ServiceSettings",
    "incarnations": "IncarnationSettings",
    "workloads": "WorkloadSettings",
    "nginx": "NginxSettings",
    "before": "BeforeSettings",
    "check": "CheckSettings",
    "mirrors": "MirrorSettings",
    "upload": "MirrorUploadSettings",
    "joyent": "JoyentSettings",
}
# Parts for the document and the messages, or of pydantic.
_NOT_PUBLISHED = ("title", "unit", "shown", "takes")


def keys(schema: Node, table: str) -> dict[str, Node]:
    """Return the keys that a table of the document lists."""
    found: dict[str, Node] = schema["$defs"][_TABLES[table]]["properties"]
    return found


def rows(schema: Node, table: str) -> list[str]:
    """Return the lines of a table: each key with its default, what it takes, and its description."""
    needed = schema["$defs"][_TABLES[table]].get("required", ())
    return [
        f"| `{name}` | {_default(node, name in needed)} | {_takes(resolved(schema, node))} | {node['description']} |\n"
        for name, node in keys(schema, table).items()
    ]


def _default(node: Node, needed: bool) -> str:
    default = node.get("default")
    if needed or "shown" in node:
        return str(node.get("shown", "needed"))
    if default in (None, [], {}):
        return "none"
    return "empty" if default == "" else f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _takes(node: Node) -> str:
    if "takes" in node:
        return str(node["takes"])
    if "minimum" in node:
        return f"{node['minimum']} to {node['maximum']}{node.get('unit', '')}"
    if "enum" in node:
        return ", ".join(f"`{each}`" for each in node["enum"])
    return {"boolean": "`true`, `false`", "array": "a list", "object": "a mapping"}.get(str(node["type"]), "a text")


def document(before: str, schema: Node) -> str:
    """Return the document with each of its tables as the models have it."""
    return _TABLE.sub(lambda found: found[1] + _HEAD + "".join(rows(schema, found[2])), before)


def lacking(text: str, schema: Node) -> list[str]:
    """Return what the document lacks: a table, or the section of a key."""
    tables = {found[2] for found in _TABLE.finditer(text)}
    missing = [f"{table}: no such table" for table in _TABLES if table not in tables]
    sections = [name for name in schema["properties"] if f"## `rollcall:{name}`" not in text]
    return missing + [f"rollcall:{name}: has no section. Write one." for name in sections]


def stack_schema(schema: Node) -> dict[str, Any]:
    """Return the JSON Schema of a stack's file. It allows all keys that are not Rollcall's."""
    ours = {f"rollcall:{name}": _as_written(node) for name, node in schema["properties"].items()}
    known = "|".join(schema["properties"])
    whole = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": "Made by `make reference` from components/config/models.py; do not edit.",
        "description": "The configuration of a stack of Rollcall",
        "type": "object",
        "properties": {
            "config": {
                "type": "object",
                "properties": ours,
                "patternProperties": {f"^rollcall:(?!(?:{known})$)": False},
            }
        },
        "$defs": schema["$defs"],
    }
    published: dict[str, Any] = _published(whole)
    return published


def _as_written(node: Node) -> Node:
    """Allow text too: `pulumi config set` writes every value of a whole key as text."""
    pattern = {"integer": "^[0-9]+$", "boolean": "^(?:true|false)$"}.get(str(node.get("type")))
    if pattern is None:
        return node
    about = {key: node[key] for key in ("description", "default")}
    value = {key: item for key, item in node.items() if key not in about}
    return {**about, "anyOf": [value, {"type": "string", "pattern": pattern}]}


def _published(node: Any, *, names: bool = False) -> Any:
    """Leave out what editors do not read. `names` says that the keys of this mapping are names."""
    if isinstance(node, Mapping):
        return {
            key: _published(item, names=not names and key in ("properties", "patternProperties", "$defs"))
            for key, item in node.items()
            if names or not (key in _NOT_PUBLISHED or (key == "default" and isinstance(item, list | dict | None)))
        }
    return [_published(item) for item in node] if isinstance(node, list) else node


def _schema_text(schema: Node) -> str:
    return json.dumps(stack_schema(schema), indent=1, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(prog="components.config.reference_docs", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write what the models say into the files")
    write = parser.parse_args(arguments).write
    schema = rollcall_keys().schema
    made: dict[str, Callable[[str], str]] = {
        DOCUMENT: lambda before: document(before, schema),
        SCHEMA: lambda _: _schema_text(schema),
    }
    wrong = lacking((root / DOCUMENT).read_text(), schema)
    for name, make in made.items():
        file = root / name
        before = file.read_text() if file.exists() else ""
        after = make(before)
        if write and after != before:
            file.write_text(after)
        elif after != before:
            wrong.append(f"{name}: differs from the models. Run `make reference`.")
    for each in wrong:
        print(each, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
