"""Where members of a fleet with IPv6 must stand, and of one without: places, what is asked of them, and older states' inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from components.compute.ec2 import ec2_instance
from components.dns.cloudflare import Place, SiteRecords
from components.dns.registry import place_of
from components.dns.route53 import ServicePlace, ServiceRecords
from components.model import RecordKey
from localcloud.aws.route53 import UNLIMITED
from rollcall.cloudflare import Record
from rollcall.ownership import Owner
from rollcall.route53 import Route53Registry, Route53Store
from rollcall.zoneview import ZoneView
from tests.cloud.aws_cloud import Cloud, running

ZONE = "unilans.net"
SITE = Place(zone="z", domain="scalability.expert", host="www.scalability.expert", ttl=60, proxied=False)
SERVICE = ServicePlace(
    zone="Z", domain=ZONE, service="_s._tcp", incarnation="v1", port=1, priority=10, weight=10, ttl=30
)
ONE = Owner("local", "api", "0", "aaaaaa", "i-00000000000000001")
TWO = Owner("local", "old", "0", "bbbbbb", "i-00000000000000002")


@pytest.mark.parametrize("place", [SITE, SERVICE])
def test_off_its_inputs_are_those_of_before_and_on_they_say_so(place: Place | ServicePlace) -> None:
    on = replace(place, ipv6=True)
    assert "ipv6" not in place.as_inputs() and on.as_inputs() == {**place.as_inputs(), "ipv6": True}
    # What an earlier version wrote has no such key.
    assert (place_of(place.as_inputs()), place_of(on.as_inputs())) == (place, on)
    assert (place.machine_settings.ipv6, on.machine_settings.ipv6) == (False, True)


def test_with_ipv6_a_member_must_be_by_both_families_and_its_value_once() -> None:
    assert [str(each.key) for each in SITE.record_sets] == ["www.scalability.expert A"]
    assert [str(each.key) for each in replace(SITE, ipv6=True).record_sets] == [
        "www.scalability.expert A",
        "www.scalability.expert AAAA",
    ]
    assert [str(each.key) for each in SERVICE.record_sets] == ["v1._s._tcp.unilans.net SRV", "rc.unilans.net A"]
    services, *hosts = replace(SERVICE, ipv6=True, shards=2, shard=1).record_sets
    assert services.value and [str(each.key) for each in hosts] == ["rc.unilans.net A", "rc.unilans.net AAAA"]
    assert all(each.shared and not each.value and (each.shard, each.shards) == (1, 2) for each in hosts)


@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize("ipv6", [False, True])
def test_of_a_site_each_family_is_asked_for_by_its_type(
    monkeypatch: pytest.MonkeyPatch, ipv6: bool, proxied: bool
) -> None:
    requested: list[str] = []

    def answered(_view: ZoneView, _name: str, rtype: str) -> frozenset[str]:
        requested.append(rtype)
        return frozenset({rtype.lower()})

    monkeypatch.setattr(ZoneView, "all_of", answered)
    place = replace(SITE, ipv6=ipv6, proxied=proxied)
    found = SiteRecords(place, NoStore()).answers()  # type: ignore[arg-type]
    types = ["A", "AAAA"] if ipv6 else ["A"]
    assert list(map(str, found)) == [str(each.key) for each in place.record_sets] and requested == (
        [] if proxied else types
    )
    assert list(found.values()) == [None if proxied else frozenset({each.lower()}) for each in types]


class NoStore:
    """The store of a zone with the records that a test gives, and that a test may remove."""

    def __init__(self, *records: Record) -> None:
        self.records = list(records)

    def list(self, _zone: str, name: str) -> tuple[Record, ...]:
        return tuple(each for each in self.records if each.name == name)

    def delete(self, _zone: str, record: str) -> None:
        self.records = [each for each in self.records if each.id != record]


@pytest.mark.parametrize("ipv6", [False, True])
def test_whoever_cleans_up_sees_and_removes_both_families_of_a_site(ipv6: bool) -> None:
    record = Record(name=SITE.host, type="A", content="198.51.100.10", comment=str(ONE), zone="z", id="1")
    store = NoStore(record, replace(record, type="AAAA", content="2001:db8::1", id="2"))
    records = SiteRecords(replace(SITE, ipv6=ipv6), store)  # type: ignore[arg-type]
    found = records.dns_records()
    assert {each.key for each in found} == {RecordKey(SITE.host, "A"), RecordKey(SITE.host, "AAAA")}
    records.remove(found)
    assert store.records == []


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with running(route53_limits=UNLIMITED) as made:
        yield made


@pytest.fixture
def store(cloud: Cloud) -> Route53Store:
    made = Route53Store(cloud.aws.add_zone(ZONE), cloud.route53())
    Route53Registry(SERVICE.machine_settings, made, pause=lambda _: None).join(ONE, "198.51.100.10", "2001:db8::1")
    Route53Registry(SERVICE.machine_settings, made, pause=lambda _: None).join(TWO, "203.0.113.10")
    return made


@pytest.mark.clouds
def test_hosts_are_listed_and_answered_by_family_where_both_are_asked_for(
    store: Route53Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = {(each.name, each.type): each.values for page in store.under(f"rc.{ZONE}") for each in page}
    monkeypatch.setattr(ZoneView, "all_of", lambda _view, name, rtype: frozenset(published.get((name, rtype), ())))
    hosts: dict[bool, dict[RecordKey, set[str]]] = {}
    for ipv6 in (False, True):
        records = ServiceRecords(replace(SERVICE, ipv6=ipv6), store)
        hosts[ipv6] = {}
        for each in records.dns_records():
            if each.key.type != "SRV":
                hosts[ipv6].setdefault(each.key, set()).add(each.value)
        answers = {place: set(values or ()) for place, values in records.answers().items() if place.type != "SRV"}
        assert answers == hosts[ipv6]
    addresses = {"198.51.100.10", "203.0.113.10"}
    assert hosts[True] == {RecordKey(f"rc.{ZONE}", "A"): addresses, RecordKey(f"rc.{ZONE}", "AAAA"): {"2001:db8::1"}}
    assert hosts[False] == {RecordKey(f"rc.{ZONE}", "A"): {*addresses, "2001:db8::1"}}, "as it was"


@pytest.mark.clouds
@pytest.mark.parametrize("ipv6", [False, True])
def test_what_is_removed_of_a_dead_machine_is_its_whole_host(store: Route53Store, ipv6: bool) -> None:
    records = ServiceRecords(replace(SERVICE, ipv6=ipv6), store)
    records.remove([each for each in records.dns_records() if each.owner == ONE])
    assert {each.name for page in store.under(f"rc.{ZONE}") for each in page} == {f"bbbbbb.rc.{ZONE}"}


@pytest.mark.clouds
@pytest.mark.parametrize("ipv6", [False, True])
def test_a_machine_that_is_taken_out_and_runs_keeps_its_host_which_says_so(store: Route53Store, ipv6: bool) -> None:
    records = ServiceRecords(replace(SERVICE, ipv6=ipv6), store)
    before = {each for each in records.dns_records() if each.key.type != "SRV"}
    assert not any(each.leaving for each in before)
    records.take_out([each for each in records.dns_records() if each.owner == ONE and each.key.type == "SRV"])
    hosts = {each for each in records.dns_records() if each.key.type != "SRV"}
    assert {replace(each, leaving=False) for each in hosts} == before
    assert {each.owner for each in hosts if each.leaving} == {ONE}
    assert {each.owner for each in records.dns_records() if each.key.type == "SRV"} == {TWO}
    records.remove([each for each in hosts if each.leaving])
    assert {each.name for page in store.under(f"rc.{ZONE}") for each in page} == {f"bbbbbb.rc.{ZONE}"}


# An instance as EC2 shows it, and the addresses that are seen of it.
SHOWN: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"PublicIpAddress": "198.51.100.10"}, ("198.51.100.10",)),
    (
        {
            "PublicIpAddress": "198.51.100.10",
            "NetworkInterfaces": [{"Ipv6Addresses": [{"Ipv6Address": "2001:db8:1::10"}]}],
        },
        ("198.51.100.10", "2001:db8:1::10"),
    ),
    ({"NetworkInterfaces": [{"Ipv6Addresses": [{"Ipv6Address": "2001:db8:1::10"}]}]}, ("2001:db8:1::10",)),
    ({"NetworkInterfaces": [{"Ipv6Addresses": [{"Ipv6Address": "fd00::10"}]}]}, ()),
    ({"NetworkInterfaces": [{}]}, ()),
]


@pytest.mark.parametrize(("shown", "addresses"), SHOWN)
def test_an_instance_is_seen_with_the_addresses_of_both_families(
    shown: dict[str, Any], addresses: tuple[str, ...]
) -> None:
    assert ec2_instance({"InstanceId": "i-1", "State": {"Name": "running"}, **shown}).addresses == addresses
