"""rollcall.agent.run: the loop around the agent, which configures nginx when the site's settings arrive and whenever they change."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import rollcall.agent as agents
from rollcall.settings import CloudflareJoin

SITE = CloudflareJoin(zone="z", host="www.a.b", token="t")
CLOSED = CloudflareJoin(zone="z", host="www.a.b", token="t", proxied=True, origin="pem")


class Scripted:
    """An agent that gets other settings at each tick, and SIGTERM at the end."""

    workloads = ("site",)
    status = agents.Status()

    def __init__(self, join: list[CloudflareJoin | None]) -> None:
        self._joins = iter(join)
        self.sites: tuple[CloudflareJoin, ...] = ()
        self.left = self.interrupted = 0
        self.memberships: list[Any] = []
        self.cached_s = 0.0
        self.served = 0.0
        self.leaves = True
        self.events: list[Any] = []

    def tick(self) -> None:
        try:
            given = next(self._joins)
            self.sites = (given,) if given else ()
        except StopIteration:
            os.kill(os.getpid(), signal.SIGTERM)

    def origins(self) -> list[str]:
        return [each.origin for each in self.sites if each.origin]

    def interrupt(self) -> None:
        self.interrupted += 1

    def leave(self) -> bool:
        self.left += 1
        self.events.append("left")
        return self.leaves

    def cached_for(self) -> float:
        return max(self.cached_s - self.served, 0.0)

    def sleep(self, seconds: float) -> None:
        self.served += seconds

    def remove_hosts(self) -> bool:
        self.events.append(f"hosts removed after {self.served:.0f} s")
        return True


@pytest.fixture
def refreshed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What nginx was set up with, each time."""
    found: list[list[str]] = []

    def refresh(origins: Callable[[], list[str]]) -> bool:
        found.append(origins())
        return True

    monkeypatch.setattr("rollcall.edge.refresh", refresh)
    monkeypatch.setattr(agents, "TICK", 0.01)
    monkeypatch.setattr(agents, "open_probe_socket", lambda _: None)
    monkeypatch.setattr(agents, "system_is_stopping", lambda: False)
    return found


def run(agent: Any) -> int:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        return agents.run(agent)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_nginx_is_configured_once_and_again_when_the_sites_settings_change(refreshed: list[list[str]]) -> None:
    agent = Scripted([SITE, SITE, SITE, CLOSED, CLOSED])
    assert run(agent) == 0 and agent.left == 0
    assert refreshed == [[], ["pem"]]


def test_what_is_asked_when_the_machine_stops_is_given_up(
    refreshed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "system_is_stopping", lambda: True)
    agent = Scripted([None])
    tick = agent.tick

    def ticking() -> None:
        tick()
        # The signal comes while this tick is under way.
        assert (agent.interrupted, agent.left) == (int(agent.interrupted > 0), 0)

    agent.tick = ticking  # type: ignore[method-assign]
    assert run(agent) == 0 and (agent.interrupted, agent.left) == (1, 1)


def test_a_machine_that_joins_no_site_sets_nothing_up(refreshed: list[list[str]]) -> None:
    agent = Scripted([None, None])
    agent.workloads = ("the-service",)  # type: ignore[assignment]
    assert run(agent) == 0
    assert refreshed == []


def test_a_machine_that_starts_looks_four_times_as_often_until_it_has_joined_all(
    refreshed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0)
            return super().wait(0)

    monkeypatch.setattr(agents.threading, "Event", Stop)  # type: ignore[attr-defined]
    agent = Scripted([SITE] * 4)
    site, service = (SimpleNamespace(joined=False, join=SITE) for _ in range(2))
    agent.memberships = [site, service]
    steps: Iterator[Callable[[], None]] = iter(
        [lambda: None, lambda: setattr(site, "joined", True), lambda: setattr(service, "joined", True)]
    )
    tick = agent.tick

    def next_tick() -> None:
        tick()
        next(steps, lambda: setattr(site, "joined", False))()

    monkeypatch.setattr(agent, "tick", next_tick)
    run(agent)
    quick, usual = agents.TICK / 4, agents.TICK
    # One that has joined once and fails later goes on at its usual pace: three bad checks are six seconds.
    assert waited == [quick, quick, usual, usual, usual]


class TestShuttingDown:
    """The workload ends after the agent (userdata/units), so the agent's wait is the workload's."""

    @pytest.fixture
    def waited(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        found: list[float] = []
        monkeypatch.setattr("rollcall.agent.time.sleep", found.append)
        monkeypatch.setattr(agents, "system_is_stopping", lambda: True)
        return found

    @pytest.mark.parametrize(("cached", "delay"), [(5.0, 5.0), (300.0, agents.STOP_DELAY_LIMIT_S), (0.0, 0.0)])
    def test_caches_are_waited_for_once_the_machine_has_left_and_then_its_hosts_go(
        self,
        refreshed: list[list[str]],
        waited: list[float],
        monkeypatch: pytest.MonkeyPatch,
        cached: float,
        delay: float,
    ) -> None:
        agent = Scripted([None])
        agent.cached_s = cached
        monkeypatch.setattr("rollcall.agent.time.sleep", agent.sleep)
        monkeypatch.setattr("rollcall.agent.time.monotonic", lambda: agent.served)
        assert run(agent) == 0 and agent.events == ["left", f"hosts removed after {delay:.0f} s"]

    def test_where_the_record_could_not_be_removed_nothing_is_waited_for(
        self, refreshed: list[list[str]], waited: list[float]
    ) -> None:
        agent = Scripted([None])
        agent.cached_s, agent.leaves = 5.0, False
        assert run(agent) == 1 and waited == []

    def test_an_agent_that_ends_alone_ends_at_once(
        self, refreshed: list[list[str]], waited: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(agents, "system_is_stopping", lambda: False)
        agent = Scripted([None])
        agent.cached_s = 5.0
        assert run(agent) == 0 and waited == []

    def test_the_delay_fits_what_systemd_and_the_clouds_allow(self) -> None:
        unit = (Path(__file__).parents[3] / "userdata/units/rollcall.service").read_text()
        (allowed,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
        assert min(float(allowed), 60.0) > agents.LEAVE_WITHIN + agents.STOP_DELAY_LIMIT_S + agents.HOSTS_WITHIN
