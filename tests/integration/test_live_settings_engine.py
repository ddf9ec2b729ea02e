"""Live settings are in no preview: the real engine, the project's own Pulumi.yaml, and machines of two regions that boot nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from components.compute.ec2 import Ec2View
from localcloud.runtime.prepare import ROOT
from rollcall.in_place import LIVE
from tests.cloud.aws_cloud import point_shell_at
from tests.integration.engine_harness import Trial, on_trial

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
PROGRAM = """
import json
import os
import pulumi
import pulumi_aws as aws
from components.resources import ec2_lookups
from components.config.models import FleetSettings

options = json.loads(os.environ["TRIAL"])
far = FleetSettings(cloud="aws", size="t3.micro", image="debian-12", joins=(), region="us-west-2")
for name, provider in {"home": None, **ec2_lookups.providers([far])}.items():
    aws.ec2.Instance(
        name,
        ami=aws.ssm.get_parameter_output(name="/aws/service/debian/release/12/latest/amd64").value,
        instance_type="t3.micro",
        tags={"rollcall-stack": "local", "rollcall-weight": options.get("weight", "1")},
        opts=pulumi.ResourceOptions(provider=provider),
    )
"""


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with on_trial(tmp_path, PROGRAM) as made:
        project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
        ours = {key: value for key, value in project["config"].items() if key.startswith("aws:")}
        (tmp_path / "program/Pulumi.yaml").write_text(
            yaml.safe_dump({"name": "trial", "runtime": "python", "options": {"refresh": "always"}, "config": ours})
        )
        yield made


def test_live_settings_do_not_count_as_a_difference_and_survive_an_up(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.run("config", "set", "--path", "aws:defaultTags.tags.team", "web")
    trial.up()
    point_shell_at(trial.aws, monkeypatch)
    view = Ec2View("us-west-2")
    live = {f"{each}www" if each.endswith("-") else each: "a" for each in LIVE}
    machines = [each.instance for each in view.machines("local")]
    assert len(machines) == 2
    view.set_settings("local", {each: dict(live) for each in machines})
    trial.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")
    trial.run("preview", "--expect-no-changes")
    # Another tag of the program changes in place, and leaves the settings.
    trial.up(weight="2")
    assert [each.live for each in view.machines("local")] == [live, live]
    assert len(view.machines("local")) == 2
    tags = {tag["Key"]: tag["Value"] for tag in trial.aws.describe(machines[0])["Tags"]}
    assert (tags["rollcall-weight"], tags["team"]) == ("2", "web")
    trial.run("preview", "--expect-no-changes", weight="2")
    view.set_settings("local", {each: dict.fromkeys(live) for each in machines})
    assert [each.live for each in view.machines("local")] == [{}, {}]
    trial.run("preview", "--expect-no-changes", weight="2")
    # The engine takes only the value of a stack that has its own. So the preflight demands our prefixes in it.
    trial.run("config", "set", "--path", "aws:ignoreTags.keys[0]", "cost")
    for at, prefix in enumerate(LIVE):
        trial.run("config", "set", "--path", f"aws:ignoreTags.keyPrefixes[{at}]", prefix)
    trial.up(weight="2")
    view.set_settings("local", {each: dict(live) for each in machines})
    trial.run("preview", "--expect-no-changes", weight="2")
