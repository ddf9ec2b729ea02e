"""Every change of a fleet as one `up`, while clients ask all along: no client gets a dead address.

Two kinds of clients for the site and for the service: one resolves each time, one keeps answers for their TTL and takes what
it drew, as a strict client would that tries no second address. The tests share one deployment and run in their order.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rdatatype
import pytest

from localcloud.machines.image.build import ensure
from localcloud.runtime.prepare import ROOT
from rollcall.errors import RollcallError
from rollcall.resolve import Client
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.deployed import HOST
from tests.integration.instep import SERVICE, InStep
from tests.integration.log_inspection import Prober, config_file

pytestmark = [pytest.mark.machines, pytest.mark.engine, pytest.mark.prove]
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:sites: {{ www: {{ zone: scalability.expert, host: www, ttl: 60 }} }}
  rollcall:serviceDiscovery:
    {{ zone: unilans.net, services: {{ theService: {{ port: 4218, ttl: 20, incarnations: {{ v1: {{}} }} }} }} }}
  rollcall:fleets:
    web-aws:
      {{ cloud: aws, count: {aws}, size: {ec2}, image: {image}, joins: [site/www, theService/v1], weight: {weight},
        priority: {priority} }}
    web-joyent: {{ cloud: joyent, count: 2, size: {triton}, image: {image}, joins: [site/www, theService/v1] }}
    mover: {{ cloud: {cloud}, count: 1, size: {mover}, image: {image}, joins: [site/www, theService/v1] }}
"""
FIRST: dict[str, Any] = {
    "aws": 2, "ec2": "t3.micro", "triton": "g1.micro", "image": "debian-12", "weight": 10, "priority": 10,
    "cloud": "aws", "mover": "t3.micro",
}  # fmt: skip


class Changing(InStep):
    config: Path
    settings: dict[str, Any]

    def configure(self, **changed: Any) -> None:
        self.settings = {**self.settings, **changed}
        self.config.write_text(CONFIG.format(**self.settings))
        self.sandbox.write_config()

    def change_the_userdata(self) -> None:
        """As a commit that edits a workload: the program runs from a copy with another userdata."""
        for name in ("components", "userdata", "__main__.py"):
            link = self.sandbox.work / name
            link.unlink()
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, link, ignore=ignored)
            else:
                shutil.copy(ROOT / name, link)
        page = self.sandbox.work / "userdata/workloads/the-service/the_service.py"
        page.write_text(page.read_text() + "\n# Another version of it.\n")

    # Clients that keep answers for their TTL.

    def cached_site(self) -> Callable[[], str]:
        addresses: list[str] = []
        until, turn = 0.0, 0

        def ask() -> str:
            nonlocal addresses, until, turn
            if time.monotonic() >= until:
                host, _, port = self.env["ROLLCALL_DNS"].rpartition(":")
                reply = dns.query.udp(dns.message.make_query(HOST, "A"), host, port=int(port), timeout=5)
                found = [rrset for rrset in reply.answer if rrset.rdtype == dns.rdatatype.A]
                addresses = [item.to_text() for rrset in found for item in rrset]
                until = time.monotonic() + min((rrset.ttl for rrset in found), default=0)
            if not addresses:
                return "no machine"
            turn += 1
            address = addresses[turn % len(addresses)]
            request = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
            try:
                with contextlib.closing(self._namespace.connect((address, 80), timeout=3)) as call:
                    call.settimeout(3)
                    call.sendall(request)
                    head = call.makefile("rb").read().decode(errors="replace").splitlines()
            except OSError as failed:
                return f"{address}: {type(failed).__name__} {failed}"
            served = [line.partition(": ")[2] for line in head if line.lower().startswith("x-served-by: ")]
            return served[0] if served else f"{address}: {head[:1]}"

        return ask

    def cached_service(self) -> Callable[[], str]:
        client = Client([self.env["ROLLCALL_DNS"]])

        def ask() -> str:
            try:
                targets = client.discover("theService", "unilans.net", "v1").order()
            except RollcallError as failed:
                return f"{type(failed).__name__} {failed}"
            for target in targets:
                # A host without an address is passed over for the next (RFC 2782); an address must answer.
                for address in client.addresses(target.host)[:1]:
                    try:
                        with contextlib.closing(self._namespace.connect((address, target.port), timeout=3)) as call:
                            call.settimeout(3)
                            call.sendall(b"hello\n")
                            return call.makefile("rb").readline().split(b" ")[0].decode() or f"{address}: hung up"
                    except OSError as failed:
                        return f"{address}: {type(failed).__name__} {failed}"
            return "no machine"

        return ask

    @contextlib.contextmanager
    def answers_all_along(self) -> Iterator[dict[str, Prober]]:
        asks = {
            "site, resolving": self.ask_site, "site, caching": self.cached_site(),
            "service, resolving": self.ask_service, "service, caching": self.cached_service(),
        }  # fmt: skip
        with contextlib.ExitStack() as stack:
            yield {name: stack.enter_context(Prober(ask, 0.1).running()) for name, ask in asks.items()}

    def known(self) -> set[str]:
        """Every instance that either cloud has or had."""
        return self._known | self.tagged()

    def remember(self) -> None:
        self._known = getattr(self, "_known", set()) | self.tagged()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changing]:
    ensure(release="debian-13")
    config = config_file(tmp_path_factory.mktemp("changes"), CONFIG.format(**FIRST))
    with sandboxed("changes", config) as sandbox:
        stack = Changing(sandbox)
        stack.config, stack.settings = config, dict(FIRST)
        stack.output = stack.up()
        stack.assert_in_step()
        yield stack


CHANGES: dict[str, dict[str, Any]] = {
    "more machines": {"aws": 3},
    "weight and priority": {"weight": 30, "priority": 5},
    "fewer machines": {"aws": 2, "priority": 10},
    "size": {"ec2": "t3.small", "triton": "g1.small"},
    "image": {"image": "debian-13"},
    "another cloud": {"cloud": "joyent", "mover": "g1.micro"},
    "userdata": {},
}
REPLACING = {"size": 4, "image": 5, "another cloud": 1, "userdata": 5}


@pytest.mark.parametrize("change", CHANGES)
def test_no_client_gets_a_dead_address_while(stack: Changing, change: str) -> None:
    before = stack.in_state()
    stack.remember()
    stack.configure(**CHANGES[change])
    if change == "userdata":
        stack.change_the_userdata()
    with stack.answers_all_along() as probers:
        watcher = _Every(stack.remember)
        with watcher:
            wait_until("all clients are at work", lambda: all(len(each.answers) > 20 for each in probers.values()), 20)
            began = time.monotonic()
            stack.up()
            took = time.monotonic() - began
            # What a cache took up at the last moment.
            time.sleep(3)
    after = stack.assert_in_step()
    assert len(before - after) == REPLACING.get(change, 1 if change == "fewer machines" else 0)
    counts = {name: len(each.answers) for name, each in probers.items()}
    failed = {name: found for name, each in probers.items() if (found := each.failures(stack.known().__contains__))}
    print(f"\n{change}: up took {took:.0f} s; asked {counts}; failures {({k: len(v) for k, v in failed.items()}) or 0}")
    assert failed == {}, {name: found[:5] for name, found in failed.items()}
    assert min(counts.values()) > 30


def test_after_a_crash_how_long_anybody_is_led_to_the_dead(stack: Changing) -> None:
    victim = stack.machine("web-joyent-1")
    stack.remember()
    with stack.answers_all_along() as probers:
        wait_until("all clients are at work", lambda: all(len(each.answers) > 20 for each in probers.values()), 20)
        crashed = time.time()
        stack.sandbox.localcloud("crash", victim["id"])
        wait_until("its records are gone", lambda: victim["id"] not in stack.owners()["site"], 90)
        # One TTL of the site more for clients that cache.
        time.sleep(70)
    for name, each in probers.items():
        failed = each.failures(stack.known().__contains__)
        last = max((at for at, _ in failed), default=crashed) - crashed
        print(f"\ncrash: {name}: {len(failed)} of {len(each.answers)} failed, the last after {last:.0f} s")
        assert last < (60 if "resolving" in name else 125), failed[-3:]


def test_up_fixes_the_crash_and_destroy_ends_all(stack: Changing) -> None:
    stack.up()
    stack.assert_in_step()
    stack.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
    stack.assert_tagged(set())
    assert stack.dig(SERVICE, "SRV") == [] and stack.answers() == []


class _Every:
    """Calls `what` twice a second on a thread until the end."""

    def __init__(self, what: Callable[[], None]) -> None:
        self._what, self._stop = what, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            self._what()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
