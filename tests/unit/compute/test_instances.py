"""components.compute.base: the clouds' machines look alike, whatever their APIs and clients give."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from components.compute.ec2 import ec2_instance
from components.compute.triton import triton_instance
from components.joyent.records import MachineRecord

MADE = datetime(2026, 11, 23, 14, 0, 5, 153000, tzinfo=timezone.utc)


@pytest.mark.parametrize("made", [MADE, MADE.astimezone(timezone(timedelta(hours=2))), MADE.isoformat()])
def test_times_of_ec2_are_utc_in_one_form(made: object) -> None:
    seen = ec2_instance({"InstanceId": "i-1", "State": {"Name": "running"}, "LaunchTime": made})
    assert seen.since == "2026-11-23T14:00:05Z"


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        ("2026-11-23T14:00:05.153Z", "2026-11-23T14:00:05Z"),
        ("2026-11-23T14:00:05Z", "2026-11-23T14:00:05Z"),
        ("", ""),
        ("yesterday", "yesterday"),
    ],
)
def test_times_of_triton_have_the_same_form(made: str, shown: str) -> None:
    assert triton_instance(MachineRecord.of({"id": "m", "name": "web-0", "created": made})).since == shown


def test_the_releases_of_workloads_are_read_from_tags_and_metadata() -> None:
    settings = {"rollcall-workload-www": "61" * 32, "rollcall-workloads": "www", "rollcall-workload-api\x1b": "6\x1b"}
    tags = [{"Key": key, "Value": value} for key, value in settings.items()]
    on_ec2 = ec2_instance({"InstanceId": "i-1", "State": {"Name": "running"}, "LaunchTime": MADE, "Tags": tags})
    on_triton = triton_instance(MachineRecord.of({"id": "m", "name": "web-0", "metadata": settings}))
    assert on_ec2.releases == on_triton.releases
    assert on_ec2.releases["www"] == "61" * 32 and len(on_ec2.releases) == 2
    assert not any("\x1b" in text for pair in on_ec2.releases.items() for text in pair)
