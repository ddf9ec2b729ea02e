"""Firewall rules that the clouds' APIs were given, as gates of machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from localcloud.network.packets import Gate, Line
from tests.cloud.aws_cloud import Cloud, running
from tests.cloud.cloudapi_server import Front, Lab, wait

pytestmark = pytest.mark.clouds


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as made:
        yield made


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture
def lab(front: Front) -> Lab:
    return Lab(front)


def tcp(port: int, *peers: str, last: int | None = None) -> Line:
    return Line(allow=True, protocol="tcp", peers=peers, numbers=((port, last or port),))


class TestSecurityGroups:
    def group(self, cloud: Cloud, name: str, *permissions: dict[str, Any]) -> str:
        ec2 = cloud.client("ec2")
        made = str(ec2.create_security_group(GroupName=name, Description=name)["GroupId"])
        if permissions:
            ec2.authorize_security_group_ingress(GroupId=made, IpPermissions=list(permissions))
        return made

    def gate(self, cloud: Cloud, instance: str) -> Gate:
        return next(each for each in cloud.aws.gates() if each.machine == instance)

    def test_a_machine_lets_in_what_any_of_its_groups_allows(self, cloud: Cloud) -> None:
        web = {
            "IpProtocol": "tcp",
            "FromPort": 80,
            "ToPort": 81,
            "IpRanges": [{"CidrIp": "0.0.0.0/0"}, {"CidrIp": "192.0.2.0/24"}],
            "Ipv6Ranges": [{"CidrIpv6": "2400:cb00::/32"}],
        }
        ping = {"IpProtocol": "icmp", "FromPort": 8, "ToPort": -1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        groups = [self.group(cloud, "one", web), self.group(cloud, "two", ping)]
        (instance,) = cloud.run(SecurityGroupIds=groups)
        gate = self.gate(cloud, instance)
        assert gate.addresses == ("198.51.100.10",) and not gate.lets_out
        assert set(gate.inbound) == {
            *(tcp(80, each, last=81) for each in ("0.0.0.0/0", "192.0.2.0/24", "2400:cb00::/32")),
            Line(allow=True, protocol="icmp", peers=("0.0.0.0/0",), kinds=((8, None),)),
        }
        # A new group lets everything out.
        assert Line(allow=True, protocol="any", peers=("0.0.0.0/0",)) in gate.outbound

    def test_a_group_as_source_is_the_machines_in_it(self, cloud: Cloud) -> None:
        clients = self.group(cloud, "clients")
        pairs = [{"GroupId": clients}]
        servers = self.group(
            cloud, "servers", {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "UserIdGroupPairs": pairs}
        )
        (server,) = cloud.run(SecurityGroupIds=[servers])
        assert self.gate(cloud, server).inbound == (tcp(1),)
        cloud.run(2, SecurityGroupIds=[clients])
        assert self.gate(cloud, server).inbound == (tcp(1, "198.51.100.11", "198.51.100.12"),)

    def test_rules_and_groups_change_while_it_runs(self, cloud: Cloud) -> None:
        ec2, anyone = cloud.client("ec2"), [{"CidrIp": "0.0.0.0/0"}]
        web = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": anyone}
        first, second = self.group(cloud, "first", web), self.group(cloud, "second")
        (instance,) = cloud.run(SecurityGroupIds=[first])
        assert self.gate(cloud, instance).inbound == (tcp(80, "0.0.0.0/0"),)
        ec2.revoke_security_group_ingress(GroupId=first, IpPermissions=[web])
        assert self.gate(cloud, instance).inbound == ()
        ec2.authorize_security_group_ingress(GroupId=second, IpPermissions=[{**web, "FromPort": 443, "ToPort": 443}])
        ec2.modify_instance_attribute(InstanceId=instance, Groups=[second])
        assert self.gate(cloud, instance).inbound == (tcp(443, "0.0.0.0/0"),)

    def test_a_machine_that_is_off_has_no_gate(self, cloud: Cloud) -> None:
        (instance,) = cloud.run()
        assert [each.machine for each in cloud.aws.gates()] == [instance]
        cloud.client("ec2").terminate_instances(InstanceIds=[instance])
        cloud.aws.stopped(instance)
        assert cloud.aws.gates() == []


class TestFirewallRules:
    def rule(self, lab: Lab, text: str, enabled: bool = True) -> str:
        return str(lab.post("/fwrules", {"rule": text, "enabled": enabled}, 201)["id"])

    def gate(self, lab: Lab, machine: dict[str, Any]) -> Gate | None:
        return next((each for each in lab.cloud.gates() if each.machine == machine["id"]), None)

    def inbound(self, lab: Lab, machine: dict[str, Any]) -> tuple[Line, ...]:
        gate = self.gate(lab, machine)
        assert gate is not None
        return gate.inbound

    def test_only_a_machine_with_its_firewall_on_has_a_gate(self, lab: Lab) -> None:
        found = lab.running(name="a", **{"tag.role": "web"})
        self.rule(lab, "FROM any TO tag role=web ALLOW tcp PORT 80")
        assert self.gate(lab, found) is None
        lab.act(found["id"], "enable_firewall")
        gate = wait(lambda: self.gate(lab, found))
        assert gate.lets_out and gate.addresses == tuple(found["ips"])
        assert gate.inbound == (Line(allow=True, protocol="tcp", numbers=((80, 80),)),)
        lab.act(found["id"], "disable_firewall")
        wait(lambda: self.gate(lab, found) is None)

    def test_rules_count_for_the_machines_that_they_name_while_they_are_enabled(self, lab: Lab) -> None:
        web = lab.running(name="a", firewall_enabled=True, **{"tag.role": "web"})
        other = lab.running(name="b", firewall_enabled=True, **{"tag.role": "db"})
        made = self.rule(lab, "FROM subnet 192.0.2.0/24 TO tag role=web ALLOW tcp PORTS 80, 8000-8010", enabled=False)
        assert self.inbound(lab, web) == ()
        lab.post(f"/fwrules/{made}/enable", {})
        line = Line(allow=True, protocol="tcp", peers=("192.0.2.0/24",), numbers=((80, 80), (8000, 8010)))
        assert self.inbound(lab, web) == (line,) and self.inbound(lab, other) == ()

    def test_machines_as_sources_are_their_addresses(self, lab: Lab) -> None:
        web = lab.running(name="a", firewall_enabled=True, **{"tag.role": "web"})
        db = lab.running(name="b", firewall_enabled=True, **{"tag.role": "db"})
        self.rule(lab, "FROM (tag role=web OR ip 192.0.2.7) TO tag role=db ALLOW tcp PORT 5432")
        (line,) = self.inbound(lab, db)
        assert line.peers is not None and set(line.peers) == {*web["ips"], "192.0.2.7"}
        gate = self.gate(lab, web)
        assert gate is not None and gate.inbound == () and len(gate.outbound) == 1

    def test_allowing_wins_inbound_and_blocking_outbound_unless_a_priority_says_else(self, lab: Lab) -> None:
        found = lab.running(name="a", firewall_enabled=True)
        for action in ("BLOCK", "ALLOW"):
            self.rule(lab, f"FROM any TO all vms {action} tcp PORT 80")
            self.rule(lab, f"FROM all vms TO any {action} tcp PORT 25")
        gate = self.gate(lab, found)
        assert gate is not None
        assert [each.allow for each in gate.inbound] == [True, False]
        assert [each.allow for each in gate.outbound] == [False, True]
        self.rule(lab, "FROM ip 192.0.2.7 TO all vms BLOCK tcp PORT 80 PRIORITY 5")
        assert next((each.allow, each.peers) for each in self.inbound(lab, found)) == (False, ("192.0.2.7",))

    def test_what_a_side_may_name_is_limited(self, lab: Lab) -> None:
        def rule(count: int) -> dict[str, str]:
            names = " OR ".join(f"ip 192.0.2.{number}" for number in range(count))
            return {"rule": f"FROM ({names}) TO all vms ALLOW tcp PORT 80"}

        lab.post("/fwrules", rule(24), 201)
        lab.refused("POST", "/fwrules", rule(25), 409, "InvalidArgument")
        ports = ", ".join(map(str, range(1, 26)))
        lab.refused(
            "POST", "/fwrules", {"rule": f"FROM any TO all vms ALLOW tcp PORTS {ports}"}, 409, "InvalidArgument"
        )

    def test_icmp(self, lab: Lab) -> None:
        found = lab.running(name="a", firewall_enabled=True)
        self.rule(lab, "FROM any TO all vms ALLOW icmp (TYPE 8 CODE 0 AND TYPE 3)")
        self.rule(lab, "FROM any TO all vms ALLOW icmp6 TYPE all")
        lines = self.inbound(lab, found)
        assert {each.protocol: set(each.kinds) for each in lines} == {"icmp": {(3, None), (8, 0)}, "icmp6": set()}
