"""tests.tutorial_page reads docs/tutorial.md: no block is left out, and a line that is not printed is noticed."""

from __future__ import annotations

import subprocess

import pytest

from tests.tutorial_page import PAGE, Block, blocks, missing

FOUND = blocks(PAGE.read_text())


def test_each_block_is_of_the_shell_and_has_no_error_of_syntax() -> None:
    assert len(FOUND) >= 15 and sum(bool(each.shown) for each in FOUND) >= 8
    assert PAGE.read_text().count("```sh\n") == len(FOUND)
    for each in FOUND:
        done = subprocess.run(["bash", "-n", "-c", each.commands], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), each.commands


def test_commands_in_a_list_are_those_that_a_reader_copies() -> None:
    text = (
        "1. Do it:\n\n   ```sh\n   cat <<END\n     in\n   END\n   ```\n\n   You see:\n\n   ```text\n     in\n   ```\n"
    )
    assert blocks(text) == [Block(commands="cat <<END\n  in\nEND\n", shown=("  in",))]
    for wrong in ("```text\nx\n```\n", "```console\nx\n```\n", "```sh\nx\n```\n```text\nx\n```\n```text\nx\n```\n"):
        with pytest.raises(ValueError, match="is neither commands nor what they print"):
            blocks(wrong)


def test_what_is_not_printed_or_in_another_order_is_noticed() -> None:
    printed = "a 1 b\nnext\nlast (x)\n"
    assert missing(("a … b", "last (x)"), printed) == [] == missing((), "")
    assert missing(("next", "a … b"), printed) == ["a … b"]
    assert missing(("a … c", "next"), printed) == ["a … c", "next"]
    assert missing(("next", "next"), printed) == ["next"] and missing(("ast (x)",), printed) == ["ast (x)"]
