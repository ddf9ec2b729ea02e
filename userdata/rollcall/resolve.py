"""The DNS-SD client: find a service's live machines by plain DNS, choose one as RFC 2782 has it, connect to it.

    from rollcall import discover

    with discover("theService", "unilans.net", incarnation="v1").connect() as connection: ...

Any resolver will do. RFC 6763 sections 4 to 6 and 9 (PTR, TXT, enumeration), RFC 2782 (SRV), RFC 2308 (negative answers).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from rollcall.errors import FatalError, RollcallError, TransientError

ENUMERATION = "_services._dns-sd._udp"
_LARGEST = 10_000
_PAYLOAD = 1232


@dataclass(frozen=True, order=True)
class Target:
    """One SRV value: a machine's host name and port; lower priorities are tried first, larger weights more often."""

    priority: int
    weight: int
    port: int
    host: str


@dataclass(frozen=True)
class Incarnation:
    """One incarnation of a service (a service instance of RFC 6763) with its live machines, as DNS had them."""

    name: str
    targets: tuple[Target, ...]
    client: Client = field(repr=False, compare=False)
    sets: tuple[str, ...] = ()

    def order(self, dice: random.Random | None = None) -> Iterator[Target]:
        """The targets in the order in which to try them, chosen one by one: RFC 2782's weights within each priority."""
        return ordered(self.targets, dice or self.client.dice)

    @property
    def txt(self) -> dict[str, str | None]:
        """What its TXT says (RFC 6763 section 6.4: the first of a key counts, keys in lower case, None for one without `=`)."""
        return pairs(self.client.ask(self.sets[0], "TXT"))

    def connect(self, timeout: float = 5.0) -> socket.socket:
        """A TCP connection to the first target that accepts. Raises TransientError naming each that does not."""
        failed = []
        for target in self.order():
            for address in self.client.addresses(target.host) or ("",):
                try:
                    if address:
                        return socket.create_connection((address, target.port), timeout=timeout)
                    failed.append(f"{target.host} has no address")
                except OSError as refused:
                    failed.append(f"{target.host}:{target.port} at {address}: {refused.strerror or refused}")
        raise TransientError(f"reason=nobody-accepts service={self.name} tried={'; '.join(failed)!r}")


class Client:
    """Asks resolvers and keeps their answers for their TTL. `resolvers` are `HOST` or `HOST:PORT`, the system's unless told;
    the next one is asked when one does not answer within `timeout` seconds. Threads may share it."""

    def __init__(
        self,
        resolvers: Sequence[str] = (),
        *,
        timeout: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
        dice: random.Random | None = None,
    ) -> None:
        self.dice = dice or random.SystemRandom()
        self._resolvers = [_split(each) for each in resolvers] or _system()
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], tuple[float, tuple[Any, ...]]] = {}
        self._found: dict[str, tuple[float, Incarnation]] = {}

    def services(self, domain: str) -> tuple[str, ...]:
        """The services that the domain enumerates, as `_theService._tcp`."""
        found = self.ask(f"{ENUMERATION}.{domain}", "PTR")
        return tuple(sorted(str(each.target).rstrip(".").removesuffix(f".{domain}") for each in found))

    def browse(self, service: str, domain: str, protocol: str = "tcp") -> tuple[str, ...]:
        """The incarnations of a service (`v1`, `v2`); of one with shards each (`v1-1`, `v1-2`)."""
        found = self.ask(f"_{service}._{protocol}.{domain}", "PTR")
        return tuple(sorted(str(each.target).partition("._")[0] for each in found))

    def discover(self, service: str, domain: str, incarnation: str = "", protocol: str = "tcp") -> Incarnation:
        """The incarnation with its live machines; where it has shards, all of them. Without a name the only one that there is.

        Raises FatalError where there is no such service or incarnation, naming those that there are, and TransientError where
        no machine is alive or no resolver answers.
        """
        base = f"_{service}._{protocol}.{domain}"
        key = f"{incarnation}.{base}"
        kept = self._found.get(key)
        if kept is not None and kept[0] > self._clock():
            return kept[1]
        sets: tuple[str, ...] = (key,) if incarnation else ()
        found = self.ask(key, "SRV") if incarnation else ()
        if not found:
            sets = tuple(f"{each}.{base}" for each in self._chosen(service, domain, incarnation, protocol))
            found = tuple(each for name in sets for each in self.ask(name, "SRV"))
        targets = tuple(
            Target(each.priority, each.weight, each.port, str(each.target).rstrip(".").lower()) for each in found
        )
        # RFC 2782: the target "." says that the service is decidedly not available.
        if not any(each.host for each in targets):
            raise TransientError(f"reason=nobody-alive service={sets[0]}")
        made = Incarnation(key.lstrip("."), tuple(each for each in targets if each.host), self, sets)
        self._found[key] = (min(self._kept.get((name, "SRV"), (0.0,))[0] for name in sets), made)
        return made

    def addresses(self, host: str) -> tuple[str, ...]:
        """IPv4 first."""
        return tuple(str(each.address) for rtype in ("A", "AAAA") for each in self.ask(host, rtype))

    def ask(self, name: str, rtype: str) -> tuple[Any, ...]:
        """The records of this type, from the cache or a resolver; empty where there are none. Raises TransientError."""
        now = self._clock()
        with self._lock:
            kept = self._kept.get((name, rtype))
            if kept is not None and kept[0] > now:
                return kept[1]
        reply = self._reply(name, rtype)
        wanted = dns.rdatatype.from_text(rtype)
        sets = [each for each in reply.answer if each.rdtype == wanted]
        found = tuple(record for each in sets for record in each)
        ttl = min((each.ttl for each in reply.answer), default=_negative(reply)) if found else _negative(reply)
        with self._lock:
            if len(self._kept) >= _LARGEST:
                self._kept = {key: value for key, value in self._kept.items() if value[0] > now}
            self._kept[name, rtype] = (now + ttl, found)
            for each in reply.additional:
                if each.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
                    there = str(each.name).rstrip(".").lower(), dns.rdatatype.to_text(each.rdtype)
                    self._kept[there] = (now + each.ttl, tuple(each))
        return found

    def _chosen(self, service: str, domain: str, incarnation: str, protocol: str) -> list[str]:
        """The names of the sets: the incarnation's own, or its shards."""
        names = self.browse(service, domain, protocol)
        what = f"service=_{service}._{protocol}.{domain}"
        if not names:
            raise FatalError(f"reason=no-such-service {what} known={','.join(self.services(domain)) or 'none'}")
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(name, []).append(name)
            shard = re.fullmatch(r"(.+)-\d+", name)
            if shard and shard[1] not in names:
                groups.setdefault(shard[1], []).append(name)
                groups.pop(name)
        wanted = incarnation or (next(iter(groups)) if len(groups) == 1 else "")
        if wanted in names:
            return [wanted]
        if wanted not in groups:
            raise FatalError(
                f"reason=no-such-incarnation {what} asked={incarnation or 'any'} known={','.join(sorted(groups))}"
            )
        return groups[wanted]

    def _reply(self, name: str, rtype: str) -> Any:
        try:
            query = dns.message.make_query(name, rtype, use_edns=0, payload=_PAYLOAD)
        except dns.exception.DNSException as wrong:
            raise FatalError(f"reason=no-dns-name name={name!r}") from wrong
        said = "none configured"
        for host, port in self._resolvers:
            try:
                reply, _ = dns.query.udp_with_fallback(query, host, port=port, timeout=self._timeout)
            except (dns.exception.DNSException, OSError, ValueError) as failed:
                said = f"{host}: {type(failed).__name__}"
                continue
            if reply.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return reply
            said = f"{host}: {dns.rcode.to_text(reply.rcode())}"
        raise TransientError(f"reason=no-resolver-answers name={name} type={rtype} said={said!r}")


def ordered(targets: Sequence[Target], dice: random.Random) -> Iterator[Target]:
    """RFC 2782, "Usage rules": priorities ascending; within one, those of weight 0 first, then a running sum of weights and
    a number from 0 to the sum, inclusive, until none is left."""
    for priority in sorted({each.priority for each in targets}):
        left = [each for each in targets if each.priority == priority]
        dice.shuffle(left)
        left.sort(key=lambda each: each.weight > 0)
        while left:
            number = dice.randint(0, sum(each.weight for each in left))
            for at, each in enumerate(left):
                number -= each.weight
                if number <= 0:
                    yield left.pop(at)
                    break


def pairs(records: Sequence[Any]) -> dict[str, str | None]:
    """The keys and values of TXT records. A string that starts with `=` is ignored, as RFC 6763 section 6.4 has it."""
    found: dict[str, str | None] = {}
    for text in (text for record in records for text in record.strings):
        key, equals, value = text.decode(errors="replace").partition("=")
        if key:
            found.setdefault(key.lower(), value if equals else None)
    return found


_shared: dict[tuple[str, ...], Client] = {}


def discover(
    service: str, domain: str, *, incarnation: str = "", protocol: str = "tcp", resolvers: Sequence[str] = ()
) -> Incarnation:
    """`Client.discover` with one client, and so one cache, for all calls with the same resolvers."""
    key = tuple(resolvers)
    client = _shared.get(key) or _shared.setdefault(key, Client(resolvers))
    return client.discover(service, domain, incarnation, protocol)


def main(arguments: Sequence[str]) -> int:
    """`rollcall resolve`: 0 found, 1 not found (why, in one line on stderr), 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="rollcall resolve", description="A service's live machines, in the order to try."
    )
    parser.add_argument("service", help="as theService.unilans.net; with --browse a domain alone lists its services")
    parser.add_argument("--incarnation", default="", help="as v1; needed where there are several")
    parser.add_argument("--protocol", default="tcp")
    parser.add_argument("--resolver", action="append", default=[], help="HOST or HOST:PORT; the system's unless told")
    parser.add_argument("--browse", action="store_true", help="the incarnations, or a domain's services")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    try:
        shown, lines = _resolved(chosen, Client(chosen.resolver))
    except RollcallError as fault:
        print(f"rollcall resolve: {fault}", file=sys.stderr)
        return 1
    print(json.dumps(shown) if chosen.json else "\n".join(lines))
    return 0


def _resolved(chosen: argparse.Namespace, client: Client) -> tuple[Any, list[str]]:
    service, _, domain = chosen.service.rstrip(".").partition(".")
    protocol, service = chosen.protocol, service.removeprefix("_")
    if domain.startswith(("_tcp.", "_udp.")):
        protocol, domain = domain[1:4], domain[5:]
    if chosen.browse:
        names = list(client.services(chosen.service) or client.browse(service, domain, protocol))
        return names, names
    found = client.discover(service, domain, chosen.incarnation, protocol)
    rows = [{**asdict(target), "addresses": client.addresses(target.host)} for target in found.order()]
    lines = [
        f"{row['host']}:{row['port']} {','.join(row['addresses'])} priority={row['priority']} weight={row['weight']}"
        for row in rows
    ]
    return {"incarnation": found.name, "txt": found.txt, "targets": rows}, lines


def _negative(reply: Any) -> float:
    """RFC 2308 section 5: the lesser of the SOA's TTL and its minimum; nothing without an SOA."""
    found = [min(each.ttl, each[0].minimum) for each in reply.authority if each.rdtype == dns.rdatatype.SOA]
    return float(min(found, default=0))


def _split(resolver: str) -> tuple[str, int]:
    """`HOST`, `HOST:PORT`, `[IPv6]:PORT` or an IPv6 address."""
    host, colon, port = resolver.rpartition(":")
    if not colon or not port.isdecimal() or (":" in host and not host.endswith("]")):
        return resolver.strip("[]"), 53
    return host.strip("[]"), int(port)


def _system() -> list[tuple[str, int]]:
    try:
        found = dns.resolver.get_default_resolver()
    except dns.exception.DNSException as none:
        raise FatalError("reason=no-resolver look=/etc/resolv.conf") from none
    return [(str(each), found.port) for each in found.nameservers]
