"""docs/discovery.md shows what happens: its commands and its Python run here, and print what it says they print."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.agent.nameserver import ZONE, Served, serving
from tests.unit.agent.test_service_client import machine

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs/discovery.md").read_text()


def shown() -> list[tuple[str, str]]:
    """Each command of a `console` block, and what is printed below it."""
    blocks = re.findall(r"^```console\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    return [
        (command, printed)
        for block in blocks
        for command, printed in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving() as found:
        found.zone.service("v1", "v2")
        found.zone.live("v1", "10 10 4218 1f2e3d", "20 10 4218 4c5b6a")
        found.zone.live("v2", "10 10 4218 7d8e9f", address="198.51.100.11")
        found.zone.put(f"1f2e3d.rc.{ZONE}", "A", "198.51.100.10")
        found.zone.put(f"4c5b6a.rc.{ZONE}", "A", "203.0.113.10")
        yield found


def test_there_is_something_to_run() -> None:
    assert len(shown()) == 10
    assert {command.split()[0] for command, _ in shown()} == {"dig", "rollcall"}


@pytest.mark.parametrize(("command", "printed"), shown())
def test_a_command_prints_what_is_shown(server: Served, command: str, printed: str) -> None:
    tool, *words = shlex.split(command)
    given = {
        "dig": ["dig", "@127.0.0.1", "-p", str(server.port), "+tries=1", "+time=5"],
        "rollcall": [sys.executable, "-m", "rollcall"],
    }[tool]
    behind = ["--resolver", server.address] if tool == "rollcall" else []
    done = subprocess.run(
        [*given, *words, *behind], cwd=ROOT / "userdata", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout + done.stderr == printed


def test_the_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    with machine("i-0123456789abcdef0") as one, serving() as found:
        found.zone.service("v1")
        found.zone.live("v1", f"10 10 {one.port} 1f2e3d")
        exec(compile(code.replace("127.0.0.1:41553", found.address), "discovery.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out == (
        f"/\n1f2e3d.rc.{ZONE} {one.port}\ni-0123456789abcdef0 theService heard: hello\n\n"
    )


def test_every_reason_is_explained() -> None:
    source = (ROOT / "userdata/rollcall/resolve.py").read_text()
    for reason in set(re.findall(r"reason=([a-z-]+)", source)):
        assert f"`{reason}`" in TEXT, reason
