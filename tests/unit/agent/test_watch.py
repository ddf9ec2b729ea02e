"""The agent looks after two others: the records of a crashed machine are removed within a minute, and silence alone removes no machine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from rollcall.agent import TICK, Agent
from rollcall.errors import TransientError
from rollcall.ownership import Owner
from rollcall.settings import CloudflareJoin, Join, MachineSettings, challenge_name
from tests.unit.agent.fakes import Clock, FakeCloud, memory_folder, runs_well

HOST = "www.scalability.expert"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """The agents of this file write their status thousands of times."""
    with memory_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process for each check of each machine."""
    monkeypatch.setattr("rollcall.health._command", runs_well)


class World:
    """Machines of two clouds (`a…`, `b…`), one zone, and which machine can reach which. Those of the clouds named in `ipv6` have an address
    `NAME:6` beside `NAME`; `no_way` says whether it leads anywhere."""

    def __init__(self, home: Path, *names: str, proxied: bool = False, ipv6: str = "") -> None:
        self.clock = Clock()
        self.zone: dict[str, Owner] = {}
        self.challenges: dict[str, set[str]] = {}
        self.put_up = 0
        self.cut = False
        self.cut_off: set[frozenset[str]] = set()
        self.api_down = self.dns_down = False
        self.agents: dict[str, Agent] = {}
        self.dead: set[str] = set()
        self.no_way = False
        # Seconds until name servers answer with a challenge, or no longer do, and what they did at each moment.
        self.lag = 0.0
        self.past: list[tuple[float, dict[str, set[str]]]] = []
        self.owner_reads = 0
        self.reached: set[tuple[str, str]] = set()
        self.membership = CloudflareJoin(zone="z", host=HOST, token="t", proxied=proxied, check="command:/bin/true")
        for number, name in enumerate(names):
            membership = replace(self.membership, ipv6=name[0] in ipv6)
            settings = MachineSettings(
                stack="local", fleet="web", machine=str(number), generation=f"{number:06x}", joins=(membership,)
            )
            self.agents[name] = Agent(
                Machine(settings, name),
                status_file=home / f"{name}.json",
                clock=self.clock,
                look_up=self.look_up,
                registry_of=lambda membership, _: WorldRegistry(self, membership),
                reach=self.reach_from(name),
            )

    def reach_from(self, name: str) -> Callable[[str, Join], bool]:
        def reach(key: str, _: Join) -> bool:
            self.reached.add((name, key))
            there, _colon, family = key.partition(":")
            cut = (self.cut and key[0] != name[0]) or frozenset({name, there}) in self.cut_off
            return there not in self.dead and not cut and not (family and self.no_way)

        return reach

    def look_up(self, name: str) -> frozenset[str] | None:
        if self.dns_down:
            return None
        if ".c.rc." in name:
            known = [each for at, each in self.past if at <= self.clock.now - self.lag]
            return frozenset((known[-1] if known else {}).get(name, ()) if self.lag else self.challenges.get(name, ()))
        return frozenset({"edge"} if self.membership.proxied else self.zone)

    def run(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            for name, agent in self.agents.items():
                if name not in self.dead:
                    agent.tick()
            self.past.append((self.clock.now, {name: {*texts} for name, texts in self.challenges.items()}))
            self.clock.now += TICK

    @property
    def registered(self) -> set[str]:
        return set(self.zone)


class Machine(FakeCloud):
    def __init__(self, settings: MachineSettings, name: str) -> None:
        super().__init__(settings)
        self._name = name

    def instance(self) -> str:
        return f"i-{int(self.settings.machine):017x}"

    def addresses(self) -> tuple[str, ...]:
        (membership,) = self.settings.joins
        return (self._name, f"{self._name}:6") if membership.ipv6 else (self._name,)


class WorldRegistry:
    def __init__(self, world: World, membership: Join) -> None:
        self._world, self._membership = world, membership
        self.size = 0
        self.members: tuple[str, ...] = ()
        self.generations: dict[str, str] = {}
        self.left_hosts: frozenset[str] = frozenset()
        self.lives: Callable[[str, bool], bool] = lambda *_: False

    def join(self, owner: Owner, *addresses: str, kept: bool = False) -> bool:
        zone = self._zone()
        changed = any(zone.get(address) != owner for address in addresses)
        zone.update(dict.fromkeys(addresses, owner))
        self.members = tuple(zone) if self._world.membership.proxied else ()
        self.size = len(zone)
        return changed

    def leave(self, owner: Owner) -> bool:
        return self.leave_set(owner)

    def leave_set(self, owner: Owner, *addresses: str) -> bool:
        zone = self._zone()
        gone = [address for address, each in zone.items() if each == owner]
        for address in gone:
            del zone[address]
        return bool(gone)

    def leave_unhealthy(self, owner: Owner, floors: Mapping[str, int], *addresses: str) -> str:
        self.leave_set(owner)
        return ""

    def remove_hosts(self, owner: Owner, hosts: Collection[str], *addresses: str) -> bool:
        return False

    def owner_at(self, key: str) -> Owner | None:
        self._world.owner_reads += 1
        return self._zone().get(key)

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        self._zone()
        name = challenge_name(owner, self._membership)
        texts = self._world.challenges.pop(name, set())
        mine = {text for text in texts if text.startswith(f"{owner} {by}".rstrip())}
        left = texts | {f"{owner} {by}"} if on else texts - mine
        if left:
            self._world.challenges[name] = left
        self._world.put_up += on and not mine
        return bool(mine)

    def challengers(self, owner: Owner) -> tuple[str, ...]:
        self._zone()
        texts = self._world.challenges.get(challenge_name(owner, self._membership), set())
        return tuple(each.removeprefix(f"{owner} ") for each in texts)

    def interrupt(self) -> None:
        pass

    def _zone(self) -> dict[str, Owner]:
        if self._world.api_down:
            raise TransientError("reason=api-failing")
        return self._world.zone


@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize("victim", ["a1", "b1", "b2"])
def test_what_a_crash_leaves_goes_within_a_minute_and_nothing_else(tmp_path: Path, victim: str, proxied: bool) -> None:
    world = World(tmp_path, "a1", "a2", "b1", "b2", proxied=proxied)
    world.run(40)
    assert world.registered == {"a1", "a2", "b1", "b2"}
    world.dead.add(victim)
    world.run(60)
    assert world.registered == {"a1", "a2", "b1", "b2"} - {victim}
    assert world.challenges == {}


def test_of_all_but_one_the_last_stays(tmp_path: Path) -> None:
    world = World(tmp_path, "a1", "a2", "b1", "b2")
    world.run(20)
    world.dead |= {"a1", "a2", "b2"}
    world.run(180)
    assert world.registered == {"b1"} and world.challenges == {}


def test_clouds_that_are_cut_off_from_each_other_remove_no_machine(tmp_path: Path) -> None:
    names = [f"{cloud}{number}" for cloud in "ab" for number in range(4)]
    world = World(tmp_path, *names)
    world.run(20)
    world.cut = True
    world.run(300)
    assert world.registered == set(names)
    assert 0 < world.put_up <= 16, "each edge of the ring asks now and then, not all the time"
    world.cut = False
    world.run(60)
    assert world.registered == set(names) and world.challenges == {}


@pytest.mark.parametrize("lag", [10, 20, 40, 60])
def test_no_machine_is_removed_for_a_challenge_that_the_name_servers_do_not_have_yet(
    tmp_path: Path, lag: float
) -> None:
    """Route53's take up to a minute."""
    world = World(tmp_path, "a1", "a2", "b1", "b2")
    world.lag = lag
    world.run(20)
    world.cut = True
    for _ in range(300):
        world.run(TICK)
        assert world.registered == {"a1", "a2", "b1", "b2"}
    assert world.put_up


@pytest.mark.parametrize("lag", [10, 60])
def test_a_dead_machine_goes_though_the_name_servers_are_late(tmp_path: Path, lag: float) -> None:
    world = World(tmp_path, "a1", "a2", "b1", "b2")
    world.lag = lag
    world.run(20)
    world.dead.add("b1")
    world.run(60 + lag)
    assert world.registered == {"a1", "a2", "b2"} and world.challenges == {}


def test_a_silent_key_without_an_owner_is_checked_from_time_to_time(tmp_path: Path) -> None:
    """As a foreign address at the site, or a neighbour that has left since the API was asked."""
    world = World(tmp_path, "a1", "a2")
    look_up = world.look_up
    for agent in world.agents.values():
        agent._look_up = lambda name: (look_up(name) or frozenset()) | ({"c1"} if name == HOST else set())
    world.dead.add("c1")
    world.run(3600)
    assert 2 * 10 < world.owner_reads < 2 * 40 and world.registered == {"a1", "a2"}


@pytest.mark.parametrize("later", [4, 12, 16, 20])
def test_one_that_is_cut_off_from_one_watcher_after_the_other_is_not_removed(tmp_path: Path, later: int) -> None:
    """The second watcher's challenge is young when the first one's time is over: it says nothing to the first."""
    world = World(tmp_path, "a1", "a2", "b1")
    world.run(20)
    for name, ahead in (("a2", 0), ("a1", 2), ("b1", 8)):
        world.agents[name].memberships[0].next_watch = world.clock.now + ahead
    world.cut_off.add(frozenset({"a1", "b1"}))
    world.run(later)
    world.cut_off.add(frozenset({"a2", "b1"}))
    for _ in range(40):
        world.run(TICK)
        assert world.registered == {"a1", "a2", "b1"}
    assert world.put_up


def test_a_cloud_that_is_lost_whole_goes_whole_and_the_other_is_untouched(tmp_path: Path) -> None:
    names = [f"{cloud}{number}" for cloud in "ab" for number in range(4)]
    world = World(tmp_path, *names)
    world.run(20)
    world.dead |= {name for name in names if name[0] == "a"}
    world.run(240)
    assert world.registered == {name for name in names if name[0] == "b"}


@pytest.mark.parametrize("down", ["api_down", "dns_down"])
def test_without_the_api_or_dns_nothing_is_removed_and_afterwards_it_is(tmp_path: Path, down: str) -> None:
    world = World(tmp_path, "a1", "a2", "b1")
    world.run(20)
    setattr(world, down, True)
    world.dead.add("b1")
    world.run(120)
    assert world.registered == {"a1", "a2", "b1"}
    setattr(world, down, False)
    world.run(120)
    assert world.registered == {"a1", "a2"}


def test_the_record_of_another_stack_is_not_challenged(tmp_path: Path) -> None:
    world = World(tmp_path, "a1", "a2")
    world.zone["b1"] = Owner("staging", "web", "0", "abcdef", "i-00000000000000077")
    world.dead.add("b1")
    world.run(200)
    assert "b1" in world.zone and world.put_up == 0


def test_a_challenge_for_a_live_machine_is_taken_away_whoever_put_it_up(tmp_path: Path) -> None:
    world = World(tmp_path, "a1")
    world.run(12)
    owner = world.zone["a1"]
    world.challenges[challenge_name(owner, world.membership)] = {str(owner), f"{owner} abcdef"}
    world.run(14)
    assert world.challenges == {} and world.registered == {"a1"}


def both(*names: str) -> set[str]:
    return {address for name in names for address in (name, f"{name}:6")}


@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize(("victim", "left"), [("a1", both("a2") | {"b1"}), ("b1", both("a1", "a2"))])
def test_in_a_mixed_set_a_dead_machine_s_addresses_go_and_no_other(
    tmp_path: Path, victim: str, left: set[str], proxied: bool
) -> None:
    world = World(tmp_path, "a1", "a2", "b1", proxied=proxied, ipv6="a")
    world.run(40)
    assert world.registered == both("a1", "a2") | {"b1"}
    world.dead.add(victim)
    world.run(60)
    assert world.registered == left and world.challenges == {}


def test_a_machine_without_ipv6_never_probes_by_it_and_none_probes_itself(tmp_path: Path) -> None:
    world = World(tmp_path, "a1", "a2", "b1", "b2", ipv6="a")
    world.run(60)
    assert {who for who, key in world.reached if ":" in key} == {"a1", "a2"}
    assert not [pair for pair in world.reached if pair[1].startswith(pair[0])]
    # By IPv4 every machine is watched by a machine of the ring of both kinds.
    assert {key for _, key in world.reached} == both("a1", "a2") | {"b1", "b2"}


def test_without_a_way_by_ipv6_it_is_asked_now_and_then_and_no_machine_is_removed(tmp_path: Path) -> None:
    world = World(tmp_path, "a1", "a2", "a3", "b1", ipv6="a")
    world.no_way = True
    world.run(300)
    assert world.registered == both("a1", "a2", "a3") | {"b1"} and world.challenges == {}
    assert 0 < world.put_up <= 20


def test_the_last_machine_stays_with_both_of_its_addresses(tmp_path: Path) -> None:
    world = World(tmp_path, "a1", "a2", "b1", ipv6="a")
    world.run(20)
    world.dead |= {"a2", "b1"}
    world.run(120)
    assert world.registered == both("a1")
    world.dead.add("a1")
    world.run(120)
    assert world.registered == both("a1"), "no machine is left to remove them"


def test_an_ipv6_record_that_is_left_alone_of_a_dead_machine_goes(tmp_path: Path) -> None:
    world = World(tmp_path, "a1", "a2", "b1", ipv6="a")
    world.run(20)
    world.dead.add("a1")
    del world.zone["a1"]
    world.run(60)
    assert world.registered == both("a2") | {"b1"}
