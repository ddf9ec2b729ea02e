"""`python -m localcloud serve`: all local clouds of one instance in one process of threads.

Listening sockets are made on the host's 127.0.0.1 and inside the instance's own network namespace; nothing connects the
two. `daemon.json` below the state folder describes what runs (ports, process id, no secret). Credentials are made at run time, and are in
files of mode 0600 below `keys/`. The clouds are in memory: when the process ends, they end too, with every machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import logging
import logging.handlers
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from localcloud import engine
from localcloud.aws.catalogue import HOME
from localcloud.dns.secondary import Relay, Secondaries
from localcloud.dns.server import Authority, Listener, Resolver, bound_pair
from localcloud.dns.vpc import VpcResolvers
from localcloud.machines.compute import Hypervisor, InstantHypervisor
from localcloud.network import pebble
from localcloud.network.ca import Authority as CertificateAuthority
from localcloud.network.edge import Edge
from localcloud.network.faults import Faults
from localcloud.network.http import Server, listen
from localcloud.network.namespace import FABRIC_SIDE, HAS_IPV6, IMDS, NETWORKS, VPC_SIDE, Namespace, name_for
from localcloud.network.packets import Gate, Gatekeeper
from localcloud.network.pebble import Pebble, PebbleError
from localcloud.network.translation import Translator
from localcloud.network.visitor import Visitor
from localcloud.plugins.preloaded import Preloaded
from localcloud.runtime.fronts import Guest, by_host, imds, repositories
from localcloud.runtime.fronts import files as files
from localcloud.runtime.keys import Keys
from localcloud.runtime.published import Published, PublishError
from rollcall.ownership import PREFIX

if TYPE_CHECKING:
    from localcloud.network.http import WSGIApp
    from localcloud.triton import CloudApi

ROOT = Path(__file__).resolve().parents[2]
# The articles' site. A stack may have another host: see Daemon.site().
SITE = "www.scalability.expert"
ACCOUNT = "rollcall"
# The account's data centres, with their parts of one network, so that no two machines have the same address.
DATACENTERS = {"local-1": ("203.0.113.10", "203.0.113.129"), "local-2": ("203.0.113.130", "203.0.113.222")}
# What their operators call the networks: in the first as today's public one does, where each account has a network on its fabric
# from the start (https://registry.terraform.io/providers/joyent/triton/latest/docs/resources/triton_machine), in the second as
# Joyent did.
NETWORK_NAMES: dict[str, dict[str, Any]] = {
    "local-1": {
        "public": ("MNX-Triton-Public",),
        "private": ("MNX-Triton-Private",),
        "fabrics": {"My-Fabric-Network": FABRIC_SIDE},
    }
}
# Under one of these a machine would reach its CloudAPI (https://docs.mnx.io, and Joyent's own until 2019).
CLOUDAPI_HOSTS = ("api.mnx.io", "api.joyentcloud.com", "api.joyent.com")
# RFC 2544 keeps 198.18.0.0/15 for tests that load networks. EC2 has the lower half, Joyent the upper.
MANY = (("198.18.0.10", "198.18.255.250"), ("198.19.0.0/17", "198.19.128.0/17"))
_LOG_BYTES = 4 * 2**20
_log = logging.getLogger("localcloud")


class DaemonError(Exception):
    """The daemon cannot start; the message names the fix."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a daemon.

    With `machines` off nothing boots: a machine is running `delay` seconds after the request. It gets an address of MANY, so that there may
    be thousands, and the address is not on any interface. With `plugins` off the daemon prepares no process for the stand-ins: each one
    imports what it needs, or another program prepares the process. `timers` shortens times of the agents (rollcall.timers).
    """

    instance: str
    state: Path
    machines: bool = True
    delay: float = 0.0
    plugins: bool = True
    timers: str = ""


class Daemon:
    """All services of one instance. `start()` returns when all of them answer; `stop()` leaves nothing behind."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.faults = Faults()
        self.secondaries = Secondaries()
        self.namespace = Namespace(name_for(ROOT, options.instance))
        self._keys = Keys(options.state / "keys")
        self._closers: list[Callable[[], object]] = []
        self._servers: list[Server] = []
        self._fronts: dict[str, WSGIApp] = {}
        self._own_hosts: set[str] = set()
        self._published = Published(options.state / "published")
        self._resolver: Resolver | None = None
        self._ports: dict[str, int] = {}
        self.hypervisor: Hypervisor | None = None
        self._ca: CertificateAuthority | None = None
        self._visitor: Visitor | None = None
        self._pebble: Pebble | None = None
        self._ca_file = options.state / "keys" / "ca.pem"

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
        from localcloud.cloudflare import Cloudflare
        from localcloud.triton import CloudApi, Names

        # Remove this file last: a program that waits for the daemon to end waits until the file is removed.
        self._closers.append(lambda: (self.options.state / "daemon.json").unlink(missing_ok=True))
        ca = self._ca = CertificateAuthority(self.options.state / "keys")
        self._closers.append(self._keys.forget)
        self._ca_file.write_text(ca.pem)
        if self.options.machines:
            self.namespace.create()
            self._closers.append(self.namespace.destroy)
        self.hypervisor = self._make_hypervisor(ca.pem)
        self.cloudflare = Cloudflare(
            operator_token=self._keys.cloudflare,
            edge_addresses=tuple(each.edge for each in NETWORKS.values()),
            faults=self.faults,
        )
        ranges: dict[str, Any] = {} if self.options.machines else {"addresses": MANY[0]}
        self.aws = Aws(operator=self._keys.aws, hypervisor=self.hypervisor, faults=self.faults, **ranges)
        self.datacenters = tuple(
            CloudApi(
                account=ACCOUNT,
                hypervisor=self.hypervisor,
                faults=self.faults,
                datacenter=name,
                networks=Names(**NETWORK_NAMES.get(name, {})),
                **({"addresses": part} if self.options.machines else {"public_range": many}),
            )
            for (name, part), many in zip(DATACENTERS.items(), MANY[1], strict=True)
        )
        self.cloudapi = self.datacenters[0]
        for each in self.datacenters:
            each.add_key("operator", self._keys.triton_public)
        self._keep_gates()
        self._seed()
        self._serve_apis(ca)
        self._serve_dns()
        self._serve_visitors(ca)
        self._serve_control()
        self._write_down()

    def _make_hypervisor(self, ca_pem: str) -> Hypervisor:
        if not self.options.machines:
            return InstantHypervisor(self.options.delay)
        from localcloud.machines.hypervisor import NspawnHypervisor
        from localcloud.machines.image import current

        image = current()
        if not image.complete:
            raise DaemonError("image: the image of the machines is not built. Run `make prepare`.")
        made = NspawnHypervisor(
            namespace=self.namespace,
            image=image,
            machines=self.options.state / "machines",
            guest_metadata=lambda machine: Guest(self._home_of(machine), machine),
            ca_pem=ca_pem,
            timers=self.options.timers,
        )
        self._closers.append(made.close)
        return made

    def _home_of(self, machine: str) -> CloudApi:
        """The data centre that a machine is in."""
        return next((each for each in self.datacenters if each.has(machine)), self.cloudapi)

    def _gates(self) -> list[Gate]:
        return [*self.aws.gates(), *(gate for each in self.datacenters for gate in each.gates())]

    def _keep_gates(self) -> None:
        """Apply the clouds' firewalls to packets.

        Every EC2 machine has a security group, and may have another public address than that of its
        interface. Triton's machines are open unless their firewall is on.
        """
        if self.options.machines:
            closed = [NETWORKS["aws"].prefix, VPC_SIDE, NETWORKS["aws"].ipv6[0]]
            for keeper in (
                Gatekeeper(self.namespace, self._gates, closed),
                Translator(self.namespace, self.aws.translations),
            ):
                self._closers.append(keeper.stop)
                keeper.start()

    def _seed(self) -> None:
        """Create the zones of both articles, with foreign records that Rollcall must not change, and a default VPC with IPv6."""
        if HAS_IPV6:
            self.aws.have_ipv6()
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
        for other in self.datacenters[1:]:
            apis[f"cloudapi {other.datacenter}"] = self.faults.middleware("cloudapi", other.app, other.app.throttled)
        # What a preview asks the registries of images.
        apis["registries"] = self._published.app
        for name, app in apis.items():
            self._serve(name, app, [listen("127.0.0.1")])
        self._name_datacenters()
        if not self.options.machines:
            return
        inside = NETWORKS["aws"].gateway
        self._fronts.update({"api.cloudflare.com": apis["cloudflare"], "amazonaws.com": apis["aws"]})
        self._fronts.update(dict.fromkeys(CLOUDAPI_HOSTS, apis["cloudapi"]))
        self._serve("", by_host(self._fronts), [self.namespace.listen(inside, 443)], ca.context())
        self._serve("", functools.partial(imds, self.aws), [self.namespace.listen(IMDS, 80)])
        self._serve("", repositories(self.options.state / "packages"), [self.namespace.listen(inside, 80)])

    def _name_datacenters(self) -> None:
        """Let each data centre list the others, by the address at which a client on the host reaches it."""
        urls = {
            each.datacenter: self._url(f"cloudapi {each.datacenter}" if at else "cloudapi")
            for at, each in enumerate(self.datacenters)
        }
        for each in self.datacenters:
            for name, url in urls.items():
                if name != each.datacenter:
                    each.add_datacenter(name, url)

    def _url(self, api: str) -> str:
        return f"http://127.0.0.1:{self._ports[api]}"

    def _serve_dns(self) -> None:
        from localcloud import cloudflare
        from localcloud.aws.route53 import store as route53

        sources = [self.cloudflare, self.aws, self.secondaries]
        gateways = [network.gateway for network in NETWORKS.values()]
        # A zone's name servers answer for it with authority, at other addresses than those that resolve (RFC 1034 section 4.3).
        addresses = [
            each for pair in zip(*(one.name_servers for one in NETWORKS.values()), strict=True) for each in pair
        ]
        names = (*cloudflare.NAME_SERVERS, *route53.NAME_SERVERS)
        servers = {name: addresses[at % len(addresses)] for at, name in enumerate(names)}
        udp, tcp = bound_pair("127.0.0.1")
        self._ports["dns"] = udp.getsockname()[1]
        authority = Authority(sources, servers, self.faults)
        self.authority = authority
        self._listen_dns(authority, [udp], [tcp])
        if self.options.machines:
            wild = ("*.amazonaws.com", "*.debian.org", *(f"*.{each}" for each in CLOUDAPI_HOSTS))
            hosts = dict.fromkeys(("api.cloudflare.com", *wild), gateways[0])
            self._resolver = resolver = VpcResolvers(
                sources, servers, hosts, self.faults, self.aws.vpc_at, self.aws.in_vpc
            )
            pairs = [self.namespace.run(functools.partial(bound_pair, each, 53)) for each in gateways]
            self._listen_dns(resolver, [each[0] for each in pairs], [each[1] for each in pairs])
            for where in addresses:
                udp, tcp = self.namespace.run(functools.partial(bound_pair, where, 53))
                self._listen_dns(Authority(sources, servers, self.faults, where), [udp], [tcp])

    def follow(self, zone: str, server: str, key: str) -> str:
        """Answer for a zone as a secondary of `server` (`ADDRESS@PORT` on this machine). Return the address at which machines reach it."""
        self.secondaries.add(zone, server, key)
        address, _, port = server.partition("@")
        if not self.options.machines:
            return server
        inside = NETWORKS["joyent"].gateway
        relay = Relay(self.namespace.listen(inside, int(port)), (address, int(port)))
        relay.start()
        self._closers.append(relay.stop)
        return f"{inside}@{port}"

    def have_acme(self, validity: int = 90 * pebble.DAY_S) -> str:
        """Run an ACME server, under the name of Let's Encrypt's for machines. Return the URL of its directory for this machine.

        Its certificates are valid for `validity` seconds. Visitors trust its root.
        """
        assert self._ca is not None and self._visitor is not None
        if self._pebble is None:
            folder, dns = self.options.state / "pebble", f"127.0.0.1:{self._ports['dns']}"
            binary = pebble.program(engine.cache())
            self._pebble = made = Pebble(binary, folder, dns, self._ca.issued("localhost"), validity)
            self._closers.append(made.stop)
            self._visitor.trust(made.management("/roots/0"))
            app = self.faults.middleware("acme", made.app, pebble.throttled)
            self._serve("acme", app, [listen("127.0.0.1")], self._ca.context())
            if self._resolver is not None:
                self._fronts[pebble.HOST] = app
                self._resolver.add_host(pebble.HOST, NETWORKS["aws"].gateway)
        return f"https://localhost:{self._ports['acme']}/directory"

    def acme_status(self, path: str) -> str:
        """Return what the ACME server's management interface answers. Raises PebbleError."""
        if self._pebble is None:
            raise PebbleError("acme: there is no server. Ask for `acme` first.")
        return self._pebble.management(path)

    def have_zones(self, cloudflare: Sequence[str], route53: Sequence[str]) -> list[str]:
        """Create zones that the operator has and the local clouds lack. Return their names."""
        at_cloudflare = [each for each in cloudflare if each not in self.cloudflare.zones()]
        at_route53 = [each for each in route53 if each not in self.aws.zones()]
        for name in at_cloudflare:
            self.cloudflare.add_zone(name)
        for name in at_route53:
            self.aws.add_zone(name)
        return [*at_cloudflare, *at_route53]

    def publish(self, url: str, file: Path, kind: str = "") -> str:
        """Serve a file to machines at an https address that is not on this machine. Return its SHA-256. `kind` is its media type.

        Raises PublishError, also for a host of one of the clouds.
        """
        if self._resolver is None:
            raise PublishError("network: there is none for machines. Start the local clouds without --no-machines.")
        host = (urlsplit(url).hostname or "").lower()
        if any(host == each or host.endswith(f".{each}") for each in self._fronts if each not in self._own_hosts):
            raise PublishError(f"{url}: is a host of one of the clouds. Choose the address of another web server.")
        host, digest = self._published.add(url, file, **({"kind": kind} if kind else {}))
        self._own_hosts.add(host)
        self._fronts[host] = self._published.app
        self._resolver.add_host(host, NETWORKS["aws"].gateway)
        return digest

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
            self.cloudflare.is_revoked,
        )
        if self.options.machines:
            app = self.faults.middleware("edge", edge.app)
            for network in NETWORKS.values():
                self._serve("", app, [self.namespace.listen(network.edge, 80)])
                self._serve("", app, [self.namespace.listen(network.edge, 443)], ca.context())
        visitor = self._visitor = Visitor(self.site, self.resolve, self._connect("visitor"), ca.pem)
        self._serve("site", visitor.app, [listen("127.0.0.1")])

    def _connect(self, role: str) -> Callable[[str, int], socket.socket]:
        """Return how the edge, or the visitor, connects: inside the namespace, from its own address on the cloud's network."""

        def connect(address: str, port: int) -> socket.socket:
            network = next(
                (each for each in NETWORKS.values() if address.rpartition(".")[0] == each.gateway.rpartition(".")[0]),
                NETWORKS["aws"],
            )
            return self.namespace.connect((address, port), source=getattr(network, role), timeout=3.0)

        return connect

    def site(self) -> str:
        """Return the host at which machines have registered; SITE if there is none, or more than one."""
        found = self.cloudflare.hosts(PREFIX)
        return found.pop() if len(found) == 1 else SITE

    def resolve(self, host: str) -> list[str]:
        """Return the A records of `host` as the local name server answers now."""
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
        from localcloud.runtime.control import ControlServer

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
        """Return the environment that points any client at the local clouds."""
        key, secret = self._keys.aws
        ports = self._ports
        return {
            "AWS_ENDPOINT_URL": self._url("aws"),
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": HOME,
            # boto3 knows the region by this name only.
            "AWS_DEFAULT_REGION": HOME,
            "CLOUDFLARE_BASE_URL": f"http://127.0.0.1:{ports['cloudflare']}/client/v4",
            "CLOUDFLARE_API_TOKEN": self._keys.cloudflare,
            "TRITON_URL": self._url("cloudapi"),
            "TRITON_ACCOUNT": ACCOUNT,
            "TRITON_KEY_ID": self._keys.triton_fingerprint,
            "TRITON_KEY_FILE": str(self._keys.triton_file),
            "ROLLCALL_DNS": f"127.0.0.1:{ports['dns']}",
            "ROLLCALL_CA_FILE": str(self._ca_file),
            "ROLLCALL_REGISTRY_URL": self._url("registries"),
            "ROLLCALL_SITE_URL": f"http://127.0.0.1:{ports['site']}/",
            **({"ROLLCALL_ACME_URL": self.have_acme()} if self._pebble else {}),
        }


def _log_requests(folder: Path) -> None:
    """Log one line for each request to a separate file of limited size."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(folder / "access.log", maxBytes=_LOG_BYTES, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("localcloud.access")
    logger.addHandler(handler)
    logger.propagate = False


@contextlib.contextmanager
def _prepared(options: Options) -> Iterator[None]:
    """Run the process of which the engine's stand-ins are copies, if the options ask for it."""
    plugins = Preloaded(options.state, options.state / "logs" / "plugins.log") if options.plugins else None
    try:
        yield
    finally:
        if plugins:
            plugins.stop()


def serve(options: Options) -> int:
    """Run until SIGTERM or SIGINT. Raises DaemonError when another daemon has this state folder."""
    options.state.mkdir(parents=True, exist_ok=True)
    with (options.state / "daemon.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DaemonError(
                f"{options.state}: its local clouds already run (process {lock.read().strip()}). Run `localcloud stop` to end them."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        for left in ("daemon.json", "control.sock"):
            (options.state / left).unlink(missing_ok=True)
        stop = threading.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: stop.set())
        _log_requests(options.state / "logs")
        daemon = Daemon(options)
        began = time.monotonic()
        with _prepared(options):
            daemon.start()
            _log.info("ready in %.1f s", time.monotonic() - began)
            stop.wait()
        daemon.stop()
    with contextlib.suppress(OSError):
        (options.state / "daemon.lock").unlink()
    return 0
