"""localcloud.runtime.sandbox: what it asks by itself goes to the local clouds, whatever the caller's environment says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from werkzeug.wrappers import Response

from localcloud.network.http import Server, listen
from localcloud.runtime.cli import PASSED_ON, ROOT
from localcloud.runtime.sandbox import OPERATORS, Sandbox, visit
from tests.cloud.aws_cloud import OPERATOR, Cloud, running
from tests.cloud.trap import Trap

pytestmark = pytest.mark.clouds


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as made:
        yield made


@pytest.fixture
def trap(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trap]:
    made = Trap()
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()


@dataclass(frozen=True, kw_only=True)
class OnAws(Sandbox):
    folder: Path
    url: str

    @property
    def state(self) -> Path:
        return self.folder

    def environment(self) -> dict[str, str]:
        access, secret = OPERATOR
        own = {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-west-2"}
        return {"AWS_ENDPOINT_URL": self.url, **own}


def test_the_operators_key_comes_to_the_local_aws_and_the_environment_stays(
    cloud: Cloud, trap: Trap, tmp_path: Path
) -> None:
    before = dict(os.environ)
    for _ in range(2):
        OnAws(folder=tmp_path, url=cloud.url)._bring_operators_key()
    assert (dict(os.environ), trap.caught) == (before, [])
    with pytest.MonkeyPatch.context() as patch:
        for name in trap.environment():
            patch.delenv(name)
        pairs = cloud.client("ec2").describe_key_pairs()["KeyPairs"]
    assert [each["KeyName"] for each in pairs] == [OPERATORS]


def test_the_local_clouds_start_with_nothing_of_the_callers_clouds(trap: Trap, tmp_path: Path) -> None:
    """With `AWS_PROFILE` set, they would not even start."""
    state = tmp_path / "clouds"
    words = [sys.executable, "-m", "localcloud", "--instance", "loopback", "--state", str(state)]
    subprocess.run([*words, "start", "--no-machines"], cwd=ROOT, check=True)
    try:
        pid = json.loads((state / "daemon.json").read_text())["pid"]
        given = {each.partition("=")[0] for each in Path(f"/proc/{pid}/environ").read_text().split("\0") if each}
        assert given <= set(PASSED_ON) | {"LC_CTYPE"}
    finally:
        subprocess.run([*words, "stop"], cwd=ROOT, check=True)
    assert trap.caught == []


def test_a_visit_asks_no_proxy(trap: Trap) -> None:
    listener = listen("127.0.0.1")
    server = Server(Response("", headers={"X-Served-By": "the-machine"}), [listener])
    server.start()
    try:
        url = f"http://127.0.0.1:{server.ports[0]}/"
        assert visit(url, 3) == {"the-machine": 3}
        assert trap.caught == []
        # That the trap would have noticed.
        with pytest.raises(requests.RequestException):
            requests.get(url, timeout=10)
        assert len(trap.caught) == 1
    finally:
        server.stop()
        listener.close()
