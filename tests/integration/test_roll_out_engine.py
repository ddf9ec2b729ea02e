"""Releases in place on machines that boot, under the real engine, while clients ask 50 times a second: no request fails.

The clients keep DNS answers for their TTL, and take the machine that they drew. The tests share one deployment and run in their order.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from rollcall.in_place import WANTED
from tests.cloud.joyent_stack import end_session
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.instep import SERVICE, InStep
from tests.integration.log_inspection import Prober, config_file

pytestmark = [pytest.mark.machines, pytest.mark.engine, pytest.mark.prove]
CLIENTS, EVERY_S, TTL_S = 5, 0.1, 5
DEADLINE_S = 20
APP = """#!/usr/bin/python3
import http.server, os, socketserver


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if "VERSION" == "BROKEN" and self.path == "/healthz" else 200)
        self.end_headers()
        self.wfile.write(f"VERSION {os.environ['ROLLCALL_INSTANCE']}".encode())

    def log_message(self, *_):
        pass


print("version VERSION starts", flush=True)
socketserver.TCPServer.request_queue_size = 128
http.server.ThreadingHTTPServer(("", 4218), Handler).serve_forever()
"""
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


class Shop(InStep):
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
        began = time.monotonic()
        done = self.sandbox.pulumi("up", "--yes", "--skip-preview", "--stack", "local", capture=True, check=False)
        print(f"\nup to version {version}: exit code {done.returncode} after {time.monotonic() - began:.0f} s")
        assert (done.returncode == 0) == check, done.stdout + done.stderr
        return done.stdout + done.stderr

    def kill_up(self, after_s: float) -> None:
        """Kill `up`, its engine and its hosts so long after the first machine wants another release."""
        before = self.wanted()
        process = subprocess.Popen(
            ["pulumi", "up", "--yes", "--skip-preview", "--stack", "local", "--non-interactive"],
            cwd=self.sandbox.work,
            env=self.sandbox.engines_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_until("a machine wants another release", lambda: self.wanted() != before, 120)
            time.sleep(after_s)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # The hosts of dynamic providers have groups of their own.
            end_session(process.pid)
            process.wait()
        # A dead process's lock is cleared.
        self.sandbox.lay_out()

    def unchanged(self) -> str:
        return self.sandbox.pulumi("preview", "--expect-no-changes", "--stack", "local", capture=True).stdout

    def client(self, seed: int) -> Callable[[], str]:
        """Return a client that keeps answers for their TTL, and tries no second machine."""
        addresses: list[str] = []
        until, dice = 0.0, random.Random(seed)  # noqa: S311

        def ask() -> str:
            nonlocal addresses, until
            try:
                if time.monotonic() >= until:
                    addresses = [a for target in self.dig(SERVICE, "SRV") for a in self.dig(target.split()[3], "A")]
                    until = time.monotonic() + TTL_S
                with contextlib.closing(self._namespace.connect((dice.choice(addresses), 4218), timeout=3)) as call:
                    call.settimeout(3)
                    call.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    return call.makefile("rb").read().rpartition(b"\r\n\r\n")[2].decode() or "hung up"
            except (OSError, ValueError, IndexError) as failed:
                return f"{type(failed).__name__} {failed}"

        return ask

    @contextlib.contextmanager
    def requests_all_along(self) -> Iterator[None]:
        """Let clients ask 50 times a second. Fails if one request failed."""
        with contextlib.ExitStack() as running:
            probers = [running.enter_context(Prober(self.client(each), EVERY_S).running()) for each in range(CLIENTS)]
            began = time.monotonic()
            yield
            seconds = time.monotonic() - began
        served = re.compile(r"\w+ i-[0-9a-f]+")
        failed = [each for prober in probers for each in prober.failures(lambda text: bool(served.fullmatch(text)))]
        number = sum(len(each.answers) for each in probers)
        print(f"\n{number} requests in {seconds:.0f} s, {len(failed)} failed")
        assert not failed, failed[:10]
        assert number > 20 * seconds, "too few requests to show anything"

    def versions(self) -> list[str]:
        """The version that each machine answers, sorted."""
        addresses = [a for target in self.dig(SERVICE, "SRV") for a in self.dig(target.split()[3], "A")]
        found = []
        for address in addresses:
            with contextlib.closing(self._namespace.connect((address, 4218), timeout=3)) as call:
                call.sendall(b"GET / HTTP/1.0\r\n\r\n")
                found.append(call.makefile("rb").read().rpartition(b"\r\n\r\n")[2].decode().partition(" ")[0])
        return sorted(found)

    def rollcall(self, *words: str) -> str:
        """Run a command about the stack, as an operator does."""
        done = subprocess.run(
            [str(Path(".venv/bin/rollcall").resolve()), *words, "--stack", "local"],
            cwd=self.sandbox.work,
            env=self.sandbox.engines_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def wanted(self) -> set[str]:
        """The releases that the machines' settings name."""
        reservations = self.ec2.describe_instances()["Reservations"]
        tags = [tag for each in reservations for one in each["Instances"] for tag in one.get("Tags", ())]
        return {tag["Value"].split()[0] for tag in tags if tag["Key"].startswith(WANTED)}


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
