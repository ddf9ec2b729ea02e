"""The names of RFC 2782 in the program: which there are, what machines may do there, and what a roll call finds at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from components.config.errors import ConfigurationError
from components.config.models import Settings
from components.config.reader import read
from components.dns.route53 import ServicePlace, ServiceRecords
from components.model import DesiredState, Instance, Member, RecordKey
from components.registration.diff import Kind, find_drift
from components.registration.messages import lines
from components.resources.memberships import sets_of
from localcloud.aws.route53 import UNLIMITED
from rollcall.ownership import Owner
from rollcall.route53 import Route53Registry, Route53Store
from tests.cloud.aws_cloud import Cloud, running
from tests.unit.agent.contention import UNKNOWN

ZONE = "unilans.net"
SET, LONG, SHORT = f"v1._s._tcp.{ZONE}", f"_s._tcp.v1.{ZONE}", f"_s._tcp.{ZONE}"
PLACE = ServicePlace(
    zone="Z", domain=ZONE, service="_s._tcp", incarnation="v1", port=4218, priority=10, weight=20, ttl=30, srv="service"
)
ONE, TWO = (
    Member(fleet="api", machine=str(each), generation=f"00000{each}", instance=f"i-0000000000000000{each}")
    for each in (1, 2)
)


def settings(incarnations: dict[str, Any], **service: Any) -> Settings:
    given = {"port": 4218, "incarnations": incarnations, **service}
    web = {
        "cloud": "aws",
        "count": 1,
        "size": "t3.micro",
        "image": "debian-12",
        "joins": [f"s/{next(iter(incarnations))}"],
    }
    return read("local", {"serviceDiscovery": {"zone": ZONE, "services": {"s": given}}, "fleets": {"web": web}})


def srv(incarnations: dict[str, Any], **service: Any) -> dict[str, str]:
    directory = settings(incarnations, **service).service_discovery
    assert directory is not None
    (found,) = directory.services
    return {each.name: found.srv(each) for each in found.incarnations}


class TestWhichThereAre:
    def test_an_only_incarnation_has_the_services_name_and_several_have_not(self) -> None:
        assert srv({"v1": {}}) == {"v1": "service"}
        assert srv({"v1": {}, "v2": {}}) == {"v1": "incarnation", "v2": "incarnation"}

    def test_a_key_chooses_the_form_of_the_services_name(self) -> None:
        assert srv({"v1": {}, "v2": {}}, shortName="v2") == {"v1": "incarnation", "v2": "service"}

    def test_shards_and_rollcalls_own_label_have_none(self) -> None:
        assert srv({"v1": {"shards": 2}, "rc": {}, "v2": {}}) == {"v1": "", "rc": "", "v2": "incarnation"}
        assert srv({"rc": {}}) == {"rc": ""}

    @pytest.mark.parametrize("name", ["v3", "v2", "rc"])
    def test_a_name_that_leads_nowhere_is_a_fault(self, name: str) -> None:
        with pytest.raises(
            ConfigurationError,
            match=r"serviceDiscovery\.services\.s\.shortName: is .*, which is not an incarnation without shards\. Name one of v1\.",
        ):
            settings({"v1": {}, "v2": {"shards": 2}, "rc": {}}, shortName=name)

    def test_a_fleet_may_change_its_own_names_and_no_others(self) -> None:
        directory = settings({"v1": {}, "v2": {}, "v3": {"shards": 2}}).service_discovery
        assert directory is not None
        assert sets_of(directory, ("s/v1",)) == [SET, LONG, SHORT]
        assert sets_of(directory, ("s/v1", "s/v2")).count(SHORT) == 1
        assert sets_of(directory, ("s/v3",)) == [f"v3-1._s._tcp.{ZONE}", f"v3-2._s._tcp.{ZONE}"]

    def test_the_state_of_a_place_without_them_has_no_word_of_it(self) -> None:
        plain = replace(PLACE, srv="")
        assert "srv" not in plain.as_inputs() and PLACE.as_inputs()["srv"] == "service"
        assert ServicePlace.from_inputs(PLACE.as_inputs()) == PLACE and len(plain.record_sets) == 2


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with running(route53_limits=UNLIMITED) as made:
        yield made


@pytest.mark.clouds
class TestWhatARollCallFinds:
    @pytest.fixture(autouse=True)
    def _zone(self, cloud: Cloud) -> Iterator[None]:
        self.zone = cloud.aws.add_zone(ZONE)
        self.store = Route53Store(self.zone, cloud.route53())
        for member in (ONE, TWO):
            self.registry().join(owner(member), f"198.51.100.{member.machine}")
        yield
        found = [each for page in self.store.under(ZONE) for each in page if each.type not in ("SOA", "NS")]
        self.store.change(found, [])
        cloud.aws.route53.store.remove_zone(self.zone)

    def registry(self, place: ServicePlace = PLACE) -> Route53Registry:
        return Route53Registry(
            replace(place, zone=self.zone).machine_settings, self.store, UNKNOWN, pause=lambda _: None
        )

    def found(self, *members: Member, place: ServicePlace = PLACE, without: str = "") -> Any:
        """What differs where these are the members; name servers answer with what is listed, but for one name."""
        place = replace(place, zone=self.zone)
        listed = ServiceRecords(place, self.store).dns_records()
        answers: dict[RecordKey, frozenset[str] | None] = {}
        for stand in place.record_sets:
            values = frozenset(each.value for each in listed if each.key == stand.key)
            answers[stand.key] = frozenset() if stand.key == RecordKey(without, "SRV") else values
        seen = [
            Instance(
                instance=each.instance,
                fleet="api",
                machine=each.machine,
                generation=each.generation,
                running=True,
                addresses=(f"198.51.100.{each.machine}",),
            )
            for each in members
        ]
        return find_drift(
            DesiredState(stack="local", fleet="api", members=members, record_sets=place.record_sets),
            listed,
            seen,
            answers,
        )

    def test_members_at_all_names_are_not_a_difference(self) -> None:
        assert self.found(ONE, TWO).clean

    @pytest.mark.parametrize("name", [LONG, SHORT])
    def test_a_member_that_is_missing_at_one_name_is_named_there(self, name: str) -> None:
        (old,) = self.store.at(name)
        self.store.change([old], [replace(old, values=old.values[:1])])
        (line,) = lines(self.found(ONE, TWO), Kind.MISSING)
        assert line == f"api-2 (i-00000000000000002) is not at {name} SRV"

    @pytest.mark.parametrize("name", [LONG, SHORT])
    def test_a_name_that_is_not_answered_is_named(self, name: str) -> None:
        found = self.found(ONE, TWO, without=name)
        assert len(found.of(Kind.MISSING)) == 2 and found.unanswered == {RecordKey(name, "SRV")}

    def test_a_member_that_is_nowhere_is_named_once_for_all_names(self) -> None:
        for name in (SET, LONG, SHORT):
            (old,) = self.store.at(name)
            self.store.change([old], [replace(old, values=old.values[:1])])
        assert lines(self.found(ONE, TWO), Kind.MISSING) == [f"api-2 (i-00000000000000002) is not at {SET} SRV"]

    def test_what_a_dead_machine_left_is_found_at_each_and_removed(self) -> None:
        found = self.found(ONE)
        assert {each.key for each in found.leftovers} >= {RecordKey(name, "SRV") for name in (SET, LONG, SHORT)}
        ServiceRecords(replace(PLACE, zone=self.zone), self.store).remove(found.leftovers)
        assert self.found(ONE).clean

    def test_a_value_that_leads_nowhere_is_removed_at_one_name_alone(self) -> None:
        dead = f"10 20 4218 0000ff.rc.{ZONE}."
        (old,) = self.store.at(LONG)
        self.store.change([old], [replace(old, values=tuple(sorted((*old.values, dead))))])
        (leftover,) = self.found(ONE, TWO).leftovers
        assert (leftover.key, leftover.value) == (RecordKey(LONG, "SRV"), dead)
        ServiceRecords(replace(PLACE, zone=self.zone), self.store).remove([leftover])
        assert self.found(ONE, TWO).clean

    def test_a_foreign_value_is_shown_where_it_is(self) -> None:
        (old,) = self.store.at(SHORT)
        self.store.change([old], [replace(old, values=tuple(sorted((*old.values, f"0 0 1 by-hand.{ZONE}."))))])
        found = lines(self.found(ONE, TWO), Kind.FOREIGN)
        assert found == [f"0 0 1 by-hand.{ZONE}. (no owner) at {SHORT} SRV"]

    def test_where_the_services_name_leads_elsewhere_own_machines_are_left_over_and_others_are_not(self) -> None:
        second = replace(PLACE, incarnation="v2", zone=self.zone)
        three = Member(fleet="next", machine="3", generation="000003", instance="i-00000000000000003")
        self.registry(second).join(owner(three), "198.51.100.3")
        elsewhere = replace(PLACE, srv="incarnation")
        roll = self.found(ONE, TWO, place=elsewhere)
        assert {each.owner.machine for each in roll.leftovers if each.key == RecordKey(SHORT, "SRV")} >= {"1", "2"}
        for member in (ONE, TWO):
            self.registry(elsewhere).join(owner(member), f"198.51.100.{member.machine}")
        (left,) = self.store.at(SHORT)
        assert left.values == (f"10 20 4218 000003.rc.{ZONE}.",)
        self.registry(second).leave(owner(three))
        assert self.found(ONE, TWO, place=elsewhere).clean


def owner(member: Member) -> Owner:
    return Owner("local", member.fleet, member.machine, member.generation, member.instance)
