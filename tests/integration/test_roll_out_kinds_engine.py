"""Releases in place of a Triton fleet and of a container, under the real engine, while clients ask 50 times a second: no request fails.

Both fleets join the same service, at different clouds. The tests share one deployment and run in their order.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from localcloud.runtime.progress import Step
from tests.container_registry import Image, archive
from tests.integration.conftest import sandboxed
from tests.integration.instep import SERVICE
from tests.integration.log_inspection import Prober, config_file
from tests.integration.rolling_out import APP, TTL_S, InPlace
from tests.programs import program

pytestmark = [pytest.mark.machines, pytest.mark.engine, pytest.mark.prove]
DEADLINE_S = 20
IMAGE = "registry.example.com/shop:{version}@sha256:{digest}"
# A web server that answers what APP does.
START = """#!/bin/sh
trap 'exit 0' TERM
mkdir -p /tmp/www
echo "VERSION $ROLLCALL_INSTANCE" >/tmp/www/index.html
[ VERSION = BROKEN ] || touch /tmp/www/healthz
echo "version VERSION starts"
httpd -f -p 4218 -h /tmp/www &
wait
"""
STACK = f"""\
config:
  aws:region: us-west-2
  rollcall:drainDelay: {TTL_S}
  rollcall:serviceDiscovery:
    {{{{ zone: unilans.net, services: {{{{ theService: {{{{ port: 4218, ttl: {TTL_S}, incarnations: {{{{ v1: {{{{}}}} }}}} }}}} }}}} }}}}
  rollcall:workloads:
    shop: {{{{ files: {{files}}, run: ./start, check: {{{{ http: ":4218/healthz" }}}} }}}}
    packed: {{{{ container: "{{container}}", ports: [4218], user: "1000:1000", check: {{{{ http: ":4218/healthz", grace: 15 }}}} }}}}
  rollcall:fleets:
    shop-joyent: {{{{ cloud: joyent, count: 2, size: g1.micro, image: debian-12, timeout: 120, runs: [shop], joins: [theService/v1],
      release: in-place, batch: 1, minHealthyTime: 2, deadline: {DEADLINE_S} }}}}
    packed-aws: {{{{ cloud: aws, count: 2, size: t3.micro, image: debian-12, timeout: 120, runs: [packed], joins: [theService/v1],
      release: in-place, batch: 1, minHealthyTime: 2, deadline: {DEADLINE_S} }}}}
"""


def image(version: str) -> Image:
    files = {
        "bin/busybox": Path(program("busybox").path).read_bytes(),
        "start": START.replace("VERSION", version).encode(),
    }
    return Image(
        files={"tmp/": (b"", 0o1777), "run/": (b"", 0o755), **{path: (data, 0o755) for path, data in files.items()}},
        links={f"bin/{name}": "busybox" for name in ("sh", "httpd", "mkdir", "touch")},
        entrypoint=["/start"],
    )


class Kinds(InPlace):
    folder: Path
    config: Path

    def publish(self, version: str) -> str:
        """Serve a version's image as its registry does. Return its name with the digest."""
        (self.folder / "image.tar").write_bytes(archive(image(version)))
        name = f"registry.example.com/shop:{version}"
        printed = self.sandbox.localcloud("image", name, str(self.folder / "image.tar"), capture=True)
        return printed.strip().removeprefix("container: ")

    def write(self, shop: str, packed: str) -> None:
        """Write the files of a version of each workload. That of BROKEN is never healthy."""
        start = self.folder / "shop/start"
        start.parent.mkdir(exist_ok=True)
        start.write_text(APP.replace("VERSION", shop))
        start.chmod(0o755)
        self.config.write_text(STACK.format(files=start.parent, container=self.publish(packed)))
        self.sandbox.write_config()

    def deploy(self, shop: str, packed: str, *, check: bool = True) -> str:
        """Run `up` with a version of each workload. Return what it printed."""
        self.write(shop, packed)
        return self.up_to(f"shop {shop}, packed {packed}", check=check)

    @contextmanager
    def one_out_at_most(self) -> Iterator[None]:
        """Fails if two of the four machines were out of DNS at the same time."""
        with Prober(lambda: str(len(self.dig(SERVICE, "SRV"))), 0.2).running() as prober:
            yield
        counted = {answer for _, answer in prober.answers}
        print(f"\nmachines in DNS: {sorted(counted)}")
        assert counted == {"3", "4"}, counted


@pytest.fixture(scope="module")
def kinds() -> Iterator[Kinds]:
    with TemporaryDirectory() as folder:
        first = IMAGE.format(version="one", digest="0" * 64)
        config = config_file(Path(folder), STACK.format(files=folder, container=first))
        with sandboxed("kinds", config) as sandbox:
            made = Kinds(sandbox)
            made.folder, made.config = Path(folder), config
            sandbox.bring_packages(Step("packages", sys.stdout))
            made.deploy("one", "uno")
            yield made


def test_no_request_fails_while_both_fleets_change_one_after_the_other(kinds: Kinds) -> None:
    machines = kinds.in_state()
    assert kinds.versions() == ["one", "one", "uno", "uno"]
    with kinds.requests_all_along(), kinds.one_out_at_most():
        kinds.deploy("two", "due")
    assert kinds.versions() == ["due", "due", "two", "two"]
    assert kinds.in_state() == machines and len(machines) == 4
    assert "unchanged" in kinds.unchanged()


def test_a_rollback_is_not_undone_and_a_refresh_says_nothing_of_it(kinds: Kinds) -> None:
    with kinds.requests_all_along(), kinds.one_out_at_most():
        kinds.rollcall("rollback", "shop-joyent")
        kinds.rollcall("rollback", "packed-aws")
    assert kinds.versions() == ["one", "one", "uno", "uno"]
    assert kinds.unchanged().count("was rolled back") >= 2
    # It runs no program, as `destroy`.
    done = kinds.sandbox.pulumi("refresh", "--yes", "--skip-preview", "--stack", "local", capture=True)
    assert "was rolled back" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("shop", "packed", "machine"), [("BROKEN", "uno", "shop-joyent-0"), ("one", "BROKEN", "packed-aws-0")]
)
def test_no_request_fails_while_a_broken_release_comes_and_goes(
    kinds: Kinds, shop: str, packed: str, machine: str
) -> None:
    began = time.monotonic()
    with kinds.requests_all_along(), kinds.one_out_at_most():
        printed = kinds.deploy(shop, packed, check=False)
    print(f"broken release: `up` failed after {time.monotonic() - began:.0f} s, deadline {DEADLINE_S} s")
    assert re.search(rf"{machine} \([0-9a-fi-]+\) failed at checking of (shop|packed)", printed), printed
    assert "version BROKEN starts" in printed, printed
    assert kinds.versions() == ["one", "one", "uno", "uno"]
    kinds.write("one", "uno")
    assert "unchanged" in kinds.unchanged()
