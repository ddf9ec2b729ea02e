"""Pebble, a real ACME server, with a local Cloudflare whose zone it validates by a local name server. All are on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rdatatype

from localcloud.cloudflare import Cloudflare
from localcloud.dns.server import Authority, Listener, bound_pair
from localcloud.engine import cache
from localcloud.network.ca import Authority as CertificateAuthority
from localcloud.network.faults import Faults
from localcloud.network.http import Server, listen
from localcloud.network.pebble import DAY_S, Pebble, program, throttled
from rollcall.acme_client import CloudflareTexts, challenge_host
from rollcall.cloudflare import CloudflareStore
from tests.cloud.cloudflare_server import EDGES, OPERATOR, ZONE

HOST = f"www.{ZONE}"


class Acme:
    """An ACME server and the zone of HOST. `url` is its directory, `trust` the file with the CA of its TLS.

    `dns` (`HOST:PORT`) is another name server by which it validates.
    """

    def __init__(self, folder: Path, ended: contextlib.ExitStack, validity: int = 90 * DAY_S, dns: str = "") -> None:
        self.faults = Faults()
        self.cloud = Cloudflare(operator_token=OPERATOR, edge_addresses=EDGES)
        self.zone = self.cloud.add_zone(ZONE)
        self.cloudflare_url = f"http://127.0.0.1:{self._serve(ended, self.cloud.app)}/client/v4"
        udp, tcp = bound_pair("127.0.0.1")
        dns_listener = Listener(Authority([self.cloud], {}, self.faults), [udp], [tcp])
        dns_listener.start()
        ended.callback(dns_listener.stop)
        self.dns_port = udp.getsockname()[1]
        ca = CertificateAuthority(folder / "ca")
        self.trust = str(folder / "ca.pem")
        Path(self.trust).write_text(ca.pem)
        validating = dns or f"127.0.0.1:{self.dns_port}"
        self.pebble = Pebble(program(cache()), folder / "pebble", validating, ca.issued("localhost"), validity)
        ended.callback(self.pebble.stop)
        app = self.faults.middleware("acme", self.pebble.app, throttled)
        self.url = f"https://localhost:{self._serve(ended, app, ca)}/directory"

    def _serve(self, ended: contextlib.ExitStack, app: object, ca: CertificateAuthority | None = None) -> int:
        made = listen("127.0.0.1")
        server = Server(app, [made], ca.context() if ca else None)  # type: ignore[arg-type]
        server.start()
        ended.callback(made.close)
        ended.callback(server.stop)
        return server.ports[0]

    def texts(self, host: str = HOST) -> CloudflareTexts:
        return CloudflareTexts(CloudflareStore(OPERATOR, self.cloudflare_url), self.zone, host)

    def answered(self, text: str, host: str = HOST) -> bool:
        query = dns.message.make_query(challenge_host(host), "TXT")
        reply = dns.query.udp(query, "127.0.0.1", port=self.dns_port, timeout=5)
        return text in [each.to_text().strip('"') for rrset in reply.answer for each in rrset]

    def status(self, serial: int) -> str:
        """What the CA says of a certificate: `Valid` or `Revoked`."""
        return self.pebble.management(f"/cert-status-by-serial/{serial:x}")


@contextlib.contextmanager
def acme_server(folder: Path, validity: int = 90 * DAY_S, dns: str = "") -> Iterator[Acme]:
    with contextlib.ExitStack() as ended:
        yield Acme(folder, ended, validity, dns)
