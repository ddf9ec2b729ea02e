"""The comments in `tests/samples/review/` are what the real engine leads to: every sample is previewed again and compared.

`ROLLCALL_RECORD=1` writes the samples instead.
"""

from __future__ import annotations

import difflib
import gzip
import os
from collections.abc import Iterator

import pytest

from components.commands.review import commented, read_log
from localcloud.runtime.sandbox import Sandbox
from rollcall import agent as agents
from rollcall.aws import InstanceRole
from rollcall.health import Health
from rollcall.sigv4 import Credentials
from tests.integration.conftest import sandboxed
from tests.integration.deployed import Deployed
from tests.integration.review_samples import (
    CHANGES,
    DEPLOYED,
    SAMPLES,
    Agents,
    Change,
    drift,
    normalised,
    previewed,
    slimmed,
)

pytestmark = [pytest.mark.clouds, pytest.mark.engine, pytest.mark.prove]
_ENDPOINTS = ("AWS_", "CLOUDFLARE_", "TRITON_", "ROLLCALL_DNS")


@pytest.fixture
def clouds() -> Iterator[Sandbox]:
    with sandboxed("review", machines=False) as sandbox:
        yield sandbox


def test_every_sample_is_what_the_engine_says_today(clouds: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = Deployed(clouds, "")
    for name, value in deployed.env.items():
        if name.startswith(_ENDPOINTS):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(clouds.work / "userdata"))
    monkeypatch.setattr(agents, "health_of", lambda *_: Health(str))
    monkeypatch.setattr(agents, "REREAD", 1.0)
    # These agents are on no instance: they have the operator's key instead of a role's.
    key = Credentials(deployed.env["AWS_ACCESS_KEY_ID"], deployed.env["AWS_SECRET_ACCESS_KEY"])
    monkeypatch.setattr(InstanceRole, "current", lambda _: key)
    different = [_differs(deployed, "config-mistake", CHANGES["config-mistake"]), _differs(deployed, "first", DEPLOYED)]
    hands = Agents(deployed)
    hands.start()
    try:
        clouds.pulumi("up", "--yes", "--stack", "local", "--skip-preview", capture=True)
    finally:
        hands.stop()
    different.append(_differs(deployed, "nothing", DEPLOYED))
    different += [_differs(deployed, name, CHANGES[name]) for name in ("scale", "replacement", "deletion")]
    drift(deployed)
    different.append(_differs(deployed, "drift", DEPLOYED))
    assert not any(different), "\n".join(different)


def _differs(deployed: Deployed, name: str, change: Change) -> str:
    """How the comment on this change, previewed now, differs from the golden one."""
    log = previewed(deployed, change)
    if os.environ.get("ROLLCALL_RECORD"):
        kept = slimmed(log)
        (SAMPLES / f"{name}.events.gz").write_bytes(gzip.compress(kept.encode(), mtime=0))
        (SAMPLES / f"{name}.md").write_text(commented(read_log(kept), stack="local"))
    golden = normalised((SAMPLES / f"{name}.md").read_text())
    today = normalised(commented(read_log(log), stack="local"))
    return "\n".join(difflib.unified_diff(golden.splitlines(), today.splitlines(), name, "today", lineterm=""))
