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
from tests.cloud.joyent_stack import Kill, Stack, make_stack
from tests.cloud.test_joyent_provider import public_key
from tests.cloud.test_joyent_table import PROGRAM as TABLE

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


MACHINE = "/machines/[0-9a-f-]{36}"
BASE = [
    ("Machine", "base", {"machine_name": "base", "package": "g1.nano", "image": "debian-12", "power": "stopped"}),
    ("Vlan", "lan", {"vlan_id": 100, "vlan_name": "lan"}),
]
NET = {
    "subnet": "10.9.0.0/24",
    "provision_start_ip": "10.9.0.10",
    "provision_end_ip": "10.9.0.20",
    "internet_nat": False,
}
THINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    # The arguments of one, the request that asks for it, and where all of its kind are listed.
    "Key": ({"key_name": "laptop", "key": public_key(1)}, "/keys", "/keys"),
    "FirewallRule": ({"rule": "FROM any TO tag role = web ALLOW tcp PORT 80"}, "/fwrules", "/fwrules"),
    "Vlan": ({"vlan_id": 7, "vlan_name": "v"}, "/fabrics/default/vlans", "/fabrics/default/vlans"),
    "FabricNetwork": ({"vlan_id": 100, "network_name": "n", **NET}, "/fabrics/default/vlans/100/networks",
                      "/fabrics/default/vlans/100/networks"),
    "Snapshot": ({"machine": {"id of": "base"}, "snapshot_name": "s"}, f"{MACHINE}/snapshots", "/machines/{base}/snapshots"),
    "Image": ({"machine": {"id of": "base"}, "image_name": "i", "version": "1"}, "/images", "/images"),
}  # fmt: skip


@pytest.fixture
def things(tmp_path: Path) -> Iterator[Stack]:
    yield from make_stack(tmp_path, program=TABLE, job_delay=0.3)


def test_each_other_thing_is_found_again_when_the_run_dies_after_it_was_asked_for(things: Stack) -> None:
    things.up(things=BASE)
    base = things.resources()["base"]["id"]
    for kind, (args, request, listed) in THINGS.items():
        path = listed.replace("{base}", base)
        before = {str(each) for each in names(things, path)}
        wanted = [*BASE, (kind, "it", args)]
        things.up(things=wanted, kill=Kill(f"POST {request}", "after"))
        things.recover()
        things.up(things=wanted)
        made = [each for each in names(things, path) if str(each) not in before]
        assert len(made) == 1, f"{kind}: {made}"
        assert things.preview(things=wanted) == {}, kind
        things.up(things=BASE)
        assert {str(each) for each in names(things, path)} == before, kind
    shown = things.client.get_machine(base)
    assert set(shown.tags) == {MARK_TAG}


def names(stack: Stack, path: str) -> list[Any]:
    words = ("fingerprint", "vlan_id", "id", "name")
    return [
        next(each[word] for word in words if word in each)
        for each in stack.client.get(path)
        if each.get("state") not in ("deleted", "failed")
    ]


def alien(stack: Stack, ids: set[str], patience: float = 10.0) -> list[str]:
    """Machines that no state knows; a machine with an accepted deletion gets the time that it needs."""
    end = time.monotonic() + patience
    while (found := {each.id for each in stack.machines()} - ids) and time.monotonic() < end:
        time.sleep(0.3)
    return sorted(found)
