"""A machine that leaves keeps its host's records until no cache can lead a caller there any more (docs/decisions/0014)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

import rollcall.agent as agents
from rollcall import cli
from rollcall.agent import REREAD, TICK, Agent
from rollcall.errors import FatalError, TransientError
from rollcall.host_label import HostLabels, KeptLabels
from rollcall.route53 import Route53Registry
from rollcall.settings import MachineSettings, Route53Join
from rollcall.status_file import has_left
from tests.unit.agent import test_whole
from tests.unit.agent.contention import DOMAIN, targets_of
from tests.unit.agent.fakes import Clock, FakeCloud, memory_folder, runs_well

TTL, LONG_TTL = 30, 50
V1 = replace(test_whole.SERVICE_JOIN, ttl=TTL, srv="service")
V2 = replace(V1, incarnation="v2", ttl=LONG_TTL, srv="incarnation")
SET, SET_2 = test_whole.SET, f"v2._theservice._tcp.{DOMAIN}"
HOST = test_whole.HOST
A = "198.51.100.10"
SLACK_S = 3 * TICK
T = TypeVar("T")


class Registry(test_whole.Registry):
    def __init__(self, join: Route53Join, world: World, labels: HostLabels) -> None:
        super().__init__(join, world.zone)
        self._world, self._labels = world, labels

    def _ask(self, act: Callable[[Route53Registry], T]) -> T:
        if self._world.fault is not None:
            raise self._world.fault
        store: Any = Failing(self._world)
        one = Route53Registry(self._membership, store, self._writer, self._zone.scheduler.sleep, labels=self._labels)
        try:
            return act(one)
        finally:
            self._writer, self.left_hosts = one.writer, getattr(one, "left_hosts", frozenset())


class Failing:
    """The zone, of which one request fails before it does anything."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        world = self._world
        if world.fail_at is not None and world.zone.calls >= world.fail_at:
            world.fail_at = None
            raise TransientError("reason=api-failing api=route53 code=500")
        return getattr(world.zone, name)


class World(test_whole.World):
    """Two machines, and callers whose resolvers keep each answer of the name servers for its TTL. Each tick asserts that no value that a
    cache has leads to a host without address."""

    def __init__(self, home: Path, *joins: Route53Join) -> None:
        self.joins, self.home, self.healthy = joins, home, True
        self.fault: Exception | None = None
        # The request of this number fails.
        self.fail_at: int | None = None
        self.cached: dict[str, float] = {}
        self.clouds: list[FakeCloud] = []
        self.labels: list[KeptLabels] = []
        super().__init__(home)

    def _agent(self, home: Path, number: int) -> Agent:
        self.clouds.append(
            FakeCloud(
                MachineSettings(
                    stack="local", fleet="web", machine=str(number), generation=f"{number << 8:06x}", joins=self.joins
                )
            )
        )
        self.clouds[-1].instance = lambda: f"i-{number:017x}"  # type: ignore[method-assign]
        self.clouds[-1].known = (f"198.51.100.{10 + number - 0xAA}",)
        self.labels.append(KeptLabels())
        return self.start(len(self.clouds) - 1)

    def start(self, index: int) -> Agent:
        return Agent(
            self.clouds[index],
            status_file=self.home / str(index) / "status.json",
            clock=self.clock,
            look_up=self.look_up,
            registry_of=lambda join, _: Registry(join, self, self.labels[index]),  # type: ignore[arg-type]
            reach=lambda *_: True,
            labels=self.labels[index],
        )

    def restart(self, agents_s: float = 0.0) -> None:
        """The agent of the first machine is killed, and systemd starts it again."""
        (_, other) = self.agents
        self.agents = [other]
        self.run(agents_s)
        self.agents = [self.start(0), other]

    def tell(self, **changed: Any) -> None:
        cloud = self.clouds[0]
        cloud.settings = replace(cloud.settings, **changed)

    def run(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            super().run(TICK)
            self.check_caches()

    def check_caches(self) -> None:
        for (_, kind), found in self.shown.items():
            for target in targets_of(found.values) if kind == "SRV" else ():
                self.cached[target] = max(self.cached.get(target, 0), self.clock.now + found.ttl)
        lost = {
            each for each, until in self.cached.items() if until > self.clock.now and (each, "A") not in self.zone.sets
        }
        assert not lost, f"callers with the value in a cache meet no address at {lost}"

    def hosts(self) -> list[str]:
        return sorted(name for name, kind in self.zone.sets if kind == "A" and name != test_whole.OTHER)

    def targets(self, name: str = SET) -> set[str]:
        found = self.zone.sets.get((name, "SRV"))
        return {*(targets_of(found.values) if found else ())} - {test_whole.OTHER}

    def gone_after(self, within: float) -> float:
        return self.until(lambda: not self.hosts() and (HOST, "TXT") not in self.zone.sets, within)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    monkeypatch.setattr("rollcall.health._command", runs_well)
    with memory_folder() as home:
        yield lambda *joins: World(home, *(joins or (V1,)))


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    made = make()
    assert made.hosts() == [HOST] and made.targets() == {HOST}
    return made


def drain(world: World) -> None:
    world.tell(drain=True)


def turn_unhealthy(world: World) -> None:
    world.agents[0].memberships[0].health._check = lambda: "status=503"


def leave_by_hand(world: World) -> None:
    world.agents[0].stay_away(True)


def join_no_more(world: World) -> None:
    world.tell(joins=())


LEAVES = [drain, turn_unhealthy, leave_by_hand, join_no_more]


@pytest.mark.parametrize("lag", [0.0, 10.0])
@pytest.mark.parametrize("leave", LEAVES)
def test_the_value_goes_at_once_and_the_host_when_caches_have_forgotten_it(
    world: World, leave: Callable[[World], None], lag: float
) -> None:
    world.run(30)
    world.lag = lag
    leave(world)
    world.until(lambda: not world.targets(), REREAD + SLACK_S)
    left = world.clock.now
    assert world.hosts() == [HOST]
    world.gone_after(lag + TTL + SLACK_S)
    assert world.clock.now - left >= lag + TTL - SLACK_S
    world.run(60)
    assert not world.hosts() and not world.targets()


@pytest.mark.parametrize("leave", [drain, turn_unhealthy, leave_by_hand])
def test_one_that_comes_back_within_the_ttl_keeps_its_host(world: World, leave: Callable[[World], None]) -> None:
    """Its name never was without address, so no resolver remembers that it was."""
    leave(world)
    world.until(lambda: not world.targets(), REREAD + SLACK_S)
    world.run(TTL / 2)
    world.tell(drain=False)
    world.agents[0].stay_away(False)
    world.agents[0].memberships[0].health._check = lambda: ""
    world.until(lambda: world.targets() == {HOST}, REREAD + SLACK_S)
    world.run(2 * TTL)
    assert world.hosts() == [HOST] and world.targets() == {HOST}
    assert '"leaves ' not in str(world.zone.sets[HOST, "TXT"].values)


@pytest.mark.parametrize("leave", LEAVES[:3])
def test_one_that_comes_back_later_has_a_new_host(world: World, leave: Callable[[World], None]) -> None:
    leave(world)
    world.gone_after(REREAD + TTL + 2 * SLACK_S)
    world.tell(drain=False)
    world.agents[0].stay_away(False)
    world.agents[0].memberships[0].health._check = lambda: ""
    world.until(lambda: bool(world.targets()), REREAD + SLACK_S)
    assert world.hosts() == [*world.targets()] != [HOST]


@pytest.mark.parametrize("absent_s", [0.0, 20.0])
@pytest.mark.parametrize("leave", [drain, leave_by_hand])
def test_the_next_agent_removes_what_one_that_was_killed_has_left(
    world: World, leave: Callable[[World], None], absent_s: float
) -> None:
    leave(world)
    world.until(lambda: not world.targets(), REREAD + SLACK_S)
    world.restart(absent_s)
    began = world.clock.now
    world.gone_after(TTL + SLACK_S)
    assert world.clock.now - began >= TTL - SLACK_S, "it cannot know for how long the value has been gone"


def test_the_next_agent_takes_the_host_over_where_it_joins_again(world: World) -> None:
    leave_by_hand(world)
    world.until(lambda: not world.targets(), SLACK_S)
    world.agents[0].stay_away(False)
    world.restart()
    world.run(2 * TTL)
    assert world.hosts() == [HOST] and world.targets() == {HOST}


def test_a_former_host_goes_after_its_ttl_too(world: World) -> None:
    """The label was lost, as with a new disk: the machine registers under its first name, and caches have another one."""
    world.labels[0].renew(world.agents[0]._owner, DOMAIN)  # type: ignore[arg-type]
    world.run(REREAD)
    drain(world)
    world.gone_after(REREAD + TTL + 2 * SLACK_S)
    world.tell(drain=False)
    world.until(lambda: bool(world.targets()), REREAD + SLACK_S)
    (former,) = world.targets()
    world.labels[0] = KeptLabels()
    world.restart()
    world.run(SLACK_S)
    assert world.targets() == {HOST} and world.hosts() == sorted([HOST, former])
    world.restart()
    world.until(lambda: world.hosts() == [HOST], TTL + 2 * SLACK_S)
    assert world.targets() == {HOST}


@pytest.mark.parametrize("request_number", range(1, 6))
@pytest.mark.parametrize("remembered", [True, False])
def test_a_former_host_is_not_forgotten_where_a_request_fails(
    world: World, request_number: int, remembered: bool
) -> None:
    world.zone.sets = {
        (name.replace("00aa00", "00aa00-abcd"), kind): replace(
            each,
            name=name.replace("00aa00", "00aa00-abcd"),
            values=tuple(value.replace("00aa00.rc", "00aa00-abcd.rc") for value in each.values),
        )
        for (name, kind), each in world.zone.sets.items()
    }
    world.cached.clear()
    world.labels[0] = KeptLabels()
    if remembered:
        world.labels[0].use(world.agents[0]._owner, DOMAIN)  # type: ignore[arg-type]
    world.fail_at = world.zone.calls + request_number - 1
    world.restart()
    world.until(lambda: world.fail_at is None and "00aa00-abcd" not in str(world.targets()), agents.LONGEST + SLACK_S)
    world.until(lambda: world.hosts() == [*world.targets()], agents.LONGEST + 2 * TTL + 2 * SLACK_S)
    world.run(60)
    assert world.hosts() == [*world.targets()] and not any("abcd" in name for name, _ in world.zone.sets)


class TestTwoServices:
    """One host in two sets with another TTL each."""

    def test_it_goes_when_the_longer_ttl_is_over(self, make: Callable[..., World]) -> None:
        world = make(V1, V2)
        drain(world)
        world.until(lambda: not world.targets() and not world.targets(SET_2), REREAD + SLACK_S)
        left = world.clock.now
        world.gone_after(LONG_TTL + SLACK_S)
        assert world.clock.now - left >= LONG_TTL - SLACK_S

    def test_it_stays_for_the_one_that_the_machine_joins(self, make: Callable[..., World]) -> None:
        world = make(V1, V2)
        world.tell(joins=(V2,))
        world.until(lambda: not world.targets(), REREAD + SLACK_S)
        world.run(2 * LONG_TTL)
        assert world.hosts() == [HOST] and world.targets(SET_2) == {HOST}
        assert '"leaves ' not in str(world.zone.sets[HOST, "TXT"].values), "the other set is forgotten"
        assert not world.agents[0]._dropped


class TestFaults:
    def test_an_api_that_fails_is_asked_until_the_host_is_gone(self, world: World) -> None:
        drain(world)
        world.until(lambda: not world.targets(), REREAD + SLACK_S)
        world.fault = TransientError("reason=api-failing api=route53 code=500")
        world.run(TTL + 20)
        assert world.hosts() == [HOST] and "api-failing" in world.agents[0].memberships[0].error
        world.fault = None
        world.gone_after(agents.LONGEST + SLACK_S)
        world.run(TICK)
        assert not world.agents[0].memberships[0].error

    def test_a_value_that_a_user_put_back_keeps_the_host(self, world: World) -> None:
        """As a tool that restores a zone from its file."""
        before = world.zone.sets[SET, "SRV"]
        drain(world)
        world.until(lambda: not world.targets(), REREAD + SLACK_S)
        # The name servers of this test do not show it.
        world.lag, world.past = 1e9, [(-1e9, {})]
        world.zone.sets[SET, "SRV"] = before
        world.run(TTL + SLACK_S)
        assert world.hosts() == [HOST]
        world.until(lambda: not world.targets(), SLACK_S)
        world.gone_after(TTL + 2 * SLACK_S)

    def test_one_that_lost_its_rights_gives_up(self, world: World) -> None:
        join_no_more(world)
        world.until(lambda: not world.targets(), REREAD + SLACK_S)
        world.fault = FatalError("reason=refused api=route53 code=AccessDenied")
        world.run(TTL + SLACK_S)
        assert not world.agents[0]._dropped, "the roll call removes the host"


def test_a_leave_costs_four_requests_and_the_host_three_more(world: World) -> None:
    before = world.zone.calls
    drain(world)
    world.until(lambda: not world.targets(), REREAD + SLACK_S)
    assert world.zone.calls - before <= 4
    before = world.zone.calls
    world.gone_after(TTL + SLACK_S)
    assert world.zone.calls - before <= 3


class TestByHand:
    """`rollcall leave` on a machine, and `rollcall leave --at-shutdown` in the place of an agent that is not there."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        clock = Clock()

        def sleep(seconds: float) -> None:
            clock.now += seconds

        monkeypatch.setattr(agents, "time", SimpleNamespace(monotonic=clock, sleep=sleep))
        return clock

    def left(self, clock: Clock, hosts: frozenset[str] = frozenset({HOST}), cached_s: float = 300.0) -> Any:
        """An agent that left a moment ago; `removed` is after how many seconds it removed its hosts."""
        began, made = clock.now, SimpleNamespace(left_hosts=hosts, removed=None)

        def remove_hosts() -> bool:
            made.removed = clock.now - began
            return True

        made.cached_for, made.remove_hosts = lambda: max(began + cached_s - clock.now, 0.0), remove_hosts
        return made

    @pytest.mark.parametrize("runs", [True, False])
    @pytest.mark.parametrize("agent_knows", [True, False])
    def test_the_hosts_are_left_to_an_agent_that_runs(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch, runs: bool, agent_knows: bool
    ) -> None:
        """It does not know of a membership that was given by hand."""
        monkeypatch.setattr(cli, "agent_is_running", lambda: runs)
        left = self.left(clock)
        assert cli._remove_hosts(left, lasting=True, agent_knows=agent_knows)
        assert left.removed == (None if runs and agent_knows else pytest.approx(300))

    def test_without_hosts_nothing_is_waited_for(self, clock: Clock) -> None:
        left = self.left(clock, frozenset())
        assert cli._remove_hosts(left, lasting=True, agent_knows=False) and left.removed is None

    @pytest.mark.parametrize(("cached_s", "waits"), [(300.0, agents.STOP_DELAY_LIMIT_S), (5.0, 5.0), (0.0, 0.0)])
    def test_at_a_shutdown_the_wait_has_a_limit(self, clock: Clock, cached_s: float, waits: float) -> None:
        left = self.left(clock, cached_s=cached_s)
        assert cli._remove_hosts(left, lasting=False, agent_knows=True) and left.removed == pytest.approx(waits)

    @pytest.mark.parametrize(("says", "runs"), [("active", True), ("inactive", False), ("failed", False), ("", False)])
    def test_systemd_knows_whether_the_agent_runs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, runs: bool
    ) -> None:
        systemctl = tmp_path / "systemctl"
        systemctl.write_text(f'#!/bin/sh\n[ "$*" = "is-active rollcall" ] && echo {says}\n')
        systemctl.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        assert agents.agent_is_running() is runs

    def test_a_machine_that_has_left_but_has_hosts_is_not_finished(self, world: World) -> None:
        status_file = world.home / "0" / "status.json"
        drain(world)
        world.until(lambda: not world.targets(), REREAD + SLACK_S)
        world.run(TICK)
        assert not has_left(status_file)
        world.gone_after(TTL + SLACK_S)
        world.run(TICK)
        assert has_left(status_file)


class TestShutdown:
    """`finish_leaving` as the system stops: the workload ends when it returns."""

    def finish(self, world: World, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> float:
        """Leave and wait; after how many seconds that was done. Name servers and the other machine go on meanwhile."""
        world.agents.remove(agent)
        began = world.clock.now

        def sleep(seconds: float) -> None:
            for other in world.agents:
                other.tick()
            world.clock.now += seconds
            world.past = [*world.past[-200:], (world.clock.now, dict(world.zone.sets))]
            world.check_caches()

        monkeypatch.setattr(agents, "time", SimpleNamespace(monotonic=world.clock, sleep=sleep))
        assert agent.leave(within=0.0) and not world.targets() and world.hosts() == [HOST]
        world.past = [*world.past, (world.clock.now, dict(world.zone.sets))]
        assert agents.finish_leaving(agent, at_shutdown=True) and not world.hosts() and not agent.left_hosts
        return world.clock.now - began

    @pytest.mark.parametrize("lag", [0.0, 4.0, 12.5])
    def test_it_serves_for_the_ttl_after_name_servers_have_stopped_to_answer_with_it(
        self, make: Callable[..., World], monkeypatch: pytest.MonkeyPatch, lag: float
    ) -> None:
        """A resolver may have asked a moment before, and unbound keeps an answer up to a second longer than its TTL."""
        world = make(replace(V1, ttl=5))
        world.run(30)
        world.lag = lag
        took = self.finish(world, world.agents[0], monkeypatch)
        assert lag + 5 + agents.CACHE_CLOCK_S <= took <= lag + 5 + agents.CACHE_CLOCK_S + agents.ASK_AGAIN_S

    @pytest.mark.parametrize("ttl", [5, 300])
    def test_it_serves_for_no_longer_than_the_limit(
        self, make: Callable[..., World], monkeypatch: pytest.MonkeyPatch, ttl: int
    ) -> None:
        world = make(replace(V1, ttl=ttl))
        world.run(60)
        world.lag = agents.STOP_DELAY_LIMIT_S + 10.0
        monkeypatch.setattr(world, "check_caches", lambda: None)
        assert self.finish(world, world.agents[0], monkeypatch) == pytest.approx(agents.STOP_DELAY_LIMIT_S)

    def test_name_servers_that_do_not_answer_are_not_waited_for(
        self, make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = make(replace(V1, ttl=5))
        world.run(30)
        agent = world.agents[0]
        agent._look_up = lambda _: None
        assert self.finish(world, agent, monkeypatch) == pytest.approx(5 + agents.CACHE_CLOCK_S)

    def test_the_host_stays_for_the_longest_ttl_of_its_services(
        self, make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = make(replace(V1, ttl=5), replace(V2, ttl=9))
        world.run(30)
        assert self.finish(world, world.agents[0], monkeypatch) == pytest.approx(9 + agents.CACHE_CLOCK_S, abs=1)

    def test_one_that_was_drained_before_ends_without_a_delay(self, world: World) -> None:
        drain(world)
        world.until(lambda: not world.targets(), REREAD + SLACK_S)
        (agent, _) = world.agents
        assert agent.leave(within=0.0) and agent.cached_for() == 0.0
        world.cached.clear()
        assert agent.remove_hosts(within=0.0) and not world.hosts()
