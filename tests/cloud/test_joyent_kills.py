"""Killed at any moment: all processes of a run die at once at 50 random moments, and the next `up` finishes what was begun."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.joyent.machine_fields import MARK_TAG
from tests.cloud.joyent_stack import Stack, make_stack

pytestmark = [pytest.mark.clouds, pytest.mark.engine, pytest.mark.prove]

ROUNDS = int(os.environ.get("ROLLCALL_KILLS", "50"))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    # Long enough that machines are provisioning, stopping and going when the kill comes.
    yield from make_stack(tmp_path, provisioning=1.5, job_delay=0.3)


def target(chance: random.Random, at: int, before: dict[str, Any]) -> dict[str, Any]:
    """What is wanted next: more or fewer machines, other metadata, or machines with new names, and never the same again."""
    wanted = {"count": chance.choice((1, 2, 4, 6)), "round": f"{at}", "generation": before["generation"]}
    if chance.random() < 0.3:
        wanted["generation"] = f"{at:06x}"
    return wanted


def test_fifty_kills_at_random_moments_leave_no_orphan_and_no_double(stack: Stack) -> None:
    seed = int(os.environ.get("ROLLCALL_SEED") or time.time())
    chance = random.Random(seed)  # noqa: S311 - moments, not secrets
    wanted: dict[str, Any] = {"count": 2, "round": "0", "generation": "aaaaaa"}
    began = time.monotonic()
    stack.up(**wanted)
    usual = time.monotonic() - began
    killed = orphans = doubles = 0
    for at in range(1, ROUNDS + 1):
        wanted = target(chance, at, wanted)
        moment = chance.uniform(0.5, usual + 1)
        printed = stack.up(kill_after=moment, **wanted)
        killed += "Duration:" not in printed
        stack.recover()
        stack.up(**wanted)
        ids = {each["id"] for each in stack.resources().values()}
        left = alien(stack, ids)
        twice = [mark for mark, count in Counter(each.tags[MARK_TAG] for each in stack.machines()).items() if count > 1]
        orphans, doubles = orphans + len(left), doubles + len(twice)
        assert (left, twice) == ([], []), f"seed {seed}, round {at}, killed after {moment:.2f} s of {wanted}"
        assert {each.id for each in stack.machines()} == ids
        assert len(ids) == wanted["count"]
        assert {each.metadata["round"] for each in stack.machines()} == {wanted["round"]}
    print(
        f"\n{killed} of {ROUNDS} runs killed before they were done (seed {seed}): {orphans} orphans, {doubles} doubles"
    )
    assert killed >= ROUNDS // 2


def alien(stack: Stack, ids: set[str], patience: float = 10.0) -> list[str]:
    """Machines that no state knows; those whose deletion is accepted are given the time to go."""
    end = time.monotonic() + patience
    while (found := {each.id for each in stack.machines()} - ids) and time.monotonic() < end:
        time.sleep(0.3)
    return sorted(found)
