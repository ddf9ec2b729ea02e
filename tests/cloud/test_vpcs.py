"""components.preflight.vpcs on the local clouds: the VPC and the subnets that a fleet gets, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from components.config.models import FleetSettings, FleetVpc, Settings
from components.preflight import vpcs
from components.preflight.account_limits import ADDRESSES, Account, addresses
from components.preflight.quotas import Births, Found, check_ec2
from components.preflight.state import PriorState
from components.preflight.vpcs import GROUPS_OF_INTERFACE
from localcloud.machines.compute import InstantHypervisor
from tests.cloud.aws_cloud import Cloud, running
from tests.vpcs import Vpc, delete_default_vpc, make_nat, make_vpc, route

pytestmark = pytest.mark.clouds
REGION = "us-west-2"
WEB = FleetSettings(name="web", cloud="aws", count=2, size="t3.micro", image="debian-12", joins=("site/www",))


class Inside(Settings):
    """Settings in which every join has private addresses."""

    def public_joins(self, fleet: FleetSettings) -> tuple[str, ...]:
        return ()


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running(hypervisor=InstantHypervisor()) as made:
        yield made


@pytest.fixture
def ec2(cloud: Cloud) -> Any:
    return cloud.client("ec2")


@pytest.fixture
def vpc(ec2: Any) -> Vpc:
    return make_vpc(ec2, public=2, private=1)


def resolved(cloud: Cloud, fleet: FleetSettings, *, inside: bool = False) -> tuple[FleetVpc | None, Found]:
    settings = (Inside if inside else Settings)(fleets=(fleet,))
    found, faults = vpcs.resolved(settings, [fleet], REGION, cloud.client)
    return found.get(fleet.name), faults


def place_of(cloud: Cloud, fleet: FleetSettings, *, inside: bool = False) -> FleetVpc:
    found, faults = resolved(cloud, fleet, inside=inside)
    assert found is not None, faults
    return found


def fault_of(cloud: Cloud, fleet: FleetSettings, *, inside: bool = False) -> str:
    found, faults = resolved(cloud, fleet, inside=inside)
    assert found is None
    (fault,) = faults.faults
    return fault


def check(cloud: Cloud, *fleets: FleetSettings, inside: bool = False, given: frozenset[str] = frozenset()) -> Found:
    """What the preflight finds, with the VPCs that it has resolved. A program gives the VPC of the fleets `given`."""
    settings = (Inside if inside else Settings)(fleets=fleets, given_networks=given)
    chosen, faults = vpcs.resolved(settings, fleets, REGION, cloud.client)
    settings = replace(settings, vpcs=chosen)
    return faults + check_ec2(
        fleets,
        "local",
        REGION,
        cloud.client,
        elsewhere={*given, *(each.name for each in fleets if settings.chooses_vpc(each))},
        in_vpcs=lambda made: vpcs.check(settings, fleets, REGION, cloud.client, made),
    )


def ids(place: FleetVpc) -> list[str]:
    return [each.id for each in place.subnets]


def test_a_fleet_without_keys_is_in_the_default_vpc_and_nothing_is_asked(cloud: Cloud) -> None:
    assert resolved(cloud, WEB) == (None, Found())
    assert check(cloud, WEB) == Found()


@pytest.mark.parametrize("by", ["id", "tags", "subnets"])
def test_a_vpc_is_found_by_its_id_its_tags_or_its_subnets(cloud: Cloud, vpc: Vpc, by: str) -> None:
    choices: dict[str, dict[str, Any]] = {
        "id": {"vpc": vpc.id},
        "tags": {"vpc": {"Name": "company"}},
        "subnets": {"subnets": vpc.public},
    }
    choice = choices[by]
    found = place_of(cloud, replace(WEB, **choice))
    assert (found.id, sorted(ids(found))) == (vpc.id, sorted(vpc.public))
    assert check(cloud, replace(WEB, **choice)) == Found()


def test_public_and_private_are_found_by_the_routes(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    web = replace(WEB, vpc=vpc.id)
    assert sorted(ids(place_of(cloud, replace(web, subnets="public")))) == sorted(vpc.public)
    assert ids(place_of(cloud, web, inside=True)) == list(vpc.private)
    assert ids(place_of(cloud, replace(web, subnets="private"), inside=True)) == list(vpc.private)
    tags = {"Name": "company-public-1"}
    assert ids(place_of(cloud, replace(web, subnets=tags))) == [vpc.public[1]]


def test_a_subnet_without_a_route_table_has_the_main_one(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    main = [{"Name": "association.main", "Values": ["true"]}, {"Name": "vpc-id", "Values": [vpc.id]}]
    table = ec2.describe_route_tables(Filters=main)["RouteTables"][0]["RouteTableId"]
    attached = [{"Name": "attachment.vpc-id", "Values": [vpc.id]}]
    gateway = ec2.describe_internet_gateways(Filters=attached)["InternetGateways"][0]["InternetGatewayId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)

    assert sorted(ids(place_of(cloud, replace(WEB, vpc=vpc.id)))) == sorted((*vpc.public, *vpc.private))


def test_neighbouring_machines_are_in_different_zones(cloud: Cloud, ec2: Any) -> None:
    six = make_vpc(ec2, public=6)
    zones = [each.zone for each in place_of(cloud, replace(WEB, vpc=six.id)).subnets]
    assert zones == ["us-west-2a", "us-west-2b", "us-west-2c"] * 2


def test_a_region_without_a_default_vpc_is_a_fault_with_what_there_is(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    delete_default_vpc(ec2)
    (fault,) = check(cloud, WEB, replace(WEB, name="api")).faults
    assert fault.startswith(
        "rollcall:fleets.web.vpc (and of rollcall:fleets.api): is not set, and us-west-2 has no default"
    )
    assert f"{vpc.id} (company, 192.0.2.0/24) with " in fault
    assert f"{vpc.public[0]} (company-public-0, 192.0.2.0/28, us-west-2a, public)" in fault
    assert f"{vpc.private[0]} (company-private-2, 192.0.2.32/28, us-west-2a, private)" in fault
    assert "Set vpc to the id of one of them" in fault and "`aws ec2 create-default-vpc --region us-west-2`" in fault
    assert check(cloud, replace(WEB, vpc=vpc.id)) == Found()
    # Without a default VPC, EC2 makes no default subnet either. The command of the fault makes both.
    with pytest.raises(ClientError, match="DefaultVpcDoesNotExist"):
        ec2.create_default_subnet(AvailabilityZone="us-west-2a")
    ec2.create_default_vpc()
    assert check(cloud, WEB, replace(WEB, name="api")).faults == ()


def test_a_fleet_with_a_vpc_of_its_program_needs_no_default_vpc(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    delete_default_vpc(ec2)
    given = replace(WEB, security_groups=("sg-of-another-vpc",))
    assert check(cloud, given, given=frozenset({"web"})) == Found()
    (fault,) = check(cloud, given, replace(WEB, name="api"), given=frozenset({"web"})).faults
    assert fault.startswith("rollcall:fleets.api.vpc: is not set")


def test_what_does_not_exist_is_a_fault_with_what_there_is(cloud: Cloud, vpc: Vpc) -> None:
    rows: list[tuple[dict[str, Any], str]] = [
        ({"vpc": "vpc-00000000"}, "web.vpc: EC2 has no VPC vpc-00000000 in us-west-2; it has "),
        ({"vpc": {"Name": "other"}}, "web.vpc: no VPC of us-west-2 has the tags Name: other: "),
        ({"subnets": ("subnet-00000000",)}, "web.subnets: EC2 has no subnet subnet-00000000 in us-west-2; it has "),
        (
            {"vpc": vpc.id, "subnets": {"Tier": "web"}},
            f"web.subnets: no subnet of {vpc.id} has the tags Tier: web; it has ",
        ),
    ]
    for change, words in rows:
        fault = fault_of(cloud, replace(WEB, **change))
        assert words in fault and f"{vpc.public[0]} (company-public-0" in fault, fault


def test_tags_of_several_vpcs_and_subnets_of_another_one_are_faults(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    other = make_vpc(ec2, cidr="10.0.0.0/16", bits=24)
    fault = fault_of(cloud, replace(WEB, vpc={"Name": "company"}))
    assert "several VPCs of us-west-2 have the tags Name: company" in fault and vpc.id in fault and other.id in fault
    fault = fault_of(cloud, replace(WEB, vpc=vpc.id, subnets=other.public))
    assert f"{other.public[0]} (of {other.id})" in fault and f"are not in {vpc.id}" in fault
    fault = fault_of(cloud, replace(WEB, subnets=(vpc.public[0], other.public[0])))
    assert f"are of several VPCs ({vpc.public[0]} is in {vpc.id}, {other.public[0]} is in {other.id})" in fault


def test_machines_with_public_addresses_are_in_no_private_subnet(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    fault = fault_of(cloud, replace(WEB, subnets=(vpc.public[0], vpc.private[0])))
    assert f"web.subnets: {vpc.private[0]} is private" in fault and "publicAddress: false" in fault
    closed = make_vpc(ec2, cidr="10.0.0.0/16", bits=24, public=0, private=1, name="closed")
    fault = fault_of(cloud, replace(WEB, vpc=closed.id))
    assert f"{closed.id} has no public subnet" in fault


def test_an_instance_type_that_is_in_no_zone_of_the_subnets_is_a_fault(cloud: Cloud, vpc: Vpc) -> None:
    network = vpcs.read(REGION, ["t3.micro"], cloud.client("ec2"))
    elsewhere = replace(network, offered={"t3.micro": frozenset({"us-west-2d"})})
    with pytest.raises(vpcs.VpcError, match=r"t3\.micro is only in us-west-2d"):
        elsewhere.resolve(vpcs.Wanted(fleet=replace(WEB, vpc=vpc.id), is_public=True))
    half = replace(network, offered={"t3.micro": frozenset({"us-west-2b"})})
    found = half.resolve(vpcs.Wanted(fleet=replace(WEB, vpc=vpc.id), is_public=True))
    assert ids(found) == [vpc.public[1]]


def test_ipv6_needs_a_subnet_with_ipv6(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    web = replace(WEB, vpc=vpc.id, ipv6=True)
    assert "web.ipv6: is on, and none of " in fault_of(cloud, web)
    made = ec2.associate_vpc_cidr_block(VpcId=vpc.id, AmazonProvidedIpv6CidrBlock=True)["Ipv6CidrBlockAssociation"]
    block = made["Ipv6CidrBlock"].replace("/56", "/64")
    ec2.associate_subnet_cidr_block(SubnetId=vpc.public[1], Ipv6CidrBlock=block)
    assert ids(place_of(cloud, web)) == [vpc.public[1]]


def test_machines_without_a_way_to_the_apis_are_a_fault(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    inner = replace(WEB, vpc=vpc.id)
    (fault,) = check(cloud, inner, inside=True).faults
    assert f"machines in {vpc.private[0]} would not reach SSM" in fault and "NAT gateway" in fault
    make_nat(ec2, vpc.id, vpc.public[0], list(vpc.private))
    assert check(cloud, inner, inside=True) == Found()


def test_a_public_subnet_leads_nowhere_without_a_public_address(cloud: Cloud, vpc: Vpc) -> None:
    (fault,) = check(cloud, replace(WEB, vpc=vpc.id, subnets="public"), inside=True).faults
    assert "would not reach SSM" in fault


def test_what_the_routes_do_not_prove_is_only_a_warning(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    interface = ec2.create_network_interface(SubnetId=vpc.public[0])["NetworkInterface"]["NetworkInterfaceId"]
    route(ec2, vpc.id, list(vpc.private), NetworkInterfaceId=interface)
    found = check(cloud, replace(WEB, vpc=vpc.id), inside=True)
    (warning,) = found.warnings
    assert found.faults == () and "is not proven" in warning and f"{vpc.private[0]} leads to {interface}" in warning


def test_endpoints_of_a_vpc_are_not_proven_to_be_enough(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    ec2.create_vpc_endpoint(VpcId=vpc.id, ServiceName="com.amazonaws.us-west-2.s3", VpcEndpointType="Gateway")
    found = check(cloud, replace(WEB, vpc=vpc.id), inside=True)
    assert found.faults == () and "endpoints of com.amazonaws.us-west-2.s3" in found.warnings[0]


def test_too_few_free_addresses_are_a_fault_and_too_few_for_successors_a_warning(cloud: Cloud, vpc: Vpc) -> None:
    in_one = replace(WEB, subnets=(vpc.public[0],), size="t3.nano")
    assert check(cloud, replace(in_one, count=5)) == Found()
    found = check(cloud, replace(in_one, count=6))
    (warning,) = found.warnings
    assert found.faults == () and "successors first, would take 12 addresses" in warning and "11 free ones" in warning
    (fault,) = check(cloud, replace(in_one, count=12)).faults
    assert f"12 machines of web would be made in {vpc.public[0]}, which has 11 free addresses" in fault


def test_a_replacement_of_all_machines_counts_with_the_machines_that_are_there(cloud: Cloud, vpc: Vpc) -> None:
    network = vpcs.read(REGION, ["t3.micro"], cloud.client("ec2"))
    place = place_of(cloud, replace(WEB, subnets=(vpc.public[0],)))
    fleet = replace(WEB, count=11)
    replaced = Births(fleet="web", made=11, replaced=11, there=11)
    assert network.room([(replaced, fleet, place)]) == Found()
    more = Births(fleet="web", made=12, replaced=11, there=11)
    assert network.room([(more, replace(fleet, count=12), place)]).faults


def test_groups_must_be_of_the_vpc_and_not_too_many(cloud: Cloud, ec2: Any, vpc: Vpc) -> None:
    web = replace(WEB, vpc=vpc.id, security_groups=(vpc.group,))
    assert check(cloud, web) == Found()
    (fault,) = check(cloud, replace(WEB, security_groups=(vpc.group,))).faults
    assert f"web.securityGroups: {vpc.group} is of {vpc.id}, and the machines are in vpc-" in fault
    (fault,) = check(cloud, replace(web, security_groups=("sg-00000000",))).faults
    assert "EC2 has no security group sg-00000000" in fault and f"{vpc.group} (extra)" in fault
    groups = tuple(
        ec2.create_security_group(GroupName=f"g{number}", Description="one", VpcId=vpc.id)["GroupId"]
        for number in range(5)
    )
    assert check(cloud, replace(web, security_groups=groups[:4])) == Found()
    (fault,) = check(cloud, replace(web, security_groups=groups)).faults
    assert "would have 6 security groups; the quota is 5" in fault and GROUPS_OF_INTERFACE in fault
    cloud.aws.regions[REGION].quotas.raised[GROUPS_OF_INTERFACE] = 6
    assert check(cloud, replace(web, security_groups=groups)) == Found()


def test_five_elastic_addresses_are_too_few_for_three_machines_and_their_successors(cloud: Cloud, ec2: Any) -> None:
    def found(count: int) -> Found:
        fleet = replace(WEB, count=count, stable_addresses=True)
        account = Account(
            client=lambda service, region=REGION: cloud.client(service), region=REGION, state=PriorState({})
        )
        return addresses([fleet], account, REGION)

    assert found(2) == Found()
    (fault,) = found(3).faults
    assert fault.startswith(
        "rollcall:fleets.web.stableAddresses: the account would have 6 elastic addresses in us-west-2"
    )
    assert "the quota is 5" in fault and f"--quota-code {ADDRESSES} --desired-value 6" in fault
    ec2.allocate_address(Domain="vpc")
    ec2.allocate_address(Domain="vpc")
    assert found(2).faults


def test_zones_are_those_of_the_chosen_subnets(cloud: Cloud, ec2: Any) -> None:
    """A fleet in a VPC of the company needs no default subnet in its zones, and one there does not help it."""
    vpc = make_vpc(ec2, public=2)
    web = replace(WEB, vpc=vpc.id, zones=("us-west-2b",))
    delete_default_subnet(ec2, "us-west-2b")
    assert check(cloud, web).faults == ()
    (fault,) = check(cloud, replace(web, zones=("us-west-2b", "us-west-2c"))).faults
    assert fault == (
        f"rollcall:fleets.web.zones: us-west-2c is not a zone of us-west-2 in which the fleet has a subnet of {vpc.id} and t3.micro is "
        "offered. Name zones of us-west-2a (usw2-az2), us-west-2b (usw2-az1), or add a subnet to subnets."
    )
    (fault,) = check(cloud, replace(web, placement="spread", count=8)).faults
    assert "8 machines in 1 zones are 8 in a zone" in fault


def delete_default_subnet(ec2: Any, zone: str) -> None:
    there = [{"Name": "default-for-az", "Values": ["true"]}, {"Name": "availability-zone", "Values": [zone]}]
    for each in ec2.describe_subnets(Filters=there)["Subnets"]:
        ec2.delete_subnet(SubnetId=each["SubnetId"])
