"""Agents of a private zone on the local Route53, with the resolver of their VPC and its cache in between, on a clock of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dns.message
import pytest

from components.resources.zone_soa import PRIVATE_TTL_S
from localcloud.aws.route53 import UNLIMITED
from localcloud.dns.vpc import VpcResolvers
from rollcall.agent import TICK, Agent
from rollcall.answers import Answers
from rollcall.host_label import FirstLabels
from rollcall.registry import RetriedService
from rollcall.route53 import Route53Store, Store
from rollcall.settings import Join, MachineSettings, Route53Join, ServiceJoin
from rollcall.zoneview import Reply, ResolverView, Server, judged
from tests.cloud.aws_cloud import Cloud, running
from tests.unit.agent.fakes import FakeCloud, memory_folder

pytestmark = pytest.mark.clouds
ZONE, REGION = "unilans.net", "us-west-2"
SET = f"v1._theservice._tcp.{ZONE}."
WITHIN, SLOWLY = 60.0, 390.0


class Now:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Machine(FakeCloud):
    def __init__(self, number: int, join: Join) -> None:
        settings = MachineSettings(
            stack="local", fleet="api", machine=str(number), generation=f"{number:06x}", joins=(join,)
        )
        super().__init__(settings)
        self.private = (f"192.0.2.{10 + number}",)

    def instance(self) -> str:
        return f"i-{int(self.settings.machine):017x}"


class View(ResolverView):
    """Asks the resolver of a VPC without a network."""

    def __init__(self, resolver: VpcResolvers, client: str, clock: Callable[[], float]) -> None:
        super().__init__(ZONE, [Server(address="192.0.2.2")], clock)
        self._resolver, self._client = resolver, client

    def _query_all(
        self, servers: Sequence[Server], name: str, rtype: str, *, recursive: bool = False
    ) -> dict[Server, Reply]:
        wire = self._resolver.answer(dns.message.make_query(name, rtype).to_wire(), over_tcp=True, client=self._client)
        assert wire is not None and recursive
        return {each: judged(dns.message.from_wire(wire), ZONE, rtype, recursive=True) for each in servers}


class Registry(RetriedService):
    API = "route53"

    def __init__(self, join: ServiceJoin, cloud: Cloud) -> None:
        super().__init__(join, lambda: "", labels=FirstLabels())
        self._cloud = cloud

    def _open(self) -> tuple[Store, Callable[[], None]]:
        return Route53Store(self._join.zone, self._cloud.route53()), lambda: None


class Lab:
    """Three machines in a VPC. Those in `off` are dead, and no probe reaches those in `silent`."""

    def __init__(self, cloud: Cloud, home: Path, soa_ttl: int) -> None:
        self.cloud, self.clock, self.api = cloud, Now(), cloud.client("route53")
        ec2 = cloud.client("ec2")
        self.vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
        made = self.api.create_hosted_zone(Name=ZONE, CallerReference="1", VPC={"VPCRegion": REGION, "VPCId": self.vpc})
        self.zone = made["HostedZone"]["Id"].rpartition("/")[2]
        soa = next(each for each in self.sets() if each["Type"] == "SOA")
        self.change("UPSERT", {**soa, "TTL": soa_ttl})
        aws = cloud.aws
        self.resolver = VpcResolvers([aws], {}, {}, None, lambda _: self.vpc, aws.in_vpc, self.clock)
        self.agents: dict[int, Agent] = {}
        self.off: set[int] = set()
        self.silent: set[int] = set()
        for number in range(3):
            self.agents[number] = self.boot(number, home)

    def boot(self, number: int, home: Path) -> Agent:
        join = Route53Join(
            zone=self.zone,
            domain=ZONE,
            service="_theService._tcp",
            incarnation="v1",
            port=4218,
            check="command:/bin/true",
            view="vpc",
            address="private",
        )
        machine, answers = Machine(number, join), Answers()
        answers._views[ZONE, True] = View(self.resolver, machine.private[0], self.clock)

        def registry(of: Join, _: Callable[[str], str]) -> Any:
            assert isinstance(of, ServiceJoin)
            return Registry(of, self.cloud)

        return Agent(
            machine,
            status_file=home / f"{number}.json",
            clock=self.clock,
            answers=answers,
            registry_of=registry,
            reach=lambda host, _: int(host.partition(".")[0], 16) not in self.off | self.silent,
            labels=FirstLabels(),
        )

    def change(self, action: str, record: dict[str, Any]) -> None:
        batch = {"Changes": [{"Action": action, "ResourceRecordSet": record}]}
        self.api.change_resource_record_sets(HostedZoneId=self.zone, ChangeBatch=batch)

    def sets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.list_resource_record_sets(HostedZoneId=self.zone)["ResourceRecordSets"]
        return found

    def members(self) -> set[int]:
        values = (one["Value"] for each in self.sets() if each["Name"] == SET for one in each["ResourceRecords"])
        return {int(each.split()[3].partition(".")[0], 16) for each in values}

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """Let time pass, and stop when `until` is true. Return how long it took."""
        began = self.clock.now
        while self.clock.now - began < seconds and not until():
            for number, agent in self.agents.items():
                if number not in self.off:
                    agent.tick()
            self.clock.now += TICK
        return self.clock.now - began


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with running(route53_limits=UNLIMITED) as cloud, memory_folder() as home:
        made = Lab(cloud, home, request.param)
        made.run(40)
        assert made.members() == {0, 1, 2}
        yield made


@pytest.mark.parametrize(("lab", "within"), [(PRIVATE_TTL_S, WITHIN), (900, SLOWLY)], indirect=["lab"])
def test_what_a_dead_machine_leaves_is_removed(lab: Lab, within: float) -> None:
    """With Route53's own SOA it takes up to six minutes, because machines do not see challenges by their resolver."""
    addresses = {one["Value"] for each in lab.sets() if each["Type"] == "A" for one in each["ResourceRecords"]}
    assert addresses == {"192.0.2.10", "192.0.2.11", "192.0.2.12"}
    lab.off.add(2)
    took = lab.run(within + 30, lambda: lab.members() == {0, 1})
    assert took <= within, took
    lab.run(30)
    assert lab.members() == {0, 1} and not any("000002" in each["Name"] for each in lab.sets())


@pytest.mark.parametrize("lab", [PRIVATE_TTL_S, 900], indirect=True)
def test_a_machine_that_runs_and_that_no_probe_reaches_stays(lab: Lab) -> None:
    lab.silent.add(2)
    seen: list[bool] = []

    def challenged() -> bool:
        seen.append(any(each["Name"].startswith("000002.c.rc.") for each in lab.sets()))
        return lab.members() != {0, 1, 2}

    lab.run(SLOWLY, challenged)
    assert any(seen), "it was challenged"
    assert lab.members() == {0, 1, 2}


@pytest.mark.parametrize("lab", [PRIVATE_TTL_S], indirect=True)
def test_the_ttl_of_a_challenge_is_short(lab: Lab) -> None:
    lab.off.add(2)
    found: list[int] = []

    def noted() -> bool:
        found.extend(each["TTL"] for each in lab.sets() if ".c.rc." in each["Name"])
        return bool(found)

    lab.run(WITHIN, noted)
    assert found == [5]


@pytest.mark.parametrize("lab", [PRIVATE_TTL_S], indirect=True)
def test_a_record_that_others_delete_is_written_again(lab: Lab) -> None:
    (host,) = [each for each in lab.sets() if each["Name"] == f"000001.rc.{ZONE}." and each["Type"] == "A"]
    lab.change("DELETE", host)
    lab.run(
        90, lambda: any("192.0.2.11" in str(each.get("ResourceRecords")) for each in lab.sets() if each["Type"] == "A")
    )
    assert lab.members() == {0, 1, 2}
    assert any("192.0.2.11" in str(each["ResourceRecords"]) for each in lab.sets() if each["Type"] == "A")
