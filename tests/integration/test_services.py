"""The second article's run, on booted machines with the real engine: three instances of v1, two of v2, a client.

The tests of this file share one deployment and run in the order in which they stand.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from components.resources import userdata
from localcloud.runtime.cli import RESOLVER
from localcloud.runtime.prepare import ROOT
from rollcall.host_label import generation_of
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.deployed import Deployed
from tests.integration.stolen_credentials import role_credentials

pytestmark = [pytest.mark.machines, pytest.mark.engine]
SERVICE = "_theService._tcp.unilans.net"
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 2
  rollcall:serviceDiscovery:
    zone: unilans.net
    ttl: 60
    services:
      theService:
        port: 4218
        ttl: 5
        incarnations: {{ v1: {{ txt: {{ path: /, note: 'say "hello"' }} }}, v2: {{}} }}
  rollcall:fleets:
    api: {{ cloud: aws, count: {v1}, size: t3.micro, image: debian-12, joins: [theService/v1], weight: {weight} }}
    next: {{ cloud: joyent, count: {v2}, size: g1.micro, image: debian-12, joins: [theService/v2] }}
"""


class Services(Deployed):
    config: Path

    def configure(self, v1: int = 3, v2: int = 2, weight: int = 10) -> None:
        """What the next `up` deploys."""
        self.config.write_text(CONFIG.format(v1=v1, v2=v2, weight=weight))
        self.sandbox.write_config()

    def values(self, incarnation: str) -> list[str]:
        return self.dig(f"{incarnation}.{SERVICE}", "SRV")

    def rfc2782(self, incarnation: str) -> list[str]:
        """What HAProxy and every library of RFC 2782 see."""
        return self.dig(f"_theService._tcp.{incarnation}.unilans.net", "SRV")

    def hosts(self, incarnation: str) -> list[str]:
        return [value.split()[3] for value in self.values(incarnation)]

    def call(self, incarnation: str, calls: int = 30) -> set[str]:
        """Return the machines that answer calls of the sample client, from a host in the machines' network."""
        sample = [sys.executable, str(ROOT / "docs/examples/the_service_client.py"), "--incarnation", incarnation]
        words = [*sample, "--resolver", f"{RESOLVER}:53", "--calls", str(calls)]
        printed = self.sandbox.localcloud("run", "--", *words, capture=True)
        return {line.split()[1] for line in printed.splitlines() if line.startswith("answered:")}

    def ids(self, fleet: str) -> set[str]:
        return {each["id"] for each in self.machines(f"{fleet}-") if each["state"] == "running"}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    config = tmp_path_factory.mktemp("services") / "config.yaml"
    config.write_text(CONFIG.format(v1=3, v2=2, weight=10))
    with sandboxed("services", config) as sandbox:
        output = sandbox.pulumi("up", "--yes", "--skip-preview", "--stack", "local", capture=True).stdout
        deployed = Services(sandbox, output)
        deployed.config = config
        yield deployed


def test_dig_shows_ptr_txt_and_three_srv_values_with_their_hosts(services: Services) -> None:
    assert services.dig("_services._dns-sd._udp.unilans.net", "PTR") == [f"{SERVICE}."]
    assert services.dig(SERVICE, "PTR") == [f"v1.{SERVICE}.", f"v2.{SERVICE}."]
    assert services.dig(f"v1.{SERVICE}", "TXT") == ['"note=say \\"hello\\"" "path=/"']
    assert services.dig(f"v2.{SERVICE}", "TXT") == ['""']
    values = services.values("v1")
    assert len(values) == 3 and all(value.startswith("10 10 4218 ") for value in values), values
    assert services.rfc2782("v1") == values and services.rfc2782("v2") == services.values("v2")
    assert services.dig(SERVICE, "SRV") == [], "of two incarnations none is the one that is meant"
    found = {address for host in services.hosts("v1") for address in services.dig(host, "A")}
    assert found == {each["addresses"][0] for each in services.machines("api-")}


def test_the_client_calls_all_three_and_v1_never_reaches_v2(services: Services) -> None:
    assert services.call("v1") == services.ids("api")
    assert services.call("v2") == services.ids("next")


def test_up_again_changes_nothing(services: Services) -> None:
    assert "unchanged" in (output := services.up("--expect-no-changes")), output


@pytest.mark.parametrize("cloud", ["aws", "joyent"])
def test_a_machine_may_change_what_it_joins_and_nothing_else(services: Services, cloud: str) -> None:
    """With the role's own credentials on EC2, with the IAM user's key that a Joyent machine has."""
    machine = services.machine("api-0" if cloud == "aws" else "next-0")["id"]
    mine, other = ("v1", "v2") if cloud == "aws" else ("v2", "v1")
    zone = services.aws("route53").list_hosted_zones()["HostedZones"][0]["Id"]
    second = services.aws("route53").create_hosted_zone(Name="unilans.example", CallerReference=cloud)["HostedZone"][
        "Id"
    ]
    tried = [
        (
            "another zone",
            second,
            "CREATE",
            f"{mine}._theservice._tcp.unilans.example",
            "SRV",
            "1 1 1 a.unilans.example.",
        ),
        ("another name", zone, "CREATE", "www.unilans.net", "A", "198.51.100.99"),
        ("another type", zone, "CREATE", f"{mine}.{SERVICE}", "A", "198.51.100.99"),
        ("another service", zone, "CREATE", f"{other}.{SERVICE}", "SRV", "1 1 1 a.unilans.net."),
        ("an upsert", zone, "UPSERT", "ffffff.rc.unilans.net", "A", "198.51.100.99"),
        ("the TXT of an incarnation", zone, "CREATE", f"{mine}.{SERVICE}", "TXT", '"stolen"'),
        (
            "the other name of another",
            zone,
            "CREATE",
            f"_theservice._tcp.{other}.unilans.net",
            "SRV",
            "1 1 1 a.unilans.net.",
        ),
        ("its own host", zone, "CREATE", "ffffff.rc.unilans.net", "A", "198.51.100.99"),
    ]
    if cloud == "aws":
        role = role_credentials(services, machine)
        key = [role["AccessKeyId"], role["SecretAccessKey"], role["Token"]]
    else:
        key = services.inside(machine, "mdata-get", "route53-key").split()
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    stolen, outcomes = services.aws("route53", dict(zip(names, key, strict=False))), {}
    for what, place, action, name, kind, value in tried:
        record = {"Name": name, "Type": kind, "TTL": 60, "ResourceRecords": [{"Value": value}]}
        change = {"Action": action, "ResourceRecordSet": record}
        try:
            stolen.change_resource_record_sets(HostedZoneId=place, ChangeBatch={"Changes": [change]})
            outcomes[what] = "allowed"
        except ClientError as refused:
            outcomes[what] = refused.response["Error"]["Code"]
        if outcomes[what] == "allowed":
            undone = {**change, "Action": "DELETE"}
            stolen.change_resource_record_sets(HostedZoneId=place, ChangeBatch={"Changes": [undone]})
    services.aws("route53").delete_hosted_zone(Id=second)
    assert outcomes.pop("its own host") == "allowed"
    assert set(outcomes.values()) == {"AccessDenied"}, outcomes


def test_a_stopped_instance_takes_its_host_and_its_value_along(services: Services) -> None:
    machine = services.machine("api-2")["id"]
    before = set(services.hosts("v1"))
    services.ec2.stop_instances(InstanceIds=[machine])
    wait_until("the instance is down", lambda: services.machine("api-2")["state"] == "stopped", 60)
    wait_until("its value is gone", lambda: len(services.values("v1")) == 2, 5)
    (host,) = before - set(services.hosts("v1"))
    assert services.rfc2782("v1") == services.values("v1")
    assert services.dig(host, "A") == [] and services.dig(host, "TXT") == []
    assert services.call("v1") == services.ids("api") and len(services.ids("api")) == 2
    everybody = [each["id"] for each in services.machines("api-")]
    services.ec2.stop_instances(InstanceIds=everybody)
    wait_until("all are down", lambda: {each["state"] for each in services.machines("api-")} == {"stopped"}, 60)
    wait_until("no SRV is left", lambda: services.values("v1") == [], 5)
    assert f"v1.{SERVICE}." in services.dig(SERVICE, "PTR") and services.dig(f"v1.{SERVICE}", "TXT")
    services.ec2.start_instances(InstanceIds=everybody)
    wait_until("they are back, with no operator", lambda: len(services.values("v1")) == 3, 60)
    # Under another name: resolvers may remember that the former one had gone.
    (again,) = {each for each in services.hosts("v1") if generation_of(each) == generation_of(host)}
    assert again != host and services.dig(host, "A") == []
    (address,) = services.dig(again, "A")
    assert address in services.machine("api-2")["addresses"]


def test_a_weight_changes_without_a_new_machine(services: Services) -> None:
    before = services.ids("api")
    services.configure(weight=25)
    output = services.up()
    assert services.ids("api") == before, output
    assert [value.split()[1] for value in services.values("v1")] == ["25"] * 3


def test_both_incarnations_scale_and_stay_apart(services: Services) -> None:
    services.configure(v1=4, v2=1, weight=25)
    services.up()
    assert len(services.values("v1")) == 4 and len(services.values("v2")) == 1
    assert services.rfc2782("v1") == services.values("v1") and services.rfc2782("v2") == services.values("v2")
    assert services.call("v1", 60) == services.ids("api")
    assert services.call("v2") == services.ids("next")
    services.configure(v1=2, v2=3, weight=25)
    services.up()
    assert len(services.values("v1")) == 2 and len(services.values("v2")) == 3
    assert services.call("v1") == services.ids("api")
    assert services.call("v2", 60) == services.ids("next")


def test_what_another_owner_put_into_the_set_stays_to_the_byte(services: Services) -> None:
    route53 = services.aws("route53")
    zone = route53.list_hosted_zones()["HostedZones"][0]["Id"]

    def current() -> dict[str, Any]:
        sets = route53.list_resource_record_sets(
            HostedZoneId=zone, StartRecordName=f"v1.{SERVICE}", StartRecordType="SRV", MaxItems="1"
        )
        found: dict[str, Any] = sets["ResourceRecordSets"][0]
        return found

    old = current()
    new = {**old, "ResourceRecords": [*old["ResourceRecords"], {"Value": "0 0 4218 By-Hand.unilans.net"}]}
    changes = [{"Action": "DELETE", "ResourceRecordSet": old}, {"Action": "CREATE", "ResourceRecordSet": new}]
    route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})
    services.configure(v1=3, v2=3, weight=30)
    output = services.up()
    assert "By-Hand" in output and "is not Rollcall's" in output, output
    assert {"Value": "0 0 4218 By-Hand.unilans.net"} in current()["ResourceRecords"]
    assert len(services.values("v1")) == 4


def test_a_machine_that_rollcall_did_not_make_joins_with_the_same_userdata(services: Services) -> None:
    """As of an Auto Scaling group: every machine has the same settings, and names itself by its instance id."""
    model = services.ec2.describe_instances(InstanceIds=[services.machine("api-0")["id"]])
    like = model["Reservations"][0]["Instances"][0]
    given = {tag["Key"]: tag["Value"] for tag in like["Tags"]}
    kept = ("rollcall-join-0", "rollcall-workloads", "rollcall-release", "rollcall-store")
    tags = {"rollcall-stack": "by-hand", "rollcall-fleet": "asg", **{key: given[key] for key in kept}}
    made = services.ec2.run_instances(
        ImageId=like["ImageId"],
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        SubnetId=like["SubnetId"],
        SecurityGroupIds=[each["GroupId"] for each in like["SecurityGroups"]],
        IamInstanceProfile={"Arn": like["IamInstanceProfile"]["Arn"]},
        UserData=userdata.gzipped(),
        MetadataOptions={"HttpTokens": "required", "InstanceMetadataTags": "enabled"},
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        ],
    )["Instances"][0]["InstanceId"]
    wait_until("it has joined", lambda: len(services.values("v1")) == 5, 60)
    services.ec2.terminate_instances(InstanceIds=[made])
    wait_until("it has left", lambda: len(services.values("v1")) == 4, 60)


def test_destroy_leaves_what_is_not_ours(services: Services) -> None:
    services.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
    assert services.values("v1") == ["0 0 4218 By-Hand.unilans.net."]
    assert services.values("v2") == [] == services.rfc2782("v1")
    route53 = services.aws("route53")
    zone = route53.list_hosted_zones()["HostedZones"][0]["Id"]
    sets = route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    left = {(each["Name"], each["Type"]) for each in sets}
    assert not any("rc.unilans" in name or kind == "PTR" for name, kind in left), left
    assert ("unilans.net.", "TXT") in left
