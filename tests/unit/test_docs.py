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


_LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)#\s:]*)(?:#([^)\s]+))?\)|!\[[^]]*\]\(([^)\s:]+)\)")


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#{1,6} (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", each).lower()).replace(" ", "-")
        for each in headings
    }


def broken(document: Path, text: str) -> list[str]:
    """Each link of a document to a file or a heading that does not exist."""
    found = []
    for page, anchor, picture in _LINK.findall(re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)):
        target = document.parent / (page or picture) if page or picture else document
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target.read_text())):
            found.append(f"{page or picture}#{anchor}")
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: str(each.relative_to(ROOT)))
def test_every_link_of_a_document_leads_to_a_file_and_a_heading(document: Path) -> None:
    assert broken(document, document.read_text()) == []


def test_a_broken_link_is_found() -> None:
    here = ROOT / "docs/README.md"
    good = "[a](glossary.md#roll-call) [b](../README.md) ![c](pictures/rehearsal.svg) [d](https://example.com/x)"
    assert broken(here, good) == []
    for wrong in ("[a](glossary.md#none)", "[b](none.md)", "![c](pictures/none.svg)"):
        assert len(broken(here, wrong)) == 1, wrong


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs/README.md").read_text()
    assert [each.name for each in sorted((ROOT / "docs").glob("*.md")) if f"({each.name}" not in index] == ["README.md"]
