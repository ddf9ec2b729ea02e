"""No record set is emptied for health reasons: an unhealthy member stays where too few others are.

The interleavings run on a virtual clock (tests/unit/agent/contention.py): one thread at a time, in an order that a seed decides, and
each call of an API takes a moment.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.aws.route53 import UNLIMITED
from localcloud.aws.route53.pace import Throttle
from rollcall.agent import STAYS, TICK
from rollcall.cloudflare import CloudflareStore, Record
from rollcall.errors import FatalError, TransientError
from rollcall.ownership import KEPT, LEAVES, Owner
from rollcall.plan import why_kept
from rollcall.registry import AT_ONCE, CloudflareRegistry
from rollcall.retrying import retried
from rollcall.route53 import RecordSet, Route53Registry, is_leaving
from rollcall.settings import CloudflareJoin, Route53Join, format_join, parse_join
from tests.unit.agent.contention import DOMAIN, UNKNOWN, Scheduler, Zone
from tests.unit.agent.fakes import ADDRESS, HOST, OWNER, Guest, memory_folder, runs_well

SITE = CloudflareJoin(zone="z" * 32, host=HOST, token="t")
SERVICE = Route53Join(zone="Z", domain=DOMAIN, service="_s._tcp", incarnation="v1", port=4218)
SET = f"v1._s._tcp.{DOMAIN}"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_folder() as folder:
        yield folder


def owner(index: int, stack: str = "local") -> Owner:
    return Owner(stack, "web", str(index), f"{index:06x}", f"i-{index:017x}")


def address(index: int) -> str:
    return f"198.51.100.{index}"


def floor_of(wanted: int) -> int:
    return -(-3 * wanted // 10)


@dataclass
class Site:
    """Records of one name at Cloudflare. Every call takes a moment; `faults` is how often one fails before or after it acted."""

    scheduler: Scheduler
    faults: float = 0.0
    records: dict[str, Record] = field(default_factory=dict)
    made: int = 0
    fewest: int = 999

    def list(self, _zone: str, name: str) -> tuple[Record, ...]:
        self._call()
        return tuple(each for each in self.records.values() if each.name == name)

    def create(self, record: Record) -> Record:
        self._call()
        if any((each.type, each.content) == (record.type, record.content) for each in self.records.values()):
            raise FatalError("code=81058 message='An identical record already exists.'")
        self.made += 1
        made = replace(record, id=str(self.made))
        self.records[made.id] = made
        self._reply()
        return made

    def update(self, record: Record) -> Record:
        self._call()
        if record.id not in self.records:
            raise FatalError("code=81044 message='Record does not exist.'")
        self.records[record.id] = record
        self._reply()
        return record

    def delete(self, _zone: str, record: str) -> None:
        self._call()
        self.records.pop(record, None)
        self.fewest = min(self.fewest, len(self.records))
        self._reply()

    def _call(self) -> None:
        self.scheduler.sleep(self.scheduler.dice.uniform(0.02, 0.3))
        self._reply()

    def _reply(self) -> None:
        if self.scheduler.dice.random() < self.faults:
            raise TransientError("reason=api-failing api=cloudflare status=503")


class SiteRegistry(CloudflareRegistry):
    def __init__(self, site: Site) -> None:
        super().__init__(SITE, lambda: "t")
        self._site = site

    def _open(self) -> CloudflareStore:
        return self._site  # type: ignore[return-value]


def leave_site(site: Site, index: int, floor: int, seconds: float) -> None:
    """As an agent does it from the moment at which its workload is unhealthy."""
    registry, clock = SiteRegistry(site), site.scheduler
    began, pause = clock.now, 0.0
    while clock.now - began < seconds:
        try:
            why = registry.leave_unhealthy(owner(index), {"A": floor, "AAAA": 1}, address(index))
            pause = 0.0
        except TransientError:
            pause = min(max(2 * pause, TICK), 30)
            clock.sleep(clock.dice.uniform(TICK / 2, pause))
            continue
        except FatalError:
            clock.sleep(TICK)
            continue
        if not why:
            return
        clock.sleep(clock.dice.uniform(0, 3 * TICK) if AT_ONCE in why else 7 + clock.dice.uniform(0, 1))


def site_of(seed: int, members: int, faults: float = 0.0) -> Site:
    site = Site(Scheduler(seed), faults)
    for index in range(members):
        site.made += 1
        site.records[str(site.made)] = Record(
            name=HOST, type="A", content=f"198.51.100.{index}", ttl=120, comment=str(owner(index)), id=str(site.made)
        )
    return site


seeds = st.integers(0, 10**9)


class TestSite:
    @pytest.mark.parametrize("members", [1, 2, 3, 5, 10])
    @pytest.mark.parametrize("skew", [0.0, 1.0, 5.0])
    def test_all_that_are_unhealthy_at_once_leave_no_name_empty(self, members: int, skew: float) -> None:
        for seed in range(40):
            site = site_of(seed, members)
            floor = floor_of(members)

            def act(index: int, site: Site = site, floor: int = floor) -> None:
                site.scheduler.sleep(site.scheduler.dice.uniform(0, skew))
                leave_site(site, index, floor, 120)

            site.scheduler.run([lambda index=index: act(index) for index in range(members)])  # type: ignore[misc]
            assert len(site.records) >= floor, seed
            assert len(site.records) == floor, "those above it are out"
            assert site.fewest >= floor, (seed, "below its floor for a moment")
            assert all(each.comment.endswith(" kept") for each in site.records.values())

    @settings(max_examples=150, deadline=None)
    @given(
        seed=seeds,
        members=st.integers(1, 12),
        floor=st.integers(1, 6),
        spread=st.sampled_from([0.0, 0.5, 10.0]),
        faults=st.sampled_from([0.0, 0.1]),
        healthy=st.integers(0, 3),
    )
    def test_no_interleaving_ends_below_the_floor(
        self, seed: int, members: int, floor: int, spread: float, faults: float, healthy: int
    ) -> None:
        site = site_of(seed, members, faults)

        def act(index: int) -> None:
            site.scheduler.sleep(site.scheduler.dice.uniform(0, spread))
            leave_site(site, index, floor, 600)

        site.scheduler.run([lambda index=index: act(index) for index in range(healthy, members)])  # type: ignore[misc]
        assert len(site.records) >= min(floor, members) and site.fewest >= min(floor, members)
        assert len(site.records) <= max(min(floor, members), min(healthy, members)) + bool(faults)
        assert len({each.content for each in site.records.values()}) == len(site.records)

    def test_a_member_that_left_and_cannot_read_the_records_comes_back_at_the_next_check(self) -> None:
        """The reply of the second list is lost; meanwhile the other one has left too."""
        site = site_of(1, 2)
        registry = SiteRegistry(site)
        site.scheduler.sleep = lambda seconds: None  # type: ignore[method-assign]
        listed, calls = site.list, []

        def list_(zone: str, name: str) -> tuple[Record, ...]:
            calls.append(name)
            if len(calls) == 3:
                raise TransientError("reason=unreachable")
            return listed(zone, name)

        site.list = list_  # type: ignore[assignment, method-assign]
        with pytest.raises(TransientError):
            registry.leave_unhealthy(owner(0), {"A": 1}, address(0))
        site.records.clear()
        assert "too-few-others" in registry.leave_unhealthy(owner(0), {"A": 1}, address(0))
        assert [each.content for each in site.records.values()] == ["198.51.100.0"]

    def test_one_that_is_healthy_again_is_marked_so_and_above_the_floor_the_unhealthy_one_leaves(self) -> None:
        site = site_of(1, 1)
        site.scheduler.sleep = lambda seconds: None  # type: ignore[method-assign]
        registry = SiteRegistry(site)
        assert registry.leave_unhealthy(owner(0), {"A": 1, "AAAA": 1}, address(0))
        SiteRegistry(site).join(owner(1), "198.51.100.1")
        assert registry.leave_unhealthy(owner(0), {"A": 1, "AAAA": 1}, address(0)) == ""
        assert [each.comment for each in site.records.values()] == [str(owner(1))]
        assert registry.join(owner(0), "198.51.100.0") is True
        assert {each.comment for each in site.records.values()} == {str(owner(0)), str(owner(1))}

    def test_explicit_leaving_ignores_the_floor(self) -> None:
        site = site_of(1, 1)
        site.scheduler.sleep = lambda seconds: None  # type: ignore[method-assign]
        registry = SiteRegistry(site)
        assert registry.leave_unhealthy(owner(0), {"A": 1, "AAAA": 1}, address(0))
        assert registry.leave(owner(0)) is True and site.records == {}


A, AAAA = (Record(name=HOST, type=kind, content=at) for kind, at in (("A", ADDRESS), ("AAAA", "2001:db8::1")))


def of(record: Record, index: int, stack: str = "local", kept: bool = False) -> Record:
    return replace(record, content=f"{record.content}{index}", comment=owner(index, stack).mark(KEPT if kept else ""))


# name, what is there, whether machine 0 must stay with a floor of 1 (A) and 1 (AAAA)
KEEPS: list[tuple[str, list[Record], bool]] = [
    ("alone", [of(A, 0)], True),
    ("beside another machine", [of(A, 0), of(A, 1)], False),
    ("beside an unhealthy one that stays", [of(A, 0), of(A, 1, kept=True)], False),
    ("beside one that is about to leave", [of(A, 0), replace(of(A, 1), comment=owner(1).mark(LEAVES))], True),
    ("beside another stack's", [of(A, 0), of(A, 1, "prod")], True),
    ("beside a record without an owner", [of(A, 0), replace(A, content="192.0.2.1")], True),
    ("beside itself", [of(A, 0), replace(of(A, 0), content="192.0.2.1")], True),
    ("the last with IPv6", [of(A, 0), of(AAAA, 0), of(A, 1)], True),
    ("both have both", [of(A, 0), of(AAAA, 0), of(A, 1), of(AAAA, 1)], False),
    ("it is not there", [of(A, 1)], False),
    ("nothing is there", [], False),
    ("one has IPv6 alone", [of(A, 0), of(AAAA, 1)], True),
]


@pytest.mark.parametrize(("present", "stays"), [row[1:] for row in KEEPS], ids=[row[0] for row in KEEPS])
def test_which_members_must_stay(present: list[Record], stays: bool) -> None:
    mine = [each for each in present if Owner.parse(each.comment) == owner(0)]
    assert bool(why_kept(present, mine, "local", {"A": 1, "AAAA": 1})) is stays
    assert why_kept(present, mine, "local", {"A": 0, "AAAA": 0}) == ""


def hosted(seed: int, members: int, faults: float = 0.0) -> Zone:
    scheduler = Scheduler(seed)
    zone = Watched(scheduler, Throttle(UNLIMITED, lambda: scheduler.now), faults)
    values = []
    for index in range(members):
        host, value = f"{index:06x}.rc.{DOMAIN}", f"10 10 4218 {index:06x}.rc.{DOMAIN}."
        address = f"198.51.100.{index}"
        texts = tuple(sorted((f'"{owner(index)}"', f'"at {address}"', f'"joins {SET} {value}"')))
        zone.sets[host, "A"] = RecordSet(host, "A", 60, (address,))
        zone.sets[host, "TXT"] = RecordSet(host, "TXT", 60, texts)
        values.append(value)
    zone.sets[SET, "SRV"] = RecordSet(SET, "SRV", 30, tuple(sorted(values)))
    return zone


class Watched(Zone):
    fewest = 999

    def change(self, deletes, creates):  # type: ignore[no-untyped-def]
        try:
            super().change(deletes, creates)
        finally:
            self.fewest = min(self.fewest, members_of(self))


def members_of(zone: Zone) -> int:
    found = zone.sets.get((SET, "SRV"))
    return len(found.values) if found else 0


def registry_of(zone: Zone) -> Route53Registry:
    return Route53Registry(SERVICE, zone, UNKNOWN, zone.scheduler.sleep, random.Random(zone.scheduler.dice.random()))  # noqa: S311


def leave_service(zone: Zone, index: int, floor: int, seconds: float) -> None:
    clock = zone.scheduler
    began = clock.now
    while clock.now - began < seconds:
        registry = registry_of(zone)
        try:
            why = retried(lambda registry=registry: registry.leave_unhealthy(owner(index), floor), 12, clock.sleep)  # type: ignore[misc]
        except TransientError:
            clock.sleep(clock.dice.uniform(TICK / 2, 10))
            continue
        if not why:
            return
        clock.sleep(clock.dice.uniform(7, 30))


def run_all(zone: Zone, indices: Iterable[int], floor: int) -> None:
    zone.scheduler.run([lambda i=i: leave_service(zone, i, floor, 120) for i in indices])  # type: ignore[misc]


class TestService:
    @pytest.mark.parametrize("members", [1, 2, 3, 5, 10])
    def test_all_that_are_unhealthy_at_once_never_bring_the_set_below_its_floor(self, members: int) -> None:
        for seed in range(25):
            zone, floor = hosted(seed, members), floor_of(members)
            run_all(zone, range(members), floor)
            assert members_of(zone) == floor and getattr(zone, "fewest", 999) >= floor
            kept = [each for (name, kind), each in zone.sets.items() if kind == "TXT" and not is_leaving([each], name)]
            assert len(kept) == floor and all(any('"kept ' in value for value in each.values) for each in kept)

    @settings(max_examples=100, deadline=None)
    @given(
        seed=seeds,
        members=st.integers(1, 8),
        floor=st.integers(1, 5),
        faults=st.sampled_from([0.0, 0.1]),
        joiners=st.integers(0, 3),
        recover=st.integers(0, 2),
    )
    def test_no_interleaving_is_ever_below_the_floor(
        self, seed: int, members: int, floor: int, faults: float, joiners: int, recover: int
    ) -> None:
        """Others join meanwhile, which helps those that it finds missing; some are healthy again."""
        zone = hosted(seed, members, faults)
        clock = zone.scheduler
        floor = min(floor, members)

        def unhealthy(index: int) -> None:
            leave_service(zone, index, floor, 300)
            if index < recover:
                joins(index)

        def joins(index: int) -> None:
            clock.sleep(clock.dice.uniform(0, 3))
            while True:
                try:
                    retried(lambda: registry_of(zone).join(owner(index), f"198.51.100.{index}"), 60, clock.sleep)
                    return
                except TransientError:
                    continue

        clock.run(
            [lambda i=i: unhealthy(i) for i in range(members)]  # type: ignore[misc]
            + [lambda i=i: joins(100 + i) for i in range(joiners)]  # type: ignore[misc]
        )
        assert getattr(zone, "fewest", 999) >= floor
        values = zone.sets[SET, "SRV"].values
        assert len(set(values)) == len(values) >= floor
        hosts = {name for name, kind in zone.sets if kind == "A"}
        assert {value.split(" ")[3].rstrip(".") for value in values} <= hosts, "a value leads nowhere"
        for index in (*range(min(recover, members)), *range(100, 100 + joiners)):
            assert f"{index:06x}.rc.{DOMAIN}" in hosts

    def test_explicit_leaving_ignores_the_floor(self) -> None:
        zone = hosted(1, 1)
        zone.scheduler.sleep = lambda seconds: None  # type: ignore[method-assign]
        assert "too-few-others" in registry_of(zone).leave_unhealthy(owner(0), 1)
        assert registry_of(zone).leave(owner(0)) is True and zone.sets == {}

    def test_a_machine_of_two_sets_stays_in_one_and_leaves_the_other(self) -> None:
        zone = hosted(1, 2)
        zone.scheduler.sleep = lambda seconds: None  # type: ignore[method-assign]
        other = replace(SERVICE, incarnation="v2", port=4219)
        second = Route53Registry(other, zone, UNKNOWN, zone.scheduler.sleep)
        second.join(owner(0), "198.51.100.0")
        before = zone.sets[f"v2._s._tcp.{DOMAIN}", "SRV"]
        assert registry_of(zone).leave_unhealthy(owner(0), 1) == ""
        assert members_of(zone) == 1 and zone.sets[f"v2._s._tcp.{DOMAIN}", "SRV"] == before
        texts = [each for each in zone.sets[f"000000.rc.{DOMAIN}", "TXT"].values if "._s._tcp" in each]
        assert [each.partition(".")[0] for each in texts] == ['"joins v2', '"leaves v1']
        assert "too-few" in second.leave_unhealthy(owner(0), 1)
        assert registry_of(zone).join(owner(0), "198.51.100.0") and members_of(zone) == 2
        assert any('"kept v2' in each for each in zone.sets[f"000000.rc.{DOMAIN}", "TXT"].values)


class TestAgent:
    @pytest.fixture
    def guest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guest:
        monkeypatch.setattr("rollcall.health._command", runs_well)
        made = Guest(tmp_path)
        made.dns.others, made.dns.size = 0, 1
        made.restarted().pass_time(TICK)
        return made

    def test_a_blip_of_six_seconds_is_nothing(self, guest: Guest) -> None:
        guest.healthy(False)
        guest.pass_time(8)
        assert guest.status()["step"] == "registered" and guest.dns.count("leave") == 0

    def test_it_stays_and_says_so_with_the_reason(self, guest: Guest) -> None:
        guest.healthy(False)
        guest.pass_time(120)
        assert guest.registered == {HOST: ADDRESS} and guest.dns.kept == {f"host={HOST}": True}
        shown = guest.status()
        assert shown["step"] == STAYS == "kept although unhealthy"
        assert "status=1" in shown["error"] and "too-few-others" in shown["error"]
        assert "too-few-others" in shown["memberships"][0]["kept"] and shown["memberships"][0]["joined"]
        assert guest.cloud.statuses[-1].startswith("kept although unhealthy: command:")

    def test_what_vanishes_meanwhile_is_written_again_with_its_mark(self, guest: Guest) -> None:
        guest.healthy(False)
        guest.pass_time(30)
        guest.dns.registered.clear()
        guest.pass_time(12)
        assert guest.registered == {HOST: ADDRESS} and guest.dns.kept == {f"host={HOST}": True}

    def test_when_it_is_healthy_again_it_is_as_before(self, guest: Guest) -> None:
        guest.healthy(False)
        guest.pass_time(30)
        guest.healthy(True)
        guest.pass_time(TICK)
        assert guest.dns.kept == {f"host={HOST}": False} and guest.status()["step"] == "registered"
        assert "kept" not in guest.status()["memberships"][0]

    def test_it_leaves_once_enough_others_are_there(self, guest: Guest) -> None:
        guest.healthy(False)
        guest.pass_time(30)
        guest.dns.others = 1
        guest.pass_time(12)
        assert guest.registered == {} and guest.status()["step"] == "workload unhealthy"

    def test_drain_and_shutdown_ignore_the_floor(self, guest: Guest) -> None:
        guest.healthy(False)
        guest.pass_time(30)
        guest.tell(drain=True)
        guest.pass_time(12)
        assert guest.registered == {} and guest.status()["step"] == "left"

    def test_shutdown_ignores_it_too(self, guest: Guest) -> None:
        guest.healthy(False)
        guest.pass_time(30)
        assert guest.agent.leave() is True and guest.registered == {}

    def test_an_agent_that_starts_with_an_unhealthy_workload_keeps_it_too(self, guest: Guest) -> None:
        guest.healthy(False)
        successor = guest.restarted()
        successor.pass_time(60)
        assert successor.registered == {HOST: ADDRESS} and successor.status()["step"] == STAYS

    def test_one_that_was_never_there_does_not_join(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rollcall.health._command", runs_well)
        (tmp_path / "new").mkdir()
        guest = Guest(tmp_path / "new")
        guest.dns.others = 0
        guest.healthy(False)
        guest.pass_time(120)
        assert guest.registered == {} and guest.dns.count("join") == 0

    def test_another_floor_is_read_in_place_and_changes_nothing_else(self, guest: Guest) -> None:
        guest.dns.size = 1200
        guest.restarted().pass_time(TICK)
        calls = len(guest.dns.calls)
        guest.tell(joins=(replace(guest.join_of(), floor=4, floor6=2),))
        guest.pass_time(30)
        assert len(guest.dns.calls) == calls, "it asked an API"
        assert guest.agent.memberships[0].join.floors == {"A": 4, "AAAA": 2}
        guest.dns.others = 3
        guest.healthy(False)
        guest.pass_time(30)
        assert guest.status()["step"] == "workload unhealthy", "the fake counts the smaller one"


@pytest.mark.parametrize("membership", [replace(SITE, floor=3, floor6=2), replace(SERVICE, floor=7), SITE, SERVICE])
def test_the_floor_travels_in_the_settings(membership: CloudflareJoin | Route53Join) -> None:
    assert parse_join(format_join(membership)) == membership
    assert ("floor" in format_join(membership)) is (max(membership.floors.values()) > 1)


def test_a_mark_says_whether_its_machine_is_kept_and_by_whom_it_is() -> None:
    assert Owner.parse(OWNER.mark(KEPT)) == Owner.parse(OWNER.mark()) == OWNER
    assert OWNER.mark(KEPT) == f"{OWNER} kept"
    long = replace(OWNER, stack="s" * 38, fleet="f" * 18)
    assert 95 < len(str(long)) <= 100 and long.mark(KEPT) == str(long)
