"""components.preflight.checks.existing_found on the local clouds: what is in a zone already and keeps our records from being taken, or from
being answered, is named before anything is made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pulumi
import pytest

from components.config.models import Settings
from components.config.reader import read
from components.preflight import checks
from localcloud.aws.route53 import UNLIMITED
from tests.cloud.aws_cloud import Cloud, point_shell_at, running
from tests.cloud.cloudflare_server import OPERATOR, ZONE, Front, Lab, refused

pytestmark = pytest.mark.clouds
HOSTED = "unilans.net"
SERVICE = "_theservice._tcp.unilans.net"
SETS = [f"v1.{SERVICE}", f"v2-1.{SERVICE}", f"v2-2.{SERVICE}"]


def settings(host: str = "www", *, count: int = 1, enumerate: bool = True) -> Settings:
    machine_settings = {
        "sites": {"www": {"zone": ZONE, "host": host}},
        "serviceDiscovery": {
            "zone": HOSTED,
            "publishServiceTypes": enumerate,
            "services": {"theService": {"port": 4218, "incarnations": {"v1": {}, "v2": {"shards": 2}}}},
        },
        "fleets": {
            "web": {"cloud": "aws", "count": count, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]},
        },
    }
    return read("local", machine_settings)


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Cloud]:
    with running(route53_limits=UNLIMITED) as made:
        yield made


@pytest.fixture
def aws(shared: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    point_shell_at(shared, monkeypatch)
    yield shared
    for zone in shared.aws.route53.store.all():
        shared.aws.route53.store._zones.pop(zone.id)


@pytest.fixture
def zone(aws: Cloud) -> str:
    return aws.aws.add_zone(HOSTED)


@pytest.fixture
def lab(front: Front, zone: str, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", front.url)
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", OPERATOR)
    monkeypatch.setattr(pulumi.runtime, "get_config", {}.get)
    # A backend that does not tell the state: what is in the way is in the way all the same.
    monkeypatch.setattr(checks, "prior_state", lambda: None)
    return Lab(front)


def put(cloud: Cloud, zone: str, name: str, kind: str, *values: str, **more: Any) -> None:
    records = {"TTL": 60, "ResourceRecords": [{"Value": each} for each in values]} if values else {}
    change = {"Action": "CREATE", "ResourceRecordSet": {"Name": name, "Type": kind, **records, **more}}
    cloud.client("route53").change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": [change]})


def faults(machine_settings: Settings | None = None) -> tuple[str, ...]:
    return checks.existing_found(machine_settings or settings()).faults


class TestSite:
    def test_an_empty_zone_and_types_that_may_be_beside_addresses_are_not_a_fault(self, lab: Lab) -> None:
        assert faults() == ()
        lab.record(name="www", content="203.0.113.9")
        lab.record(name="www", type="TXT", content='"x"')
        lab.record(name="www", type="MX", content="mail.example.com", priority=10)
        lab.record(name="other", type="CNAME", content="elsewhere.example")
        lab.record(name="other", type="TXT", content='"x"')
        lab.record(name="delegated", type="NS", content="ns.elsewhere.example")
        lab.record(name="*", type="CNAME", content="elsewhere.example")
        assert faults() == ()

    def test_a_cname_at_the_host_is_named_with_its_target(self, lab: Lab) -> None:
        lab.record(type="CNAME", content="elsewhere.example")
        with refused(400, 81054):
            lab.record(type="A")
        assert faults() == (
            f"rollcall:sites.www.host: www.{ZONE} is a CNAME to elsewhere.example already, and no A record can be beside it. Delete it, "
            "or set rollcall:sites.www.host to another name.",
        )

    def test_a_host_that_no_machine_is_to_have_may_be_a_cname(self, lab: Lab) -> None:
        lab.record(type="CNAME", content="elsewhere.example")
        assert faults(settings(count=0)) == ()

    @pytest.mark.parametrize("at", ["www.eu", "eu"])
    def test_a_delegation_at_or_above_the_host_is_named(self, lab: Lab, at: str) -> None:
        lab.record(name=at, type="NS", content="ns1.elsewhere.example")
        lab.record(name=at, type="NS", content="ns2.elsewhere.example")
        (fault,) = faults(settings("www.eu"))
        assert fault.startswith(
            f"rollcall:sites.www.host: {at}.{ZONE} is delegated to ns1.elsewhere.example, ns2.elsewhere.example by an NS record"
        )
        assert f"records at www.eu.{ZONE} and 1 more name are never answered" in fault
        assert faults() == ()

    def test_a_delegation_of_the_names_where_machines_are_challenged_is_named(self, lab: Lab) -> None:
        lab.record(name="rc.www", type="NS", content="ns.elsewhere.example")
        (fault,) = faults()
        assert f"rc.www.{ZONE} is delegated" in fault and f"c.rc.www.{ZONE}" in fault


class TestDirectory:
    @pytest.fixture(autouse=True)
    def _site(self, lab: Lab) -> None:
        """One that has nothing in the way."""

    def test_an_empty_zone_and_records_that_may_be_beside_ours_are_not_a_fault(self, aws: Cloud, zone: str) -> None:
        put(aws, zone, SETS[0], "SRV", f"0 0 1 by-hand.{HOSTED}.")
        put(aws, zone, SETS[0], "A", "203.0.113.1")
        put(
            aws,
            zone,
            SETS[1],
            "A",
            AliasTarget={"HostedZoneId": zone, "DNSName": SETS[0], "EvaluateTargetHealth": False},
        )
        put(aws, zone, f"delegated.{HOSTED}", "NS", "ns.elsewhere.example.")
        put(aws, zone, f"rc.{HOSTED}", "CNAME", "elsewhere.example.")
        put(aws, zone, f"*.{HOSTED}", "CNAME", "elsewhere.example.")
        assert faults() == ()

    @pytest.mark.parametrize(
        ("name", "key", "kinds", "otherwise"),
        [
            *(
                (each, f"services.theService.incarnations.{each[:2]}", "SRV or TXT", "rename the incarnation")
                for each in SETS
            ),
            (SERVICE, "services.theService", "PTR or SRV", "rename the service"),
            (
                f"_theservice._tcp.v1.{HOSTED}",
                "services.theService.incarnations.v1",
                "SRV",
                "rename the incarnation",
            ),
            (
                f"_services._dns-sd._udp.{HOSTED}",
                "publishServiceTypes",
                "PTR",
                "set rollcall:serviceDiscovery.publishServiceTypes to false",
            ),
        ],
    )
    def test_a_cname_at_a_name_of_ours_is_named(
        self, aws: Cloud, zone: str, name: str, key: str, kinds: str, otherwise: str
    ) -> None:
        put(aws, zone, name, "CNAME", "elsewhere.example.")
        assert faults() == (
            f"rollcall:serviceDiscovery.{key}: {name} is a CNAME to elsewhere.example. already, and no {kinds} record can be beside it. "
            f"Delete it, or {otherwise}.",
        )

    def test_without_the_enumeration_its_name_is_free(self, aws: Cloud, zone: str) -> None:
        put(aws, zone, f"_services._dns-sd._udp.{HOSTED}", "CNAME", "elsewhere.example.")
        assert faults(settings(enumerate=False)) == ()

    @pytest.mark.parametrize(
        ("at", "first", "more"),
        [
            (f"_tcp.{HOSTED}", SERVICE, 3),
            (SERVICE, SERVICE, 3),
            (SETS[1], SETS[1], 0),
            (f"rc.{HOSTED}", f"rc.{HOSTED}", 1),
        ],
    )
    def test_a_delegation_at_or_above_a_name_is_named_once_with_all_that_it_covers(
        self, aws: Cloud, zone: str, at: str, first: str, more: int
    ) -> None:
        put(aws, zone, at, "NS", "ns1.elsewhere.example.", "ns2.elsewhere.example.")
        found = faults()
        concerned = f"{first} and {more} more name{'s' if more > 1 else ''}" if more else first
        assert f"{at} is delegated to ns1.elsewhere.example., ns2.elsewhere.example. by an NS record" in found[0]
        assert any(f"records at {concerned} are never answered" in each for each in found)
        assert len(found) == 1

    @pytest.mark.parametrize("routed", [True, False])
    def test_a_set_with_a_routing_policy_or_an_alias_is_named(self, aws: Cloud, zone: str, routed: bool) -> None:
        if routed:
            put(aws, zone, SETS[0], "SRV", f"0 0 1 a.{HOSTED}.", SetIdentifier="a", Weight=1)
        else:
            put(aws, zone, f"x.{HOSTED}", "SRV", f"0 0 1 a.{HOSTED}.")
            target = {"HostedZoneId": zone, "DNSName": f"x.{HOSTED}", "EvaluateTargetHealth": False}
            put(aws, zone, SETS[0], "SRV", AliasTarget=target)
        (fault,) = faults()
        assert f"the SRV set {SETS[0]} is an alias or has a routing policy" in fault

    def test_what_comes_after_many_sets_at_a_name_is_seen(self, aws: Cloud, zone: str) -> None:
        """Route53 lists by type, and a page of ours has ten sets."""
        for number in range(12):
            put(aws, zone, f"_tcp.{HOSTED}", "A", "203.0.113.1", SetIdentifier=str(number), Weight=1)
        put(aws, zone, f"_tcp.{HOSTED}", "NS", "ns.elsewhere.example.")
        assert f"_tcp.{HOSTED} is delegated" in faults()[0]
