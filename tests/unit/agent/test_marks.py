"""A mark that was copied is not a machine: leaving and cleaning go by mark and value, and each record comes back as it was.

octoDNS keeps one comment for a record set, so it writes one machine's mark on all records of `www`
(https://github.com/octodns/octodns-cloudflare: `octodns.cloudflare.comment` of a record set).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from localcloud.aws.route53 import UNLIMITED
from localcloud.aws.route53.pace import Throttle
from rollcall.errors import RefusedError
from rollcall.ownership import KEPT, LEAVES, Owner
from rollcall.registry import CloudflareRegistry
from rollcall.route53 import Route53Registry
from rollcall.settings import CloudflareJoin
from tests.cloud.cloudflare_server import OPERATOR, ZONE, Front, Lab
from tests.unit.agent.contention import UNKNOWN, Zone
from tests.unit.agent.fakes import OWNER
from tests.unit.agent.test_route53 import HOST as HOST53
from tests.unit.agent.test_route53 import ONE, OTHER, SERVICE_JOIN, SET, TWO, VALUE, Still, leave_wholly, put, values

HOST = f"www.{ZONE}"
FIVE = tuple(replace(OWNER, machine=str(at), generation=f"{at:06x}", instance=f"i-{at:017x}") for at in range(5))


def address(at: int) -> str:
    return f"198.51.100.{at}"


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


class Five:
    """Five machines at a host, each with its registry; those in `dead` do not answer."""

    def __init__(self, lab: Lab, **given: Any) -> None:
        self.lab, self.dead = lab, set[str]()
        join = CloudflareJoin(**{"zone": lab.zone, "host": HOST, "token": "t", "ttl": 60, **given})
        self.registries = [CloudflareRegistry(join, lambda: OPERATOR) for _ in FIVE]
        for at, each in enumerate(self.registries):
            each.lives = lambda address, _: address not in self.dead
            each.join(FIVE[at], address(at))

    def join(self, at: int) -> bool:
        return self.registries[at].join(FIVE[at], address(at))

    def marks(self) -> dict[str, str]:
        return {each["content"]: each["comment"] or "" for each in self.records()}

    def records(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.lab.raw("GET", f"/zones/{self.lab.zone}/dns_records").json()["result"]
        return [each for each in found if each["name"] == HOST]

    def change(self, at: int, **fields: Any) -> None:
        """Edit the record of machine `at`, as a user does."""
        record = next(each for each in self.records() if each["content"] == address(at))
        done = self.lab.raw("PATCH", f"/zones/{self.lab.zone}/dns_records/{record['id']}", json=fields).json()
        assert done["success"], done

    def delete(self, at: int) -> None:
        record = next(each for each in self.records() if each["content"] == address(at))
        assert self.lab.raw("DELETE", f"/zones/{self.lab.zone}/dns_records/{record['id']}").json()["success"]

    def copy(self, mark: str) -> None:
        """As octoDNS: the same comment on all."""
        for at in range(5):
            if address(at) in self.marks():
                self.change(at, comment=mark)


@pytest.fixture
def five(front: Front, monkeypatch: pytest.MonkeyPatch) -> Five:
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", front.url)
    return Five(Lab(front))


ALL = {address(at): str(FIVE[at]) for at in range(5)}

pytestmark = pytest.mark.clouds


class TestCopied:
    def test_the_machine_with_the_mark_leaves_and_the_others_stay(self, five: Five) -> None:
        five.copy(str(FIVE[2]))
        assert five.registries[2].leave_set(FIVE[2], address(2)) is True
        assert set(five.marks()) == {address(at) for at in range(5)} - {address(2)}

    def test_joining_removes_none_of_the_others_records_and_takes_its_own_back(self, five: Five) -> None:
        five.copy(str(FIVE[2]))
        for at in (2, 0, 1, 3, 4):
            five.join(at)
        assert five.marks() == ALL
        assert five.join(2) is False

    @pytest.mark.parametrize("at", range(5))
    def test_each_of_them_leaves_with_its_own_record_whatever_mark_is_on_it(self, five: Five, at: int) -> None:
        five.copy(str(FIVE[2]))
        assert five.registries[at].leave_set(FIVE[at], address(at)) is True
        assert set(five.marks()) == {address(each) for each in range(5)} - {address(at)}

    def test_one_that_just_started_leaves_with_its_own_record_too(self, five: Five) -> None:
        """`rollcall leave`, and an agent that was restarted: it has written nothing yet."""
        five.copy(str(FIVE[2]))
        fresh = CloudflareRegistry(five.registries[3]._join, lambda: OPERATOR)
        fresh.lives = lambda *_: True
        fresh.leave_set(FIVE[3], address(3))
        assert set(five.marks()) == {address(each) for each in range(5)} - {address(3)}

    def test_a_watcher_removes_the_dead_one_s_record_and_no_live_one_s(self, five: Five) -> None:
        five.copy(str(FIVE[2]))
        five.dead.add(address(2))
        assert five.registries[0].leave(FIVE[2]) is True
        assert set(five.marks()) == {address(at) for at in range(5)} - {address(2)}

    def test_a_machine_removes_its_old_address_where_nothing_answers(self, five: Five) -> None:
        five.dead.add(address(2))
        assert five.registries[2].join(FIVE[2], "198.51.100.77") is True
        assert address(2) not in five.marks() and five.marks()["198.51.100.77"] == str(FIVE[2])

    @pytest.mark.parametrize("unhealthy", [0, 2])
    def test_an_unhealthy_one_leaves_alone(self, five: Five, unhealthy: int) -> None:
        five.copy(str(FIVE[2]))
        registry = five.registries[unhealthy]
        assert registry.leave_unhealthy(FIVE[unhealthy], {"A": 4, "AAAA": 1}, address(unhealthy)) == ""
        assert set(five.marks()) == {address(at) for at in range(5)} - {address(unhealthy)}

    @pytest.mark.parametrize("unhealthy", [0, 2])
    def test_and_it_stays_where_too_few_others_are_whatever_the_marks(self, five: Five, unhealthy: int) -> None:
        five.copy(str(FIVE[2]))
        registry = five.registries[unhealthy]
        assert "too-few-others" in registry.leave_unhealthy(FIVE[unhealthy], {"A": 5, "AAAA": 1}, address(unhealthy))
        assert len(five.marks()) == 5 and five.marks()[address(unhealthy)] == FIVE[unhealthy].mark(KEPT)


# name, what a user does to the record of machine 0
CHANGES: list[tuple[str, Callable[[Five], None]]] = [
    ("deleted", lambda five: five.delete(0)),
    ("no mark", lambda five: five.change(0, comment="")),
    ("another's mark", lambda five: five.change(0, comment=str(FIVE[1]))),
    ("a mark of another stack", lambda five: five.change(0, comment=str(replace(FIVE[0], stack="prod")))),
    ("a strange mark", lambda five: five.change(0, comment="managed by octoDNS \u00e9\U0001f600")),
    ("kept", lambda five: five.change(0, comment=FIVE[0].mark(KEPT))),
    ("about to leave", lambda five: five.change(0, comment=FIVE[0].mark(LEAVES))),
    ("another TTL", lambda five: five.change(0, ttl=300)),
    ("proxied", lambda five: five.change(0, proxied=True)),
    ("another address", lambda five: five.change(0, content="198.51.100.99")),
]


@pytest.mark.parametrize("change", [row[1] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_each_part_of_the_record_comes_back_at_the_next_check(five: Five, change: Callable[[Five], None]) -> None:
    five.dead.add("198.51.100.99")
    before = [{key: each[key] for key in ("content", "comment", "ttl", "proxied")} for each in five.records()]
    change(five)
    assert five.join(0) is True and five.join(0) is False
    after = [{key: each[key] for key in ("content", "comment", "ttl", "proxied")} for each in five.records()]
    assert sorted(map(str, after)) == sorted(map(str, before))


def test_a_record_that_a_tool_made_again_without_a_comment_is_ours_again(five: Five) -> None:
    five.delete(0)
    five.lab.record(name="www", content=address(0), comment="", ttl=60)
    assert five.join(0) is True and five.marks() == ALL


def test_a_record_of_another_owner_in_its_place_is_refused_and_keeps_every_byte(five: Five) -> None:
    five.delete(0)
    five.lab.record(name="www", content=address(0), comment="the old load balancer")
    before = five.records()
    with pytest.raises(RefusedError, match="foreign-record"):
        five.join(0)
    assert five.records() == before


class TestService:
    """The same at Route53: the mark is a TXT beside the host, and the host's name has the machine's generation."""

    A, B = "198.51.100.1", "198.51.100.2"

    @pytest.fixture
    def zone(self) -> Zone:
        scheduler = Still(1)
        zone = Zone(scheduler, Throttle(UNLIMITED, lambda: scheduler.now))
        self.registry(zone).join(ONE, self.A)
        self.registry(zone).join(TWO, self.B)
        # A tool writes one machine's TXT to both hosts.
        put(zone, HOST53, "TXT", *values(zone, OTHER, "TXT"))
        return zone

    def registry(self, zone: Zone) -> Route53Registry:
        return Route53Registry(SERVICE_JOIN, zone, UNKNOWN, zone.scheduler.sleep)

    def test_the_machine_with_the_mark_leaves_and_the_other_stays(self, zone: Zone) -> None:
        assert leave_wholly(self.registry(zone), TWO, self.B) is True
        assert values(zone) == (VALUE,) and values(zone, HOST53, "A") == (self.A,) and (OTHER, "A") not in zone.sets

    def test_the_other_leaves_with_all_that_it_has(self, zone: Zone) -> None:
        assert leave_wholly(self.registry(zone), ONE, self.A) is True
        assert {name for name, _ in zone.sets} == {SET, OTHER}

    def test_an_unhealthy_one_leaves_with_all_that_it_has(self, zone: Zone) -> None:
        registry = self.registry(zone)
        assert registry.leave_unhealthy(ONE, 1) == "" and registry.remove_hosts(ONE, registry.left_hosts, self.A)
        assert {name for name, _ in zone.sets} == {SET, OTHER}

    def test_joining_writes_the_mark_again(self, zone: Zone) -> None:
        assert self.registry(zone).join(ONE, self.A) is True
        assert f'"{ONE}"' in values(zone, HOST53, "TXT") and f'"{TWO}"' not in values(zone, HOST53, "TXT")
        assert f'"{TWO}"' in values(zone, OTHER, "TXT")

    def test_a_copied_mark_names_no_owner_to_a_watcher(self, zone: Zone) -> None:
        """Return the challengers of the live machine with the mark that get an answer."""
        assert self.registry(zone).owner_at(HOST53) is None and self.registry(zone).owner_at(OTHER) == TWO

    def test_a_twin_s_host_is_still_not_ours(self, zone: Zone) -> None:
        twin = replace(ONE, instance="i-00000000000000099")
        self.registry(zone).join(ONE, self.A)
        before = dict(zone.sets)
        assert leave_wholly(self.registry(zone), twin, self.A) is False and zone.sets == before

    @pytest.mark.parametrize("at", [(HOST53, "A"), (HOST53, "TXT"), (SET, "SRV")])
    def test_each_record_comes_back(self, zone: Zone, at: tuple[str, str]) -> None:
        self.registry(zone).join(ONE, self.A)
        whole = dict(zone.sets)
        del zone.sets[at]
        assert self.registry(zone).join(ONE, self.A) is True
        self.registry(zone).join(TWO, self.B)
        assert zone.sets == whole
        zone.sets[at] = replace(whole[at], ttl=299)
        assert self.registry(zone).join(ONE, self.A) is True and zone.sets == whole


def test_two_marks_of_one_machine_are_one() -> None:
    assert Owner.parse(FIVE[0].mark(KEPT)) == Owner.parse(FIVE[0].mark(LEAVES)) == FIVE[0]
