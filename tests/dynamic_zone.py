"""Name servers of Debian that take dynamic updates (RFC 2136), on loopback, with a zone and a TSIG key that are made at run time."""

from __future__ import annotations

import base64
import contextlib
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.name
import dns.query

from rollcall.rfc2136 import Rfc2136Store, Rfc2136Zone, TsigKey
from rollcall.route53 import RecordSet
from tests.programs import program

SERVERS = ("named", "knotd")
ZONE_FILE = """$ORIGIN {zone}.
$TTL 300
@ IN SOA ns1 hostmaster 1 3600 600 86400 60
@ IN NS ns1
ns1 IN A {address}
"""
# As docs/rfc2136.md shows it: machines may change what is theirs, and the operator's key the static records as well.
NAMED = """options {{
  directory "{home}";
  pid-file "{home}/named.pid";
  session-keyfile "{home}/session.key";
  listen-on port {port} {{ {address}; }};
  listen-on-v6 {{ none; }};
  recursion no;
  notify no;
  dnssec-validation no;
}};
controls {{ }};
key "operator" {{ algorithm hmac-sha256; secret "{operator}"; }};
key "machines" {{ algorithm hmac-sha256; secret "{machines}"; }};
key "stranger" {{ algorithm hmac-sha256; secret "{stranger}"; }};
zone "{zone}" {{
  type primary;
  file "{home}/zone.db";
  max-records-per-type 1000;
  allow-transfer {{ key operator; key machines; }};
  update-policy {{
    grant operator zonesub ANY;
    grant machines subdomain rc.{zone}. A AAAA TXT;
    grant machines subdomain rc.www.{zone}. TXT;
    grant machines name www.{zone}. A AAAA;
    grant machines name _acme-challenge.www.{zone}. TXT;
    grant machines subdomain _theService._tcp.{zone}. SRV;
    grant machines name _theService._tcp.v1.{zone}. SRV;
  }};
}};
"""
KNOTD = """server:
    listen: {address}@{port}
    rundir: "{home}"
    user: root
log:
  - target: stderr
    any: info
control:
    listen: "{home}/knot.sock"
database:
    storage: "{home}"
key:
  - id: operator
    algorithm: hmac-sha256
    secret: {operator}
  - id: machines
    algorithm: hmac-sha256
    secret: {machines}
  - id: stranger
    algorithm: hmac-sha256
    secret: {stranger}
acl:
  - id: operators
    key: operator
    action: [update, transfer]
  - id: hosts
    key: machines
    action: update
    update-type: [A, AAAA, TXT]
    update-owner: name
    update-owner-match: sub-or-equal
    update-owner-name: [rc, www, _acme-challenge.www]
  - id: members
    key: machines
    action: update
    update-type: SRV
    update-owner: name
    update-owner-match: sub-or-equal
    update-owner-name: [_theService._tcp, _theService._tcp.v1]
  - id: read
    key: machines
    action: transfer
zone:
  - domain: {zone}
    storage: "{home}"
    file: zone.db
    zonefile-sync: -1
    journal-content: all
    acl: [operators, hosts, members, read]
"""
_STARTS_WITHIN_S = 20.0


@dataclass(frozen=True, kw_only=True)
class DynamicServer:
    """A name server that has `zone` as its primary, and the TSIG keys that it knows, in the form of nsupdate's `-y`."""

    zone: str
    address: str
    port: int
    operator: str
    machines: str
    stranger: str

    @property
    def where(self) -> str:
        """Return the server as machine settings name it."""
        return f"{self.address}@{self.port}"

    def client(self, key: str = "", zone: str = "") -> Rfc2136Zone:
        return Rfc2136Zone(zone or self.zone, self.where, TsigKey.parse(key or self.operator))

    def store(self, key: str = "") -> Rfc2136Store:
        return Rfc2136Store(self.client(key))

    def values(self, name: str, rtype: str) -> set[str]:
        """What it answers to anybody."""
        query = dns.message.make_query(name, rtype)
        reply = dns.query.tcp(query, self.address, port=self.port, timeout=5)
        return {item.to_text() for each in reply.answer for item in each}

    def pointers(self, name: str) -> set[str]:
        """The targets of a PTR set, which know no upper case: servers compress names as they like."""
        return {each.lower() for each in self.values(name, "PTR")}

    def ttl(self, name: str, rtype: str) -> int:
        query = dns.message.make_query(name, rtype)
        return int(dns.query.tcp(query, self.address, port=self.port, timeout=5).answer[0].ttl)

    def empty(self) -> None:
        """Leave in the zone what it was made with."""
        client = self.client()
        update = client.message()
        for each in client.sets():
            if each.type not in ("SOA", "NS") and not each.name.startswith("ns1."):
                update.delete(dns.name.from_text(each.name), each.type)
        client.send(update)


def write(server: DynamicServer, name: str, rtype: str, *values: str, ttl: int = 300) -> None:
    """Put a record set there that is not, as the operator."""
    server.store().change([], [RecordSet(name, rtype, ttl, tuple(sorted(values)))])


@contextlib.contextmanager
def running(name: str, home: Path, zone: str, address: str = "127.0.0.1", port: int = 0) -> Iterator[DynamicServer]:
    """Run one of SERVERS with a new zone and new keys."""
    found, port = program(name), port or _free_port(address)
    keys = {each: base64.b64encode(secrets.token_bytes(32)).decode() for each in ("operator", "machines", "stranger")}
    settings = {"home": home, "zone": zone, "address": address, "port": port, **keys}
    (home / "zone.db").write_text(ZONE_FILE.format(**settings))
    config = home / f"{name}.conf"
    config.write_text((NAMED if name == "named" else KNOTD).format(**settings))
    config.chmod(0o600)
    words = ["-f", "-4", "-n", "1", "-c", str(config)] if name == "named" else ["-c", str(config)]
    with (home / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [found.path, *words], env=found.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home
        )
    try:
        _wait(process, address, port, zone, home / f"{name}.log")
        known = {each: f"hmac-sha256:{each}:{secret}" for each, secret in keys.items()}
        yield DynamicServer(zone=zone, address=address, port=port, **known)
    finally:
        process.terminate()
        process.wait(20)


def _wait(process: subprocess.Popen[bytes], address: str, port: int, zone: str, log: Path) -> None:
    end = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError, EOFError, dns.exception.DNSException):
            reply = dns.query.tcp(dns.message.make_query(zone, "SOA"), address, port=port, timeout=1)
            if reply.answer:
                return
        time.sleep(0.1)
    raise AssertionError(f"no answer of {log.stem} on port {port}: {log.read_text()[-2000:]}")


def _free_port(address: str) -> int:
    with contextlib.closing(socket.socket()) as tcp:
        tcp.bind((address, 0))
        return int(tcp.getsockname()[1])
