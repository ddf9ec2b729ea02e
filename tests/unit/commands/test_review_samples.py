"""Sample changes as the real engine previewed them (`tests/integration/test_review_engine.py`), and their golden comments."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from components.commands.review import commented, read_log

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "review"
RECORDED = sorted(SAMPLES.glob("*.events.gz"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name.partition(".")[0])
def test_each_sample_is_its_golden_file(path: Path) -> None:
    text = commented(read_log(gzip.decompress(path.read_bytes()).decode()), stack="local")
    golden = path.with_name(path.name.replace(".events.gz", ".md")).read_text()
    assert text == golden


def test_there_is_a_sample_of_each_change() -> None:
    assert {each.name.partition(".")[0] for each in RECORDED} >= {
        "scale",
        "config-mistake",
        "drift",
        "replacement",
        "deletion",
    }


def test_the_guide_shows_a_sample_as_it_is() -> None:
    guide = (SAMPLES.parents[2] / "docs" / "review.md").read_text()
    _, _, sample = (SAMPLES / "replacement.md").read_text().partition("\n")
    assert sample.strip() in guide
