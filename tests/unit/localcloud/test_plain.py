"""localcloud.runtime.plain: in the checkout `pulumi` works on the sandbox's stack, in any other project it is the engine as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from localcloud.runtime import plain
from localcloud.runtime.prepare import ROOT
from localcloud.runtime.sandbox import Sandbox, SandboxError

SOURCE = "config:\n  rollcall:drainDelay: 5\n  aws:profile: production\n"


class Shell:
    """A shell after `make -s env`, with an engine that says where it works and what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.work = self.state / plain.PROGRAM
        self.work.mkdir(parents=True)
        self.source = folder / "Pulumi.mine.yaml"
        self.source.write_text(SOURCE)
        engine = folder / "engine"
        engine.write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
        engine.chmod(0o755)
        self.bin = plain.write_command(self.state, Path(sys.executable), engine)

    def lay_out(self, project: Path = ROOT) -> list[str]:
        return plain.copy_project(self.state, self.source, "Pulumi.local.yaml", project)

    def run(self, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}
        return subprocess.run(["pulumi", *words], cwd=folder, env=env, capture_output=True, text=True, check=False)

    def given(self, folder: Path, *words: str) -> list[str]:
        """The engine's arguments; the folder that it was started in is the caller's."""
        done = self.run(folder, *words)
        assert done.returncode == 0, done.stderr
        where, *rest = done.stdout.splitlines()
        assert Path(where) == folder
        return rest

    def config(self) -> dict[str, object]:
        found: dict[str, object] = yaml.safe_load((self.work / "Pulumi.local.yaml").read_text())
        return found


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    made.lay_out()
    return made


@pytest.mark.parametrize("folder", [ROOT, ROOT / "localcloud", ROOT / "docs" / "examples"])
def test_anywhere_in_the_checkout_the_engine_works_in_the_rehearsals_folder(shell: Shell, folder: Path) -> None:
    """Also in localcloud/, which has modules with the names of the standard library's."""
    assert shell.given(folder, "stack", "output", "--json") == ["--cwd", str(shell.work), "stack", "output", "--json"]


def test_in_another_project_it_is_the_engine_as_it_is(shell: Shell, tmp_path: Path) -> None:
    other = tmp_path / "other" / "deep"
    other.mkdir(parents=True)
    (other.parent / "Pulumi.yaml").write_text("name: other\nruntime: python\n")
    for folder in (other, tmp_path, shell.work):
        assert shell.given(folder, "up") == ["up"]


OWN = """\
name: mine
description: the shop of a team
main: vendor/rollcall
runtime: { name: python, options: { virtualenv: vendor/rollcall/.venv } }
options: { refresh: always }
"""


def own_project(folder: Path, text: str = OWN) -> Path:
    """A repository of an operator's, with Rollcall in vendor/rollcall."""
    (folder / "vendor").mkdir(parents=True)
    (folder / "vendor/rollcall").symlink_to(ROOT)
    (folder / "Pulumi.yaml").write_text(text)
    return folder


def test_in_an_operators_repository_that_is_up_the_engine_works_in_the_rehearsals_folder(
    shell: Shell, tmp_path: Path
) -> None:
    own = own_project(tmp_path / "own")
    assert shell.given(own, "up") == ["up"]
    shell.source.write_text(f"{SOURCE}  rollcall:workloads: {{ shop: {{ files: shop/dist }} }}\n")
    shell.lay_out(own)
    for folder in (own, own / "vendor"):
        assert shell.given(folder, "up") == ["--cwd", str(shell.work), "up"]
    copied = yaml.safe_load((shell.work / "Pulumi.yaml").read_text())
    # The rehearsal's folder has the program and its virtual environment in itself.
    assert copied == {
        "name": "mine",
        "description": "the shop of a team",
        "options": {"refresh": "always"},
        "runtime": {"name": "python", "options": {"virtualenv": ".venv"}},
    }
    assert plain.project_of(shell.state) == own
    # What changes there is copied, as what changes in the checkout.
    (own / "Pulumi.yaml").write_text(OWN.replace("mine", "ours"))
    shell.given(own, "preview")
    assert yaml.safe_load((shell.work / "Pulumi.yaml").read_text())["name"] == "ours"


def test_a_sandbox_of_an_operators_repository_takes_stacks_and_the_name_from_there(tmp_path: Path) -> None:
    own = own_project(tmp_path / "own")
    sandbox = Sandbox(stack="prod", instance="of-a-test", project=own)
    assert (sandbox.source, sandbox.tag) == (own / "Pulumi.prod.yaml", "mine.prod")
    # Without local clouds that are up, nothing says whose project it is.
    assert sandbox.as_it_is_up() == sandbox and Sandbox(instance="of-a-test").as_it_is_up().project == ROOT
    with pytest.raises(SandboxError, match=f"{tmp_path}/Pulumi.yaml: is not the file of a Pulumi project"):
        _ = Sandbox(project=tmp_path).tag


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name: mine\nruntime: python\n", "main is None, and this Rollcall is in"),
        (OWN.replace("main: vendor/rollcall", "main: vendor"), "main is vendor, and this Rollcall is in"),
        (OWN.replace("name: mine", "nam: mine"), "is not the file of a Pulumi project"),
        ("[", "is not the file of a Pulumi project"),
        ("- a", "is not the file of a Pulumi project"),
        (OWN.replace("main: vendor/rollcall", "main: [1]"), "is not the file of a Pulumi project"),
    ],
)
def test_a_project_with_another_program_is_refused(shell: Shell, tmp_path: Path, text: str, why: str) -> None:
    own = own_project(tmp_path / "own", text)
    with pytest.raises(ValueError, match=why) as refused:
        shell.lay_out(own)
    assert str(refused.value).startswith(f"{own}/Pulumi.yaml: ")
    with pytest.raises(ValueError, match="is not the file of a Pulumi project"):
        shell.lay_out(tmp_path)


@pytest.mark.parametrize("words", [("-C", "/x", "up"), ("up", "--cwd", "/x"), ("--cwd=/x", "up"), ("version",)])
def test_an_explicit_working_directory_is_used(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell.given(ROOT, *words) == list(words)


def test_files_are_those_of_the_callers_folder(shell: Shell) -> None:
    words = ["stack", "export", "--file", "state.json", "--out=plan", "--event-log", "tcp://127.0.0.1:1", "--file", "-"]
    assert shell.given(ROOT / "docs", *words)[2:] == [
        "stack",
        "export",
        "--file",
        f"{ROOT}/docs/state.json",
        f"--out={ROOT}/docs/plan",
        "--event-log",
        "tcp://127.0.0.1:1",
        "--file",
        "-",
    ]


def test_arguments_and_the_exit_code_come_through_whole(shell: Shell, tmp_path: Path) -> None:
    words = ["config", "set", "a b", "it's $HOME", ""]
    assert shell.given(ROOT, *words)[2:] == words
    (tmp_path / "engine").write_text("#!/bin/sh\nexit 37\n")
    assert shell.run(ROOT, "up").returncode == 37


def test_what_changed_in_the_checkout_is_copied_before_and_the_salt_stays(shell: Shell) -> None:
    copy = shell.work / "Pulumi.local.yaml"
    assert shell.config() == {"config": {"rollcall:drainDelay": 5}}
    copy.write_text(f"{copy.read_text()}encryptionsalt: v1:abc\n")
    shell.source.write_text(SOURCE.replace("5", "7"))
    shell.given(ROOT, "preview")
    assert shell.config() == {"config": {"rollcall:drainDelay": 7}, "encryptionsalt": "v1:abc"}


def test_what_changed_in_the_copy_stays_while_the_checkout_is_the_same(shell: Shell) -> None:
    copy = shell.work / "Pulumi.local.yaml"
    copy.write_text("config:\n  rollcall:drainDelay: 9\n")
    shell.given(ROOT, "preview")
    assert shell.config() == {"config": {"rollcall:drainDelay": 9}}


def test_keys_that_the_copy_leaves_out_are_not_listed_in_the_engines_output(shell: Shell) -> None:
    assert shell.lay_out() == ["aws:profile"]
    shell.source.write_text(SOURCE.replace("5", "7"))
    done = shell.run(ROOT, "stack", "output", "--json")
    assert done.stdout.splitlines()[1:] == ["--cwd", str(shell.work), "stack", "output", "--json"] and done.stderr == ""


def test_a_configuration_that_cannot_be_read_is_named(shell: Shell) -> None:
    shell.source.write_text("config: [")
    done = shell.run(ROOT, "preview")
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.startswith("rollcall: Pulumi.mine.yaml: ")


def test_before_anything_is_deployed_the_way_to_it_is_reported(tmp_path: Path) -> None:
    bare = Shell(tmp_path)
    for gone in (False, True):
        if gone:
            shutil.rmtree(bare.work)
        done = bare.run(ROOT, "stack", "output")
        assert (done.returncode, done.stdout) == (1, "")
        assert "Run `make up` or `make preview` first." in done.stderr


def test_an_engine_that_has_gone_since_is_named(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "engine").unlink()
    done = shell.run(ROOT, "preview")
    assert (
        done.returncode == 1
        and f"rollcall: {tmp_path}/engine: No such file or directory. Run `make prepare`" in done.stderr
    )
