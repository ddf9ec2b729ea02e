"""The service's own name while incarnations come and go, on booted machines: it has the members of an only incarnation, and of none where
there are two. The tests share one deployment and run in the order in which they stand.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from localcloud.runtime.sandbox import SandboxError
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.instep import InStep

pytestmark = [pytest.mark.machines, pytest.mark.engine, pytest.mark.prove]
ZONE = "unilans.net"
SHORT = f"_theService._tcp.{ZONE}"
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 5
  rollcall:serviceDiscovery: {{ zone: unilans.net, services: {{ theService: {{ port: 4218, ttl: 5, incarnations: {{ v1: {{}}{v2} }} }} }} }}
  rollcall:fleets:
    api: {{ cloud: aws, count: 2, size: {size}, image: debian-12, timeout: 150, joins: [theService/v1] }}
    {next}
"""
# For so long the name servers do not show what is written, and the roll call waits for them.
PROPAGATION_S = 40
NEXT = "next: { cloud: joyent, count: 1, size: g1.micro, image: debian-12, joins: [theService/v2] }"


class Incarnations(InStep):
    config: Path

    def configure(self, *, second: bool) -> None:
        self.config.write_text(configured(second))
        self.sandbox.write_config()

    def addresses_at(self, name: str) -> set[str]:
        return {each for value in self.dig(name, "SRV") for each in self.dig(value.split()[3], "A")}

    def of(self, fleet: str) -> set[str]:
        return {each["addresses"][0] for each in self.machines(fleet)}

    def values(self, name: str) -> set[str]:
        """What the zone has, whatever its name servers show yet."""
        sets = [each for each in self.record_sets() if each["Name"].lower().rstrip(".") == name.lower()]
        return {value["Value"] for each in sets if each["Type"] == "SRV" for value in each["ResourceRecords"]}

    def is_registered(self, machine: str) -> bool:
        try:
            return bool(json.loads(self.inside(machine, "cat", "/run/rollcall/status.json"))["step"] == "registered")
        except (AssertionError, SandboxError, ValueError):
            return False

    def write_back(self, olds: set[str], before: set[str]) -> None:
        """A machine of before, with its settings of before, joins when its successors have: it writes them to the service's name."""
        joined = f"v1.{SHORT}"
        self.sandbox.localcloud("fault", "route53", f"propagation={PROPAGATION_S}")

        def successors() -> list[str]:
            return [each["id"] for each in self.machines("api-") if each["id"] not in olds]

        try:
            wait_until("they are made", lambda: len(successors()) == len(olds), 120)
            wait_until("they have joined", lambda: all(map(self.is_registered, successors())), 150)

            def is_back() -> bool:
                self.inside(min(olds), "rollcall", "join")
                return bool(self.values(SHORT) & (self.values(joined) - before))

            wait_until("they are at the service's name", is_back, PROPAGATION_S)
        finally:
            self.sandbox.localcloud("fault", "--clear", "route53")

    def is_right(self, *, second: bool) -> None:
        """Each incarnation has its machines at both of its names, and the service's name has those of an only one."""
        for incarnation, fleet in (("v1", "api-"), ("v2", "next-")):
            wanted = self.of(fleet)
            assert bool(wanted) == (incarnation == "v1" or second)
            for name in (f"{incarnation}.{SHORT}", f"_theService._tcp.{incarnation}.{ZONE}"):
                assert self.addresses_at(name) == wanted, name
        assert self.addresses_at(SHORT) == (set() if second else self.of("api-"))


def configured(second: bool) -> str:
    """With another size, so that the machines of the first incarnation are replaced: their predecessors know of no second one, and write
    their successors to the service's name."""
    size = "t3.small" if second else "t3.micro"
    return CONFIG.format(v2=", v2: {}" if second else "", next=NEXT if second else "", size=size)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Incarnations]:
    config = tmp_path_factory.mktemp("second") / "config.yaml"
    config.write_text(configured(second=False))
    with sandboxed("second", config) as sandbox:
        deployed = Incarnations(sandbox)
        deployed.config = config
        deployed.up()
        yield deployed


def test_an_only_incarnation_has_the_service_s_name(stack: Incarnations) -> None:
    stack.is_right(second=False)


@pytest.mark.parametrize("second", [True, False], ids=["a second one", "again an only one"])
def test_it_changes_hands_in_one_up(stack: Incarnations, second: bool) -> None:
    """Agents that know of the second incarnation take their machines from the service's name, also where others have put them."""
    before, values, machines = stack.of("api-"), stack.values(SHORT), {each["id"] for each in stack.machines("api-")}
    stack.configure(second=second)
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(stack.up)
        if second:
            stack.write_back(machines, values)
        done.result()
    replaced = len(before - stack.of("api-"))
    assert replaced == 2
    print(
        f"\nup took {time.monotonic() - began:.0f} s, {replaced} machines of the first incarnation were replaced",
        end="",
    )
    stack.is_right(second=second)
    assert "unchanged" in (shown := stack.up("--expect-no-changes")), shown
    stack.is_right(second=second)
