"""The DNS-SD client: find a service's live machines by plain DNS, choose one as RFC 2782 has it, connect to it.

    from rollcall import discover

    with discover("theService", "unilans.net", incarnation="v1").connect() as connection: ...

Any resolver will do. RFC 6763 sections 4 to 6 and 9 (PTR, TXT, enumeration), RFC 2782 (SRV), RFC 2308 (negative answers), 8767 (stale).
Whatever goes wrong is a FatalError or a TransientError of `rollcall.errors`, with one line that says what.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import errno
import itertools
import json
import logging
import math
import os
import random
import re
import secrets
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import dns.exception
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.resolver

from rollcall.errors import FatalError, RollcallError, TransientError

ENUMERATION = "_services._dns-sd._udp"
_LARGEST = 10_000
# What fits a datagram everywhere (RFC 6891 section 6.2.5); larger answers come over TCP.
_PAYLOAD = 1232
_OPTIONS = struct.pack("!BHHIH", 0, dns.rdatatype.OPT, _PAYLOAD, 0, 0)
_HEADER = 12
_RECORD = struct.Struct("!HHIH")
# A day. RFC 2308 section 5 lets what is not there hold for hours; a machine that was away for a moment must be found sooner.
_LONGEST, _LONGEST_NEGATIVE = 86_400.0, 5.0
# For so long after its TTL an answer is served where all resolvers fail, and so often they are asked again (RFC 8767 section 5).
_STALE_S, _RECHECK_S = 3_600.0, 5.0
_RESOLV_CONF = "/etc/resolv.conf"
# How a server says that it does not know EDNS (RFC 6891 section 7, and servers older than that), and for how long we believe it.
_NO_EDNS = (dns.rcode.FORMERR, dns.rcode.NOTIMP)
_WITHOUT_EDNS_S = 300.0
# A target that did not accept comes last for so long; then one call tries it again. That and every other try is brief, until it has
# been suspected for so long, and what a call spends on all such targets together is limited.
_AVOIDED_S, _BRIEFLY_S, _SUSPECTED_S = 10.0, 0.45, 300.0
_TOGETHER_S = 0.9
# How often a call that waits for a target looks whether another one has found meanwhile that it does not accept.
_GLANCE_S = 0.2
# What a target has no part in: we have no more sockets, memory or ports.
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}

_ADDRESSES: dict[int, str] = {dns.rdatatype.A: "A", dns.rdatatype.AAAA: "AAAA"}
_USED = {*_ADDRESSES, *map(dns.rdatatype.from_text, ("CNAME", "PTR", "SOA", "SRV", "TXT"))}
_PLAIN_LABEL = re.compile("[0-9A-Za-z_-]{1,63}")

_log = logging.getLogger(__name__)
Server = tuple[str, int]
Exchange = Callable[[Server, bytes, float, bool], bytes]


@dataclass(frozen=True, order=True)
class Target:
    """One SRV value: a machine's host name and port; lower priorities are tried first, larger weights more often."""

    priority: int
    weight: int
    port: int
    host: str


@dataclass(frozen=True)
class Incarnation:
    """One incarnation of a service (a service instance of RFC 6763) with its live machines, as DNS had them.

    `sets` are the names of the record sets that it was read from: its own, or one for each shard. It is `stale` where the TTL is over
    and no resolver answers (RFC 8767).
    """

    name: str
    targets: tuple[Target, ...]
    client: Client = field(repr=False, compare=False)
    sets: tuple[str, ...] = ()
    stale: bool = field(default=False, compare=False)

    def order(self, dice: random.Random | None = None) -> Iterator[Target]:
        """The targets in the order in which to try them, chosen one by one: RFC 2782's weights within each priority, and those that
        did not accept a connection of any client of this process a moment ago last of all."""
        found = ordered(self.targets, dice or self.client.dice)
        return self._failed_last(found) if _failures.known or self.client.unresolved.known else found

    def _failed_last(self, found: Iterator[Target]) -> Iterator[Target]:
        """Looks at each as its turn comes. Of those that have failed, those first that were not tried for longest."""
        last = []
        for target in found:
            if self._has_failed(target):
                last.append(target)
            else:
                yield target
        yield from sorted(last, key=lambda each: max(_failures.again(each), self.client.unresolved.again(each)))

    def _has_failed(self, target: Target) -> bool:
        return _failures.is_recent(target) or self.client.unresolved.is_recent(target)

    @property
    def txt(self) -> dict[str, str | None]:
        """What its TXT says (RFC 6763 section 6.4: the first of a key counts, keys in lower case, None for one without `=`)."""
        return pairs(self.client.ask(self.sets[0], "TXT"))

    def connect(self, timeout: float = 5.0) -> socket.socket:
        """A TCP connection to the first target that accepts. Raises TransientError naming each that does not.

        A target that did not accept is remembered for all clients of the process. It comes last for a while, and is given less than
        `timeout` seconds: no call waits for it as long as the first one did.
        """
        failed: list[str] = []
        spare = _TOGETHER_S
        for target in self._failed_last(ordered(self.targets, self.client.dice)):
            began = time.monotonic()
            ends = _failures.claimed(target, began, spare) if _failures.known else None
            if ends == began:
                failed.append(f"{target.host}:{target.port} did not accept a moment ago")
                continue
            connection = self._connected(target, timeout, ends, failed)
            if connection is not None:
                return connection
            if ends is not None:
                spare -= time.monotonic() - began
        raise TransientError(f"reason=no-machine-accepts service={self.name} tried={'; '.join(failed)!r}")

    def _connected(self, target: Target, timeout: float, ends: float | None, failed: list[str]) -> socket.socket | None:
        """A connection to one of the target's addresses; else None, and why in `failed`. `ends` is when to stop where that is known
        not to accept."""
        failures: _Failures | None = self.client.unresolved
        # One kind of address after the other: where IPv4 answers, IPv6 is not even asked for.
        for rtype in ("A", "AAAA"):
            try:
                found = self.client.ask(target.host, rtype)
            except RollcallError as unknown:
                failed.append(str(unknown))
                continue
            for each in found:
                wait = timeout if ends is None else min(timeout, ends - time.monotonic())
                try:
                    made = _opened(
                        (each.address, target.port), wait, self._is_pointless(target) if ends is None else None
                    )
                except OSError as refused:
                    why = refused.strerror or refused
                    failed.append(f"{target.host}:{target.port} at {each.address}: {why}")
                    failures = None if refused.errno in _OURS else _failures
                    continue
                _failures.remove(target)
                self.client.unresolved.remove(target)
                made.settimeout(timeout)
                return made
            if not found:
                failed.append(f"{target.host} has no {rtype}")
        if failures is not None:
            failures.add(target, was_brief=ends is not None)
        return None

    def _is_pointless(self, target: Target) -> Callable[[], bool]:
        """Tells whether another call has found that the target does not accept, while there is one that may."""
        return lambda: _failures.is_recent(target) and not all(map(self._has_failed, self.targets))


class _Failures:
    """Targets that did not accept a connection, by host and port: until when they come last, and until when a try is brief."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, int], tuple[float, float]] = {}

    def is_recent(self, target: Target) -> bool:
        found = self.known.get((target.host, target.port))
        return found is not None and found[0] > time.monotonic()

    def again(self, target: Target) -> float:
        return self.known.get((target.host, target.port), (0.0,))[0]

    def claimed(self, target: Target, now: float, spare: float) -> float | None:
        """Until when to try a target that is known not to accept, with `spare` seconds for all such; None for another. Other calls leave
        it for last meanwhile."""
        key = (target.host, target.port)
        found = self.known.get(key)
        if found is None:
            return None
        if found[1] > now and spare <= 0:
            return now
        self.known[key] = (now + _AVOIDED_S, found[1])
        return now + min(_BRIEFLY_S, spare) if found[1] > now else math.inf

    def add(self, target: Target, *, was_brief: bool) -> None:
        key, now = (target.host, target.port), time.monotonic()
        found = self.known.get(key)
        # What did not accept within a moment may be slow: from time to time it is tried for as long as the caller says.
        suspected = found[1] if was_brief and found is not None and found[1] > now else now + _SUSPECTED_S
        if len(self.known) >= _LARGEST:
            self.known = {}
        self.known[key] = (now + _AVOIDED_S, suspected)

    def remove(self, target: Target) -> None:
        self.known.pop((target.host, target.port), None)


_failures = _Failures()


class _Held(NamedTuple):
    """What the cache has: until when it is taken without asking, what it is, when its TTL was over, and whether it is served since."""

    until: float
    value: Any
    expired: float
    is_stale: bool = False


class Client:
    """Asks resolvers and keeps their answers for their TTL. `resolvers` are `HOST` or `HOST:PORT`, the system's unless told.

    One that does not answer within a third of `timeout` seconds, or fails, is passed over for the next; then each is asked
    once more, for all of `timeout`, and without EDNS where it was silent. Who answered last is asked first. The system's
    resolvers are read again when resolv.conf has changed, or when none answers. Threads and forked processes may share a client.

    Where all resolvers fail, an answer whose TTL is over is served for `stale` seconds more (RFC 8767; 0: never), and a warning of the
    logger `rollcall.resolve` says so. What is not there is never served so.
    """

    def __init__(
        self,
        resolvers: str | Sequence[str] = (),
        *,
        timeout: float = 3.0,
        stale: float = _STALE_S,
        clock: Callable[[], float] = time.monotonic,
        dice: random.Random | None = None,
        exchange: Exchange | None = None,
    ) -> None:
        self.dice = dice or random.SystemRandom()
        named = [_split(each) for each in _several(resolvers)]
        self._is_system = not named
        self._version = None if named else _version()
        self._resolvers = named or _system()
        self._without_edns: dict[Server, float] = {}
        self._timeout = timeout
        self._stale = stale
        # What no address is known of depends on the resolvers; what does not accept a connection is the same for all clients.
        self.unresolved = _Failures()
        # Until when no resolver is asked for what can be served stale: none of them said anything. 0: one did.
        self._silent_until = 0.0
        self._clock = clock
        self._exchange = exchange or _exchange
        self._kept: dict[tuple[str, ...], _Held] = {}

    def services(self, domain: str) -> tuple[str, ...]:
        """The services that the domain enumerates, as `_theService._tcp`."""
        base = _name(domain)
        found = (each.target for each in self.ask(f"{ENUMERATION}.{domain}", "PTR"))
        return tuple(sorted(str(each.relativize(base)) for each in found if each.is_subdomain(base)))

    def browse(self, service: str, domain: str, protocol: str = "tcp") -> tuple[str, ...]:
        """The incarnations of a service (`v1`, `v2`); of one with shards each (`v1-1`, `v1-2`)."""
        return self._browsed(_base(service, domain, protocol))[1]

    def discover(self, service: str, domain: str, incarnation: str = "", protocol: str = "tcp") -> Incarnation:
        """The incarnation with its live machines; where it has shards, all of them. Without a name the only one that there is.

        Raises FatalError where there is no such service or incarnation, naming those that there are, and TransientError where
        no machine is alive or no resolver answers.
        """
        key = (service, domain, incarnation, protocol)
        now = self._clock()
        kept = self._kept.get(key)
        if kept is not None and kept[0] > now:
            return kept[1]  # type: ignore[no-any-return]
        base = _base(service, domain, protocol)
        name = f"{_label(incarnation)}.{base}" if incarnation else base
        answers = [self._ask(name, "SRV")] if incarnation else []
        sets: tuple[str, ...] = (name,)
        if not answers or not answers[0].value:
            listed, names = self._browsed(base)
            whole, parts = self._chosen(names, base, domain, incarnation)
            name, sets = f"{_label(whole)}.{base}", tuple(f"{_label(each)}.{base}" for each in parts)
            answers += [listed._replace(value=()), *self._answered(sets)]
        # RFC 2782: the target "." says that the service is decidedly not available.
        alive = [each for held in answers for each in held.value if each.target != dns.name.root]
        if not alive:
            raise TransientError(f"reason=no-live-machine service={name}")
        # In a set of DNS nothing stands twice; that it does not in shards either is for us to see to.
        targets = dict.fromkeys(Target(each.priority, each.weight, each.port, _text(each.target)) for each in alive)
        made = Incarnation(name, tuple(targets), self, sets, any(each.is_stale for each in answers))
        until = min(each.until for each in answers)
        self._keep(key, _Held(until, made, until))
        return made

    def _answered(self, sets: Sequence[str]) -> list[_Held]:
        """The shards that are answered; without one of them the rest will do, for a second. Raises TransientError where none is."""
        found, failed = [], None
        for each in sets:
            try:
                found.append(self._ask(each, "SRV"))
            except TransientError as unknown:
                failed = unknown
        if failed is not None:
            if not any(each.value for each in found):
                raise failed
            soon = self._clock() + 1.0
            found.append(_Held(soon, (), soon))
        return found

    def addresses(self, host: str) -> tuple[str, ...]:
        """IPv4 first."""
        return tuple(str(each.address) for rtype in ("A", "AAAA") for each in self.ask(host, rtype))

    def ask(self, name: str, rtype: str) -> tuple[Any, ...]:
        """The records of this type, from the cache or a resolver; empty where there are none.

        Raises TransientError where no resolver answers, FatalError where `name` is none.
        """
        return self._ask(name, rtype).value  # type: ignore[no-any-return]

    def _ask(self, name: str, rtype: str) -> _Held:
        """The records, and until when they hold."""
        now = self._clock()
        key = (name.rstrip(".").lower(), rtype)
        kept = self._kept.get(key)
        if kept is not None and kept[0] > now:
            return kept
        old = kept if kept is not None and kept.value and now < kept.expired + self._stale else None
        if old is not None and now < self._silent_until:
            return self._served_stale(key, old, "no resolver said anything a moment ago")
        try:
            reply = self._reply(name, rtype, self._waits(key, old, now))
        except TransientError as failed:
            if old is None:
                raise
            return self._served_stale(key, old, str(failed))
        if old is not None and old.is_stale:
            _log.info("answered again name=%s type=%s", _plain(name), rtype)
        held = _Held(now + reply.ttl, reply.found, now + reply.ttl)
        self._keep(key, held)
        if rtype == "SRV" and reply.addresses:
            hosts = {_text(each.target) for each in reply.found}
            for there, (ttl, records) in reply.addresses.items():
                # What comes along is worth less than what was asked for (RFC 2181 section 5.4.1), and only for the targets.
                if there[0] in hosts and self._kept.get(there, (0.0,))[0] <= now:
                    self._keep(there, _Held(now + ttl, tuple(records), now + ttl))
        return held

    def _waits(self, key: tuple[str, ...], old: _Held | None, now: float) -> tuple[float, ...]:
        """How long to wait for a resolver, in each round. Where they failed before and there is what to serve meanwhile, one call asks
        them, for a moment, and all others are served."""
        if old is None or not (old.is_stale or self._silent_until):
            return (self._timeout / 3, self._timeout)
        self._keep(key, old._replace(until=now + _RECHECK_S))
        if self._silent_until:
            self._silent_until = now + _RECHECK_S
        return (self._timeout / 3 / len(self._resolvers),)

    def _served_stale(self, key: tuple[str, ...], old: _Held, why: str) -> _Held:
        now = self._clock()
        is_said = self._kept.get(key, old).is_stale
        held = _Held(min(now + _RECHECK_S, old.expired + self._stale), old.value, old.expired, True)
        self._keep(key, held)
        if not is_said:
            said = "serving a stale answer name=%s type=%s expired_s=%.0f limit_s=%.0f error=%r"
            _log.warning(said, _plain(key[0]), key[1], now - old.expired, self._stale, why)
        return held

    def _keep(self, key: tuple[str, ...], held: _Held) -> None:
        with _lock:
            if len(self._kept) >= _LARGEST:
                now = self._clock()
                self._kept = {each: other for each, other in self._kept.items() if other[0] > now}
                if len(self._kept) >= _LARGEST:
                    self._kept = {}
            self._kept[key] = held

    def _browsed(self, base: str) -> tuple[_Held, tuple[str, ...]]:
        held = self._ask(base, "PTR")
        parent = _name(base)
        return held, tuple(sorted(_unlabelled(each.target) for each in held.value if _is_below(each.target, parent)))

    def _chosen(self, listed: Sequence[str], base: str, domain: str, incarnation: str) -> tuple[str, list[str]]:
        """The incarnation of those `listed`, and the names of its sets: its own, or its shards."""
        names = {each.lower(): each for each in listed}
        if not names:
            known = ",".join(map(_plain, self.services(domain)))
            raise FatalError(f"reason=no-such-service service={base} known={known or 'none'}")
        groups: dict[str, list[str]] = {}
        spelled: dict[str, str] = {}
        for name in names.values():
            shard = re.fullmatch(r"(.+)-[0-9]+", name, re.DOTALL)
            # `v1-2` is a shard of `v1` unless there is a `v1` itself: then it is somebody's own name.
            whole = shard[1] if shard and shard[1].lower() not in names else name
            groups.setdefault(whole.lower(), []).append(name)
            spelled.setdefault(whole.lower(), whole)
        wanted = incarnation.lower() or (next(iter(groups)) if len(groups) == 1 else "")
        if wanted in names:
            return names[wanted], [names[wanted]]
        if wanted not in groups:
            asked, known = _plain(incarnation) or "any", ",".join(map(_plain, sorted(spelled.values())))
            raise FatalError(f"reason=no-such-incarnation service={base} asked={asked} known={known}")
        return spelled[wanted], groups[wanted]

    def _reply(self, name: str, rtype: str, waits: tuple[float, ...]) -> _Reply:
        """The first answer that a resolver gives."""
        asked, kind = _name(name), dns.rdatatype.from_text(rtype)
        question = asked.to_digestable() + struct.pack("!HH", kind, dns.rdataclass.IN)
        # Recursion desired; one question, and the EDNS record.
        header = struct.pack("!6H", secrets.randbits(16), 0x0100, 1, 0, 0, 1)
        query = header + question + _OPTIONS
        said: dict[str, str] = {}
        is_heard = False
        if self._is_system and _version() != self._version:
            self._reread()
        while True:
            silent: set[Server] = set()
            for wait in waits:
                for server in self._resolvers:
                    where = f"{server[0]}:{server[1]}"
                    try:
                        reply = self._asked(server, query, asked, kind, wait, server in silent)
                    except (dns.exception.DNSException, OSError, ValueError, struct.error) as failed:
                        said[where] = getattr(failed, "strerror", None) or type(failed).__name__
                        if isinstance(failed, TimeoutError):
                            silent.add(server)
                        is_heard = is_heard or not isinstance(failed, OSError)
                        continue
                    if reply.rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                        said[where] = dns.rcode.to_text(reply.rcode)
                        is_heard = True
                        continue
                    self._silent_until = 0.0
                    if server is not self._resolvers[0]:
                        self._resolvers = [server, *(each for each in self._resolvers if each is not server)]
                    return reply
            if not self._reread():
                break
        if not is_heard:
            self._silent_until = self._clock() + _RECHECK_S
        tried = "; ".join(f"{where}: {what}" for where, what in said.items())
        raise TransientError(f"reason=no-resolver-answers name={name} type={rtype} said={tried!r}")

    def _asked(
        self, server: Server, query: bytes, name: dns.name.Name, rtype: int, wait: float, is_silent: bool
    ) -> _Reply:
        """What one resolver answers; asked without EDNS where it does not know it, or says nothing to a query that has it."""
        knows = server not in self._without_edns or self._without_edns[server] <= self._clock()
        if is_silent or not knows:
            query = _without_edns(query)
        wire = self._exchange(server, query, wait, False)
        if len(wire) >= _HEADER and wire[3] & 0x0F in _NO_EDNS and query[11]:
            query = _without_edns(query)
            wire = self._exchange(server, query, wait, False)
        if _is_truncated(wire):
            # What is short without EDNS may be whole with it, where TCP does not get through.
            self._without_edns.pop(server, None)
            wire = self._exchange(server, query, self._timeout, True)
        if not _answers(wire, query):
            raise ValueError("answers another question")
        reply = _parsed(wire, name, rtype)
        if knows and not query[11] and reply.rcode not in _NO_EDNS:
            self._without_edns[server] = self._clock() + _WITHOUT_EDNS_S
        return reply

    def _reread(self) -> bool:
        """Read the system's resolvers again. Returns whether they are others than before."""
        if not self._is_system:
            return False
        version = _version()
        try:
            found = _system()
        except FatalError:
            # Somebody is writing it, or has removed it: those that are known will do.
            return False
        self._version = version
        if sorted(found) == sorted(self._resolvers):
            return False
        self._resolvers = found
        return True


def ordered(targets: Sequence[Target], dice: random.Random) -> Iterator[Target]:
    """RFC 2782, "Usage rules": priorities ascending; within one, again and again, a number from 0 to the sum of the weights,
    inclusive, and the first whose running sum reaches it, those of weight 0 in front and the others in any order."""
    for priority in sorted({each.priority for each in targets}):
        left = [each for each in targets if each.priority == priority]
        while left:
            sums = list(itertools.accumulate(each.weight for each in left))
            number = dice.randint(0, sums[-1])
            # 0 means whoever is in front; all that may be are as likely. Any other number means a weight, wherever it stands.
            front = [at for at, each in enumerate(left) if not each.weight] or range(len(left))
            yield left.pop(bisect.bisect_left(sums, number) if number else front[dice.randrange(len(front))])


def pairs(records: Sequence[Any]) -> dict[str, str | None]:
    """The keys and values of TXT records. A string that starts with `=` is ignored, as RFC 6763 section 6.4 has it, and so is
    one whose key is not printable ASCII. What is no UTF-8 in a value is replaced."""
    found: dict[str, str | None] = {}
    for text in (text for record in records for text in record.strings):
        name, equals, value = text.partition(b"=")
        if name and all(0x20 <= each <= 0x7E for each in name):
            found.setdefault(name.decode().lower(), value.decode(errors="replace") if equals else None)
    return found


_shared: dict[tuple[str, ...], Client] = {}
# One for all clients, so that a forked process can have a new one: who held it at that moment does not exist there.
_lock = threading.Lock()


def _forked() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def discover(
    service: str, domain: str, *, incarnation: str = "", protocol: str = "tcp", resolvers: str | Sequence[str] = ()
) -> Incarnation:
    """`Client.discover` with one client, and so one cache, for all calls with the same resolvers."""
    key = _several(resolvers)
    client = _shared.get(key) or _shared.setdefault(key, Client(key))
    return client.discover(service, domain, incarnation, protocol)


def main(arguments: Sequence[str]) -> int:
    """`rollcall resolve`: 0 found, 1 not found (why, in one line on stderr), 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="rollcall resolve", description="A service's live machines, in the order to try."
    )
    parser.add_argument(
        "service",
        help="as theService.unilans.net or v1._theService._tcp.unilans.net; with --browse a domain alone lists its services",
    )
    parser.add_argument("--incarnation", default="", help="as v1; needed where there are several and the name has none")
    parser.add_argument("--protocol", default="tcp", help="unless the name has it")
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
    incarnation, service, protocol, domain = _taken_apart(chosen.service, chosen.protocol)
    if chosen.browse:
        listed = domain if service == "_dns-sd" else chosen.service
        names = list(client.services(listed) or client.browse(service, domain, protocol))
        if not names:
            raise FatalError(f"reason=nothing-to-browse name={chosen.service}")
        return names, [_plain(each) for each in names]
    if incarnation and chosen.incarnation and incarnation.lower() != chosen.incarnation.lower():
        raise FatalError(
            f"reason=two-incarnations name={_plain(chosen.service)} incarnation={_plain(chosen.incarnation)}"
            " fix='give one of them'"
        )
    found = client.discover(service, domain, incarnation or chosen.incarnation, protocol)
    rows = [{**asdict(target), "addresses": _known_addresses(client, target.host)} for target in found.order()]
    lines = [
        f"{row['host']}:{row['port']} {','.join(row['addresses'])} priority={row['priority']} weight={row['weight']}"
        for row in rows
    ]
    if not chosen.json:
        return None, lines
    try:
        txt = found.txt
    except TransientError:
        txt = None
    return {"incarnation": found.name, "txt": txt, "targets": rows}, lines


def _taken_apart(name: str, protocol: str) -> tuple[str, str, str, str]:
    """Incarnation, service, protocol and domain of a name: of `v1._theService._tcp.unilans.net` as DNS has it, or of
    `theService.unilans.net`, which has no incarnation and leaves the protocol to the caller."""
    labels = _name(name).relativize(dns.name.root).labels
    for at in range(min(2, len(labels) - 1)):
        if labels[at].startswith(b"_") and labels[at + 1].lower() in (b"_tcp", b"_udp"):
            incarnation, service, protocol = (_decoded(each) for each in (b"".join(labels[:at]), *labels[at : at + 2]))
            return incarnation, service, protocol.lower(), _domain(labels[at + 2 :])
    return "", _decoded(labels[0]) if labels else "", protocol, _domain(labels[1:])


def _domain(labels: Sequence[bytes]) -> str:
    return dns.name.Name(labels).to_text() if labels else ""


def _known_addresses(client: Client, host: str) -> tuple[str, ...]:
    """Those of the families that are answered: what is not known of one machine hides no other."""
    found: list[str] = []
    for rtype in ("A", "AAAA"):
        with contextlib.suppress(TransientError):
            found += [str(each.address) for each in client.ask(host, rtype)]
    return tuple(found)


def _exchange(server: Server, query: bytes, timeout: float, over_tcp: bool) -> bytes:
    """What the server answers to the query. Raises OSError (TimeoutError after `timeout` seconds, however it drips)."""
    ends = time.monotonic() + timeout
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if over_tcp else socket.SOCK_DGRAM) as asked:
        asked.settimeout(timeout)
        # A datagram socket that is connected hears of nobody else, and of a port where nobody listens.
        asked.connect(server)
        if over_tcp:
            asked.sendall(struct.pack("!H", len(query)) + query)
            (length,) = struct.unpack("!H", _exactly(asked, 2, ends))
            return _exactly(asked, length, ends)
        asked.send(query)
        while not _answers(reply := asked.recv(65_535), query):
            asked.settimeout(_left(ends))
        return reply


def _opened(address: Server, wait: float, is_pointless: Callable[[], bool] | None) -> socket.socket:
    """A TCP connection. Raises OSError; TimeoutError after `wait` seconds, or as soon as going on is pointless."""
    made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        code = made.connect_ex(address)
        if code in (errno.EINPROGRESS, errno.EWOULDBLOCK):
            code = _outcome(made, wait, is_pointless)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        made.close()
        raise
    return made


def _outcome(made: socket.socket, wait: float, is_pointless: Callable[[], bool] | None) -> int:
    """The error number that a connection which has begun ends with."""
    ends = time.monotonic() + wait
    with selectors.DefaultSelector() as watch:
        watch.register(made, selectors.EVENT_WRITE)
        while (left := ends - time.monotonic()) > 0:
            if watch.select(min(left, _GLANCE_S)):
                return made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if is_pointless is not None and is_pointless():
                raise TimeoutError("another call found that it does not accept")
    raise TimeoutError("timed out")


def _exactly(asked: socket.socket, count: int, ends: float) -> bytes:
    found = b""
    while len(found) < count:
        asked.settimeout(_left(ends))
        more = asked.recv(count - len(found))
        if not more:
            raise ConnectionResetError("the connection ended within an answer")
        found += more
    return found


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _answers(reply: bytes, query: bytes) -> bool:
    """Whether it is a response with our id and our question, or without one, as of servers that did not understand it."""
    asked = query[_HEADER : len(query) - (len(_OPTIONS) if query[11] else 0)]
    ours = reply[:2] == query[:2] and len(reply) >= _HEADER and bool(reply[2] & 0x80)
    return ours and (reply[4:6] == b"\0\0" or reply[_HEADER : _HEADER + len(asked)].lower() == asked.lower())


def _without_edns(query: bytes) -> bytes:
    return query[:10] + b"\0\0" + query[_HEADER : -len(_OPTIONS)] if query[11] else query


def _is_truncated(reply: bytes) -> bool:
    return len(reply) >= _HEADER and bool(reply[2] & 0x02)


@dataclass(frozen=True)
class _Reply:
    """The records that were asked for, for how long they (or their absence) hold, and the addresses that came along."""

    rcode: dns.rcode.Rcode
    found: tuple[Any, ...]
    ttl: float
    addresses: dict[tuple[str, str], tuple[float, list[Any]]]


def _parsed(wire: bytes, name: dns.name.Name, rtype: int) -> _Reply:
    """What a response to a question for `name` and `rtype` says, at the end of its aliases.

    Record by record: `dns.message` makes sets of them first, which takes longer than all the rest. Raises DNSException or
    ValueError where it makes no sense.
    """
    if wire[2] & 0x78:
        raise ValueError("answers another operation")
    answer, authority, additional = _sections(wire)
    rcode = wire[3] & 0x0F
    # RFC 6891 section 6.1.3: the upper bits are where other records have a TTL.
    rcode |= sum(ttl >> 24 << 4 for _, kind, ttl, _ in additional if kind == dns.rdatatype.OPT)
    lowest, links = _LONGEST, 0
    while not (found := [each for each in answer if each[1] == rtype and each[0] == name]):
        alias = next((each for each in answer if each[1] == dns.rdatatype.CNAME and each[0] == name), None)
        if alias is None:
            break
        name, lowest, links = alias[3].target, min(lowest, _held(alias[2])), links + 1
        if links > len(answer):
            raise ValueError("goes round in circles")
    if found and rcode == dns.rcode.NXDOMAIN:
        raise ValueError("is there and is not")
    if found:
        lowest = min(lowest, *(_held(each[2]) for each in found))
    else:
        # RFC 2308 section 5: the lesser of the SOA's TTL and its minimum; nothing without an SOA.
        held = (min(_held(ttl), soa.minimum) for _, kind, ttl, soa in authority if kind == dns.rdatatype.SOA)
        # The alias that led here holds no longer than it says.
        lowest = min(lowest, _LONGEST_NEGATIVE, min(held, default=0))
    along: dict[tuple[str, str], tuple[float, list[Any]]] = {}
    for owner, kind, ttl, record in additional:
        if kind in _ADDRESSES:
            there = (_text(owner), _ADDRESSES[kind])
            before, records = along.get(there, (_LONGEST, []))
            along[there] = (min(before, _held(ttl)), [*records, record])
    return _Reply(dns.rcode.Rcode.make(rcode), tuple(each[3] for each in found), lowest, along)


def _sections(wire: bytes) -> list[list[tuple[dns.name.Name, int, int, Any]]]:
    """Owner, type, TTL and value of each record in a section's place; only of the types that the client has a use for."""
    questions, *counts = struct.unpack_from("!4H", wire, 4)
    at = _HEADER
    if questions:
        at += dns.name.from_wire(wire, at)[1] + 4
    # Most owners are a pointer of two bytes to a name that was read before.
    pointers: dict[bytes, dns.name.Name] = {}
    sections = []
    for count in counts:
        section: list[tuple[dns.name.Name, int, int, Any]] = []
        for _ in range(count):
            pointer = wire[at : at + 2]
            owner, used = (pointers[pointer], 2) if pointer in pointers else dns.name.from_wire(wire, at)
            if used == 2:
                pointers[pointer] = owner
            kind, rdclass, ttl, length = _RECORD.unpack(wire[at + used : at + used + _RECORD.size])
            at += used + _RECORD.size + length
            if kind == dns.rdatatype.OPT:
                section.append((owner, kind, ttl, None))
            elif kind in _USED and rdclass == dns.rdataclass.IN:
                section.append((owner, kind, ttl, dns.rdata.from_wire(rdclass, kind, wire, at - length, length)))
        sections.append(section)
    if at > len(wire):
        raise ValueError("ends too early")
    return sections


def _held(ttl: int) -> float:
    """RFC 2181 section 8: one with its highest bit set is none."""
    return 0.0 if ttl >> 31 else min(float(ttl), _LONGEST)


def _base(service: str, domain: str, protocol: str) -> str:
    """The service's name. Service and protocol may have the underscore that they have there."""
    label = _label(f"_{service.removeprefix('_')}")
    return f"{label}._{protocol.removeprefix('_')}.{domain.rstrip('.')}"


def _name(text: str) -> dns.name.Name:
    try:
        return dns.name.from_text(text)
    except (dns.exception.DNSException, ValueError) as wrong:
        raise FatalError(f"reason=no-dns-name name={_plain(text)}") from wrong


def _label(text: str) -> str:
    """One label as it stands in a name: an incarnation's may hold dots and spaces (RFC 6763 section 4.3)."""
    if _PLAIN_LABEL.fullmatch(text):
        return text
    try:
        return dns.name.Name((text.encode(errors="surrogateescape"),)).to_text()
    except (dns.exception.DNSException, ValueError) as wrong:
        raise FatalError(f"reason=no-dns-label label={_plain(text)}") from wrong


def _unlabelled(name: dns.name.Name) -> str:
    return _decoded(name.labels[0])


def _decoded(label: bytes) -> str:
    return label.decode(errors="surrogateescape")


def _is_below(name: dns.name.Name, parent: dns.name.Name) -> bool:
    return len(name) == len(parent) + 1 and name.is_subdomain(parent)


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _plain(text: str) -> str:
    """For one line on a terminal: anyone who writes to the zone could put control characters into a name."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _several(resolvers: str | Sequence[str]) -> tuple[str, ...]:
    return (resolvers,) if isinstance(resolvers, str) else tuple(resolvers)


def _split(resolver: str) -> Server:
    """`HOST`, `HOST:PORT`, `[IPv6]:PORT` or an IPv6 address."""
    host, colon, port = resolver.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = resolver, "53"
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or "[" in host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65_536:
        raise FatalError(f"reason=no-resolver resolver={_plain(resolver)} fix='HOST, HOST:PORT or [IPv6]:PORT'")
    return host, int(port)


def _system() -> list[Server]:
    try:
        found = dns.resolver.Resolver(_RESOLV_CONF)
    except (dns.exception.DNSException, OSError, ValueError):
        raise FatalError(f"reason=no-resolver file={_RESOLV_CONF}") from None
    return [(str(each), found.port) for each in found.nameservers]


def _version() -> tuple[int, int, int] | None:
    """What differs when resolv.conf, or the file that it is a link to, was written again."""
    try:
        found = Path(_RESOLV_CONF).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
