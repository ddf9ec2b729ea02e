"""components.preflight.zone_fault on the local Route53: what keeps a directory from standing is named before anything is made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from components.preflight import zone_fault
from components.settings import DirectorySettings, HealthSettings, IncarnationSettings, ServiceSettings
from localcloud.aws.route53 import UNLIMITED
from tests.cloud.aws_cloud import Cloud, running

pytestmark = pytest.mark.clouds


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running(route53_limits=UNLIMITED) as made:
        yield made


def directory(zone: str = "unilans.net", *, create: bool = False) -> DirectorySettings:
    service = ServiceSettings(
        name="theService",
        protocol="tcp",
        port=4218,
        incarnations=(IncarnationSettings(name="v1"),),
        health=HealthSettings(check="tcp:4218"),
    )
    return DirectorySettings(zone=zone, services=(service,), create=create)


def test_a_zone_that_is_there_once_is_no_fault(cloud: Cloud) -> None:
    cloud.aws.add_zone("unilans.net")
    assert zone_fault(cloud.client("route53"), directory()) is None


def test_a_zone_that_is_not_there_is_named_unless_it_is_to_be_made(cloud: Cloud) -> None:
    said = zone_fault(cloud.client("route53"), directory())
    assert said and said.startswith("rollcall:directory.zone: there is no public hosted zone unilans.net")
    assert "set create: true" in said
    assert zone_fault(cloud.client("route53"), directory(create=True)) is None


def test_a_name_that_two_zones_have_is_named_with_their_ids(cloud: Cloud) -> None:
    ids = sorted(cloud.aws.add_zone("unilans.net") for _ in range(2))
    said = zone_fault(cloud.client("route53"), directory())
    assert said and all(each in said for each in ids)
