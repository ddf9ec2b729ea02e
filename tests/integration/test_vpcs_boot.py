"""A company's account: a stack without a default VPC, with elastic addresses, on booted machines with the real engine.

The tests of this file share one deployment and run in the order in which they stand.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.runtime.sandbox import SandboxError
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.deployed import Deployed
from tests.vpcs import Vpc, delete_default_vpc, make_vpc

pytestmark = [pytest.mark.machines, pytest.mark.engine]
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 2
  rollcall:sites: {{ www: {{ zone: scalability.expert, host: www, ttl: 60 }} }}
  rollcall:fleets:
    web: {{ cloud: aws, count: 2, size: t3.micro, image: debian-12, joins: [site/www]{more} }}
"""
STABLE = ", vpc: { Name: company }, stableAddresses: true"


class Company(Deployed):
    """`vpc` is the company's, and `config` the stack's file."""

    vpc: Vpc
    config: Path

    def write(self, more: str) -> None:
        self.config.write_text(CONFIG.format(more=more))
        self.sandbox.lay_out()

    def elastic(self) -> set[str]:
        return {each["PublicIp"] for each in self.ec2.describe_addresses()["Addresses"]}

    def used(self) -> set[str]:
        found = self.ec2.describe_addresses()["Addresses"]
        return {each["PublicIp"] for each in found if each.get("NetworkInterfaceId")}

    def registered(self) -> set[str]:
        return {each["content"] for each in self.records()}

    def subnets(self) -> set[str]:
        ids = [each["id"] for each in self.machines("web-")]
        reservations = self.ec2.describe_instances(InstanceIds=ids)["Reservations"]
        return {each["SubnetId"] for one in reservations for each in one["Instances"]}

    def changes_nothing(self) -> None:
        self.sandbox.pulumi("preview", "--stack", self.sandbox.stack, "--expect-no-changes", capture=True)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    config = tmp_path_factory.mktemp("vpcs") / "config.yaml"
    config.write_text(CONFIG.format(more=""))
    with sandboxed("vpcs", config) as sandbox:
        made = Company(sandbox, "")
        made.config = config
        delete_default_vpc(made.ec2)
        made.vpc = make_vpc(made.ec2, public=2, private=1)
        yield made


def test_without_the_keys_the_fault_names_the_vpcs_that_there_are(company: Company) -> None:
    with pytest.raises(SandboxError) as refused:
        company.up()
    assert "rollcall:fleets.web.vpc: is not set, and us-west-2 has no default VPC" in str(refused.value)
    assert company.vpc.id in str(refused.value) and company.machines("web-") == []


def test_machines_of_a_vpc_register_their_elastic_addresses(company: Company) -> None:
    company.write(STABLE)
    company.up()
    assert company.subnets() == set(company.vpc.public)
    assert len(company.elastic()) == 4 and len(company.used()) == 2
    assert company.registered() == company.used() == set(company.answers())
    for each in company.machines("web-"):
        own = company.inside(each["id"], "ip", "-4", "-br", "address", "show", "host0")
        assert "192.0.2." in own and each["addresses"][0] not in own
    company.changes_nothing()


def test_a_security_group_is_added_to_running_machines(company: Company) -> None:
    before = {each["id"] for each in company.machines("web-")}
    company.write(f"{STABLE}, securityGroups: [{company.vpc.group}]")
    company.up()
    assert {each["id"] for each in company.machines("web-")} == before
    for instance in before:
        listed = company.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
        assert company.vpc.group in [each["GroupId"] for each in listed["SecurityGroups"]]
    company.changes_nothing()


def test_successors_take_the_other_addresses_and_no_wrong_one_is_registered(company: Company) -> None:
    before, old = company.used(), {each["id"] for each in company.machines("web-")}
    seen, ended = set[str](), threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            seen.update(company.answers())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        company.write(f"{STABLE}, securityGroups: [{company.vpc.group}], subnets: [{company.vpc.public[1]}]")
        company.up()
    finally:
        ended.set()
        watcher.join(10)
    assert not old & {each["id"] for each in company.machines("web-")}
    assert company.subnets() == {company.vpc.public[1]}
    assert company.used() == company.elastic() - before == company.registered()
    assert seen <= company.elastic()
    interfaces = company.ec2.describe_network_interfaces()["NetworkInterfaces"]
    assert len(interfaces) == 2
    company.changes_nothing()


def test_a_crashed_machine_comes_back_with_its_address(company: Company) -> None:
    machine = company.machine("web-0")
    (address,) = machine["addresses"][:1]
    company.sandbox.localcloud("crash", machine["id"])
    wait_until("its record is gone", lambda: address not in company.registered(), 90)
    company.up()
    assert company.machine("web-0")["addresses"][:1] == [address]
    assert company.registered() == company.used()
    company.changes_nothing()


def test_destroy_leaves_no_address_and_no_interface(company: Company) -> None:
    company.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", company.sandbox.stack, capture=True)
    assert company.elastic() == set() and company.registered() == set()
    assert company.ec2.describe_network_interfaces()["NetworkInterfaces"] == []
    groups = company.ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [company.vpc.id]}])
    assert sorted(each["GroupName"] for each in groups["SecurityGroups"]) == ["default", "extra"]
