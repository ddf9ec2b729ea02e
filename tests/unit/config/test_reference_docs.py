"""components.config.reference_docs: the manual's tables and the editors' JSON Schema are what the models say."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
import yaml
from pydantic.alias_generators import to_snake as snake

from components.config import reference_docs
from components.config.models import KEYS, SECRET_KEYS, Settings
from components.config.reader import plain, read_whole, rollcall_keys
from components.config.reference_docs import DOCUMENT, ROOT, SCHEMA, document, lacking, main, rows
from components.preflight.aws_tags import IGNORE_KEY
from rollcall.in_place import LIVE

STACKS = ("local", "prod", "staging")
LINE = "# yaml-language-server: $schema=docs/configuration.schema.json"


def test_the_files_are_what_the_models_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("sites", "| `zone` | needed | a text |"),
        ("sites", "| `host` | `www` | a text |"),
        ("sites", "| `proxied` | `false` | `true`, `false` |"),
        ("fleets", "| `count` | `1` | 0 to 1000 |"),
        ("fleets", "| `timeout` | `300` | 10 to 3600 seconds |"),
        ("fleets", "| `region` | none | a text |"),
        ("fleets", "| `imageRefresh` | empty | a text |"),
        ("fleets", "| `cloud` | needed | `aws`, `joyent` |"),
        ("services", "| `check` | `tcp:PORT` | a text |"),
        ("serviceDiscovery", "| `services` | needed | a mapping |"),
        ("ssh", "| `from` | needed on EC2 | a list |"),
    ],
)
def test_a_row_has_the_default_and_what_the_key_takes(table: str, row: str) -> None:
    assert any(each.startswith(row) for each in rows(rollcall_keys().schema, table))


def test_a_field_that_the_program_fills_in_is_not_a_key() -> None:
    schema = rollcall_keys().schema
    assert set(schema["properties"]) == {*KEYS, *SECRET_KEYS}
    assert "name" not in schema["$defs"]["FleetSettings"]["properties"]


def test_what_the_models_no_longer_have_goes_and_a_missing_part_is_named() -> None:
    schema = rollcall_keys().schema
    made = document("<!-- keys: joyent -->\n| key |\n|---|\n| `token` | gone |\n\nAfter.\n", schema)
    assert "token" not in made and made.endswith("|\n\nAfter.\n") and made.count("\n| `") == 3
    missing = lacking(made, schema)
    assert "sites: no such table" in missing and "rollcall:safeDeletes: has no section. Write one." in missing
    assert not any(each.startswith("joyent") for each in missing)


def test_files_that_are_not_current_fail_the_check_until_they_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    for name in (DOCUMENT, SCHEMA):
        shutil.copy(ROOT / name, tmp_path / name)
    text = (tmp_path / DOCUMENT).read_text()
    (tmp_path / DOCUMENT).write_text(text.replace("| `1` | 0 to 1000 |", "| `2` | 0 to 9 |"))
    (tmp_path / SCHEMA).unlink()
    assert main([], tmp_path) == 1
    assert capsys.readouterr().err.count("Run `make reference`.") == 2
    assert main(["--write"], tmp_path) == 0
    assert (tmp_path / DOCUMENT).read_text() == text and main([], tmp_path) == 0


def judge() -> Any:
    return fastjsonschema.compile(json.loads((ROOT / SCHEMA).read_text()))


@pytest.mark.parametrize("stack", STACKS)
def test_an_editor_knows_the_sample_stacks(stack: str) -> None:
    text = (ROOT / f"Pulumi.{stack}.yaml").read_text()
    assert text.splitlines()[0] == LINE
    judge()(yaml.safe_load(text))


FLEET = {"cloud": "aws", "count": 2, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}
GOOD: dict[str, Any] = {
    "rollcall:sites": {"www": {"zone": "scalability.expert", "maxRecords": 5000}},
    "rollcall:fleets": {"web": FLEET},
}


@pytest.mark.parametrize(
    ("path", "wrong", "right"),
    [
        ("rollcall:drainDelai", 5, None),
        ("rollcall:drainDelay", -1, 5),
        ("rollcall:drainDelay", "five", "5"),
        ("rollcall:safeDeletes", "no", "false"),
        ("rollcall:sites/www/zone", "scalability", "0" * 32),
        ("rollcall:sites/www/prxied", True, None),
        ("rollcall:sites/www/proxied", "yes", True),
        ("rollcall:fleets/web/cloud", "gcp", "joyent"),
        ("rollcall:fleets/web/count", 1001, 1000),
        ("rollcall:fleets/web/joins", [], ["site/www"]),
        ("rollcall:fleets/web/ssh", {"user": "-o"}, {"user": "admin"}),
        ("rollcall:machineToken", "plain", {"secure": "v1:abc"}),
        ("rollcall:fleets/web/name", "web", None),
    ],
)
def test_an_editor_refuses_what_the_program_refuses(path: str, wrong: object, right: object) -> None:
    """As far as a single key shows it."""
    for value, refused in ((wrong, True), (right, False)):
        config = copy.deepcopy(GOOD)
        *above, last = path.split("/")
        place = config
        for name in above:
            place = place[name]
        if value is not None:
            place[last] = value
        if refused:
            with pytest.raises(fastjsonschema.JsonSchemaValueException):
                judge()({"config": config})
        else:
            judge()({"config": config})
        if path != "rollcall:machineToken" and not isinstance(config.get(path), str):
            ours = {key.removeprefix("rollcall:"): each for key, each in config.items()}
            assert bool(read_whole("local", ours)[1]) == (refused or path.endswith("/ssh"))


def test_what_is_not_rollcalls_is_let_through() -> None:
    judge()(
        {"encryptionsalt": "v1:abc", "config": {**GOOD, "aws:region": "us-west-2", "aws:defaultTags": {"tags": {}}}}
    )


def test_every_description_is_text_that_a_table_can_hold() -> None:
    for table in reference_docs._TABLES:
        for row in rows(rollcall_keys().schema, table):
            assert row.count(" | ") == 3 and "\n" not in row[:-1], row


def test_the_project_declares_the_keys_with_the_models_defaults() -> None:
    """The engine fills in what a stack leaves out, so another default there would be another program."""
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    whole = Settings()
    assert tuple(declared.pop(IGNORE_KEY)["value"]["keyPrefixes"]) == LIVE
    assert list(declared) == [f"rollcall:{name}" for name in KEYS]
    for name in KEYS:
        default = declared[f"rollcall:{name}"]["default"]
        assert plain(getattr(whole, snake(name))) == default or (
            default == {} and name in ("sites", "serviceDiscovery", "fleets", "workloads", "mirrors", "joyent")
        )
