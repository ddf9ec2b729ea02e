"""What parses foreign input, for a moment each: `make bench-fuzz` does it for a minute."""

from __future__ import annotations

import os

import pytest

from tests.fuzzing import TARGETS, fuzz

SEED = int(os.environ.get("FUZZ_SEED", "0"))
# Known to the bench's table; remove one here when it is fixed.
OPEN: dict[str, str] = {}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(each, marks=pytest.mark.xfail(reason=OPEN[each], strict=True)) if each in OPEN else each
        for each in TARGETS
    ],
)
def test_nothing_comes_out_that_should_not(name: str) -> None:
    # A busy computer takes longer for as many runs.
    assert not fuzz(TARGETS[name], 1.0, SEED, least=100).findings
