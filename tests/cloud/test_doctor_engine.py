"""`rollcall doctor` with the real engine: its backend, its secrets, its configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from components.commands.doctor import engine, environment
from components.commands.doctor.environment import Environment
from components.commands.doctor.points import Finding, Verdict
from localcloud.engine import ensure
from tests.cloud.doctor_world import own_environment, project

pytestmark = [pytest.mark.clouds, pytest.mark.engine]


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    own_environment(monkeypatch)
    # These tests are about what the engine answers. On a busy machine it takes longer than a user would wait.
    monkeypatch.setattr(environment, "ENGINE_LIMIT_S", 60.0)
    (tmp_path / "backend").mkdir()
    for name, value in {
        "PATH": f"{ensure(lambda line: print(line, file=sys.stderr))}:{os.environ['PATH']}",
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_BACKEND_URL": f"file://{tmp_path / 'backend'}",
        "PULUMI_CONFIG_PASSPHRASE": "right",
        "PULUMI_SKIP_UPDATE_CHECK": "1",
    }.items():
        monkeypatch.setenv(name, value)
    made = Environment(root=project(tmp_path / "project"), stack="prod")
    pulumi(made, "stack", "init", "prod")
    fleet = {"cloud": "aws", "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}
    file = made.root / "Pulumi.prod.yaml"
    written = yaml.safe_load(file.read_text())
    config = {"aws:region": "us-west-2", "rollcall:sites": {"www": {"zone": "scalability.expert"}}}
    file.write_text(yaml.safe_dump({**written, "config": {**config, "rollcall:fleets": {"web": fleet}}}))
    yield made
    made.processes.end()


def pulumi(env: Environment, *words: str) -> None:
    subprocess.run(["pulumi", *words, "--non-interactive"], cwd=env.root, check=True, capture_output=True)


def found(env: Environment) -> list[Finding]:
    list(engine.stack(env))
    return [*engine.backend(env), *engine.secrets(env), *engine.configuration(env)]


@pytest.mark.parametrize("with_secret", [False, True], ids=["no secret", "a secret"])
def test_the_passphrase_is_tried_also_if_there_is_no_secret(
    env: Environment, monkeypatch: pytest.MonkeyPatch, with_secret: bool
) -> None:
    if with_secret:
        pulumi(env, "config", "set", "--secret", "cloudflare:apiToken", "hidden")
    before = sorted(env.root.iterdir()), (env.root / "Pulumi.prod.yaml").read_text()
    assert {each.verdict for each in engine.secrets(env)} == {Verdict.OK}
    for wrong in ("wrong", ""):
        monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", wrong)
        (secrets,) = engine.secrets(env)
        assert secrets.verdict is Verdict.WRONG
        assert secrets.text.startswith("PULUMI_CONFIG_PASSPHRASE: does not open the secrets of the stack (")
        assert "hidden" not in secrets.text and "Set PULUMI_CONFIG_PASSPHRASE" in secrets.text
    assert (sorted(env.root.iterdir()), (env.root / "Pulumi.prod.yaml").read_text()) == before, "nothing was written"


def test_a_secret_that_cannot_be_read_is_not_replaced_by_the_environment(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulumi(env, "config", "set", "--secret", "cloudflare:apiToken", "hidden")
    found(env)
    assert env.get("cloudflare:apiToken") == "hidden"
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "wrong")
    found(env)
    assert env.get("cloudflare:apiToken") is None and "cloudflare:apiToken" in env.config.secrets


def test_a_backend_that_is_not_there_and_a_stack_that_is_not_there(
    env: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert {each.verdict for each in found(env)} == {Verdict.OK}
    env.stack = "staging"
    (text,) = [each.text for each in engine.stack(env)]
    assert text == (
        "--stack: the stack staging has no file that can be read. Correct the name, or run `pulumi stack init staging`."
    )
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path / 'missing'}")
    (backend,) = engine.backend(env)
    assert backend.verdict is Verdict.WRONG and "Correct PULUMI_BACKEND_URL" in backend.text


def test_the_selected_stack_is_the_default(env: Environment) -> None:
    env.stack = ""
    assert [each.text for each in engine.stack(env)] == ["prod"]


def test_an_engine_without_a_version_is_not_proven(env: Environment) -> None:
    """The engine that a rehearsal builds from its source has none."""
    (version,) = engine.engine(env)
    assert version.verdict is Verdict.NOT_PROVEN and "has no version, as a build from source" in version.text
