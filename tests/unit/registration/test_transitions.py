"""components.registration.transitions: what a roll call does after each snapshot, as a table. No clock, no I/O."""

from __future__ import annotations

from dataclasses import replace

import pytest

from components.model import BY_HAND, DesiredState, DnsRecord, ExpectedRecordSet, Instance, Member, RecordKey
from components.registration.diff import Drift, find_drift
from components.registration.transitions import (
    STEPS_EVERY_S,
    Action,
    Answered,
    Call,
    EndCause,
    EndMachines,
    Fail,
    GiveUp,
    Pause,
    Progress,
    RemoveRecords,
    Say,
    Snapshot,
    after_actions,
    after_snapshot,
    needs_elsewhere,
)
from rollcall.ownership import Owner

KEY = RecordKey("www.scalability.expert", "A")


def member(number: int) -> Member:
    return Member(fleet="web", machine=str(number), generation=f"{number:06x}", instance=f"i-{number:017x}")


def instance(number: int, **others: object) -> Instance:
    at = member(number)
    usual = Instance(
        instance=at.instance, fleet="web", machine=at.machine, generation=at.generation, running=True,
        addresses=(f"198.51.100.{number}",), state="running",
    )  # fmt: skip
    return replace(usual, **others)  # type: ignore[arg-type]


def record(number: int, **others: str) -> DnsRecord:
    """The record of the machine with this number; `others` change its ownership mark."""
    at = member(number)
    owner = replace(Owner("local", "web", at.machine, at.generation, at.instance), **others)
    return DnsRecord(key=KEY, value=f"198.51.100.{number}", owner=owner, id=f"z/{number}")


MEMBERS = tuple(member(each) for each in range(4))
DESIRED = DesiredState(
    stack="local", fleet="web", members=MEMBERS, record_sets=(ExpectedRecordSet(key=KEY),), fleets=("web",), keeper=True
)
CALL = Call(desired=DESIRED, timeout=60, drain_delay=30)
UNLIMITED = replace(CALL, safety_limit=False)
THERE = [instance(each) for each in range(4)]
RECORDS = [record(each) for each in range(4)]
START = Progress(since=0.0, steps_at=0.0)
GHOST, ADOPTED = record(9), record(9, generation=BY_HAND)
ORPHAN = instance(7)
# With the generation of the last member, on another instance.
TWIN = replace(instance(8), generation=MEMBERS[3].generation, machine="3")


def snapshot(records: list[DnsRecord], instances: list[Instance], **others: object) -> Snapshot:
    drift = find_drift(DESIRED, records, instances, {KEY: None})
    found = Snapshot(drift=drift, instances=tuple(instances), records=len(records))
    return replace(found, **others)  # type: ignore[arg-type]


STOPPED = [*THERE[:3], replace(THERE[3], running=False, state="stopped")]
TWINS = (TWIN, replace(TWIN, instance="i-0000000000000000a"))
MANY = [record(each) for each in range(20, 25)]
ELSEWHERE = frozenset({str(GHOST.owner.instance)} if GHOST.owner else ())

# name, snapshot, what is done
ROWS: list[tuple[str, Snapshot, tuple[Action, ...]]] = [
    ("all answer", snapshot(RECORDS, THERE), (Answered(),)),
    ("one does not answer", snapshot(RECORDS[:3], THERE), ()),
    ("a leftover record of a dead machine", snapshot([*RECORDS, GHOST], THERE), (RemoveRecords((GHOST,)),)),
    ("the same while one does not answer", snapshot([*RECORDS[:3], GHOST], THERE), (RemoveRecords((GHOST,)),)),
    ("its machine runs elsewhere", snapshot([*RECORDS, GHOST], THERE, elsewhere=ELSEWHERE), ()),
    ("its machine runs under a former id", snapshot([*RECORDS, GHOST], THERE, former=ELSEWHERE), (Answered(),)),
    ("its machine is on another cloud", snapshot([*RECORDS, GHOST], THERE, invisible=ELSEWHERE), (Answered(),)),
    (
        "a member has its address: the mark was copied",
        snapshot([*RECORDS, replace(GHOST, value="198.51.100.1")], THERE),
        (),
    ),
    (
        "a record that leads to no host",
        snapshot([*RECORDS, replace(GHOST, owner=None, dead=True)], THERE),
        (RemoveRecords((replace(GHOST, owner=None, dead=True),)),),
    ),
    ("an orphan", snapshot(RECORDS, [*THERE, ORPHAN]), (EndMachines((ORPHAN,), EndCause.ORPHAN),)),
    ("an orphan while one does not answer", snapshot(RECORDS[:3], [*THERE, ORPHAN]), ()),
    ("a twin of a member that runs", snapshot(RECORDS[:3], [*THERE, TWIN]), (EndMachines((TWIN,), EndCause.TWIN),)),
    ("a twin of a member that does not run", snapshot(RECORDS, [*STOPPED, TWIN]), ()),
    ("a twin goes before an orphan", snapshot(RECORDS, [*THERE, ORPHAN, TWIN]), (EndMachines((TWIN,), EndCause.TWIN),)),
    ("a record that was adopted", snapshot([*RECORDS, ADOPTED], THERE), (RemoveRecords((ADOPTED,)), Pause(30))),
    ("the same while one does not answer", snapshot([*RECORDS[:3], ADOPTED], THERE), ()),
    (
        "an orphan goes before a record that was adopted",
        snapshot([*RECORDS, ADOPTED], [*THERE, ORPHAN]),
        (EndMachines((ORPHAN,), EndCause.ORPHAN),),
    ),
]


@pytest.mark.parametrize(("found", "actions"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_after_a_snapshot(found: Snapshot, actions: tuple[Action, ...]) -> None:
    assert after_snapshot(CALL, START, found)[1] == actions


@pytest.mark.parametrize(
    ("found", "message", "without_limit"),
    [
        (snapshot([*RECORDS, *RECORDS, *MANY], THERE), "5 of 13 records are left over", RemoveRecords),
        (snapshot(RECORDS, [*THERE, ORPHAN, instance(6)]), "2 of 6 machines are tagged with stack local", EndMachines),
        (snapshot(RECORDS, [*THERE, *TWINS]), "2 machines have the generation of a member", EndMachines),
    ],
)
def test_the_safety_limit_refuses_what_is_done_without_it(found: Snapshot, message: str, without_limit: type) -> None:
    (refused,) = after_snapshot(CALL, START, found)[1]
    assert isinstance(refused, Fail) and message in refused.message and "safeDeletes false" in refused.message
    assert isinstance(after_snapshot(UNLIMITED, START, found)[1][0], without_limit)


def test_a_zone_that_was_deleted_fails_a_fleet_with_members_only() -> None:
    gone = Snapshot(drift=Drift(), deleted_zones=("scalability.expert (z)",))
    (failed,) = after_snapshot(CALL, START, gone)[1]
    assert isinstance(failed, Fail) and "the zone scalability.expert (z) was deleted" in failed.message
    assert after_snapshot(replace(CALL, desired=replace(DESIRED, members=())), START, gone)[1] == (Answered(),)


@pytest.mark.parametrize(
    ("found", "asks"),
    [
        (snapshot(RECORDS, THERE), False),
        (snapshot([*RECORDS, GHOST], THERE), True),
        (snapshot([*RECORDS, GHOST], THERE, invisible=ELSEWHERE), False),
        (snapshot([*RECORDS, ADOPTED], THERE), True),
        (snapshot([*RECORDS[:3], ADOPTED], THERE), False),
    ],
)
def test_other_locations_are_asked_only_where_a_record_may_be_removed(found: Snapshot, asks: bool) -> None:
    assert needs_elsewhere(found) is asks


WAITING = snapshot(RECORDS[:3], THERE)


def test_progress_is_reported_once_and_steps_are_asked_for_every_few_seconds() -> None:
    assert START.wants_steps(0)
    progress, reports = after_actions(CALL, START, WAITING, now=0, steps={MEMBERS[3].instance: "booting"})
    assert reports == (Say(f"web: 3 of 4 answer; waiting for web-3 ({MEMBERS[3].instance}): running, booting"),)
    assert not progress.wants_steps(STEPS_EVERY_S - 1) and progress.wants_steps(STEPS_EVERY_S)
    assert after_actions(CALL, progress, WAITING, now=4, steps={MEMBERS[3].instance: "booting"})[1] == ()


@pytest.mark.parametrize(
    ("steps", "restart", "since", "gives_up"),
    [
        ({MEMBERS[3].instance: "booting"}, False, 0, True),
        ({MEMBERS[3].instance: "settings read"}, False, 61, False),
        ({MEMBERS[3].instance: "booting: status=503"}, False, 0, True),
        ({MEMBERS[3].instance: "booting"}, True, 61, False),
    ],
)
def test_a_new_fact_or_an_intended_wait_begins_the_time_out_again(
    steps: dict[str, str], restart: bool, since: float, gives_up: bool
) -> None:
    progress, _ = after_actions(CALL, START, WAITING, now=0, steps={MEMBERS[3].instance: "booting"})
    progress, reports = after_actions(CALL, replace(progress, restart=restart), WAITING, now=61, steps=steps)
    assert (progress.since, GiveUp(60) in reports) == (since, gives_up)


@pytest.mark.parametrize(("answer", "limit"), [(frozenset(), 360), (None, 60)])
def test_an_old_answer_of_a_resolver_is_waited_for(answer: frozenset[str] | None, limit: float) -> None:
    found = find_drift(DESIRED, RECORDS if answer is not None else RECORDS[:3], THERE, {KEY: answer})
    at = Snapshot(drift=found, instances=tuple(THERE))
    progress, _ = after_actions(CALL, START, at, now=0, steps={})
    assert after_actions(CALL, progress, at, now=limit, resolver_delay=300)[1] == ()
    assert after_actions(CALL, progress, at, now=limit + 1, resolver_delay=300)[1] == (GiveUp(limit),)


@pytest.mark.parametrize(
    ("found", "restart"),
    [
        (WAITING, False),
        (snapshot(RECORDS, [*THERE, ORPHAN]), True),
        (snapshot(RECORDS, [*THERE, TWIN]), False),
        (snapshot([*RECORDS, ADOPTED], THERE), True),
        (snapshot([*RECORDS, GHOST], THERE), False),
    ],
)
def test_the_time_out_begins_again_after_a_wait_that_is_intended(found: Snapshot, restart: bool) -> None:
    assert after_snapshot(CALL, replace(START, restart=not restart), found)[0].restart is restart
