"""Find what a stack's files say twice: most readers of YAML take the last one and hand over nothing of the others.

Pulumi's engine refuses such a file since it reads with yaml.v3; PyYAML, with which a rehearsal copies the file, takes the last one.
https://yaml.org/spec/1.2.2/#3213-node-comparison wants the keys of a mapping to be unique.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_PROJECT = ("Pulumi.yaml", "Pulumi.yml")
_MERGE = "<<"


def faults(root: Path, stack: str) -> list[str]:
    """The faults of the project's file and of the stack's, which are in the folder `root` or where the project's file says.

    Files that are not there, or no YAML, are the engine's to complain about.
    """
    project = next((root / name for name in _PROJECT if (root / name).is_file()), root / _PROJECT[0])
    folder = root / str(_plain(project).get("stackConfigDir") or "")
    files = (project, *(folder / f"Pulumi.{stack}{ending}" for ending in (".yaml", ".yml")))
    return [fault for each in files for fault in duplicates(_text(each), each.name)]


def duplicates(text: str, file: str) -> list[str]:
    """A fault for each key that `text` has more than once in one mapping, by the key as the configuration names it."""
    try:
        node = yaml.compose(text)
    except yaml.YAMLError:
        return []
    return list(_doubled(node, (), file))


def _doubled(node: Any, path: tuple[str, ...], file: str) -> Iterator[str]:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _doubled(item, (*path[:-1], f"{path[-1]}[{index}]") if path else (f"[{index}]",), file)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, list[int]] = {}
    for key, value in node.value:
        lines.setdefault(str(key.value), []).append(key.start_mark.line + 1)
        yield from _doubled(value, (*path, str(key.value)), file)
    for name, found in lines.items():
        if len(found) > 1 and name != _MERGE:
            listed = ", ".join(map(str, found))
            yield f"{_shown((*path, name))}: is written {len(found)} times in {file} (lines {listed}), and the last one counts. Keep one."


def _shown(path: tuple[str, ...]) -> str:
    """As the configuration names it: `rollcall:site.zone`, `aws:region`."""
    return ".".join(path[1:] if path[0] == "config" and len(path) > 1 else path)


def _plain(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(_text(file))
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
