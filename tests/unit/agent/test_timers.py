"""rollcall.timers: the times that tests on local clouds shorten. Machines of users have the usual ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

from localcloud.machines.hypervisor.disk import cloud_files
from localcloud.runtime.prepare import ROOT
from rollcall.timers import VARIABLE, seconds

SAY = "from rollcall import agent, crash_transitions as c; print(agent.WATCH, agent.STOP_DELAY_LIMIT_S, c.ANSWER_WITHIN_S)"


@pytest.mark.parametrize(
    ("timers", "found"), [("", 7.0), ("watch=3", 3.0), ("stop-delay=4 watch=2.5", 2.5), ("rewatch=1 stop-delay=4", 7.0)]
)
def test_a_time_is_the_usual_one_unless_the_environment_names_it(
    monkeypatch: pytest.MonkeyPatch, timers: str, found: float
) -> None:
    monkeypatch.setenv(VARIABLE, timers)
    assert seconds("watch", 7.0) == found


def test_without_the_variable_it_is_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert seconds("watch", 7.0) == 7.0


@pytest.mark.parametrize("timers", ["watch=", "watch", "watch=soon"])
def test_a_value_that_is_not_a_number_is_an_error(monkeypatch: pytest.MonkeyPatch, timers: str) -> None:
    monkeypatch.setenv(VARIABLE, timers)
    with pytest.raises(ValueError, match="could not convert"):
        seconds("watch", 7.0)


@pytest.mark.parametrize(
    ("added", "printed"), [({}, "7.0 30.0 24.0"), ({VARIABLE: "watch=3 stop-delay=4 answer-within=16"}, "3.0 4.0 16.0")]
)
def test_an_agent_has_them(added: dict[str, str], printed: str) -> None:
    env = {"PYTHONPATH": str(ROOT / "userdata"), **added}
    done = subprocess.run([sys.executable, "-c", SAY], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == printed


def test_machines_of_local_clouds_have_them_only_where_a_test_says_so() -> None:
    path = "etc/systemd/system.conf.d/timers.conf"
    assert path not in cloud_files("aws") and path not in cloud_files("joyent")
    for cloud in ("aws", "joyent"):
        text = cloud_files(cloud, timers="watch=3 stop-delay=4")[path]  # type: ignore[arg-type]
        assert text == f'[Manager]\nDefaultEnvironment="{VARIABLE}=watch=3 stop-delay=4"\n'
