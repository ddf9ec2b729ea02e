"""tests.groups: the order in which the tests begin names what exists."""

from __future__ import annotations

import pytest

from localcloud.runtime.prepare import ROOT
from tests.groups import LONGEST, SHARED, group_of


@pytest.mark.parametrize("name", [*LONGEST, *SHARED])
def test_each_name_is_a_file_or_a_shared_stack(name: str) -> None:
    assert name in SHARED.values() or (ROOT / name).is_file()
    assert group_of(name) == SHARED.get(name, name)


def test_no_group_is_named_twice_and_all_shared_stacks_are_named() -> None:
    assert len({*LONGEST}) == len(LONGEST) and {*SHARED.values()} <= {*LONGEST}
