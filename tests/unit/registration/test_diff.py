"""components.registration.diff: one table. Each row without a difference has a twin in which one field differs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from components.model import DesiredState, DnsRecord, ExpectedRecordSet, Instance, Member, RecordKey
from components.registration.diff import Drift, difference
from rollcall.ownership import Owner

PLACE = RecordKey("www.scalability.expert", "A")
ONE = Member(fleet="web", machine="0", generation="aaaaaa", instance="i-00000000000000001")
TWO = Member(fleet="web", machine="1", generation="bbbbbb", instance="i-00000000000000002")
OWNER = Owner("local", "web", "0", "aaaaaa", ONE.instance)
ENTRY = DnsRecord(key=PLACE, value="198.51.100.10", owner=OWNER, id="z/1")
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
ENTRY6 = replace(ENTRY, key=PLACE6, value="2001:db8:1::10", id="z/6")
SEEN6 = replace(SEEN, addresses=("198.51.100.10", "2001:db8:1::10"))
BOTH = replace(ROLL, record_sets=(*ROLL.record_sets, ExpectedRecordSet(key=PLACE6)))
ANSWERS6 = {**ANSWERS, PLACE6: frozenset({"2001:db8:1::10"})}

# name, roll, entries, machines, answers, what must be found
ROWS: list[
    tuple[str, DesiredState, list[DnsRecord], list[Instance], dict[RecordKey, frozenset[str] | None], dict[str, int]]
] = [
    ("in step", ROLL, [ENTRY], [SEEN], ANSWERS, {}),
    ("kept although unhealthy", ROLL, [replace(ENTRY, kept=True)], [SEEN], ANSWERS, {"missing": 1}),
    (
        "another machine is kept",
        ROLL,
        [ENTRY, replace(ENTRY, owner=replace(OWNER, stack="s"), kept=True)],
        [SEEN],
        ANSWERS,
        {"foreign": 1},
    ),
    ("not registered", ROLL, [], [SEEN], ANSWERS, {"missing": 1}),
    (
        "registered by an older generation",
        ROLL,
        [replace(ENTRY, owner=replace(OWNER, generation="cccccc"))],
        [SEEN],
        ANSWERS,
        {"missing": 1, "left_over": 1},
    ),
    (
        "registered by another instance",
        ROLL,
        [replace(ENTRY, owner=replace(OWNER, instance="i-00000000000000009"))],
        [SEEN],
        ANSWERS,
        {"missing": 1, "left_over": 1},
    ),
    ("in the API but not answered", ROLL, [ENTRY], [SEEN], {PLACE: frozenset()}, {"missing": 1}),
    ("proxied: the answers say nothing", ROLL, [ENTRY], [SEEN], {PLACE: None}, {}),
    (
        "another address than the machine's",
        ROLL,
        [replace(ENTRY, value="198.51.100.99")],
        [SEEN],
        {PLACE: frozenset({"198.51.100.99"})},
        {"stale": 1},
    ),
    ("its address is not known yet", ROLL, [ENTRY], [replace(SEEN, addresses=())], ANSWERS, {}),
    (
        "an old address beside the new one",
        ROLL,
        [ENTRY, replace(ENTRY, value="198.51.100.99", id="z/2")],
        [SEEN],
        ANSWERS,
        {"stale": 1},
    ),
    ("two expected, one there", replace(ROLL, members=(ONE, TWO)), [ENTRY], [SEEN], ANSWERS, {"missing": 1}),
    (
        "left over: expected no more",
        replace(ROLL, members=()),
        [ENTRY],
        [SEEN],
        ANSWERS,
        {"left_over": 1, "orphaned": 1},
    ),
    ("leaving: neither missing nor left over", replace(ROLL, members=(), leaving=(ONE,)), [ENTRY], [SEEN], ANSWERS, {}),
    ("leaving and gone", replace(ROLL, members=(), leaving=(ONE,)), [], [], ANSWERS, {}),
    (
        "another fleet's entry is not ours",
        replace(ROLL, fleets=("web", "api")),
        [ENTRY, replace(ENTRY, owner=replace(OWNER, fleet="api"), id="z/2")],
        [SEEN],
        ANSWERS,
        {},
    ),
    (
        "a fleet that is gone: its entries are left over",
        ROLL,
        [ENTRY, replace(ENTRY, owner=replace(OWNER, fleet="api"), id="z/2")],
        [SEEN],
        ANSWERS,
        {"left_over": 1},
    ),
    (
        "an entry of another fleet of the stack",
        replace(ROLL, fleets=("api", "web")),
        [ENTRY, replace(ENTRY, owner=replace(OWNER, fleet="api"), id="z/2")],
        [SEEN],
        ANSWERS,
        {},
    ),
    (
        "a machine that is in no state",
        ROLL,
        [ENTRY],
        [SEEN, replace(SEEN, instance="i-00000000000000009", machine="7")],
        ANSWERS,
        {"orphaned": 1},
    ),
    (
        "a machine that is in no state and is going already",
        ROLL,
        [ENTRY],
        [SEEN, replace(SEEN, instance="i-00000000000000009", machine="7", state="shutting-down")],
        ANSWERS,
        {},
    ),
    (
        "a machine of another fleet",
        replace(ROLL, fleets=("api", "web")),
        [ENTRY],
        [SEEN, replace(SEEN, instance="i-00000000000000009", fleet="api")],
        ANSWERS,
        {},
    ),
    (
        "a machine of a fleet that is gone, at the one that keeps",
        ROLL,
        [ENTRY],
        [SEEN, replace(SEEN, instance="i-00000000000000009", fleet="api")],
        ANSWERS,
        {"orphaned": 1},
    ),
    (
        "a machine of a fleet that is gone, at one that does not keep",
        replace(ROLL, keeper=False),
        [ENTRY],
        [SEEN, replace(SEEN, instance="i-00000000000000009", fleet="api")],
        ANSWERS,
        {},
    ),
    (
        "foreign: no owner",
        ROLL,
        [ENTRY, DnsRecord(key=PLACE, value="192.0.2.1", owner=None, id="z/9")],
        [SEEN],
        ANSWERS,
        {"foreign": 1},
    ),
    (
        "foreign: another stack",
        ROLL,
        [ENTRY, replace(ENTRY, owner=replace(OWNER, stack="prod"), id="z/9")],
        [SEEN],
        ANSWERS,
        {"foreign": 1},
    ),
    (
        "foreign and acknowledged",
        replace(ROLL, acknowledged=("192.0.2.1 (no owner) at " + str(PLACE),)),
        [ENTRY, DnsRecord(key=PLACE, value="192.0.2.1", owner=None, id="z/9")],
        [SEEN],
        ANSWERS,
        {},
    ),
    ("both families stand", BOTH, [ENTRY, ENTRY6], [SEEN6], ANSWERS6, {}),
    ("of both IPv6 is missing", BOTH, [ENTRY], [SEEN6], ANSWERS6, {"missing": 1}),
    ("of both IPv4 is missing", BOTH, [ENTRY6], [SEEN6], ANSWERS6, {"missing": 1}),
    ("both are missing", BOTH, [], [SEEN6], ANSWERS6, {"missing": 2}),
    ("both, and the machine has no IPv6 yet", BOTH, [ENTRY], [SEEN], ANSWERS6, {"missing": 1}),
    ("without IPv6 a machine may have an address of it", ROLL, [ENTRY], [SEEN6], ANSWERS, {}),
    (
        "IPv6 in the API but not answered",
        BOTH,
        [ENTRY, ENTRY6],
        [SEEN6],
        {**ANSWERS6, PLACE6: frozenset()},
        {"missing": 1},
    ),
    ("proxied, both", BOTH, [ENTRY, ENTRY6], [SEEN6], {PLACE: None, PLACE6: None}, {}),
    (
        "another IPv6 address than the machine's",
        BOTH,
        [ENTRY, replace(ENTRY6, value="2001:db8:1::99")],
        [SEEN6],
        {**ANSWERS6, PLACE6: frozenset({"2001:db8:1::99"})},
        {"stale": 1},
    ),
    ("IPv6 that the machine has no more", BOTH, [ENTRY, ENTRY6], [SEEN], ANSWERS6, {"stale": 1}),
    (
        "left over of both families",
        BOTH,
        [
            ENTRY,
            ENTRY6,
            *(replace(each, owner=replace(OWNER, generation="cccccc"), id="z/7") for each in (ENTRY, ENTRY6)),
        ],
        [SEEN6],
        ANSWERS6,
        {"left_over": 2},
    ),
    (
        "foreign, IPv6",
        BOTH,
        [ENTRY, ENTRY6, DnsRecord(key=PLACE6, value="2001:db8::99", owner=None, id="z/9")],
        [SEEN6],
        ANSWERS6,
        {"foreign": 1},
    ),
    (
        "foreign, IPv6, where only IPv4 is ours",
        ROLL,
        [ENTRY, DnsRecord(key=PLACE6, value="2001:db8::99", owner=None, id="z/9")],
        [SEEN],
        ANSWERS,
        {},
    ),
    (
        "another fleet's IPv6 in the same record sets",
        replace(ROLL, fleets=("api", "web")),
        [ENTRY, *(replace(each, owner=replace(OWNER, fleet="api"), id="z/2") for each in (ENTRY, ENTRY6))],
        [SEEN],
        ANSWERS6,
        {},
    ),
    (
        "at another place",
        ROLL,
        [replace(ENTRY, key=RecordKey("blog.scalability.expert", "A"))],
        [SEEN],
        ANSWERS,
        {"missing": 1},
    ),
    (
        "foreign at another place",
        ROLL,
        [ENTRY, DnsRecord(key=RecordKey("blog.scalability.expert", "A"), value="192.0.2.1", owner=None)],
        [SEEN],
        ANSWERS,
        {},
    ),
]


@pytest.mark.parametrize(
    ("roll", "entries", "seen", "answers", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_the_difference_is(
    roll: DesiredState,
    entries: list[DnsRecord],
    seen: list[Instance],
    answers: dict[RecordKey, frozenset[str] | None],
    expected: dict[str, int],
) -> None:
    found = difference(roll, entries, seen, answers)
    counts = {
        key: len(getattr(found, key))
        for key in ("missing", "stale", "left_over", "foreign", "orphaned")
        if getattr(found, key)
    }
    assert counts == expected, found
    assert len(found.stray) == len(found.left_over)
    assert found.clean == (not expected)


def test_lines_name_the_machine_its_instance_and_the_place() -> None:
    (line,) = difference(ROLL, [], [SEEN], ANSWERS).missing
    assert "web-0" in line and ONE.instance in line and str(PLACE) in line


def test_a_machine_that_has_no_ipv6_address_is_said_to_have_none() -> None:
    (line,) = difference(BOTH, [ENTRY], [SEEN], ANSWERS6).missing
    assert line == f"web-0 ({ONE.instance}) is not at {PLACE6}: its cloud lists no IPv6 address of it"
    (line,) = difference(BOTH, [ENTRY], [SEEN6], ANSWERS6).missing
    assert line == f"web-0 ({ONE.instance}) is not at {PLACE6}"


def test_a_stale_entry_is_told_beside_what_the_machine_has_of_its_family() -> None:
    (line,) = difference(BOTH, [ENTRY, replace(ENTRY6, value="2001:db8:1::99")], [SEEN6], {PLACE6: None}).stale
    assert line.endswith("with 2001:db8:1::99, it has 2001:db8:1::10")


def test_an_empty_difference_is_complete_and_clean() -> None:
    assert Drift().complete and Drift().clean
    assert not Drift(missing=("x",)).complete
    assert Drift(foreign=("x",)).complete and not Drift(foreign=("x",)).clean
