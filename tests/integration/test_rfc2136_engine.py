"""A site and a service in a zone of BIND, and of Knot: deployed with the real engine, on machines that boot.

The name server runs on loopback. The local clouds' name servers are its secondaries, and machines reach it through a relay.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcloud.runtime.sandbox import Sandbox
from tests.dynamic_zone import DynamicServer, running
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.deployed import Deployed
from tests.integration.log_inspection import config_file

pytestmark = [pytest.mark.machines, pytest.mark.engine, pytest.mark.skipif(os.geteuid() != 0, reason="takes root")]
ZONE = "example.org"
HOST, SET = f"www.{ZONE}", f"v1._theservice._tcp.{ZONE}"
CONFIG = """config:
  aws:region: us-west-2
  rollcall:drainDelay: 5
  rollcall:sites: {{ www: {{ zone: {zone}, provider: rfc2136, server: "{server}", ttl: 60 }} }}
  rollcall:serviceDiscovery:
    zone: {zone}
    provider: rfc2136
    server: "{server}"
    ttl: 60
    services: {{ theService: {{ port: 4218, ttl: 10, incarnations: {{ v1: {{ txt: {{ path: / }} }} }} }} }}
  rollcall:fleets:
    web-aws: {{ cloud: aws, size: t3.micro, image: debian-12, joins: [site/www, theService/v1] }}
    web-joyent: {{ cloud: joyent, count: {count}, size: g1.micro, image: debian-12, joins: [site/www, theService/v1] }}
"""
FOREIGN = "192.0.2.99"


class Dynamic(Deployed):
    server: DynamicServer
    config: Path
    before: tuple[Any, ...]

    def pulumi(self, *words: str, check: bool = True) -> str:
        given = {
            "ROLLCALL_TSIG_KEY": self.server.operator,
            "ROLLCALL_MACHINE_TSIG_KEY": self.server.machines,
            "ROLLCALL_UPDATE_SERVER": self.server.where.replace("@", ":"),
        }
        done = self.sandbox.pulumi(*words, "--stack", "local", capture=True, check=check, extra=given)
        return done.stdout + done.stderr

    def configure(self, count: int) -> None:
        inside = f"203.0.113.1:{self.server.port}"
        self.config.write_text(CONFIG.format(zone=ZONE, server=inside, count=count))

    def of_machines(self) -> set[str]:
        return {each["addresses"][0] for each in self.machines("web-")}

    def at_site(self) -> set[str]:
        return self.server.values(HOST, "A") - {FOREIGN}

    def in_service(self) -> set[str]:
        """The addresses to which the SRV set leads."""
        targets = {each.split()[3] for each in self.server.values(SET, "SRV")}
        return {address for each in targets for address in self.server.values(each, "A")}

    def assert_all_answer(self) -> None:
        wanted = self.of_machines()
        assert self.at_site() == wanted and self.in_service() == wanted
        assert {each.partition(" ")[0].strip('"') for each in self.server.values(f"rc.{HOST}", "TXT")} == wanted

    def contents(self) -> tuple[Any, ...]:
        """The zone without its serial."""
        return tuple(sorted(each for each in self.server.client().sets() if each.type != "SOA"))


@pytest.fixture(scope="module", params=["named", pytest.param("knotd", marks=pytest.mark.prove)])
def zone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dynamic]:
    home = tmp_path_factory.mktemp(request.param)
    with running(request.param, home, ZONE) as server:
        inside = f"203.0.113.1:{server.port}"
        config = config_file(home, CONFIG.format(zone=ZONE, server=inside, count=2))
        with sandboxed("rfc2136", config) as sandbox:
            yield _followed(sandbox, server, config)


def _followed(sandbox: Sandbox, server: DynamicServer, config: Path) -> Dynamic:
    where = sandbox.ask("secondary", zone=ZONE, server=server.where, key=server.operator)
    assert where == f"203.0.113.1@{server.port}"
    made = Dynamic(sandbox, "")
    made.server, made.config = server, config
    update = server.client().message()
    update.add("www", 60, "A", FOREIGN)
    server.client().send(update)
    made.before = made.contents()
    return made


def test_up_ends_when_every_machine_answers(zone: Dynamic) -> None:
    output = zone.pulumi("up", "--yes", "--skip-preview")
    assert f"{HOST} A {FOREIGN}" in output or FOREIGN in zone.server.values(HOST, "A")
    assert len(zone.of_machines()) == 3
    zone.assert_all_answer()
    assert zone.server.pointers(f"_theservice._tcp.{ZONE}") == {f"{SET}."}
    assert zone.server.values(SET, "TXT") == {'"path=/"'}
    assert "unchanged" in zone.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes")


def test_no_key_is_in_the_state_or_on_a_machine_s_command_line(zone: Dynamic) -> None:
    state = zone.pulumi("stack", "export")
    for key in (zone.server.operator, zone.server.machines):
        assert key.rpartition(":")[2] not in state
    machine = zone.machine("web-joyent-0")["id"]
    shown = zone.inside(machine, "sh", "-c", "cat /proc/*/cmdline | tr '\\0' ' '; cat /var/log/rollcall.log")
    assert zone.server.machines.rpartition(":")[2] not in shown


def test_a_preview_shows_a_record_that_is_gone_and_the_machine_writes_it_again(zone: Dynamic) -> None:
    machine = zone.machine("web-joyent-0")
    zone.inside(machine["id"], "systemctl", "stop", "rollcall")
    address = machine["addresses"][0]
    update = zone.server.client().message()
    update.delete("www", "A", address)
    zone.server.client().send(update)
    assert f"is not at {HOST} A" in zone.pulumi("preview", "--diff")
    zone.inside(machine["id"], "systemctl", "start", "rollcall")
    wait_until("it has registered again", lambda: address in zone.at_site(), 60)
    wait_until("with its mark", lambda: zone.at_site() == zone.of_machines(), 30)


def test_a_crashed_machine_is_removed_by_its_peers(zone: Dynamic) -> None:
    time.sleep(15)
    crashed = zone.machine("web-joyent-1")
    left = zone.of_machines() - {crashed["addresses"][0]}
    zone.sandbox.localcloud("crash", crashed["id"])
    took = wait_until(
        "it is gone from the site and the service",
        lambda: (zone.at_site(), zone.in_service()) == (left, left),
        60,
    )
    print(f"a crashed machine's records were gone after {took:.0f} s")
    assert FOREIGN in zone.server.values(HOST, "A")


def test_a_change_of_the_count_removes_first_and_adds_back(zone: Dynamic) -> None:
    zone.configure(1)
    zone.sandbox.write_config()
    output = zone.pulumi("up", "--yes", "--skip-preview")
    names = [each["urn"].rpartition("::")[2] for each in zone.sandbox.resources()]
    assert "web-joyent-1" not in names, output[-3000:]
    # CloudAPI accepts a deletion and carries it out after the answer.
    wait_until("its cloud has deleted the machine", lambda: not zone.machines("web-joyent-1"), 30)
    zone.assert_all_answer()
    note = json.loads(zone.inside(zone.machine("web-joyent-0")["id"], "cat", "/run/rollcall/status.json"))
    assert note["step"] == "registered" and not note["error"] and not note["watch"], note


def test_destroy_leaves_the_zone_as_it_was(zone: Dynamic) -> None:
    zone.pulumi("destroy", "--yes", "--skip-preview")
    assert [each["urn"] for each in zone.sandbox.resources()] == []
    assert zone.contents() == zone.before
