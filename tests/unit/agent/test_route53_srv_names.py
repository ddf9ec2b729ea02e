"""The names of RFC 2782 beside an incarnation's set: the same members, changed in the same batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from localcloud.aws.route53 import PRESENT, UNLIMITED
from localcloud.aws.route53.pace import Throttle
from rollcall.errors import TransientError
from rollcall.ownership import Owner
from rollcall.route53 import RecordSet, Route53Registry, Route53Store, own_records
from rollcall.settings import Route53Join, format_join, parse_join
from rollcall.srv_transitions import Writer
from tests.cloud.aws_cloud import running
from tests.unit.agent.contention import DOMAIN, UNKNOWN, Contest, Zone
from tests.unit.agent.test_route53 import HOST, ONE, OTHER, OTHER_VALUE, SERVICE_JOIN, SET, TWO, VALUE, Still

BOTH = replace(SERVICE_JOIN, srv="service")
LONG, SHORT = f"_theservice._tcp.v1.{DOMAIN}", f"_theservice._tcp.{DOMAIN}"
NAMES = (SET, LONG, SHORT)
BY_HAND = f"0 0 4218 By-Hand.{DOMAIN}."


@pytest.fixture
def zone() -> Zone:
    scheduler = Still(1)
    return Zone(scheduler, Throttle(UNLIMITED, lambda: scheduler.now))


def registry(zone: Zone, join: Route53Join = BOTH, *, fresh: bool = False) -> Route53Registry:
    return Route53Registry(join, zone, Writer() if fresh else UNKNOWN, zone.scheduler.sleep)


def values(zone: Zone) -> list[tuple[str, ...]]:
    """Of the set, of the incarnation's name and of the service's."""
    return [zone.sets[name, "SRV"].values if (name, "SRV") in zone.sets else () for name in NAMES]


def put(zone: Zone, name: str, *given: str) -> None:
    before = zone.sets.get((name, "SRV"), RecordSet(name, "SRV", 30, ()))
    zone.sets[name, "SRV"] = replace(before, values=tuple(sorted({*before.values, *given})))


def test_the_setting_is_reported_in_a_word() -> None:
    assert parse_join(format_join(BOTH)) == BOTH and "srv=service" in format_join(BOTH)


@pytest.mark.parametrize(("srv", "there"), [("", [1, 0, 0]), ("incarnation", [1, 1, 0]), ("service", [1, 1, 1])])
def test_a_machine_is_at_the_names_of_its_settings(zone: Zone, srv: str, there: list[int]) -> None:
    assert registry(zone, replace(SERVICE_JOIN, srv=srv), fresh=True).join(ONE, "198.51.100.1")
    assert [len(each) for each in values(zone)] == there
    assert zone.calls == 3, "the host, a read, and one batch for all names"


def test_a_second_join_changes_nothing_and_costs_two_lookups(zone: Zone) -> None:
    registry(zone, fresh=True).join(ONE, "198.51.100.1")
    before, zone.calls = dict(zone.sets), 0
    assert not registry(zone).join(ONE, "198.51.100.1")
    assert zone.sets == before and zone.calls == 2


def test_leaving_takes_all_of_them(zone: Zone) -> None:
    registry(zone).join(ONE, "198.51.100.1")
    registry(zone).join(TWO, "198.51.100.2")
    assert registry(zone).leave(ONE) and values(zone) == [(OTHER_VALUE,)] * 3
    assert registry(zone).leave(TWO) and zone.sets == {}


@pytest.mark.parametrize("change", [{"weight": 20}, {"ttl": 5}, {"port": 4219}])
def test_a_new_setting_counts_at_all_names(zone: Zone, change: dict[str, int]) -> None:
    registry(zone).join(ONE, "198.51.100.1")
    assert registry(zone, replace(BOTH, **change)).join(ONE, "198.51.100.1")  # type: ignore[arg-type]
    assert len({*values(zone)}) == 1 and len({zone.sets[name, "SRV"].ttl for name in NAMES}) == 1


def test_what_is_missing_at_one_name_alone_is_put_there(zone: Zone) -> None:
    registry(zone).join(ONE, "198.51.100.1")
    for name in (LONG, SHORT):
        del zone.sets[name, "SRV"]
        assert registry(zone).join(ONE, "198.51.100.1")
        assert values(zone) == [(VALUE,)] * 3


def test_a_value_of_another_owner_stays_where_it_is_and_goes_nowhere_else(zone: Zone) -> None:
    put(zone, SHORT, BY_HAND)
    put(zone, SET, f"1 {BY_HAND}")
    registry(zone).join(ONE, "198.51.100.1")
    assert values(zone) == [tuple(sorted((f"1 {BY_HAND}", VALUE))), (VALUE,), tuple(sorted((BY_HAND, VALUE)))]
    registry(zone).leave(ONE)
    assert values(zone) == [(f"1 {BY_HAND}",), (), (BY_HAND,)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mark", ["", '"rollcall/1 prod web 0 0abcde i-0fffffff"'])
def test_a_value_that_leads_to_a_host_of_another_writer_stays_where_it_is(zone: Zone, name: str, mark: str) -> None:
    """Only Rollcall writes hosts below its label, but this host is not a machine of this stack."""
    host = f"user.rc.{DOMAIN}"
    by_hand = f"10 20 4218 User.rc.{DOMAIN}."
    zone.sets[host, "A"] = RecordSet(host, "A", 60, ("192.0.2.7",))
    if mark:
        zone.sets[host, "TXT"] = RecordSet(host, "TXT", 60, (mark,))
    put(zone, name, by_hand)
    for act in ("join", "join", "leave"):
        owner, address = (TWO, "198.51.100.2") if act == "leave" else (ONE, "198.51.100.1")
        getattr(registry(zone), act)(*((owner,) if act == "leave" else (owner, address)))
        registry(zone).join(TWO, "198.51.100.2")
        assert [by_hand in each for each in values(zone)] == [each == name for each in NAMES], act


@pytest.mark.parametrize("name", [LONG, SHORT])
def test_a_cname_at_one_name_does_not_keep_a_machine_from_the_others(zone: Zone, name: str) -> None:
    alias = zone.sets[name, "CNAME"] = RecordSet(name, "CNAME", 60, ("elsewhere.example.",))
    assert registry(zone).join(ONE, "198.51.100.1")
    assert zone.sets[name, "CNAME"] is alias and sorted(map(len, values(zone))) == [0, 1, 1]
    assert registry(zone).leave(ONE) and [*zone.sets] == [(name, "CNAME")]


def test_a_set_with_a_routing_policy_stays(zone: Zone) -> None:
    routed = zone.sets[SHORT, "SRV"] = RecordSet(SHORT, "SRV", 60, (BY_HAND,), routed=True)
    registry(zone).join(ONE, "198.51.100.1")
    assert zone.sets[SHORT, "SRV"] is routed and values(zone)[:2] == [(VALUE,)] * 2


class TestTheServicesName:
    """`_theService._tcp.unilans.net`: its owner changes with the configuration."""

    def test_a_machine_leaves_it_when_it_is_configured_so(self, zone: Zone) -> None:
        registry(zone).join(ONE, "198.51.100.1")
        registry(zone).join(TWO, "198.51.100.2")
        join = replace(BOTH, srv="incarnation")
        assert registry(zone, join).join(ONE, "198.51.100.1")
        both = tuple(sorted((VALUE, OTHER_VALUE)))
        assert values(zone) == [both, both, ()], (
            "a writer removes the other records too, since they have the same settings"
        )
        assert not registry(zone, join).join(TWO, "198.51.100.2")

    def test_another_incarnation_takes_it_over_and_no_machine_changes_it_there(self, zone: Zone) -> None:
        registry(zone).join(ONE, "198.51.100.1")
        second = replace(BOTH, incarnation="v2")
        registry(zone, second).join(TWO, "198.51.100.2")
        assert values(zone)[2] == tuple(sorted((VALUE, OTHER_VALUE))), "until the first incarnation knows"
        first = replace(BOTH, srv="incarnation")
        registry(zone, first).join(ONE, "198.51.100.1")
        assert values(zone)[2] == (OTHER_VALUE,)
        registry(zone, first).leave(ONE)
        assert values(zone) == [(), (), (OTHER_VALUE,)]
        assert registry(zone, second).leave(TWO) and zone.sets == {}

    def test_a_dead_value_of_another_incarnation_goes_with_the_next_write(self, zone: Zone) -> None:
        put(zone, SHORT, f"10 10 4218 cccccc.rc.{DOMAIN}.")
        registry(zone).join(ONE, "198.51.100.1")
        assert values(zone) == [(VALUE,)] * 3


class TestAMachineThatLeaves:
    """It may have settings from before the last change, because `up` replaces it. So it changes other machines nowhere."""

    @pytest.fixture(params=["leave", "leave_set", "leave_unhealthy"])
    def leaves(self, zone: Zone, request: pytest.FixtureRequest) -> Callable[[Route53Join], None]:
        """ONE leaves as a shutdown, a drain or an unhealthy machine does it, once more than it has to."""

        def act(join: Route53Join) -> None:
            for _ in range(2):
                if request.param == "leave_unhealthy":
                    assert registry(zone, join).leave_unhealthy(ONE, 0) == ""
                else:
                    getattr(registry(zone, join), request.param)(ONE)

        return act

    def test_it_brings_no_machine_to_a_name_of_before(self, zone: Zone, leaves: Callable[[Route53Join], None]) -> None:
        registry(zone, replace(BOTH, srv="incarnation")).join(TWO, "198.51.100.2")
        registry(zone).join(ONE, "198.51.100.1")
        zone.sets[SHORT, "SRV"] = RecordSet(SHORT, "SRV", 30, tuple(sorted((VALUE, BY_HAND))))
        leaves(BOTH)
        assert values(zone) == [(OTHER_VALUE,), (OTHER_VALUE,), (BY_HAND,)]

    def test_it_takes_no_machine_from_a_name_of_today(self, zone: Zone, leaves: Callable[[Route53Join], None]) -> None:
        old = replace(BOTH, srv="incarnation")
        registry(zone, old).join(ONE, "198.51.100.1")
        registry(zone).join(TWO, "198.51.100.2")
        leaves(old)
        assert values(zone) == [(OTHER_VALUE,)] * 3

    def test_it_changes_no_ttl(self, zone: Zone, leaves: Callable[[Route53Join], None]) -> None:
        registry(zone).join(ONE, "198.51.100.1")
        registry(zone, replace(BOTH, ttl=5)).join(TWO, "198.51.100.2")
        leaves(BOTH)
        assert {zone.sets[name, "SRV"].ttl for name in NAMES} == {5} and values(zone) == [(OTHER_VALUE,)] * 3

    def test_a_machine_that_it_adds_is_added_at_all_names(self, zone: Zone) -> None:
        for owner, address in ((ONE, "198.51.100.1"), (TWO, "198.51.100.2")):
            registry(zone).join(owner, address)
        for name in NAMES:
            zone.sets[name, "SRV"] = replace(zone.sets[name, "SRV"], values=(VALUE,))
        registry(zone).leave(ONE)
        assert values(zone) == [(OTHER_VALUE,)] * 3


def test_an_unhealthy_machine_goes_from_all_names_or_from_none(zone: Zone) -> None:
    registry(zone).join(ONE, "198.51.100.1")
    registry(zone).join(TWO, "198.51.100.2")
    both = tuple(sorted((VALUE, OTHER_VALUE)))
    assert "too-few-others" in registry(zone).leave_unhealthy(ONE, 2)
    assert values(zone) == [both] * 3
    assert registry(zone).leave_unhealthy(ONE, 1) == ""
    assert values(zone) == [(OTHER_VALUE,)] * 3


def test_what_a_member_looks_for_in_dns_are_all_its_names() -> None:
    def names(srv: str) -> list[str]:
        found = own_records(replace(SERVICE_JOIN, srv=srv), ONE, ("198.51.100.1",), False)
        return [each.name for each in found if each.type == "SRV" and each.values == (VALUE,)]

    assert names("service") == [*NAMES] and names("incarnation") == [SET, LONG] and names("") == [SET]


def test_what_is_at_the_incarnations_name_and_no_member_goes(zone: Zone) -> None:
    """As after a machine that knows nothing of these names has left."""
    registry(zone).join(TWO, "198.51.100.2")
    registry(zone, SERVICE_JOIN).leave(TWO)
    assert values(zone)[1:] == [(OTHER_VALUE,)] * 2
    registry(zone).join(ONE, "198.51.100.1")
    assert values(zone) == [(VALUE,)] * 3


def test_dead_values_are_dropped_at_all_names(zone: Zone) -> None:
    for name in NAMES:
        put(zone, name, VALUE, OTHER_VALUE, BY_HAND)
    assert registry(zone).drop({HOST, OTHER})
    assert values(zone) == [(BY_HAND,)] * 3
    assert not registry(zone).drop({HOST})


def test_a_machine_that_joins_while_another_fixes_a_name_is_not_lost(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch holds the set as it was seen, though only another name is to change."""
    registry(zone).join(ONE, "198.51.100.1")
    del zone.sets[SHORT, "SRV"]
    change, late = zone.change, [registry(zone)]

    def then(deletes: list[RecordSet], creates: list[RecordSet]) -> None:
        if deletes and late:
            late.pop().join(TWO, "198.51.100.2")
        change(deletes, creates)

    monkeypatch.setattr(zone, "change", then)
    with pytest.raises(TransientError, match="contended"):
        registry(zone).join(ONE, "198.51.100.1")
    monkeypatch.undo()
    registry(zone).join(ONE, "198.51.100.1")
    assert values(zone) == [tuple(sorted((VALUE, OTHER_VALUE)))] * 3


@pytest.mark.parametrize(("count", "batches"), [(100, 1), (300, 3)])
def test_what_route53_does_not_take_at_once_is_written_one_after_the_other(
    zone: Zone, count: int, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [f"10 10 4218 {index:06x}.rc.{DOMAIN}." for index in range(count)]
    for name in NAMES:
        put(zone, name, *others)
    for index in range(count):
        owner = Owner("local", "api", str(index), f"{index:06x}", f"i-{index:017x}")
        host = f"{index:06x}.rc.{DOMAIN}"
        zone.sets[host, "TXT"] = RecordSet(host, "TXT", 60, (f'"{owner}"', f'"joins {SET} {others[index]}"'))
    made: list[int] = []
    change = zone.change

    def counted(deletes: list[RecordSet], creates: list[RecordSet]) -> None:
        lines = [value for each in (*deletes, *creates) for value in each.values]
        assert len(lines) <= 1000 and sum(map(len, lines)) <= 32_000
        made.append(len(lines))
        change(deletes, creates)

    monkeypatch.setattr(zone, "change", counted)
    registry(zone).join(ONE, "198.51.100.1")
    assert values(zone) == [tuple(sorted((*others, VALUE)))] * 3
    assert len([each for each in made if each > 10]) == batches


@pytest.mark.parametrize("seed", range(6))
def test_many_that_join_and_leave_at_once_are_at_all_names_alike(seed: int) -> None:
    contest = Contest(seed=seed, agents=30, leaving=10, limits=PRESENT, faults=0.05, srv="service")
    outcome = contest.run()
    assert not outcome.lost and not outcome.left_over
    sets = [
        contest.zone.sets[name, "SRV"].values
        for name in (f"v1._s._tcp.{DOMAIN}", f"_s._tcp.v1.{DOMAIN}", f"_s._tcp.{DOMAIN}")
    ]
    assert len({*sets}) == 1 and len(sets[0]) == 20


@pytest.mark.clouds
def test_all_names_are_read_and_written_in_a_zone_of_several_pages() -> None:
    """Route53's own order and pages of 300: hosts, sets and other things of a zone, some of them between ours."""
    with running(route53_limits=UNLIMITED) as cloud:
        zone = cloud.aws.add_zone(DOMAIN)
        store = Route53Store(zone, cloud.route53())
        for at, place in enumerate(("", "_tcp.", "_udp.", "aa.", "rc.", "sz.", "v1.", "z.")):
            made = [RecordSet(f"x{each:03}.{place}{DOMAIN}", "A", 60, (f"192.0.2.{at}",)) for each in range(310)]
            store.change([], made[:155])
            store.change([], made[155:])
        machine = Route53Registry(replace(BOTH, zone=zone), store, UNKNOWN, pause=lambda _: None)
        assert machine.join(ONE, "198.51.100.1") and not machine.join(ONE, "198.51.100.1")
        assert [store.at(name)[0].values for name in NAMES] == [(VALUE,)] * 3
        Route53Registry(replace(BOTH, zone=zone), store, UNKNOWN, pause=lambda _: None).join(TWO, "198.51.100.2")
        assert machine.leave(ONE)
        assert [store.at(name)[0].values for name in NAMES] == [(OTHER_VALUE,)] * 3


class TestTwoIncarnationsOfAMachine:
    """It has the same host and the same value in both, and the service's name belongs to one of them."""

    V2 = replace(SERVICE_JOIN, incarnation="v2", srv="incarnation")

    @pytest.fixture(autouse=True)
    def both(self, zone: Zone) -> None:
        for owner, address in ((ONE, "198.51.100.1"), (TWO, "198.51.100.2")):
            for join in (BOTH, self.V2):
                registry(zone, join).join(owner, address)

    def test_joins_of_the_one_leave_the_name_of_the_other_as_it_is(self, zone: Zone) -> None:
        assert values(zone) == [(VALUE, OTHER_VALUE)] * 3
        before = dict(zone.sets)
        for join in (self.V2, BOTH):
            assert not registry(zone, join).join(ONE, "198.51.100.1") and zone.sets == before

    def test_so_do_leaves(self, zone: Zone) -> None:
        registry(zone, self.V2).leave(ONE)
        assert values(zone) == [(VALUE, OTHER_VALUE)] * 3
        assert zone.sets[f"v2._theservice._tcp.{DOMAIN}", "SRV"].values == (OTHER_VALUE,)
        registry(zone, BOTH).leave(TWO)
        assert values(zone) == [(VALUE,)] * 3
        assert zone.sets[f"v2._theservice._tcp.{DOMAIN}", "SRV"].values == (OTHER_VALUE,)

    def test_one_that_is_in_the_other_only_goes_from_the_name(self, zone: Zone) -> None:
        registry(zone, BOTH).leave(ONE)
        put(zone, SHORT, VALUE)
        registry(zone, self.V2).join(TWO, "198.51.100.2")
        registry(zone, self.V2).join(ONE, "198.51.100.1")
        assert values(zone) == [(OTHER_VALUE,)] * 3
