"""docs/benchmarks.md is what the results say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import __main__ as benches
from bench import rows
from bench.rows import Row, in_turn, report


def test_the_document_is_made_from_the_results() -> None:
    assert benches.TABLE.read_text() == benches.table()


def test_every_bench_that_is_run_is_there() -> None:
    files = {each.stem for each in benches.HERE.glob("*.py")} - {
        "__init__",
        "__main__",
        "rows",
        "clouds",
        "agent_alone",
        "soak",
    }
    assert files == set(benches.BENCHES)


def test_a_missed_goal_is_reported_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rows, benches):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    missed = Row(
        question="q", ours="3 s", other="1 s", ratio=3.0, n="1", goal="≤ 2 ×", met=False, why="too far away\n9 s"
    )
    assert report("client", [missed, Row(question="k", ours="1", n="1", goal="1", met=True)]) == 1
    assert json.loads((tmp_path / "client.json").read_text())["repeat"] == "make bench-client"
    text = benches.table()
    assert "Too far away:\n\n- client: q: 9 s\n" in text and "| q | 3 s | 1 s | 3 × | 1 | ≤ 2 × | **no** |" in text
    assert "| k | 1 |  |  | 1 | 1 | yes |" in text


def test_the_sides_take_turns() -> None:
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return 1.0

    in_turn({"a": lambda: side("a"), "b": lambda: side("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
