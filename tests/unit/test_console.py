"""`rollcall --help` lists every command there is: those about a stack, and a machine's own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rollcall import cli, console

ROOT = Path(__file__).resolve().parents[2]
# What `python -m components.…` has beside them is not for people to call by this name.
STACK = {
    each
    for each in (
        "status",
        "abort",
        "adopt",
        "catalogue",
        "check",
        "doctor",
        "exec",
        "hold",
        "logs",
        "patch",
        "promote",
        "release",
        "release-hold",
        "review",
        "rollback",
    )
    if (ROOT / "components/commands" / f"{each.replace('-', '_')}.py").is_file()
    or (ROOT / "components/commands" / each).is_dir()
}


def rollcall(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command as pip installs it, in a folder."""
    command = Path(sys.executable).with_name("rollcall")
    return subprocess.run([str(command), *words], cwd=folder, capture_output=True, text=True, check=False)


def listed(text: str) -> dict[str, list[str]]:
    """Return the summary of each command; one command may be listed for a stack and for a machine."""
    found: dict[str, list[str]] = {}
    for name, summary in re.findall(r"^  ([\w-]+) +(\S.*)$", text, re.M):
        found.setdefault(name, []).append(summary)
    return found


def of_the_machine(capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The commands that the machine's own parser takes."""
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    (names,) = re.findall(r"^  \{([\w,]+)\}$", capsys.readouterr().out, re.M)
    return set(names.split(","))


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_lists_every_command_of_a_stack_and_of_a_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    assert len(STACK) == 15
    for folder in (ROOT, tmp_path):
        done = rollcall(folder, word)
        assert (done.returncode, done.stderr) == (0, "")
        assert set(listed(done.stdout)) == STACK | of_the_machine(capsys)


def test_help_says_what_status_is_for_a_stack_and_for_a_machine() -> None:
    stack, machine = listed(console.usage())["status"]
    assert "state, clouds and DNS" in stack and "the agent" in machine


def test_help_of_a_command_of_a_stack_is_its_own() -> None:
    for command in sorted(STACK):
        done = rollcall(ROOT, command, "--help")
        assert done.returncode == 0 and f"usage: rollcall {command}" in done.stdout, done


@pytest.mark.parametrize(("words", "what"), [([], "no command was given"), (["dance"], "'dance' is not a command")])
def test_an_unknown_command_is_refused_with_the_way_to_the_list(tmp_path: Path, words: list[str], what: str) -> None:
    done = rollcall(tmp_path, *words)
    assert done.returncode == 2
    assert done.stderr == f"rollcall: {what}. `rollcall --help` lists them.\n"


def test_the_machines_commands_are_still_the_machines(tmp_path: Path) -> None:
    done = rollcall(tmp_path, "join", "--help")
    assert done.returncode == 0 and "usage: rollcall join" in done.stdout


def own_repository(folder: Path, main: str = "vendor/rollcall") -> Path:
    """An operator's repository, whose Pulumi.yaml names Rollcall's program as `main`."""
    made = folder / "own"
    (made / "vendor").mkdir(parents=True)
    (made / "vendor/rollcall").symlink_to(ROOT)
    (made / "Pulumi.yaml").write_text(f"name: mine\nmain: {main}\nruntime: python\n")
    (made / "Pulumi.prod.yaml").write_text("config:\n  rollcall:drainDelay: soon\n")
    return made


@pytest.mark.parametrize("main", ["vendor/rollcall", "./vendor/rollcall/", "vendor/rollcall/__main__.py"])
def test_in_a_repository_with_the_program_as_main_it_is_about_the_stacks_there(tmp_path: Path, main: str) -> None:
    done = rollcall(own_repository(tmp_path, main), "check")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("prod: ") and "rollcall:drainDelay: " in done.stdout


@pytest.mark.parametrize("main", ["elsewhere", "vendor", "[1]", "{"])
def test_in_a_project_without_the_program_a_command_about_a_stack_names_the_fix(tmp_path: Path, main: str) -> None:
    folder = own_repository(tmp_path, main)
    done = rollcall(folder, "check")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("rollcall check: reason=no-program folder=") and "`main`" in done.stderr
