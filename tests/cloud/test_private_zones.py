"""Private hosted zones of the local Route53, and the resolver of each VPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from botocore.exceptions import ClientError

from localcloud.aws.route53 import UNLIMITED
from localcloud.aws.route53.store import PRIVATE_SERVERS
from localcloud.dns.server import Listener, bound_pair
from localcloud.dns.vpc import VpcResolvers
from tests.cloud.aws_cloud import Cloud, running

pytestmark = pytest.mark.clouds
REGION = "us-west-2"
ZONE = "private.example"
INSIDE, OTHER, OUTSIDE = "192.0.2.10", "192.0.2.20", "198.51.100.10"


class Lab:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.api, self.now = cloud, cloud.client("route53"), 1000.0
        ec2 = cloud.client("ec2")
        self.one, self.two = (ec2.create_vpc(CidrBlock=f"10.{at}.0.0/16")["Vpc"]["VpcId"] for at in (1, 2))
        self.vpcs = vpcs = {INSIDE: self.one, OTHER: self.two}
        aws = cloud.aws
        self.resolver = VpcResolvers(
            [aws], {}, {}, None, lambda client: vpcs.get(client, ""), aws.in_vpc, lambda: self.now
        )
        self.zones: list[str] = []

    def create(self, name: str = ZONE, *vpcs: str, private: bool = True) -> str:
        more: dict[str, Any] = {"VPC": vpc(vpcs[0] if vpcs else self.one)} if private else {}
        made = self.api.create_hosted_zone(Name=name, CallerReference=f"{name} {len(self.zones)} {id(self)}", **more)
        self.zones.append(made["HostedZone"]["Id"])
        return str(made["HostedZone"]["Id"])

    def put(self, zone: str, name: str, value: str, ttl: int = 30) -> None:
        made = {"Name": name, "Type": "TXT", "TTL": ttl, "ResourceRecords": [{"Value": f'"{value}"'}]}
        self.api.change_resource_record_sets(
            HostedZoneId=zone, ChangeBatch={"Changes": [{"Action": "UPSERT", "ResourceRecordSet": made}]}
        )

    def ask(self, name: str, client: str, rtype: str = "TXT") -> dns.message.Message:
        wire = self.resolver.answer(dns.message.make_query(name, rtype).to_wire(), client=client)
        assert wire is not None
        return dns.message.from_wire(wire)

    def text(self, name: str, client: str) -> str:
        reply = self.ask(name, client)
        return reply.answer[0][0].to_text().strip('"') if reply.answer else dns.rcode.to_text(reply.rcode())

    def clear(self) -> None:
        for zone in self.zones:
            for each in self.api.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]:
                if each["Type"] == "TXT":
                    change = {"Action": "DELETE", "ResourceRecordSet": each}
                    self.api.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": [change]})
            self.api.delete_hosted_zone(Id=zone)


def vpc(id_: str) -> dict[str, str]:
    return {"VPCRegion": REGION, "VPCId": id_}


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as caught:
        act()
    return str(caught.value.response["Error"]["Code"])


@pytest.fixture(scope="module")
def shared() -> Iterator[Cloud]:
    with running(route53_limits=UNLIMITED) as made:
        yield made


@pytest.fixture
def lab(shared: Cloud) -> Iterator[Lab]:
    made = Lab(shared)
    yield made
    made.clear()


def test_a_private_zone_has_vpcs_and_other_name_servers(lab: Lab) -> None:
    zone = lab.create()
    lab.api.associate_vpc_with_hosted_zone(HostedZoneId=zone, VPC=vpc(lab.two))
    found = lab.api.get_hosted_zone(Id=zone)
    assert found["HostedZone"]["Config"]["PrivateZone"] is True and "DelegationSet" not in found
    assert found["VPCs"] == [vpc(lab.one), vpc(lab.two)]
    sets = {each["Type"]: each for each in lab.api.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]}
    assert {each["Value"].rstrip(".") for each in sets["NS"]["ResourceRecords"]} == {*PRIVATE_SERVERS}
    lab.api.disassociate_vpc_from_hosted_zone(HostedZoneId=zone, VPC=vpc(lab.one))
    assert lab.api.get_hosted_zone(Id=zone)["VPCs"] == [vpc(lab.two)]
    named = lab.api.list_hosted_zones_by_name(DNSName=ZONE)["HostedZones"]
    assert [each["Id"] for each in named if each["Name"] == f"{ZONE}."] == [zone]


def test_what_route53_refuses(lab: Lab) -> None:
    zone, public = lab.create(), lab.create("public.example", private=False)
    api = lab.api
    for code, act in (
        ("ConflictingDomainExists", lambda: lab.create(ZONE, lab.one)),
        ("ConflictingDomainExists", lambda: api.associate_vpc_with_hosted_zone(HostedZoneId=zone, VPC=vpc(lab.one))),
        ("InvalidVPCId", lambda: lab.create("other.example", "vpc-0123456789abcdef0")),
        ("PublicZoneVPCAssociation", lambda: api.associate_vpc_with_hosted_zone(HostedZoneId=public, VPC=vpc(lab.one))),
        ("LastVPCAssociation", lambda: api.disassociate_vpc_from_hosted_zone(HostedZoneId=zone, VPC=vpc(lab.one))),
        ("VPCAssociationNotFound", lambda: api.disassociate_vpc_from_hosted_zone(HostedZoneId=zone, VPC=vpc(lab.two))),
        (
            "InvalidInput",
            lambda: api.create_hosted_zone(
                Name="other.example", CallerReference="x", HostedZoneConfig={"PrivateZone": True}
            ),
        ),
    ):
        assert refusal(act) == code


def test_a_private_zone_is_found_in_its_vpcs_and_before_a_public_one_of_the_same_name(lab: Lab) -> None:
    private, public = lab.create(), lab.create(private=False)
    other = lab.create(ZONE, lab.two)
    below = lab.create(f"below.{ZONE}", private=False)
    lab.put(private, f"a.{ZONE}", "private")
    lab.put(public, f"a.{ZONE}", "public")
    lab.put(public, f"only.{ZONE}", "public")
    lab.put(other, f"a.{ZONE}", "other")
    lab.put(below, f"a.below.{ZONE}", "public")
    clients = (INSIDE, OTHER, OUTSIDE)
    assert [lab.text(f"a.{ZONE}", each) for each in clients] == ["private", "other", "public"]
    # What a private zone lacks is not looked up in a public zone, not even in one with a longer name.
    assert [lab.text(f"only.{ZONE}", each) for each in clients] == ["NXDOMAIN", "NXDOMAIN", "public"]
    assert [lab.text(f"a.below.{ZONE}", each) for each in clients] == ["NXDOMAIN", "NXDOMAIN", "public"]
    reply = lab.ask(f"a.{ZONE}", INSIDE)
    assert not reply.flags & dns.flags.AA and reply.flags & dns.flags.RA


def test_a_resolver_remembers_an_answer_for_its_ttl_and_each_vpc_has_another_one(lab: Lab) -> None:
    zone = lab.create()
    lab.api.associate_vpc_with_hosted_zone(HostedZoneId=zone, VPC=vpc(lab.two))
    lab.put(zone, f"a.{ZONE}", "old")
    assert lab.text(f"a.{ZONE}", INSIDE) == "old"
    lab.put(zone, f"a.{ZONE}", "new")
    lab.now += 29
    assert lab.ask(f"a.{ZONE}", INSIDE).answer[0].ttl == 1
    assert (lab.text(f"a.{ZONE}", INSIDE), lab.text(f"a.{ZONE}", OTHER)) == ("old", "new")
    lab.now += 1
    assert lab.text(f"a.{ZONE}", INSIDE) == "new"


def test_a_resolver_remembers_that_a_name_does_not_exist_for_the_time_of_the_soa(lab: Lab) -> None:
    zone = lab.create()
    assert lab.text(f"a.{ZONE}", INSIDE) == "NXDOMAIN"
    lab.put(zone, f"a.{ZONE}", "late")
    lab.now += 899
    assert lab.text(f"a.{ZONE}", INSIDE) == "NXDOMAIN"
    lab.now += 1
    assert lab.text(f"a.{ZONE}", INSIDE) == "late"


@pytest.mark.parametrize("ask", [dns.query.udp, dns.query.tcp])
def test_the_address_that_asks_decides_over_udp_and_tcp(lab: Lab, ask: Callable[..., dns.message.Message]) -> None:
    lab.put(lab.create(), f"a.{ZONE}", "private")
    lab.vpcs["127.0.0.1"] = lab.one
    udp, tcp = bound_pair("127.0.0.1")
    listener = Listener(lab.resolver, [udp], [tcp])
    listener.start()
    try:
        query = dns.message.make_query(f"a.{ZONE}", "TXT")
        assert "private" in str(ask(query, "127.0.0.1", port=udp.getsockname()[1], timeout=5))
        del lab.vpcs["127.0.0.1"]
        assert "private" not in str(ask(query, "127.0.0.1", port=udp.getsockname()[1], timeout=5).answer)
    finally:
        listener.stop()
