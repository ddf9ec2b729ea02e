"""HAProxy and Prometheus, as they run all the time, follow a service's machines by the names of RFC 2782."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localcloud.aws.route53 import UNLIMITED
from localcloud.dns.server import Authority, Listener
from localcloud.network.faults import Faults
from rollcall.host_label import KeptLabels
from rollcall.ownership import Owner
from rollcall.route53 import Route53Registry, Route53Store
from rollcall.settings import Route53Join
from tests.cloud.aws_cloud import running
from tests.programs import program
from tests.unit.agent.contention import UNKNOWN

pytestmark = [pytest.mark.clouds, pytest.mark.prove]
ZONE = "unilans.net"
NAMES = (f"_theService._tcp.v1.{ZONE}", f"_theService._tcp.{ZONE}")
WITHIN_S = 15.0
HAPROXY = """global
  stats socket {home}/admin.sock level admin
defaults
  timeout connect 1s
  timeout client 1s
  timeout server 1s
resolvers zone
  nameserver one {server}:53
  accepted_payload_size 4096
  timeout resolve 1s
  timeout retry 1s
  hold valid 1s
  hold obsolete 1s
  hold nx 1s
backend machines
  server-template machine 5 {name} resolvers zone init-addr none
"""
PROMETHEUS = """global:
  scrape_interval: 5m
scrape_configs:
  - job_name: machines
    dns_sd_configs: [{{ names: [{name}], type: SRV, refresh_interval: 1s }}]
"""


class Directory:
    """A service in a zone, and a name server for it on an address of loopback of its own, at port 53."""

    def __init__(self, membership: Route53Join, store: Route53Store, server: str) -> None:
        self.server, self._membership, self._store = server, membership, store
        self._labels: dict[int, KeptLabels] = {}

    def join(self, number: int) -> str:
        """The machine's host."""
        registry, owner = self._registry(number), owner_of(number)
        registry.join(owner, f"198.51.100.{number}")
        return registry.host(owner)

    def leave(self, number: int) -> None:
        self._registry(number).leave(owner_of(number))

    def _registry(self, number: int) -> Route53Registry:
        labels = self._labels.setdefault(number, KeptLabels(dice=random.Random(number)))  # noqa: S311
        return Route53Registry(self._membership, self._store, UNKNOWN, pause=lambda _: None, labels=labels)


def owner_of(number: int) -> Owner:
    return Owner("local", "api", str(number), f"{number:06x}", f"i-{number:017x}")


@pytest.fixture(scope="module")
def directory() -> Iterator[Directory]:
    server = f"127.{random.randrange(1, 250)}.{random.randrange(250)}.{random.randrange(1, 250)}"  # noqa: S311
    with running(route53_limits=UNLIMITED) as cloud, contextlib.ExitStack() as stack:
        zone = cloud.aws.add_zone(ZONE)
        membership = Route53Join(
            zone=zone, domain=ZONE, service="_theService._tcp", incarnation="v1", port=4218, ttl=1, srv="service"
        )
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        tcp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        for each in (udp, tcp):
            each.bind((server, 53))
        tcp.listen()
        listener = Listener(Authority([cloud.aws], {"ns-1.awsdns-01.com": "198.51.100.1"}, Faults()), [udp], [tcp])
        listener.start()
        stack.callback(listener.stop)
        yield Directory(membership, Route53Store(zone, cloud.route53()), server)


@contextlib.contextmanager
def process(words: list[str], env: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        started = subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield
    finally:
        started.terminate()
        started.wait(20)


@contextlib.contextmanager
def haproxy(home: Path, name: str, server: str) -> Iterator[Callable[[], set[str]]]:
    found, config = program("haproxy"), home / "haproxy.cfg"
    config.write_text(HAPROXY.format(home=home, server=server, name=name))

    def seen() -> set[str]:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(home / "admin.sock"))
            admin.sendall(b"show servers state machines\n")
            lines = admin.makefile().read().splitlines()
        columns = lines[1].lstrip("# ").split()
        rows = [dict(zip(columns, line.split(), strict=False)) for line in lines[2:] if line]
        return {f"{each['srv_fqdn']}:{each['srv_port']}" for each in rows if each["srv_addr"] != "-"}

    with process([found.path, "-f", str(config), "-db"], found.env, home / "log"):
        yield seen


@contextlib.contextmanager
def prometheus(home: Path, name: str, server: str) -> Iterator[Callable[[], set[str]]]:
    """It asks the resolvers of /etc/resolv.conf only, so it sees one of its own there."""
    found, config, resolvers = program("prometheus"), home / "prometheus.yml", home / "resolv.conf"
    config.write_text(PROMETHEUS.format(name=name))
    resolvers.write_text(f"nameserver {server}\n")
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inside = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", inside, "sh", str(resolvers), found.path, f"--config.file={config}"]
    words += [f"--storage.tsdb.path={home / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]

    def seen() -> set[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/targets", timeout=5) as reply:
            targets = json.load(reply)["data"]["activeTargets"]
        return {each["discoveredLabels"]["__address__"].replace(".:", ":") for each in targets}

    with process(words, found.env, home / "log"):
        yield seen


def soon(seen: Callable[[], set[str]], wanted: set[str]) -> float:
    """Seconds until a program sees just these."""
    began, found = time.monotonic(), set[str]()
    while time.monotonic() - began < WITHIN_S:
        with contextlib.suppress(OSError):
            found = seen()
            if found == wanted:
                return time.monotonic() - began
        time.sleep(0.1)
    raise AssertionError((found, wanted))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("client", [haproxy, prometheus])
def test_a_program_sees_the_machines_as_they_come_and_go(
    directory: Directory,
    tmp_path: Path,
    client: Callable[[Path, str, str], contextlib.AbstractContextManager[Callable[[], set[str]]]],
    name: str,
) -> None:
    hosts = {number: directory.join(number) for number in (1, 2)}

    def members() -> set[str]:
        return {f"{host}:4218" for host in hosts.values()}

    with client(tmp_path, name, directory.server) as seen:
        first = soon(seen, members())
        hosts[3] = directory.join(3)
        joined = soon(seen, members())
        directory.leave(2)
        left_host = hosts.pop(2)
        gone = soon(seen, members())
        hosts[2] = directory.join(2)
        again = soon(seen, members())
        assert hosts[2] != left_host
    print(
        f"\n{client.__name__} {name}: {first:.1f} s, join {joined:.1f} s, leave {gone:.1f} s, again {again:.1f} s",
        end="",
    )
    for number in hosts:
        directory.leave(number)
