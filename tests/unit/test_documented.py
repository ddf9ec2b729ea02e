"""The list of commands that no test of the documents runs is complete, and has nothing that is not shown."""

from __future__ import annotations

import pytest

from tests.documented import DOCUMENTS, EXCEPTIONS, RUN_ELSEWHERE, blocks, commands, reached, to_run

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


@pytest.mark.parametrize("command", RUN_ELSEWHERE)
def test_another_test_runs_the_command(command: str) -> None:
    """The text that runs it has the command's last word, and the test has this text or calls what has it."""
    found = RUN_ELSEWHERE[command]
    assert found.test.partition("::")[2].startswith("test_")
    assert command.split()[-1] in found.by and found.by in reached(found.test)


def test_a_test_that_does_not_run_the_command_is_noticed() -> None:
    make = "tests/integration/test_make.py::test_the_catalogue_takes_words_as_help_gives_them"
    assert 'make("catalogue"' in reached(make) and "commands.down(" not in reached(make)
    with pytest.raises(KeyError):
        reached("tests/integration/test_make.py::test_that_does_not_exist")


def test_comments_go_and_continued_lines_are_joined() -> None:
    assert commands("a  # why\nb \\\n  --c\n\n# only\ndig ${x#*:}\n") == ["a", "b --c", "dig ${x#*:}"]
    assert to_run(["make up PLUGINS=real", "pulumi preview", "lc crash web"]) == ["pulumi preview"]
