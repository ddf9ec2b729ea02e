"""What callers behind caching resolvers meet while machines come and go: unbound and dnsmasq before the zone, on booted machines.

Each row prints, for each cache, the seconds until a machine is called again once the zone has it, and how many calls failed. A call
takes one SRV value and one address and tries nothing else, which no good client does: so what a cache costs is seen. The tests share
one deployment and run in the order in which they stand.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rdatatype
import pytest

from rollcall.resolve import Client
from tests.caches import CACHES, cache_of
from tests.integration.conftest import rehearsed, wait_until
from tests.integration.instep import InStep
from tests.integration.witness import Prober

pytestmark = [pytest.mark.machines, pytest.mark.engine, pytest.mark.prove]
ZONE, SERVICE = "unilans.net", "_theService._tcp.unilans.net"
# A value of the set may be kept for so long, and the SOA of a zone that the stack makes lets caches remember for a minute that a name is
# not there.
TTL_S, NEGATIVE_S = 5.0, 60.0
EVERY_S = 0.1
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:linger: 2
  rollcall:directory:
    zone: unilans.net
    manageSoa: true
    services: {{ theService: {{ port: 4218, ttl: 5, shortName: v1, incarnations: {{ v1: {{}}{v2} }} }} }}
  rollcall:fleets:
    api: {{ cloud: aws, count: 3, size: t3.micro, image: debian-12, joins: [theService/v1] }}
    {next}
"""
NEXT = "next: { cloud: joyent, count: 1, size: g1.micro, image: debian-12, joins: [theService/v2] }"


class Cached(InStep):
    config: Path
    ports: dict[str, int]

    def configure(self, with_next: bool) -> None:
        self.config.write_text(configured(with_next))
        self.rehearsal.write_config()

    def ask(self, cache: str, incarnation: str) -> str:
        """Who answered a call to a member of the incarnation that the cache shows, each in turn, or what went wrong."""
        try:
            targets = sorted(self._cached(cache, f"{incarnation}.{SERVICE}", "SRV"))
            turns = self.__dict__.setdefault("turns", {})
            turns[cache] = turn = turns.get(cache, 0) + 1
            if not targets:
                return "no SRV value"
            found = self._cached(cache, targets[turn % len(targets)].split()[3], "A")
            if not found:
                return "no address"
            with contextlib.closing(self._namespace.connect((found[0], 4218), timeout=2)) as call:
                call.settimeout(2)
                call.sendall(b"hello\n")
                return call.makefile("rb").readline().split(b" ")[0].decode() or "hung up"
        except OSError as failed:
            return type(failed).__name__

    def _cached(self, cache: str, name: str, rtype: str) -> list[str]:
        query, wanted = dns.message.make_query(name, rtype), dns.rdatatype.from_text(rtype)
        reply = dns.query.udp(query, "127.0.0.1", port=self.ports[cache], timeout=5)
        return [item.to_text() for rrset in reply.answer if rrset.rdtype == wanted for item in rrset]

    @contextlib.contextmanager
    def called(self, incarnation: str) -> Iterator[dict[str, Prober]]:
        """Calls through each cache, all the time."""
        with contextlib.ExitStack() as stack:
            probers = {
                cache: stack.enter_context(
                    Prober(lambda cache=cache: self.ask(cache, incarnation), EVERY_S).running()  # type: ignore[misc]
                )
                for cache in CACHES
            }
            yield probers

    def listed(self, incarnation: str, machine: str) -> str:
        """The machine's host, where the zone has it and the incarnation's set leads to it; else an empty text."""
        values = [value.split()[3].rstrip(".") for value in self.dig(f"{incarnation}.{SERVICE}", "SRV")]
        sets = self.record_sets()
        texts = {each["Name"].rstrip("."): str(each["ResourceRecords"]) for each in sets if each["Type"] == "TXT"}
        return next((each for each in values if machine in texts.get(each, "")), "")

    def start(self, machine: str) -> None:
        self.ec2.start_instances(InstanceIds=[machine])

    def seen_again(self, probers: dict[str, Prober], machine: str, since: float, within: float) -> dict[str, float]:
        """Seconds from `since` until each cache's caller was answered by the machine."""

        def first(cache: str) -> float:
            return next((at for at, said in list(probers[cache].answers) if said == machine and at > since), 0.0)

        with contextlib.suppress(AssertionError):
            wait_until("all callers reach it", lambda: all(map(first, CACHES)), within)
        return {cache: round(first(cache) - since, 1) if first(cache) else float("inf") for cache in CACHES}


def configured(with_next: bool) -> str:
    return CONFIG.format(v2=", v2: {}" if with_next else "", next=NEXT if with_next else "")


def report(row: str, again: dict[str, float], probers: dict[str, Prober], machines: set[str]) -> None:
    for cache, seconds in again.items():
        answers = list(probers[cache].answers)
        failed: dict[str, int] = {}
        for _, said in answers:
            if said not in machines:
                failed[said] = failed.get(said, 0) + 1
        shown = ", ".join(f"{count} {said}" for said, count in sorted(failed.items())) or "none"
        print(f"\n{row}, {cache}: used again after {seconds:g} s; failed of {len(answers)} calls: {shown}", end="")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cached]:
    folder = tmp_path_factory.mktemp("caches")
    config = folder / "config.yaml"
    config.write_text(configured(with_next=False))
    with rehearsed("caches", config) as rehearsal, contextlib.ExitStack() as caches:
        deployed = Cached(rehearsal)
        deployed.config, deployed.ports = config, {}
        deployed.up()
        host, _, port = deployed.env["ROLLCALL_DNS"].rpartition(":")
        for each in CACHES:
            home = folder / each
            home.mkdir()
            deployed.ports[each] = caches.enter_context(cache_of(each, home, ZONE, (host, int(port))))
        yield deployed


def test_a_stop_through_the_api_and_a_start(stack: Cached) -> None:
    """No call fails while the machine stops: it serves on for the TTL. It is called again as soon as the caches ask for the set."""
    machines, machine = stack.tagged(), stack.machine("api-0")["id"]
    before = stack.listed("v1", machine)
    with stack.called("v1") as probers:
        wait_until("all are called", lambda: all(machine in {s for _, s in p.answers} for p in probers.values()), 20)
        stack.ec2.stop_instances(InstanceIds=[machine])
        wait_until("it is down", lambda: stack.machine("api-0")["state"] == "stopped", 60)
        stack.start(machine)
        wait_until("it is in the zone", lambda: stack.listed("v1", machine), 60)
        again = stack.seen_again(probers, machine, time.time(), 30)
    report("a stop through the API and a start", again, probers, machines)
    assert stack.listed("v1", machine) != before, "its host is another one"
    assert max(again.values()) < TTL_S + 5
    for prober in probers.values():
        said = {each for _, each in prober.failures(machines.__contains__)}
        assert said <= {"no address"}, said


def test_a_crash_and_a_restart(stack: Cached) -> None:
    machines, machine = stack.tagged(), stack.machine("api-1")["id"]
    before = stack.listed("v1", machine)
    with stack.called("v1") as probers:
        time.sleep(2)
        stack.rehearsal.localcloud("crash", machine)
        gone = wait_until("its records are gone", lambda: not stack.listed("v1", machine), 60)
        # Caches that still have the value ask for the host, and remember that it is gone.
        time.sleep(2)
        stack.start(machine)
        wait_until("it is in the zone", lambda: stack.listed("v1", machine), 60)
        again = stack.seen_again(probers, machine, time.time(), 30)
    report(f"a crash (out after {gone:.0f} s) and a restart", again, probers, machines)
    assert stack.listed("v1", machine) != before and max(again.values()) < TTL_S + 5


def test_a_new_incarnation_that_was_asked_for_before_up(stack: Cached) -> None:
    with stack.called("v2") as probers:
        time.sleep(2)
        assert {said for prober in probers.values() for _, said in prober.answers} == {"no SRV value"}
        stack.configure(with_next=True)
        stack.up()
        machine = stack.machine("next-0")["id"]
        again = stack.seen_again(probers, machine, time.time(), NEGATIVE_S + 15)
    report("a new incarnation asked for before `up`", again, probers, {machine})
    assert max(again.values()) < NEGATIVE_S + 10


def test_a_one_machine_incarnation_that_was_away(stack: Cached) -> None:
    machine = stack.machine("next-0")["id"]
    host, port = "127.0.0.1", stack.ports["unbound"]
    client = Client([f"{host}:{port}"])
    with stack.called("v2") as probers:
        wait_until("it is called", lambda: all(machine in {s for _, s in p.answers} for p in probers.values()), 75)
        stack.triton("instance", "stop", "-w", machine)
        time.sleep(TTL_S + 2)
        stack.triton("instance", "start", "-w", machine)
        wait_until("it is in the zone", lambda: stack.listed("v2", machine), 60)
        again = stack.seen_again(probers, machine, time.time(), NEGATIVE_S + 15)
    report("a one-machine incarnation restarted", again, probers, {machine})
    assert max(again.values()) < NEGATIVE_S + 10
    assert [each.host for each in client.discover("theService", ZONE, "v2").targets] == [stack.listed("v2", machine)]
