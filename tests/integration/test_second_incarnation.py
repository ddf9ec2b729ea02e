"""The service's own name while incarnations come and go, on booted machines: it has the members of an only incarnation, and of none where
there are two. The tests share one deployment and run in the order in which they stand.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import sandboxed
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
    before = stack.of("api-")
    stack.configure(second=second)
    began = time.monotonic()
    stack.up()
    replaced = len(before - stack.of("api-"))
    assert replaced == 2
    print(
        f"\nup took {time.monotonic() - began:.0f} s, {replaced} machines of the first incarnation were replaced",
        end="",
    )
    stack.is_right(second=second)
    assert "unchanged" in (shown := stack.up("--expect-no-changes")), shown
    stack.is_right(second=second)
