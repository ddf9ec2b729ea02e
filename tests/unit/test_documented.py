"""The list of commands that no test of the documents runs is complete, and has nothing that is not shown."""

from __future__ import annotations

import pytest

from tests.documented import DOCUMENTS, EXCEPTIONS, ROOT, RUN_ELSEWHERE, blocks, commands, to_run

SHOWN = [command for document in DOCUMENTS for block in blocks(document) for command in block]
# What tests/integration/test_make.py has the means to run: the stack is up, without machines.
RUNNABLE = (
    "eval ",
    "pulumi stack output",
    "pulumi preview",
    "pulumi up",
    "dig ",
    "lc",
    ".venv/bin/python -m localcloud ps",
)


def test_every_command_is_run_or_has_a_reason() -> None:
    assert [each for each in SHOWN if to_run([each]) and not each.startswith(RUNNABLE)] == []


@pytest.mark.parametrize("command", [*EXCEPTIONS, *RUN_ELSEWHERE])
def test_no_exception_outlives_its_command(command: str) -> None:
    assert any(each.startswith(command) for each in SHOWN)


@pytest.mark.parametrize("test", sorted(set(RUN_ELSEWHERE.values())))
def test_a_test_that_runs_a_command_exists(test: str) -> None:
    file, _, name = test.partition("::")
    assert (ROOT / file).exists() and (not name or f"def {name}(" in (ROOT / file).read_text())


def test_comments_go_and_continued_lines_are_joined() -> None:
    assert commands("a  # why\nb \\\n  --c\n\n# only\ndig ${x#*:}\n") == ["a", "b --c", "dig ${x#*:}"]
    assert to_run(["make up PLUGINS=real", "pulumi preview", "lc crash web"]) == ["pulumi preview"]
