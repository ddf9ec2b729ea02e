"""`python -m localcloud serve`: all local clouds of one instance in one process of threads.

Listening sockets are made on the host's 127.0.0.1 and inside the instance's own network namespace; nothing connects the
two. What runs is in `daemon.json` below the state folder (ports, process id, no secret); credentials, made at run time, are
in files of mode 0600 below `keys/`. The clouds live in memory: when the process ends, so do they, with every machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import logging
import os
import secrets
import signal
import socket
import string
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localcloud.ca import Authority as CertificateAuthority
from localcloud.compute import Hypervisor, InstantHypervisor
from localcloud.dns import Authority, Listener, Resolver, bound_pair
from localcloud.edge import Edge
from localcloud.faults import Faults
from localcloud.http import Server, listen
from localcloud.namespace import IMDS, NETWORKS, Namespace, name_for
from localcloud.visitor import Visitor

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from localcloud.http import WSGIApp

ROOT = Path(__file__).resolve().parent.parent
SITE = "www.scalability.expert"
REGION = "us-west-2"
ACCOUNT = "rollcall"
_log = logging.getLogger("localcloud")


class DaemonError(Exception):
    """The daemon cannot start; the message names the mend."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """`machines` off boots nothing: machines are running `delay` seconds after they were asked for. `rate_limits` off
    answers as fast as it can."""

    instance: str
    state: Path
    machines: bool = True
    delay: float = 0.0
    rate_limits: bool = True


class Daemon:
    """Everything that one instance serves. `start()` returns when all of it answers; `stop()` leaves nothing behind."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.faults = Faults()
        self.namespace = Namespace(name_for(ROOT, options.instance))
        self._keys = Keys(options.state / "keys")
        self._closers: list[Callable[[], object]] = []
        self._servers: list[Server] = []
        self._ports: dict[str, int] = {}
        self.hypervisor: Hypervisor | None = None

    def start(self) -> None:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for closer in reversed(self._closers):
            try:
                closer()
            except Exception:  # noqa: BLE001 - what is left is closed all the same
                _log.exception("closing")
        self._closers.clear()

    def _start(self) -> None:
        from localcloud.aws import Aws
        from localcloud.cloudapi import CloudApi
        from localcloud.cloudflare import Cloudflare

        # Closed last: who waits for the daemon to end waits for this file to go.
        self._closers.append(lambda: (self.options.state / "daemon.json").unlink(missing_ok=True))
        ca = CertificateAuthority(self.options.state / "keys")
        self._closers.append(self._keys.forget)
        if self.options.machines:
            self.namespace.create()
            self._closers.append(self.namespace.destroy)
        self.hypervisor = self._make_hypervisor(ca.pem)
        self.cloudflare = Cloudflare(
            operator_token=self._keys.cloudflare,
            edge_addresses=tuple(each.edge for each in NETWORKS.values()),
            faults=self.faults,
        )
        self.cloudapi = CloudApi(account=ACCOUNT, hypervisor=self.hypervisor, faults=self.faults)
        self.cloudapi.add_key("operator", self._keys.triton_public)
        self.aws = Aws(operator=self._keys.aws, hypervisor=self.hypervisor, region=REGION, faults=self.faults)
        self._seed()
        self._serve_apis(ca)
        self._serve_dns()
        self._serve_visitors(ca)
        self._serve_control()
        self._write_down()

    def _make_hypervisor(self, ca_pem: str) -> Hypervisor:
        if not self.options.machines:
            return InstantHypervisor(self.options.delay)
        from localcloud.hypervisor import NspawnHypervisor
        from localcloud.image import current

        image = current()
        if not image.complete:
            raise DaemonError("the machines' image is not built; run `make prepare`")
        made = NspawnHypervisor(
            namespace=self.namespace,
            image=image,
            machines=self.options.state / "machines",
            guest_metadata=lambda machine: Guest(self.cloudapi, machine),
            ca_pem=ca_pem,
        )
        self._closers.append(made.close)
        return made

    def _seed(self) -> None:
        """Both articles' zones, each with records of somebody else, which nothing of ours may touch."""
        zone = self.cloudflare.add_zone("scalability.expert")
        add = functools.partial(self.cloudflare.add_record, zone)
        add(type="MX", name="scalability.expert", content="mail.scalability.expert", priority=10, ttl=3600)
        add(type="TXT", name="scalability.expert", content='"v=spf1 mx -all"', ttl=3600)
        add(type="A", name="blog.scalability.expert", content="198.51.100.9", ttl=3600, comment="kept by hand")
        hosted = self.aws.add_zone("unilans.net")
        self.aws.add_record_set(hosted, "unilans.net", "TXT", 300, '"kept by hand"')

    def _serve_apis(self, ca: CertificateAuthority) -> None:
        apis: dict[str, WSGIApp] = {
            "cloudflare": self.faults.middleware("cloudflare", self.cloudflare.app, self.cloudflare.app.throttled),
            "cloudapi": self.faults.middleware("cloudapi", self.cloudapi.app, self.cloudapi.app.throttled),
            # AWS has its faults inside, since each of its services answers them in its own way.
            "aws": self.aws.app,
        }
        for name, app in apis.items():
            self._serve(name, app, [listen("127.0.0.1")])
        if not self.options.machines:
            return
        inside = NETWORKS["aws"].gateway
        fronts = {"api.cloudflare.com": apis["cloudflare"], "amazonaws.com": apis["aws"]}
        self._serve("", by_host(fronts), [self.namespace.listen(inside, 443)], ca.context())
        self._serve("", functools.partial(imds, self.aws), [self.namespace.listen(IMDS, 80)])
        from localcloud.image import current

        self._serve("", files(current().repository), [self.namespace.listen(inside, 80)])

    def _serve_dns(self) -> None:
        from localcloud import cloudflare
        from localcloud.aws.route53 import store as route53

        sources = [self.cloudflare, self.aws]
        gateways = [network.gateway for network in NETWORKS.values()]
        names = (*cloudflare.NAME_SERVERS, *route53.NAME_SERVERS)
        servers = {name: gateways[at % len(gateways)] for at, name in enumerate(names)}
        udp, tcp = bound_pair("127.0.0.1")
        self._ports["dns"] = udp.getsockname()[1]
        authority = Authority(sources, servers, self.faults)
        self.authority = authority
        self._listen_dns(authority, [udp], [tcp])
        if self.options.machines:
            hosts = dict.fromkeys(
                ("api.cloudflare.com", "*.amazonaws.com", "deb.debian.org", "*.debian.org"), gateways[0]
            )
            resolver = Resolver(sources, servers, hosts, self.faults)
            pairs = [self.namespace.run(functools.partial(bound_pair, each, 53)) for each in gateways]
            self._listen_dns(resolver, [each[0] for each in pairs], [each[1] for each in pairs])

    def _listen_dns(self, authority: Authority, udp: list[socket.socket], tcp: list[socket.socket]) -> None:
        listener = Listener(authority, udp, tcp)
        listener.start()
        self._closers.append(listener.stop)

    def _serve_visitors(self, ca: CertificateAuthority) -> None:
        edge = Edge(
            self.cloudflare.edge_origins,
            self.resolve,
            self._connect("edge"),
            self.cloudflare.origin_ca_pem,
        )
        if self.options.machines:
            for network in NETWORKS.values():
                self._serve("", edge.app, [self.namespace.listen(network.edge, 80)])
                self._serve("", edge.app, [self.namespace.listen(network.edge, 443)], ca.context())
        self._serve("site", Visitor(SITE, self.resolve, self._connect("visitor")).app, [listen("127.0.0.1")])

    def _connect(self, who: str) -> Callable[[str, int], socket.socket]:
        """How the edge, or the visitor, connects: inside the namespace, from its own address on the cloud's network."""

        def connect(address: str, port: int) -> socket.socket:
            network = next(
                (each for each in NETWORKS.values() if address.rpartition(".")[0] == each.gateway.rpartition(".")[0]),
                NETWORKS["aws"],
            )
            return self.namespace.connect((address, port), source=getattr(network, who), timeout=3.0)

        return connect

    def resolve(self, host: str) -> list[str]:
        """The A records of `host` as our own name server answers at this moment."""
        import dns.message
        import dns.rdatatype

        wire = self.authority.answer(dns.message.make_query(host, "A").to_wire(), over_tcp=True)
        if wire is None:
            return []
        reply = dns.message.from_wire(wire)
        return [item.to_text() for rrset in reply.answer if rrset.rdtype == dns.rdatatype.A for item in rrset]

    def _serve(self, name: str, app: WSGIApp, sockets: list[socket.socket], tls: Any = None) -> None:
        server = Server(app, sockets, tls)
        server.start()
        self._closers.append(server.stop)
        if name:
            self._ports[name] = server.ports[0]

    def _serve_control(self) -> None:
        from localcloud.control import ControlServer

        server = ControlServer(self.options.state / "control.sock", self)
        server.start()
        self._closers.append(server.stop)

    def _write_down(self) -> None:
        written = {
            "pid": os.getpid(),
            "started": Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19],
            "epoch": secrets.token_hex(8),
            "instance": self.options.instance,
            "namespace": self.namespace.name if self.options.machines else None,
            "ports": self._ports,
        }
        file = self.options.state / "daemon.json"
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(written))
        fresh.rename(file)

    def environment(self) -> dict[str, str]:
        """What points any client here."""
        key, secret = self._keys.aws
        ports = self._ports
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['aws']}",
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": REGION,
            # boto3 knows the region by this name only.
            "AWS_DEFAULT_REGION": REGION,
            "CLOUDFLARE_BASE_URL": f"http://127.0.0.1:{ports['cloudflare']}/client/v4",
            "CLOUDFLARE_API_TOKEN": self._keys.cloudflare,
            "TRITON_URL": f"http://127.0.0.1:{ports['cloudapi']}",
            "TRITON_ACCOUNT": ACCOUNT,
            "TRITON_KEY_ID": self._keys.triton_fingerprint,
            "TRITON_KEY_FILE": str(self._keys.triton_file),
            "ROLLCALL_DNS": f"127.0.0.1:{ports['dns']}",
            "ROLLCALL_SITE_URL": f"http://127.0.0.1:{ports['site']}/",
        }


class Keys:
    """The operator's credentials, made for this run."""

    def __init__(self, folder: Path) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        letters = string.ascii_letters + string.digits
        self.cloudflare = "".join(secrets.choice(letters) for _ in range(40))
        self.aws = (
            "AKIA" + "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(16)),
            "".join(secrets.choice(letters) for _ in range(40)),
        )
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        self.triton_public = public.decode()
        self.triton_fingerprint = fingerprint(self.triton_public)
        self.triton_file = folder / "triton_rsa"
        self.triton_file.touch(mode=0o600)
        self.triton_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        )
        self.triton_file.with_name("triton_rsa.pub").write_text(f"{self.triton_public}\n")

    def forget(self) -> None:
        for file in self._folder.glob("*"):
            file.unlink()


class Guest:
    """A Joyent machine's metadata as its guest tools see it."""

    def __init__(self, api: Any, machine: str) -> None:
        self._api, self._machine = api, machine

    def get(self, key: str) -> str | None:
        found: str | None = self._api.metadata_get(self._machine, key)
        return found

    def put(self, key: str, value: str) -> None:
        self._api.metadata_put(self._machine, key, value)

    def delete(self, key: str) -> None:
        self._api.metadata_delete(self._machine, key)

    def keys(self) -> list[str]:
        return list(self._api.metadata_list(self._machine))


def fingerprint(public: str) -> str:
    """The MD5 fingerprint of an OpenSSH public key, as CloudAPI writes it: 16 bytes in hex with colons."""
    import base64
    import hashlib

    digest = hashlib.md5(base64.b64decode(public.split()[1])).hexdigest()  # noqa: S324 - CloudAPI's own form
    return ":".join(digest[at : at + 2] for at in range(0, 32, 2))


def by_host(apps: dict[str, WSGIApp]) -> WSGIApp:
    """The app of the host that a request names, or of a parent domain of it."""

    def choose(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "").partition(":")[0].lower()
        app = next((app for name, app in apps.items() if host == name or host.endswith(f".{name}")), None)
        if app is None:
            start_response("421 Misdirected Request", [("Content-Length", "0")])
            return [b""]
        return app(environ, start_response)

    return choose


def imds(aws: Any, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Instance metadata for the machine that asks, by its address."""
    headers = {
        key[5:].replace("_", "-").lower(): str(value) for key, value in environ.items() if key.startswith("HTTP_")
    }
    path = environ.get("PATH_INFO", "/")
    status, given, body = aws.imds(environ["REMOTE_ADDR"], environ["REQUEST_METHOD"], path, headers)
    kept = [(key, value) for key, value in dict(given).items() if key.lower() != "content-length"]
    start_response(f"{status} Metadata", [*kept, ("Content-Length", str(len(body)))])
    return [body]


def files(folder: Path) -> WSGIApp:
    """The package repository, under whatever path a sources.list names."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        file = folder / Path(environ.get("PATH_INFO", "/")).name
        if not file.is_file():
            start_response("404 Not Found", [("Content-Length", "0")])
            return [b""]
        body = file.read_bytes()
        start_response("200 OK", [("Content-Length", str(len(body))), ("Content-Type", "application/octet-stream")])
        return [body]

    return serve


def serve(options: Options) -> int:
    """Run until SIGTERM or SIGINT. Raises DaemonError when another daemon has this state folder."""
    options.state.mkdir(parents=True, exist_ok=True)
    with (options.state / "daemon.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DaemonError(
                f"the local clouds of {options.state} run already (process {lock.read().strip()})"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        for left in ("daemon.json", "control.sock"):
            (options.state / left).unlink(missing_ok=True)
        stop = threading.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: stop.set())
        daemon = Daemon(options)
        began = time.monotonic()
        daemon.start()
        _log.info("ready in %.1f s", time.monotonic() - began)
        stop.wait()
        daemon.stop()
    with contextlib.suppress(OSError):
        (options.state / "daemon.lock").unlink()
    return 0
