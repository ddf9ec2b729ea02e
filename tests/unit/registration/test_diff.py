"""components.registration.diff: one table. Each row without a difference has a twin in which one field differs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from components.model import DesiredState, DnsRecord, ExpectedRecordSet, ForeignRecord, Instance, Member, RecordKey
from components.registration.diff import Cause, Drift, Finding, Kind, find_drift, with_doubts
from components.registration.messages import line, lines, on_hold
from rollcall.in_place import HOLD
from rollcall.ownership import Owner

PLACE = RecordKey("www.scalability.expert", "A")
ONE = Member(fleet="web", machine="0", generation="aaaaaa", instance="i-00000000000000001")
TWO = Member(fleet="web", machine="1", generation="bbbbbb", instance="i-00000000000000002")
OWNER = Owner("local", "web", "0", "aaaaaa", ONE.instance)
RECORD = DnsRecord(key=PLACE, value="198.51.100.10", owner=OWNER, id="z/1")
SEEN = Instance(
    instance=ONE.instance,
    fleet="web",
    machine="0",
    generation="aaaaaa",
    running=True,
    addresses=("198.51.100.10",),
    state="running",
)
ROLL = DesiredState(
    stack="local",
    fleet="web",
    members=(ONE,),
    record_sets=(ExpectedRecordSet(key=PLACE),),
    fleets=("web",),
    keeper=True,
)
ANSWERS: dict[RecordKey, frozenset[str] | None] = {PLACE: frozenset({"198.51.100.10"})}

# The same with IPv6.
PLACE6 = RecordKey("www.scalability.expert", "AAAA")
RECORD6 = replace(RECORD, key=PLACE6, value="2001:db8:1::10", id="z/6")
SEEN6 = replace(SEEN, addresses=("198.51.100.10", "2001:db8:1::10"))
BOTH = replace(ROLL, record_sets=(*ROLL.record_sets, ExpectedRecordSet(key=PLACE6)))
ANSWERS6 = {**ANSWERS, PLACE6: frozenset({"2001:db8:1::10"})}

# The same with private addresses.
RECORD_P = replace(RECORD, value="192.0.2.10")
SEEN_P = replace(SEEN, private_addresses=("192.0.2.10",))
PRIVATE = replace(ROLL, record_sets=(ExpectedRecordSet(key=PLACE, address="private"),))
ANSWERS_P: dict[RecordKey, frozenset[str] | None] = {PLACE: frozenset({"192.0.2.10"})}

# The host of a service's machine that has left its set: it stays for callers that have the value in a cache.
HOSTS = RecordKey("rc.unilans.net", "A")
SERVICE = replace(ROLL, record_sets=(ExpectedRecordSet(key=HOSTS, shared=True),))
HERE = replace(RECORD, key=HOSTS, alone=True)
LEAVING = replace(HERE, value="198.51.100.99", id="bbbbbb.rc.unilans.net", leaving=True)
ANSWERS_HOST: dict[RecordKey, frozenset[str] | None] = {HOSTS: frozenset({"198.51.100.10", "198.51.100.99"})}
GONE = replace(LEAVING, owner=replace(OWNER, machine="7", generation="bbbbbb", instance="i-00000000000000007"))
GOES = replace(SEEN, instance="i-00000000000000007", machine="7", generation="bbbbbb", state="shutting-down")

ON_HOLD = replace(SEEN, live={HOLD: "2026-11-30T19:00:00Z disk errors"})

# name, roll, records, machines, answers, what must be found
ROWS: list[
    tuple[str, DesiredState, list[DnsRecord], list[Instance], dict[RecordKey, frozenset[str] | None], dict[str, int]]
] = [
    ("in step", ROLL, [RECORD], [SEEN], ANSWERS, {}),
    ("a private address where the set has private ones", PRIVATE, [RECORD_P], [SEEN_P], ANSWERS_P, {}),
    ("a public address where the set has private ones", PRIVATE, [RECORD], [SEEN_P], ANSWERS, {"stale": 1}),
    ("a private address where the set has public ones", ROLL, [RECORD_P], [SEEN_P], ANSWERS_P, {"stale": 1}),
    ("kept although unhealthy", ROLL, [replace(RECORD, kept=True)], [SEEN], ANSWERS, {"missing": 1}),
    (
        "another machine is kept",
        ROLL,
        [RECORD, replace(RECORD, owner=replace(OWNER, stack="s"), kept=True)],
        [SEEN],
        ANSWERS,
        {"foreign": 1},
    ),
    ("not registered", ROLL, [], [SEEN], ANSWERS, {"missing": 1}),
    ("on hold: neither missing nor stale", ROLL, [], [ON_HOLD], {PLACE: frozenset()}, {}),
    ("on hold, and a cache of a name server still has it", ROLL, [], [ON_HOLD], ANSWERS, {}),
    ("on hold, and it has not left yet", ROLL, [RECORD], [ON_HOLD], ANSWERS, {"stale": 1}),
    (
        "another machine is on hold",
        replace(ROLL, members=(ONE, TWO)),
        [RECORD],
        [SEEN, replace(ON_HOLD, instance=TWO.instance)],
        ANSWERS,
        {},
    ),
    (
        "on hold in the cloud, and its successor is not",
        ROLL,
        [],
        [SEEN, replace(ON_HOLD, instance=TWO.instance, state="terminated")],
        ANSWERS,
        {"missing": 1},
    ),
    (
        "registered by an older generation",
        ROLL,
        [replace(RECORD, owner=replace(OWNER, generation="cccccc"))],
        [SEEN],
        ANSWERS,
        {"missing": 1, "leftover": 1},
    ),
    (
        "registered by another instance",
        ROLL,
        [replace(RECORD, owner=replace(OWNER, instance="i-00000000000000009"))],
        [SEEN],
        ANSWERS,
        {"missing": 1, "leftover": 1},
    ),
    ("in the API but not answered", ROLL, [RECORD], [SEEN], {PLACE: frozenset()}, {"missing": 1}),
    ("proxied: the answers say nothing", ROLL, [RECORD], [SEEN], {PLACE: None}, {}),
    (
        "another address than the machine's",
        ROLL,
        [replace(RECORD, value="198.51.100.99")],
        [SEEN],
        {PLACE: frozenset({"198.51.100.99"})},
        {"stale": 1},
    ),
    ("its address is not known yet", ROLL, [RECORD], [replace(SEEN, addresses=())], ANSWERS, {}),
    (
        "an old address beside the new one",
        ROLL,
        [RECORD, replace(RECORD, value="198.51.100.99", id="z/2")],
        [SEEN],
        ANSWERS,
        {"stale": 1},
    ),
    ("two expected, one there", replace(ROLL, members=(ONE, TWO)), [RECORD], [SEEN], ANSWERS, {"missing": 1}),
    (
        "left over: expected no more",
        replace(ROLL, members=()),
        [RECORD],
        [SEEN],
        ANSWERS,
        {"leftover": 1, "orphaned": 1},
    ),
    (
        "leaving: neither missing nor left over",
        replace(ROLL, members=(), leaving=(ONE,)),
        [RECORD],
        [SEEN],
        ANSWERS,
        {},
    ),
    ("leaving and gone", replace(ROLL, members=(), leaving=(ONE,)), [], [], ANSWERS, {}),
    ("a former host of a member that has another one", SERVICE, [HERE, LEAVING], [SEEN], ANSWERS_HOST, {}),
    (
        "two hosts of a member",
        SERVICE,
        [HERE, replace(LEAVING, leaving=False)],
        [SEEN],
        ANSWERS_HOST,
        {"stale": 1},
    ),
    ("the only host of a member leaves", SERVICE, [replace(HERE, leaving=True)], [SEEN], ANSWERS_HOST, {"missing": 1}),
    ("the host of one that leaves and still runs", SERVICE, [HERE, GONE], [SEEN, GOES], ANSWERS_HOST, {}),
    (
        "the host of one that should leave and does not",
        SERVICE,
        [HERE, replace(GONE, leaving=False)],
        [SEEN, GOES],
        ANSWERS_HOST,
        {"leftover": 1},
    ),
    (
        "the host of one that left and runs no more",
        SERVICE,
        [HERE, GONE],
        [SEEN, replace(GOES, running=False)],
        ANSWERS_HOST,
        {"leftover": 1},
    ),
    ("the host of one that left and is gone", SERVICE, [HERE, GONE], [SEEN], ANSWERS_HOST, {"leftover": 1}),
    (
        "another fleet's record is not ours",
        replace(ROLL, fleets=("web", "api")),
        [RECORD, replace(RECORD, owner=replace(OWNER, fleet="api"), id="z/2")],
        [SEEN],
        ANSWERS,
        {},
    ),
    (
        "a fleet that is gone: its records are left over",
        ROLL,
        [RECORD, replace(RECORD, owner=replace(OWNER, fleet="api"), id="z/2")],
        [SEEN],
        ANSWERS,
        {"leftover": 1},
    ),
    (
        "a record of another fleet of the stack",
        replace(ROLL, fleets=("api", "web")),
        [RECORD, replace(RECORD, owner=replace(OWNER, fleet="api"), id="z/2")],
        [SEEN],
        ANSWERS,
        {},
    ),
    (
        "a machine that is in no state",
        ROLL,
        [RECORD],
        [SEEN, replace(SEEN, instance="i-00000000000000009", machine="7")],
        ANSWERS,
        {"orphaned": 1},
    ),
    (
        "a machine that is in no state and is going already",
        ROLL,
        [RECORD],
        [SEEN, replace(SEEN, instance="i-00000000000000009", machine="7", state="shutting-down")],
        ANSWERS,
        {},
    ),
    (
        "a machine of another fleet",
        replace(ROLL, fleets=("api", "web")),
        [RECORD],
        [SEEN, replace(SEEN, instance="i-00000000000000009", fleet="api")],
        ANSWERS,
        {},
    ),
    (
        "a machine of a fleet that is gone, at the one that keeps",
        ROLL,
        [RECORD],
        [SEEN, replace(SEEN, instance="i-00000000000000009", fleet="api")],
        ANSWERS,
        {"orphaned": 1},
    ),
    (
        "a machine of a fleet that is gone, at one that does not keep",
        replace(ROLL, keeper=False),
        [RECORD],
        [SEEN, replace(SEEN, instance="i-00000000000000009", fleet="api")],
        ANSWERS,
        {},
    ),
    (
        "foreign: no owner",
        ROLL,
        [RECORD, DnsRecord(key=PLACE, value="192.0.2.1", owner=None, id="z/9")],
        [SEEN],
        ANSWERS,
        {"foreign": 1},
    ),
    (
        "foreign: another stack",
        ROLL,
        [RECORD, replace(RECORD, owner=replace(OWNER, stack="prod"), id="z/9")],
        [SEEN],
        ANSWERS,
        {"foreign": 1},
    ),
    (
        "foreign and acknowledged",
        replace(ROLL, acknowledged=(ForeignRecord(key=PLACE, value="192.0.2.1"),)),
        [RECORD, DnsRecord(key=PLACE, value="192.0.2.1", owner=None, id="z/9")],
        [SEEN],
        ANSWERS,
        {},
    ),
    ("both families stand", BOTH, [RECORD, RECORD6], [SEEN6], ANSWERS6, {}),
    ("of both IPv6 is missing", BOTH, [RECORD], [SEEN6], ANSWERS6, {"missing": 1}),
    ("of both IPv4 is missing", BOTH, [RECORD6], [SEEN6], ANSWERS6, {"missing": 1}),
    ("both are missing", BOTH, [], [SEEN6], ANSWERS6, {"missing": 2}),
    ("both, and the machine has no IPv6 yet", BOTH, [RECORD], [SEEN], ANSWERS6, {"missing": 1}),
    ("without IPv6 a machine may have an address of it", ROLL, [RECORD], [SEEN6], ANSWERS, {}),
    (
        "IPv6 in the API but not answered",
        BOTH,
        [RECORD, RECORD6],
        [SEEN6],
        {**ANSWERS6, PLACE6: frozenset()},
        {"missing": 1},
    ),
    ("proxied, both", BOTH, [RECORD, RECORD6], [SEEN6], {PLACE: None, PLACE6: None}, {}),
    (
        "another IPv6 address than the machine's",
        BOTH,
        [RECORD, replace(RECORD6, value="2001:db8:1::99")],
        [SEEN6],
        {**ANSWERS6, PLACE6: frozenset({"2001:db8:1::99"})},
        {"stale": 1},
    ),
    ("IPv6 that the machine has no more", BOTH, [RECORD, RECORD6], [SEEN], ANSWERS6, {"stale": 1}),
    (
        "left over of both families",
        BOTH,
        [
            RECORD,
            RECORD6,
            *(replace(each, owner=replace(OWNER, generation="cccccc"), id="z/7") for each in (RECORD, RECORD6)),
        ],
        [SEEN6],
        ANSWERS6,
        {"leftover": 2},
    ),
    (
        "foreign, IPv6",
        BOTH,
        [RECORD, RECORD6, DnsRecord(key=PLACE6, value="2001:db8::99", owner=None, id="z/9")],
        [SEEN6],
        ANSWERS6,
        {"foreign": 1},
    ),
    (
        "foreign, IPv6, where only IPv4 is ours",
        ROLL,
        [RECORD, DnsRecord(key=PLACE6, value="2001:db8::99", owner=None, id="z/9")],
        [SEEN],
        ANSWERS,
        {},
    ),
    (
        "another fleet's IPv6 in the same record sets",
        replace(ROLL, fleets=("api", "web")),
        [RECORD, *(replace(each, owner=replace(OWNER, fleet="api"), id="z/2") for each in (RECORD, RECORD6))],
        [SEEN],
        ANSWERS6,
        {},
    ),
    (
        "at another place",
        ROLL,
        [replace(RECORD, key=RecordKey("blog.scalability.expert", "A"))],
        [SEEN],
        ANSWERS,
        {"missing": 1},
    ),
    (
        "foreign at another place",
        ROLL,
        [RECORD, DnsRecord(key=RecordKey("blog.scalability.expert", "A"), value="192.0.2.1", owner=None)],
        [SEEN],
        ANSWERS,
        {},
    ),
]


@pytest.mark.parametrize(
    ("roll", "records", "seen", "answers", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_the_difference_is(
    roll: DesiredState,
    records: list[DnsRecord],
    seen: list[Instance],
    answers: dict[RecordKey, frozenset[str] | None],
    expected: dict[str, int],
) -> None:
    found = find_drift(roll, records, seen, answers)
    counts = {kind.value: len(found.of(kind)) for kind in Kind if found.of(kind)}
    assert counts == expected, found
    assert len(found.leftovers) == len(found.of(Kind.LEFTOVER))
    assert found.clean == (not expected)


def test_lines_name_the_machine_its_instance_and_the_place() -> None:
    (text,) = lines(find_drift(ROLL, [], [SEEN], ANSWERS), Kind.MISSING)
    assert text == f"web-0 ({ONE.instance}) is not at {PLACE}"


def test_a_machine_without_an_ipv6_address_is_reported_as_such() -> None:
    (text,) = lines(find_drift(BOTH, [RECORD], [SEEN], ANSWERS6), Kind.MISSING)
    assert text == f"web-0 ({ONE.instance}) is not at {PLACE6}: its cloud lists no IPv6 address of it"
    (text,) = lines(find_drift(BOTH, [RECORD], [SEEN6], ANSWERS6), Kind.MISSING)
    assert text == f"web-0 ({ONE.instance}) is not at {PLACE6}"


def test_a_stale_record_is_reported_beside_what_the_machine_has_of_its_family() -> None:
    drift = find_drift(BOTH, [RECORD, replace(RECORD6, value="2001:db8:1::99")], [SEEN6], {PLACE6: None})
    (text,) = lines(drift, Kind.STALE)
    assert text.endswith("with 2001:db8:1::99, it has 2001:db8:1::10")


def test_an_empty_difference_is_complete_and_clean() -> None:
    assert Drift().complete and Drift().clean
    assert not Drift(findings=(Finding(kind=Kind.MISSING),)).complete
    foreign = Drift(findings=(Finding(kind=Kind.FOREIGN),))
    assert foreign.complete and not foreign.clean


STALE = replace(RECORD, value="198.51.100.99")
THEIRS = replace(RECORD, owner=replace(OWNER, generation="cccccc"))


@pytest.mark.parametrize(("records", "answers", "finding"), [
    ([], ANSWERS, Finding(kind=Kind.MISSING, cause=Cause.NOT_REGISTERED, key=PLACE, member=ONE)),
    ([replace(RECORD, kept=True)], ANSWERS, Finding(kind=Kind.MISSING, cause=Cause.UNHEALTHY, key=PLACE, member=ONE)),
    ([RECORD], {PLACE: frozenset()}, Finding(kind=Kind.MISSING, cause=Cause.NOT_ANSWERED, key=PLACE, member=ONE, values=(RECORD.value,))),
    ([STALE], {PLACE: None}, Finding(
        kind=Kind.STALE, cause=Cause.OTHER_ADDRESS, key=PLACE, member=ONE, values=(STALE.value,), expected=(RECORD.value,)
    )),
    ([RECORD, THEIRS], ANSWERS, Finding(
        kind=Kind.LEFTOVER, key=PLACE, member=replace(ONE, generation="cccccc", stack="local"), values=(RECORD.value,)
    )),
    ([RECORD, DnsRecord(key=PLACE, value="192.0.2.1", owner=None)], ANSWERS, Finding(kind=Kind.FOREIGN, key=PLACE, values=("192.0.2.1",))),
])  # fmt: skip
def test_a_finding_has_its_kind_record_set_machine_and_value(
    records: list[DnsRecord], answers: dict[RecordKey, frozenset[str] | None], finding: Finding
) -> None:
    assert find_drift(ROLL, records, [SEEN], answers).findings == (finding,)


def test_findings_are_sorted_by_kind_machine_and_record_set_whatever_order_they_are_found_in() -> None:
    members = replace(BOTH, members=(TWO, ONE), record_sets=tuple(reversed(BOTH.record_sets)))
    foreign = DnsRecord(key=PLACE, value="192.0.2.1", owner=None)
    found = find_drift(members, [foreign], [SEEN], ANSWERS6).findings
    assert [(each.kind, each.member, each.key) for each in found] == [
        (Kind.MISSING, ONE, PLACE), (Kind.MISSING, ONE, PLACE6), (Kind.MISSING, TWO, PLACE), (Kind.MISSING, TWO, PLACE6),
        (Kind.FOREIGN, None, PLACE),
    ]  # fmt: skip


def test_a_machine_id_that_is_a_prefix_of_another_is_not_taken_for_it() -> None:
    """A cloud's ids may have any length. What was found by a search in the message had both machines wait."""
    short, long = replace(ONE, instance="vm-1"), replace(TWO, instance="vm-11")
    record = replace(RECORD, owner=replace(OWNER, instance="vm-1"))
    found = find_drift(replace(ROLL, members=(short, long)), [record], [replace(SEEN, instance="vm-1")], ANSWERS)
    assert found.waiting == {long}


def test_a_machine_that_only_its_tags_call_ours_is_unproven_and_not_among_those_that_may_be_ended() -> None:
    orphan = replace(SEEN, instance="i-00000000000000009", machine="7")
    drift = find_drift(ROLL, [RECORD], [SEEN, orphan], ANSWERS)
    assert drift.orphans == (orphan,) and with_doubts(drift, {}) == drift
    (finding,) = with_doubts(drift, {orphan.instance: "its role is another"}).findings
    assert (finding.kind, finding.doubt) == (Kind.UNPROVEN, "its role is another")
    assert with_doubts(drift, {orphan.instance: "its role is another"}).orphans == ()
    assert line(finding).startswith(f"{orphan.instance} (running) is tagged web-7, and only its tags say")


def test_a_machine_on_hold_is_named_with_time_and_reason() -> None:
    drift = find_drift(ROLL, [], [ON_HOLD], ANSWERS)
    assert drift.clean and drift.complete
    assert on_hold(drift) == [f"web-0 ({ONE.instance}): on hold since 2026-11-30T19:00:00Z: disk errors"]
    by_hand = replace(SEEN, live={HOLD: "broken\x1b[2J"})
    assert on_hold(find_drift(ROLL, [], [by_hand], ANSWERS)) == [f"web-0 ({ONE.instance}): on hold: broken\\x1b[2J"]
    assert on_hold(find_drift(ROLL, [RECORD], [SEEN], ANSWERS)) == []


def test_a_machine_on_hold_that_has_not_left_is_named_with_its_record() -> None:
    (found,) = find_drift(ROLL, [RECORD], [ON_HOLD], ANSWERS).findings
    assert found.cause is Cause.ON_HOLD
    assert line(found) == f"web-0 ({ONE.instance}) is on hold, and it is still at {PLACE} with 198.51.100.10"
