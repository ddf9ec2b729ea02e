"""The workflows: they parse, may do as little as they can, are pinned, and every command in them exists."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.commands.review import marker
from rollcall import console
from tests.tutorial_page import OWN_PAGE
from tests.unit import builders

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONS = sorted((ROOT / ".github" / "actions").glob("*/action.yml"))
ACTIONLINT = "1.7.12"
# What a runner has, beside the shell's own words.
TOOLS = {
    "gh",
    "head",
    "cat",
    "echo",
    "pulumi",
    "python",
    "exit",
    "if",
    "then",
    "else",
    "fi",
    "id",
    "mine",
    "{",
    "}",
    "cd",
    "rollcall",
}


def parsed(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    return found


def jobs(workflow: dict[Any, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = workflow["jobs"]
    return found


def steps() -> list[tuple[str, dict[str, Any]]]:
    """Every step of every workflow and action, with the file that it is in."""
    found = []
    for path in (*WORKFLOWS, *ACTIONS):
        whole = yaml.safe_load(path.read_text())
        groups = [job["steps"] for job in whole["jobs"].values()] if "jobs" in whole else [whole["runs"]["steps"]]
        found += [(path.relative_to(ROOT).as_posix(), step) for group in groups for step in group]
    return found


def test_there_are_three_workflows() -> None:
    assert [each.stem for each in WORKFLOWS] == ["deploy", "drift", "preview"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_do_nothing_and_each_job_only_what_it_needs(path: Path) -> None:
    workflow = parsed(path.stem)
    assert workflow["permissions"] == {}
    allowed = {"contents": "read", "id-token": "write"}
    for name, job in jobs(workflow).items():
        assert job["permissions"] == ({"pull-requests": "write"} if name == "comment" else allowed), name
        assert "timeout-minutes" in job, name


def test_what_runs_a_pull_requests_code_cannot_write_to_it_and_what_writes_runs_none_of_it() -> None:
    found = jobs(parsed("preview"))
    assert "pull-requests" not in found["preview"]["permissions"]
    assert not [step for step in found["comment"]["steps"] if "checkout" in step.get("uses", "")]
    assert "secrets." not in yaml.safe_dump(found["comment"])
    # `pull_request_target` would run a stranger's code with our secrets. YAML reads the key `on` as a boolean.
    assert list(parsed("preview")[True]) == ["pull_request"]
    assert "head.repo.full_name == github.repository" in found["preview"]["if"]


def test_two_deployments_never_run_at_once_and_wait_for_their_environment() -> None:
    deploy = parsed("deploy")
    assert deploy["concurrency"] == {"group": "deploy", "cancel-in-progress": False}
    assert {job["environment"] for job in jobs(deploy).values()} == {"production"}
    for name in ("preview", "drift"):
        assert parsed(name)["concurrency"]["group"] != "deploy"
        assert {job.get("environment", "preview") for job in jobs(parsed(name)).values()} == {"preview"}


def test_the_drift_check_fails_on_any_difference_and_shows_it() -> None:
    (job,) = jobs(parsed("drift")).values()
    looking, saying = job["steps"][-2:]
    assert "--expect-no-changes" in looking["run"] and "continue-on-error" not in looking
    assert saying["if"] == "always()" and "GITHUB_STEP_SUMMARY" in saying["run"]
    assert "schedule" in parsed("drift")[True]


def test_the_comment_is_found_again_by_its_mark() -> None:
    found = jobs(parsed("preview"))
    assert found["comment"]["env"]["MARK"] == marker(found["preview"]["env"]["STACK"])
    script = found["comment"]["steps"][-1]["run"]
    assert "startswith(env.MARK)" in script and "PATCH" in script


def test_every_action_is_pinned_to_a_commit_and_says_its_version() -> None:
    for path in (*WORKFLOWS, *ACTIONS):
        for line in path.read_text().splitlines():
            if "uses:" in line and "./" not in line:
                assert re.search(r"uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), (path.name, line)
    for name, step in steps():
        if step.get("uses", "").startswith("./"):
            assert (ROOT / step["uses"] / "action.yml").exists(), name


def test_nothing_that_a_stranger_writes_is_put_into_a_script() -> None:
    for name, step in steps():
        assert "${{" not in step.get("run", ""), name
    for name, step in steps():
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False, name


def test_every_command_exists() -> None:
    commands = 0
    for name, step in steps():
        for line in step.get("run", "").splitlines():
            for module in re.findall(r"python -m ([\w.]+)", line):
                assert module == "venv" or importlib.util.find_spec(module), (name, module)
            for command in re.findall(r"^rollcall (\S+)", line.strip()):
                assert command in console.ABOUT_A_STACK, (name, command)
            for option in re.findall(r"rollcall review .*", line):
                known = set(re.findall(r"--[a-z-]+", _help()))
                assert set(re.findall(r"--[a-z-]+", option)) <= known, (name, option)
            for file in re.findall(r"-r ([\w.-]+\.txt)", line):
                assert (ROOT / file).exists(), (name, file)
            word = re.split(r"[ =]", line.strip())[0]
            assert word in TOOLS or (word.startswith(".venv/bin/") and word.split("/")[-1] in ("python", "pip")), (
                name,
                line,
            )
            commands += 1
    stacks = {
        job["env"]["STACK"] for each in WORKFLOWS for job in jobs(parsed(each.stem)).values() if "STACK" in job["env"]
    }
    assert commands > 15 and all((ROOT / f"Pulumi.{stack}.yaml").exists() for stack in stacks) and stacks


def test_in_an_operators_repository_they_need_another_path_of_the_action_only(tmp_path: Path) -> None:
    """docs/own-repository.md copies them, and changes the path by this command."""
    (edit,) = re.findall(r"^sed -i .*\.github/workflows/.*$", OWN_PAGE.read_text(), re.M)
    shutil.copytree(ROOT / ".github/workflows", tmp_path / ".github/workflows")
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor/rollcall").symlink_to(ROOT)
    subprocess.run(["sh", "-c", edit], cwd=tmp_path, check=True)
    used, checkouts = set(), 0
    for path in (tmp_path / ".github/workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for step in job["steps"]:
                used |= {step["uses"]} if step.get("uses", "").startswith("./") else set()
                if "checkout" in step.get("uses", ""):
                    checkouts += step["with"]["submodules"] is True
                # Nothing but what the action has put on the PATH.
                assert ".venv" not in step.get("run", "") and "components" not in step.get("run", ""), path.name
    assert used == {"./vendor/rollcall/.github/actions/prepare"} and checkouts == 3
    assert all((tmp_path / each / "action.yml").exists() for each in used)


def test_the_action_installs_what_is_beside_it(tmp_path: Path) -> None:
    """With a Python that says what it is asked, in a repository that has Rollcall below it."""
    (action,) = ACTIONS
    (script,) = [step["run"] for step in yaml.safe_load(action.read_text())["runs"]["steps"] if "run" in step]
    vendor, path = tmp_path / "vendor/rollcall", tmp_path / "path"
    (vendor / ".github/actions/prepare").mkdir(parents=True)
    (vendor / ".venv/bin").mkdir(parents=True)
    for name in (tmp_path / "python", vendor / ".venv/bin/pip"):
        name.write_text(f'#!/bin/sh\necho "$PWD ${{0##*/}} $*" >>{tmp_path}/log\n')
        name.chmod(0o755)
    given = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "GITHUB_ACTION_PATH": str(vendor / ".github/actions/prepare"),
        "GITHUB_PATH": str(path),
    }
    subprocess.run(["bash", "-eo", "pipefail", "-c", script], cwd=tmp_path, env=given, check=True)
    log = (tmp_path / "log").read_text().splitlines()
    assert len(log) == 3 and all(line.startswith(f"{vendor} ") for line in log), log
    assert path.read_text() == f"{vendor}/.venv/bin\n"


def _help() -> str:
    from components.commands.review.__main__ import parser

    made: argparse.ArgumentParser = parser()
    return made.format_help()


def test_the_engine_is_the_one_that_we_test_with() -> None:
    (pinned,) = {step["with"]["pulumi-version"] for _, step in steps() if "pulumi/actions@" in step.get("uses", "")}
    assert f"pulumi=={pinned}\n" in (ROOT / "requirements.in").read_text()


def test_the_python_is_one_that_builds_the_userdata_in_our_tests() -> None:
    pinned = {step["with"]["python-version"] for _, step in steps() if "setup-python@" in step.get("uses", "")}
    assert pinned and pinned <= {*builders.VERSIONS}


def test_actionlint_reports_nothing() -> None:
    tool = _actionlint()
    done = subprocess.run([tool, *map(str, WORKFLOWS)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _actionlint() -> Path:
    """Built once from its Go module into the cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rollcall" / f"actionlint-{ACTIONLINT}"
    if not (cache / "actionlint").exists():
        go = shutil.which("go")
        if not go:
            pytest.skip("actionlint is built with Go, which is not here")
        module = f"github.com/rhysd/actionlint/cmd/actionlint@v{ACTIONLINT}"
        subprocess.run([go, "install", module], env={**os.environ, "GOBIN": str(cache)}, cwd="/", check=True)
    return cache / "actionlint"
