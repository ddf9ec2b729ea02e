"""Every test that the documents name is there, so that no claim outlives what shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# `test_x.py`, `tests/unit/test_x.py::test_y`, `test_y`, `tests/cloud/test_x*.py`; and folders and helpers of the tests.
_NAMED = re.compile(r"(?<![\w/.])(tests/[\w/.*-]+|test_[\w*]+(?:\.py)?)(?:::(\w+))?")
FILES = {each: each.read_text() for each in sorted((ROOT / "tests").rglob("*.py"))}


def named(text: str) -> Iterator[tuple[str, str]]:
    """Each file, pattern of files or bare test that a text names, and the test in it (or an empty text)."""
    for match in _NAMED.finditer(text):
        where, test = match[1].rstrip(".,;"), match[2] or ""
        yield (where, test) if "/" in where or where.endswith(".py") else ("", where)


def missing(text: str) -> list[str]:
    """What a text names and is not there."""
    found = []
    for where, test in named(text):
        if where and "/" not in where:
            files = [each for each in FILES if each.match(where)]
        else:
            files = list(ROOT.glob(where)) if where else list(FILES)
        if not files or (test and not any(f"def {test}(" in FILES.get(each, "") for each in files)):
            found.append(f"{where}::{test}" if where and test else where or test)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: str(each.relative_to(ROOT)))
def test_every_test_that_a_document_names_is_there(document: Path) -> None:
    assert missing(document.read_text()) == []


def test_one_that_is_not_there_is_found() -> None:
    here = "`tests/unit/test_docs.py::test_one_that_is_not_there_is_found`, test_docs.py, `tests/unit`, tests/cloud/test_j*.py"
    assert len(list(named(here))) == 4 and missing(here) == []
    for wrong in ("test_docs.py::test_x", "test_nobody_wrote_this", "tests/unit/test_nothing.py", "tests/none*/x.py"):
        assert missing(f"see `{wrong}`.") == [wrong]
    assert len(list(named((ROOT / "docs/security.md").read_text()))) >= 12
