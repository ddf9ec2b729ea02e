"""`make` and plain `pulumi` as a user types them, with the real engine on local clouds that boot nothing."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from localcloud.runtime import sandbox as commands
from localcloud.runtime.prepare import ROOT
from localcloud.runtime.sandbox import Sandbox, SandboxError
from tests import documented
from tests.integration.conftest import sandboxed

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:sites: { www: { zone: scalability.expert, host: shop, ttl: 60 } }
  rollcall:serviceDiscovery:
    zone: unilans.net
    services:
      theService: { port: 4218, incarnations: { v1: {}, v2: {} } }
      other: { port: 8080, protocol: udp, check: "tcp:8080", incarnations: { blue: {} } }
  rollcall:fleets:
    web: { cloud: aws, count: 0, size: t3.micro, image: debian-12, joins: [site/www, theService/v1, other/blue] }
"""


class Made:
    """Local clouds named as `make STACK=…` names them, and what `make up` printed."""

    def __init__(self, sandbox: Sandbox, config: Path, up: str) -> None:
        self.sandbox, self.config, self.up = sandbox, config, up

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        words = ("make", "-s", *words, f"STACK={self.sandbox.instance}")
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)

    def shell(self) -> dict[str, str]:
        """The caller's environment with what `make -s env` exports."""
        done = self.make("env")
        assert done.returncode == 0, done.stderr
        words = [shlex.split(line) for line in done.stdout.splitlines()]
        assert all(each[0] == "export" and len(each) == 2 for each in words)
        return {**os.environ, **dict(each[1].split("=", 1) for each in words)}

    def pulumi(self, env: Mapping[str, str], *words: str, folder: Path = ROOT) -> str:
        done = subprocess.run(["pulumi", *words], cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    config = tmp_path_factory.mktemp("make") / "Pulumi.local.yaml"
    config.write_text(CONFIG)
    with sandboxed("make", config, machines=False) as sandbox, pytest.MonkeyPatch.context() as patch:
        out = io.StringIO()
        patch.setattr(sys, "stdout", out)
        commands.up(sandbox)
        patch.undo()
        yield Made(sandbox, config, out.getvalue())


def test_up_is_a_line_for_each_step_with_its_time(made: Made) -> None:
    lines = [line for line in made.up.splitlines() if line.startswith("==> ")]
    ends = [re.match(r"==> (\w[\w ]*?) +\d+\.\d s", line) for line in lines]
    assert [each[1] for each in ends if each] == ["local clouds", "pulumi up", "show"], made.up
    assert sum(line.startswith("==> pulumi up: deploying the stack") for line in lines) == 1
    (counts,) = re.findall(r"^==> pulumi up .* s  (\d+) created$", made.up, re.M)
    assert int(counts) > 10 and len(made.up.splitlines()) < 30, made.up


def test_all_that_the_engine_printed_is_in_the_log(made: Made) -> None:
    log = (made.sandbox.state / "logs" / "pulumi-up.log").read_text()
    assert "Previewing update (local)" in log and "Updating (local)" in log and " created" in log
    assert not (made.sandbox.state / "events").exists()


def test_the_show_has_every_service_and_asks_nothing_of_a_site_without_machines(made: Made) -> None:
    for name in ("v1._theService._tcp", "v2._theService._tcp", "blue._other._udp"):
        assert f"  {name}.unilans.net has no machine\n" in made.up
    assert "shop.scalability.expert: no fleet with machines joins site/www." in made.up


def test_plain_pulumi_works_from_the_checkout(made: Made) -> None:
    before = subprocess.check_output(["git", "status", "--porcelain"], cwd=ROOT, text=True)
    env = made.shell()
    assert "shop.scalability.expert" in made.pulumi(env, "stack", "output", "sites", "--json")
    assert made.pulumi(env, "stack", "--show-name", folder=ROOT / "docs").strip() == "local"
    assert "unchanged" in made.pulumi(env, "preview", "--expect-no-changes")
    assert subprocess.check_output(["git", "status", "--porcelain"], cwd=ROOT, text=True) == before


def test_a_change_of_the_configuration_is_in_the_next_preview(made: Made) -> None:
    env = made.shell()
    made.config.write_text(CONFIG.replace("v2: {}", "v3: {}"))
    try:
        shown = made.pulumi(env, "preview")
        assert "directory-theService-v3-txt" in shown and "directory-theService-v2-txt" in shown
    finally:
        made.config.write_text(CONFIG)
    assert "unchanged" in made.pulumi(env, "preview", "--expect-no-changes")


def test_make_in_such_a_shell_finds_the_engine_itself(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = commands.engine_folder()
    monkeypatch.setenv("PATH", made.shell()["PATH"])
    assert commands.engine_folder() == engine
    assert made.sandbox.environment()["PATH"].split(os.pathsep)[0] == engine


def test_a_preview_shows_what_would_change_and_where_the_rest_is(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    made.config.write_text(CONFIG.replace("v2: {}", "v2: { txt: { path: /new } }, v3: {}"))
    try:
        commands.preview(made.sandbox)
    finally:
        made.config.write_text(CONFIG)
    output = capsys.readouterr().out
    assert "    +  create   directory-theService-v3-txt (aws:route53/record:Record)\n" in output
    (changed,) = [line for line in output.splitlines() if "directory-theService-v2-txt" in line]
    assert changed.split()[:2] == ["~", "update"] and "path=/new" in output
    last = output.splitlines()[-1]
    assert last.startswith("==> pulumi preview") and "1 to create" in last and "pulumi-preview.log" in last


def test_an_up_that_fails_shows_each_error_whole_and_names_the_log(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    made.config.write_text(CONFIG.replace("ttl: 60", "ttl: 5").replace("cloud: aws", "cloud: gcp"))
    try:
        with pytest.raises(SandboxError) as failed:
            commands.up(made.sandbox)
    finally:
        made.config.write_text(CONFIG)
    output = capsys.readouterr().out
    assert "    error: the configuration has 2 errors, nothing was changed:\n" in output
    assert "rollcall:sites.www.ttl: 5 is" in output and "rollcall:fleets.web.cloud: 'gcp' is" in output
    log = made.sandbox.state / "logs" / "pulumi-up.log"
    assert f"Correct the errors above.\nRead {log} for all that it printed." in str(failed.value)
    assert "rollcall:sites.www.ttl: 5 is" in log.read_text()


def test_an_engine_that_cannot_even_begin_has_the_last_lines_of_its_log_shown(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SandboxError) as failed, commands._timed("pulumi up") as step:
        made.sandbox.watched(step, "up", "--no-such-option")
    assert "pulumi-up.log. Its last lines:\n" in str(failed.value)
    assert "unknown flag: --no-such-option" in str(failed.value)


def test_the_catalogue_takes_words_as_help_gives_them(made: Made) -> None:
    done = made.make("catalogue", "FIND=aws size t3")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.split()[2] == "t3.micro" for line in lines)
    assert all(line.startswith("aws") and " size " in line and "t3" in line for line in lines)


@pytest.mark.parametrize("document", ["README.md", "docs/rehearsal.md"])
def test_the_commands_of_a_document_run_as_they_are_written(made: Made, document: str) -> None:
    """Each shell block is one script; tests/documented.py has what is left out, and why."""
    env = {**made.shell(), "STACK": made.sandbox.instance}
    scripts = [documented.to_run(each) for each in documented.blocks(ROOT / document)]
    try:
        for script in scripts:
            lines = "\n".join(["set -e", *script])
            done = subprocess.run(
                ["bash", "-c", lines],
                cwd=ROOT,
                env={**env, "PULUMI_SKIP_CONFIRMATIONS": "true"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (script, done.stdout, done.stderr)
    finally:
        for undo in (("heal",), ("fault", "--clear")):
            subprocess.run(
                [sys.executable, "-m", "localcloud", *undo], cwd=ROOT, env=env, capture_output=True, check=False
            )
    assert sum(map(len, scripts)) >= 5


def test_down_leaves_only_the_logs(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """The last test of this file: it ends what the others share."""
    commands.down(made.sandbox)
    output = capsys.readouterr().out
    assert re.search(r"^==> pulumi destroy .* s  \d+ deleted$", output, re.M), output
    assert "No process, machine or network is left" in output and not made.sandbox.running()
    assert [each.name for each in made.sandbox.state.iterdir()] == ["logs"]
