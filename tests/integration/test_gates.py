"""The clouds' firewalls hold for packets: EC2 security groups and Triton's firewall rules, at machines that really boot."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from localcloud.network.namespace import NETWORKS, Namespace
from localcloud.runtime.sandbox import Sandbox
from tests.integration.conftest import machines, wait_until
from tests.integration.deployed import Deployed

pytestmark = [pytest.mark.machines, pytest.mark.skipif(os.geteuid() != 0, reason="machines take root")]
DEBIAN = "/aws/service/debian/release/12/latest/amd64"
WEB = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80}
ANYONE = [{"CidrIp": "0.0.0.0/0"}]
SOON = 3.0


class Rented:
    """Two EC2 machines and a Triton one, made by their clouds' own clients, each with nginx and a server on 8080."""

    def __init__(self, clouds: Deployed) -> None:
        self.clouds, self.ec2 = clouds, clouds.ec2
        written = clouds.sandbox.state / "daemon.json"
        self.namespace = Namespace(json.loads(written.read_text())["namespace"])
        self.group = self.ec2.create_security_group(GroupName="web", Description="web")["GroupId"]
        ami = clouds.aws("ssm").get_parameter(Name=DEBIAN)["Parameter"]["Value"]
        made = self.ec2.run_instances(
            MinCount=2, MaxCount=2, ImageId=ami, InstanceType="t3.micro", SecurityGroupIds=[self.group]
        )
        self.one, self.two = (each["InstanceId"] for each in made["Instances"])
        clouds.triton("create", "--name", "web", "--tag", "role=web", "--wait", "debian-12", "g1.nano")
        wait_until("all three run", lambda: len(self.addresses) == len(self.running()) == 3, 60)
        for each in self.running():
            # A machine runs when its init does, which is before systemctl finds its bus.
            wait_until(f"{each['id']} takes orders", lambda each=each: self.takes_orders(each["id"]), 30)  # type: ignore[misc]
            clouds.inside(each["id"], "systemctl", "start", "nginx")
            clouds.inside(each["id"], "systemd-run", "python3", "-m", "http.server", "8080")
        self.joyent = next(each["id"] for each in self.running() if each["cloud"] == "joyent")
        everybody = (self.one, self.two, self.joyent)
        wait_until("all three listen", lambda: {self.curl(each, "127.0.0.1") for each in everybody} == {"200"}, 30)

    def takes_orders(self, instance: str) -> bool:
        done = self.clouds.sandbox.ask("exec", machine=instance, argv=["systemctl", "is-active", "dbus.socket"])
        return bool(done["code"] == 0)

    def running(self) -> list[dict[str, Any]]:
        return [each for each in machines(self.clouds.sandbox) if each["state"] == "running"]

    @property
    def addresses(self) -> dict[str, str]:
        return {each["id"]: each["addresses"][0] for each in machines(self.clouds.sandbox) if each["addresses"]}

    def curl(self, instance: str, address: str, port: int = 8080) -> str:
        """What a machine gets from an address."""
        words = f"curl -s -o /dev/null -m 1 -w '%{{http_code}}' http://{address}:{port}/ || true"
        return self.clouds.inside(instance, "sh", "-c", words)

    def reaches(self, source: str, instance: str, port: int) -> bool:
        """Whether a host of the namespace with that address gets a connection."""
        try:
            self.namespace.connect((self.addresses[instance], port), source, timeout=1.0).close()
        except OSError:
            return False
        return True


@pytest.fixture(scope="module")
def rented() -> Iterator[Rented]:
    sandbox = Sandbox(stack="local", instance=f"gates-{os.getpid()}")
    try:
        sandbox.start()
        yield Rented(Deployed(sandbox, ""))
    finally:
        sandbox.stop()
        shutil.rmtree(sandbox.state, ignore_errors=True)


AWS, JOYENT = NETWORKS["aws"], NETWORKS["joyent"]


def test_a_security_group_without_rules_blocks_inbound_and_allows_outbound(rented: Rented) -> None:
    for source in (AWS.gateway, AWS.visitor, AWS.edge):
        assert not rented.reaches(source, rented.one, 80)
    assert rented.curl(rented.two, rented.addresses[rented.one]) == "000"
    assert rented.curl(rented.joyent, rented.addresses[rented.one]) == "000"
    # Out: to a machine of the other cloud with its firewall off, and to the metadata service.
    assert rented.curl(rented.one, rented.addresses[rented.joyent]) == "200"
    assert rented.curl(rented.one, "169.254.169.254", 80) == "200"


def test_a_rule_lets_in_its_port_from_its_networks_and_goes_when_it_is_revoked(rented: Rented) -> None:
    rule = {**WEB, "IpRanges": [{"CidrIp": f"{AWS.edge}/32"}]}
    rented.ec2.authorize_security_group_ingress(GroupId=rented.group, IpPermissions=[rule])
    wait_until("the edge is let in", lambda: rented.reaches(AWS.edge, rented.one, 80), SOON)
    assert not rented.reaches(AWS.edge, rented.one, 8080)
    assert not rented.reaches(AWS.visitor, rented.one, 80)
    assert rented.curl(rented.two, rented.addresses[rented.one], 80) == "000"
    rented.ec2.revoke_security_group_ingress(GroupId=rented.group, IpPermissions=[rule])
    wait_until("the edge is kept out", lambda: not rented.reaches(AWS.edge, rented.one, 80), SOON)


def test_a_rule_that_names_its_group_is_about_its_machines_even_on_one_bridge(rented: Rented) -> None:
    rule = {**WEB, "FromPort": 8080, "ToPort": 8080, "UserIdGroupPairs": [{"GroupId": rented.group}]}
    rented.ec2.authorize_security_group_ingress(GroupId=rented.group, IpPermissions=[rule])
    wait_until("its neighbour is let in", lambda: rented.curl(rented.two, rented.addresses[rented.one]) == "200", SOON)
    assert rented.curl(rented.joyent, rented.addresses[rented.one]) == "000"
    assert not rented.reaches(AWS.visitor, rented.one, 8080)
    rented.ec2.revoke_security_group_ingress(GroupId=rented.group, IpPermissions=[rule])


def test_an_open_connection_outlives_the_rule_that_let_it_in(rented: Rented) -> None:
    rule = {**WEB, "IpRanges": ANYONE}
    rented.ec2.authorize_security_group_ingress(GroupId=rented.group, IpPermissions=[rule])
    wait_until("anyone is let in", lambda: rented.reaches(AWS.visitor, rented.one, 80), SOON)
    with rented.namespace.connect((rented.addresses[rented.one], 80), AWS.visitor, timeout=3.0) as connection:
        rented.ec2.revoke_security_group_ingress(GroupId=rented.group, IpPermissions=[rule])
        wait_until("no client is let in", lambda: not rented.reaches(AWS.visitor, rented.one, 80), SOON)
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 200")


def test_a_triton_machine_is_open_until_its_firewall_is_on_and_then_lets_in_what_rules_allow(rented: Rented) -> None:
    assert all(rented.reaches(JOYENT.visitor, rented.joyent, port) for port in (80, 8080))
    rented.clouds.triton("instance", "enable-firewall", "--wait", rented.joyent)
    wait_until("it is closed", lambda: not rented.reaches(JOYENT.visitor, rented.joyent, 80), SOON)
    assert rented.curl(rented.one, rented.addresses[rented.joyent]) == "000"
    assert rented.curl(rented.joyent, "127.0.0.1") == "200"
    rented.clouds.triton("fwrule", "create", f"FROM subnet {JOYENT.edge}/32 TO tag role = web ALLOW tcp PORT 80")
    wait_until("the edge is let in", lambda: rented.reaches(JOYENT.edge, rented.joyent, 80), SOON)
    assert not rented.reaches(JOYENT.visitor, rented.joyent, 80)
    assert not rented.reaches(JOYENT.edge, rented.joyent, 8080)
    rented.clouds.triton("instance", "tag", "delete", "--wait", rented.joyent, "role")
    wait_until("the rule is about it no more", lambda: not rented.reaches(JOYENT.edge, rented.joyent, 80), SOON)
    rented.clouds.triton("instance", "disable-firewall", "--wait", rented.joyent)
    wait_until("it is open again", lambda: rented.reaches(JOYENT.visitor, rented.joyent, 8080), SOON)
