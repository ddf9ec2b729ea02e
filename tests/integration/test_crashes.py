"""What a crash, a hang, a lost cloud and a cut between the clouds do to DNS, with nobody at the keyboard.

The tests of this file share one deployment and run in the order in which they stand.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import rehearsed, wait_until
from tests.integration.deployed import Deployed

pytestmark = [pytest.mark.machines, pytest.mark.engine]
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:linger: 2
  rollcall:site: { zone: scalability.expert, host: www, ttl: 60 }
  rollcall:directory: { zone: unilans.net, services: { theService: { port: 4218, ttl: 5, incarnations: { v1: {} } } } }
  rollcall:fleets:
    web-aws: { cloud: aws, count: 2, size: t3.micro, image: debian-12, joins: [site, theService/v1] }
    web-joyent: { cloud: joyent, count: 2, size: g1.micro, image: debian-12, joins: [site, theService/v1] }
"""
WITHIN = 60.0


class Crashes(Deployed):
    def standing(self) -> tuple[set[str], set[str]]:
        """The addresses at the site, and those of the hosts in the service's set."""
        hosts = [value.split()[3] for value in self.dig("v1._theService._tcp.unilans.net", "SRV")]
        return set(self.answers()), {address for host in hosts for address in self.dig(host, "A")}

    def address(self, name: str) -> str:
        return str(self.machine(name)["addresses"][0])

    def all_of(self, prefix: str) -> set[str]:
        return {each["addresses"][0] for each in self.machines(prefix)}


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashes]:
    config: Path = tmp_path_factory.mktemp("crashes") / "config.yaml"
    config.write_text(CONFIG)
    with rehearsed("crashes", config) as rehearsal:
        yield Crashes(
            rehearsal, rehearsal.pulumi("up", "--yes", "--skip-preview", "--stack", "local", capture=True).stdout
        )


def test_clouds_that_are_cut_off_from_each_other_remove_nobody(crashes: Crashes) -> None:
    everybody = crashes.all_of("web-")
    assert crashes.standing() == (everybody, everybody)
    crashes.rehearsal.localcloud("partition")
    end = time.monotonic() + 40
    while time.monotonic() < end:
        assert crashes.standing() == (everybody, everybody)
        time.sleep(1)
    crashes.rehearsal.localcloud("heal")


@pytest.mark.prove
def test_clouds_that_are_cut_off_for_three_minutes_remove_nobody(crashes: Crashes) -> None:
    everybody = crashes.all_of("web-")
    crashes.rehearsal.localcloud("partition")
    end = time.monotonic() + 180
    while time.monotonic() < end:
        assert crashes.standing() == (everybody, everybody)
        time.sleep(1)
    crashes.rehearsal.localcloud("heal")


def test_what_crashed_and_what_hangs_is_gone_within_a_minute_and_comes_back(crashes: Crashes) -> None:
    """One EC2 instance loses its power, one Joyent machine hangs while its API says running."""
    # Who could not be reached a moment ago is looked at again first; those who watch do so every ten seconds.
    time.sleep(15)
    crashed, frozen = crashes.machine("web-aws-1")["id"], crashes.machine("web-joyent-1")["id"]
    left = {crashes.address("web-aws-0"), crashes.address("web-joyent-0")}
    crashes.rehearsal.localcloud("crash", crashed)
    crashes.rehearsal.localcloud("freeze", frozen)
    took = wait_until("both are gone from both", lambda: crashes.standing() == (left, left), WITHIN)
    print(f"entries of a crashed and of a frozen machine gone after {took:.0f} s")
    crashes.rehearsal.localcloud("thaw", frozen)
    crashes.ec2.start_instances(InstanceIds=[crashed])
    wait_until("both are back", lambda: [len(each) for each in crashes.standing()] == [4, 4], 90)


@pytest.mark.prove
def test_a_cloud_that_is_lost_whole_is_removed_whole_and_the_other_stays(crashes: Crashes) -> None:
    left = crashes.all_of("web-aws")
    crashes.rehearsal.localcloud("isolate", "joyent")
    wait_until("the lost cloud is gone", lambda: crashes.standing() == (left, left), 150)
    crashes.rehearsal.localcloud("heal")
    wait_until("it is back by itself", lambda: [len(each) for each in crashes.standing()] == [4, 4], 90)


@pytest.mark.prove
def test_of_all_but_one_the_last_stays(crashes: Crashes) -> None:
    last = {crashes.address("web-joyent-0")}
    for name in ("web-aws-0", "web-aws-1", "web-joyent-1"):
        crashes.rehearsal.localcloud("crash", crashes.machine(name)["id"])
    wait_until("only the last stands", lambda: crashes.standing() == (last, last), 240)
    time.sleep(15)
    assert crashes.standing() == (last, last)


@pytest.mark.prove
def test_up_brings_back_what_crashed(crashes: Crashes) -> None:
    preview = crashes.rehearsal.pulumi("preview", "--diff", "--stack", "local", capture=True).stdout
    assert "web-aws-0" in preview and "is not at www.scalability.expert A" in preview, preview
    for name in ("web-aws-0", "web-aws-1"):
        crashes.ec2.start_instances(InstanceIds=[crashes.machine(name)["id"]])
    crashes.up()
    assert [len(each) for each in crashes.standing()] == [4, 4]


def test_destroy_leaves_no_challenge_and_no_entry(crashes: Crashes) -> None:
    crashes.rehearsal.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
    assert crashes.standing() == (set(), set())
    zone = crashes.aws("route53").list_hosted_zones()["HostedZones"][0]["Id"]
    sets = crashes.aws("route53").list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    assert not [each["Name"] for each in sets if ".rc." in each["Name"]]
