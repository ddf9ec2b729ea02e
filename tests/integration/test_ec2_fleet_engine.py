"""An EC2 fleet under the real engine: which image its machines have, where they stand, and what replaces them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rollcall.settings import FLEET, GENERATION, MACHINE, STACK
from tests.cloud.aws_cloud import debian, image, until
from tests.integration.engine_harness import Trial, on_trial

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
DEBIAN = "/aws/service/debian/release/12/latest/amd64"
UBUNTU = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
PROGRAM = """
import functools
import json
import os
import boto3
import pulumi
import pulumi_aws as aws
from components.resources import ec2_lookups, userdata
from components.resources.fleets.base import FleetArgs
from components.resources.fleets.ec2 import Ec2Fleet
from components.resources.fleets.roll_calls import call_rolls
from components.resources.tags import deployment, tag_everything
from components.preflight.quotas import check_ec2
from components.config.models import FleetSettings

options = {"count": 2, "image": "debian-12", "image_refresh": "", "sources": "one", "size": "t3.micro", "region": None}
options |= json.loads(os.environ["TRIAL"])
sources = options.pop("sources")
userdata.sources_hash = lambda: sources
tag_everything()
role = aws.iam.Role("role", assume_role_policy=options["trust"])
profile = aws.iam.InstanceProfile("profile", role=role.name)
kept = {key: options[key] for key in ("count", "image", "image_refresh", "size", "region")}
settings = FleetSettings(name="aws-web", cloud="aws", joins=(), **kept)
where = options["region"] or "us-west-2"
for note in check_ec2([settings], deployment(), where, functools.partial(boto3.client, region_name=where)).notes:
    pulumi.info(note)
abroad = ec2_lookups.providers([settings]).get(options["region"])
opts = pulumi.ResourceOptions(providers=[abroad]) if abroad else None
args = FleetArgs(settings=settings, memberships=[], needs=[profile], profile=profile.name)
call_rolls([Ec2Fleet("aws-web", args, opts)])
"""


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with on_trial(tmp_path, PROGRAM) as made:
        yield made


def machines(trial: Trial, region: str = "us-west-2") -> dict[str, dict[str, Any]]:
    """The instances of a region that run or are stopped, by id."""
    found = trial.aws.client("ec2", region=region).describe_instances()["Reservations"]
    listed = [dict(each) for reservation in found for each in reservation["Instances"]]
    return {each["InstanceId"]: each for each in listed if each["State"]["Name"] not in ("terminated", "shutting-down")}


def images(trial: Trial) -> list[str]:
    return [each["ImageId"] for each in machines(trial).values()]


def publish(trial: Trial, parameter: str, ami: str) -> None:
    """The vendor has a newer build: his public parameter leads to it."""
    trial.aws.aws._moto.ssm._parameters[parameter][-1].value = ami


def tags(found: Any) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in found}


def test_a_fleet_keeps_its_image_until_the_configuration_refreshes_it(trial: Trial) -> None:
    first, newer = debian(trial.aws), image(trial.aws, UBUNTU)
    trial.up()
    before = machines(trial)
    assert images(trial) == [first] * 2

    publish(trial, DEBIAN, newer)
    assert "unchanged" in trial.run("preview", "--expect-no-changes")
    trial.up(count=3)
    assert (set(before) < set(machines(trial)), images(trial)) == (True, [first] * 3)

    # New userdata replaces every machine, with the image that the fleet has.
    given = "web: 2 of 3 machines are replaced, successors first: 5 run for a while"
    assert given in trial.run("preview", sources="two")
    trial.up(sources="two")
    after = machines(trial)
    assert (set(before) & set(after), images(trial)) == (set(), [first] * 2)

    # Writing down what runs already changes nothing; another word renews the image, and all that have it.
    shown = trial.run("preview", "--diff", sources="two", image=first)
    assert "replace" not in shown, shown
    shown = trial.run("preview", "--diff", sources="two", image_refresh="autumn")
    assert "aws-web-image" in shown and shown.count("aws:ec2/instance:Instance: (replace)") == 2, shown
    assert "web: 2 of 2 machines are replaced, successors first: 4 run for a while" in shown
    trial.up(sources="two", image_refresh="autumn")
    assert (set(after) & set(machines(trial)), images(trial)) == (set(), [newer] * 2)
    assert "unchanged" in trial.run("preview", "--expect-no-changes", sources="two", image_refresh="autumn")
    trial.run("destroy", "--yes", "--skip-preview")
    assert machines(trial) == {}


def spread(*zones: str) -> list[dict[str, int]]:
    """Five machines over three zones, as evenly as can be."""
    return [{zone: 1 if zone == single else 2 for zone in zones} for single in zones]


def test_machines_are_set_up_as_a_professional_would(trial: Trial) -> None:
    # us-west-2d has no m5n.
    trial.up(count=5, size="m5n.large")
    found, ec2 = machines(trial), trial.aws.client("ec2")
    zones = [each["Placement"]["AvailabilityZone"] for each in found.values()]
    assert {zone: zones.count(zone) for zone in sorted(zones)} in spread("us-west-2a", "us-west-2b", "us-west-2c")
    for each in found.values():
        options = each["MetadataOptions"]
        assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)
        assert "KeyName" not in each
        (disk,) = each["BlockDeviceMappings"]
        (volume,) = ec2.describe_volumes(VolumeIds=[disk["Ebs"]["VolumeId"]])["Volumes"]
        assert (volume["Encrypted"], volume["VolumeType"]) == (True, "gp3")
        tagged = (tags(volume["Tags"]), tags(each["Tags"]))
        assert [(had["managed-by"], had["rollcall-project"]) for had in tagged] == [("pulumi", "trial")] * 2
        # Another project's stack of the same name is another deployment.
        assert {had[STACK] for had in tagged} == {"trial.trial"}
    (group,) = [each for each in ec2.describe_security_groups()["SecurityGroups"] if each["GroupName"] != "default"]
    assert (tags(group["Tags"])["Name"], group["IpPermissions"]) == ("rollcall-trial.trial-aws-web", [])

    one = next(iter(found))
    ec2.stop_instances(InstanceIds=[one])
    assert until(lambda: machines(trial)[one]["State"]["Name"] == "stopped")
    shown = trial.run("preview", "--diff", count=5, size="m5n.large")
    assert "replace" not in shown, shown


AWAY = "eu-west-1"


def test_a_fleet_moves_to_another_region_with_all_that_is_of_a_region(trial: Trial) -> None:
    trial.up()
    here = machines(trial)
    left_behind = trial.aws.run(
        TagSpecifications=[
            {
                "ResourceType": "instance",
                "Tags": [{"Key": key, "Value": value} for key, value in BEHIND.items()],
            }
        ]
    )
    shown = trial.run("preview", "--diff", region=AWAY)
    assert shown.count("aws:ec2/instance:Instance: (replace)") == 2, shown
    assert "aws:iam" not in shown, shown
    output = trial.up(region=AWAY)
    # The one that was left behind is this fleet's to find, there too. It has its tags and nothing else, so it is the operator's to end.
    assert f"{left_behind[0]} (running) is tagged aws-web-9" in output and "so it is not ended" in output, output
    assert [*machines(trial)] == left_behind
    trial.aws.client("ec2").terminate_instances(InstanceIds=left_behind)
    assert until(lambda: machines(trial) == {})
    there = machines(trial, AWAY)
    assert len(there) == 2 and set(there) & set(here) == set()
    assert {each["ImageId"] for each in there.values()} == {image_in(trial, AWAY)}
    assert {each["Placement"]["AvailabilityZone"][:-1] for each in there.values()} == {AWAY}
    assert groups(trial, "us-west-2") == [] and len(groups(trial, AWAY)) == 1
    assert "unchanged" in trial.run("up", "--yes", "--skip-preview", "--expect-no-changes", region=AWAY)
    assert trial.resources()["aws-web"]["outputs"].get("former") == []
    # Home again, by its name or by none.
    trial.up(region=None)
    assert (len(machines(trial)), machines(trial, AWAY)) == (2, {})
    trial.run("destroy", "--yes", "--skip-preview")
    assert (machines(trial), groups(trial, AWAY), groups(trial, "us-west-2")) == ({}, [], [])


BEHIND = {STACK: "trial.trial", FLEET: "aws-web", MACHINE: "9", GENERATION: "ffffff"}


def image_in(trial: Trial, region: str) -> str:
    return str(trial.aws.client("ssm", region=region).get_parameter(Name=DEBIAN)["Parameter"]["Value"])


def groups(trial: Trial, region: str) -> list[str]:
    found = trial.aws.client("ec2", region=region).describe_security_groups()["SecurityGroups"]
    return [each["GroupName"] for each in found if each["GroupName"] != "default"]
