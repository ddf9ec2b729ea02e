"""rollcall.plan: one table. Each row in which nothing changes has a twin in which one field differs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.cloudflare import Record
from rollcall.ownership import Owner
from rollcall.plan import Plan, joining, leaving
from tests.unit.agent.fakes import ADDRESS, HOST, OTHER_ADDRESS, OWNER

ZONE = "a" * 32
WANTED = Record(name=HOST, type="A", content=ADDRESS, ttl=120, zone=ZONE)
MINE = replace(WANTED, comment=str(OWNER), id="1")
PROXIED = replace(MINE, ttl=1, proxied=True)
SUCCESSOR = replace(OWNER, generation="ffffff", instance="i-00000000000000009")
DEAD = replace(MINE, comment=str(replace(OWNER, machine="7", generation="dddddd", instance="i-dddddddd")))
ELSEWHERE = replace(MINE, content=OTHER_ADDRESS, id="2")
PLAIN = replace(MINE, content=OTHER_ADDRESS, comment="the old load balancer", id="9")

# name, present, owner, wanted, (deletes, updates, creates, refused)
JOINS: list[tuple[str, list[Record], Owner, Record, tuple[list[str], list[str], int, str]]] = [
    ("it is registered", [MINE], OWNER, WANTED, ([], [], 0, "")),
    ("nothing there", [], OWNER, WANTED, ([], [], 1, "")),
    ("the address differs", [ELSEWHERE], OWNER, WANTED, ([], ["2"], 0, "")),
    ("the TTL differs", [replace(MINE, ttl=60)], OWNER, WANTED, ([], ["1"], 0, "")),
    ("the proxying differs", [replace(MINE, proxied=True, ttl=1)], OWNER, WANTED, ([], ["1"], 0, "")),
    ("our generation differs", [MINE], replace(OWNER, generation="eeeeee"), WANTED, ([], ["1"], 0, "")),
    ("our instance differs", [MINE], replace(OWNER, instance="i-eeeeeeee"), WANTED, ([], ["1"], 0, "")),
    ("a dead machine had our address", [DEAD], OWNER, WANTED, ([], ["1"], 0, "")),
    ("it is registered at another name", [replace(MINE, name=f"blog.{HOST}")], OWNER, WANTED, ([], [], 1, "")),
    (
        "it is registered, proxied: the TTL is automatic",
        [PROXIED],
        OWNER,
        replace(WANTED, proxied=True),
        ([], [], 0, ""),
    ),
    ("proxied is asked for", [MINE], OWNER, replace(WANTED, proxied=True), ([], ["1"], 0, "")),
    ("it is registered beside a foreign address", [MINE, PLAIN], OWNER, WANTED, ([], [], 0, "")),
    (
        "it is registered beside a foreign record with our address",
        [MINE, replace(PLAIN, content=ADDRESS)],
        OWNER,
        WANTED,
        ([], [], 0, "foreign-record"),
    ),
    (
        "a foreign record has our address",
        [replace(PLAIN, content=ADDRESS)],
        OWNER,
        WANTED,
        ([], [], 0, "foreign-record"),
    ),
    (
        "another stack has our address",
        [replace(MINE, comment=str(replace(OWNER, stack="prod")))],
        OWNER,
        WANTED,
        ([], [], 0, "foreign-record"),
    ),
    (
        "an owner that is nearly ours has our address",
        [replace(MINE, comment=f"x{OWNER}")],
        OWNER,
        WANTED,
        ([], [], 0, "foreign-record"),
    ),
    (
        "a CNAME is at the name",
        [replace(PLAIN, type="CNAME", content="lb.example.com")],
        OWNER,
        WANTED,
        ([], [], 0, "cname-in-the-way"),
    ),
    (
        "a CNAME is at another name",
        [MINE, replace(PLAIN, type="CNAME", content="lb.example.com", name=f"blog.{HOST}")],
        OWNER,
        WANTED,
        ([], [], 0, ""),
    ),
    ("a TXT is at the name", [MINE, replace(PLAIN, type="TXT")], OWNER, WANTED, ([], [], 0, "")),
    ("ours is registered twice", [MINE, ELSEWHERE], OWNER, WANTED, (["2"], [], 0, "")),
    ("ours elsewhere, a dead machine's here", [ELSEWHERE, DEAD], OWNER, WANTED, (["2"], ["1"], 0, "")),
    (
        "it is registered beside another machine of the stack",
        [MINE, replace(ELSEWHERE, comment=str(SUCCESSOR))],
        OWNER,
        WANTED,
        ([], [], 0, ""),
    ),
    (
        "it is registered, IPv6",
        [replace(MINE, type="AAAA", content="2001:db8::1")],
        OWNER,
        replace(WANTED, type="AAAA", content="2001:db8::1"),
        ([], [], 0, ""),
    ),
    (
        "ours is of the other family: the old address is not ours any more",
        [MINE],
        OWNER,
        replace(WANTED, type="AAAA", content="2001:db8::1"),
        (["1"], [], 1, ""),
    ),
]


IPV6 = replace(WANTED, type="AAAA", content="2001:db8::1")
MINE6 = replace(IPV6, comment=str(OWNER), id="6")
DEAD6 = replace(MINE6, comment=DEAD.comment)
PLAIN6 = replace(MINE6, comment="the old load balancer", id="9")

# name, present, ids of what goes, of what is changed, types of what comes, what is refused: with one address of each family
PAIRS: list[tuple[str, list[Record], list[str], list[str], list[str], str]] = [
    ("both stand", [MINE, MINE6], [], [], [], ""),
    ("nothing there", [], [], [], ["A", "AAAA"], ""),
    ("only IPv4 is registered", [MINE], [], [], ["AAAA"], ""),
    ("only IPv6 is registered", [MINE6], [], [], ["A"], ""),
    ("the IPv4 address differs", [ELSEWHERE, MINE6], [], ["2"], [], ""),
    ("the IPv6 address differs", [MINE, replace(MINE6, content="2001:db8::2")], [], ["6"], [], ""),
    ("the TTL of both differs", [replace(MINE, ttl=60), replace(MINE6, ttl=60)], [], ["1", "6"], [], ""),
    ("a second one of IPv6", [MINE, MINE6, replace(MINE6, content="2001:db8::2", id="7")], ["7"], [], [], ""),
    ("a dead machine had our IPv4 address", [DEAD, MINE6], [], ["1"], [], ""),
    ("a dead machine had both", [DEAD, DEAD6], [], ["1", "6"], [], ""),
    ("a foreign record beside", [MINE, MINE6, replace(PLAIN6, content="2001:db8::9")], [], [], [], ""),
    ("a foreign record has our IPv6 address", [MINE, PLAIN6], [], [], [], "foreign-record"),
    ("a foreign record has our IPv4 address", [replace(PLAIN, content=ADDRESS), MINE6], [], [], [], "foreign-record"),
    (
        "a CNAME is at the name",
        [replace(PLAIN, type="CNAME", content="lb.example.com")],
        [],
        [],
        [],
        "cname-in-the-way",
    ),
]


@pytest.mark.parametrize(
    ("present", "gone", "changed", "new", "refused"), [r[1:] for r in PAIRS], ids=[r[0] for r in PAIRS]
)
def test_joining_with_both_families(
    present: list[Record], gone: list[str], changed: list[str], new: list[str], refused: str
) -> None:
    found = joining(present, OWNER, WANTED, IPV6)
    assert [each.id for each in found.deletes] == gone and [each.id for each in found.updates] == changed
    assert [each.type for each in found.creates] == new
    assert refused in found.refused and bool(found.refused) == bool(refused)
    for written in (*found.updates, *found.creates):
        assert written.comment == str(OWNER) and written.content == {"A": ADDRESS, "AAAA": IPV6.content}[written.type]


@pytest.mark.parametrize(("present", "owner", "wanted", "expected"), [r[1:] for r in JOINS], ids=[r[0] for r in JOINS])
def test_joining(
    present: list[Record], owner: Owner, wanted: Record, expected: tuple[list[str], list[str], int, str]
) -> None:
    found = joining(present, owner, wanted)
    deletes, updates, creates, refused = expected
    assert [each.id for each in found.deletes] == deletes
    assert [each.id for each in found.updates] == updates
    assert len(found.creates) == creates
    assert refused in found.refused and bool(found.refused) == bool(refused)
    assert found.empty == (not (deletes or updates or creates or refused))
    for written in (*found.updates, *found.creates):
        assert (written.content, written.type, written.comment) == (wanted.content, wanted.type, str(owner))
    assert all(Owner.parse(each.comment) == owner for each in found.deletes)


def test_a_refusal_names_what_is_in_the_way() -> None:
    found = joining([replace(PLAIN, content=ADDRESS)], OWNER, WANTED).refused
    assert HOST in found and ADDRESS in found and "the old load balancer" in found


# name, present, ids that go
LEAVES: list[tuple[str, list[Record], list[str]]] = [
    ("nothing there", [], []),
    ("ours", [MINE], ["1"]),
    ("another generation's", [replace(MINE, comment=str(replace(OWNER, generation="ffffff")))], []),
    ("another instance's", [replace(MINE, comment=str(replace(OWNER, instance="i-ffffffff")))], []),
    ("another machine's", [replace(MINE, comment=str(replace(OWNER, machine="1")))], []),
    ("another fleet's", [replace(MINE, comment=str(replace(OWNER, fleet="api")))], []),
    ("another stack's", [replace(MINE, comment=str(replace(OWNER, stack="prod")))], []),
    ("without an owner, with our address", [replace(MINE, comment="")], []),
    ("ours with an address that we have no more", [ELSEWHERE], ["2"]),
    ("ours, IPv6", [replace(MINE, type="AAAA", content="2001:db8::1")], ["1"]),
    ("ours of both families", [MINE, replace(MINE, type="AAAA", content="2001:db8::1", id="6")], ["1", "6"]),
    ("ours beside a successor's and a foreign one", [PLAIN, replace(DEAD, id="3"), ELSEWHERE, MINE], ["1", "2"]),
]


@pytest.mark.parametrize(("present", "gone"), [r[1:] for r in LEAVES], ids=[r[0] for r in LEAVES])
def test_leaving(present: list[Record], gone: list[str]) -> None:
    assert leaving(present, OWNER) == Plan(deletes=tuple(each for each in sorted(present) if each.id in gone))


@pytest.mark.parametrize("wrote", [True, False])
@pytest.mark.parametrize(
    ("comment", "of_the_stack"),
    [
        (str(OWNER), True),
        (str(replace(OWNER, machine="1")), True),
        (str(replace(OWNER, stack="prod")), False),
        ("by hand", False),
        ("", False),
    ],
    ids=["its mark", "another machine's mark", "another stack's mark", "another comment", "no comment"],
)
def test_a_record_at_its_address_is_its_own_if_it_wrote_it_or_by_a_mark_of_its_stack(
    comment: str, of_the_stack: bool, wrote: bool
) -> None:
    record, ids, own = replace(MINE, comment=comment), ["1"] if wrote else [], wrote or of_the_stack
    assert leaving([record], OWNER, addresses=[ADDRESS], ids=ids) == Plan(deletes=(record,) if own else ())
    assert bool(joining([record], OWNER, WANTED, ids=ids).refused) is not own


owners = st.sampled_from([OWNER, SUCCESSOR, replace(OWNER, machine="1"), replace(OWNER, stack="prod")])
records = st.builds(
    Record,
    name=st.sampled_from([HOST, f"blog.{HOST}"]),
    type=st.sampled_from(["A", "AAAA", "TXT", "CNAME"]),
    content=st.sampled_from([ADDRESS, OTHER_ADDRESS]),
    ttl=st.sampled_from([1, 60, 120]),
    proxied=st.booleans(),
    comment=st.one_of(st.just(""), st.just("mine, not yours"), owners.map(str)),
    zone=st.just(ZONE),
)
zones = st.lists(records, max_size=6).map(lambda made: [replace(each, id=str(at)) for at, each in enumerate(made)])


@given(zones)
def test_after_a_join_there_is_nothing_to_do_and_what_is_foreign_keeps_every_byte(present: list[Record]) -> None:
    first = joining(present, OWNER, WANTED)
    if first.refused:
        assert not (first.deletes or first.updates or first.creates)
        return
    touched = {each.id for each in (*first.deletes, *first.updates)}
    after = [each for each in present if each.id not in touched]
    after += [*first.updates, *(replace(each, id="new") for each in first.creates)]
    foreign = [each for each in present if (who := Owner.parse(each.comment)) is None or who.stack != OWNER.stack]
    assert all(each in after for each in foreign)
    twins = [each for each in after if each.content == ADDRESS and each.type == "A" and each.name == HOST]
    if len(twins) == 1:
        assert joining(after, OWNER, WANTED).empty


@given(zones)
def test_what_leaves_is_exactly_what_is_ours(present: list[Record]) -> None:
    gone = leaving(present, OWNER).deletes
    assert all((each in gone) == (Owner.parse(each.comment) == OWNER) for each in present)
