"""components.config.stack_file: a stack's file as the engine reads it, and keys that are written twice in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.config.stack_file import StackFileError, faults, project_of, read, stacks
from rollcall.yaml_keys import duplicates

FLEETS = """\
config:
  aws:region: us-west-2
  rollcall:sites: { www: { zone: scalability.expert, ttl: 60 } }
  rollcall:fleets:
    web: { cloud: aws, count: 2 }
"""


@pytest.mark.parametrize(
    ("text", "key", "count", "lines"),
    [
        (f"{FLEETS}    web: {{ cloud: joyent, count: 3 }}\n", "rollcall:fleets.web", 2, "5, 6"),
        (f"{FLEETS}  aws:region: eu-west-1\n", "aws:region", 2, "2, 6"),
        (f"{FLEETS}  rollcall:fleets: {{}}\n", "rollcall:fleets", 2, "4, 6"),
        (FLEETS.replace("ttl: 60", "ttl: 60, ttl: 120, ttl: 1"), "rollcall:sites.www.ttl", 3, "3, 3, 3"),
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
def test_a_key_that_is_written_once_is_not_a_fault(text: str) -> None:
    assert duplicates(text, "Pulumi.prod.yaml") == []


def test_the_projects_file_and_the_stacks_are_read(tmp_path: Path) -> None:
    assert faults(tmp_path, "prod") == []
    (tmp_path / "Pulumi.yaml").write_text("name: rollcall\nname: other\n")
    (tmp_path / "Pulumi.prod.yaml").write_text(f"{FLEETS}  aws:region: eu-west-1\n")
    (tmp_path / "Pulumi.other.yaml").write_text(f"{FLEETS}  rollcall:sites: {{ www: {{}} }}\n")
    found = faults(tmp_path, "prod")
    assert [each.partition(": ")[0] for each in found] == ["name", "aws:region"]
    (tmp_path / "Pulumi.yaml").write_text("name: rollcall\nstackConfigDir: stacks\n")
    (tmp_path / "stacks").mkdir()
    assert faults(tmp_path, "prod") == []
    (tmp_path / "stacks" / "Pulumi.prod.yaml").write_text(f"{FLEETS}  aws:region: eu-west-1\n")
    assert len(faults(tmp_path, "prod")) == 1


@pytest.mark.parametrize("stack", ["local", "prod", "staging"])
def test_the_stacks_of_this_project_have_none(stack: str) -> None:
    assert faults(Path(__file__).resolve().parents[3], stack) == []


# As it is written, and the text that `pulumi config --json` of pulumi 3.259 has for it.
WRITTEN = [
    ("5", "5"),
    ('"5"', "5"),
    ("false", "false"),
    ("True", "true"),
    ("TRUE", "true"),
    ("yes", "yes"),
    ("off", "off"),
    ("y", "y"),
    ("1.0", "1"),
    ("1e3", "1000"),
    ("017", "15"),
    ("0x10", "16"),
    ("2026-11-01", "2026-11-01 00:00:00 +0000 UTC"),
    ("12345678901234567890", "12345678901234567890"),
    ('""', ""),
    ("4:20", "4:20"),
    ("[1, 2.50, a]", '[1,2.5,"a"]'),
    ("{ a: yes, b: 0x3C, c: 1_000, d: 017, e: 0o17, f: 0b11 }", '{"a":"yes","b":60,"c":1000,"d":15,"e":15,"f":3}'),
    ("{ a: 1.0, b: 1e3, c: 12e03, d: 1.50, e: .5, f: 1. }", '{"a":1,"b":1000,"c":12000,"d":1.5,"e":0.5,"f":1}'),
    ("{ a: ~, b: null, c: NULL, d: , e: [1, null] }", '{"a":null,"b":null,"c":null,"d":null,"e":[1,null]}'),
    ("{ a: -0, b: +5, c: 0123456789, d: 1__0 }", '{"a":0,"b":5,"c":123456789,"d":10}'),
    ("{ 5: x, true: y }", '{"5":"x","true":"y"}'),
    ("{ a: 2026-11-01, b: !!str 5 }", '{"a":"2026-11-01 00:00:00 +0000 UTC","b":"5"}'),
]


@pytest.mark.parametrize(("written", "text"), WRITTEN, ids=[each for each, _ in WRITTEN])
def test_a_value_is_read_as_the_engine_reads_it(tmp_path: Path, written: str, text: str) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: rollcall\n")
    (tmp_path / "Pulumi.prod.yaml").write_text(f"config:\n  rollcall:x: {written}\n")
    found = read(tmp_path, "prod").texts["rollcall:x"]
    assert (json.loads(found) == json.loads(text)) if text[:1] in "[{" and text else found == text


def test_the_projects_defaults_yield_to_the_stack(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text(
        "name: rollcall\nconfig:\n  rollcall:drainDelay: { type: integer, default: 86400 }\n  aws:region: { value: eu-west-1 }\n"
        "  rollcall:safeDeletes: { type: boolean }\n"
    )
    (tmp_path / "Pulumi.prod.yaml").write_text("config:\n  drainDelay: 5\n")
    (tmp_path / "Pulumi.other.yml").write_text("")
    assert read(tmp_path, "prod").texts == {"rollcall:drainDelay": "5", "aws:region": "eu-west-1"}
    assert read(tmp_path, "other").texts == {"rollcall:drainDelay": "86400", "aws:region": "eu-west-1"}
    assert stacks(tmp_path) == ["other", "prod"]


def test_what_is_encrypted_is_left_out_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: rollcall\n")
    (tmp_path / "Pulumi.prod.yaml").write_text(
        "environment: [shop]\nconfig:\n  rollcall:machineToken: { secure: v1:abc }\n"
        "  rollcall:sites: { www: { zone: { secure: v1:abc }, ttl: 60 } }\n  rollcall:resolvers: [a, { secure: v1:abc }]\n"
    )
    found = read(tmp_path, "prod")
    assert found.secrets == (("rollcall:machineToken",), ("rollcall:sites", "www", "zone"), ("rollcall:resolvers", 1))
    assert found.texts == {"rollcall:sites": '{"www": {"zone": null, "ttl": 60}}', "rollcall:resolvers": '["a", null]'}
    assert found.is_secret("rollcall:sites") and not found.is_secret("rollcall:fleets") and found.is_partial


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("config: [", "is not YAML at line 1"),
        ("config:\n  a: 'b\n", "is not YAML at line"),
        ("- a\n", "is not a mapping"),
        ("config: [a]\n", "config: that of prod is not a mapping"),
        ("config: { a: !!python/object:os.system x }\n", "is not YAML"),
        ("config: { ? [a] : b }\n", "is not YAML"),
        ("config: { a: \x00 }\n", "is not YAML"),
        ("{" * 5_000, "is not YAML"),
    ],
)
def test_a_file_that_is_not_a_configuration_is_named_and_not_quoted(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: rollcall\n")
    (tmp_path / "Pulumi.prod.yaml").write_text(text)
    with pytest.raises(StackFileError, match=message) as refused:
        read(tmp_path, "prod")
    assert "system" not in str(refused.value) and refused.value.__cause__ is None


def test_a_stack_without_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: rollcall\n")
    with pytest.raises(StackFileError, match=r"Pulumi\.prod\.yaml: cannot be read \(No such file"):
        read(tmp_path, "prod")


@pytest.mark.parametrize(
    ("main", "is_named"),
    [
        ("vendor/rollcall", True),
        ("./vendor/rollcall/", True),
        ("vendor/rollcall/__main__.py", True),
        ("vendor", False),
        ("[1]", False),
        ("", False),
    ],
)
def test_the_project_of_a_program_is_the_folder_above_that_names_it_as_main(
    tmp_path: Path, main: str, is_named: bool
) -> None:
    program = tmp_path / "own/vendor/rollcall"
    program.mkdir(parents=True)
    (program / "__main__.py").touch()
    (tmp_path / "own/Pulumi.yaml").write_text(f"name: mine\nmain: {main}\n")
    (program / "Pulumi.yaml").write_text("name: rollcall\n")
    assert project_of(program) == (tmp_path / "own" if is_named else program)
