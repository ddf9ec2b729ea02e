"""A deployed stack with releases in place, and clients that keep DNS answers for their TTL and take the machine that they drew."""

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

from rollcall.in_place import WANTED
from tests.cloud.joyent_stack import end_session
from tests.integration.conftest import wait_until
from tests.integration.instep import SERVICE, InStep
from tests.integration.log_inspection import Prober

CLIENTS, EVERY_S, TTL_S = 5, 0.1, 5
# It answers with its version and its machine. BROKEN is never healthy.
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


class InPlace(InStep):
    def up_to(self, what: str, *, check: bool = True) -> str:
        """Run `up` with what the files and the configuration have now. Return what it printed."""
        began = time.monotonic()
        done = self.sandbox.pulumi("up", "--yes", "--skip-preview", "--stack", "local", capture=True, check=False)
        print(f"\nup to {what}: exit code {done.returncode} after {time.monotonic() - began:.0f} s")
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
                    return call.makefile("rb").read().rpartition(b"\r\n\r\n")[2].decode().strip() or "hung up"
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
        served = re.compile(r"\w+ (i-[0-9a-f]+|[0-9a-f]{8}(-[0-9a-f]+){4})")
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
