"""Names in code use the field's terms: no function, parameter, variable or attribute has a word that readers had to read twice.

docs/glossary.md and the tables below have the words to use instead. `PLAIN` are uses of such a word that are the field's own.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.syntax import nodes_of

ROOT = Path(__file__).parents[2]
FOLDERS = ("components", "userdata", "localcloud", "bench", "tests")
# The bytes of these files are the key of a cache: a change of a name would rebuild the engine or the machines' image.
CACHED = ("localcloud/engine/", "localcloud/machines/image/")
AVOIDED = {
    "told": "settings, or what was given",
    "said": "message, output, error or document",
    "whose": "owner",
    "look": "snapshot, or look_up",
    "looks": "snapshots",
    "stands": "exists",
    "standing": "existing",
    "held": "stored or cached",
    "asked": "request, query, or the parameter",
    "entry": "record or member",
    "entries": "records or members",
    "nobody": "no machine",
    "somebody": "a machine",
    "anew": "again",
    "mend": "fix",
    "mended": "fixed",
}
PLAIN = {
    "look_up": "the DNS term: to look a name up",
    "_look_up": "the DNS term: to look a name up",
}
# A test's name is a sentence, in which these are ordinary verbs: "is asked again", "look alike".
IN_SENTENCES = {"asked", "look", "looks", "entry"}


def words_of(name: str) -> list[str]:
    """Return the words of a name, in `snake_case`, `CAPITALS` or `CamelCase`."""
    return [each.lower() for each in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def names_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of all that a module defines: classes, functions, parameters, variables, attributes, import aliases."""
    for node in nodes_of(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname


@functools.cache
def names_at(path: Path) -> tuple[tuple[int, str], ...]:
    """Return what a file defines."""
    return tuple(names_in(ast.parse(path.read_text())))


def avoided(names: Iterable[tuple[int, str]]) -> list[tuple[int, str, str]]:
    """Return the line of each name with an avoided word, the name, and what to write instead."""
    return [
        (line, name, AVOIDED[word])
        for line, name in names
        for word in words_of(name)
        if word in AVOIDED and name not in PLAIN and not (name.startswith("test_") and word in IN_SENTENCES)
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_name_has_a_word_that_is_read_twice(folder: str) -> None:
    files = [
        each.relative_to(ROOT)
        for each in sorted((ROOT / folder).rglob("*.py"))
        if not str(each.relative_to(ROOT)).startswith(CACHED)
    ]
    assert len(files) > 10
    found = [
        f"{path}:{line}: {name}: write {instead}"
        for path in files
        for line, name, instead in avoided(names_at(ROOT / path))
    ]
    assert found == []


# Turns that a reader of a test's name had to read twice, and what to write instead.
TURNS = {
    r"^test_who_": "a machine, a user or a client as the subject",
    r"_(is|are)_no_(?!longer_|more_)": "is not",
    r"_of_(its|their)_own(_|$)": "its own",
    r"_is_said|_is_told": "is reported, or the error",
}


def test_names_of_tests_have_plain_turns() -> None:
    names = {
        name
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for _, name in names_in(ast.parse(path.read_text()))
        if name.startswith("test_")
    }
    assert len(names) > 1000
    plain = {each for each in names if "there_is_no_" in each}
    assert [
        (each, instead) for each in sorted(names - plain) for turn, instead in TURNS.items() if re.search(turn, each)
    ] == []


@pytest.mark.parametrize(
    "source",
    [
        "def told(): ...",
        "def f(told): ...",
        "def f(*, is_told=1): ...",
        "class ToldOnce: ...",
        "MOST_ENTRIES = 3",
        "for said in (): ...",
        "[whose for whose in ()]",
        "self._held = 1",
        "import x as look",
        "if (asked := 1): ...",
    ],
)
def test_each_kind_of_name_is_noticed(source: str) -> None:
    assert avoided(names_in(ast.parse(source))) != []


@pytest.mark.parametrize("source", ["def look_up(): ...", "retold = folder = 1", "print(told)", "f(told=1)"])
def test_other_names_and_uses_are_not_noticed(source: str) -> None:
    assert avoided(names_in(ast.parse(source))) == []


def test_each_exception_is_still_used() -> None:
    files = [each for folder in FOLDERS for each in (ROOT / folder).rglob("*.py")]
    assert PLAIN.keys() <= {name for each in files for _, name in names_at(each)}
