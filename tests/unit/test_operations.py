"""docs/operations.md has a line of permissions for everything of AWS's that the program asks for, and for nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from components.preflight.aws_permissions import ROWS, actions_in

ROOT = Path(__file__).parents[2]


def test_every_type_and_function_of_aws_has_its_permissions() -> None:
    listed = yaml.safe_load((ROOT / "docs/inputs.yaml").read_text())
    used = {name for group in ("resources", "functions") for name in listed[group] if name.startswith("aws:")}
    documented = set(
        re.findall(r"^\| `(aws:[^`]+)` \| .*`[a-z0-9]+:[A-Z]\w+`", (ROOT / "docs/operations.md").read_text(), re.M)
    )
    assert len(used) > 10
    assert documented == used


def test_every_call_of_aws_has_its_action() -> None:
    document = (ROOT / "docs/operations.md").read_text()
    listed = yaml.safe_load((ROOT / "docs/inputs.yaml").read_text())["calls"]
    used = [each.split(" ") for each in listed if not each.startswith(("cloudflare ", "cloudapi ", "sts "))]
    assert len(used) > 10
    assert [f"{service} {call}" for service, call in used if not re.search(rf"\b{call}\b", document)] == []


def test_the_table_of_permissions_is_what_doctor_simulates() -> None:
    document = (ROOT / "docs/operations.md").read_text()
    part = document[document.index("\n### AWS\n") :].partition("\n## ")[0]
    listed: dict[str, tuple[str, ...]] = {}
    for label, text in re.findall(r"^\| (?!for \|)([^|]+) \| ([^|]+) \|$", part, re.M):
        words = re.findall(r"`((?:[a-z0-9]+:)?[A-Z]\w+)`", text)
        if not words:
            # `those of roll calls and status`
            continue
        listed[re.split(r" \(|;|,(?= in the store)", label.replace("`", ""))[0]] = actions_in(" ".join(words))
    assert listed == {row: actions_in(words) for row, words in ROWS.items()}
