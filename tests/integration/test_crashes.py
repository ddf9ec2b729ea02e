"""What a crash, a hang, a lost cloud and a cut between the clouds do to DNS, without an operator.

The tests of this file share the stack `two clouds` (tests/groups.py) and run in the order in which they stand. That a `destroy` leaves
no challenge and no record of crashed machines is in test_promises.py.
"""

from __future__ import annotations

import json
import time

import pytest

from tests.integration.conftest import wait_until
from tests.integration.shared_stacks import TwoClouds, two_clouds
from tests.timing import WATCHFUL

pytestmark = [pytest.mark.machines, pytest.mark.engine]
WITHIN = 60.0


class Crashes(TwoClouds):
    def address(self, name: str) -> str:
        return str(self.machine(name)["addresses"][0])

    def all_of(self, prefix: str) -> set[str]:
        return {each["addresses"][0] for each in self.machines(prefix)}


@pytest.fixture(scope="module")
def crashes() -> Crashes:
    return two_clouds(Crashes, WATCHFUL)


def test_clouds_that_are_cut_off_from_each_other_remove_no_machine(crashes: Crashes) -> None:
    everybody = crashes.all_of("web-")
    assert crashes.registered() == (everybody, everybody)
    crashes.sandbox.localcloud("partition")
    end = time.monotonic() + 40
    while time.monotonic() < end:
        assert crashes.registered() == (everybody, everybody)
        time.sleep(1)
    crashes.sandbox.localcloud("heal")


def test_a_command_runs_on_a_machine_that_is_named(crashes: Crashes) -> None:
    words = ("cat", "/etc/machine-id")
    printed = crashes.sandbox.localcloud("exec", "web-joyent-0", "--", *words, capture=True)
    assert len(printed) > 30 and printed == crashes.inside(crashes.machine("web-joyent-0")["id"], *words)


def test_a_workload_that_fails_says_which_check_and_how(crashes: Crashes) -> None:
    """In its own status and log, and in its cloud, where a roll call and `rollcall status` read it."""
    machine = crashes.machine("web-joyent-0")["id"]
    crashes.inside(machine, "systemctl", "stop", "nginx")

    def note() -> str:
        found = json.loads(crashes.triton("instance", "get", "-j", machine))
        return str(found["metadata"].get("rollcall-status", ""))

    why = "workload unhealthy: http:80:/ ConnectionRefusedError"
    wait_until("the machine says why", lambda: note().startswith(why), 30)
    assert why in crashes.inside(machine, "cat", "/var/log/rollcall.log")
    assert json.loads(crashes.inside(machine, "cat", "/run/rollcall/status.json"))["error"].startswith("http:80:/ Conn")
    crashes.inside(machine, "systemctl", "start", "nginx")
    everybody = crashes.all_of("web-")
    wait_until("it is back", lambda: crashes.registered() == (everybody, everybody), 30)
    assert note() == "registered"


@pytest.mark.prove
def test_clouds_that_are_cut_off_for_three_minutes_remove_no_machine(crashes: Crashes) -> None:
    everybody = crashes.all_of("web-")
    crashes.sandbox.localcloud("partition")
    end = time.monotonic() + 180
    while time.monotonic() < end:
        assert crashes.registered() == (everybody, everybody)
        time.sleep(1)
    crashes.sandbox.localcloud("heal")


def test_what_crashed_and_what_hangs_is_gone_within_a_minute_and_comes_back(crashes: Crashes) -> None:
    """One EC2 instance loses its power, one Joyent machine hangs while its API says running."""
    # A member that could not be reached is checked again first; the watchers check every WATCH seconds.
    time.sleep(15)
    crashed, frozen = crashes.machine("web-aws-1")["id"], crashes.machine("web-joyent-1")["id"]
    left = {crashes.address("web-aws-0"), crashes.address("web-joyent-0")}
    crashes.sandbox.localcloud("crash", crashed)
    crashes.sandbox.localcloud("freeze", frozen)
    took = wait_until("both are gone from both", lambda: crashes.registered() == (left, left), WITHIN)
    print(f"records of a crashed and of a frozen machine gone after {took:.0f} s")
    crashes.sandbox.localcloud("thaw", frozen)
    crashes.ec2.start_instances(InstanceIds=[crashed])
    wait_until("both are back", lambda: [len(each) for each in crashes.registered()] == [4, 4], 90)


@pytest.mark.prove
def test_a_cloud_that_is_lost_whole_is_removed_whole_and_the_other_stays(crashes: Crashes) -> None:
    left = crashes.all_of("web-aws")
    crashes.sandbox.localcloud("isolate", "joyent")
    wait_until("the lost cloud is gone", lambda: crashes.registered() == (left, left), 150)
    crashes.sandbox.localcloud("heal")
    wait_until("it is back by itself", lambda: [len(each) for each in crashes.registered()] == [4, 4], 90)


@pytest.mark.prove
def test_of_all_but_one_the_last_stays(crashes: Crashes) -> None:
    last = {crashes.address("web-joyent-0")}
    for name in ("web-aws-0", "web-aws-1", "web-joyent-1"):
        crashes.sandbox.localcloud("crash", crashes.machine(name)["id"])
    wait_until("only the last is registered", lambda: crashes.registered() == (last, last), 240)
    time.sleep(15)
    assert crashes.registered() == (last, last)


@pytest.mark.prove
def test_up_brings_back_what_crashed(crashes: Crashes) -> None:
    preview = crashes.sandbox.pulumi("preview", "--diff", "--stack", "local", capture=True).stdout
    assert "web-aws-0" in preview and "is not at www.scalability.expert A" in preview, preview
    for name in ("web-aws-0", "web-aws-1"):
        crashes.ec2.start_instances(InstanceIds=[crashes.machine(name)["id"]])
    crashes.up()
    assert [len(each) for each in crashes.registered()] == [4, 4]
