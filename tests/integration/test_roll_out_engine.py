"""Releases in place on machines that boot, under the real engine, while clients ask 50 times a second: no request fails.

The clients keep DNS answers for their TTL, and take the machine that they drew. The tests share one deployment and run in their order.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.integration.conftest import sandboxed, wait_until
from tests.integration.instep import SERVICE
from tests.integration.log_inspection import config_file
from tests.integration.rolling_out import APP, TTL_S, InPlace

pytestmark = [pytest.mark.machines, pytest.mark.engine, pytest.mark.prove]
DEADLINE_S = 20
STACK = f"""\
config:
  aws:region: us-west-2
  rollcall:drainDelay: {TTL_S}
  rollcall:serviceDiscovery:
    {{{{ zone: unilans.net, services: {{{{ theService: {{{{ port: 4218, ttl: {TTL_S}, incarnations: {{{{ v1: {{{{}}}} }}}} }}}} }}}} }}}}
  rollcall:workloads:
    shop: {{{{ files: {{files}}, run: ./start, check: {{{{ http: ":4218/healthz" }}}} }}}}
  rollcall:fleets:
    shop: {{{{ cloud: aws, count: 4, size: t3.micro, image: debian-12, timeout: 120, runs: [shop], joins: [theService/v1],
      release: in-place, batch: 1, minHealthyTime: 2, deadline: {DEADLINE_S}, canary: {{canary}} }}}}
"""


class Shop(InPlace):
    files: Path
    config: Path

    def write(self, version: str, canary: int = 0) -> None:
        """Write the files of a version. That of BROKEN is never healthy."""
        (self.files / "start").write_text(APP.replace("VERSION", version))
        (self.files / "start").chmod(0o755)
        self.config.write_text(STACK.format(files=self.files, canary=canary))
        self.sandbox.write_config()

    def deploy(self, version: str, *, check: bool = True, canary: int = 0) -> str:
        """Run `up` with a version. Return what it printed."""
        self.write(version, canary)
        return self.up_to(f"version {version}", check=check)


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with TemporaryDirectory() as folder:
        files = Path(folder, "shop")
        files.mkdir()
        config = config_file(Path(folder), STACK.format(files=files, canary=0))
        with sandboxed("rollout", config) as sandbox:
            made = Shop(sandbox)
            made.files, made.config = files, config
            made.deploy("one")
            yield made


def test_no_request_fails_during_a_release(shop: Shop) -> None:
    machines = shop.in_state()
    assert shop.versions() == ["one"] * 4
    with shop.requests_all_along():
        shop.deploy("two")
    assert shop.versions() == ["two"] * 4
    assert shop.in_state() == machines and len(machines) == 4
    assert "unchanged" in shop.unchanged()


def test_no_request_fails_while_a_broken_release_comes_and_goes(shop: Shop) -> None:
    began = time.monotonic()
    with shop.requests_all_along():
        printed = shop.deploy("BROKEN", check=False)
    print(f"broken release: `up` failed after {time.monotonic() - began:.0f} s, deadline {DEADLINE_S} s")
    assert re.search(r"shop-0 \(i-[0-9a-f]+\) failed at checking of shop", printed), printed
    assert "version BROKEN starts" in printed, printed
    assert shop.versions() == ["two"] * 4
    shop.write("two")
    assert "unchanged" in shop.unchanged()


def test_a_canary_waits_and_a_rollback_is_not_undone(shop: Shop) -> None:
    with shop.requests_all_along():
        assert "canary waiting" in shop.deploy("three", canary=1)
        assert shop.versions() == ["three", "two", "two", "two"]
        (digest,) = set(re.findall(r"rollcall promote shop ([0-9a-f]+)", shop.unchanged()))
        shop.rollcall("promote", "shop", digest)
        shop.deploy("three", canary=1)
        assert shop.versions() == ["three"] * 4
        shop.rollcall("rollback", "shop")
        assert shop.versions() == ["two"] * 4
    assert "was rolled back" in shop.unchanged()
    assert len(shop.wanted()) == 1


@pytest.mark.parametrize("after_s", [2, 8, 20])
def test_a_killed_roll_out_is_continued(shop: Shop, after_s: int) -> None:
    version = f"killed{after_s}"
    shop.write(version)
    with shop.requests_all_along():
        shop.kill_up(after_s)
        shop.deploy(version)
    assert shop.versions() == [version] * 4
    assert "unchanged" in shop.unchanged()


def test_a_machine_that_reboots_runs_its_release(shop: Shop) -> None:
    before = shop.versions()
    machine = min(shop.in_state())
    shop.inside(machine, "systemctl", "--no-block", "reboot")
    wait_until("it has left", lambda: len(shop.dig(SERVICE, "SRV")) == 3, 60)
    wait_until("it is back", lambda: len(shop.dig(SERVICE, "SRV")) == 4 and shop.versions() == before, 120)
