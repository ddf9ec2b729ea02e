"""components.preflight.private_zones on the local clouds: what prevents a private zone is reported before anything is created."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from components.config.models import Settings
from components.config.reader import read
from components.dns import route53_zones
from components.dns.route53_zones import hosted_zone
from components.preflight import private_zones, soa
from components.preflight.credentials import directory_fault, zone_fault
from localcloud.aws.route53 import UNLIMITED
from tests.cloud.aws_cloud import Cloud, running

pytestmark = pytest.mark.clouds
REGION, ZONE = "us-west-2", "unilans.net"
KEY = "rollcall:serviceDiscovery"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running(route53_limits=UNLIMITED) as made:
        yield made


def settings(count: int = 1, **directory: Any) -> Settings:
    services = {"theService": {"port": 4218, "incarnations": {"v1": {}}}}
    fleet = {"cloud": "aws", "count": count, "size": "t3.micro", "image": "debian-12", "joins": ["theService/v1"]}
    found = {"zone": ZONE, "private": True, "services": services, **directory}
    return read("local", {"serviceDiscovery": found, "fleets": {"api": fleet}})


def vpc(id_: str) -> dict[str, str]:
    return {"VPCRegion": REGION, "VPCId": id_}


def default_vpc(cloud: Cloud) -> str:
    return str(
        cloud.client("ec2").describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    )


def private_zone(cloud: Cloud, id_: str, reference: str = "one") -> str:
    made = cloud.client("route53").create_hosted_zone(Name=ZONE, CallerReference=reference, VPC=vpc(id_))
    return str(made["HostedZone"]["Id"]).rpartition("/")[2]


def faults(cloud: Cloud, of: Settings) -> list[str]:
    directory, route53 = of.service_discovery, cloud.client("route53")
    assert directory is not None
    zone = hosted_zone(route53, directory)
    wrong = [each for each in [directory_fault(route53, of, directory)] if each]
    return [*wrong, *private_zones.faults(of, zone, REGION, lambda name, region: cloud.client(name, region=region))]


def test_the_private_zone_is_chosen_beside_a_public_one_of_the_same_name(cloud: Cloud) -> None:
    public, private = cloud.aws.add_zone(ZONE), private_zone(cloud, default_vpc(cloud))
    route53 = cloud.client("route53")
    for is_private, zone in ((True, private), (False, public)):
        of = settings(private=is_private)
        assert of.service_discovery is not None
        assert hosted_zone(route53, of.service_discovery) == zone and faults(cloud, of) == []


def test_a_zone_that_is_not_there_is_named_unless_it_is_to_be_made(cloud: Cloud) -> None:
    cloud.aws.add_zone(ZONE)
    (fault,) = faults(cloud, settings())
    assert fault.startswith(f"{KEY}.zone: this AWS account has no private hosted zone {ZONE}. Make it")
    # Nobody has to name its name servers, so machines may join at once.
    assert faults(cloud, settings(create=True)) == []


def test_a_zone_that_is_not_associated_with_a_fleets_vpc_is_named_with_the_command(cloud: Cloud) -> None:
    ec2, default = cloud.client("ec2"), default_vpc(cloud)
    other = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    zone = private_zone(cloud, other)
    (fault,) = faults(cloud, settings())
    assert fault == (
        f"{KEY}.zone: the private zone {ZONE} ({zone}) is not associated with {default} of the fleet api; it has {other} in {REGION}. Run "
        f"`aws route53 associate-vpc-with-hosted-zone --hosted-zone-id {zone} --vpc VPCRegion={REGION},VPCId={default}`."
    )
    cloud.client("route53").associate_vpc_with_hosted_zone(HostedZoneId=zone, VPC=vpc(default))
    assert faults(cloud, settings()) == []


def test_a_vpc_without_the_dns_of_amazon_is_named_with_the_command(cloud: Cloud) -> None:
    ec2, default = cloud.client("ec2"), default_vpc(cloud)
    private_zone(cloud, default)
    ec2.modify_vpc_attribute(VpcId=default, EnableDnsHostnames={"Value": False})
    (fault,) = faults(cloud, settings())
    assert fault.startswith(f"{KEY}.private: {default} of the fleet api has enableDnsHostnames off") and (
        f"--vpc-id {default} --enable-dns-hostnames`" in fault
    )
    ec2.modify_vpc_attribute(VpcId=default, EnableDnsHostnames={"Value": True})
    assert faults(cloud, settings()) == []


def test_the_given_vpcs_of_a_new_zone_contain_those_of_the_fleets(cloud: Cloud) -> None:
    default = default_vpc(cloud)
    (fault,) = faults(cloud, settings(create=True, vpcs=["vpc-0123456789abcdef0"]))
    assert fault == f"{KEY}.vpcs: lacks {default} of the fleet api. Add it, or leave vpcs out."
    for vpcs in ([default], [f"{REGION}/{default}"]):
        assert faults(cloud, settings(create=True, vpcs=vpcs)) == []


def test_an_id_of_the_other_kind_of_zone_is_named(cloud: Cloud) -> None:
    public, private = cloud.aws.add_zone(ZONE), private_zone(cloud, default_vpc(cloud))
    route53 = cloud.client("route53")
    for is_private, zone, fix in (
        (True, public, f"{public} is a public hosted zone. Name a private one, or take {KEY}.private out."),
        (False, private, f"{private} is a private hosted zone. Name a public one, or set private: true."),
    ):
        of = settings(private=is_private, zoneId=zone).service_discovery
        assert of is not None and zone_fault(route53, of) == f"{KEY}.zoneId: {fix}"


def test_two_private_zones_of_the_name_need_an_id(cloud: Cloud) -> None:
    default = default_vpc(cloud)
    other = cloud.client("ec2").create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    ids = [private_zone(cloud, each, each) for each in (default, other)]
    route53, of = cloud.client("route53"), settings().service_discovery
    assert of is not None
    message = str(zone_fault(route53, of))
    assert message.startswith(f"{KEY}.zone: 2 private hosted zones of this AWS account are called {ZONE}: ")
    assert all(each in message for each in ids) and "zoneId to the one that the VPCs of the fleets find" in message


def test_a_preview_warns_of_a_soa_that_hides_challenges(cloud: Cloud) -> None:
    zone, route53 = private_zone(cloud, default_vpc(cloud)), cloud.client("route53")
    sets = route53_zones.sets_of(route53, zone)
    managed, given = settings().service_discovery, settings(manageSoa=False).service_discovery
    assert managed is not None and given is not None
    assert soa.warnings(managed, sets) == ()
    (warning,) = soa.warnings(given, sets)
    assert "remember for 900 s" in warning and "up to six minutes" in warning and "manageSoa to true" in warning
    change = {"Action": "UPSERT", "ResourceRecordSet": {**sets(f"{ZONE}.")["SOA"], "TTL": 10}}
    route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": [change]})
    assert soa.warnings(given, route53_zones.sets_of(route53, zone)) == ()
