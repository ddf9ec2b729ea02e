"""Updates of some resources only: which machines a roll call misses."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from components.resources.fleets.targets import left_out


def machine(number: int, instance: Any = "i-1", generation: Any = "ab12cd") -> dict[str, Any]:
    return {"machine": str(number), "generation": generation, "instance": instance}


UNKNOWN = pulumi.UNKNOWN
ONE, TWO = machine(0), machine(1, "i-2")
SUCCESSOR = machine(0, "i-9", "ef34ab")


@pytest.mark.parametrize(
    ("wanted", "counted", "dry_run", "expected"),
    [
        pytest.param([ONE, TWO], [ONE, TWO], False, [], id="nothing changes"),
        pytest.param([ONE, TWO], [ONE, TWO], True, [], id="a preview in which nothing changes"),
        pytest.param([SUCCESSOR, TWO], [ONE, TWO], False, ["0"], id="a machine was replaced"),
        pytest.param([machine(0, "i-9"), TWO], [ONE, TWO], False, ["0"], id="a machine was replaced with its generation"),
        pytest.param([machine(0, UNKNOWN, UNKNOWN), TWO], [ONE, TWO], True, ["0"], id="a preview replaces a machine"),
        pytest.param([machine(0, UNKNOWN), TWO], [ONE, TWO], True, ["0"], id="a preview replaces a machine alone"),
        pytest.param([machine(0, None, None)], [ONE], True, ["0"], id="a preview without a value"),
        pytest.param([ONE, TWO], [ONE], False, ["1"], id="a machine is new"),
        pytest.param([ONE, machine(1, UNKNOWN)], [ONE], True, [], id="a preview cannot know whether a new machine is left out"),
        pytest.param([ONE, machine(1, UNKNOWN)], [ONE], False, [], id="a new machine was left out too"),
        pytest.param([ONE], [ONE, TWO], False, [], id="a machine is not wanted any more"),
        pytest.param([machine(0, UNKNOWN, UNKNOWN)], UNKNOWN, True, [], id="the preview of an update"),
        pytest.param([ONE], UNKNOWN, False, ["0"], id="the roll call is new and left out"),
        pytest.param([machine(0, UNKNOWN)], None, False, [], id="everything is new and left out"),
        pytest.param([], [], False, [], id="no machine"),
    ],
)  # fmt: skip
def test_a_machine_that_a_run_makes_must_be_in_the_roll_call(
    wanted: list[Any], counted: Any, dry_run: bool, expected: list[str]
) -> None:
    assert left_out(wanted, counted, dry_run=dry_run) == expected
