"""Each picture of the documents is what its source makes, and is shown in a document."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.pictures import diagram, terminal

DOCS = Path(diagram.__file__).parents[1]
PICTURES = sorted((DOCS / "pictures").glob("*.svg"))


@pytest.mark.parametrize("source", diagram.sources(), ids=lambda each: each.stem)
def test_a_diagram_is_what_its_source_makes(source: Path) -> None:
    assert source.with_suffix(".svg").read_text() == diagram.draw(source.read_text())


def test_the_terminal_is_what_make_up_printed() -> None:
    log = terminal.LOG.read_text()
    assert terminal.LOG.with_suffix(".svg").read_text() == terminal.draw(log)
    printed = log.splitlines()
    for line in terminal.shown(log)[1:]:
        assert not line.strip("… ") or any(each.startswith(line.rstrip("…")) for each in printed), line
    assert "/root" not in log and "/home/" not in log


@pytest.mark.parametrize("picture", PICTURES, ids=lambda each: each.stem)
def test_a_picture_is_well_formed_follows_the_theme_and_is_shown(picture: Path) -> None:
    assert ElementTree.fromstring(picture.read_text()).find("{*}title") is not None  # noqa: S314
    assert "prefers-color-scheme:dark" in picture.read_text()
    documents = [DOCS.parent / "README.md", *DOCS.glob("*.md")]
    assert any(re.search(rf"!\[[^]]+\]\((docs/)?pictures/{picture.name}\)", each.read_text()) for each in documents)


@pytest.mark.parametrize(
    "source",
    [
        "title: x\nkind: pie\n",
        "title: x\nkind: sequence\nactors: a | b\na -> c: go\n",
        "title: x\nkind: graph\nnode a: b\n",
    ],
)
def test_a_source_that_cannot_be_read_is_an_error_with_its_title_and_the_fix(source: str) -> None:
    with pytest.raises(diagram.SourceError, match=r"^x: .* Write `.*`\.$"):
        diagram.draw(source)
