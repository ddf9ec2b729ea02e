"""components.stackfile: a key that is written twice, of which YAML takes the last one and says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.stackfile import duplicates, faults

FLEETS = """\
config:
  aws:region: us-west-2
  rollcall:site: { zone: scalability.expert, ttl: 60 }
  rollcall:fleets:
    web: { cloud: aws, count: 2 }
"""


@pytest.mark.parametrize(
    ("text", "key", "count", "lines"),
    [
        (f"{FLEETS}    web: {{ cloud: joyent, count: 3 }}\n", "rollcall:fleets.web", 2, "5, 6"),
        (f"{FLEETS}  aws:region: eu-west-1\n", "aws:region", 2, "2, 6"),
        (f"{FLEETS}  rollcall:fleets: {{}}\n", "rollcall:fleets", 2, "4, 6"),
        (FLEETS.replace("ttl: 60", "ttl: 60, ttl: 120, ttl: 1"), "rollcall:site.ttl", 3, "3, 3, 3"),
        (FLEETS.replace("count: 2", "ssh: { from: [a], from: [b] }"), "rollcall:fleets.web.ssh.from", 2, "5, 5"),
        (FLEETS.replace("count: 2", "x: [{ a: 1 }, { b: 1, b: 2 }]"), "rollcall:fleets.web.x[1].b", 2, "5, 5"),
        (FLEETS.replace("count: 2", '"cloud": joyent'), "rollcall:fleets.web.cloud", 2, "5, 5"),
        (f"{FLEETS}config: {{}}\n", "config", 2, "1, 6"),
    ],
)
def test_a_key_that_is_written_twice_is_named_with_its_lines(text: str, key: str, count: int, lines: str) -> None:
    assert duplicates(text, "Pulumi.prod.yaml") == [
        f"{key}: is written {count} times in Pulumi.prod.yaml (lines {lines}), and the last one counts. Keep one."
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "text",
        FLEETS,
        FLEETS.replace("web:", "web: &a").replace("count", "'<<': {}, <<: {}, count"),
        "a: &b {}\nc: *b\n",
    ],
)
def test_what_is_written_once_is_no_fault(text: str) -> None:
    assert duplicates(text, "Pulumi.prod.yaml") == []


def test_the_projects_file_and_the_stacks_are_read(tmp_path: Path) -> None:
    assert faults(tmp_path, "prod") == []
    (tmp_path / "Pulumi.yaml").write_text("name: rollcall\nname: other\n")
    (tmp_path / "Pulumi.prod.yaml").write_text(f"{FLEETS}  aws:region: eu-west-1\n")
    (tmp_path / "Pulumi.other.yaml").write_text(f"{FLEETS}  rollcall:site: {{}}\n")
    found = faults(tmp_path, "prod")
    assert [each.partition(": ")[0] for each in found] == ["name", "aws:region"]
    (tmp_path / "Pulumi.yaml").write_text("name: rollcall\nstackConfigDir: stacks\n")
    (tmp_path / "stacks").mkdir()
    assert faults(tmp_path, "prod") == []
    (tmp_path / "stacks" / "Pulumi.prod.yaml").write_text(f"{FLEETS}  aws:region: eu-west-1\n")
    assert len(faults(tmp_path, "prod")) == 1


@pytest.mark.parametrize("stack", ["local", "prod", "staging"])
def test_the_stacks_of_this_project_have_none(stack: str) -> None:
    assert faults(Path(__file__).resolve().parents[2], stack) == []
