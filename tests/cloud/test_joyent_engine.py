"""The provider on the real engine: what is in the state, what a preview shows, and what a killed run leaves behind."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.joyent.machine_fields import MARK_TAG
from localcloud.triton import Throttle
from tests.cloud.joyent_stack import SCRIPT, TOKEN, Kill, Stack, make_stack

pytestmark = [pytest.mark.clouds, pytest.mark.engine]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    yield from make_stack(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two machines, by one `up`. The tests that share them run in the order in which they stand."""
    made = make_stack(tmp_path_factory.mktemp("shared"))
    stack = next(made)
    stack.up()
    yield stack
    made.close()


def test_up_twice_changes_nothing_and_a_refresh_costs_few_calls(shared: Stack) -> None:
    assert {each.state for each in shared.machines()} == {"running"}
    shared.wire.requests.clear()
    assert "unchanged" in shared.up()
    assert shared.wire.count("POST .*") == 0
    assert shared.wire.count("GET .*") <= 5


def test_no_secret_and_no_userdata_is_in_the_backend(shared: Stack) -> None:
    shared.up(round="2")
    written = [path.read_bytes() for path in shared.folder.parent.joinpath("backend").rglob("*") if path.is_file()]
    assert written
    assert not [text for text in written if TOKEN.encode() in text or SCRIPT.encode() in text]
    for machine in shared.resources().values():
        assert len(json.dumps([machine["inputs"], machine["outputs"]])) < 4096


def test_drift_shows_in_a_preview_and_is_fixed(shared: Stack) -> None:
    first, second = sorted(shared.machines(), key=lambda each: each.name)
    shared.client.act(first.id, "stop")
    shared.client.merge_metadata(second.id, {"round": "by hand"})
    shared.settled(lambda: shared.client.get_machine(first.id).state == "stopped")
    shown = shared.run("preview", round="2")
    assert "[diff: ~power]" in shown
    assert "[diff: ~metadata]" in shown
    shared.up(round="2")
    assert {each.state for each in shared.machines()} == {"running"}
    assert shared.client.get_machine(second.id).metadata["round"] == "2"


def test_a_machine_that_vanished_is_made_again(shared: Stack) -> None:
    gone = shared.machines()[0]
    shared.client.delete_machine(gone.id)
    shared.settled(lambda: gone.id not in [each.id for each in shared.machines()])
    shared.up(round="2")
    assert len(shared.machines()) == 2


def test_destroy_stops_each_machine_before_it_deletes_it(shared: Stack) -> None:
    shared.wire.requests.clear()
    shared.run("destroy", "--yes", "--skip-preview")
    shared.settled(lambda: not shared.machines())
    assert shared.wire.count("POST /machines/[^/]+") == shared.wire.count("DELETE /machines/[^/]+") == 2


@pytest.mark.prove
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on the PATH")
def test_what_a_guest_and_an_operator_wrote_survives_ten_updates(stack: Stack) -> None:
    stack.up(count=1)
    (machine,) = stack.machines()
    stack.cloud.metadata_put(machine.id, "from-the-guest", "put by mdata-put")
    stack.triton("instance", "tag", "set", "-w", machine.id, "team=ops", "cost=3", "spare=true")
    stack.triton("instance", "metadata", "set", "-w", machine.id, "operator=by hand")
    tags, metadata = (
        {"team": "ops", "cost": 3, "spare": True},
        {"from-the-guest": "put by mdata-put", "operator": "by hand"},
    )
    for at in range(10):
        own = {f"own-{at % 3}": at} if at % 2 else {"role": "db", f"own-{at}": True}
        stack.up(count=1, round=f"round {at}", tags=own)
        shown = stack.triton("instance", "get", "-j", machine.id)
        assert {key: shown["tags"].get(key) for key in tags} == tags
        assert {key: shown["metadata"].get(key) for key in metadata} == metadata
        # Ours are what we declared, and what we declare no longer is gone.
        assert set(shown["tags"]) == {*tags, *own, "index", MARK_TAG}
        assert shown["metadata"]["round"] == f"round {at}"
        assert stack.cloud.metadata_get(machine.id, "from-the-guest") == "put by mdata-put"
    assert stack.preview(count=1, round="round 9", tags=own) == {}
    outputs = stack.resources()["web-0"]["outputs"]
    assert (outputs["foreign_tags"], outputs["foreign_metadata"]) == (sorted(tags), sorted(metadata))


MACHINE = "/machines/[0-9a-f-]{36}"
KILLS: dict[str, tuple[Kill, dict[str, Any]]] = {
    "before the first machine is asked for": (Kill("POST /machines", "before"), {}),
    "after a machine is made, before its id is stored": (Kill("POST /machines", "after"), {}),
    "after the last machine is made": (Kill("POST /machines", "after", nth=2), {}),
    "while it waits for the machines": (Kill("GET /machines", "after", nth=2), {}),
    "while a change is under way": (Kill(f"POST {MACHINE}/metadata", "after"), {"round": "2"}),
    "while a machine is stopped before its deletion": (Kill(f"POST {MACHINE}", "after"), {"count": 1}),
    "after a deletion is accepted": (Kill(f"DELETE {MACHINE}", "after"), {"count": 1}),
}


@pytest.mark.parametrize("where", KILLS)
def test_a_run_killed_at_any_point_is_finished_by_the_next(stack: Stack, where: str) -> None:
    kill, change = KILLS[where]
    if change:
        stack.up()
    stack.up(kill=kill, **change)
    stack.recover()
    stack.up(**change)
    count = change.get("count", 2)
    stack.settled(lambda: len(stack.machines()) == count)
    assert {each.id for each in stack.machines()} == {each["id"] for each in stack.resources().values()}
    assert {each.metadata["round"] for each in stack.machines()} == {change.get("round", "1")}
    assert "unchanged" in stack.up(**change)


@pytest.mark.prove
def test_three_hundred_machines_with_the_throttle_on(tmp_path: Path) -> None:
    """30 s of provisioning and CloudAPI's own limits; nothing is booted. Prints the time and the calls spent."""
    made = make_stack(tmp_path, provisioning=30, throttle=Throttle(), public_range="198.18.0.0/15")
    stack = next(made)
    began = time.monotonic()
    stack.up(count=300, timeout=300)
    took = time.monotonic() - began
    assert len(stack.resources("Ready")["ready"]["outputs"]["addresses"]) == 300
    print(f"300 machines in {took:.0f} s with {len(stack.wire.requests)} calls")
    stack.wire.requests.clear()
    assert "302 unchanged" in stack.up(count=300, timeout=300)
    print(f"a second up with {len(stack.wire.requests)} calls")
    made.close()
    assert took < 90
    assert len(stack.wire.requests) <= 5
