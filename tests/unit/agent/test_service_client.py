"""docs/examples/the_service_client.py calls userdata/workloads/the-service: their own processes, on loopback."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.agent.nameserver import SERVICE, ZONE, Served, serving

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "docs/examples/the_service_client.py"
WORKLOAD = ROOT / "userdata/workloads/the-service"
# The workload as it is, but for its port, and reachable on IPv4's loopback only.
START = (
    "import the_service as workload\n"
    "server = workload.Server(('::ffff:127.0.0.1', 0), workload.Handler)\n"
    "print(server.server_address[1], flush=True)\n"
    "server.serve_forever()\n"
)


@dataclass(frozen=True)
class Machine:
    name: str
    port: int
    process: subprocess.Popen[str]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@contextlib.contextmanager
def machine(name: str) -> Iterator[Machine]:
    environment = {**os.environ, "INSTANCE": name, "PYTHONPATH": str(WORKLOAD), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen([sys.executable, "-c", START], env=environment, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            yield Machine(name, int(started.stdout.readline()), started)
        finally:
            started.terminate()


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    with contextlib.ExitStack() as kept:
        yield [kept.enter_context(machine(f"i-{letter * 17}")) for letter in "abc"]


@pytest.fixture
def server(machines: list[Machine]) -> Iterator[Served]:
    with serving() as found:
        found.zone.service("v1", "v2")
        registered(found, machines)
        yield found


def registered(server: Served, machines: list[Machine]) -> None:
    server.zone.live("v1", *(f"10 10 {each.port} {each.name[2:8]}" for each in machines))


def sample(server: Served, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SAMPLE), "--domain", ZONE, "--resolver", server.address, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "userdata")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_each_live_machine_answers_with_its_own_name(server: Served, machines: list[Machine]) -> None:
    done = sample(server, "--incarnation", "v1", "--each")
    first, *rest = done.stdout.splitlines()
    assert first == "incarnations: v1 v2"
    assert sorted(rest) == sorted(
        f"{each.name[2:8]}.rc.{ZONE}:{each.port} answered: {each.name} theService heard: hello" for each in machines
    )
    assert done.returncode == 0


def test_calls_are_spread_over_the_machines(server: Served, machines: list[Machine]) -> None:
    done = sample(server, "--incarnation", "v1", "--calls", "120")
    answered = Counter(line.split()[1] for line in done.stdout.splitlines()[1:])
    # A third of 120 each; four standard deviations are 21.
    assert set(answered) == {each.name for each in machines} and sum(answered.values()) == 120
    assert all(19 <= count <= 61 for count in answered.values()), answered
    # 120 calls are one browse, one SRV, and an address for each machine.
    assert sorted(server.queries) == sorted(
        [f"{SERVICE.lower()} PTR", f"v1.{SERVICE.lower()} SRV", *(f"{each.name[2:8]}.rc.{ZONE} A" for each in machines)]
    )


def test_a_client_skips_machines_that_left_and_machines_that_crashed(server: Served, machines: list[Machine]) -> None:
    registered(server, machines[1:])
    machines[1].stop()
    done = sample(server, "--incarnation", "v1", "--calls", "20")
    assert done.stdout.splitlines()[1:] == [f"answered: {machines[2].name} theService heard: hello"] * 20


def test_when_all_have_left_it_says_so(server: Served) -> None:
    server.zone.drop(f"v1.{SERVICE}", "SRV")
    done = sample(server, "--incarnation", "v1")
    assert (done.returncode, done.stdout) == (1, "incarnations: v1 v2\n")
    assert done.stderr == f"theService: reason=no-live-machine service=v1.{SERVICE}\n"


def test_another_service_is_called_by_its_name(server: Served, machines: list[Machine]) -> None:
    other = f"_stage._tcp.{ZONE}"
    server.zone.put(other, "PTR", f"blue.{other}.")
    server.zone.put(f"blue.{other}", "SRV", f"10 10 {machines[0].port} {machines[0].name[2:8]}.rc.{ZONE}.")
    done = sample(server, "--service", "stage", "--incarnation", "blue")
    assert done.stdout.splitlines() == ["incarnations: blue", f"answered: {machines[0].name} theService heard: hello"]
    assert sample(server, "--service", "none").stderr.startswith("none: reason=no-such-service")
