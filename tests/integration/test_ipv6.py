"""A fleet with IPv6 beside one without, in the same site and the same set, on booted machines with the real engine.

The tests of this file share one deployment and run in the order in which they stand.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from localcloud.runtime.cli import RESOLVER
from localcloud.runtime.prepare import ROOT
from rollcall.ownership import Owner
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.deployed import HOST, Deployed

pytestmark = [pytest.mark.machines, pytest.mark.engine]
SET = "v1._theService._tcp.unilans.net"
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 2
  rollcall:sites: { www: { zone: scalability.expert, host: www, ttl: 60 } }
  rollcall:serviceDiscovery: { zone: unilans.net, services: { theService: { port: 4218, ttl: 5, incarnations: { v1: {} } } } }
  rollcall:fleets:
    web: { cloud: aws, count: 2, size: t3.micro, image: debian-12, joins: [site/www, theService/v1], ipv6: true }
    old: { cloud: joyent, count: 1, size: g1.micro, image: debian-12, joins: [site/www, theService/v1] }
"""
# Prints the machine that answers theService at an address, or the error.
CALL = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=4) as line:
        line.sendall(b"hello\\n")
        print(line.recv(512).decode().split()[0])
except OSError as failed:
    print(type(failed).__name__)
"""
Registered = tuple[set[str], set[str]]


class Families(Deployed):
    def at_the_site(self) -> Registered:
        """Its A and its AAAA."""
        return set(self.dig(HOST, "A")), set(self.dig(HOST, "AAAA"))

    def at_the_service(self) -> Registered:
        """The A and the AAAA of the hosts in the set."""
        hosts = [value.split()[3] for value in self.dig(SET, "SRV")]
        found = [{each for host in hosts for each in self.dig(host, rtype)} for rtype in ("A", "AAAA")]
        return found[0], found[1]

    def everywhere(self) -> list[Registered]:
        return [self.at_the_site(), self.at_the_service()]

    def of(self, *names: str) -> Registered:
        """The addresses that these machines have, as what runs them says."""
        found = [each for name in names for one in self.machines(name) for each in one["addresses"]]
        return {each for each in found if ":" not in each}, {each for each in found if ":" in each}

    def all_records(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get(f"/zones/{self.zone()}/dns_records", per_page="500")["result"]
        return found

    def hosted(self) -> list[tuple[str, str]]:
        """Name and type of everything in the hosted zone."""
        route53 = self.aws("route53")
        zone = route53.list_hosted_zones()["HostedZones"][0]["Id"]
        found = route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
        return sorted((each["Name"], each["Type"]) for each in found)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Families]:
    config: Path = tmp_path_factory.mktemp("ipv6") / "config.yaml"
    config.write_text(CONFIG)
    with sandboxed("ipv6", config) as sandbox:
        yield Families(
            sandbox, sandbox.pulumi("up", "--yes", "--skip-preview", "--stack", "local", capture=True).stdout
        )


def test_up_means_that_both_families_answer_and_a_fleet_without_has_one(families: Families) -> None:
    v4, v6 = families.of("web-", "old-")
    assert (len(v4), len(v6)) == (3, 2) and all(ip_address(each) for each in v6)
    assert families.everywhere() == [(v4, v6), (v4, v6)]
    owners = {
        each["content"]: Owner.parse(each["comment"] or "") for each in families.all_records() if each["name"] == HOST
    }
    assert set(owners) == v4 | v6
    for name in ("web-0", "web-1"):
        (one,), (other,) = families.of(name)
        assert owners[one] == owners[other] is not None
        assert owners[one].instance == families.machine(name)["id"]  # type: ignore[union-attr]


def test_a_machine_s_host_has_both_and_its_value_in_the_set_is_one(families: Families) -> None:
    values = families.dig(SET, "SRV")
    assert len(values) == 3
    counts = sorted(
        (len(families.dig(host, "A")), len(families.dig(host, "AAAA"))) for *_, host in map(str.split, values)
    )
    assert counts == [(1, 0), (1, 1), (1, 1)]


def test_by_ipv6_the_site_and_the_service_are_served_and_another_port_is_shut(families: Families) -> None:
    asking, called = families.machine("web-0")["id"], families.machine("web-1")["id"]
    (v4,), (v6,) = families.of("web-1")
    served = families.inside(asking, "curl", "-6", "-sS", "-m", "10", "-D", "-", "-o", "/dev/null", f"http://[{v6}]/")
    assert f"X-Served-By: {called}" in served
    call = ("python3", "-c", CALL)
    assert families.inside(asking, *call, v6, "4218").strip() == called
    assert [families.inside(asking, *call, each, "22").strip() for each in (v4, v6)] == ["TimeoutError"] * 2
    from_nowhere = families.inside(families.machine("old-0")["id"], *call, v6, "4218").strip()
    assert from_nowhere != called, "the other cloud has no IPv6"


def test_the_client_calls_all_of_both_fleets(families: Families) -> None:
    sample = [sys.executable, str(ROOT / "docs/examples/the_service_client.py"), "--incarnation", "v1"]
    words = [*sample, "--resolver", f"{RESOLVER}:53", "--calls", "30"]
    printed = families.sandbox.localcloud("run", "--", *words, capture=True)
    called = {line.split()[1] for line in printed.splitlines() if line.startswith("answered:")}
    assert called == {each["id"] for each in [*families.machines("web-"), *families.machines("old-")]}


def test_up_again_changes_nothing(families: Families) -> None:
    assert "unchanged" in (output := families.up("--expect-no-changes")), output


def test_a_stop_takes_both_and_up_brings_both_back(families: Families) -> None:
    whole = families.of("web-", "old-")
    gone, left = families.machine("web-1")["id"], families.of("web-0", "old-")
    families.ec2.stop_instances(InstanceIds=[gone])
    took = wait_until("A and AAAA are gone from site and service", lambda: families.everywhere() == [left, left], 40)
    print(f"A and AAAA of a machine that stops gone after {took:.1f} s")
    lines = families.sandbox.pulumi("preview", "--diff", "--stack", "local", capture=True).stdout
    assert f"web-1 ({gone}) is not at {HOST} AAAA" in lines and f"web-1 ({gone}) is not at {HOST} A" in lines
    families.up()
    # Its IPv4 address is another one after a stop, its IPv6 address is not.
    now = families.of("web-", "old-")
    assert now[1] == whole[1] and families.everywhere() == [now, now]


def test_a_crash_takes_both_within_75_seconds_and_no_other(families: Families) -> None:
    left = families.of("web-0", "old-")
    families.sandbox.localcloud("crash", families.machine("web-1")["id"])
    took = wait_until("A and AAAA are gone from site and service", lambda: families.everywhere() == [left, left], 75)
    print(f"A and AAAA of a crashed machine gone after {took:.0f} s")
    families.up()
    now = families.of("web-", "old-")
    assert families.everywhere() == [now, now] and len(now[1]) == 2


def test_destroy_leaves_nothing(families: Families) -> None:
    families.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
    assert families.everywhere() == [(set(), set()), (set(), set())]
    assert not [each for each in families.all_records() if Owner.parse(each["comment"] or "") or each["name"] == HOST]
    assert [each for each in families.hosted() if ".rc." in each[0] or each[1] == "SRV"] == []
    assert families.machines("web-") == []
