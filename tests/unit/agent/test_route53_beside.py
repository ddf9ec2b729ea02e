"""rollcall.route53 in the local Route53: what others have at and below a machine's names keeps every byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from localcloud.aws.route53 import UNLIMITED
from rollcall.route53 import RecordSet, Route53Registry, Route53Store, host_name
from rollcall.settings import Route53Join, challenge_name
from tests.cloud.aws_cloud import Cloud, running
from tests.unit.agent.contention import UNKNOWN
from tests.unit.agent.fakes import ADDRESS, OTHER_ADDRESS, OWNER

pytestmark = pytest.mark.clouds
ZONE = "unilans.net"
HERE = host_name(OWNER.generation, ZONE)
SUCCESSOR = replace(OWNER, generation="cccccc", instance="i-cccccccc")


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with running(route53_limits=UNLIMITED) as made:
        yield made


@pytest.fixture
def zone(cloud: Cloud) -> str:
    return cloud.aws.add_zone(ZONE)


@pytest.fixture
def store(cloud: Cloud, zone: str) -> Route53Store:
    return Route53Store(zone, cloud.route53())


def membership_of(zone: str) -> Route53Join:
    return Route53Join(zone=zone, domain=ZONE, service="_theService._tcp", incarnation="v1", port=4218)


def registry(zone: str, store: Route53Store) -> Route53Registry:
    return Route53Registry(membership_of(zone), store, UNKNOWN, pause=lambda _: None)


def beside(store: Route53Store, name: str, kind: str, value: str) -> None:
    """A user adds `value` at `name`, beside what is there."""
    old = next((each for each in store.at(name) if each.type == kind), RecordSet(name, kind, 60, ()))
    store.change([old] if old.values else [], [replace(old, values=tuple(sorted((*old.values, value))))])


def foreign(store: Route53Store) -> list[tuple[str, str, Any]]:
    below = [each for page in store.under(f"rc.{ZONE}") for each in page]
    return sorted((each.name, each.type, value) for each in below for value in each.values)


def test_a_challenge_goes_without_what_a_user_has_at_its_name(zone: str, store: Route53Store) -> None:
    mine, name = registry(zone, store), challenge_name(OWNER, membership_of(zone))
    beside(store, name, "A", "192.0.2.7")
    beside(store, name, "TXT", '"of a user"')
    before = foreign(store)
    assert mine.challenge(OWNER, False) is False
    assert [mine.challenge(OWNER, True, "aaaaaa"), mine.challenge(OWNER, True, "bbbbbb")] == [False, False]
    assert mine.challenge(OWNER, True, "aaaaaa") is True
    assert mine.challenge(OWNER, False, "aaaaaa") is True, "a watcher takes away its own"
    assert mine.challenge(OWNER, False, "aaaaaa") is False
    assert mine.challenge(OWNER, False) is True, "the machine takes away everybody's"
    assert foreign(store) == before


def test_what_a_user_has_beside_a_machine_stays_when_it_leaves(zone: str, store: Route53Store) -> None:
    mine = registry(zone, store)
    mine.join(OWNER, ADDRESS)
    users = [("A", "192.0.2.7"), ("AAAA", "2001:db8::7"), ("MX", "10 mail.example.net."), ("TXT", '"of a user"')]
    for kind, value in users:
        beside(store, HERE, kind, value)
    assert mine.leave(OWNER) is True
    assert foreign(store) == [(HERE, *each) for each in users]


def test_what_a_user_has_beside_a_dead_machine_stays_when_its_address_is_taken_over(
    zone: str, store: Route53Store
) -> None:
    registry(zone, store).join(OWNER, ADDRESS)
    users = [("AAAA", "2001:db8::7"), ("MX", "10 mail.example.net."), ("TXT", '"of a user"')]
    for kind, value in (users[1], users[2]):
        beside(store, HERE, kind, value)
    registry(zone, store).join(SUCCESSOR, ADDRESS)
    assert [each for each in foreign(store) if each[0] == HERE] == [(HERE, *each) for each in users[1:]]
    assert registry(zone, store).join(SUCCESSOR, OTHER_ADDRESS) is True
