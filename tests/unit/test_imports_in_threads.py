"""Modules that a dynamic provider imports in threads: a package with circles is entered at its top only.

The engine calls a dynamic provider in several threads, which import what they need first. If one thread begins at `requests.utils` while
another one loads `requests`, each waits for the other. Python then gives one of them a module that is not complete
(https://docs.python.org/3/whatsnew/3.3.html, "A Finer-Grained Import Lock"), and `up` fails with an ImportError.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "requests"


def imports_of(text: str) -> Iterator[str]:
    """Each import of a module of the package that is not its top."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith(f"{PACKAGE}."):
            yield ast.unparse(node)
        elif isinstance(node, ast.Import):
            yield from (ast.unparse(node) for each in node.names if each.name.startswith(f"{PACKAGE}."))


def test_an_import_below_the_top_is_found() -> None:
    assert [*imports_of("import requests\nfrom requests import Session")] == []
    assert [*imports_of("from requests.utils import a")] == ["from requests.utils import a"]
    assert [*imports_of("def f():\n  import requests.auth")] == ["import requests.auth"]


def test_no_module_enters_requests_below_its_top() -> None:
    files = [*(ROOT / "components").rglob("*.py"), *(ROOT / "userdata").rglob("*.py")]
    assert len(files) > 100
    assert {path.name: found for path in files if (found := [*imports_of(path.read_text())])} == {}
