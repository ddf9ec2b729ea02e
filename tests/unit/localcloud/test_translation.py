"""Public addresses that no interface has, as rules of nftables, and that the kernel translates them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.network.namespace import NETWORKS, VPC_ROUTER, Namespace, name_for
from localcloud.network.translation import Translation, Translator, owned, ruleset

PLAIN = Translation(wire="198.51.100.9", public="198.51.100.9", out="198.51.100.9")
MOVED = Translation(wire="198.51.100.10", public="198.51.100.50", out="198.51.100.50")
IN_VPC = Translation(wire="192.0.2.4", public="198.51.100.51", out="198.51.100.51", near="192.0.2.0/25")
BEHIND_NAT = Translation(wire="192.0.2.20", out="198.51.100.60", near="192.0.2.0/25")
SHUT = Translation(wire="192.0.2.21", near="192.0.2.0/25")
OF_ANOTHER = Translation(wire="192.0.2.130", public="198.51.100.52", out="198.51.100.52", near="192.0.2.128/25")
ALL = (PLAIN, MOVED, IN_VPC, BEHIND_NAT, SHUT, OF_ANOTHER)
JOYENT, GATEWAY, VISITOR = "203.0.113.20", NETWORKS["aws"].gateway, NETWORKS["aws"].visitor
PORT, WITHIN_S = 8080, 2.0


def test_machines_with_their_public_address_on_the_interface_need_no_rule() -> None:
    assert ruleset([PLAIN]) == ""
    assert owned([PLAIN]) == frozenset()


def test_the_bridge_has_the_addresses_that_no_interface_has() -> None:
    assert owned(ALL) == {"198.51.100.50", "198.51.100.51", "198.51.100.52", "198.51.100.60"}


def test_a_public_address_leads_to_the_interface_and_back() -> None:
    text = ruleset([MOVED])
    assert text.count("dnat ip to ip daddr map { 198.51.100.50 : 198.51.100.10 }") == 2
    assert "snat ip to ip saddr map { 198.51.100.10 : 198.51.100.50 }" in text


class Host:
    """A machine with one interface on a bridge, and a server that answers with its client's address."""

    def __init__(self, network: Namespace, number: int, address: str) -> None:
        bridge, router = ("joyent", NETWORKS["joyent"].gateway) if address == JOYENT else ("aws", GATEWAY)
        router = VPC_ROUTER if address.startswith("192.0.2.") else router
        self.space = Namespace(f"{network.name}-{number}")
        self.address, port = address, f"vb-t{number}"
        for words in (
            f"netns add {self.space.name}",
            f"-n {network.name} link add {port} type veth peer name host0 netns {self.space.name}",
            f"-n {network.name} link set {port} master {bridge} up",
            f"-n {self.space.name} link set lo up",
            f"-n {self.space.name} address add {address}/24 dev host0",
            f"-n {self.space.name} link set host0 up",
            f"-n {self.space.name} route add default via {router}",
        ):
            subprocess.run(["ip", *words.split()], check=True)
        self._listener = self.space.listen(address, PORT)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, peer = self._listener.accept()
                with client:
                    client.sendall(peer[0].encode())

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.space.destroy()


@pytest.fixture(scope="module")
def network() -> Iterator[Namespace]:
    made = Namespace(name_for(Path.cwd(), f"translation-{os.getpid()}"))
    made.create()
    made.see_bridged_packets()
    try:
        yield made
    finally:
        made.destroy()


@pytest.fixture(scope="module")
def hosts(network: Namespace) -> Iterator[dict[str, Host]]:
    found: dict[str, Host] = {}
    try:
        for number, address in enumerate([*(each.wire for each in ALL), JOYENT]):
            found[address] = Host(network, number, address)
        yield found
    finally:
        for each in found.values():
            each.close()


def seen(space: Namespace, address: str, source: str | None = None) -> str:
    """Return the address that the machine at `address` sees of its client; empty if it is not reached."""
    try:
        with space.connect((address, PORT), source, timeout=WITHIN_S) as there:
            return there.recv(100).decode()
    except OSError:
        return ""


@pytest.mark.machines
@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace takes root")
class TestKernel:
    @pytest.fixture(autouse=True)
    def translated(self, network: Namespace, hosts: dict[str, Host]) -> None:
        self.found: list[Translation] = [*ALL]
        self.translator = Translator(network, lambda: self.found)
        self.translator.update()

    def test_each_machine_is_reached_at_its_public_address_only(
        self, network: Namespace, hosts: dict[str, Host]
    ) -> None:
        for each in (PLAIN, MOVED, IN_VPC, OF_ANOTHER):
            assert seen(hosts[JOYENT].space, each.public) == JOYENT, each
            assert seen(network, each.public, VISITOR) == VISITOR, each
            if each is not PLAIN:
                assert seen(hosts[JOYENT].space, each.wire) == seen(network, each.wire, VISITOR) == "", each

    def test_packets_come_from_the_public_address(self, hosts: dict[str, Host]) -> None:
        for each in (PLAIN, MOVED, IN_VPC, BEHIND_NAT, OF_ANOTHER):
            assert seen(hosts[each.wire].space, JOYENT) == each.out, each

    def test_machines_on_one_bridge_reach_each_others_public_addresses(self, hosts: dict[str, Host]) -> None:
        public = [each for each in ALL if each.public]
        for one in public:
            for other in public:
                if one is not other:
                    assert seen(hosts[one.wire].space, other.public), (one, other)

    def test_private_addresses_are_reached_within_their_vpc_only(self, hosts: dict[str, Host]) -> None:
        assert seen(hosts[IN_VPC.wire].space, SHUT.wire) == IN_VPC.wire
        assert seen(hosts[SHUT.wire].space, BEHIND_NAT.wire) == SHUT.wire
        assert seen(hosts[OF_ANOTHER.wire].space, IN_VPC.wire) == ""
        assert seen(hosts[PLAIN.wire].space, IN_VPC.wire) == ""

    def test_a_machine_without_a_way_out_reaches_nothing_but_its_vpc(
        self, network: Namespace, hosts: dict[str, Host]
    ) -> None:
        api = network.listen(GATEWAY, PORT)
        # Its own router is reached, where no resolver listens here.
        with pytest.raises(ConnectionRefusedError):
            hosts[SHUT.wire].space.connect((VPC_ROUTER, 53), timeout=WITHIN_S)
        try:
            assert seen(hosts[SHUT.wire].space, JOYENT) == ""
            with pytest.raises(TimeoutError):
                hosts[SHUT.wire].space.connect((GATEWAY, PORT), timeout=WITHIN_S)
            hosts[BEHIND_NAT.wire].space.connect((GATEWAY, PORT), timeout=WITHIN_S).close()
        finally:
            api.close()

    def test_an_address_moves_from_one_running_machine_to_another(self, hosts: dict[str, Host]) -> None:
        elastic, joyent = MOVED.public, hosts[JOYENT].space
        assert seen(joyent, elastic) == JOYENT
        connection = joyent.connect((elastic, PORT), timeout=WITHIN_S)
        self.found = [
            Translation(wire=MOVED.wire, public=MOVED.wire, out=MOVED.wire),
            Translation(wire=PLAIN.wire, public=elastic, out=elastic),
        ]
        self.translator.update()
        with connection:
            assert seen(hosts[PLAIN.wire].space, JOYENT) == elastic
            assert seen(hosts[MOVED.wire].space, JOYENT) == MOVED.wire
            assert seen(joyent, elastic) == JOYENT
            assert seen(joyent, MOVED.wire) == JOYENT
            assert seen(joyent, PLAIN.wire) == ""

    def test_nothing_is_left_when_no_machine_is(self, network: Namespace) -> None:
        self.found = []
        self.translator.update()
        addresses = subprocess.check_output(
            ["ip", "-n", network.name, "-br", "address", "show", "dev", "aws"], text=True
        )
        assert "198.51.100.50" not in addresses
        rules = subprocess.check_output(["ip", "netns", "exec", network.name, "nft", "list", "ruleset"], text=True)
        assert "rollcall_addresses" not in rules
