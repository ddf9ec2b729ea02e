"""rollcall.route53 over a strict zone in memory: what a join, a second join and a leave change, and what they leave alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from localcloud.aws.route53 import UNLIMITED
from localcloud.aws.route53.pace import Throttle
from rollcall.errors import RefusedError, TransientError
from rollcall.ownership import Owner
from rollcall.route53 import RecordSet, Route53Registry, hosts_of, is_dead, joined
from rollcall.route53api import ConflictError
from rollcall.settings import Route53Join
from rollcall.srv_transitions import Writer
from tests.unit.agent.contention import DOMAIN, UNKNOWN, Scheduler, Zone

SERVICE_JOIN = Route53Join(zone="Z", domain=DOMAIN, service="_theService._tcp", incarnation="v1", port=4218)
SET = f"v1._theservice._tcp.{DOMAIN}"
ONE = Owner("local", "api", "0", "aaaaaa", "i-00000000000000001")
TWO = Owner("local", "api", "1", "bbbbbb", "i-00000000000000002")
HOST, OTHER = f"aaaaaa.rc.{DOMAIN}", f"bbbbbb.rc.{DOMAIN}"
VALUE, OTHER_VALUE = f"10 10 4218 {HOST}.", f"10 10 4218 {OTHER}."


class Still(Scheduler):
    """A clock that does not move: one caller, and no other meanwhile."""

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def zone() -> Zone:
    scheduler = Still(1)
    return Zone(scheduler, Throttle(UNLIMITED, lambda: scheduler.now))


def registry(zone: Zone, join: Route53Join = SERVICE_JOIN, *, fresh: bool = True) -> Route53Registry:
    return Route53Registry(join, zone, Writer() if fresh else UNKNOWN, zone.scheduler.sleep)


def leave_wholly(registry: Route53Registry, owner: Owner, *addresses: str) -> bool:
    """Leave as an agent does when its caches have expired. Return whether there was a record."""
    changed = registry.leave_set(owner)
    return registry.remove_hosts(owner, registry.left_hosts, *addresses) or changed


def put(zone: Zone, name: str, kind: str, *values: str, routed: bool = False) -> RecordSet:
    made = RecordSet(name, kind, 30, tuple(sorted(values)), routed)
    zone.sets[name, kind] = made
    return made


def values(zone: Zone, name: str = SET, kind: str = "SRV") -> tuple[str, ...]:
    found = zone.sets.get((name, kind))
    return found.values if found else ()


class TestBothFamilies:
    A, AAAA = "198.51.100.1", "2001:db8::1"

    def test_a_and_aaaa_and_txt_are_one_change_and_the_value_is_as_before(self, zone: Zone) -> None:
        assert registry(zone).join(ONE, self.A, self.AAAA)
        assert values(zone, HOST, "A") == (self.A,) and values(zone, HOST, "AAAA") == (self.AAAA,)
        assert values(zone) == (VALUE,) and f'"at {self.A} {self.AAAA}"' in values(zone, HOST, "TXT")
        assert zone.calls == 3, "as many as with one address"
        before = dict(zone.sets)
        assert not registry(zone, fresh=False).join(ONE, self.A, self.AAAA) and zone.sets == before

    def test_one_that_changes_is_changed_alone(self, zone: Zone) -> None:
        registry(zone).join(ONE, self.A, self.AAAA)
        before = zone.sets[HOST, "A"]
        assert registry(zone, fresh=False).join(ONE, self.A, "2001:db8::2")
        assert values(zone, HOST, "AAAA") == ("2001:db8::2",) and zone.sets[HOST, "A"] is before

    def test_one_that_is_had_no_more_goes_and_comes_again(self, zone: Zone) -> None:
        registry(zone).join(ONE, self.A, self.AAAA)
        assert registry(zone, fresh=False).join(ONE, self.A) and (HOST, "AAAA") not in zone.sets
        assert values(zone, HOST, "A") == (self.A,)
        assert registry(zone, fresh=False).join(ONE, self.A, self.AAAA) and values(zone, HOST, "AAAA") == (self.AAAA,)

    def test_what_others_have_beside_both_stays_through_all_of_it(self, zone: Zone) -> None:
        put(zone, HOST, "A", "192.0.2.9")
        put(zone, HOST, "AAAA", "2001:db8::9")
        for addresses in ((self.A, self.AAAA), (self.A,), (self.AAAA,)):
            registry(zone, fresh=False).join(ONE, *addresses)
            found = {*values(zone, HOST, "A"), *values(zone, HOST, "AAAA")}
            assert found == {"192.0.2.9", "2001:db8::9", *addresses}
        registry(zone, fresh=False).leave(ONE)
        assert values(zone, HOST, "A") == ("192.0.2.9",) and values(zone, HOST, "AAAA") == ("2001:db8::9",)

    def test_leaving_takes_both_with_the_host(self, zone: Zone) -> None:
        registry(zone).join(ONE, self.A, self.AAAA)
        assert registry(zone, fresh=False).leave(ONE) and zone.sets == {}

    @pytest.mark.parametrize("addresses", [(A, AAAA), (A,)])
    def test_a_routed_set_blocks_only_machines_that_want_that_family(
        self, zone: Zone, addresses: tuple[str, ...]
    ) -> None:
        before = put(zone, HOST, "AAAA", self.AAAA, routed=True)
        if len(addresses) == 2:
            with pytest.raises(RefusedError, match=r"routed-set .* type=AAAA"):
                registry(zone, fresh=False).join(ONE, *addresses)
            assert (HOST, "A") not in zone.sets
        else:
            assert registry(zone, fresh=False).join(ONE, *addresses)
        assert zone.sets[HOST, "AAAA"] is before


class TestHostTtl:
    """An address is kept no longer than the value that leads to it."""

    def ttls(self, zone: Zone) -> set[int]:
        return {each.ttl for (name, _), each in zone.sets.items() if name == HOST}

    @pytest.mark.parametrize("fresh", [True, False])
    def test_it_is_that_of_the_service(self, zone: Zone, fresh: bool) -> None:
        registry(zone, replace(SERVICE_JOIN, ttl=5), fresh=fresh).join(ONE, "198.51.100.1", "2001:db8::1")
        assert self.ttls(zone) == {5}

    def test_it_changes_with_the_setting(self, zone: Zone) -> None:
        registry(zone).join(ONE, "198.51.100.1")
        for ttl in (5, 300):
            assert registry(zone, replace(SERVICE_JOIN, ttl=ttl), fresh=False).join(ONE, "198.51.100.1")
            assert self.ttls(zone) == {ttl}

    def test_of_several_services_the_shortest_counts_whoever_looks_last(self, zone: Zone) -> None:
        short, long = replace(SERVICE_JOIN, ttl=5), replace(SERVICE_JOIN, incarnation="v2", ttl=300)
        for join in (short, long, short, long):
            registry(zone, join, fresh=False).join(ONE, "198.51.100.1")
            assert self.ttls(zone) == {5}
        before = dict(zone.sets)
        registry(zone, long, fresh=False).join(ONE, "198.51.100.1")
        assert zone.sets == before

    def test_a_set_of_another_owner_keeps_its_own(self, zone: Zone) -> None:
        theirs = put(zone, HOST, "AAAA", "2001:db8::9")
        registry(zone, replace(SERVICE_JOIN, ttl=5), fresh=False).join(ONE, "198.51.100.1")
        assert zone.sets[HOST, "AAAA"] is theirs


class TestJoin:
    def test_the_first_join_needs_no_check_at_its_host(self, zone: Zone) -> None:
        assert registry(zone).join(ONE, "198.51.100.1")
        assert values(zone) == (VALUE,) and values(zone, HOST, "A") == ("198.51.100.1",)
        assert zone.calls == 3, "the host, the set with the hosts, the set"

    def test_a_second_join_changes_nothing_and_costs_two_lookups(self, zone: Zone) -> None:
        registry(zone).join(ONE, "198.51.100.1")
        before, zone.calls = dict(zone.sets), 0
        assert not registry(zone, fresh=False).join(ONE, "198.51.100.1")
        assert zone.sets == before and zone.calls == 2

    def test_a_new_address_takes_the_place_of_the_old_one(self, zone: Zone) -> None:
        registry(zone).join(ONE, "198.51.100.1")
        assert registry(zone, fresh=False).join(ONE, "198.51.100.2")
        assert values(zone, HOST, "A") == ("198.51.100.2",) and values(zone) == (VALUE,)

    @pytest.mark.parametrize("change", [{"weight": 20}, {"priority": 1}, {"port": 4219}])
    def test_a_new_setting_replaces_our_value_and_no_other(self, zone: Zone, change: dict[str, int]) -> None:
        registry(zone).join(ONE, "198.51.100.1")
        registry(zone).join(TWO, "198.51.100.2")
        join = replace(SERVICE_JOIN, **change)  # type: ignore[arg-type]
        assert registry(zone, join, fresh=False).join(ONE, "198.51.100.1")
        assert OTHER_VALUE in values(zone) and VALUE not in values(zone) and len(values(zone)) == 2

    def test_a_new_ttl_counts(self, zone: Zone) -> None:
        registry(zone).join(ONE, "198.51.100.1")
        assert registry(zone, replace(SERVICE_JOIN, ttl=5), fresh=False).join(ONE, "198.51.100.1")
        assert zone.sets[SET, "SRV"].ttl == 5

    def test_a_writer_adds_every_registered_host_that_the_set_lacks(self, zone: Zone) -> None:
        registry(zone).join(TWO, "198.51.100.2")
        del zone.sets[SET, "SRV"]
        registry(zone).join(ONE, "198.51.100.1")
        assert set(values(zone)) == {VALUE, OTHER_VALUE}

    def test_a_value_that_leads_to_no_host_of_ours_goes(self, zone: Zone) -> None:
        put(zone, SET, "SRV", f"10 10 4218 cccccc.rc.{DOMAIN}.")
        registry(zone).join(ONE, "198.51.100.1")
        assert values(zone) == (VALUE,)

    def test_values_of_others_stay_to_the_byte(self, zone: Zone) -> None:
        foreign = (f"0 5 4218 By-Hand.{DOMAIN}", "0 0 1 elsewhere.example.")
        put(zone, SET, "SRV", *foreign)
        registry(zone).join(ONE, "198.51.100.1")
        assert set(values(zone)) == {VALUE, *foreign}

    def test_an_address_of_others_beside_ours_stays(self, zone: Zone) -> None:
        put(zone, HOST, "A", "192.0.2.9")
        registry(zone).join(ONE, "198.51.100.1")
        assert values(zone, HOST, "A") == ("192.0.2.9", "198.51.100.1")

    def test_a_dead_machine_with_our_address_is_taken_over(self, zone: Zone) -> None:
        registry(zone).join(TWO, "198.51.100.1")
        registry(zone).join(ONE, "198.51.100.1")
        assert values(zone) == (VALUE,) and (OTHER, "A") not in zone.sets and (OTHER, "TXT") not in zone.sets

    @pytest.mark.parametrize("shared", ["198.51.100.1", "2001:db8::1"])
    def test_a_dead_machine_with_one_of_our_addresses_is_removed_with_both_its_addresses(
        self, zone: Zone, shared: str
    ) -> None:
        theirs = [shared, "198.51.100.9" if ":" in shared else "2001:db8::9"]
        registry(zone).join(TWO, *theirs)
        registry(zone).join(ONE, "198.51.100.1", "2001:db8::1")
        assert values(zone) == (VALUE,) and [name for name, _ in zone.sets if name == OTHER] == []

    def test_a_machine_with_another_address_of_each_family_lives(self, zone: Zone) -> None:
        registry(zone).join(TWO, "198.51.100.9", "2001:db8::9")
        registry(zone).join(ONE, "198.51.100.1", "2001:db8::1")
        assert set(values(zone)) == {VALUE, OTHER_VALUE} and values(zone, OTHER, "AAAA") == ("2001:db8::9",)

    def test_an_empty_txt_of_others_beside_a_host_is_not_an_address(self, zone: Zone) -> None:
        registry(zone).join(TWO, "198.51.100.1")
        text = zone.sets[OTHER, "TXT"]
        zone.sets[OTHER, "TXT"] = replace(text, values=tuple(sorted((*text.values, '""'))))
        registry(zone).join(ONE, "198.51.100.1")
        assert values(zone, OTHER, "TXT") == ('""',) and (OTHER, "A") not in zone.sets

    def test_another_stacks_machine_with_our_address_is_not(self, zone: Zone) -> None:
        registry(zone).join(replace(TWO, stack="staging"), "198.51.100.1")
        registry(zone).join(ONE, "198.51.100.1")
        assert set(values(zone)) == {VALUE, OTHER_VALUE} and (OTHER, "A") in zone.sets

    def test_a_machine_in_two_sets_has_one_host(self, zone: Zone) -> None:
        second = replace(SERVICE_JOIN, incarnation="v2")
        registry(zone).join(ONE, "198.51.100.1")
        registry(zone, second).join(ONE, "198.51.100.1")
        assert values(zone, f"v2._theservice._tcp.{DOMAIN}") == (VALUE,) == values(zone)
        registry(zone).leave(ONE)
        assert (HOST, "A") in zone.sets and values(zone) == ()
        registry(zone, second).leave(ONE)
        assert zone.sets == {}


class TestRefusals:
    """Each says what was found; nothing of the set is written."""

    @pytest.mark.parametrize(
        ("name", "kind", "given", "routed", "message"),
        [
            (SET, "CNAME", ("other.example.",), False, "reason=cname-in-the-way .*target=other.example."),
            (HOST, "CNAME", ("other.example.",), False, "reason=cname-in-the-way"),
            (SET, "SRV", ("1 1 1 a.b.",), True, "reason=routed-set"),
            (HOST, "A", ("192.0.2.1",), True, "reason=routed-set"),
            (SET, "SRV", tuple(f"1 1 1 h{number}.example." for number in range(400)), False, "reason=set-full .*401"),
        ],
    )
    def test_what_is_in_the_way(
        self, zone: Zone, name: str, kind: str, given: tuple[str, ...], routed: bool, message: str
    ) -> None:
        before = put(zone, name, kind, *given, routed=routed)
        with pytest.raises(RefusedError, match=message):
            registry(zone, fresh=False).join(ONE, "198.51.100.1")
        assert zone.sets[name, kind] == before and VALUE not in values(zone)


class TestLeave:
    def test_the_last_value_takes_the_set_along_and_another_one_stays(self, zone: Zone) -> None:
        registry(zone).join(ONE, "198.51.100.1")
        registry(zone).join(TWO, "198.51.100.2")
        assert registry(zone).leave(ONE)
        assert values(zone) == (OTHER_VALUE,) and (HOST, "A") not in zone.sets
        assert registry(zone).leave(TWO)
        assert zone.sets == {}

    def test_a_second_leave_changes_nothing(self, zone: Zone) -> None:
        registry(zone).join(TWO, "198.51.100.2")
        before = dict(zone.sets)
        assert not registry(zone).leave(ONE)
        assert zone.sets == before

    def test_a_predecessors_late_leave_changes_nothing_of_its_successors(self, zone: Zone) -> None:
        successor = replace(ONE, generation="dddddd", instance="i-00000000000000009")
        registry(zone).join(ONE, "198.51.100.1")
        registry(zone).join(successor, "198.51.100.9")
        registry(zone).leave(ONE)
        after = dict(zone.sets)
        registry(zone).leave(ONE)
        assert zone.sets == after and values(zone) == (f"10 10 4218 dddddd.rc.{DOMAIN}.",)

    def test_an_address_of_others_stays_when_we_leave(self, zone: Zone) -> None:
        put(zone, HOST, "A", "192.0.2.9")
        registry(zone).join(ONE, "198.51.100.1")
        registry(zone).leave(ONE)
        assert values(zone, HOST, "A") == ("192.0.2.9",)

    def test_a_machine_with_the_left_mark_is_not_added_again(self, zone: Zone) -> None:
        registry(zone).join(ONE, "198.51.100.1")
        text = zone.sets[HOST, "TXT"]
        zone.sets[HOST, "TXT"] = replace(text, values=tuple(each for each in text.values if "joins" not in each))
        del zone.sets[SET, "SRV"]
        registry(zone).join(TWO, "198.51.100.2")
        assert values(zone) == (OTHER_VALUE,)

    @pytest.mark.parametrize("writer", ["leaves", "joins"])
    def test_the_next_writer_removes_machines_with_the_left_mark(self, zone: Zone, writer: str) -> None:
        foreign = "10 10 4218 elsewhere.example."
        put(zone, SET, "SRV", foreign)
        for owner, address in ((ONE, "198.51.100.1"), (TWO, "198.51.100.2")):
            registry(zone).join(owner, address)
        third = replace(TWO, machine="2", generation="cccccc")
        first = registry(zone)
        zone.deaf_to = SET
        with pytest.raises(TransientError):
            first.leave(ONE)
        zone.deaf_to = ""
        assert f'"leaves {SET} {VALUE}"' in values(zone, HOST, "TXT") and VALUE in values(zone)
        if writer == "leaves":
            registry(zone, fresh=False).leave(TWO)
            assert values(zone) == (foreign,)
        else:
            registry(zone).join(third, "198.51.100.3")
            assert values(zone) == tuple(sorted((foreign, OTHER_VALUE, f"10 10 4218 cccccc.rc.{DOMAIN}.")))
        zone.calls, before = 0, values(zone)
        assert first.leave(ONE) and values(zone) == before
        assert (HOST, "TXT") not in zone.sets and zone.calls == 2, (
            "it reads the set and its host; its earlier record stays"
        )

    def test_a_conflict_at_the_mark_of_one_host_leaves_no_value_of_another(
        self, zone: Zone, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The machine has two hosts, because an earlier process lost the name of the first one. Each has a value in the record set."""
        registry(zone).join(ONE, "198.51.100.1")
        second = f"aaaaaa-x.rc.{DOMAIN}"
        text = zone.sets[HOST, "TXT"]
        put(zone, second, "A", "198.51.100.1")
        put(zone, second, "TXT", *(each.replace(HOST, second) for each in text.values))
        put(zone, SET, "SRV", VALUE, f"10 10 4218 {second}.")
        change, leaving, done = zone.change, registry(zone, fresh=False), 0

        def conflicts_once(deletes: Iterable[RecordSet], creates: Iterable[RecordSet]) -> None:
            nonlocal done
            done += 1
            if done == 2:
                raise ConflictError("reason=contended")
            change(deletes, creates)

        monkeypatch.setattr(zone, "change", conflicts_once)
        with pytest.raises(ConflictError):
            leaving.leave_set(ONE)
        assert leaving.leave_set(ONE)
        assert values(zone) == () and leaving.left_hosts == {HOST, second}

    def test_a_machine_that_left_and_joins_again_is_removed_by_no_machine(self, zone: Zone) -> None:
        registry(zone).join(ONE, "198.51.100.1")
        zone.deaf_to = SET
        with pytest.raises(TransientError):
            registry(zone).leave(ONE)
        zone.deaf_to = ""
        registry(zone, fresh=False).join(ONE, "198.51.100.1")
        registry(zone).join(TWO, "198.51.100.2")
        assert values(zone) == tuple(sorted((VALUE, OTHER_VALUE))) and "leaves" not in str(values(zone, HOST, "TXT"))

    def test_what_others_wrote_keeps_every_byte_though_it_holds_our_words(self, zone: Zone) -> None:
        registry(zone).join(ONE, "198.51.100.1")
        text, foreign = zone.sets[HOST, "TXT"], f'"a note:" "joins {SET} {VALUE}"'
        zone.sets[HOST, "TXT"] = replace(text, values=tuple(sorted((*text.values, foreign))))
        assert registry(zone, fresh=False).leave(ONE) and values(zone, HOST, "TXT") == (foreign,)

    def test_a_host_that_is_in_another_set_stays(self, zone: Zone) -> None:
        second = replace(SERVICE_JOIN, incarnation="v2")
        for join in (SERVICE_JOIN, second):
            registry(zone, join, fresh=False).join(ONE, "198.51.100.1")
        assert registry(zone, fresh=False).leave(ONE) and values(zone) == ()
        assert values(zone, HOST, "A") == ("198.51.100.1",) and values(zone, SET.replace("v1", "v2")) == (VALUE,)
        assert registry(zone, second, fresh=False).leave(ONE) and zone.sets == {}

    def test_a_join_after_a_leave_registers_again(self, zone: Zone) -> None:
        same = registry(zone)
        same.join(ONE, "198.51.100.1")
        same.leave(ONE)
        assert same.join(ONE, "198.51.100.1") and values(zone) == (VALUE,)


class TestChallenge:
    def test_it_is_put_up_once_and_taken_away_once(self, zone: Zone) -> None:
        mine = registry(zone)
        assert [mine.challenge(ONE, on) for on in (True, True, False, False)] == [False, True, True, False]
        assert zone.sets == {}

    def test_the_owner_of_a_target_is_reported_by_its_text(self, zone: Zone) -> None:
        registry(zone).join(ONE, "198.51.100.1")
        assert registry(zone).owner_at(HOST) == ONE and registry(zone).owner_at(OTHER) is None


@pytest.mark.parametrize(
    ("value", "dead"),
    [
        (f"10 10 4218 cccccc.rc.{DOMAIN}.", True),
        (VALUE, False),
        (f"10 10 4218 cccccc.{DOMAIN}.", False),
        ("10 10 4218 cccccc.rc.example.", False),
    ],
)
def test_a_dead_value_leads_below_our_label_to_nothing(value: str, dead: bool) -> None:
    assert is_dead(value, DOMAIN, {HOST: {}}) is dead


def test_a_full_set_helps_no_others_and_still_takes_us() -> None:
    others = {f"{number:06x}.rc.{DOMAIN}": f"1 1 1 {number:06x}.rc.{DOMAIN}." for number in range(500)}
    found = joined((), DOMAIN, others, others, HOST, [VALUE])
    assert len(found) == 400 and VALUE in found


def test_a_text_that_names_another_host_joins_nothing() -> None:
    text = RecordSet(HOST, "TXT", 60, (f'"{ONE}"', f'"joins {SET} {OTHER_VALUE}"'))
    assert hosts_of([text]) == {HOST: {}}
