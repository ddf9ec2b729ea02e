"""An agent takes its machine from the service's name where that is not its incarnation's any more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rollcall.agent import FIRST_LATE_S, Agent
from rollcall.settings import MachineSettings, Route53Join
from tests.unit.agent.contention import DOMAIN
from tests.unit.agent.fakes import Clock, FakeCloud, FakeDns
from tests.unit.agent.test_route53 import SERVICE_JOIN, SET

SHORT, HOST = f"_theservice._tcp.{DOMAIN}", f"ab12cd.rc.{DOMAIN}"
V1 = replace(SERVICE_JOIN, srv="incarnation", check="command:/bin/true")
V2 = replace(V1, incarnation="v2")


class Watched:
    """An agent, and what the name servers have at each name."""

    def __init__(self, home: Path, *joins: Route53Join) -> None:
        self.clock = Clock()
        self.dns = FakeDns(self.clock)
        self.names = {SET: {HOST}, SET.replace("v1", "v2"): {HOST}, SHORT: set[str]()}
        settings = MachineSettings(stack="local", fleet="api", machine="0", generation="ab12cd", joins=joins)
        self.agent = Agent(
            FakeCloud(settings),
            status_file=home / "status.json",
            clock=self.clock,
            look_up=lambda name: frozenset(self.names.get(name, ())),
            registry_of=self.dns.registry,
            reach=lambda *_: True,
        )

    def joins_in(self, seconds: float) -> int:
        self.dns.calls.clear()
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now += 2
            self.agent.tick()
        return self.dns.count("join")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def test_a_machine_at_the_name_of_another_incarnation_writes_again(home: Path) -> None:
    watched = Watched(home, V1)
    assert watched.joins_in(60) == 1, "at no name that it should not be at"
    watched.names[SHORT] = {HOST}
    assert watched.joins_in(FIRST_LATE_S) >= 1
    watched.names[SHORT] = {f"bbbbbb.rc.{DOMAIN}"}
    assert watched.joins_in(60) == 0, "another machine is there, which is not looked after here"


def test_one_that_is_in_both_incarnations_stays(home: Path) -> None:
    watched = Watched(home, replace(V1, srv="service"), V2)
    watched.names[SHORT] = {HOST}
    assert watched.joins_in(60) == 2 and watched.joins_in(60) == 0


def test_one_that_is_configured_so_stays(home: Path) -> None:
    watched = Watched(home, replace(V1, srv="service"))
    watched.names[SHORT] = {HOST}
    assert watched.joins_in(60) == 1 and watched.joins_in(60) == 0
