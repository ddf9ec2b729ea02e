"""docs/tutorial.md from its first command to its last, as a reader types them, on booted machines of both clouds."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests

from localcloud.network.namespace import Namespace, name_for
from rollcall.errors import RollcallError
from rollcall.resolve import Client
from rollcall.settings import FLEET
from tests.integration.checkout_copy import copy_sources, link_packages
from tests.patience import Deadline
from tests.tutorial_page import PAGE, blocks, missing

pytestmark = [
    pytest.mark.machines,
    pytest.mark.engine,
    # It boots 27 machines. tests/unit/test_tutorial_page.py looks at the page in each run.
    pytest.mark.prove,
    pytest.mark.skipif(os.geteuid() != 0, reason="machines take root"),
]
STACK, ZONE = "mine", "services.example.com"
END = "@@end of a block@@"
# The number of machines of each fleet: in the first eight sections, and after them.
LARGE = {f"{name}-{cloud}": 2 for name in ("api", "shop", "www") for cloud in ("aws", "joyent")}
SMALL = {"hello-aws": 1, "shop-aws": 2}
# The third `up` leaves the small stack, and its machines stay to the end.
SMALL_FROM, UPS = 3, 7
# Of one block on a busy computer: it boots twelve machines, or replaces them.
BLOCK_S = 600
EVERY_S, MOMENT_S = 0.2, 0.6


class Reader:
    """A shell in a clone, in which a reader types one block after the other. `printed` has what each of them printed."""

    def __init__(self, clone: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "XDG_CACHE_HOME")}
        self._process = subprocess.Popen(
            ["bash", "--norc", "-eo", "pipefail"], cwd=clone, env=kept, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def type(self, commands: str) -> str:
        """Run a block, and return what it printed. Fails the test if a command fails."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{commands.rstrip()}\necho '{END}'\n")
        self._process.stdin.flush()
        printed, deadline = "", Deadline(BLOCK_S)
        while not deadline.passed:
            try:
                line = self._lines.get(timeout=1)
            except queue.Empty:
                continue
            if line.strip() == END:
                return printed
            assert line, f"{commands}\nfailed with exit code {self._process.wait(10)} and printed\n{printed}"
            printed += line
        pytest.fail(f"{commands}\ndid not end within {BLOCK_S} s and printed\n{printed}")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reading.join(10)
        for each in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if each is not None:
                    each.close()


class Visitors:
    """Clients of the site and of services, which ask all the time. `answers` has the answers to each, `failures` what failed."""

    def __init__(self, clone: Path, site: str, dns: str, names: Sequence[str]) -> None:
        self._namespace = Namespace(name_for(clone, STACK))
        self._site, self._client = site, Client([dns])
        self.answers: dict[str, list[str]] = {name: [] for name in names}
        self.failures: list[str] = []
        self._ended = threading.Event()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask_on, args=(each,)) for each in self.answers]
        for each in threads:
            each.start()
        try:
            # A moment before and after, for answers of both versions.
            time.sleep(MOMENT_S)
            yield
            time.sleep(MOMENT_S)
        finally:
            self._ended.set()
            for each in threads:
                each.join(30)

    def _ask_on(self, name: str) -> None:
        while not self._ended.wait(EVERY_S):
            try:
                self.answers[name].append(self._get_site() if name == "site" else self._get(name))
            except (OSError, RollcallError, requests.RequestException) as failed:
                self.failures.append(f"{name}: {type(failed).__name__}: {failed}")

    def _get_site(self) -> str:
        with requests.Session() as visitor:
            visitor.trust_env = False
            reply = visitor.get(self._site, timeout=10)
            reply.raise_for_status()
            return reply.text.strip()

    def _get(self, service: str) -> str:
        """Ask one machine of a service; if it accepts no connection, the next one."""
        refused: Exception = OSError("no machine")
        for target in self._client.discover(service, ZONE, "v1").order():
            try:
                call = self._namespace.connect((self._client.addresses(target.host)[0], target.port), timeout=5)
            except OSError as wrong:
                refused = wrong
                continue
            with contextlib.closing(call):
                call.settimeout(10)
                call.sendall(b"GET / HTTP/1.0\r\n\r\n")
                head, _, body = call.makefile("rb").read().partition(b"\r\n\r\n")
                if b" 200 " not in head:
                    raise OSError(f"answered {head[:80]!r}")
                return body.decode().strip()
        raise refused


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A clean clone with the packages of this one, so that they are not downloaded again."""
    made = tmp_path / "rollcall"
    copy_sources(made)
    link_packages(made)
    try:
        yield made
    finally:
        stop = [sys.executable, "-m", "localcloud", "--instance", STACK, "stop"]
        subprocess.run(stop, cwd=made, check=False, capture_output=True)


def machines(clone: Path) -> dict[str, dict[str, Any]]:
    """The machines that are not gone, by their ids."""
    words = [sys.executable, "-m", "localcloud", "--instance", STACK, "ps"]
    done = subprocess.run(words, cwd=clone, capture_output=True, text=True, check=True)
    gone = ("terminated", "deleted", "shutting-down")
    return {each["id"]: each for each in json.loads(done.stdout) if each["state"] not in gone}


def of_fleets(found: dict[str, dict[str, Any]]) -> dict[str, int]:
    names = [each["tags"][FLEET] for each in found.values()]
    return {name: names.count(name) for name in sorted(set(names))}


def test_every_block_runs_and_prints_what_the_page_says(clone: Path) -> None:
    reader = Reader(clone)
    found: dict[str, dict[str, Any]] = {}
    ups = 0
    try:
        for block in blocks(PAGE.read_text()):
            began = time.monotonic()
            visited = services_visited(block.commands, ups)
            visitors = Visitors(clone, *addresses(reader), visited) if visited else None
            with visitors.asking() if visitors else contextlib.nullcontext():
                printed = reader.type(block.commands)
            print(f"\n{time.monotonic() - began:.0f} s: {block.commands.splitlines()[-1]}", flush=True)
            assert missing(block.shown, printed) == [], f"{block.commands}\nprinted\n{printed}"
            if visitors and ups == 1:
                check_new_machines(visitors)
            elif visitors:
                assert visitors.failures == [] and len(visitors.answers["shop"]) > 10, visitors.failures
            if "make up" in block.commands:
                ups += 1
                before, found = found, machines(clone)
                assert of_fleets(found) == (LARGE if ups < SMALL_FROM else SMALL)
                if ups == 1:
                    check_site(clone, reader)
                elif ups <= SMALL_FROM:
                    assert not before.keys() & found.keys(), "a new version is another machine"
                else:
                    assert before.keys() == found.keys(), "a new version changes the machines in place"
        assert ups == UPS and not (clone / ".rollcall" / STACK / "daemon.json").exists()
        assert not Namespace(name_for(clone, STACK)).exists
        assert (clone / f"Pulumi.{STACK}.yaml").exists() and (clone.parent / "mine/api-2").exists()
    finally:
        reader.close()


def services_visited(commands: str, ups: int) -> tuple[str, ...]:
    """Return what clients ask while a block runs that brings another version to machines: `ups` were before it."""
    changes = any(each in commands for each in ("make up", "rollcall rollback", "rollcall hold"))
    if not changes or ups == 0:
        return ()
    return ("site", "shop", "api") if ups == 1 else ("shop",)


def addresses(reader: Reader) -> tuple[str, str]:
    """Return the address of the site, and that of a name server."""
    site, dns = reader.type('printf "%s\\n" "$ROLLCALL_SITE_URL" "$ROLLCALL_DNS"').split()
    return site, dns


def check_site(clone: Path, reader: Reader) -> None:
    """The site has 40 files and 6 MB on a machine of each cloud."""
    for name in ("www-aws-0", "www-joyent-1"):
        folder = "/opt/rollcall/workloads/www/current/files"
        count, size = reader.type(
            f"lc exec {name} -- sh -c 'find {folder}/ -type f | wc -l; du -sb {folder}/'"
        ).split()[:2]
        assert int(count) == 40 and 6_000_000 < int(size) < 6_200_000


def check_new_machines(visitors: Visitors) -> None:
    """While machines of version 2 replaced those of version 1, no request failed, and each client got the one and then the other."""
    assert visitors.failures == []
    for name, answers in visitors.answers.items():
        assert len(answers) > 20, name
        versions = [1 if ("Version 1" in each or f"{name} 1 " in each) else 2 for each in answers]
        assert versions[0] == 1 and versions[-1] == 2, (name, answers[0], answers[-1])
        assert all("Version" in each or each.startswith(f"{name} ") for each in answers), name
