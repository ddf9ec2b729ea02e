"""localcloud.runtime.updates: of the engine's events a progress, each message once and each error whole; of a diff what changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localcloud.runtime.updates import Events, Update, changes

STACK = "urn:pulumi:local::rollcall::"
COMPONENTS = ("rollcall:index:Ec2Fleet", "pulumi:pulumi:Stack")


def step(
    kind: str, op: str, name: str, planning: bool = False, type: str = "aws:ec2/instance:Instance"
) -> dict[str, Any]:
    state: dict[str, Any] = {"type": type, **({} if type in COMPONENTS else {"custom": True})}
    metadata: dict[str, Any] = {"op": op, "urn": f"{STACK}rollcall:index:Ec2Fleet${type}::{name}", "type": type}
    metadata |= {"old": state if op.startswith("delete") else None, "new": None if op.startswith("delete") else state}
    return {kind: {"metadata": metadata, **({"planning": True} if planning else {})}}


def planned(op: str, *names: str, **lines_of: Any) -> list[dict[str, Any]]:
    return [
        step(kind, op, name, True, **lines_of) for name in names for kind in ("resourcePreEvent", "resOutputsEvent")
    ]


def begun(op: str, *names: str, **lines_of: Any) -> list[dict[str, Any]]:
    return [step("resourcePreEvent", op, name, **lines_of) for name in names]


def ended(op: str, *names: str, **lines_of: Any) -> list[dict[str, Any]]:
    return [step("resOutputsEvent", op, name, **lines_of) for name in names]


def failed(op: str, name: str) -> list[dict[str, Any]]:
    return [step("resOpFailedEvent", op, name)]


def summary(preview: bool = False, **counts: int) -> list[dict[str, Any]]:
    return [{"summaryEvent": {"isPreview": preview, "resourceChanges": counts}}]


def diagnostic(text: str, severity: str = "info", name: str = "", **more: Any) -> list[dict[str, Any]]:
    urn = {"urn": f"{STACK}aws:ec2/instance:Instance::{name}"} if name else {}
    return [{"diagnosticEvent": {"message": text, "severity": severity, "color": "never", **urn, **more}}]


def lines_of(update: Update, *events: list[dict[str, Any]]) -> list[str]:
    return [line for each in events for event in each for line in update.add(event)]


class TestHeadline:
    def test_it_counts_what_is_found_then_what_is_made_of_it(self) -> None:
        update = Update()
        lines_of(update, planned("create", "a", "b"))
        assert update.headline() == "finding out what changes: 2 so far"
        lines_of(update, planned("create", "c"), summary(preview=True, create=3), begun("create", "a", "b"))
        assert update.headline() == "creating 0 of 3: a (Instance), b (Instance)"
        lines_of(update, ended("create", "a"))
        assert update.headline() == "creating 1 of 3: b (Instance)"
        lines_of(update, ended("create", "b"), begun("create", "c"), ended("create", "c"))
        assert update.headline() == "creating 3 of 3"

    def test_of_many_under_way_the_oldest_are_named(self) -> None:
        update = Update()
        lines_of(update, planned("delete", *"abcdef"), begun("delete", *"abcde"))
        assert update.headline() == "deleting 0 of 6: a (Instance), b (Instance), c (Instance) and 2 more"

    def test_several_operations_are_changes_and_a_replacement_is_its_two_halves(self) -> None:
        update = Update()
        lines_of(
            update,
            planned("create-replacement", "a"),
            planned("replace", "a"),
            planned("delete-replaced", "a"),
            begun("create-replacement", "a"),
        )
        assert update.headline() == "replacing 0 of 2: a (Instance)"
        lines_of(update, planned("update", "b"))
        assert update.headline() == "changing 0 of 3: a (Instance)"

    def test_reading_what_is_there_is_counted_against_what_the_preview_read(self) -> None:
        update = Update()
        lines_of(update, planned("refresh", "a", "b", "c"))
        assert update.headline() == "reading resources: 3"
        lines_of(
            update, planned("same", "a"), summary(preview=True, same=3), begun("refresh", "a"), ended("refresh", "a")
        )
        assert update.headline() == "reading resources: 1 of 3"

    def test_a_component_is_there_as_soon_as_it_is_known(self) -> None:
        update = Update()
        fleet: dict[str, Any] = {"type": "rollcall:index:Ec2Fleet"}
        lines_of(update, planned("create", "web", **fleet), planned("create", "a"), begun("create", "web", **fleet))
        assert update.headline() == "creating 1 of 2"

    @pytest.mark.parametrize("name", ["default", "default_7_51_1"])
    @pytest.mark.parametrize("package", ["aws", "pulumi-python"])
    def test_the_engines_own_providers_do_not_count(self, package: str, name: str) -> None:
        update = Update()
        mine: dict[str, Any] = {"type": f"pulumi:providers:{package}"}
        lines_of(update, planned("create", name, **mine), planned("create", "eu-west-1", **mine))
        assert update.headline() == "finding out what changes: 1 so far"

    def test_what_failed_is_counted_apart(self) -> None:
        update = Update()
        lines_of(update, planned("create", "a", "b"), begun("create", "a", "b"), failed("create", "a"))
        assert update.headline() == "creating 0 of 2, 1 failed: b (Instance)"


class TestMessages:
    def test_each_message_is_shown_once_in_preview_and_update(self) -> None:
        update = Update()
        one, two = "web: 0 of 2 answer; waiting for web-0\n\n", "web: 1 of 2 answer; waiting for web-1\n\n"
        lines = lines_of(
            update,
            diagnostic(one),
            diagnostic(one),
            summary(preview=True),
            diagnostic(two),
            diagnostic(one),
            diagnostic(two),
        )
        assert lines == [f"    {one.strip()}", f"    {two.strip()}"]
        assert not update.failed

    def test_an_error_is_whole_with_the_name_of_its_resource(self) -> None:
        update = Update()
        text = "web: the roll call was not answered, and nothing changed for 300 s:\n  - web-0 is not at www A\n  Look into its log.\n"
        lines = lines_of(
            update,
            diagnostic(text, "error", "web", prefix="error: "),
            diagnostic(text, "error", "web", prefix="error: "),
        )
        assert lines == [
            "    error: web: web: the roll call was not answered, and nothing changed for 300 s:",
            "        - web-0 is not at www A",
            "        Look into its log.",
        ]
        assert update.failed

    def test_two_resources_with_the_same_error_are_both_named(self) -> None:
        lines = lines_of(Update(), diagnostic("no quota", "error", "a"), diagnostic("no quota", "error", "b"))
        assert lines == ["    error: a: no quota", "    error: b: no quota"]

    def test_a_warning_says_that_it_is_one_and_fails_nothing(self) -> None:
        update = Update()
        assert lines_of(update, diagnostic("\x1b[33mold\x1b[0m <{%fg 3%}>thing<{%reset%}>", "warning")) == [
            "    warning: old thing"
        ]
        assert not update.failed

    @pytest.mark.parametrize(
        "event",
        [diagnostic("registering", "debug"), diagnostic("1 s", ephemeral=True), diagnostic("\n")],
        ids=["debug", "passing", "empty"],
    )
    def test_noise_is_not_shown(self, event: list[dict[str, Any]]) -> None:
        assert lines_of(Update(), event) == []


class TestCounts:
    def test_they_are_the_engines_of_the_update_and_not_of_its_preview(self) -> None:
        update = Update()
        lines_of(update, summary(preview=True, create=3))
        assert update.counts() == "3 to create"
        lines_of(update, summary(same=40, create=2, replace=1, update=5, delete=4, read=7))
        assert update.counts() == "2 created, 4 deleted, 1 replaced, 5 updated, 40 unchanged"

    def test_without_any_it_is_nothing(self) -> None:
        assert Update().counts() == "nothing"


class TestEvents:
    def written(self, path: Path, *events: str) -> None:
        """As the engine does: the file is made again, then lines are added."""
        with path.open("w") as file:
            for each in events:
                file.write(f"{each}\n")

    def test_the_updates_events_follow_the_previews_and_no_file_is_left(self, tmp_path: Path) -> None:
        path = tmp_path / "events"
        path.write_text('{"old": 1}\n')
        events = Events(path)
        assert events.new() == []
        with path.open("w") as preview:
            preview.write('{"a": 1}\n{"a"')
            preview.flush()
            assert events.new() == [{"a": 1}]
            assert not path.exists()
            preview.write(": 2}\n")
            preview.flush()
            # What was written of the preview since comes before the update's.
            self.written(path, '{"b": 1}')
            assert events.new() == [{"a": 2}, {"b": 1}]
        assert events.new() == [] and list(tmp_path.iterdir()) == []
        events.close()

    def test_all_that_was_written_at_once_is_read_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "events"
        events = Events(path)
        self.written(path, *(json.dumps({"at": each, "text": "x\u2028y" * 100}) for each in range(1000)))
        assert [each["at"] for each in events.new()] == list(range(1000))
        events.close()

    def test_a_line_that_is_not_an_event_is_skipped(self, tmp_path: Path) -> None:
        path = tmp_path / "events"
        events = Events(path)
        self.written(path, "", "no json", "[1]", '{"a": 1}')
        (only,) = events.new()
        assert lines_of(Update(), [dict(only)], [{"resourcePreEvent": {}}, {"diagnosticEvent": {}}]) == []
        events.close()


DIFF = """\
Previewing update (local):
~ pulumi:pulumi:Stack: (refresh)
    [urn=urn:pulumi:local::rollcall::pulumi:pulumi:Stack::rollcall-local]
        ~ pulumi-python:dynamic/joyent:Machine: (refresh)
            [id=420b3a09-0ae7-4f6c-9208-2baa76d4cea3]
            [urn=urn:pulumi:local::rollcall::rollcall:index:JoyentFleet$pulumi-python:dynamic/joyent:Machine::web-joyent-0]
            --outputs:--
          ~ power: "running" => "stopped"
  pulumi:pulumi:Stack: (same)
    [urn=urn:pulumi:local::rollcall::pulumi:pulumi:Stack::rollcall-local]
info: web: 1 of 2 machines
        + aws:ec2/instance:Instance: (create)
            [urn=urn:pulumi:local::rollcall::rollcall:index:Ec2Fleet$aws:ec2/instance:Instance::web-aws-2]
            ami         : "ami-1"
            policy: (json) {
                Statement: []
            }
        ~ pulumi-python:dynamic/rollcall:RollCall: (update)
            [id=web]
            [urn=urn:pulumi:local::rollcall::rollcall:index:Ec2Fleet$pulumi-python:dynamic/rollcall:RollCall::web-aws]
            [provider=urn:pulumi:local::rollcall::pulumi:providers:pulumi-python::default::7e]
            fleet: "web-aws"
          ~ missing: [
          -     [0]: "web-aws-1 is not at www.scalability.expert A"
            ]
          ~ places: [
              ~ [0]: {
                        kind: "cloudflare"
                      ~ ttl : 60 => 90
                    }
            ]
    - aws:ec2/instance:Instance: (delete)
        [id=i-1]
        [urn=urn:pulumi:local::rollcall::rollcall:index:Ec2Fleet$aws:ec2/instance:Instance::web-aws-9]
        ami: "ami-1"
    +-aws:ec2/instance:Instance: (replace)
        [id=i-2]
        [urn=urn:pulumi:local::rollcall::rollcall:index:Ec2Fleet$aws:ec2/instance:Instance::web-aws-0]
        ami: "ami-1"
      ~ instanceType: "t3.micro" => "t3.small"
    --outputs:--
  ~ fleets: {
      ~ api: {
        }
    }
Resources:
    + 1 to create
    ~ 17 to update
    62 unchanged
"""


class TestChanges:
    def test_what_changes_is_shown_with_its_properties_and_what_is_made_or_goes_in_a_line(self) -> None:
        assert changes(DIFF) == [
            "    ~  refresh  web-joyent-0 (pulumi-python:dynamic/joyent:Machine)",
            '        ~ power: "running" => "stopped"',
            "    +  create   web-aws-2 (aws:ec2/instance:Instance)",
            "    ~  update   web-aws (pulumi-python:dynamic/rollcall:RollCall)",
            "        ~ missing: [",
            '        -     [0]: "web-aws-1 is not at www.scalability.expert A"',
            "        ~ places: [",
            "            ~ [0]: {",
            "                    ~ ttl : 60 => 90",
            "    -  delete   web-aws-9 (aws:ec2/instance:Instance)",
            "    +- replace  web-aws-0 (aws:ec2/instance:Instance)",
            '        ~ instanceType: "t3.micro" => "t3.small"',
        ]

    @pytest.mark.parametrize("text", ["", "Previewing update (local):\n", "error: no stack\n"])
    def test_of_nothing_there_is_nothing(self, text: str) -> None:
        assert changes(text) == []
