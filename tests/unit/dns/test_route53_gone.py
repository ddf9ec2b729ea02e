"""components.dns.route53 on the local Route53: nothing of a machine that is gone is left, whatever others did to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from components.dns.route53 import ServicePlace, ServiceRecords
from localcloud.aws.route53 import UNLIMITED
from rollcall.ownership import Owner
from rollcall.route53 import RecordSet, Route53Registry, Route53Store, host_name
from tests.cloud.aws_cloud import Cloud, running

pytestmark = pytest.mark.clouds
ZONE = "unilans.net"
OWNER = Owner("local", "api", "0", "ab12cd", "i-0123456789abcdef0")
GONE = Owner("local", "api", "0", "ab12cd", "unknown")
HERE = host_name(OWNER.generation, ZONE)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with running(route53_limits=UNLIMITED) as made:
        yield made


@pytest.fixture
def store(cloud: Cloud) -> Route53Store:
    return Route53Store(cloud.aws.add_zone(ZONE), cloud.route53())


def place() -> ServicePlace:
    return ServicePlace(
        zone="Z", domain=ZONE, service="_s._tcp", incarnation="v1", port=1, priority=10, weight=10, ttl=30
    )


def registered(store: Route53Store) -> Route53Registry:
    registry = Route53Registry(place().machine_settings, store, pause=lambda _: None)
    registry.join(OWNER, "198.51.100.10")
    return registry


def test_a_challenge_goes_with_the_machine_and_a_users_text_beside_it_stays(store: Route53Store) -> None:
    registry, records = registered(store), ServiceRecords(place(), store)
    registry.challenge(OWNER, True, "abcdef")
    records.dns_records()
    assert records.challenged(GONE)
    (challenge,) = store.at(f"{OWNER.generation}.c.rc.{ZONE}")
    beside = RecordSet(challenge.name, "TXT", challenge.ttl, (*challenge.values, '"of a user"'))
    store.change([challenge], [beside])
    records.unchallenge(GONE)
    assert [each.values for each in store.at(challenge.name)] == [('"of a user"',)]


def test_a_machine_that_was_not_challenged_needs_no_further_check(store: Route53Store) -> None:
    registered(store)
    records = ServiceRecords(place(), store)
    records.dns_records()
    assert not records.challenged(GONE)


def test_the_mark_beside_an_address_that_a_user_deleted_is_removed_too(store: Route53Store) -> None:
    registered(store)
    values = store.at(f"v1._s._tcp.{ZONE}")
    store.change([*values, *(each for each in store.at(HERE) if each.type == "A")], [])
    records = ServiceRecords(place(), store)
    records.remove([each for each in records.dns_records() if each.owner == OWNER])
    assert store.at(HERE) == ()


def test_a_cname_where_its_service_was_does_not_keep_a_machine_from_leaving(store: Route53Store) -> None:
    registry = registered(store)
    alias = RecordSet(f"v1._s._tcp.{ZONE}", "CNAME", 60, ("elsewhere.example.net.",))
    store.change(store.at(alias.name), [alias])
    assert registry.leave(OWNER) is True
    assert store.at(HERE) == () and store.at(alias.name) == (alias,)
