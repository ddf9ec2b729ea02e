"""components.preflight.credentials on the local Route53: what prevents a service directory is reported before anything is created."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from components.config.errors import ConfigurationError
from components.config.models import IncarnationSettings, ServiceDiscoverySettings, ServiceSettings
from components.config.reader import read
from components.dns import route53_zones
from components.dns.route53_zones import hosted_zone
from components.preflight import soa, zone_names
from components.preflight.credentials import directory_fault, zone_fault
from localcloud.aws.route53 import UNLIMITED
from tests.cloud.aws_cloud import Cloud, running

pytestmark = pytest.mark.clouds


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running(route53_limits=UNLIMITED) as made:
        yield made


def directory(zone: str = "unilans.net", *, create: bool = False) -> ServiceDiscoverySettings:
    service = ServiceSettings(
        name="theService",
        protocol="tcp",
        port=4218,
        incarnations=(IncarnationSettings(name="v1"),),
        check="tcp:4218",
    )
    return ServiceDiscoverySettings(zone=zone, services=(service,), create=create)


def test_a_zone_that_exists_once_is_not_a_fault(cloud: Cloud) -> None:
    cloud.aws.add_zone("unilans.net")
    assert zone_fault(cloud.client("route53"), directory()) is None


def test_a_zone_that_is_not_there_is_named_unless_it_is_to_be_made(cloud: Cloud) -> None:
    message = zone_fault(cloud.client("route53"), directory())
    assert message and message.startswith(
        "rollcall:serviceDiscovery.zone: this AWS account has no public hosted zone unilans.net"
    )
    assert "set create: true" in message
    assert zone_fault(cloud.client("route53"), directory(create=True)) is None


def test_what_the_zones_soa_costs_is_reported_until_it_is_changed(cloud: Cloud) -> None:
    route53, zone = cloud.client("route53"), cloud.aws.add_zone("unilans.net")
    (message,) = soa.warnings(directory(), route53_zones.sets_of(route53, zone))
    assert "the SOA record of unilans.net makes resolvers remember for 900 s" in message
    found = route53_zones.sets_of(route53, zone)("unilans.net.")["SOA"]
    change = {"Action": "UPSERT", "ResourceRecordSet": {**found, "TTL": 60}}
    route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": [change]})
    assert soa.warnings(directory(), route53_zones.sets_of(route53, zone)) == ()


def test_a_name_that_two_zones_have_is_named_with_their_ids_and_the_key(cloud: Cloud) -> None:
    route53 = cloud.client("route53")
    ids = sorted(cloud.aws.add_zone("unilans.net") for _ in range(2))
    route53.update_hosted_zone_comment(Id=ids[0], Comment="the live one")
    message = str(zone_fault(route53, directory()))
    assert message.startswith(
        "rollcall:serviceDiscovery.zone: 2 public hosted zones of this AWS account are called unilans.net: "
    )
    assert f"{ids[0]} with 2 record sets (the live one)" in message and f"{ids[1]} with 2 record sets" in message
    assert "Set rollcall:serviceDiscovery.zoneId to" in message
    for each in ids:
        chosen = replace(directory(), zone_id=each)
        assert zone_fault(route53, chosen) is None and hosted_zone(route53, chosen) == each


def test_an_id_that_is_not_there_or_of_another_zone_is_named(cloud: Cloud) -> None:
    route53 = cloud.client("route53")
    message = str(zone_fault(route53, replace(directory(), zone_id="Z0123456789ABCDEFGHIJ")))
    assert (
        message
        == "rollcall:serviceDiscovery.zoneId: this AWS account has no hosted zone Z0123456789ABCDEFGHIJ. Correct the id."
    )
    other = cloud.aws.add_zone("other.example")
    message = str(zone_fault(route53, replace(directory(), zone_id=other)))
    assert (
        message
        == f"rollcall:serviceDiscovery.zoneId: {other} is the hosted zone other.example, not unilans.net. Correct the one or the other."
    )


@pytest.mark.parametrize(("count", "joins"), [(1, "theService/v1"), (0, "theService/v1"), (1, "site/www")])
def test_machines_in_a_zone_that_is_to_be_made_are_refused_with_the_steps(cloud: Cloud, count: int, joins: str) -> None:
    fleet = {"cloud": "aws", "count": count, "size": "t3.micro", "image": "debian-12", "joins": [joins]}
    services = {"theService": {"port": 4218, "incarnations": {"v1": {}}}}
    given = {
        "sites": {"www": {"zone": "scalability.expert"}} if joins == "site/www" else {},
        "serviceDiscovery": {"zone": "unilans.net", "create": True, "services": services},
        "fleets": {"web": fleet},
    }
    settings, route53 = read("local", given), cloud.client("route53")
    assert settings.service_discovery is not None
    message = directory_fault(route53, settings, settings.service_discovery)
    if count and joins != "site/www":
        assert message and message.startswith(
            "rollcall:serviceDiscovery.create: the hosted zone unilans.net is to be made, and no name"
        )
    else:
        assert message is None
    cloud.aws.add_zone("unilans.net")
    assert directory_fault(route53, settings, settings.service_discovery) is None


def test_an_id_in_the_place_of_the_name_is_looked_up(cloud: Cloud) -> None:
    zone = cloud.aws.add_zone("unilans.net")
    route53 = cloud.client("route53")

    def name(zone: str) -> str:
        return str(route53.get_hosted_zone(Id=zone)["HostedZone"]["Name"]).rstrip(".")

    values = {
        "serviceDiscovery": {"zone": zone, "services": {}},
        "sites": {"www": {"zone": "scalability.expert"}},
        "fleets": {},
    }
    found = zone_names.named(values, {"serviceDiscovery": name})
    assert found == {**values, "serviceDiscovery": {"zone": "unilans.net", "zoneId": zone, "services": {}}}
    with pytest.raises(
        ConfigurationError,
        match=r"rollcall:serviceDiscovery\.zone: the name of zone Z9 was not found: .*NoSuchHostedZone",
    ):
        zone_names.named({"serviceDiscovery": {"zone": "Z9"}}, {"serviceDiscovery": name})
