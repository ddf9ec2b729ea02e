"""The real engine where something was renamed, dropped or deleted, or failed before: nothing boots, the test is the agents."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from localcloud.runtime.prepare import VENV
from localcloud.runtime.sandbox import Sandbox
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.deployed import Deployed
from tests.integration.hands import Hands

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
HEAD = """config:
  aws:region: us-west-2
  rollcall:drainDelay: 1
"""
SITE = "  rollcall:sites: { www: { zone: scalability.expert, host: www, ttl: 60 } }\n"
SERVICES = (
    "  rollcall:serviceDiscovery: { zone: unilans.net, services: { theService: { port: 4218, ttl: 5, incarnations: { v1: {} } } } }"
    "\n"
)
BOTH = "site/www, theService/v1"


def ec2(size: str = "t3.micro", joins: str = BOTH) -> str:
    return f"    web: {{ cloud: aws, count: 1, size: {size}, image: debian-12, timeout: 10, joins: [{joins}] }}\n"


def triton(joins: str = BOTH) -> str:
    return f"    tri: {{ cloud: joyent, count: 1, size: g1.micro, image: debian-12, timeout: 30, joins: [{joins}] }}\n"


class Stack:
    """The stack, whatever it is called now, and the agents of its machines."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox, self.name = sandbox, "local"
        self.deployed = Deployed(sandbox, "")
        self.hands = Hands(self.deployed)

    def configure(self, *parts: str) -> None:
        target = self.sandbox.work / f"Pulumi.{self.name}.yaml"
        salt = [line for line in target.read_text().splitlines() if line.startswith("encryptionsalt")]
        target.write_text(HEAD + "".join(parts) + "\n".join(salt) + "\n")

    def pulumi(self, *words: str, fails: bool = False) -> str:
        done = self.sandbox.pulumi(*words, "--stack", self.name, capture=True, check=False)
        output = str(done.stdout) + str(done.stderr)
        assert bool(done.returncode) is fails, output
        return output

    def up(self, *, fails: bool = False) -> str:
        return self.pulumi("up", "--yes", "--skip-preview", fails=fails)

    def status(self) -> tuple[int, dict[str, Any]]:
        command = [str(VENV / "bin" / "python"), "-m", "components.commands.status", "--json", "--stack", self.name]
        env = self.sandbox.engines_environment()
        done = subprocess.run(command, cwd=self.sandbox.work, env=env, capture_output=True, text=True, check=False)
        assert done.returncode < 2, done.stderr
        return done.returncode, json.loads(done.stdout)

    def assert_in_step(self, *fleets: str) -> None:
        code, found = self.status()
        assert code == 0 and [each["fleet"] for each in found["fleets"]] == sorted(fleets), found

    def differences(self) -> dict[str, list[str]]:
        """Those that a status names, by kind."""
        code, found = self.status()
        lines = {key: each["differences"][key] for each in found["fleets"] for key in each["differences"]}
        assert code == 1
        return {key: named for key, named in lines.items() if named}

    def instances(self) -> set[str]:
        return {each.owner.instance for each in self.hands.guests()}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with sandboxed("gone", machines=False) as sandbox, pytest.MonkeyPatch.context() as patch:
        made = Stack(sandbox)
        for name, value in made.deployed.env.items():
            if name.startswith(("AWS_", "CLOUDFLARE_", "TRITON_")):
                patch.setenv(name, value)
        made.hands.start()
        try:
            yield made
        finally:
            made.hands.stop()


def test_after_a_first_up_that_failed_status_names_its_machine_and_the_next_up_lets_it_leave(stack: Stack) -> None:
    stack.hands.mute.add("web")
    stack.configure(SITE, SERVICES, "  rollcall:fleets:\n", ec2(), triton())
    assert "the roll call was not answered" in stack.up(fails=True)
    (first,) = {each.owner.instance for each in stack.hands.guests() if each.owner.fleet == "web"}
    found = stack.differences()
    assert found["not_in_roll_call"] and first in found["not_in_roll_call"][0] and first in found["missing"][0]

    stack.hands.mute.clear()
    wait_until("it registers at last", lambda: first in _owners(stack), 20)
    stack.configure(SITE, SERVICES, "  rollcall:fleets:\n", ec2("t3.small"), triton())
    output = stack.up()
    assert first in stack.hands.drained and first not in stack.instances()
    assert "which was in no state" not in output
    stack.assert_in_step("tri", "web")


def test_after_several_ups_in_a_row_that_failed_the_next_one_lets_the_machines_of_all_leave(stack: Stack) -> None:
    serves, tried = stack.instances(), set[str]()
    stack.hands.mute.add("web")
    for size in ("t3.medium", "t3.large"):
        stack.configure(SITE, SERVICES, "  rollcall:fleets:\n", ec2(size), triton())
        assert "the roll call was not answered" in stack.up(fails=True)
        assert serves <= stack.instances()
        tried |= stack.instances() - serves
    assert len(tried) == 2
    stack.hands.mute.clear()
    wait_until("both register at last", lambda: tried <= _owners(stack), 20)
    stack.configure(SITE, SERVICES, "  rollcall:fleets:\n", ec2("t3.small"), triton())
    output = stack.up()
    assert "in no state" not in output, output
    assert tried <= set(stack.hands.drained) and not tried & stack.instances()
    stack.assert_in_step("tri", "web")
    assert "unchanged" in stack.pulumi("preview", "--expect-no-changes")


def test_an_up_after_a_rename_replaces_each_machine_and_those_before_leave(stack: Stack) -> None:
    before = stack.instances()
    stack.sandbox.pulumi("stack", "rename", "live", "--stack", "local", capture=True)
    stack.name = "live"
    stack.assert_in_step("tri", "web")
    stack.up()
    assert before <= stack.hands.drained and not before & stack.instances()
    assert {each.owner.stack for each in stack.hands.guests()} == {"live"}
    assert not [each for each in _comments(stack) if each.startswith("rollcall/1 local ")]
    stack.assert_in_step("tri", "web")


@pytest.mark.prove
@pytest.mark.parametrize(
    "kept",
    [
        (SITE, "  rollcall:fleets:\n", ec2("t3.small", "site/www"), triton("site/www")),
        (SERVICES, "  rollcall:fleets:\n", ec2("t3.small", "theService/v1"), triton("theService/v1")),
        (SITE, SERVICES, "  rollcall:fleets:\n", triton()),
        (SITE, SERVICES, "  rollcall:fleets:\n", ec2("t3.small")),
    ],
    ids=["directory", "site", "aws", "joyent"],
)
def test_a_section_of_the_configuration_goes_and_comes_back_with_one_up_each(
    stack: Stack, kept: tuple[str, ...]
) -> None:
    stack.configure(*kept)
    stack.up()
    stack.assert_in_step(*(each for each in ("tri", "web") if f"    {each}:" in "".join(kept)))
    stack.configure(SITE, SERVICES, "  rollcall:fleets:\n", ec2("t3.small"), triton())
    stack.up()
    stack.assert_in_step("tri", "web")


def test_zones_that_were_deleted_keep_neither_a_preview_nor_destroy(stack: Stack) -> None:
    zone = stack.deployed.zone()
    token = {"Authorization": f"Bearer {stack.deployed.env['CLOUDFLARE_API_TOKEN']}"}
    requests.delete(f"{stack.deployed.env['CLOUDFLARE_BASE_URL']}/zones/{zone}", headers=token, timeout=10)
    _delete_hosted_zone(stack.deployed.aws("route53"), "unilans.net")

    output = stack.pulumi("preview", "--diff", fails=True)
    for instance in stack.instances():
        assert f"({instance}) is not at www.scalability.expert A" in output
        assert f"({instance}) is not at v1._theservice._tcp.unilans.net SRV" in output
    assert f"the zone scalability.expert ({zone}) was deleted" in output
    assert "rollcall:sites.www.zone: scalability.expert is not in the account" in output
    assert {"missing", "zone"} <= {*stack.differences()}

    output = stack.pulumi("destroy", "--yes", "--skip-preview")
    assert f"web-0: the zone scalability.expert ({zone}) was deleted, so none of its records are left there" in output
    assert stack.instances() == set()


def _comments(stack: Stack) -> list[str]:
    found = stack.deployed._get(f"/zones/{stack.deployed.zone()}/dns_records", per_page="500")["result"]
    return [each["comment"] or "" for each in found]


def _owners(stack: Stack) -> set[str]:
    return {each.rpartition(" ")[2] for each in _comments(stack) if each.startswith("rollcall/")}


def _delete_hosted_zone(route53: Any, name: str) -> None:
    """As an operator empties and deletes it; an agent may write there until it is gone."""
    (zone,) = route53.list_hosted_zones_by_name(DNSName=name)["HostedZones"]
    for _ in range(5):
        listed = route53.list_resource_record_sets(HostedZoneId=zone["Id"])["ResourceRecordSets"]
        changes = [
            {"Action": "DELETE", "ResourceRecordSet": each} for each in listed if each["Type"] not in ("NS", "SOA")
        ]
        if changes:
            route53.change_resource_record_sets(HostedZoneId=zone["Id"], ChangeBatch={"Changes": changes})
        try:
            route53.delete_hosted_zone(Id=zone["Id"])
        except route53.exceptions.HostedZoneNotEmpty:
            time.sleep(0.5)
            continue
        return
    raise AssertionError("the hosted zone is never empty")
