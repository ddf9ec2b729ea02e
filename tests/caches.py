"""Caching resolvers of Debian on loopback, in front of a name server: the resolvers between most clients and a zone."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query

from localcloud.network.namespace import Namespace
from tests.programs import program

UNBOUND = """server:
  interface: 127.0.0.1@{port}
{outgoing}  do-not-query-localhost: no
  do-daemonize: no
  do-ip6: no
  access-control: 127.0.0.0/8 allow
  chroot: ""
  username: ""
  pidfile: ""
  directory: "{home}"
  use-syslog: no
  module-config: "iterator"
  target-fetch-policy: "0 0 0 0 0"
stub-zone:
  name: "{zone}"
  stub-addr: {host}@{authority}
remote-control:
  control-enable: no
"""
CACHES = ("unbound", "dnsmasq")
_STARTS_WITHIN_S = 10.0


def _command(name: str, path: str, home: Path, port: int, zone: str, authority: tuple[str, int]) -> list[str]:
    host, there = authority
    if name == "unbound":
        config = home / "unbound.conf"
        config.write_text(
            UNBOUND.format(outgoing=_outgoing(host), port=port, home=home, zone=zone, host=host, authority=there)
        )
        return [path, "-d", "-c", str(config)]
    words = [path, "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=root"]
    words += ["--pid-file=", "--log-facility=-", "--bind-interfaces", "--listen-address=127.0.0.1", f"--port={port}"]
    return [*words, f"--server=/{zone}/{host}#{there}"]


def _outgoing(authority: str) -> str:
    """Towards a name server on loopback unbound keeps to loopback."""
    return "  outgoing-interface: 127.0.0.1\n" if authority.startswith("127.") else ""


@contextlib.contextmanager
def cache_of(
    name: str, home: Path, zone: str, authority: tuple[str, int], namespace: Namespace | None = None
) -> Iterator[int]:
    """Run one of CACHES for `zone`, which the server at `authority` answers for; its port on 127.0.0.1, of `namespace` if one is given."""
    run: Callable[[Callable[[], Any]], Any] = namespace.run if namespace else lambda act: act()
    found, port = program(name), run(_free_port)
    words = _command(name, found.path, home, port, zone, authority)
    words = ["nsenter", f"--net={namespace.path}", *words] if namespace else words
    with (home / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(words, env=found.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        run(lambda: _wait(process, port, zone, home / f"{name}.log"))
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _wait(process: subprocess.Popen[bytes], port: int, zone: str, log: Path) -> None:
    end = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError, dns.exception.DNSException):
            dns.query.udp(dns.message.make_query(zone, "NS"), "127.0.0.1", port=port, timeout=1)
            return
        time.sleep(0.1)
    raise AssertionError(f"no answer of {log.stem} on port {port}: {log.read_text()[-800:]}")


def _free_port() -> int:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as udp:
        udp.bind(("127.0.0.1", 0))
        return int(udp.getsockname()[1])
