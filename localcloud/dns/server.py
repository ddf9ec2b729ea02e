"""An authoritative name server for the zones of the local clouds, and the resolver that the machines ask.

RFC 1034 and 1035; EDNS by RFC 6891, its DO bit by RFC 3225; ANY by RFC 8482. There are two roles. `Authority` answers only for its zones
(REFUSED for others), each in its cloud's manner. `Resolver` answers the same with RA set and without additional records, knows the vendors'
API hosts, and answers NXDOMAIN for all other names.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import random
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
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from localcloud.dns.data import Manner, RecordSet, ZoneSource
from localcloud.network.faults import Faults

_log = logging.getLogger(__name__)
# The negative TTL of a zone that does not define a SOA, which are Cloudflare's zones. Their DNS settings have it as `min_ttl` below a TTL
# of 3,600, and Cloudflare's servers answer `10000 2400 604800 1800`:
# https://developers.cloudflare.com/dns/additional-options/dns-zone-defaults , measured in
# https://github.com/stefanko-ch/Nexus-Stack/pull/819
NEGATIVE_TTL = 1800
_SOA_TTL = 3600
_SOA_TIMERS = f"10000 2400 604800 {NEGATIVE_TTL}"
_PLAIN_UDP = 512
_PLAIN = Manner()
# The values of these types contain the name of a host as their last word. The addresses of the host may be in the additional section.
_WITH_TARGET = (dns.rdatatype.SRV, dns.rdatatype.MX, dns.rdatatype.NS, dns.rdatatype.CNAME)
_LONGEST_CHAIN = 8
# RFC 8482 section 4.2, with the TTL that Cloudflare gives it.
_SAYS_LITTLE = RecordSet("", "HINFO", 3789, ('"RFC8482" ""',))


class Authority:
    """A server that answers from `sources`. `name_servers` maps names of zones' servers to their address; `where` is its own address."""

    recursive = False

    def __init__(
        self,
        sources: Sequence[ZoneSource],
        name_servers: Mapping[str, str],
        faults: Faults | None = None,
        where: str = "",
    ) -> None:
        self._where = where
        self._sources = tuple(sources)
        self._servers = dict(name_servers)
        self._faults = faults
        # One counter for each name: with a common counter, the values of two names that are asked for alternately would not rotate.
        self._turns: defaultdict[str, itertools.count[int]] = defaultdict(itertools.count)

    @property
    def may_wait(self) -> bool:
        """Whether an answer may take its time, because of a fault."""
        return bool(self._faults and self._faults.active())

    def answer(self, wire: bytes, *, over_tcp: bool = False, client: str = "") -> bytes | None:
        """Return the reply to a query; None if a fault drops it, or it is not a query. `client` is the address that asks."""
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
        reply = _blank(query, self._manner(query))
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
        """A fault may be of one kind of server alone, or of one server: `dns:authority refused`, `dns:resolver drop`,
        `dns:198.51.100.4 lame`, `dns:ada.ns drop`."""
        return bool(self._faults and self._faults.take("dns", "", self._kind, lambda fault: fault.action == name))

    @property
    def _kind(self) -> str:
        kind = "resolver" if self.recursive else "authority"
        named = (name for name, address in self._servers.items() if address == self._where)
        return "/".join((kind, self._where, *named)) if self._where else kind

    def _refer_upwards(self, reply: dns.message.Message) -> None:
        """Refer to the root, as a server does that has lost the zone (https://kb.isc.org/docs/aa-00541, RFC 8499 section 7, lame)."""
        reply.authority.append(self._rrset(dns.name.root, RecordSet(".", "NS", 518400, ("a.root-servers.net.",))))

    def _filled(self, reply: dns.message.Message, query: dns.message.Message, over_tcp: bool) -> bytes:
        """Fill in the reply. It is SERVFAIL if a value cannot be sent, because a client without any answer would repeat the query."""
        try:
            self._fill(reply, query.question[0].name, query.question[0].rdtype)
            self._add(reply, query)
            return self._fitted(reply, query, over_tcp)
        except (dns.exception.DNSException, ValueError) as wrong:
            _log.warning("%s cannot be answered: %s", query.question[0].to_text(), wrong)
            failed = _blank(query, self._manner(query))
            failed.set_rcode(dns.rcode.SERVFAIL)
            return failed.to_wire()

    def _manner(self, query: dns.message.Message) -> Manner:
        zone = self._zone_of(_text(query.question[0].name)) if query.question else None
        return _manner_of(zone[1]) if zone else _PLAIN

    def _add(self, reply: dns.message.Message, query: dns.message.Message) -> None:
        """Add what the cloud's servers send besides an answer: the zone's name servers, and the addresses of targets in the zone."""
        zone = self._zone_of(_text(query.question[0].name))
        if zone is None or self.recursive or not reply.answer or reply.authority or reply.rcode() != dns.rcode.NOERROR:
            return
        manner = _manner_of(zone[1])
        there = {(each.name, each.rdtype) for each in reply.answer}
        domain = dns.name.from_text(zone[0])
        if manner.adds_servers and (domain, dns.rdatatype.NS) not in there:
            servers = next((each for each in self._at(zone, zone[0]) or () if each.type == "NS"), None)
            reply.authority += [self._rrset(domain, servers)] if servers else []
        if manner.adds_addresses:
            hosts = (str(each).split()[-1] for rrset in reply.answer if rrset.rdtype in _WITH_TARGET for each in rrset)
            for host in dict.fromkeys(hosts):
                reply.additional += [
                    each for each in self._addresses(zone, host) if (each.name, each.rdtype) not in there
                ]

    def _addresses(self, zone: tuple[str, ZoneSource], host: str) -> list[dns.rrset.RRset]:
        name = dns.name.from_text(host)
        if self._zone_of(_text(name)) != zone:
            return []
        found = self._at(zone, _text(name)) or ()
        return [self._rrset(name, each) for each in found if each.type in ("A", "AAAA")]

    def _fill(self, reply: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> None:
        if self.recursive:
            reply.flags |= dns.flags.RA
        qname, chain = _text(name), 0
        shown = name
        while chain <= _LONGEST_CHAIN:
            zone = self._zone_of(qname)
            if zone is None:
                # A resolver follows an alias that leads out of the zones.
                if chain == 0 or self.recursive:
                    self._outside(reply, qname, shown, rdtype)
                return
            cut = self._cut(zone, qname, rdtype)
            if cut is not None:
                self._refer(reply, cut, chain)
                return
            found = self._at(zone, qname)
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
            qname = alias.values[0].rstrip(".").lower()
            shown, chain = dns.name.from_text(qname), chain + 1

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
        """Refer to the servers of a delegated zone. The reply is not authoritative."""
        if chain == 0:
            reply.flags &= ~dns.flags.AA
        reply.authority.append(self._rrset(dns.name.from_text(cut.name), cut))

    def _outside(
        self, reply: dns.message.Message, qname: str, shown: dns.name.Name, rdtype: dns.rdatatype.RdataType
    ) -> None:
        reply.set_rcode(dns.rcode.REFUSED)

    def _at(self, zone: tuple[str, ZoneSource], name: str) -> tuple[RecordSet, ...] | None:
        domain, source = zone
        found = source.lookup(domain, name)
        if name != domain:
            return found
        given = {each.type: each for each in found or ()}
        servers = given.get("NS") or RecordSet(domain, "NS", 3600, tuple(self._servers))
        start = RecordSet(domain, "SOA", _SOA_TTL, (self._soa(domain, servers.values[0], _manner_of(source)),))
        apex = {"SOA": start, "NS": servers, **given}
        return tuple(apex.values())

    def _zone_of(self, name: str) -> tuple[str, ZoneSource] | None:
        """Return the most specific zone that contains `name`."""
        found = [
            (zone, source)
            for source in self._sources
            for zone in source.zones()
            if name == zone or name.endswith(f".{zone}")
        ]
        return max(found, key=lambda each: len(each[0]), default=None)

    @staticmethod
    def _soa(zone: str, server: str, manner: Manner) -> str:
        hostmaster = manner.hostmaster or f"hostmaster.{zone}"
        return f"{server.rstrip('.')}. {hostmaster}. {int(time.time())} {_SOA_TIMERS}"

    def _say_soa(self, reply: dns.message.Message, zone: tuple[str, ZoneSource]) -> None:
        """RFC 2308 section 3: a negative answer carries the SOA, with the lower of its TTL and its minimum."""
        found = next(each for each in self._at(zone, zone[0]) or () if each.type == "SOA")
        ttl = min(found.ttl, int(found.values[0].split()[-1]))
        reply.authority.append(self._rrset(dns.name.from_text(zone[0]), RecordSet(zone[0], "SOA", ttl, found.values)))

    def _rrset(self, name: dns.name.Name, records: RecordSet) -> dns.rrset.RRset:
        values = list(records.values)
        zone = self._zone_of(records.name) if len(values) > 1 else None
        if zone is not None and _manner_of(zone[1]).in_random_order:
            random.shuffle(values)
        elif records.type in ("A", "AAAA") and len(values) > 1:
            start = next(self._turns[records.name]) % len(values)
            values = values[start:] + values[:start]
        made = dns.rrset.RRset(name, dns.rdataclass.IN, dns.rdatatype.from_text(records.type))
        made.update_ttl(records.ttl)
        # One by one, dnspython computes the digest of each record twice: the longest part of many an answer.
        made.items.update(dict.fromkeys(_parsed(made.rdtype, each) for each in values))
        return made

    def _fitted(self, reply: dns.message.Message, query: dns.message.Message, over_tcp: bool) -> bytes:
        """Return a reply that fits. If the answer does not fit, it is truncated. Additional records are left out (RFC 2181 section 9)."""
        manner = self._manner(query)
        size = 65535 if over_tcp else min(max(query.payload, _PLAIN_UDP), manner.largest_udp)
        besides = len(reply.additional) if reply.answer else 0
        while True:
            try:
                # By default dnspython would shuffle the addresses, which we have rotated.
                return reply.to_wire(max_size=size, want_shuffle=False)
            except dns.exception.TooBig:
                if besides:
                    besides //= 2
                    del reply.additional[besides:]
                elif reply.answer and reply.authority:
                    reply.authority.clear()
                else:
                    break
        short = _blank(query, manner)
        short.flags |= (reply.flags & (dns.flags.AA | dns.flags.RA)) | dns.flags.TC
        short.set_rcode(reply.rcode())
        return short.to_wire(max_size=size)


class Resolver(Authority):
    """The resolver that the machines ask. `hosts` maps names (`*.` in front for all below) to addresses inside the namespace."""

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
        self._added: set[str] = set()

    def add_host(self, name: str, address: str) -> None:
        """Answer for this name with an address inside the namespace, whatever its zone has."""
        self._hosts[name] = address
        self._added.add(name)

    def _zone_of(self, name: str) -> tuple[str, ZoneSource] | None:
        return None if name in self._added else super()._zone_of(name)

    def _refer(self, reply: dns.message.Message, cut: RecordSet, chain: int) -> None:
        """Fail for a delegated zone: its servers are not in the sandbox, so they cannot be asked."""
        reply.set_rcode(dns.rcode.SERVFAIL)

    def _outside(
        self, reply: dns.message.Message, qname: str, shown: dns.name.Name, rdtype: dns.rdatatype.RdataType
    ) -> None:
        labels = qname.split(".")
        wild = (f"*.{'.'.join(labels[at:])}" for at in range(1, len(labels)))
        address = next((self._hosts[each] for each in (qname, *wild) if each in self._hosts), None)
        if address is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif rdtype == dns.rdatatype.A:
            reply.answer.append(self._rrset(shown, RecordSet(qname, "A", 60, (address,))))


@functools.lru_cache(8192)
def _parsed(rdtype: dns.rdatatype.RdataType, value: str) -> dns.rdata.Rdata:
    """Return a value in presentation format as dnspython has it. Name servers send the same values again and again.

    Names in values may lack the final dot, whatever the type; in presentation format that would make them relative.
    """
    return dns.rdata.from_text(dns.rdataclass.IN, rdtype, value, origin=dns.name.root, relativize=False)


class Listener:
    """Serve an Authority on UDP and TCP sockets that are bound already."""

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
                # A thread for each query would take longer than the answer.
                if self._authority.may_wait:
                    threading.Thread(target=self._reply, args=(made, wire, client), daemon=True).start()
                else:
                    self._reply(made, wire, client)

    def _reply(self, made: socket.socket, wire: bytes, client: tuple[str, int]) -> None:
        try:
            reply = self._authority.answer(wire, client=client[0])
        except Exception:  # noqa: BLE001 - other queries are answered all the same
            _log.exception("no answer to a query")
            return
        if reply is not None:
            with contextlib.suppress(OSError):
                made.sendto(reply, client)

    def _serve_tcp(self, made: socket.socket) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError, ConnectionError):
                connection, client = made.accept()
                threading.Thread(target=self._converse, args=(connection, client[0]), daemon=True).start()

    def _converse(self, connection: socket.socket, client: str) -> None:
        """RFC 7766: several queries on one connection, each with its length in front."""
        with connection, contextlib.suppress(OSError, EOFError):
            connection.settimeout(10)
            while True:
                (length,) = struct.unpack("!H", _exactly(connection, 2))
                reply = self._authority.answer(_exactly(connection, length), over_tcp=True, client=client)
                if reply is None:
                    return
                connection.sendall(struct.pack("!H", len(reply)) + reply)


def bound_pair(host: str, port: int = 0) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on the same port, in the calling thread's network namespace."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(50):
        tcp = socket.socket(family, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((host, port))
        tcp.listen(64)
        udp = socket.socket(family, socket.SOCK_DGRAM)
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


def _manner_of(source: ZoneSource) -> Manner:
    found: Manner = getattr(source, "manner", _PLAIN)
    return found


def _blank(query: dns.message.Message, manner: Manner) -> dns.message.Message:
    """Return an empty reply to a query. RFC 3225 section 3: the DO bit is copied."""
    reply = dns.message.make_response(query, our_payload=manner.largest_udp)
    if query.ednsflags & dns.flags.DO:
        reply.want_dnssec()
    return reply


def _refusal(query: dns.message.Message) -> dns.rcode.Rcode | None:
    """Return the response code for a query that is refused for any name, or None."""
    if query.edns > 0:
        return dns.rcode.BADVERS
    if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
        return dns.rcode.NOTIMP
    transfer = query.question[0].rdtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR)
    known = query.question[0].rdclass in (dns.rdataclass.IN, dns.rdataclass.ANY)
    return dns.rcode.REFUSED if transfer or not known else None


def _ill_formed(wire: bytes) -> bytes | None:
    """Return FORMERR for a query of which only the header can be read.

    Return nothing for a response; otherwise two servers would answer each other for ever.
    """
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
