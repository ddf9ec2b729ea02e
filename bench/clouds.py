"""Local clouds in this process, an agent and a Consul agent in others: what `rest` and `visible` share.

All of it is on loopback.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rdatatype
import requests

from localcloud.aws.route53 import PRESENT
from localcloud.cloudflare import Cloudflare
from localcloud.cloudflare.limits import RateLimit
from localcloud.dns.server import Authority, Listener, bound_pair
from localcloud.engine import cache
from localcloud.network.http import Server, listen
from rollcall.settings import (
    FLEET,
    GENERATION,
    JOIN,
    MACHINE,
    STACK,
    CloudflareJoin,
    Join,
    Route53Join,
    format_join,
)
from tests.cloud import aws_cloud
from tests.cloud.cloudflare_server import EDGES, OPERATOR

HERE = Path(__file__).resolve().parent
SITE, HOST, ZONE = "scalability.expert", "www.scalability.expert", "unilans.net"
SERVICE = f"v1._theService._tcp.{ZONE}"
CONSUL = "v1.20.1"
CONSUL_DNS_NAME = "the-service.service.consul"


@dataclass
class Clouds:
    """Cloudflare with one zone, Route53 with another, a name server over both. `requests` counts the API calls."""

    cloudflare: Cloudflare
    aws: aws_cloud.Cloud
    site_zone: str
    hosted_zone: str
    dns_port: int
    environ: dict[str, str]
    requests: Counter[str] = field(default_factory=Counter)

    def site_join(self, port: int, proxied: bool = False) -> CloudflareJoin:
        return CloudflareJoin(
            zone=self.site_zone, host=HOST, token="token", ttl=60, proxied=proxied, check=f"tcp:{port}"
        )

    def service_join(self, port: int) -> Route53Join:
        return Route53Join(
            zone=self.hosted_zone,
            domain=ZONE,
            service="_theService._tcp",
            incarnation="v1",
            port=port,
            ttl=5,
            key="key",
        )

    def answers(self, name: str, rtype: str) -> frozenset[str]:
        return answers(self.dns_port, name, rtype)


@contextlib.contextmanager
def clouds() -> Iterator[Clouds]:
    requests: Counter[str] = Counter()
    # An hour of a simulated clock takes seconds, in which the API would refuse most of its calls.
    flare = Cloudflare(operator_token=OPERATOR, edge_addresses=EDGES, rate_limit=RateLimit(requests=1_000_000))

    def counted(environ: Any, start_response: Any) -> Iterable[bytes]:
        requests[f"cloudflare {environ['REQUEST_METHOD']}"] += 1
        return flare.app(environ, start_response)

    zone = flare.add_zone(SITE)
    front = listen("127.0.0.1")
    server = Server(counted, [front])
    server.start()
    with aws_cloud.running(route53_limits=PRESENT) as aws:
        hosted = aws.aws.add_zone(ZONE)
        inner = aws.aws.app
        between = listen("127.0.0.1")

        def passed(environ: Any, start_response: Any) -> Iterable[bytes]:
            requests[f"route53 {environ['REQUEST_METHOD']}"] += 1
            return inner(environ, start_response)

        second = Server(passed, [between])
        second.start()
        udp, tcp = bound_pair("127.0.0.1")
        names = Listener(Authority([flare, aws.aws], {"ns.example": "127.0.0.1"}), [udp], [tcp])
        names.start()
        environ = {
            "CLOUDFLARE_BASE_URL": f"http://127.0.0.1:{server.ports[0]}/client/v4",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{second.ports[0]}",
            "AWS_REGION": "us-west-2",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        try:
            yield Clouds(flare, aws, zone, hosted, udp.getsockname()[1], environ, requests)
        finally:
            names.stop()
            second.stop()
            server.stop()
            front.close()
            between.close()


def answers(port: int, name: str, rtype: str) -> frozenset[str]:
    """Return what a name server on loopback answers; an empty set if it does not answer."""
    try:
        reply = dns.query.udp(dns.message.make_query(name, rtype), "127.0.0.1", port=port, timeout=2)
    except (dns.exception.DNSException, OSError):
        return frozenset()
    wanted = dns.rdatatype.from_text(rtype)
    return frozenset(item.to_text() for rrset in reply.answer if rrset.rdtype == wanted for item in rrset)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Workload:
    """Accepts connections on a port while it is open; the health checks connect to it."""

    def __init__(self, port: int) -> None:
        self._listening = socket.create_server(("127.0.0.1", port))
        self._listening.listen(64)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._listening.accept()[0].close()

    def close(self) -> None:
        # Without it the thread that accepts would keep the port open.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)


@contextlib.contextmanager
def agent(clouds: Clouds, joins: tuple[Join, ...], number: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Run our agent as on a machine, with settings from a file and the local name server."""
    with tempfile.TemporaryDirectory(prefix="rollcall-bench-") as scratch:
        settings = Path(scratch) / "rollcall.json"
        settings.write_text(json.dumps(machine_settings(joins, number)))
        process = subprocess.Popen(
            [sys.executable, str(HERE / "agent_alone.py"), str(settings), str(clouds.dns_port)],
            env={**os.environ, **clouds.environ, "PYTHONPATH": str(HERE.parent / "userdata")},
            stdout=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def machine_settings(joins: tuple[Join, ...], number: int) -> dict[str, object]:
    """Return the content of the settings file of the machine with this number."""
    keys = {
        STACK: "local",
        FLEET: "web",
        MACHINE: str(number),
        GENERATION: f"{number:06x}",
        **{f"{JOIN}{at}": format_join(each) for at, each in enumerate(joins)},
    }
    secrets = {"token": OPERATOR, "key": " ".join(aws_cloud.OPERATOR)}
    return {
        "instance": f"i-{number:017x}",
        "addresses": [f"198.51.100.{10 + number}"],
        "keys": keys,
        "secrets": secrets,
    }


def consul() -> Path:
    """Return the pinned Consul, built from its Go module into the user's cache once: about 4 minutes on 2 cores."""
    made = cache() / f"consul-{CONSUL}" / "consul"
    if not made.exists():
        print(f"building Consul {CONSUL} from its Go module, once", file=sys.stderr, flush=True)
        made.parent.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}
        partial = made.with_name("consul.partial")
        words = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(partial), "github.com/hashicorp/consul"]
        subprocess.run(words, cwd=HERE / "consul", env=env, check=True)
        partial.rename(made)
    return made


@dataclass
class ConsulAgent:
    process: subprocess.Popen[bytes]
    http: str
    dns_port: int

    def put(self, path: str, body: object = None) -> None:
        requests.put(f"{self.http}/v1/agent/{path}", json=body, timeout=10).raise_for_status()

    def register(self, port: int, interval: str = "2s") -> None:
        """Register the service with the same check as ours, at the same interval."""
        check = {"TCP": f"127.0.0.1:{port}", "Interval": interval, "Timeout": "3s", "Status": "critical"}
        self.put("service/register", {"Name": "the-service", "ID": "one", "Port": port, "Check": check})

    def deregister(self) -> None:
        self.put("service/deregister/one")

    def is_registered(self) -> bool:
        return bool(answers(self.dns_port, CONSUL_DNS_NAME, "SRV"))


@contextlib.contextmanager
def consul_agent() -> Iterator[ConsulAgent]:
    """Run Consul in dev mode: server and client in one, all in memory."""
    program, scratch = consul(), tempfile.mkdtemp(prefix="rollcall-bench-")
    ports = {name: free_port() for name in ("http", "dns", "grpc", "server", "serf_lan", "serf_wan")}
    config = {"ports": {**ports, "grpc_tls": -1}, "disable_update_check": True, "log_level": "ERROR"}
    (Path(scratch) / "ports.json").write_text(json.dumps(config))
    words = [
        str(program),
        "agent",
        "-dev",
        "-bind=127.0.0.1",
        "-client=127.0.0.1",
        f"-config-file={scratch}/ports.json",
    ]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    made = ConsulAgent(process, f"http://127.0.0.1:{ports['http']}", ports["dns"])
    try:
        until(lambda: bool(requests.get(f"{made.http}/v1/status/leader", timeout=5).json()), 60)
        yield made
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(scratch, ignore_errors=True)


def until(true: Callable[[], bool], seconds: float, every: float = 0.01) -> float:
    """Return the seconds until it was true. Raises TimeoutError."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(requests.ConnectionError):
            if true():
                return time.monotonic() - began
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not within {seconds:.0f} s")
        time.sleep(every)
