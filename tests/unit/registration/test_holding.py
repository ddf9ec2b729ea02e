"""components.registration.holding: which holds are safe, and when a machine is out of DNS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, cast

import pytest

from components.model import DesiredState, DnsRecord, ExpectedRecordSet, Member, RecordKey
from components.registration import holding
from components.registration.inventory import Registries
from rollcall.in_place import HOLD
from rollcall.ownership import Owner
from rollcall.settings import SettingsError

WWW, RC = RecordKey("www.scalability.expert", "A"), RecordKey("rc.unilans.net", "A")
MEMBERS = tuple(
    Member(fleet="web", machine=str(each), generation=f"{each:06x}", instance=f"i-{each:017x}") for each in range(4)
)
DESIRED = DesiredState(
    stack="local",
    fleet="web",
    members=MEMBERS,
    record_sets=(ExpectedRecordSet(key=WWW), ExpectedRecordSet(key=RC, shared=True)),
    fleets=("web",),
)


def record(number: int, key: RecordKey = WWW, stack: str = "local", **others: Any) -> DnsRecord:
    owner = Owner(stack, "web", str(number), f"{number:06x}", f"i-{number:017x}")
    return replace(DnsRecord(key=key, value=f"198.51.100.{number}", owner=owner, id=f"z/{number}"), **others)


def lines(records: list[DnsRecord], fewest: int = 1, on_hold: Iterable[int] = ()) -> list[str]:
    instances = [MEMBERS[each].instance for each in on_hold]
    return holding.too_few_after(MEMBERS[0], DESIRED, records, {WWW.name: fewest}, instances)


# name, records, minRegistered, on hold, whether the hold of machine 0 is safe
ROWS = [
    ("another machine stays", [record(0), record(1)], 1, (), True),
    ("the last one", [record(0)], 1, (), False),
    ("the other one has the mark of another stack", [record(0), record(1, stack="prod")], 1, (), False),
    ("the other one has no mark", [record(0), record(1, owner=None)], 1, (), False),
    ("the other one leaves", [record(0), record(1)], 1, (1,), False),
    ("a third one stays", [record(0), record(1), record(2)], 1, (1,), True),
    ("as many as must stay", [record(0), record(1), record(2)], 2, (), True),
    ("fewer than must stay", [record(0), record(1), record(2)], 3, (), False),
    ("it is in no record set", [record(1)], 2, (), True),
    ("minRegistered of 0 still keeps one", [record(0)], 0, (), False),
    ("its host is shared by all services", [record(0, RC)], 1, (), True),
    (
        "two records of the other machine count once",
        [record(0), record(1), record(1, value="198.51.100.9")],
        2,
        (),
        False,
    ),
]


@pytest.mark.parametrize(("name", "records", "fewest", "on_hold", "safe"), ROWS, ids=[each[0] for each in ROWS])
def test_a_hold_is_safe(name: str, records: list[DnsRecord], fewest: int, on_hold: tuple[int, ...], safe: bool) -> None:
    assert (lines(records, fewest, on_hold) == []) is safe


def test_the_record_set_is_named_with_both_numbers() -> None:
    assert lines([record(0), record(1)], 3) == [f"{WWW} would have 1 machines without it, and must keep 3"]


class World:
    def __init__(self, records: list[DnsRecord], answered: list[DnsRecord]) -> None:
        self.records, self.answered = records, answered
        self.written: list[tuple[str, dict[str, dict[str, str | None]]]] = []

    def dns_records(self) -> tuple[DnsRecord, ...]:
        return tuple(self.records)

    def still_answered(self, records: Iterable[DnsRecord]) -> list[DnsRecord]:
        return [each for each in records if each in self.answered]

    def set_settings(self, stack: str, changes: Mapping[str, Mapping[str, str | None]]) -> None:
        self.written.append((stack, {each: dict(change) for each, change in changes.items()}))


def still(records: list[DnsRecord], answered: list[DnsRecord], before: list[DnsRecord]) -> list[DnsRecord]:
    world = cast("Registries", World(records, answered))
    return holding.still_in_dns(world, "local", MEMBERS[0], before)


def test_a_machine_is_in_dns_while_an_api_lists_it_or_a_name_server_answers_with_it() -> None:
    mine, other = record(0), record(1)
    assert still([mine, other], [], [mine]) == [mine]
    assert still([other], [mine], [mine]) == [mine]
    assert still([other], [other], [mine]) == []
    # Its host stays for callers with a cached value.
    assert still([replace(record(0, RC), leaving=True)], [], []) == []


def test_a_hold_has_the_time_and_the_reason_and_its_release_removes_it() -> None:
    world = World([], [])
    moment = datetime(2026, 11, 30, 19, 0, tzinfo=timezone.utc)
    registries = cast("Registries", world)
    assert holding.put_on_hold(registries, "local", MEMBERS[0], "disk errors", moment).reason == "disk errors"
    holding.release(registries, "local", replace(MEMBERS[0], stack="former"))
    instance = MEMBERS[0].instance
    assert world.written == [
        ("local", {instance: {HOLD: "2026-11-30T19:00:00Z disk errors"}}),
        ("former", {instance: {HOLD: None}}),
    ]
    with pytest.raises(SettingsError):
        holding.put_on_hold(registries, "local", MEMBERS[0], "50% off", moment)
    assert len(world.written) == 2
