"""Stopping an agent is not leaving: what takes a machine out of DNS, and what does not."""

from __future__ import annotations

import configparser
import itertools
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import rollcall.agent as agents
from rollcall.agent import TICK, WATCH, system_is_stopping
from rollcall.crash_transitions import ANSWER_WITHIN_S, FAILED_PROBES
from rollcall.errors import TransientError
from tests.unit.agent import test_watch
from tests.unit.agent.fakes import ADDRESS, HOST, Guest, memory_folder, runs_well
from tests.unit.agent.test_run import Scripted
from tests.unit.agent.test_watch import World

UNITS = Path(__file__).resolve().parents[3] / "userdata/units"
LEFT = "status.left"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollcall.health._command", runs_well)


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    made = Guest(tmp_path)
    made.pass_time(TICK)
    assert made.registered == {HOST: ADDRESS}
    return made


def stopped(monkeypatch: pytest.MonkeyPatch, *, stopping: bool, by: signal.Signals = signal.SIGTERM) -> int:
    """How often an agent that gets a signal leaves."""
    monkeypatch.setattr(agents, "system_is_stopping", lambda: stopping)
    monkeypatch.setattr(agents, "TICK", 0.01)
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    agent = Scripted([None])
    agent.workloads = ()  # type: ignore[assignment]
    tick = agent.tick

    def tick_and_stop() -> None:
        tick()
        os.kill(os.getpid(), by)

    agent.tick = tick_and_stop  # type: ignore[method-assign]
    try:
        assert agents.run(agent) == 0  # type: ignore[arg-type]
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    return agent.left


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_an_agent_that_is_stopped_leaves_only_where_the_system_stops(
    monkeypatch: pytest.MonkeyPatch, by: signal.Signals
) -> None:
    assert stopped(monkeypatch, stopping=False, by=by) == 0
    assert stopped(monkeypatch, stopping=True, by=by) == 1


@pytest.mark.parametrize(
    ("says", "code", "stopping"),
    [
        ("stopping", 1, True),
        ("running", 0, False),
        ("degraded", 1, False),
        ("starting", 1, False),
        ("maintenance", 1, False),
        ("offline", 1, False),
        ("", 1, False),
    ],
)
def test_systemd_knows_whether_the_system_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, code: int, stopping: bool
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\n[ "$*" = is-system-running ] && echo {says}\nexit {code}\n')
    systemctl.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert system_is_stopping() is stopping


@pytest.mark.parametrize("script", [None, "exec sleep 60", "exec kill -9 $$"])
def test_without_an_answer_of_systemd_the_agent_does_not_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    if script:
        (tmp_path / "systemctl").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "systemctl").chmod(stat.S_IRWXU)
    monkeypatch.setattr(agents, "SYSTEMD_TIMEOUT_S", 0.2)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if script else str(tmp_path))
    assert system_is_stopping() is False


class TestTakingOver:
    def test_an_agent_that_starts_goes_on_with_what_an_earlier_one_registered(self, guest: Guest) -> None:
        before = dict(guest.dns.registered)
        guest.pass_time(20, step=20)
        successor = guest.restarted()
        successor.pass_time(60)
        assert successor.dns.registered == before and successor.dns.count("leave") == 0
        assert successor.dns.count("join") == 1 and successor.status()["step"] == "registered"

    @pytest.mark.parametrize("fault", [TransientError("down"), ValueError("not of ours")])
    def test_it_answers_a_challenge_before_it_can_confirm(self, guest: Guest, fault: Exception) -> None:
        """The one before it was absent, so it may have been challenged."""
        successor = guest.restarted()
        successor.dns.broken = fault  # type: ignore[assignment]
        look_up = successor.dns.look_up
        successor.agent._look_up = lambda name: frozenset({"x"}) if ".c.rc." in name else look_up(name)
        successor.pass_time(WATCH + TICK)
        assert successor.dns.count("challenge") >= 1

    def test_it_answers_one_before_its_workload_is_healthy(self, guest: Guest) -> None:
        guest.healthy(False)
        successor = guest.restarted()
        successor.agent._look_up = lambda name: frozenset({"x"} if ".c.rc." in name else ())
        successor.pass_time(TICK)
        assert successor.dns.count("challenge") == 1


@pytest.mark.parametrize(("cloud", "offset"), [*itertools.product("ab", range(0, 14, 2))])
def test_an_agent_that_is_absent_for_less_than_30_s_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cloud: str, offset: int
) -> None:
    # Small steps, so that no watcher looks later than it might.
    monkeypatch.setattr(test_watch, "TICK", 1.0)
    world = World(tmp_path, "a1", "a2", "b1")
    world.run(20 + offset)
    absent = f"{cloud}1"
    for _ in range(3):
        world.dead.add(absent)
        for _ in range(29):
            world.run(1)
            assert world.registered == {"a1", "a2", "b1"}
        world.dead.remove(absent)
        for _ in range(30):
            world.run(1)
            assert world.registered == {"a1", "a2", "b1"}
    assert world.challenges == {}


@pytest.mark.parametrize("offset", range(0, 14, 2))
def test_one_that_is_absent_for_longer_is_dead_within_a_minute(tmp_path: Path, offset: int) -> None:
    world = World(tmp_path, "a1", "a2", "b1")
    world.run(20 + offset)
    world.dead.add("b1")
    world.run(56)
    assert world.registered == {"a1", "a2"} and world.challenges == {}
    assert WATCH * (FAILED_PROBES - 1) + ANSWER_WITHIN_S > 30


def test_two_absences_with_a_sign_of_life_in_between_are_not_added_up(tmp_path: Path) -> None:
    world = World(tmp_path, "a1", "a2", "b1")
    world.run(20)
    for _ in range(8):
        world.dead.add("b1")
        world.run(20)
        world.dead.remove("b1")
        world.run(8)
        assert world.registered == {"a1", "a2", "b1"}


class TestLeftByHand:
    """`rollcall leave` on a machine with a running agent."""

    def test_the_agent_leaves_and_stays_away(self, guest: Guest) -> None:
        guest.status_file.with_name(LEFT).touch()
        guest.pass_time(TICK)
        assert guest.registered == {}
        guest.pass_time(120)
        assert guest.registered == {} and guest.dns.count("join") == 1
        shown = guest.status()
        assert shown["step"] == "left" and "rollcall join" in shown["error"]
        assert guest.cloud.statuses[-1].startswith("left: ")

    def test_so_does_one_that_is_restarted(self, guest: Guest) -> None:
        guest.status_file.with_name(LEFT).touch()
        successor = guest.restarted()
        successor.pass_time(30)
        assert successor.registered == {}

    def test_it_joins_again_once_it_may(self, guest: Guest) -> None:
        guest.status_file.with_name(LEFT).touch()
        guest.pass_time(30)
        guest.status_file.with_name(LEFT).unlink()
        guest.pass_time(2 * TICK)
        assert guest.registered == {HOST: ADDRESS} and guest.status()["step"] == "registered"


def unit(name: str) -> dict[str, dict[str, str]]:
    parsed = configparser.ConfigParser(interpolation=None, strict=False)
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read_string((UNITS / name).read_text())
    return {section: dict(parsed[section]) for section in parsed.sections()}


def test_the_unit_that_leaves_at_shutdown_stops_after_the_agent_and_before_the_workloads() -> None:
    """What starts after another stops before it (systemd.unit(5), Before=, After=)."""
    agent, leaves = unit("rollcall.service"), unit("rollcall-leave.service")
    assert "rollcall-leave.service" in agent["Unit"]["Requires"].split()
    assert "rollcall-leave.service" in agent["Unit"]["After"].split()
    for needed in ("network-online.target", "nginx.service", "the-service.service"):
        assert needed in leaves["Unit"]["After"].split() and needed in agent["Unit"]["After"].split()
    assert "leave --at-shutdown" in leaves["Service"]["ExecStop"]
    assert leaves["Service"]["RemainAfterExit"] == "yes"
    # The status, which says whether the agent has left, must outlive it.
    assert agent["Service"]["RuntimeDirectoryPreserve"] == "yes"


def test_an_agent_that_crashes_or_is_killed_for_memory_is_started_again_at_once_and_always() -> None:
    found = unit("rollcall.service")
    assert found["Service"]["Restart"] == "always" and float(found["Service"]["RestartSec"]) <= 2
    assert found["Unit"]["StartLimitIntervalSec"] == "0"
    # A helper process that is killed for memory takes the agent with it otherwise (systemd.service(5)).
    assert found["Service"]["OOMPolicy"] == "continue"
