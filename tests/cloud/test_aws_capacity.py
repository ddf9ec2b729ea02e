"""The local EC2 through boto3: zones without capacity, capacity reservations, placement groups."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.aws_cloud import Cloud, debian, running

pytestmark = pytest.mark.clouds
B = "us-west-2b"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running(vcpu_limit=24) as made:
        yield made


def refused(code: str, act: Callable[[], Any], message: str = "", status: int = 400) -> None:
    with pytest.raises(ClientError) as caught:
        act()
    response = caught.value.response
    found = (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"])
    assert found == (code, status) and message in response["Error"]["Message"], response


def reserve(cloud: Cloud, zone: str = B, **options: Any) -> Any:
    given = {
        "InstanceType": "t3.micro",
        "InstancePlatform": "Linux/UNIX",
        "InstanceCount": 1,
        "InstanceMatchCriteria": "targeted",
        "AvailabilityZone": zone,
        **options,
    }
    return cloud.client("ec2").create_capacity_reservation(**given)["CapacityReservation"]


def states(cloud: Cloud, *ids: str) -> list[str]:
    found = cloud.client("ec2").describe_capacity_reservations(CapacityReservationIds=list(ids))
    return [each["State"] for each in found["CapacityReservations"]]


class TestCapacity:
    def test_a_zone_without_capacity_refuses_launches_as_ec2_does(self, cloud: Cloud) -> None:
        cloud.faults.add(f"ec2 capacity={B}")
        message = (
            "We currently do not have sufficient t3.micro capacity in the Availability Zone you requested (us-west-2b). Our system will be "
            "working on provisioning additional capacity. You can currently get t3.micro capacity by not specifying an Availability Zone "
            "in your request or choosing us-west-2a, us-west-2c, us-west-2d."
        )
        refused("InsufficientInstanceCapacity", lambda: launch(cloud, B), message, 500)
        assert cloud.client("ec2").describe_instances()["Reservations"] == []
        launch(cloud, "us-west-2c")
        cloud.faults.clear("ec2")
        launch(cloud, B)

    def test_a_zone_may_lack_one_type_only(self, cloud: Cloud) -> None:
        cloud.faults.add(f"ec2 capacity={B}/t3.large")
        launch(cloud, B)
        refused("InsufficientInstanceCapacity", lambda: launch(cloud, B, InstanceType="t3.large"), "t3.large", 500)

    def test_two_zones_may_lack_capacity_at_the_same_time(self, cloud: Cloud) -> None:
        for zone in ("us-west-2a", B):
            cloud.faults.add(f"ec2 capacity={zone}")
        for zone in ("us-west-2a", B):
            refused("InsufficientInstanceCapacity", functools.partial(launch, cloud, zone), zone, 500)
        launch(cloud, "us-west-2c")

    def test_a_stopped_instance_does_not_start_without_capacity(self, cloud: Cloud) -> None:
        ec2, (one,) = cloud.client("ec2"), cloud.run(Placement={"AvailabilityZone": B})
        ec2.stop_instances(InstanceIds=[one])
        cloud.aws.stopped(one)
        cloud.faults.add(f"ec2 capacity={B} times=1")
        refused("InsufficientInstanceCapacity", lambda: ec2.start_instances(InstanceIds=[one]), B, 500)
        assert cloud.describe(one)["State"]["Name"] == "stopped"
        ec2.start_instances(InstanceIds=[one])

    def test_a_dry_run_does_not_ask_for_capacity(self, cloud: Cloud) -> None:
        cloud.faults.add(f"ec2 capacity={B}")
        refused("DryRunOperation", lambda: launch(cloud, B, DryRun=True), status=412)


class TestReservations:
    def test_a_reservation_exists_until_it_is_cancelled(self, cloud: Cloud) -> None:
        made = reserve(cloud)
        shown = (made["State"], made["AvailabilityZone"], made["TotalInstanceCount"], made["InstanceMatchCriteria"])
        assert shown == ("active", B, 1, "targeted")
        ec2 = cloud.client("ec2")
        assert ec2.cancel_capacity_reservation(CapacityReservationId=made["CapacityReservationId"])["Return"] is True
        assert states(cloud, made["CapacityReservationId"]) == ["cancelled"]

    def test_a_limited_reservation_expires(self, cloud: Cloud) -> None:
        end = datetime.now(UTC) + timedelta(seconds=100)
        made = reserve(cloud, EndDateType="limited", EndDate=end)["CapacityReservationId"]
        assert states(cloud, made) == ["active"]
        cloud.clock.ahead = 200.0
        assert states(cloud, made) == ["expired"]

    def test_it_is_refused_without_capacity(self, cloud: Cloud) -> None:
        cloud.faults.add(f"ec2 capacity={B}")
        refused("InsufficientInstanceCapacity", lambda: reserve(cloud), B, 500)
        assert cloud.client("ec2").describe_capacity_reservations()["CapacityReservations"] == []

    def test_it_counts_towards_the_quota(self, cloud: Cloud) -> None:
        # Each t3.micro has 2 of the 24 vCPUs.
        made = reserve(cloud, InstanceCount=11)["CapacityReservationId"]
        refused("InstanceLimitExceeded", lambda: reserve(cloud, InstanceCount=2))
        refused("VcpuLimitExceeded", lambda: cloud.run(2))
        cloud.client("ec2").cancel_capacity_reservation(CapacityReservationId=made)
        cloud.run(2)

    @pytest.mark.parametrize(
        ("code", "options"),
        [
            ("InvalidParameterValue", {"InstanceType": "t3.none"}),
            ("InvalidParameterValue", {"InstanceCount": 0}),
            ("InvalidParameterValue", {"InstancePlatform": "Plan 9"}),
            ("InvalidParameterValue", {"AvailabilityZone": "us-west-2z"}),
            ("InvalidParameterCombination", {"AvailabilityZoneId": "usw2-az1"}),
            ("InvalidParameterCombination", {"EndDateType": "limited"}),
            ("Unsupported", {"AvailabilityZone": "us-west-2d", "InstanceType": "m5n.large"}),
            ("UnsupportedOperation", {"InstanceMatchCriteria": "open"}),
        ],
    )
    def test_what_ec2_refuses_is_refused(self, cloud: Cloud, code: str, options: dict[str, Any]) -> None:
        refused(code, lambda: reserve(cloud, **options))

    def test_an_unknown_one_cannot_be_cancelled(self, cloud: Cloud) -> None:
        cancel = cloud.client("ec2").cancel_capacity_reservation
        refused("InvalidCapacityReservationId.NotFound", lambda: cancel(CapacityReservationId="cr-0123456789abcdef0"))
        refused("InvalidCapacityReservationId.Malformed", lambda: cancel(CapacityReservationId="cr-1"))


class TestPlacementGroups:
    def test_an_instance_is_in_its_group(self, cloud: Cloud) -> None:
        ec2 = cloud.client("ec2")
        tags = [{"ResourceType": "placement-group", "Tags": [{"Key": "Name", "Value": "web"}]}]
        made = ec2.create_placement_group(GroupName="web", Strategy="spread", TagSpecifications=tags)["PlacementGroup"]
        assert (made["Strategy"], made["SpreadLevel"], made["Tags"]) == (
            "spread",
            "rack",
            [{"Key": "Name", "Value": "web"}],
        )
        (one,) = cloud.run(Placement={"GroupName": "web"})
        assert cloud.describe(one)["Placement"]["GroupName"] == "web"
        refused("InvalidPlacementGroup.InUse", lambda: ec2.delete_placement_group(GroupName="web"))
        ec2.terminate_instances(InstanceIds=[one])
        cloud.aws.stopped(one)
        ec2.delete_placement_group(GroupName="web")
        assert ec2.describe_placement_groups()["PlacementGroups"] == []

    def test_a_spread_group_takes_seven_running_instances_of_a_zone(self, cloud: Cloud) -> None:
        cloud.client("ec2").create_placement_group(GroupName="web", Strategy="spread")
        cloud.run(7, Placement={"GroupName": "web", "AvailabilityZone": B})
        eighth = {"GroupName": "web", "AvailabilityZone": B}
        refused("InstanceLimitExceeded", lambda: cloud.run(Placement=eighth), "7 running instances")
        cloud.run(Placement={"GroupName": "web", "AvailabilityZone": "us-west-2a"})

    def test_a_partition_group_takes_more(self, cloud: Cloud) -> None:
        ec2 = cloud.client("ec2")
        made = ec2.create_placement_group(GroupName="web", Strategy="partition", PartitionCount=7)["PlacementGroup"]
        assert made["PartitionCount"] == 7
        cloud.run(8, Placement={"GroupName": "web", "AvailabilityZone": B})

    @pytest.mark.parametrize(
        ("code", "options"),
        [
            ("InvalidPlacementGroup.Duplicate", {"GroupName": "there"}),
            ("InvalidParameterCombination", {"GroupName": "new", "PartitionCount": 2}),
            ("InvalidParameterValue", {"GroupName": "new", "Strategy": "partition", "PartitionCount": 8}),
            ("InvalidParameterValue", {"GroupName": "ä"}),
            ("UnsupportedOperation", {"GroupName": "new", "Strategy": "cluster"}),
        ],
    )
    def test_what_ec2_refuses_is_refused(self, cloud: Cloud, code: str, options: dict[str, Any]) -> None:
        ec2 = cloud.client("ec2")
        ec2.create_placement_group(GroupName="there", Strategy="spread")
        refused(code, lambda: ec2.create_placement_group(**{"Strategy": "spread", **options}))

    def test_an_unknown_group_is_refused(self, cloud: Cloud) -> None:
        refused("InvalidPlacementGroup.Unknown", lambda: cloud.run(Placement={"GroupName": "none"}))
        unknown = cloud.client("ec2").describe_placement_groups
        refused("InvalidPlacementGroup.Unknown", lambda: unknown(GroupNames=["none"]))

    def test_a_region_has_five_hundred(self, cloud: Cloud) -> None:
        ec2 = cloud.client("ec2")
        for number in range(500):
            ec2.create_placement_group(GroupName=f"web-{number}", Strategy="spread")
        refused(
            "PlacementGroupLimitExceeded", lambda: ec2.create_placement_group(GroupName="one-more", Strategy="spread")
        )


def launch(cloud: Cloud, zone: str, **options: Any) -> Any:
    given = {"ImageId": debian(cloud), "InstanceType": "t3.micro", "Placement": {"AvailabilityZone": zone}, **options}
    return cloud.client("ec2").run_instances(MinCount=1, MaxCount=1, **given)
