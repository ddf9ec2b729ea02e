"""rollcall.resolver_view, and the views of a private zone: what machines ask and report, and what the program reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from components.dns.reported_view import ReportedView
from localcloud.dns.data import RecordSet
from localcloud.dns.server import Listener, Resolver, bound_pair
from rollcall.crash_transitions import HIDDEN_LIMIT_S, AskToWait, ChallengesQueried, Sight, step_sight
from rollcall.errors import TransientError
from rollcall.resolver_view import (
    REPEAT_S,
    VALID_S,
    ResolverReport,
    ResolverReporter,
    parse_resolver_report,
)
from rollcall.settings import Route53Join, format_join, parse_join
from rollcall.zoneview import ResolverView, Server
from tests.unit.agent.fakes import Clock

ZONE = "unilans.net"
SET = f"v1._theservice._tcp.{ZONE}"
HOST, OTHER = f"ab12cd.rc.{ZONE}", f"cd34ef.rc.{ZONE}"
JOIN = Route53Join(
    zone="Z1", domain=ZONE, service="_theService._tcp", incarnation="v1", port=4218, view="vpc", address="private"
)
VALUE, OTHER_VALUE = f"10 10 4218 {HOST}.", f"10 10 4218 {OTHER}."
INSTANCE = "i-0123456789abcdef0"


class World:
    """Resolvers that answer from `records`, and a bucket."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.records: dict[tuple[str, str], set[str]] = {
            (SET, "SRV"): {VALUE},
            (HOST, "A"): {"192.0.2.10"},
            (OTHER, "A"): {"192.0.2.11"},
        }
        self.queries: list[str] = []
        self.written: list[ResolverReport] = []
        self.silent: set[str] = set()
        self.refuses = False
        self.reporter = ResolverReporter(self.ask, self.write, self.clock)

    def ask(self, name: str, zone: str, rtype: str) -> frozenset[str] | None:
        assert zone == ZONE
        self.queries.append(f"{name} {rtype}")
        return None if name in self.silent else frozenset(self.records.get((name, rtype), ()))

    def write(self, text: str) -> None:
        if self.refuses:
            raise TransientError("reason=report-refused")
        found = parse_resolver_report(text)
        assert found is not None
        self.written.append(found)

    def step(self, seconds: float = 5.0) -> None:
        self.reporter.step(INSTANCE, [JOIN])
        self.clock.now += seconds


@pytest.fixture
def world() -> World:
    return World()


class TestReporter:
    def test_it_reports_the_record_set_and_the_addresses_behind_it(self, world: World) -> None:
        world.step()
        (report,) = world.written
        assert report.instance == INSTANCE
        assert report.values(SET, "SRV") == {VALUE} and report.values(HOST, "A") == {"192.0.2.10"}
        assert report.values(OTHER, "A") == frozenset()

    def test_it_writes_when_an_answer_changes_and_otherwise_only_to_show_that_it_is_alive(self, world: World) -> None:
        for _ in range(10):
            world.step()
        assert len(world.written) == 1
        world.records[SET, "SRV"].add(OTHER_VALUE)
        world.step()
        assert len(world.written) == 2 and world.written[-1].values(OTHER, "A") == {"192.0.2.11"}
        world.step(REPEAT_S)
        world.step()
        assert len(world.written) == 3 and world.written[1] == world.written[2]
        assert REPEAT_S * 2 < VALID_S, "one lost report must not make a machine silent"

    def test_it_asks_for_an_address_once(self, world: World) -> None:
        world.records[SET, "SRV"].add(OTHER_VALUE)
        del world.records[OTHER, "A"]
        for _ in range(3):
            world.step()
        assert world.queries.count(f"{HOST} A") == 1 and world.queries.count(f"{OTHER} A") == 3
        world.step(REPEAT_S)
        world.step()
        assert world.queries.count(f"{HOST} A") == 2

    def test_a_name_that_is_not_answered_is_missing_and_a_foreign_target_is_not_asked_for(self, world: World) -> None:
        world.records[SET, "SRV"].add("10 10 80 www.elsewhere.example.")
        world.step()
        assert not any("elsewhere" in each for each in world.queries)
        world.silent.add(SET)
        world.step()
        assert world.written[-1].answers == {}

    def test_a_refused_report_is_written_again_and_logged_once(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.refuses = True
        for _ in range(3):
            world.step()
        assert caplog.text.count("report-refused") == 1
        world.refuses = False
        world.step()
        assert len(world.written) == 1

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"format":2,"instance":"i","answers":{}}', '{"format":1}'])
    def test_a_text_that_is_not_a_report_is_ignored(self, text: str) -> None:
        assert parse_resolver_report(text) is None


def test_the_settings_of_a_private_zone_are_words_of_the_join() -> None:
    words = format_join(JOIN)
    assert words.endswith(" address=private view=vpc") and parse_join(words) == JOIN
    assert JOIN.own_resolvers and JOIN.is_private


class TestReportedView:
    """What the roll call reads."""

    def view(self, reports: dict[str, ResolverReport], clock: Clock | None = None) -> ReportedView:
        return ReportedView(ZONE, lambda: reports, 30.0, clock or Clock())

    def report(self, *values: str) -> ResolverReport:
        return ResolverReport(instance=INSTANCE, answers={SET: {"SRV": values}})

    def test_every_machine_has_a_vote(self) -> None:
        view = self.view({"api-0": self.report(VALUE, OTHER_VALUE), "api-1": self.report(VALUE)})
        assert view.all_of(SET, "SRV") == {VALUE} and view.any_of(SET, "SRV") == {VALUE, OTHER_VALUE}
        line = view.compare(SET, "SRV")
        assert line.startswith(f"{SET} SRV: the resolver of api-1 answers {VALUE}; the resolver of api-0 answers ")
        assert view.source == (
            f"{ZONE}: private zone, seen by the resolvers of api-0, api-1; an answer may be 40 s old"
        )

    def test_without_a_report_nothing_is_answered(self) -> None:
        view = self.view({})
        assert view.all_of(SET, "SRV") == frozenset()
        assert view.compare(SET, "SRV").endswith("no machine has reported for 300 s what its resolver answers")

    def test_one_round_reads_the_reports_once(self) -> None:
        clock, reports = Clock(), {"api-0": self.report(VALUE)}
        view = self.view(reports, clock)
        assert view.all_of(SET, "SRV") == {VALUE}
        reports["api-0"] = self.report()
        view = self.view(reports, clock)
        assert view.all_of(SET, "SRV") == frozenset()

    def test_text_of_a_machine_is_safe_for_a_terminal(self) -> None:
        view = self.view({"api-0": self.report("\x1b[31mred")})
        assert "\x1b" not in view.compare(SET, "SRV")


class Zone:
    """A zone of the resolver."""

    def __init__(self) -> None:
        self.soa_ttl = 900
        self.sets: dict[str, tuple[RecordSet, ...]] = {}

    def zones(self) -> tuple[str, ...]:
        return (ZONE,)

    def lookup(self, zone: str, name: str) -> tuple[RecordSet, ...] | None:
        soa = "ns-1536.awsdns-00.co.uk. awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400"
        return (RecordSet(ZONE, "SOA", self.soa_ttl, (soa,)),) if name == ZONE else self.sets.get(name)


@pytest.fixture
def resolver() -> Iterator[tuple[Zone, Server]]:
    zone = Zone()
    udp, tcp = bound_pair("127.0.0.1")
    listener = Listener(Resolver([zone], {"ns.example": "127.0.0.1"}, {}), [udp], [tcp])
    listener.start()
    yield zone, Server(address="127.0.0.1", port=udp.getsockname()[1])
    listener.stop()


class TestResolverView:
    """What an agent in a VPC asks."""

    def test_it_asks_its_resolver_also_for_challenges(self, resolver: tuple[Zone, Server]) -> None:
        zone, server = resolver
        name = f"ab12cd.c.rc.{ZONE}"
        zone.sets[name] = (RecordSet(name, "TXT", 5, ('"who is there"',)),)
        view = ResolverView(ZONE, [server])
        assert view.votes(name, "TXT", cached=False) == [frozenset({'"who is there"'})]
        assert view.ttls(name, "TXT", ['"who is there"']) is None, "a cache counts TTLs down"
        assert view.ttls(name, "TXT", ['"another"']) == set()
        assert view.notes == ()

    def test_a_resolver_that_is_silent_has_no_vote_and_is_named(self) -> None:
        udp, tcp = bound_pair("127.0.0.1")
        port = udp.getsockname()[1]
        udp.close()
        tcp.close()
        view = ResolverView(ZONE, [Server(address="127.0.0.1", port=port)])
        assert view.votes(SET, "SRV") == []
        assert view.notes[0].startswith(f"{ZONE}: the resolver 127.0.0.1:{port} ")

    def test_it_knows_for_how_long_a_name_stays_hidden(self, resolver: tuple[Zone, Server]) -> None:
        zone, server = resolver
        clock = Clock()
        view = ResolverView(ZONE, [server], clock)
        assert view.negative_s == 900.0
        zone.soa_ttl = 5
        clock.now += 100
        assert view.negative_s == 900.0, "a cache counts the TTL down"
        clock.now += 800
        assert view.negative_s == 5.0


@pytest.mark.parametrize(("hidden", "waits"), [(5.0, False), (HIDDEN_LIMIT_S, False), (900.0, True)])
def test_a_machine_that_may_see_a_challenge_too_late_asks_the_others_to_wait(hidden: float, waits: bool) -> None:
    sight = Sight(domain=ZONE, answered=0.0)
    event: dict[str, Any] = {"texts": frozenset[str](), "now": 1.0, "hidden": hidden}
    after, action = step_sight(sight, ChallengesQueried(**event))
    assert isinstance(action, AskToWait) is waits and bool(after.reason) is waits
    if waits:
        assert "remember for 900 s" in after.reason
