"""Triton machines with private addresses on a fabric, and others with a public and a private interface, booted with the real engine."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.network.namespace import FABRIC_SIDE, Namespace
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.deployed import Deployed
from tests.integration.log_inspection import config_file
from tests.timing import WATCHFUL

pytestmark = [pytest.mark.machines, pytest.mark.engine]
CONFIG = """config:
  aws:region: us-west-2
  rollcall:drainDelay: 2
  rollcall:sites: { www: { zone: scalability.expert, ttl: 60 } }
  rollcall:serviceDiscovery:
    zone: unilans.net
    services: { theService: { port: 4218, ttl: 10, address: private, incarnations: { v1: {} } } }
  rollcall:fleets:
    api: { cloud: joyent, count: COUNT, size: g1.nano, image: debian-12, joins: [theService/v1] }
    web: { cloud: joyent, count: 1, size: g1.nano, image: debian-12, joins: [site/www, theService/v1] }
"""
# The first word of the service's answer is its machine's id.
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], 4218), 5) as call:
    call.sendall(b"hello\\n")
    print(call.makefile().readline().split()[0])
"""
SERVICE = "v1._theService._tcp.unilans.net"


class Fabric(Deployed):
    def members(self) -> set[str]:
        """The addresses of the service's hosts."""
        targets = [each.split()[3] for each in self.dig(SERVICE, "SRV")]
        return {address for each in targets for address in self.dig(each, "A")}

    def addresses(self, name: str) -> list[str]:
        return list(self.machine(name)["addresses"])

    def answer_at(self, name: str, address: str) -> str:
        """The instance that answers when a machine connects to the service's port at an address."""
        return self.inside(self.machine(name)["id"], "python3", "-c", ASK, address).strip()

    def at(self, address: str) -> str:
        """The id of the machine that has an address."""
        return next(str(each["id"]) for each in self.machines("") if address in each["addresses"])


def is_on_the_fabric(address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(FABRIC_SIDE)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return config_file(tmp_path_factory.mktemp("fabric"), CONFIG.replace("COUNT", "2"))


@pytest.fixture(scope="module")
def fabric(config: Path) -> Iterator[Fabric]:
    with sandboxed("fabric", config, timers=WATCHFUL) as sandbox:
        made = Fabric(sandbox, "")
        made.output = made.up()
        yield made


def test_machines_are_on_the_networks_of_what_they_join_and_register_there(fabric: Fabric) -> None:
    """By default: the only fabric for the service, and the only public network beside it for the site."""
    (public, private) = fabric.addresses("web-0")
    assert not is_on_the_fabric(public) and is_on_the_fabric(private)
    alone = [address for each in ("api-0", "api-1") for address in fabric.addresses(each)]
    assert len(alone) == 2 and all(map(is_on_the_fabric, alone))
    assert fabric.answers() == [public]
    assert fabric.members() == {private, *alone}
    listed = json.loads(fabric.triton("instance", "get", "-j", fabric.machine("web-0")["id"]))
    assert [each["ip"] for each in listed["nics"]] == [public, private]
    assert "address=private" in listed["metadata"]["rollcall-join-1"]
    assert "address=" not in listed["metadata"]["rollcall-join-0"]


def test_machines_on_the_fabric_reach_each_other_and_other_machines_do_not_reach_them(fabric: Fabric) -> None:
    for name in ("web-0", "api-0"):
        for address in fabric.members():
            assert fabric.answer_at(name, address) == fabric.at(address), (name, address)
    # A machine on the fabric alone reaches the internet by NAT.
    (public, _) = fabric.addresses("web-0")
    assert fabric.answer_at("api-0", public) == fabric.at(public)
    namespace = Namespace(json.loads((fabric.sandbox.state / "daemon.json").read_text())["namespace"])
    with pytest.raises(TimeoutError):
        namespace.connect((fabric.addresses("api-0")[0], 4218), timeout=2)
    namespace.connect((public, 4218), timeout=5).close()


def test_nothing_is_left_to_do(fabric: Fabric) -> None:
    printed = fabric.sandbox.pulumi("preview", "--json", "--stack", "local", capture=True).stdout
    steps = json.loads(printed[printed.index("{") :])["steps"]
    assert {each["op"] for each in steps} <= {"same", "refresh", "read"}, steps


def test_a_crashed_machine_of_the_fabric_is_removed_by_the_others(fabric: Fabric) -> None:
    time.sleep(15)
    crashed = fabric.machine("api-1")
    left = fabric.members() - {*crashed["addresses"]}
    fabric.sandbox.localcloud("crash", crashed["id"])
    wait_until("it is gone from the service", lambda: fabric.members() == left, 60)


def test_up_brings_it_back_and_a_smaller_fleet_leaves_no_private_record(fabric: Fabric, config: Path) -> None:
    fabric.up()
    assert len(fabric.members()) == 3
    config.write_text(CONFIG.replace("COUNT", "0"))
    fabric.sandbox.lay_out()
    fabric.up()
    assert fabric.members() == {fabric.addresses("web-0")[1]}
    fabric.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
    assert fabric.members() == set() and fabric.answers() == []
