"""Joins and leaves in real time: threads as agents, the local Route53 with faults; and a membership as an agent has it."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from localcloud.aws.route53 import PRESENT, UNLIMITED
from localcloud.aws.route53.pace import Limits, Pace
from rollcall.errors import FatalError
from rollcall.ownership import Owner
from rollcall.registry import RetriedRoute53
from rollcall.retrying import retried
from rollcall.route53 import Route53Registry, Route53Store, set_name
from rollcall.settings import Route53Join
from tests.cloud.aws_cloud import OPERATOR, Cloud, running

pytestmark = pytest.mark.clouds
ZONES = itertools.count()
# So much quicker go the threads' waits and, as much, the account's rate.
QUICKER = 3
FAULTS = ("route53 status=500 p=0.05", "route53:POST lose p=0.05", "route53:POST prior-request p=0.05")


@pytest.fixture(scope="module")
def shared() -> Iterator[Cloud]:
    with running(route53_limits=UNLIMITED) as made:
        yield made


@pytest.fixture
def join(shared: Cloud) -> Iterator[Route53Join]:
    domain = f"z{next(ZONES)}.unilans.net"
    yield Route53Join(zone=shared.aws.add_zone(domain), domain=domain, service="_s._tcp", incarnation="v1", port=4218)
    shared.faults.clear()
    shared.aws.route53.limits = UNLIMITED


def quicker(limits: Limits) -> Limits:
    def of(pace: Pace | None) -> Pace | None:
        return replace(pace, rate=pace.rate * QUICKER) if pace else None

    return replace(limits, account=of(limits.account), action=of(limits.action))


def pause(seconds: float) -> None:
    time.sleep(seconds / QUICKER)


def owner(index: int) -> Owner:
    return Owner("local", "api", str(index), f"{index:06x}", f"i-{index:017x}")


def targets(cloud: Cloud, join: Route53Join) -> list[str]:
    found = cloud.aws.lookup(join.domain, set_name(join)) or ()
    return sorted(value.split(" ")[3].rstrip(".") for each in found for value in each.values)


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.prove)])
def test_threads_that_join_and_leave_at_once_lose_nothing(shared: Cloud, join: Route53Join, count: int) -> None:
    shared.aws.route53.limits = quicker(PRESENT)
    for fault in FAULTS:
        shared.faults.add(fault)
    failed: list[BaseException] = []

    def act(index: int) -> None:
        try:
            store = Route53Store(join.zone, shared.route53())
            look_up = lambda _: frozenset(targets(shared, join))  # noqa: E731
            registry = Route53Registry(join, store, pause=pause, dice=random.Random(index), lookup=look_up)  # noqa: S311
            retried(lambda: registry.join(owner(index), f"198.18.0.{index}"), 300, pause)
            if index % 3 == 0:
                retried(lambda: registry.leave(owner(index)), 300, pause)
        except BaseException as fault:  # noqa: BLE001 - shown below
            failed.append(fault)

    threads = [threading.Thread(target=act, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert targets(shared, join) == sorted(f"{each:06x}.rc.{join.domain}" for each in range(count) if each % 3)


@pytest.fixture
def endpoint(shared: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", shared.url)


@pytest.mark.usefixtures("endpoint")
class TestMembership:
    """As an agent has it."""

    def test_it_joins_is_challenged_and_leaves(self, shared: Cloud, join: Route53Join) -> None:
        membership = RetriedRoute53(join, lambda: " ".join(OPERATOR), lambda _: None)
        host = f"000001.rc.{join.domain}"
        assert membership.join(owner(1), "198.51.100.1") and targets(shared, join) == [host]
        assert not membership.join(owner(1), "198.51.100.1")
        assert membership.owner_at(host) == owner(1) and membership.owner_at(f"000002.rc.{join.domain}") is None
        assert [membership.challenge(owner(1), on) for on in (True, False)] == [False, True]
        assert membership.leave(owner(1)) and targets(shared, join) == []

    def test_a_key_that_is_wrong_is_reported_in_one_line_without_the_key(self, join: Route53Join) -> None:
        key = "AKIAWRONG00000000001 a-secret-that-nobody-may-see"
        with pytest.raises(FatalError, match=r"reason=refused api=route53 code=\w+") as caught:
            RetriedRoute53(join, lambda: key, lambda _: None).join(owner(1), "198.51.100.1")
        assert "a-secret" not in str(caught.value) and "\n" not in str(caught.value)
