"""Every key of a fleet under the real engine: a change, its preview, `up`, what the cloud then has, and a second preview without changes.

The table is tests/integration/fleet_keys.py. Nothing boots, so the fleet joins nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic.alias_generators import to_camel

from components.config.models import FleetSettings
from localcloud.aws.catalogue import REGIONS
from tests.integration.engine_harness import Trial, on_trial
from tests.integration.fleet_keys import EC2, FLEET, Row

PROGRAM = """
import functools
import json
import os
from dataclasses import replace
import boto3
import pulumi
from components.config.reader import read
from components.preflight import architectures, existing_resources, vpcs
from components.preflight.quotas import check_ec2
from components.preflight.state import prior_state
from components.resources.deployment import Deployment
from components.resources.tags import deployment, tag_everything
from components.workloads.definitions import packed
from pathlib import Path

options = json.loads(os.environ["TRIAL"])
tag_everything()
texts = {"sites": {"www": {"zone": "scalability.expert"}}, "drainDelay": 0, **options["config"]}
settings = read("trial.trial", texts)
settings, faults = packed(settings, Path("."))
settings = architectures.found(settings, lambda region: boto3.client("ec2", region_name=region or "us-west-2"))
# It joins nothing: no machine boots here.
settings = replace(settings, sites=(), fleets=tuple(replace(each, joins=()) for each in settings.fleets))
for fleet in settings.fleets:
    where = fleet.region or "us-west-2"
    client = functools.partial(boto3.client, region_name=where)
    chosen, unusable = vpcs.resolved(settings, [fleet], where, client)
    settings = replace(settings, vpcs={**settings.vpcs, **chosen})
    found = unusable + check_ec2(
        [fleet], deployment(), where, client,
        elsewhere=[*chosen], in_vpcs=functools.partial(vpcs.check, settings, [fleet], where, client),
    )
    faults += found.faults
    for note in found.notes:
        pulumi.info(note)
if faults:
    raise pulumi.RunError("\\n".join(faults))
machines = [f"{each.name}-{index}" for each in settings.fleets if each.zones for index in range(each.count)]
Deployment(settings, existing_resources.in_zones(machines, prior_state()), None)
"""
BASE = {"cloud": "aws", "count": 1, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"], "runs": ["site"]}
# Keys without a row: `cloud` and `joins` are other resources, and those of a release have their own tests (test_roll_out_engine.py).
ELSEWHERE = {"cloud", "joins", "runs", "release", "batch", "minHealthyTime", "deadline", "canary"}
# Keys of Triton fleets.
TRITON = {"adopt", "affinity", "brand", "deletionProtection", "disks", "networks"}
# The part of the ordinary suite. The others take one to three minutes.
SHORT = "system"


def instances(trial: Trial) -> list[Mapping[str, Any]]:
    found = []
    for region in REGIONS:
        for page in trial.aws.client("ec2", region=region).get_paginator("describe_instances").paginate():
            found += [each for one in page["Reservations"] for each in one["Instances"]]
    return [each for each in found if each["State"]["Name"] in ("pending", "running")]


def test_each_key_of_an_ec2_fleet_has_a_row() -> None:
    keys = {to_camel(each.name) for each in fields(FleetSettings)} - {
        "name",
        "digests",
        "architecture",
        "secured",
        "dynamic",
    }
    rows = {key for part in EC2.values() for row in part for key in row.change} | {"image"}
    assert rows == keys - ELSEWHERE - TRITON


@pytest.mark.clouds
@pytest.mark.engine
@pytest.mark.parametrize("part", [pytest.param(each, marks=[] if each == SHORT else pytest.mark.prove) for each in EC2])
def test_each_key_reaches_the_machines_and_a_second_preview_has_nothing_to_do(tmp_path: Path, part: str) -> None:
    with on_trial(tmp_path, PROGRAM) as trial:
        run(trial, EC2[part])


def run(trial: Trial, rows: Sequence[Row]) -> None:
    fleet, more = dict(BASE), dict[str, Any]()
    trial.up(config={"fleets": {FLEET: fleet}})
    for row in rows:
        row.before(trial)
        before = {each["InstanceId"] for each in instances(trial)}
        change = {key: value(trial) if callable(value) else value for key, value in row.change.items()}
        fleet = {key: value for key, value in {**fleet, **change}.items() if value is not None}
        more.update(row.more)
        config = {**more, "fleets": {FLEET: fleet}}
        printed = trial.run("up", "--yes", config=config)
        after = instances(trial)
        kept = before & {each["InstanceId"] for each in after}
        assert (kept == set()) is row.replaces and len(after) == fleet["count"], (row.name, printed)
        # A replacement was in the preview, which `up` prints first. The check of another region knows only the machines there.
        announced = row.replaces and "region" not in row.change
        assert bool(re.search(r"machines are replaced, successors first", printed)) is announced, (row.name, printed)
        assert [row.read(trial, each) for each in after] == [row.expected] * len(after), (row.name, printed)
        shown = trial.run("preview", "--diff", "--expect-no-changes", config=config)
        assert "unchanged" in shown, (row.name, shown)
    trial.run("destroy", "--yes", "--skip-preview", config=config)
    assert instances(trial) == []
