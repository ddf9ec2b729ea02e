"""The tables of clouds name the same ones, and docs/another-cloud.md shows code that is there and that is deployed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from components.commands.review.findings import MACHINES
from components.compute import registry
from components.compute.registry import cloud_of
from components.config.models import CLOUDS
from components.preflight.checks import FAULTS
from components.resources.fleets.registry import FLEETS
from rollcall import clouds as agent
from tests.integration.test_another_cloud import NAMES, REGISTRY_LINES

ROOT = Path(__file__).parents[2]
CODE = "".join(each.read_text() for each in sorted((ROOT / "tests/integration/shed").glob("*.py")))
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/another-cloud.md").read_text(), re.S)


def test_every_table_names_the_same_clouds() -> None:
    assert tuple(registry.CLOUDS) == tuple(FLEETS) == tuple(FAULTS) == CLOUDS
    assert {each.name for each in agent.CLOUDS} == set(CLOUDS)
    assert {each.lower() for each in MACHINES.values()} == set(CLOUDS)


@pytest.mark.parametrize(
    "instance, cloud",
    [
        ("i-0b9d7c54e1f0a3d28", "aws"),
        ("i-00000001", "aws"),
        ("5c1f7a52-0d6e-4f39-9b1e-7a8d52c0e4f1", "joyent"),
        ("shed-000001", ""),
        ("m1", ""),
    ],
)
def test_an_id_is_of_one_cloud_or_of_none(instance: str, cloud: str) -> None:
    assert cloud_of(instance) == cloud


@pytest.mark.parametrize("block", BLOCKS, ids=lambda each: each.strip().splitlines()[0][:40])
def test_what_the_document_shows_is_there(block: str) -> None:
    lines = [line for added in REGISTRY_LINES.values() for _, line in added]
    assert block in CODE or block.rstrip("\n") in [*lines, NAMES[1], "CLOUDS = (Joyent, Shed, Ec2)"], block


def test_the_document_shows_the_three_classes_and_every_line() -> None:
    shown = "".join(BLOCKS)
    assert re.findall(r"^class (\w+)", shown, re.M) == ["Shed", "ShedView", "ShedFleet"]
    lines = [line for added in REGISTRY_LINES.values() for _, line in added if not line.startswith("from ")] + [
        NAMES[1]
    ]
    assert len(lines) == 3 and [line for line in lines if line not in shown] == []
    assert "CLOUDS = (Joyent, Ec2)" in (ROOT / "userdata/rollcall/clouds.py").read_text()
