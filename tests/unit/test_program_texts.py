"""Programs that tests hold as text import what there is: neither mypy nor an editor sees those imports when a module moves."""

from __future__ import annotations

import ast
import functools
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.syntax import nodes_of

TESTS = Path(__file__).parents[1]
OURS = ("components", "localcloud", "rollcall")
# The example of another cloud, which a test puts beside the others.
MADE_BY_A_TEST = ("components.shed.",)
FILES = sorted(
    each.relative_to(TESTS).as_posix()
    for each in TESTS.rglob("*.py")
    if "import " in each.read_text() and each != Path(__file__)
)


@functools.cache
def programs_of(file: str) -> tuple[str, ...]:
    """Return the imports that the programs in a test file have."""
    return tuple(programs((TESTS / file).read_text()))


def programs(text: str) -> Iterator[str]:
    """Return the string constants of a module that import something of ours, as far as they can be read."""
    for node in nodes_of(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            lines = [each.strip() for each in node.value.splitlines()]
            found = [
                each for each in lines if each.startswith(tuple(f"from {name}" for name in OURS)) and "import" in each
            ]
            yield from (each for each in found if _is_read(each))


def _is_read(line: str) -> bool:
    try:
        ast.parse(line)
    except SyntaxError:
        return False
    return True


def missing(line: str) -> list[str]:
    """Return what an import of a program names and is not there."""
    node = ast.parse(line).body[0]
    assert isinstance(node, ast.ImportFrom) and node.module
    if f"{node.module}.".startswith(MADE_BY_A_TEST):
        return []
    try:
        module = importlib.import_module(node.module)
    except ModuleNotFoundError:
        return [node.module]
    return [f"{node.module}.{each.name}" for each in node.names if not _has(module.__name__, module, each.name)]


def _has(name: str, module: object, wanted: str) -> bool:
    if hasattr(module, wanted):
        return True
    try:
        importlib.import_module(f"{name}.{wanted}")
    except ModuleNotFoundError:
        return False
    return True


@pytest.mark.parametrize("file", FILES)
def test_a_program_s_imports_are_there(file: str) -> None:
    assert [each for line in programs_of(file) for each in missing(line)] == []


def test_some_are_looked_at_and_what_is_gone_is_found() -> None:
    assert sum(len(programs_of(each)) for each in FILES) > 10
    assert missing("from components.resources.fleets.base import Fleet, Gone") == [
        "components.resources.fleets.base.Gone"
    ]
    assert missing("from components.nowhere import Fleet") == ["components.nowhere"]
