"""An authoritative name server over what the local clouds hold, and the resolver that the machines ask.

RFC 1034 and 1035; EDNS by RFC 6891; ANY by RFC 8482. Two personalities: `Authority` answers for its zones only (REFUSED for others);
`Resolver` answers the same with RA set, knows the vendors' API hosts, and says NXDOMAIN to everything else.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from localcloud.dnsdata import RecordSet, ZoneSource
from localcloud.faults import Faults

_log = logging.getLogger(__name__)
NEGATIVE_TTL = 30
_PLAIN_UDP = 512
_LARGEST_UDP = 1232
_LONGEST_CHAIN = 8
# RFC 8482 section 4.2, with the TTL that Cloudflare gives it.
_SAYS_LITTLE = RecordSet("", "HINFO", 3789, ('"RFC8482" ""',))


class Authority:
    """Answers from `sources`. `name_servers` maps the names of the zones' servers to their address."""

    recursive = False

    def __init__(
        self, sources: Sequence[ZoneSource], name_servers: Mapping[str, str], faults: Faults | None = None
    ) -> None:
        self._sources = tuple(sources)
        self._servers = dict(name_servers)
        self._faults = faults
        # One for each name, or two names that are asked for in turn would never turn themselves.
        self._turns: defaultdict[str, itertools.count[int]] = defaultdict(itertools.count)

    def answer(self, wire: bytes, *, over_tcp: bool = False) -> bytes | None:
        """The reply to a query; None where a fault swallows it or it is no query."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return _ill_formed(wire)
        if query.flags & dns.flags.QR:
            return None
        fault = self._faults.take("dns", "", self._kind) if self._faults else None
        if fault is not None and fault.action in ("drop", "lose"):
            return None
        if fault is not None and fault.action == "slow":
            time.sleep(float(fault.value))
        reply = dns.message.make_response(query, our_payload=_LARGEST_UDP)
        refusal = _refusal(query)
        if fault is not None and fault.action in ("status", "throttle"):
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif self._switched("refused"):
            reply.set_rcode(dns.rcode.REFUSED)
        elif self._switched("lame"):
            self._refer_upwards(reply)
        elif refusal is not None:
            reply.set_rcode(refusal)
        else:
            return self._filled(reply, query, over_tcp)
        return self._fitted(reply, query, over_tcp)

    def _switched(self, name: str) -> bool:
        """A fault may be of one kind of server alone: `dns:authority refused`, `dns:resolver drop`."""
        return bool(self._faults and self._faults.take("dns", "", self._kind, lambda fault: fault.action == name))

    @property
    def _kind(self) -> str:
        return "resolver" if self.recursive else "authority"

    def _refer_upwards(self, reply: dns.message.Message) -> None:
        """As a server that has lost the zone: it refers to the root (https://kb.isc.org/docs/aa-00541, RFC 8499 section 7, lame)."""
        reply.authority.append(self._rrset(dns.name.root, RecordSet(".", "NS", 518400, ("a.root-servers.net.",))))

    def _filled(self, reply: dns.message.Message, query: dns.message.Message, over_tcp: bool) -> bytes:
        """SERVFAIL where a cloud holds a value that cannot be sent: a client that hears nothing would ask again and again."""
        try:
            self._fill(reply, query.question[0].name, query.question[0].rdtype)
            return self._fitted(reply, query, over_tcp)
        except (dns.exception.DNSException, ValueError) as wrong:
            _log.warning("%s cannot be answered: %s", query.question[0].to_text(), wrong)
            failed = dns.message.make_response(query, our_payload=_LARGEST_UDP)
            failed.set_rcode(dns.rcode.SERVFAIL)
            return failed.to_wire()

    def _fill(self, reply: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> None:
        if self.recursive:
            reply.flags |= dns.flags.RA
        asked, chain = _text(name), 0
        shown = name
        while chain <= _LONGEST_CHAIN:
            zone = self._zone_of(asked)
            if zone is None:
                # Where an alias leads out of the zones, a resolver goes after it.
                if chain == 0 or self.recursive:
                    self._outside(reply, asked, shown, rdtype)
                return
            cut = self._cut(zone, asked, rdtype)
            if cut is not None:
                self._refer(reply, cut, chain)
                return
            found = self._at(zone, asked)
            if not self.recursive:
                reply.flags |= dns.flags.AA
            if found is None:
                reply.set_rcode(dns.rcode.NXDOMAIN)
                self._say_soa(reply, zone)
                return
            if rdtype == dns.rdatatype.ANY and found:
                found = (_SAYS_LITTLE,)
                rdtype = dns.rdatatype.HINFO
            here = [each for each in found if each.type == dns.rdatatype.to_text(rdtype)]
            alias = next((each for each in found if each.type == "CNAME"), None)
            if here or alias is None or rdtype == dns.rdatatype.CNAME:
                for each in here:
                    reply.answer.append(self._rrset(shown, each))
                if not here:
                    self._say_soa(reply, zone)
                return
            reply.answer.append(self._rrset(shown, alias))
            asked = alias.values[0].rstrip(".").lower()
            shown, chain = dns.name.from_text(asked), chain + 1

    def _cut(self, zone: tuple[str, ZoneSource], name: str, rdtype: dns.rdatatype.RdataType) -> RecordSet | None:
        """The NS set at or above `name` by which the zone delegates it to others (RFC 1034 section 4.3.2); the DS beside it is the
        zone's own (RFC 4035 section 3.1.4.1)."""
        domain, source = zone
        labels = name.removesuffix(domain).rstrip(".").split(".") if name != domain else []
        for at in range(len(labels) - 1, -1, -1):
            owner = ".".join((*labels[at:], domain))
            servers = next((each for each in source.lookup(domain, owner) or () if each.type == "NS"), None)
            if servers is not None:
                return None if owner == name and rdtype == dns.rdatatype.DS else servers
        return None

    def _refer(self, reply: dns.message.Message, cut: RecordSet, chain: int) -> None:
        """A referral is no answer of the zone's own."""
        if chain == 0:
            reply.flags &= ~dns.flags.AA
        reply.authority.append(self._rrset(dns.name.from_text(cut.name), cut))

    def _outside(
        self, reply: dns.message.Message, asked: str, shown: dns.name.Name, rdtype: dns.rdatatype.RdataType
    ) -> None:
        reply.set_rcode(dns.rcode.REFUSED)

    def _at(self, zone: tuple[str, ZoneSource], name: str) -> tuple[RecordSet, ...] | None:
        domain, source = zone
        found = source.lookup(domain, name)
        if name != domain:
            return found
        given = {each.type: each for each in found or ()}
        servers = given.get("NS") or RecordSet(domain, "NS", 3600, tuple(self._servers))
        start = RecordSet(domain, "SOA", 900, (self._soa(domain, servers.values[0]),))
        apex = {"SOA": start, "NS": servers, **given}
        return tuple(apex.values())

    def _zone_of(self, name: str) -> tuple[str, ZoneSource] | None:
        """The most specific zone that holds `name`."""
        found = [
            (zone, source)
            for source in self._sources
            for zone in source.zones()
            if name == zone or name.endswith(f".{zone}")
        ]
        return max(found, key=lambda each: len(each[0]), default=None)

    @staticmethod
    def _soa(zone: str, server: str) -> str:
        return f"{server.rstrip('.')}. hostmaster.{zone}. {int(time.time())} 3600 600 604800 {NEGATIVE_TTL}"

    def _say_soa(self, reply: dns.message.Message, zone: tuple[str, ZoneSource]) -> None:
        """RFC 2308 section 3: a negative answer carries the SOA, with the lower of its TTL and its minimum."""
        found = next(each for each in self._at(zone, zone[0]) or () if each.type == "SOA")
        ttl = min(found.ttl, int(found.values[0].split()[-1]))
        reply.authority.append(self._rrset(dns.name.from_text(zone[0]), RecordSet(zone[0], "SOA", ttl, found.values)))

    def _rrset(self, name: dns.name.Name, records: RecordSet) -> dns.rrset.RRset:
        values = list(records.values)
        if records.type in ("A", "AAAA") and len(values) > 1:
            start = next(self._turns[records.name]) % len(values)
            values = values[start:] + values[:start]
        # Names in values may lack the final dot, whatever the type; in presentation format that would make them relative.
        return dns.rrset.from_text_list(
            name, records.ttl, dns.rdataclass.IN, records.type, values, origin=dns.name.root, relativize=False
        )

    @staticmethod
    def _fitted(reply: dns.message.Message, query: dns.message.Message, over_tcp: bool) -> bytes:
        size = 65535 if over_tcp else min(max(query.payload, _PLAIN_UDP), _LARGEST_UDP)
        try:
            # Unless told, dnspython shuffles the addresses that we have put in turn.
            return reply.to_wire(max_size=size, want_shuffle=False)
        except dns.exception.TooBig:
            short = dns.message.make_response(query, our_payload=_LARGEST_UDP)
            short.flags |= (reply.flags & (dns.flags.AA | dns.flags.RA)) | dns.flags.TC
            short.set_rcode(reply.rcode())
            return short.to_wire(max_size=size)


class Resolver(Authority):
    """What the machines ask. `hosts` maps names (`*.` in front for all below) to addresses inside the namespace."""

    recursive = True

    def __init__(
        self,
        sources: Sequence[ZoneSource],
        name_servers: Mapping[str, str],
        hosts: Mapping[str, str],
        faults: Faults | None = None,
    ) -> None:
        super().__init__(sources, name_servers, faults)
        self._hosts = {**hosts, **name_servers}

    def _refer(self, reply: dns.message.Message, cut: RecordSet, chain: int) -> None:
        """The servers that a zone in here delegates to are none of ours, and cannot be asked."""
        reply.set_rcode(dns.rcode.SERVFAIL)

    def _outside(
        self, reply: dns.message.Message, asked: str, shown: dns.name.Name, rdtype: dns.rdatatype.RdataType
    ) -> None:
        labels = asked.split(".")
        wild = (f"*.{'.'.join(labels[at:])}" for at in range(1, len(labels)))
        address = next((self._hosts[each] for each in (asked, *wild) if each in self._hosts), None)
        if address is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif rdtype == dns.rdatatype.A:
            reply.answer.append(self._rrset(shown, RecordSet(asked, "A", 60, (address,))))


class Listener:
    """Serves an Authority on UDP and TCP sockets that were bound before."""

    def __init__(self, authority: Authority, udp: Sequence[socket.socket], tcp: Sequence[socket.socket]) -> None:
        self._authority = authority
        self._udp, self._tcp = tuple(udp), tuple(tcp)
        self._threads: list[threading.Thread] = []
        self._ended = threading.Event()

    def start(self) -> None:
        for made, serve in [
            *((each, self._serve_udp) for each in self._udp),
            *((each, self._serve_tcp) for each in self._tcp),
        ]:
            made.settimeout(0.5)
            thread = threading.Thread(target=serve, args=(made,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(timeout=3)
        for made in (*self._udp, *self._tcp):
            made.close()

    def _serve_udp(self, made: socket.socket) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError, ConnectionError):
                wire, client = made.recvfrom(4096)
                threading.Thread(target=self._reply, args=(made, wire, client), daemon=True).start()

    def _reply(self, made: socket.socket, wire: bytes, client: tuple[str, int]) -> None:
        reply = self._authority.answer(wire)
        if reply is not None:
            with contextlib.suppress(OSError):
                made.sendto(reply, client)

    def _serve_tcp(self, made: socket.socket) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError, ConnectionError):
                connection, _ = made.accept()
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        """RFC 7766: several queries on one connection, each with its length in front."""
        with connection, contextlib.suppress(OSError, EOFError):
            connection.settimeout(10)
            while True:
                (length,) = struct.unpack("!H", _exactly(connection, 2))
                reply = self._authority.answer(_exactly(connection, length), over_tcp=True)
                if reply is None:
                    return
                connection.sendall(struct.pack("!H", len(reply)) + reply)


def bound_pair(host: str, port: int = 0) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on the same port, in the calling thread's network namespace."""
    for _ in range(50):
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((host, port))
        tcp.listen(64)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind((host, tcp.getsockname()[1]))
        except OSError:
            tcp.close()
            udp.close()
            if port:
                raise
            continue
        return udp, tcp
    raise OSError(f"no port is free on {host} for UDP and TCP alike")


def _refusal(query: dns.message.Message) -> dns.rcode.Rcode | None:
    """What a query is refused with whatever it asks for, or None."""
    if query.edns > 0:
        return dns.rcode.BADVERS
    if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
        return dns.rcode.NOTIMP
    transfer = query.question[0].rdtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR)
    known = query.question[0].rdclass in (dns.rdataclass.IN, dns.rdataclass.ANY)
    return dns.rcode.REFUSED if transfer or not known else None


def _ill_formed(wire: bytes) -> bytes | None:
    """FORMERR to a query whose header can be read and whose rest cannot; nothing to a response, or two servers would
    answer each other for ever."""
    if len(wire) < 12 or wire[2] & 0x80:
        return None
    return wire[:2] + bytes((0x80 | wire[2] & 0x79, dns.rcode.FORMERR)) + bytes(8)


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        if not more:
            raise EOFError
        found += more
    return found


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()
