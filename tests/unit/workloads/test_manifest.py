"""How many files differ between two releases, by the short texts in the state."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.workloads import manifest
from components.workloads.manifest import changed_files
from components.workloads.packing import pack
from components.workloads.release import LARGE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("index.html", "app.js", "css/site.css"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def of(folder: Path | None, **definition: str) -> str:
    return pack({"name": "www", **definition}, folder).manifest


@pytest.mark.parametrize("size", [0, 2 * LARGE])
def test_changed_new_and_removed_files_and_another_mode_count(folder: Path, size: int) -> None:
    (folder / "more").write_bytes(bytes(size))
    before = of(folder)
    assert changed_files(before, of(folder)) == 0
    (folder / "index.html").write_text("other")
    (folder / "new.html").write_text("new")
    (folder / "app.js").unlink()
    (folder / "css/site.css").chmod(0o755)
    assert changed_files(before, of(folder)) == 4


def test_another_target_of_a_link_counts(folder: Path) -> None:
    (folder / "now").symlink_to("app.js")
    before = of(folder)
    (folder / "now").unlink()
    (folder / "now").symlink_to("index.html")
    assert changed_files(before, of(folder)) == 1
    (folder / "now").unlink()
    (folder / "now").write_text("index.html")
    assert changed_files(before, of(folder)) == 1


def test_the_definition_is_not_a_file(folder: Path) -> None:
    assert changed_files(of(folder), of(folder, run="./start")) == 0
    assert changed_files(of(None), of(None, run="./start")) == 0
    assert changed_files(of(None), of(folder)) == 3


def test_a_release_with_many_files_has_no_manifest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = of(folder)
    monkeypatch.setattr(manifest, "MOST_FILES", 2)
    assert of(folder) == ""
    assert changed_files(before, "") is None and changed_files("", before) is None


def test_a_manifest_is_small(folder: Path) -> None:
    assert len(of(folder)) == 3 * 12
