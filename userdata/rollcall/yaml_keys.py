"""Find keys that a YAML text has more than once in one mapping.

The keys of a YAML mapping must be unique (https://yaml.org/spec/1.2.2/#3213-node-comparison). PyYAML takes the last one without an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

MERGE = "<<"


def duplicates(text: str, file: str) -> list[str]:
    """Return an error for each key that `text` has more than once in one mapping. It names the key as the configuration does."""
    try:
        node = yaml.compose(text)
    except (yaml.YAMLError, RecursionError):
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
        if len(found) > 1 and name != MERGE:
            listed = ", ".join(map(str, found))
            yield f"{_shown((*path, name))}: is written {len(found)} times in {file} (lines {listed}), and the last one counts. Keep one."


def _shown(path: tuple[str, ...]) -> str:
    """Return a key as the configuration names it: `rollcall:sites.www.zone`, `aws:region`."""
    return ".".join(path[1:] if path[0] == "config" and len(path) > 1 else path)
