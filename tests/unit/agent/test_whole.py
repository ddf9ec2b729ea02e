"""Each record of a service's member comes back within seconds, and as long as DNS has all of them no API is asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from localcloud.aws.route53 import UNLIMITED
from localcloud.aws.route53.pace import Throttle
from rollcall.agent import CONFIRM, TICK, WATCH, Agent
from rollcall.ownership import Owner
from rollcall.route53 import Route53Registry
from rollcall.settings import MachineSettings, Route53Join
from rollcall.srv_transitions import Writer
from rollcall.zoneview import Reply, ZoneView
from tests.unit.agent.contention import DOMAIN, Zone, targets_of
from tests.unit.agent.fakes import Clock, FakeCloud, memory_folder, runs_well
from tests.unit.agent.test_route53 import Still

SERVICE_JOIN = Route53Join(
    zone="Z", domain=DOMAIN, service="_theService._tcp", incarnation="v1", port=4218, check="command:/bin/true"
)
SET = f"v1._theservice._tcp.{DOMAIN}"
HOST, OTHER = f"00aa00.rc.{DOMAIN}", f"00bb00.rc.{DOMAIN}"
A, AAAA = "198.51.100.10", "2001:db8:1::10"
T = TypeVar("T")
WITHIN_S = 2 * WATCH + 2 * TICK


class Registry:
    """As the agent has it: each call is made by another Route53Registry, which knows no more than `writer`."""

    def __init__(self, machine_settings: Route53Join, zone: Zone) -> None:
        self._membership, self._zone = machine_settings, zone
        self._writer = Writer()
        self.size = 0
        self.members: tuple[str, ...] = ()
        self.generations: dict[str, str] = {}
        self.left_hosts: frozenset[str] = frozenset()
        self.lives: Callable[[str, bool], bool] = lambda *_: False

    def join(self, owner: Owner, *addresses: str, kept: bool = False) -> bool:
        return self._ask(lambda one: one.join(owner, *addresses, kept=kept))

    def leave(self, owner: Owner) -> bool:
        return self._ask(lambda one: one.leave(owner))

    def leave_set(self, owner: Owner, *addresses: str) -> bool:
        return self._ask(lambda one: one.leave_set(owner))

    def leave_unhealthy(self, owner: Owner, floors: Mapping[str, int], *addresses: str) -> str:
        return self._ask(lambda one: one.leave_unhealthy(owner, floors["SRV"]))

    def remove_hosts(self, owner: Owner, hosts: Collection[str], *addresses: str) -> bool:
        return self._ask(lambda one: one.remove_hosts(owner, hosts, *addresses))

    def owner_at(self, key: str) -> Owner | None:
        return self._ask(lambda one: one.owner_at(key))

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        return self._ask(lambda one: one.challenge(owner, on, by))

    def challengers(self, owner: Owner) -> tuple[str, ...]:
        return self._ask(lambda one: one.challengers(owner))

    def interrupt(self) -> None:
        pass

    def _ask(self, act: Callable[[Route53Registry], T]) -> T:
        one = Route53Registry(self._membership, self._zone, self._writer, self._zone.scheduler.sleep)
        try:
            return act(one)
        finally:
            self._writer, self.left_hosts = one.writer, one.left_hosts


class World:
    """A zone, two agents with IPv4 and IPv6, and name servers that answer as the zone was `lag` seconds ago."""

    def __init__(self, home: Path) -> None:
        self.clock, self.lag = Clock(), 0.0
        scheduler = Still(1)
        self.zone = Zone(scheduler, Throttle(UNLIMITED, lambda: scheduler.now))
        self.past = [(0.0, dict(self.zone.sets))]
        self.mute = False
        self.agents = [self._agent(home, number) for number in (0xAA, 0xBB)]
        self.run(20)

    def _agent(self, home: Path, number: int) -> Agent:
        settings = MachineSettings(
            stack="local",
            fleet="web",
            machine=str(number),
            generation=f"{number << 8:06x}",
            joins=(replace(SERVICE_JOIN, ipv6=True),),
        )
        cloud = FakeCloud(settings)
        cloud.instance = lambda: f"i-{number:017x}"  # type: ignore[method-assign]
        tail = 10 if number == 0xAA else 11
        cloud.known = (f"198.51.100.{tail}", f"2001:db8:1::{tail}")
        return Agent(
            cloud,
            status_file=home / f"{number}.json",
            clock=self.clock,
            look_up=self.look_up,
            ttls=self.ttls,
            registry_of=lambda machine_settings, _: Registry(machine_settings, self.zone),  # type: ignore[arg-type]
            reach=lambda *_: True,
        )

    @property
    def shown(self):  # type: ignore[no-untyped-def]
        return next(sets for at, sets in reversed(self.past) if at <= self.clock.now - self.lag)

    def look_up(self, name: str) -> frozenset[str]:
        found = self.shown.get((name, "SRV"))
        return targets_of(found.values) if found else frozenset()

    def ttls(self, name: str, zone: str, rtype: str, values: Collection[str]) -> set[float] | None:
        assert zone == DOMAIN
        if self.mute:
            return None
        found = self.shown.get((name, rtype))
        return {float(found.ttl)} if found and {*values} <= {*found.values} else set()

    def run(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.past = [*self.past[-60:], (self.clock.now, dict(self.zone.sets))]
            for agent in self.agents:
                agent.tick()
            self.clock.now += TICK

    def until(self, true: Callable[[], bool], within: float) -> float:
        began = self.clock.now
        while not true():
            assert self.clock.now - began <= within, f"not within {within:.0f} s"
            self.run(TICK)
        return self.clock.now - began


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("rollcall.health._command", runs_well)
    with memory_folder() as home:
        yield World(home)


def test_a_whole_record_costs_no_api_call(world: World) -> None:
    assert {kind for name, kind in world.zone.sets if name == HOST} == {"A", "AAAA", "TXT"}
    world.run(30)
    before = world.zone.calls
    world.run(CONFIRM * 0.7)
    assert world.zone.calls == before


@pytest.mark.parametrize("record", [(HOST, "A"), (HOST, "AAAA"), (HOST, "TXT"), (SET, "SRV")])
@pytest.mark.parametrize("what", ["deleted", "another TTL", "other values", "values beside"])
def test_each_record_is_as_it_was_within_seconds(world: World, record: tuple[str, str], what: str) -> None:
    world.run(30)
    whole, before = dict(world.zone.sets), world.zone.sets[record]
    other = {"A": "192.0.2.1", "AAAA": "2001:db8::99", "TXT": '"managed by a tool"', "SRV": "1 2 3 lb.example.org."}
    if what == "deleted":
        del world.zone.sets[record]
    elif what == "another TTL":
        world.zone.sets[record] = replace(before, ttl=before.ttl + 1)
    else:
        kept = before.values if what == "values beside" else ()
        world.zone.sets[record] = replace(before, values=tuple(sorted((*kept, other[record[1]]))))

    def is_fixed() -> bool:
        now = world.zone.sets.get(record)
        return now is not None and {*before.values} <= {*now.values} and now.ttl == before.ttl

    took = world.until(is_fixed, WITHIN_S)
    world.run(60)
    assert {*whole} == {*world.zone.sets} and took <= WITHIN_S
    if what in ("other values", "values beside"):
        assert other[record[1]] in world.zone.sets[record].values, "another writer's records stay"


def test_another_s_mark_on_its_host_is_replaced(world: World) -> None:
    world.run(30)
    before = world.zone.sets[HOST, "TXT"]
    world.zone.sets[HOST, "TXT"] = replace(before, values=world.zone.sets[OTHER, "TXT"].values)
    world.until(lambda: world.zone.sets[HOST, "TXT"] == before, WITHIN_S)


@pytest.mark.parametrize("lag", [5.0, 30.0, 60.0])
def test_name_servers_that_are_late_make_no_api_busy(world: World, lag: float) -> None:
    world.run(120)
    world.lag = lag
    before = world.zone.calls
    del world.zone.sets[HOST, "A"]
    world.until(lambda: (HOST, "A") in world.zone.sets, WITHIN_S + lag)
    world.run(300)
    # One read and one change, and a few reads until the name servers know.
    assert world.zone.calls - before <= 12


def test_name_servers_that_never_show_it_cost_a_check_in_five_minutes(world: World) -> None:
    world.run(120)
    world.lag = 1e9
    world.past = [(0.0, {}), *world.past]
    before = world.zone.calls
    world.run(1800)
    assert world.zone.calls - before <= 2 * 2 * (6 + 1800 / (CONFIRM / 2) + 2 * 1800 / CONFIRM)


def test_nothing_follows_where_no_name_server_can_be_asked(world: World) -> None:
    world.run(30)
    world.mute = True
    before = world.zone.calls
    world.run(300)
    assert world.zone.calls == before


def test_of_hundreds_that_see_another_ttl_of_their_set_a_few_write_it(world: World) -> None:
    world.run(30)
    (agent, _) = world.agents
    membership = agent.memberships[0]
    membership.others = 299
    world.zone.sets[SET, "SRV"] = replace(world.zone.sets[SET, "SRV"], ttl=77)
    world.past = [(0.0, dict(world.zone.sets))]
    changes = sum(agent._is_changed(membership) for _ in range(3000))
    assert 0 < changes < 120
    del world.past[0][1][HOST, "A"]
    assert agent._is_changed(membership), "only the machine fixes its own record"


def test_a_view_gives_the_ttls_of_servers_with_a_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    view = ZoneView(DOMAIN)
    replies: list[Reply] = []
    monkeypatch.setattr(view, "_voting", lambda *_: replies)
    assert view.ttls(HOST, "A", (A,)) is None
    replies += [Reply(values=frozenset({A}), ttl=60.0), Reply(values=frozenset({A, "192.0.2.1"}), ttl=30.0), Reply()]
    assert view.ttls(HOST, "A", (A,)) == {60.0, 30.0} and view.ttls(HOST, "A", (A, "192.0.2.1")) == {30.0}
    assert view.ttls(HOST, "A", ("192.0.2.9",)) == set()


def test_an_unhealthy_member_that_stays_says_so_in_its_host_s_txt(world: World) -> None:
    world.run(30)
    world.agents.pop()
    owner = Owner("local", "web", str(0xBB), "00bb00", f"i-{0xBB:017x}")
    Registry(SERVICE_JOIN, world.zone).leave(owner)
    world.agents[0].memberships[0].health._check = lambda: "status=503"
    world.run(30)
    assert any(each.startswith('"kept ') for each in world.zone.sets[HOST, "TXT"].values)
    before = world.zone.sets[HOST, "TXT"]
    world.zone.sets[HOST, "TXT"] = replace(before, values=before.values[:1])
    world.until(lambda: world.zone.sets[HOST, "TXT"] == before, WITHIN_S + 15)
