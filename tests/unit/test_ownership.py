"""rollcall.ownership: what is written is read back, and nothing else is taken for ours."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.ownership import LONGEST_TEXT, Owner, OwnershipError

OWNER = Owner("local", "web-aws", "0", "ab12cd", "i-0123456789abcdef0")

instances = st.one_of(
    st.from_regex(r"i-[0-9a-f]{17}", fullmatch=True),
    st.uuids().map(str),
)
owners = st.builds(
    Owner,
    stack=st.from_regex(r"[A-Za-z0-9_.-]{1,12}", fullmatch=True),
    fleet=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True),
    machine=st.from_regex(r"[0-9]{1,4}", fullmatch=True),
    generation=st.from_regex(r"[0-9a-f]{6}", fullmatch=True),
    instance=instances,
)


@given(owners)
def test_what_is_written_is_read_back(owner: Owner) -> None:
    assert Owner.parse(str(owner)) == owner
    assert len(str(owner)) <= LONGEST_TEXT


@given(st.text(max_size=120))
def test_any_other_text_has_no_owner(text: str) -> None:
    found = Owner.parse(text)
    assert found is None or str(found) == text


@given(owners, st.integers(0, 99), st.characters())
def test_one_changed_character_names_another_owner_or_none(owner: Owner, at: int, char: str) -> None:
    text = str(owner)
    changed = text[: at % len(text)] + char + text[at % len(text) + 1 :]
    assert (Owner.parse(changed) == owner) == (changed == text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rollcall/1",
        "rollcall/2 local web 0 ab12cd i-0123456789abcdef0",
        "x" + str(OWNER),
        str(OWNER) + " ",
        str(OWNER) + " more",
        str(OWNER).replace(" ", "  "),
        str(OWNER).upper(),
    ],
)
def test_near_misses_have_no_owner(text: str) -> None:
    assert Owner.parse(text) is None


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("stack", "a b"),
        ("stack", ""),
        ("fleet", "Web"),
        ("machine", "-1"),
        ("generation", "ab12c"),
        ("generation", "AB12CD"),
        ("instance", "I-123"),
    ],
)
def test_a_part_that_would_not_be_read_back_is_refused(part: str, value: str) -> None:
    with pytest.raises(OwnershipError, match=part):
        replace(OWNER, **{part: value})


def test_a_text_that_is_too_long_for_a_comment_is_refused() -> None:
    with pytest.raises(OwnershipError, match="100 characters"):
        Owner("s" * 40, "f" * 20, "0", "ab12cd", str(uuid.uuid4()))
