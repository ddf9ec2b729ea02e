"""A fleet with `zones` under the real engine: a zone without capacity is passed over and remembered, and other fleets do not wait."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rollcall.settings import FLEET, MACHINE
from tests.integration.engine_harness import Trial, on_trial

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
# In the ordinary suite is only the test without a capacity anywhere. The others run `up` more often, or measure it.
slow = pytest.mark.prove
A, B, C = (f"us-west-2{letter}" for letter in "abc")
PROGRAM = """
import functools
import json
import os
import boto3
import pulumi
import pulumi_aws as aws
from components.config.models import FleetSettings
from components.preflight import existing_resources
from components.preflight.quotas import check_ec2
from components.preflight.state import prior_state
from components.resources import userdata
from components.resources.fleets.base import FleetArgs
from components.resources.fleets.ec2 import Ec2Fleet
from components.resources.fleets.roll_calls import call_rolls
from components.resources.tags import deployment, tag_everything

options = {"count": 3, "zones": ["us-west-2a", "us-west-2b", "us-west-2c"], "placement": None, "sources": "one"}
options |= json.loads(os.environ["TRIAL"])
sources = options["sources"]
userdata.sources_hash = lambda: sources
tag_everything()
role = aws.iam.Role("role", assume_role_policy=options["trust"])
profile = aws.iam.InstanceProfile("profile", role=role.name)
common = {"cloud": "aws", "joins": (), "size": "t3.micro", "image": "debian-12"}
web = FleetSettings(
    name="web", **common, count=options["count"], zones=tuple(options["zones"]), placement=options["placement"]
)
api = FleetSettings(name="api", **common, count=1)
found = check_ec2([web, api], deployment(), "us-west-2", functools.partial(boto3.client, region_name="us-west-2"))
if found.faults:
    raise pulumi.RunError(" ".join(found.faults))
for note in found.notes:
    pulumi.info(note)
where = existing_resources.in_zones([f"web-{index}" for index in range(web.count)], prior_state()).in_zones
made = [
    Ec2Fleet(
        each.name,
        FleetArgs(settings=each, memberships=[], needs=[profile], profile=profile.name, in_zones=where),
    )
    for each in (web, api)
]
call_rolls(made, {"web", "api"})
"""


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with on_trial(tmp_path, PROGRAM) as made:
        yield made


def machines(trial: Trial) -> dict[str, tuple[str, str]]:
    """The instances that run, by name: `web-0` with its zone and its id."""
    found = trial.aws.client("ec2").describe_instances()["Reservations"]
    listed = [dict(each) for reservation in found for each in reservation["Instances"]]
    running = [each for each in listed if each["State"]["Name"] in ("pending", "running")]
    tags = [{tag["Key"]: tag["Value"] for tag in each["Tags"]} for each in running]
    names = [f"{each[FLEET]}-{each[MACHINE]}" for each in tags]
    assert len(names) == len({*names}), names
    return {
        name: (str(each["Placement"]["AvailabilityZone"]), str(each["InstanceId"]))
        for name, each in zip(names, running, strict=True)
    }


def zones(trial: Trial) -> dict[str, str]:
    return {name: zone for name, (zone, _) in sorted(machines(trial).items()) if name.startswith("web")}


def of_api(trial: Trial) -> str:
    return machines(trial)["api-0"][1]


def reservations(trial: Trial) -> Counter[str]:
    found = trial.aws.client("ec2").describe_capacity_reservations()["CapacityReservations"]
    return Counter(each["State"] for each in found)


def unchanged(trial: Trial, **given: Any) -> None:
    assert "unchanged" in trial.run("preview", "--expect-no-changes", **given)


@slow
def test_a_zone_without_capacity_is_passed_over_and_remembered(trial: Trial) -> None:
    # The first `up`, without a shortage: one machine in each zone.
    trial.up()
    assert zones(trial) == {"web-0": A, "web-1": B, "web-2": C}
    assert reservations(trial) == Counter(cancelled=3)
    before, api = machines(trial), of_api(trial)

    # A scale-up. Machine 4 is due in b, and is created in c or a.
    trial.aws.faults.add(f"ec2 capacity={B}")
    output = trial.up(count=6)
    assert f"web-4: there is no capacity for t3.micro in {B} now. It is created in {A}" in output
    assert zones(trial) == {"web-0": A, "web-1": B, "web-2": C, "web-3": A, "web-4": A, "web-5": C}
    assert {name: machines(trial)[name] for name in before} == before

    # A replacement of all. Machine 1 leaves b, which has no capacity for its successor.
    trial.up(count=6, sources="two")
    assert zones(trial) == {"web-0": A, "web-1": C, "web-2": C, "web-3": A, "web-4": A, "web-5": C}
    assert of_api(trial) != api, "the other fleet is replaced too, as its boot script changed"

    # There is capacity again. Nothing moves by itself, and the next machine may be there.
    trial.aws.faults.clear("ec2")
    there = machines(trial)
    unchanged(trial, count=6, sources="two")
    trial.up(count=8, sources="two")
    assert {name: machines(trial)[name] for name in there} == there
    assert zones(trial)["web-7"] == B
    trial.run("destroy", "--yes", "--skip-preview")
    assert (machines(trial), set(reservations(trial))) == ({}, {"cancelled"})


@slow
def test_other_fleets_do_not_wait_for_a_zone_without_capacity(trial: Trial) -> None:
    trial.up(count=1)
    usual = roll_call_began(trial, "usual", count=2)
    trial.aws.faults.add(f"ec2 capacity={C}")
    short = roll_call_began(trial, "short", count=3)
    print(
        f"the roll call of the other fleet began after {usual:.1f} s, with a zone without capacity after {short:.1f} s"
    )
    assert zones(trial) == {"web-0": A, "web-1": B, "web-2": A}
    # EC2's refusal costs one request. The AWS provider itself would repeat the launch for most of an hour.
    assert short < usual + 10


def test_without_capacity_in_any_zone_the_up_fails_at_once_and_a_later_one_succeeds(trial: Trial) -> None:
    trial.up(count=1)
    before = machines(trial)
    for zone in (A, B, C):
        trial.aws.faults.add(f"ec2 capacity={zone}")
    output = trial.run("up", "--yes", "--skip-preview", check=False, count=2)
    fault = (
        f"rollcall:fleets.web.zones: there is no capacity for t3.micro in {B}, {C}, {A} now, so web-1 cannot be created. Run `pulumi up` "
        "again later, add a zone, or choose another size."
    )
    assert fault in " ".join(output.split()), output
    assert machines(trial) == before
    trial.aws.faults.clear("ec2")
    trial.up(count=2)
    assert zones(trial) == {"web-0": A, "web-1": B}
    unchanged(trial, count=2)


@slow
def test_a_machine_that_was_not_created_gets_another_choice(trial: Trial) -> None:
    trial.up(count=1)
    # b had capacity when it was asked, and has none at the launch.
    lose_launches(trial, B)
    trial.run("up", "--yes", "--skip-preview", check=False, count=2)
    assert zones(trial) == {"web-0": A}
    assert trial.resources()["web-1"]["type"].endswith(("AvailabilityZone", "Deregistration"))
    keep_launches(trial)
    trial.aws.faults.add(f"ec2 capacity={B}")
    trial.up(count=2)
    assert zones(trial) == {"web-0": A, "web-1": C}
    unchanged(trial, count=2)


@slow
def test_a_machine_leaves_a_zone_that_is_no_longer_in_the_list(trial: Trial) -> None:
    trial.up()
    before, api = machines(trial), of_api(trial)
    shown = trial.run("preview", "--diff", zones=[A, C])
    assert shown.count("aws:ec2/instance:Instance: (replace)") == 1, shown
    assert "web: 1 of 3 machines are replaced, successors first: 4 run for a while" in shown
    trial.up(zones=[A, C])
    assert zones(trial) == {"web-0": A, "web-1": C, "web-2": C}
    assert {name for name in before if machines(trial)[name] != before[name]} == {"web-1"}
    assert of_api(trial) == api
    unchanged(trial, zones=[A, C])
    # More zones move nothing; neither does a fleet without the key.
    for listed in (["all"], [], [A, B, C]):
        there = machines(trial)
        trial.up(zones=listed)
        assert machines(trial) == there
        unchanged(trial, zones=listed)


@slow
def test_a_fleet_gets_the_key_later_and_its_machines_stay(trial: Trial) -> None:
    trial.up(zones=[])
    before = machines(trial)
    shown = trial.run("preview", "--diff", zones=["all"])
    assert "replace" not in shown, shown
    trial.up(zones=["all"])
    assert machines(trial) == before
    unchanged(trial, zones=["all"])
    assert reservations(trial) == Counter(), "the machines exist, so EC2 is not asked"


@slow
def test_machines_are_in_a_placement_group(trial: Trial) -> None:
    trial.up(placement="spread")
    ec2 = trial.aws.client("ec2")
    (group,) = ec2.describe_placement_groups()["PlacementGroups"]
    assert group["Strategy"] == "spread" and groups_of(trial) == {group["GroupName"]}
    unchanged(trial, placement="spread")
    before = machines(trial)
    # Successors are in a new group, so the limit of seven in a zone is not for both.
    trial.up(placement="spread", sources="two")
    (other,) = ec2.describe_placement_groups()["PlacementGroups"]
    assert other["GroupName"] != group["GroupName"] and groups_of(trial) == {other["GroupName"]}
    assert {*machines(trial).values()} & {*before.values()} == set()
    trial.up(placement="partition", sources="two")
    (last,) = ec2.describe_placement_groups()["PlacementGroups"]
    assert (last["Strategy"], last["PartitionCount"]) == ("partition", 7)
    trial.up(sources="two")
    assert (ec2.describe_placement_groups()["PlacementGroups"], groups_of(trial)) == ([], {""})
    unchanged(trial, sources="two")
    output = trial.run("up", "--yes", "--skip-preview", check=False, placement="spread", sources="two", count=22)
    assert "22 machines in 3 zones are 8 in a zone" in " ".join(output.split()), output


def groups_of(trial: Trial) -> set[str]:
    found = trial.aws.client("ec2").describe_instances()["Reservations"]
    return {
        str(each["Placement"].get("GroupName", ""))
        for reservation in found
        for each in reservation["Instances"]
        if each["State"]["Name"] == "running"
        and any(tag["Value"] == "web" for tag in each["Tags"] if tag["Key"] == FLEET)
    }


def roll_call_began(trial: Trial, name: str, **given: Any) -> float:
    """Run `up`. Return after how many seconds the roll call of the other fleet began, by the engine's own log of events."""
    log = trial.folder / f"{name}.json"
    # The flag is one of the engine's for developers.
    trial.environ["PULUMI_DEBUG_COMMANDS"] = "1"
    trial.run("up", "--yes", "--skip-preview", "--event-log", str(log), **given)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [
        (each["timestamp"], each["resourcePreEvent"]["metadata"]) for each in events if each.get("resourcePreEvent")
    ]
    (began,) = [at for at, step in steps if "RollCall::api" in step["urn"] and step["op"] != "refresh"]
    return float(began - events[0]["timestamp"])


def lose_launches(trial: Trial, zone: str) -> None:
    """Let launches in a zone fail, although reservations succeed."""
    region = trial.aws.aws.regions["us-west-2"]

    def refuse(call: Any, count: int, real: Any = region.ec2._check_placement) -> None:
        from localcloud.aws.ec2.launch import subnet_of
        from localcloud.aws.wire import AwsError

        if str(subnet_of(call, region.store).availability_zone) == zone:
            raise AwsError(
                "InsufficientInstanceCapacity", f"We currently do not have sufficient capacity in {zone}.", 400
            )
        real(call, count)

    region.ec2._check_placement = refuse  # type: ignore[method-assign]


def keep_launches(trial: Trial) -> None:
    del trial.aws.aws.regions["us-west-2"].ec2._check_placement  # type: ignore[method-assign]
