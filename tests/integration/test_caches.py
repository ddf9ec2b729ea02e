"""What callers behind caching resolvers meet while machines come and go: unbound and dnsmasq before the zone, on booted machines.

Each row prints, for each cache and client (tests/callers.py), the seconds until a machine is called again, or is called no more, and how
many calls failed. The tests share one deployment and run in the order in which they stand.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.message
import dns.query
import pytest

from localcloud.network.namespace import NETWORKS, Namespace
from rollcall.resolve import Client
from tests.caches import CACHES, cache_of
from tests.callers import Callers
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.instep import InStep
from tests.integration.log_inspection import Prober

pytestmark = [pytest.mark.machines, pytest.mark.engine, pytest.mark.prove]
ZONE, SERVICE = "unilans.net", "_theService._tcp.unilans.net"
# A value of the set may be kept for so long, and the SOA of a zone that the stack makes lets caches remember for a minute that a name is
# not there.
TTL_S, NEGATIVE_S = 5.0, 60.0
# HAProxy asks its resolver once in a second (tests/callers.py), so it may use an answer for a second longer (docs/discovery.md).
HAPROXY_ASKS_S = 1.0
# docs/discovery.md: a machine that did not accept a connection comes last for so long.
AVOIDED_S = 10.0
THREADS_S = 75.0
# A cache may have the PTR set from before the incarnation came.
KNOWS_NONE = ("no SRV value", "reason=no-live-machine", "reason=no-such-incarnation")
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 10
  rollcall:serviceDiscovery:
    zone: unilans.net
    manageSoa: true
    services: {{ theService: {{ port: 4218, ttl: 5, shortName: v1, incarnations: {{ v1: {{}}{v2} }} }} }}
  rollcall:fleets:
    api: {{ cloud: aws, count: {count}, size: t3.micro, image: debian-12, joins: [theService/v1] }}
    {next}
"""
NEXT = "next: { cloud: joyent, count: 1, size: g1.micro, image: debian-12, joins: [theService/v2] }"


class Cached(InStep):
    config: Path
    callers: Callers

    def configure(self, *, with_next: bool, count: int = 3) -> None:
        self.config.write_text(configured(with_next, count))
        self.sandbox.write_config()

    @contextlib.contextmanager
    def called(self, incarnation: str, machines: set[str]) -> Iterator[dict[str, Prober]]:
        """Calls of all clients through all caches, all the time; each has been answered by all of `machines` at first."""
        with self.callers.calling(incarnation) as probers:
            wait_until("all are called", lambda: all(machines <= answered(each) for each in probers.values()), 30)
            for each in probers.values():
                # A client that starts is not what is judged.
                each.answers.clear()
            yield probers

    def listed(self, incarnation: str, machine: str) -> str:
        """The machine's host, where the zone has it and the incarnation's set leads to it; else an empty text."""
        values = [value.split()[3].rstrip(".") for value in self.dig(f"{incarnation}.{SERVICE}", "SRV")]
        sets = self.record_sets()
        texts = {each["Name"].rstrip("."): str(each["ResourceRecords"]) for each in sets if each["Type"] == "TXT"}
        return next((each for each in values if machine in texts.get(each, "")), "")

    def start(self, machine: str) -> None:
        self.ec2.start_instances(InstanceIds=[machine])


def answered(prober: Prober) -> set[str]:
    return {answer for _, answer in list(prober.answers)}


def called_again(probers: Mapping[str, Prober], machine: str, since: float, within: float) -> dict[str, float]:
    """Seconds from `since` until each caller was answered by the machine."""

    def first(name: str) -> float:
        return next((at for at, answer in list(probers[name].answers) if answer == machine and at > since), 0.0)

    with contextlib.suppress(AssertionError, pytest.fail.Exception):
        wait_until("all callers reach it", lambda: all(map(first, probers)), within)
    return {name: round(first(name) - since, 1) if first(name) else float("inf") for name in probers}


def called_last(probers: Mapping[str, Prober], machine: str, since: float) -> dict[str, float]:
    """Seconds from `since` until each caller was answered by the machine for the last time."""
    last = {
        name: max((at for at, answer in list(each.answers) if answer == machine), default=since)
        for name, each in probers.items()
    }
    return {name: round(max(at - since, 0.0), 1) for name, at in last.items()}


def failed(prober: Prober, machines: set[str]) -> dict[str, int]:
    """How many calls failed, by what went wrong."""
    found: dict[str, int] = {}
    for _, answer in prober.failures(machines.__contains__):
        found[answer] = found.get(answer, 0) + 1
    return found


def led_astray(name: str, prober: Prober, machine: str, began: float) -> list[tuple[float, str]]:
    """The calls since `began`, by their seconds, of a client that was led to a machine that was off. A client that knows of no machine
    says so at once; HAProxy hangs up. The machine serves for the TTL and a second more."""
    calls = [each for each in prober.failures({machine}.__contains__) if each[0] >= began]
    wrong = [(round(at - began, 1), answer) for at, answer in calls if answer not in (*KNOWS_NONE, "hung up")]
    if "haproxy" not in name:
        return wrong
    return [each for each in wrong if not TTL_S + 1 <= each[0] < TTL_S + 1 + HAPROXY_ASKS_S]


def report(row: str, seconds: Mapping[str, float], probers: Mapping[str, Prober], machines: set[str]) -> None:
    for name, prober in probers.items():
        shown = ", ".join(f"{count} {answer}" for answer, count in sorted(failed(prober, machines).items())) or "none"
        print(f"\n{row}; {name}: {seconds[name]:g} s; failed of {len(prober.answers)} calls: {shown}", end="")


def configured(with_next: bool, count: int = 3) -> str:
    return CONFIG.format(v2=", v2: {}" if with_next else "", next=NEXT if with_next else "", count=count)


def name_server() -> str:
    """The address of a name server of the zone, asked from inside the machines' network."""
    query = dns.message.make_query(ZONE, "SOA")
    known = [each for network in NETWORKS.values() for each in network.name_servers]
    return next(each for each in known if dns.query.udp(query, each, timeout=5).answer)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cached]:
    folder = tmp_path_factory.mktemp("caches")
    config = folder / "config.yaml"
    config.write_text(configured(with_next=False))
    with sandboxed("caches", config) as sandbox, contextlib.ExitStack() as caches:
        deployed = Cached(sandbox)
        deployed.config = config
        deployed.up()
        namespace = Namespace(json.loads((sandbox.state / "daemon.json").read_text())["namespace"])
        server = namespace.run(name_server)
        ports = {}
        for each in CACHES:
            (home := folder / each).mkdir()
            ports[each] = caches.enter_context(cache_of(each, home, ZONE, (server, 53), namespace))
        deployed.callers = Callers(namespace, folder, ports)
        yield deployed


def test_a_stop_through_the_api_and_a_start(stack: Cached) -> None:
    """No call fails while the machine stops: it serves on for the TTL. It is called again as soon as the caches ask for the set."""
    machines, machine = stack.tagged(), stack.machine("api-0")["id"]
    before = stack.listed("v1", machine)
    with stack.called("v1", machines) as probers:
        stack.ec2.stop_instances(InstanceIds=[machine])
        wait_until("it is down", lambda: stack.machine("api-0")["state"] == "stopped", 60)
        stack.start(machine)
        wait_until("it is in the zone", lambda: stack.listed("v1", machine), 60)
        again = called_again(probers, machine, time.time(), 30)
    report("a stop through the API and a start, called again", again, probers, machines)
    assert stack.listed("v1", machine) != before, "its host is another one"
    assert max(again.values()) < TTL_S + 5
    assert not {name: failed(each, machines) for name, each in probers.items() if failed(each, machines)}


def test_a_crash_and_a_restart(stack: Cached) -> None:
    machines, machine = stack.tagged(), stack.machine("api-1")["id"]
    before = stack.listed("v1", machine)
    with stack.called("v1", machines) as probers:
        stack.sandbox.localcloud("crash", machine)
        gone = wait_until("its records are gone", lambda: not stack.listed("v1", machine), 60)
        # Caches that still have the value ask for the host, and remember that it is gone.
        time.sleep(2)
        stack.start(machine)
        wait_until("it is in the zone", lambda: stack.listed("v1", machine), 60)
        again = called_again(probers, machine, time.time(), 30)
    report(f"a crash (out after {gone:.0f} s) and a restart, called again", again, probers, machines)
    assert stack.listed("v1", machine) != before and max(again.values()) < TTL_S + 5


def test_eight_threads_for_75_seconds_with_a_crash_and_a_restart(stack: Cached) -> None:
    """No call of a process takes a second once one of them knows that the machine does not accept."""
    machine, port = stack.machine("api-1")["id"], stack.callers.ports["unbound"]
    calls: list[tuple[float, float, str]] = []
    over = time.monotonic() + THREADS_S

    def work() -> None:
        client = Client([f"127.0.0.1:{port}"])
        while (began := time.monotonic()) < over:
            answer = stack.callers.called_by(client, "v1")
            calls.append((began, time.monotonic(), answer))
            time.sleep(0.05)

    with ThreadPoolExecutor(8) as pool:
        threads = [pool.submit(work) for _ in range(8)]
        time.sleep(5)
        stack.sandbox.localcloud("crash", machine)
        crashed = time.monotonic()
        time.sleep(25)
        stack.start(machine)
        for each in threads:
            each.result()
    known = min((end for began, end, _ in calls if end > crashed and end - began > 1), default=crashed)
    waited = sum(end - began for began, end, _ in calls if end - began > 0.2)
    late = max(end - max(began, known) for began, end, _ in calls if end > known)
    machines = stack.tagged()
    failed_calls = [answer for _, _, answer in calls if answer not in machines]
    used = [end - crashed for began, end, answer in calls if answer == machine and began > crashed]
    print(
        f"\n8 threads for {THREADS_S:.0f} s: {len(calls)} calls, {len(failed_calls)} failed ({set(failed_calls)}); they waited"
        f" {waited:.1f} of {8 * THREADS_S:.0f} s; the longest call after the failure was known took {late:.2f} s; the machine"
        f" answered again {min(used):.0f} s after its crash",
        end="",
    )
    assert late < 1 and len(failed_calls) <= 8 and min(used) > 25


def test_a_new_address(stack: Cached) -> None:
    """A machine that lost its power is back under another public address before anybody has missed it: its host leads there."""
    machines, machine = stack.tagged(), stack.machine("api-1")["id"]
    before, address = stack.listed("v1", machine), stack.machine("api-1")["addresses"][0]
    with stack.called("v1", machines) as probers:
        stack.sandbox.localcloud("crash", machine)
        wait_until("it is off", lambda: stack.machine("api-1")["state"] == "stopped", 20)
        stack.start(machine)

        def is_right() -> bool:
            found = stack.dig(before, "A")
            return bool(found) and found != [address]

        wait_until("its host has the new address", is_right, 30)
        right = time.time()
        again = called_again(probers, machine, right, 30)
        time.sleep(TTL_S + 2)
        # dnsmasq counts whole seconds, and a name server may have answered it just before.
        late = {
            name: [each for each in prober.failures(machines.__contains__) if each[0] > right + TTL_S + 3]
            for name, prober in probers.items()
        }
    report("a new address, called again", again, probers, machines)
    assert stack.listed("v1", machine) == before, "its records were there all the time"
    # Our client calls a target that did not accept last for AVOIDED_S.
    assert max(seconds for name, seconds in again.items() if "rollcall" not in name) < TTL_S + 5
    assert max(again.values()) < AVOIDED_S + 5
    assert not {name: each for name, each in late.items() if each}


def test_a_new_incarnation_that_was_asked_for_before_up(stack: Cached) -> None:
    with stack.called("v2", set()) as probers:
        time.sleep(2)
        assert not any(answered(each) & stack.tagged() for each in probers.values())
        stack.configure(with_next=True)
        stack.up()
        machine = stack.machine("next-0")["id"]
        again = called_again(probers, machine, time.time(), NEGATIVE_S + 15)
    report("a new incarnation asked for before `up`, called", again, probers, {machine})
    assert max(again.values()) < NEGATIVE_S + 10


def test_a_one_machine_incarnation_that_was_away(stack: Cached) -> None:
    machine = stack.machine("next-0")["id"]
    with stack.called("v2", set()) as probers:
        wait_until("it is called", lambda: all(machine in answered(each) for each in probers.values()), 75)
        stack.triton("instance", "stop", machine)
        wait_until("it is out of the zone", lambda: not stack.listed("v2", machine), 30)
        left = time.time()
        wait_until("it is off", lambda: stack.machine("next-0")["state"] == "stopped", 60)
        served = time.time() - left
        time.sleep(TTL_S + 2)
        stack.triton("instance", "start", "-w", machine)
        wait_until("it is in the zone", lambda: stack.listed("v2", machine), 60)
        again = called_again(probers, machine, time.time(), NEGATIVE_S + 15)
    report(f"a one-machine incarnation restarted (off after {served:.1f} s), called again", again, probers, {machine})
    astray = {name: calls for name, each in probers.items() if (calls := led_astray(name, each, machine, left))}
    assert not astray, f"by seconds since it was out of the zone: {astray}"
    assert max(again.values()) < NEGATIVE_S + 10
    client = Client([f"127.0.0.1:{stack.callers.ports['unbound']}"])
    found = stack.callers.namespace.run(lambda: client.discover("theService", ZONE, "v2").targets)
    assert [each.host for each in found] == [stack.listed("v2", machine)]


def test_a_machine_that_up_removes(stack: Cached) -> None:
    """It leaves, serves on for the TTL, and only then is deleted: no call fails, whatever a cache has."""
    machine = stack.machine("api-2")["id"]
    machines = {each["id"] for each in stack.machines("api-")}
    with stack.called("v1", machines) as probers:
        stack.configure(with_next=True, count=2)
        began = time.time()
        stack.up()
        took = time.time() - began
        time.sleep(TTL_S)
        last = called_last(probers, machine, began)
    report(f"a removal by `up` ({took:.0f} s), called last", last, probers, machines)
    assert machine not in stack.tagged() and max(last.values()) < took
    assert not {name: failed(each, machines) for name, each in probers.items() if failed(each, machines)}
