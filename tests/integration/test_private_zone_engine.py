"""A service in a private zone, on booted machines with the real engine: up, a client in the VPC, a crash, another up, destroy.

The machines have private addresses only. The account also has a public zone of the same name. The tests of this file share one deployment
and run in the order in which they stand.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.resources.zone_soa import PRIVATE_TTL_S
from localcloud.runtime import sandbox as commands
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.deployed import Deployed
from tests.timing import WATCHFUL
from tests.vpcs import Vpc, make_vpc

pytestmark = [pytest.mark.machines, pytest.mark.engine]
ZONE = "unilans.net"
SET = f"v1._theservice._tcp.{ZONE}."
WITHIN = 60.0
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 2
  rollcall:serviceDiscovery:
    zone: unilans.net
    private: true
    create: true
    services: {{ theService: {{ port: 4218, ttl: 5, incarnations: {{ v1: {{}} }} }} }}
  rollcall:fleets:
    api:
      {{ cloud: aws, count: {count}, size: t3.micro, image: debian-12, timeout: 150, vpc: {{ Name: company }}, joins: [theService/v1] }}
"""
# What an application in the VPC does: the resolver of the machine, and no more. A machine's release has no client of services, so the test
# brings it (docs/discovery.md).
MODULE = Path(__file__).parents[2] / "userdata/rollcall/resolve.py"
BRING = ("sh", "-c", "mkdir -p /root/client && cat >/root/client/resolve.py")
CLIENT = """\
from resolve import Client
client = Client()
for _ in range(30):
    with client.discover("theService", "unilans.net", "v1").connect(timeout=5) as connection:
        connection.sendall(b"hello\\n")
        print(connection.makefile().readline().split()[0])
"""


class Private(Deployed):
    config: Path
    vpc: Vpc

    def configure(self, count: int) -> None:
        """What the next `up` deploys."""
        self.config.write_text(CONFIG.format(count=count))
        self.sandbox.write_config()

    @property
    def route53(self) -> Any:
        return self.aws("route53")

    def hosted(self, *, private: bool) -> str:
        found = self.route53.list_hosted_zones_by_name(DNSName=ZONE)["HostedZones"]
        (zone,) = [each for each in found if each["Name"] == f"{ZONE}." and each["Config"]["PrivateZone"] is private]
        return str(zone["Id"])

    def sets(self) -> dict[tuple[str, str], dict[str, Any]]:
        listed = self.route53.list_resource_record_sets(HostedZoneId=self.hosted(private=True))["ResourceRecordSets"]
        return {(each["Name"], each["Type"]): each for each in listed}

    def values(self) -> list[str]:
        return sorted(each["Value"] for each in self.sets().get((SET, "SRV"), {}).get("ResourceRecords", ()))

    def ids(self) -> set[str]:
        return {each["id"] for each in self.machines("api-") if each["state"] == "running"}

    def call(self) -> set[str]:
        """The machines that answer calls of a client on a machine in the VPC."""
        machine = self.machine("api-0")["id"]
        brought = self.sandbox.ask(
            "exec", machine=machine, argv=BRING, stdin=base64.b64encode(MODULE.read_bytes()).decode()
        )
        assert brought["code"] == 0
        words = ("env", "PYTHONPATH=/root/client:/opt/rollcall/current", "python3", "-c", CLIENT)
        return {*self.inside(machine, *words).split()}


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Private]:
    config = tmp_path_factory.mktemp("private") / "config.yaml"
    config.write_text(CONFIG.format(count=2))
    with sandboxed("private", config, timers=WATCHFUL) as sandbox:
        deployed = Private(sandbox, "")
        deployed.config = config
        deployed.vpc = make_vpc(deployed.ec2, public=1, private=1, nat=True)
        deployed.ec2.modify_vpc_attribute(VpcId=deployed.vpc.id, EnableDnsHostnames={"Value": True})
        deployed.output = deployed.up()
        yield deployed


def test_up_ends_when_the_vpcs_resolver_answers_with_every_machine(private: Private) -> None:
    zone = private.hosted(private=True)
    found = private.route53.get_hosted_zone(Id=zone)["VPCs"]
    assert found == [{"VPCRegion": "us-west-2", "VPCId": private.vpc.id}]
    addresses = {
        one["Value"] for each in private.sets().values() if each["Type"] == "A" for one in each["ResourceRecords"]
    }
    assert len(addresses) == 2 and all(each.startswith("192.0.2.") for each in addresses)
    assert len(private.values()) == 2 and private.sets()[f"{ZONE}.", "SOA"]["TTL"] == PRIVATE_TTL_S
    assert private.call() == private.ids()


def test_nothing_is_in_the_public_zone_and_nothing_is_found_outside_of_the_vpc(private: Private) -> None:
    private.hosted(private=False)
    assert private.dig(SET, "SRV") == []


def test_status_names_the_machines_that_report(private: Private, capfd: pytest.CaptureFixture[str]) -> None:
    assert commands.status(private.sandbox) == 0
    printed = capfd.readouterr().out
    assert f"{ZONE}: private zone, seen by the resolvers of api-0 (i-" in printed and "api-1 (i-" in printed


def test_up_again_changes_nothing(private: Private) -> None:
    assert "unchanged" in (output := private.up("--expect-no-changes")), output


def test_what_a_crash_leaves_is_removed_by_a_machine_that_asks_its_resolver(private: Private) -> None:
    crashed = private.machine("api-1")["id"]
    private.sandbox.localcloud("crash", crashed)
    wait_until("its value is gone", lambda: len(private.values()) == 1, WITHIN)
    wait_until("its challenge is gone", lambda: not any(".c.rc." in name for name, _ in private.sets()), 20)

    def log() -> str:
        return private.inside(private.machine("api-0")["id"], "cat", "/var/log/rollcall.log")

    # It logs a removal when the last of the records is gone.
    wait_until("the machine says so", lambda: "removed dead=" in log(), 20)
    assert "reason" not in log().split("removed dead=")[1].splitlines()[0]


def test_up_brings_it_back_and_another_machine(private: Private) -> None:
    private.configure(3)
    private.up()
    assert len(private.values()) == 3 and private.call() == private.ids() and len(private.ids()) == 3


def test_destroy_leaves_the_zone_with_its_own_soa_and_nothing_else(private: Private) -> None:
    private.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
    assert {(name, kind) for name, kind in private.sets()} == {(f"{ZONE}.", "NS"), (f"{ZONE}.", "SOA")}
    assert private.sets()[f"{ZONE}.", "SOA"]["TTL"] == 900 and private.ids() == set()
