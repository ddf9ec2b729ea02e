"""Alive means that machine, on booted machines: strangers at old addresses, blocked ports, and name servers that fail.

The tests of this file share the stack `two clouds` (tests/groups.py) and run in the order in which they stand.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from localcloud.dns.data import RecordSet
from localcloud.dns.server import Authority, Listener, Resolver, bound_pair
from localcloud.network.namespace import NETWORKS, Cloud, Namespace
from rollcall import probe
from tests import timing
from tests.integration import stranger
from tests.integration.conftest import wait_until
from tests.integration.shared_stacks import TwoClouds, two_clouds

pytestmark = [pytest.mark.machines, pytest.mark.engine]
WITHIN, LATE = 75.0, 450.0
SERVED = (80, 4218)
PROBES = f"udp dport {probe.PORT}"
NAME_SERVERS = ", ".join(each for network in NETWORKS.values() for each in network.name_servers)
TO_NAME_SERVERS = f"ip daddr {{ {NAME_SERVERS} }} meta l4proto {{ tcp, udp }} th dport 53"
SEES_NO_DNS = "challenges are looked for by the API"


class Alive(TwoClouds):
    @property
    def namespace(self) -> Namespace:
        return Namespace(json.loads((self.sandbox.state / "daemon.json").read_text())["namespace"])

    @property
    def live(self) -> list[dict[str, Any]]:
        return [each for each in self.machines("web-") if each["state"] == "running"]

    def everybody(self) -> set[str]:
        return {each["addresses"][0] for each in self.live}

    def address(self, name: str) -> str:
        return str(self.machine(name)["addresses"][0])

    def watch(self, machine: dict[str, Any]) -> str:
        """What keeps an agent from watching or from seeing its challenges, by its status."""
        return str(json.loads(self.inside(machine["id"], "cat", "/run/rollcall/status.json"))["watch"])

    def log(self, machine: dict[str, Any]) -> str:
        return self.inside(machine["id"], "cat", "/var/log/rollcall.log")

    def start(self, machine: dict[str, Any]) -> None:
        if machine["cloud"] == "aws":
            self.ec2.start_instances(InstanceIds=[machine["id"]])
        else:
            self.triton("instance", "start", machine["id"])

    @contextlib.contextmanager
    def dropped(self, *expressions: str) -> Iterator[None]:
        """Drop what fits one of nft's expressions, between machines and from them to name servers."""
        self.namespace.see_bridged_packets()
        rules = " ".join(f"{each} drop;" for each in expressions)
        hooks = ("forward", "input")
        chains = "\n".join(f"chain {each} {{ type filter hook {each} priority -5; {rules} }}" for each in hooks)
        self.namespace.filter("test_dropped", f"table inet test_dropped {{\n{chains}\n}}\n")
        try:
            yield
        finally:
            self.namespace.filter("test_dropped", "")

    @contextlib.contextmanager
    def crashed(self, name: str) -> Iterator[tuple[str, set[str]]]:
        """One machine without power, by its address, and those of the others; it is started again, and back in DNS, at the end."""
        machine, address, everybody = self.machine(name), self.address(name), self.everybody()
        self.sandbox.localcloud("crash", machine["id"])
        try:
            yield address, everybody - {address}
        finally:
            self.start(machine)
        wait_until("it is back", lambda: [len(each) for each in self.registered()] == [4, 4], 120)

    @contextlib.contextmanager
    def faults(self, *specs: str) -> Iterator[None]:
        for each in specs:
            self.sandbox.localcloud("fault", each)
        try:
            yield
        finally:
            self.sandbox.localcloud("fault", "--clear", "dns")


@pytest.fixture(scope="module")
def alive() -> Alive:
    return two_clouds(Alive, timing.WATCHFUL)


def test_every_machine_answers_its_watchers_and_no_machine_is_challenged(alive: Alive) -> None:
    # What other files of this stack have crashed was challenged.
    before = {each["id"]: len(alive.log(each)) for each in alive.live}
    # Several probes of each machine.
    time.sleep(timing.seconds(short=9, usual=20))
    for each in alive.live:
        assert alive.watch(each) == ""
        since = alive.log(each)[before[each["id"]] :]
        assert "challenged" not in since, since


@pytest.mark.parametrize("name", ["web-joyent-1", "web-aws-1"])
def test_what_is_at_the_address_of_a_stranger_goes_though_he_relays_each_question(alive: Alive, name: str) -> None:
    """He accepts each connection, and a live member answers him nothing for an address that it does not have."""
    cloud: Cloud = alive.machine(name)["cloud"]
    member = next(each["addresses"][0] for each in alive.live if each["name"] != alive.machine(name)["name"])
    with alive.crashed(name) as (address, left), stranger.at(address, cloud, alive.namespace, member, SERVED) as him:
        took = wait_until("his address is gone", lambda: alive.registered() == (left, left), WITHIN)
        print(f"records at a stranger's address gone after {took:.0f} s; he relayed {len(him.passed)} questions")
        assert him.passed and him.replies == []


def test_where_udp_4217_is_dropped_every_machine_answers_its_challenge_and_a_crash_is_found(alive: Alive) -> None:
    everybody = alive.everybody()
    with alive.dropped(PROBES):
        # More than twice the time after which a silent machine is removed.
        end = time.monotonic() + timing.seconds(short=70, usual=90)
        while time.monotonic() < end:
            assert alive.registered() == (everybody, everybody)
            time.sleep(1)
        assert any("fix='open UDP 4217'" in alive.log(each) for each in alive.live)


def test_one_name_server_that_refuses_and_one_that_is_lame_hold_up_no_clean_up(alive: Alive) -> None:
    """Of Cloudflare's two and Route53's four."""
    with alive.faults("dns:198.51.100.4 refused", "dns:203.0.113.5 lame"):
        wait_until("all say so", lambda: all("answers REFUSED" in alive.watch(each) for each in alive.live), 60)
        with alive.crashed("web-joyent-1") as (_, left):
            took = wait_until("a crash is cleaned up", lambda: alive.registered() == (left, left), WITHIN)
            print(f"with a refusing and a lame name server a crashed machine's records were gone after {took:.0f} s")
    wait_until("no agent reports a fault of its watch", lambda: all(alive.watch(each) == "" for each in alive.live), 90)


@pytest.mark.prove
def test_with_port_53_blocked_but_to_resolvers_each_says_so_and_silence_removes_no_machine(alive: Alive) -> None:
    everybody = alive.everybody()
    with alive.dropped(TO_NAME_SERVERS):
        wait_until("all say so", lambda: all(SEES_NO_DNS in alive.watch(each) for each in alive.live), 120)
        print("port 53 blocked:", alive.watch(alive.live[0]))
    with alive.dropped(TO_NAME_SERVERS, PROBES):
        end = time.monotonic() + 180
        while time.monotonic() < end:
            assert alive.registered() == (everybody, everybody)
            time.sleep(2)
    wait_until(
        "no agent reports a fault of its watch", lambda: all(alive.watch(each) == "" for each in alive.live), 180
    )


@pytest.mark.prove
def test_with_port_53_blocked_but_to_resolvers_a_crash_is_cleaned_up_later(alive: Alive) -> None:
    with alive.dropped(TO_NAME_SERVERS), alive.crashed("web-joyent-1") as (_, left):
        took = wait_until("a crash is cleaned up", lambda: alive.registered() == (left, left), LATE)
        print(f"with port 53 blocked a crashed machine's records were gone after {took:.0f} s")
    wait_until(
        "no agent reports a fault of its watch", lambda: all(alive.watch(each) == "" for each in alive.live), 180
    )


class Inside:
    """Zones of a split horizon: what an internal name server says of the same names."""

    def zones(self) -> tuple[str, ...]:
        return ("scalability.expert", "unilans.net")

    def lookup(self, zone: str, name: str) -> tuple[RecordSet, ...] | None:
        return (RecordSet(name, "A", 60, ("10.0.0.10",)),) if name == "www.scalability.expert" else None


@contextlib.contextmanager
def split_horizon(namespace: Namespace) -> Iterator[str]:
    """A resolver that names an internal name server for our zones; its address."""
    resolver, authority = (network.visitor for network in NETWORKS.values())
    servers = {"ns1.internal.example": authority}
    hosts = dict.fromkeys(("api.cloudflare.com", "*.amazonaws.com"), NETWORKS["aws"].gateway)
    with contextlib.ExitStack() as ended:
        for where, made in (
            (authority, Authority([Inside()], servers)),
            (resolver, Resolver([Inside()], servers, hosts)),
        ):
            udp, tcp = namespace.run(functools.partial(bound_pair, where, 53))
            listener = Listener(made, [udp], [tcp])
            listener.start()
            ended.callback(listener.stop)
        yield resolver


@pytest.mark.prove
def test_a_machine_in_a_split_horizon_says_what_it_sees_and_is_not_removed_by_silence(alive: Alive) -> None:
    machine, everybody = alive.machine("web-joyent-0"), alive.everybody()
    kept = alive.inside(machine["id"], "cat", "/etc/resolv.conf")
    with split_horizon(alive.namespace) as resolver:
        alive.inside(
            machine["id"], "sh", "-c", f"echo nameserver {resolver} >/etc/resolv.conf; systemctl restart rollcall"
        )
        try:
            wait_until("it says so", lambda: "10.0.0.10" in alive.watch(machine), 300)
            print("a split horizon:", alive.watch(machine))
            with alive.dropped(PROBES):
                end = time.monotonic() + 120
                while time.monotonic() < end:
                    assert alive.registered() == (everybody, everybody)
                    time.sleep(2)
        finally:
            alive.inside(
                machine["id"], "sh", "-c", f"printf '%s' '{kept}' >/etc/resolv.conf; systemctl restart rollcall"
            )
    wait_until(
        "no agent reports a fault of its watch", lambda: all(alive.watch(each) == "" for each in alive.live), 180
    )
