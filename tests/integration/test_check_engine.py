"""`rollcall check` reads a stack's file as the real engine does, also what `pulumi config set` has written into it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.config.reader import decoded, read_whole
from components.config.stack_file import read
from localcloud.engine import ensure
from tests.unit.config.test_stack_file import WRITTEN

pytestmark = pytest.mark.engine
PROJECT = """\
name: rollcall
runtime: python
config:
  rollcall:drainDelay: { type: integer, default: 86400 }
  rollcall:safeDeletes: { type: boolean, default: true }
"""
Pulumi = Callable[..., str]


@pytest.fixture
def pulumi(tmp_path: Path) -> Pulumi:
    """The engine in its own project, with a stack `prod`."""
    engine = ensure(lambda line: print(line, file=sys.stderr))
    (tmp_path / "Pulumi.yaml").write_text(PROJECT)
    (tmp_path / "backend").mkdir()
    env = {
        "PATH": f"{engine}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_BACKEND_URL": f"file://{tmp_path / 'backend'}",
        "PULUMI_CONFIG_PASSPHRASE": "of-this-test",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }

    def run(*words: str) -> str:
        command = ["pulumi", *words, "--stack", "prod", "--non-interactive"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("stack", "init")
    return run


def handed_over(pulumi: Pulumi) -> dict[str, Any]:
    """What the engine hands to the program, by key."""
    found = json.loads(pulumi("config", "--json", "--show-secrets"))
    return {key: each["value"] for key, each in found.items()}


def test_every_form_of_a_value_is_read_as_the_engine_reads_it(pulumi: Pulumi, tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.prod.yaml"
    lines = [f"  rollcall:x{number}: {written}" for number, (written, _) in enumerate(WRITTEN)]
    file.write_text("\n".join(["config:", *lines, *file.read_text().splitlines()]) + "\n")
    theirs, ours = handed_over(pulumi), read(tmp_path, "prod").texts
    assert set(theirs) == set(ours)
    for number, (written, text) in enumerate(WRITTEN):
        key = f"rollcall:x{number}"
        assert theirs[key] == text, written
        assert decoded({"x": ours[key]}) == decoded({"x": theirs[key]}), written


def test_what_config_set_writes_is_read_as_a_user_expects(pulumi: Pulumi, tmp_path: Path) -> None:
    pulumi("config", "set", "rollcall:drainDelay", "5")
    pulumi("config", "set", "rollcall:safeDeletes", "false")
    pulumi("config", "set", "rollcall:rotationTrigger", "2026")
    pulumi("config", "set", "--path", "rollcall:resolvers[0]", "192.0.2.53")
    pulumi("config", "set", "--path", "rollcall:sites.www.zone", "scalability.expert")
    for key, value in {"cloud": "joyent", "size": "g1.nano", "image": "debian-12", "joins[0]": "site/www"}.items():
        pulumi("config", "set", "--path", f"rollcall:fleets.web.{key}", value)
    pulumi("config", "set", "--path", "rollcall:fleets.web.count", "2")
    pulumi("config", "set", "--path", "--type", "string", "rollcall:fleets.web.imageRefresh", "2026")
    ours = read(tmp_path, "prod")
    for texts in (dict(ours.texts), handed_over(pulumi)):
        settings, faults = read_whole("prod", decoded({key.partition(":")[2]: text for key, text in texts.items()}))
        assert faults == []
        assert (settings.drain_delay, settings.safe_deletes, settings.rotation_trigger, settings.resolvers) == (
            5,
            False,
            "2026",
            ("192.0.2.53",),
        )
        assert (settings.fleets[0].count, settings.fleets[0].image_refresh) == (2, "2026")
    # A secret number is a text to the program.
    pulumi("config", "set", "--secret", "--path", "rollcall:fleets.web.count", "3")
    texts = {key.partition(":")[2]: text for key, text in handed_over(pulumi).items()}
    settings, faults = read_whole("prod", decoded(texts), ("fleets",))
    assert (settings.fleets[0].count, faults) == (3, [])
    assert read(tmp_path, "prod").secrets == (("rollcall:fleets", "web", "count"),)
