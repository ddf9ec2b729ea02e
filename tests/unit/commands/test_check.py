"""components.commands.check: `rollcall check` names what a stack's file shows, without the engine and without a network, at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.commands.check import errors, main
from components.config.stack_file import StackFileError

ROOT = Path(__file__).parents[3]
GOOD = """\
config:
  aws:region: us-west-2
  rollcall:sites: { www: { zone: scalability.expert } }
  rollcall:fleets:
    web: { cloud: aws, count: 2, size: t3.micro, image: debian-12, joins: [site/www] }
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "Pulumi.yaml", tmp_path)
    (tmp_path / "Pulumi.prod.yaml").write_text(GOOD)
    return tmp_path


def found(root: Path, text: str) -> list[str]:
    (root / "Pulumi.prod.yaml").write_text(text)
    return errors(root, "prod")


@pytest.mark.parametrize("stack", ["local", "prod", "staging"])
def test_the_stacks_of_this_project_have_no_error(stack: str) -> None:
    assert errors(ROOT, stack) == []


@pytest.mark.parametrize(
    ("change", "key", "message"),
    [
        (("count: 2", "count: 1001"), "rollcall:fleets.web.count", "1001 is out of range"),
        (("count: 2", 'count: "2"'), "rollcall:fleets.web.count", "without quotes"),
        (("count: 2", "ipv6: yes"), "rollcall:fleets.web.ipv6", "'yes' is not a boolean"),
        (("count: 2", "count: 2, count: 3"), "rollcall:fleets.web.count", "is written 2 times in Pulumi.prod.yaml"),
        (("rollcall:sites", "rollcall:sit"), "rollcall:sit", "did you mean sites?"),
        (("rollcall:sites", "rolcall:site"), "rolcall:site", "is in the namespace rolcall"),
        (("aws:region", "aws:regoin"), "aws:region", "is not set (aws:regoin is set"),
        (("[site/www]", "[site/ww]"), "rollcall:fleets.web.joins", "'site/ww' leads nowhere (did you mean site/www?)"),
        (("config:", "config:\n  aws:secretKey: abcdef"), "aws:secretKey", "is in plain text"),
        (("config:", "config:\n  aws:assumeRoles: [{ roleArn: x }]"), "aws:assumeRoles[0].roleArn", "is not the ARN"),
        (("config:", "config:\n  rollcall:machineToken: abcdef"), "rollcall:machineToken", "is in plain text"),
        (("config:", "config:\n  drainDelay: -1"), "rollcall:drainDelay", "-1 is out of range"),
    ],
)
def test_an_error_is_named_by_its_key(root: Path, change: tuple[str, str], key: str, message: str) -> None:
    text = found(root, GOOD.replace(*change))
    assert any(each.startswith(f"{key}: ") and message in each for each in text), text
    assert "abcdef" not in str(text)


def test_of_what_is_encrypted_nothing_is_known(root: Path) -> None:
    secure = "{ secure: v1:abcdefgh }"
    text = GOOD.replace("scalability.expert", secure).replace("count: 2", f"count: {secure}")
    assert (
        found(root, f"{text}  rollcall:machineToken: {secure}\n  aws:secretKey: {secure}\n  aws:accessKey: AKIA\n")
        == []
    )
    (fault,) = found(root, text.replace("joins", "jions: [a], joins"))
    assert fault.startswith("rollcall:fleets.web.jions: is not a setting")
    assert found(root, f"config: {{ aws:region: us-west-2, rollcall:fleets: {secure} }}\n") == []


SHOP = (
    GOOD.replace("[site/www]", "[site/www], runs: [shop]")
    + """\
  rollcall:workloads:
    shop: { run: python3 -m shop, secrets: { DATABASE_URL: { secure: v1:abcdefgh } } }
"""
)
PLAIN = "DATABASE_URL: { secure: v1:abcdefgh }"


def test_a_workloads_secret_may_be_encrypted_and_nothing_else_of_it(root: Path) -> None:
    assert found(root, SHOP) == []
    (misplaced,) = found(root, SHOP.replace("secrets: {", "env: { A: { secure: v1:abcdefgh } }, secrets: {"))
    assert misplaced.startswith(
        "rollcall:workloads.shop.env.A: is a secret, and a workload's definition is in the state"
    )
    assert misplaced.endswith("Keep it below `secrets`.")
    (whole,) = found(root, GOOD + "  rollcall:workloads: { secure: v1:abcdefgh }\n")
    assert whole.startswith("rollcall:workloads: is a secret")


def test_a_workloads_secret_in_plain_text_is_refused_with_the_command(root: Path) -> None:
    where = "rollcall:workloads.shop.secrets.DATABASE_URL"
    fault = f"{where}: is in plain text. Run `pulumi config set --secret --path '{where}'` with another value than this one."
    assert found(root, SHOP.replace(PLAIN, "DATABASE_URL: hush-hush")) == [fault]
    assert found(root, SHOP.replace(PLAIN, f"DATABASE_URL: hush-hush, {PLAIN.replace('DATABASE_URL', 'A')}")) == [fault]


def test_an_environment_may_have_what_the_file_has_not(root: Path) -> None:
    assert found(root, "environment: [shop]\n") == []
    assert len(found(root, "")) == 1


def test_every_stack_is_checked_unless_one_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "Pulumi.bad.yaml").write_text(GOOD.replace("count: 2", "count: -1").replace("[site/www]", "[a]"))
    monkeypatch.chdir(root)
    assert main([]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "bad: 2 errors",
        "  - rollcall:fleets.web.count: -1 is out of range (0 to 1000). Set a number in this range.",
        "  - rollcall:fleets.web.joins: 'a' leads nowhere. Name one of site/www.",
        "prod: no error",
    ]
    assert main(["--stack", "prod"]) == 0 and main(["--stack", "organization/rollcall/prod"]) == 0
    capsys.readouterr()
    assert main(["--stack", "bad", "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["bad"]) == 2
    assert main(["--stack", "none"]) == 2
    assert capsys.readouterr().err.startswith("rollcall check: Pulumi.none.yaml: cannot be read")
    for each in root.glob("Pulumi.*.yaml"):
        each.unlink()
    assert main([]) == 2


def test_a_file_that_is_not_yaml_is_reported_without_a_traceback(root: Path) -> None:
    with pytest.raises(StackFileError, match="is not YAML"):
        found(root, "config: [")


_PROGRAM = """
import sys, socket
def refuse(*_): raise OSError("no network here")
socket.socket = refuse
from rollcall.console import main
code = main(["check"])
loud = [each for each in ("pulumi", "grpc", "requests", "boto3", "botocore", "subprocess") if each in sys.modules]
sys.exit(code or (f"imported {loud}" if loud else 0))
"""


def test_it_takes_less_than_a_second_and_imports_neither_the_sdk_nor_a_client() -> None:
    env = {"PYTHONPATH": str(ROOT / "userdata"), "PATH": "/nowhere"}
    seconds = []
    for _ in range(3):
        began = os.times()
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        ended = os.times()
        # Of a processor: the tests beside this one take time, too.
        seconds.append(ended.children_user + ended.children_system - began.children_user - began.children_system)
        assert done.returncode == 0, done.stderr
    assert done.stdout.count("no error") == 3
    assert min(seconds) < 1, seconds
