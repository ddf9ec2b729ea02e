"""The DNS-SD client: find a service's live machines by plain DNS, choose one as RFC 2782 has it, connect to it.

    from rollcall import discover

    with discover("theService", "unilans.net", incarnation="v1").connect() as connection: ...

Any resolver is good enough. RFC 6763 sections 4 to 6 and 9 (PTR, TXT, enumeration), RFC 2782 (SRV), RFC 2308 (negative answers), 8767
(stale). Every failure is a FatalError or a TransientError of `rollcall.errors`, with a message of one line.
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
# So many bytes fit a datagram everywhere (RFC 6891 section 6.2.5). Larger answers come over TCP.
_PAYLOAD = 1232
_OPTIONS = struct.pack("!BHHIH", 0, dns.rdatatype.OPT, _PAYLOAD, 0, 0)
_HEADER = 12
_RECORD = struct.Struct("!HHIH")
# The longest times in the cache. RFC 2308 section 5 allows hours for a negative answer, but a machine that was absent for a moment must be
# found sooner.
_LONGEST, _LONGEST_NEGATIVE = 86_400.0, 5.0
# If all resolvers fail, an answer is served for _STALE_S after its TTL, and they are asked again every _RECHECK_S (RFC 8767 section 5).
_STALE_S, _RECHECK_S = 3_600.0, 5.0
_RESOLV_CONF = "/etc/resolv.conf"
# The response codes of a server that does not know EDNS (RFC 6891 section 7, and older servers), and for how long this counts.
_NO_EDNS = (dns.rcode.FORMERR, dns.rcode.NOTIMP)
_WITHOUT_EDNS_S = 300.0
# A target that did not accept comes last for _AVOIDED_S; then one call tries it again. For _SUSPECTED_S each such try lasts at most
# _BRIEFLY_S, and one call spends at most _TOGETHER_S on all such targets.
_AVOIDED_S, _BRIEFLY_S, _SUSPECTED_S = 10.0, 0.45, 300.0
_TOGETHER_S = 0.9
# So often a call that waits for a target checks whether another call has found that the target does not accept.
_GLANCE_S = 0.2
# Errors that the target did not cause: this process has no more sockets, memory or ports.
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}

_ADDRESSES: dict[int, str] = {dns.rdatatype.A: "A", dns.rdatatype.AAAA: "AAAA"}
_USED = {*_ADDRESSES, *map(dns.rdatatype.from_text, ("CNAME", "PTR", "SOA", "SRV", "TXT"))}
_PLAIN_LABEL = re.compile("[0-9A-Za-z_-]{1,63}")

_log = logging.getLogger(__name__)
Server = tuple[str, int]
Exchange = Callable[[Server, bytes, float, bool], bytes]


@dataclass(frozen=True, order=True)
class Target:
    """One SRV value: a machine's host name and port. Lower priorities are tried first, and larger weights more often."""

    priority: int
    weight: int
    port: int
    host: str


@dataclass(frozen=True)
class Incarnation:
    """One incarnation of a service (a service instance of RFC 6763) with its live machines, as DNS answered.

    `sets` are the names of the record sets from which it was read: one, or one for each shard. It is `stale` if its TTL has expired and no
    resolver answers (RFC 8767).
    """

    name: str
    targets: tuple[Target, ...]
    client: Client = field(repr=False, compare=False)
    sets: tuple[str, ...] = ()
    stale: bool = field(default=False, compare=False)

    def order(self, dice: random.Random | None = None) -> Iterator[Target]:
        """Yield the targets in the order in which to try them, by RFC 2782's weights within each priority.

        Targets that did not accept a connection of any client of this process a moment ago come last.
        """
        found = ordered(self.targets, dice or self.client.dice)
        return self._failed_last(found) if _failures.known or self.client.unresolved.known else found

    def _failed_last(self, found: Iterator[Target]) -> Iterator[Target]:
        """Yield targets that have failed last, and of these first the ones that were not tried for the longest time.

        Each target is checked when its turn comes.
        """
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
        """The keys and values of its TXT (RFC 6763 section 6.4).

        The first value of a key counts, keys are in lower case, and the value of a key without `=` is None.
        """
        return pairs(self.client.ask(self.sets[0], "TXT"))

    def connect(self, timeout: float = 5.0) -> socket.socket:
        """Return a TCP connection to the first target that accepts. Raises TransientError, which names each target that does not.

        All clients of the process remember a target that did not accept. It comes last for a while. Later calls wait for it for less than
        `timeout` seconds, so no call waits as long as the first one did.
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
        """Return a connection to one of the target's addresses; otherwise None, and add the reasons to `failed`.

        If the target is known not to accept, `ends` is when to stop.
        """
        failures: _Failures | None = self.client.unresolved
        # Try one family after the other: if a connection by IPv4 succeeds, AAAA is not asked for at all.
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
        """Return a check that is true when another call has found that the target does not accept, and another target may accept."""
        return lambda: _failures.is_recent(target) and not all(map(self._has_failed, self.targets))


class _Failures:
    """Targets that did not accept a connection, by host and port: the time until which they come last, and until which a try is brief."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, int], tuple[float, float]] = {}

    def is_recent(self, target: Target) -> bool:
        found = self.known.get((target.host, target.port))
        return found is not None and found[0] > time.monotonic()

    def again(self, target: Target) -> float:
        return self.known.get((target.host, target.port), (0.0,))[0]

    def claimed(self, target: Target, now: float, spare: float) -> float | None:
        """Return until when to try a target that is known not to accept; None for another target.

        `spare` are the seconds that remain for all such targets. In the meantime the target comes last for other calls.
        """
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
        # A target that did not accept in a brief try may only be slow. So from time to time a try lasts as long as the caller's timeout.
        suspected = found[1] if was_brief and found is not None and found[1] > now else now + _SUSPECTED_S
        if len(self.known) >= _LARGEST:
            self.known = {}
        self.known[key] = (now + _AVOIDED_S, suspected)

    def remove(self, target: Target) -> None:
        self.known.pop((target.host, target.port), None)


_failures = _Failures()


class _Answer(NamedTuple):
    """One answer in the cache: until when it is used without asking, its value, when its TTL expires, and whether it is stale."""

    until: float
    value: Any
    expired: float
    is_stale: bool = False


class Client:
    """A client that asks resolvers and caches their answers for their TTL.

    `resolvers` are `HOST` or `HOST:PORT`; the default is the system's. If a resolver fails or does not answer within a third of `timeout`
    seconds, the client asks the next one. After that it asks each once more, for all of `timeout`, and without EDNS if the resolver was
    silent. The resolver that answered last is asked first. The system's resolvers are read again when resolv.conf has changed, or when none
    answers. Threads and forked processes may share a client.

    If all resolvers fail, the client serves an expired answer for `stale` seconds more (RFC 8767; 0: never), and the logger
    `rollcall.resolve` writes a warning. A negative answer is never served after its TTL.
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
        # Whether a target has an address depends on this client's resolvers. Whether it accepts a connection is the same for all clients.
        self.unresolved = _Failures()
        # Until then no resolver is asked for an answer that can be served stale, because none of them replied. 0: one replied.
        self._silent_until = 0.0
        self._clock = clock
        self._exchange = exchange or _exchange
        self._cache: dict[tuple[str, ...], _Answer] = {}

    def services(self, domain: str) -> tuple[str, ...]:
        """Return the services that the domain enumerates, as `_theService._tcp`."""
        base = _name(domain)
        found = (each.target for each in self.ask(f"{ENUMERATION}.{domain}", "PTR"))
        return tuple(sorted(str(each.relativize(base)) for each in found if each.is_subdomain(base)))

    def browse(self, service: str, domain: str, protocol: str = "tcp") -> tuple[str, ...]:
        """Return the incarnations of a service (`v1`, `v2`). For an incarnation with shards, return each shard (`v1-1`, `v1-2`)."""
        return self._browsed(_base(service, domain, protocol))[1]

    def discover(self, service: str, domain: str, incarnation: str = "", protocol: str = "tcp") -> Incarnation:
        """Return an incarnation with its live machines, from all of its shards if it has any.

        Without a name, return the only incarnation. Raises FatalError if there is no such service or incarnation; the message names those
        that exist. Raises TransientError if no machine is alive or no resolver answers.
        """
        key = (service, domain, incarnation, protocol)
        now = self._clock()
        cached = self._cache.get(key)
        if cached is not None and cached[0] > now:
            return cached[1]  # type: ignore[no-any-return]
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
        alive = [each for reply in answers for each in reply.value if each.target != dns.name.root]
        if not alive:
            raise TransientError(f"reason=no-live-machine service={name}")
        # One record set has no value twice, but two shards may have the same value. So remove duplicates.
        targets = dict.fromkeys(Target(each.priority, each.weight, each.port, _text(each.target)) for each in alive)
        made = Incarnation(name, tuple(targets), self, sets, any(each.is_stale for each in answers))
        until = min(each.until for each in answers)
        self._keep(key, _Answer(until, made, until))
        return made

    def _answered(self, sets: Sequence[str]) -> list[_Answer]:
        """Return the answers for the shards. If some are missing, the rest counts for one second. Raises TransientError if all are."""
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
            found.append(_Answer(soon, (), soon))
        return found

    def addresses(self, host: str) -> tuple[str, ...]:
        """Return the addresses of a host, IPv4 first."""
        return tuple(str(each.address) for rtype in ("A", "AAAA") for each in self.ask(host, rtype))

    def ask(self, name: str, rtype: str) -> tuple[Any, ...]:
        """Return the records of this type, from the cache or a resolver; empty if there are none.

        Raises TransientError if no resolver answers, and FatalError if `name` is not a valid name.
        """
        return self._ask(name, rtype).value  # type: ignore[no-any-return]

    def _ask(self, name: str, rtype: str) -> _Answer:
        """Return the records, and until when they are valid."""
        now = self._clock()
        key = (name.rstrip(".").lower(), rtype)
        cached = self._cache.get(key)
        if cached is not None and cached[0] > now:
            return cached
        old = cached if cached is not None and cached.value and now < cached.expired + self._stale else None
        if old is not None and now < self._silent_until:
            return self._served_stale(key, old, "no resolver answered a moment ago")
        try:
            reply = self._reply(name, rtype, self._waits(key, old, now))
        except TransientError as failed:
            if old is None:
                raise
            return self._served_stale(key, old, str(failed))
        if old is not None and old.is_stale:
            _log.info("answered again name=%s type=%s", _plain(name), rtype)
        answer = _Answer(now + reply.ttl, reply.found, now + reply.ttl)
        self._keep(key, answer)
        if rtype == "SRV" and reply.addresses:
            hosts = {_text(each.target) for each in reply.found}
            for there, (ttl, records) in reply.addresses.items():
                # Additional records count less than an answer (RFC 2181 section 5.4.1), and only those of the targets count at all.
                if there[0] in hosts and self._cache.get(there, (0.0,))[0] <= now:
                    self._keep(there, _Answer(now + ttl, tuple(records), now + ttl))
        return answer

    def _waits(self, key: tuple[str, ...], old: _Answer | None, now: float) -> tuple[float, ...]:
        """Return how long to wait for a resolver in each round.

        If the resolvers failed before and there is a stale answer, one call asks them, for a moment, and all others get the stale answer.
        """
        if old is None or not (old.is_stale or self._silent_until):
            return (self._timeout / 3, self._timeout)
        self._keep(key, old._replace(until=now + _RECHECK_S))
        if self._silent_until:
            self._silent_until = now + _RECHECK_S
        return (self._timeout / 3 / len(self._resolvers),)

    def _served_stale(self, key: tuple[str, ...], old: _Answer, why: str) -> _Answer:
        now = self._clock()
        was_logged = self._cache.get(key, old).is_stale
        answer = _Answer(min(now + _RECHECK_S, old.expired + self._stale), old.value, old.expired, True)
        self._keep(key, answer)
        if not was_logged:
            text = "serving a stale answer name=%s type=%s expired_s=%.0f limit_s=%.0f error=%r"
            _log.warning(text, _plain(key[0]), key[1], now - old.expired, self._stale, why)
        return answer

    def _keep(self, key: tuple[str, ...], answer: _Answer) -> None:
        with _lock:
            if len(self._cache) >= _LARGEST:
                now = self._clock()
                self._cache = {each: other for each, other in self._cache.items() if other[0] > now}
                if len(self._cache) >= _LARGEST:
                    self._cache = {}
            self._cache[key] = answer

    def _browsed(self, base: str) -> tuple[_Answer, tuple[str, ...]]:
        answer = self._ask(base, "PTR")
        parent = _name(base)
        return answer, tuple(
            sorted(_unlabelled(each.target) for each in answer.value if _is_below(each.target, parent))
        )

    def _chosen(self, listed: Sequence[str], base: str, domain: str, incarnation: str) -> tuple[str, list[str]]:
        """Return the chosen incarnation of those `listed`, and the names of its record sets: its own, or its shards."""
        names = {each.lower(): each for each in listed}
        if not names:
            known = ",".join(map(_plain, self.services(domain)))
            raise FatalError(f"reason=no-such-service service={base} known={known or 'none'}")
        groups: dict[str, list[str]] = {}
        spelled: dict[str, str] = {}
        for name in names.values():
            shard = re.fullmatch(r"(.+)-[0-9]+", name, re.DOTALL)
            # `v1-2` is a shard of `v1` unless `v1` itself exists: then `v1-2` is the name of another incarnation.
            whole = shard[1] if shard and shard[1].lower() not in names else name
            groups.setdefault(whole.lower(), []).append(name)
            spelled.setdefault(whole.lower(), whole)
        wanted = incarnation.lower() or (next(iter(groups)) if len(groups) == 1 else "")
        if wanted in names:
            return names[wanted], [names[wanted]]
        if wanted not in groups:
            wanted_name, known = _plain(incarnation) or "any", ",".join(map(_plain, sorted(spelled.values())))
            raise FatalError(f"reason=no-such-incarnation service={base} asked={wanted_name} known={known}")
        return spelled[wanted], groups[wanted]

    def _reply(self, name: str, rtype: str, waits: tuple[float, ...]) -> _Reply:
        """Return the first answer that a resolver gives."""
        qname, kind = _name(name), dns.rdatatype.from_text(rtype)
        question = qname.to_digestable() + struct.pack("!HH", kind, dns.rdataclass.IN)
        # Recursion desired; one question, and the EDNS record.
        header = struct.pack("!6H", secrets.randbits(16), 0x0100, 1, 0, 0, 1)
        query = header + question + _OPTIONS
        errors: dict[str, str] = {}
        is_heard = False
        if self._is_system and _version() != self._version:
            self._reread()
        while True:
            silent: set[Server] = set()
            for wait in waits:
                for server in self._resolvers:
                    where = f"{server[0]}:{server[1]}"
                    try:
                        reply = self._exchanged(server, query, qname, kind, wait, server in silent)
                    except (dns.exception.DNSException, OSError, ValueError, struct.error) as failed:
                        errors[where] = getattr(failed, "strerror", None) or type(failed).__name__
                        if isinstance(failed, TimeoutError):
                            silent.add(server)
                        is_heard = is_heard or not isinstance(failed, OSError)
                        continue
                    if reply.rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                        errors[where] = dns.rcode.to_text(reply.rcode)
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
        tried = "; ".join(f"{where}: {what}" for where, what in errors.items())
        raise TransientError(f"reason=no-resolver-answers name={name} type={rtype} said={tried!r}")

    def _exchanged(
        self, server: Server, query: bytes, name: dns.name.Name, rtype: int, wait: float, is_silent: bool
    ) -> _Reply:
        """Return what one resolver answers. Ask without EDNS if it does not know EDNS, or does not answer a query that has it."""
        knows = server not in self._without_edns or self._without_edns[server] <= self._clock()
        if is_silent or not knows:
            query = _without_edns(query)
        wire = self._exchange(server, query, wait, False)
        if len(wire) >= _HEADER and wire[3] & 0x0F in _NO_EDNS and query[11]:
            query = _without_edns(query)
            wire = self._exchange(server, query, wait, False)
        if _is_truncated(wire):
            # An answer that is truncated without EDNS may be complete with it, if TCP is blocked.
            self._without_edns.pop(server, None)
            wire = self._exchange(server, query, self._timeout, True)
        if not _answers(wire, query):
            raise ValueError("answers another question")
        reply = _parsed(wire, name, rtype)
        if knows and not query[11] and reply.rcode not in _NO_EDNS:
            self._without_edns[server] = self._clock() + _WITHOUT_EDNS_S
        return reply

    def _reread(self) -> bool:
        """Read the system's resolvers again. Return whether they have changed."""
        if not self._is_system:
            return False
        version = _version()
        try:
            found = _system()
        except FatalError:
            # Another process writes the file now, or has removed it: use the known resolvers.
            return False
        self._version = version
        if sorted(found) == sorted(self._resolvers):
            return False
        self._resolvers = found
        return True


def ordered(targets: Sequence[Target], dice: random.Random) -> Iterator[Target]:
    """Yield targets by the "Usage rules" of RFC 2782.

    Priorities ascend. Within a priority, put targets of weight 0 in front and the others in any order. Then repeat: choose a number from 0
    to the sum of the weights, inclusive, and take the first target with a running sum that reaches it.
    """
    for priority in sorted({each.priority for each in targets}):
        left = [each for each in targets if each.priority == priority]
        while left:
            sums = list(itertools.accumulate([each.weight for each in left]))
            # Any number but 0 selects by weight, and then the order makes no difference.
            at = bisect.bisect_left(sums, number) if (number := dice.randrange(sums[-1] + 1)) else _in_front(left, dice)
            yield left.pop(at)


def _in_front(targets: Sequence[Target], dice: random.Random) -> int:
    """Return the place of the target that the number 0 selects, the one in front: all that may be in front have the same chance."""
    front = [at for at, each in enumerate(targets) if not each.weight] or range(len(targets))
    return front[dice.randrange(len(front))]


def pairs(records: Sequence[Any]) -> dict[str, str | None]:
    """Return the keys and values of TXT records (RFC 6763 section 6.4).

    A string that starts with `=` is ignored, and so is a string with a key that is not printable ASCII. Bytes of a value that are not UTF-8
    are replaced.
    """
    found: dict[str, str | None] = {}
    for text in (text for record in records for text in record.strings):
        name, equals, value = text.partition(b"=")
        if name and all(0x20 <= each <= 0x7E for each in name):
            found.setdefault(name.decode().lower(), value.decode(errors="replace") if equals else None)
    return found


_shared: dict[tuple[str, ...], Client] = {}
# One lock for all clients, so that a forked process can get a new one: a thread that owned the lock at the fork does not exist there.
_lock = threading.Lock()


def _forked() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def discover(
    service: str, domain: str, *, incarnation: str = "", protocol: str = "tcp", resolvers: str | Sequence[str] = ()
) -> Incarnation:
    """Return `Client.discover` of a client that all calls with the same resolvers share, and so share its cache."""
    key = _several(resolvers)
    client = _shared.get(key) or _shared.setdefault(key, Client(key))
    return client.discover(service, domain, incarnation, protocol)


def main(arguments: Sequence[str]) -> int:
    """Run `rollcall resolve`. Exit codes: 0 found, 1 not found (with one line on stderr), 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="rollcall resolve", description="A service's live machines, in the order to try."
    )
    parser.add_argument(
        "service",
        help="as theService.unilans.net or v1._theService._tcp.unilans.net; with --browse a domain alone lists its services",
    )
    parser.add_argument("--incarnation", default="", help="as v1; needed where there are several and the name has none")
    parser.add_argument("--protocol", default="tcp", help="unless the name has it")
    parser.add_argument(
        "--resolver", action="append", default=[], help="HOST or HOST:PORT; default: the resolvers of the system"
    )
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
    """Return incarnation, service, protocol and domain of a name.

    The name is as in DNS, `v1._theService._tcp.unilans.net`, or `theService.unilans.net`, which has no incarnation and takes the caller's
    protocol.
    """
    labels = _name(name).relativize(dns.name.root).labels
    for at in range(min(2, len(labels) - 1)):
        if labels[at].startswith(b"_") and labels[at + 1].lower() in (b"_tcp", b"_udp"):
            incarnation, service, protocol = (_decoded(each) for each in (b"".join(labels[:at]), *labels[at : at + 2]))
            return incarnation, service, protocol.lower(), _domain(labels[at + 2 :])
    return "", _decoded(labels[0]) if labels else "", protocol, _domain(labels[1:])


def _domain(labels: Sequence[bytes]) -> str:
    return dns.name.Name(labels).to_text() if labels else ""


def _known_addresses(client: Client, host: str) -> tuple[str, ...]:
    """Return the known addresses of a host. A failure for one family or host does not prevent the output of the others."""
    found: list[str] = []
    for rtype in ("A", "AAAA"):
        with contextlib.suppress(TransientError):
            found += [str(each.address) for each in client.ask(host, rtype)]
    return tuple(found)


def _exchange(server: Server, query: bytes, timeout: float, over_tcp: bool) -> bytes:
    """Return what the server answers. Raises OSError (TimeoutError after `timeout` seconds, even if bytes still arrive)."""
    ends = time.monotonic() + timeout
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if over_tcp else socket.SOCK_DGRAM) as connection:
        connection.settimeout(timeout)
        # A connected datagram socket accepts packets from this server only, and reports a port on which no process listens.
        connection.connect(server)
        if over_tcp:
            connection.sendall(struct.pack("!H", len(query)) + query)
            (length,) = struct.unpack("!H", _exactly(connection, 2, ends))
            return _exactly(connection, length, ends)
        connection.send(query)
        while not _answers(reply := connection.recv(65_535), query):
            connection.settimeout(_left(ends))
        return reply


def _opened(address: Server, wait: float, is_pointless: Callable[[], bool] | None) -> socket.socket:
    """Return a TCP connection. Raises OSError; TimeoutError after `wait` seconds, or as soon as `is_pointless` is true."""
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
    """Return the error number with which an attempt to connect ends."""
    ends = time.monotonic() + wait
    with selectors.DefaultSelector() as watch:
        watch.register(made, selectors.EVENT_WRITE)
        while (left := ends - time.monotonic()) > 0:
            if watch.select(min(left, _GLANCE_S)):
                return made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if is_pointless is not None and is_pointless():
                raise TimeoutError("another call found that it does not accept")
    raise TimeoutError("timed out")


def _exactly(connection: socket.socket, count: int, ends: float) -> bytes:
    found = b""
    while len(found) < count:
        connection.settimeout(_left(ends))
        more = connection.recv(count - len(found))
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
    """Return whether it is a response with our id and our question. Servers that did not understand it may leave the question out."""
    question = query[_HEADER : len(query) - (len(_OPTIONS) if query[11] else 0)]
    ours = reply[:2] == query[:2] and len(reply) >= _HEADER and bool(reply[2] & 0x80)
    return ours and (reply[4:6] == b"\0\0" or reply[_HEADER : _HEADER + len(question)].lower() == question.lower())


def _without_edns(query: bytes) -> bytes:
    return query[:10] + b"\0\0" + query[_HEADER : -len(_OPTIONS)] if query[11] else query


def _is_truncated(reply: bytes) -> bool:
    return len(reply) >= _HEADER and bool(reply[2] & 0x02)


@dataclass(frozen=True)
class _Reply:
    """The records that were asked for, how long they (or their absence) are valid, and the addresses in the additional section."""

    rcode: dns.rcode.Rcode
    found: tuple[Any, ...]
    ttl: float
    addresses: dict[tuple[str, str], tuple[float, list[Any]]]


def _parsed(wire: bytes, name: dns.name.Name, rtype: int) -> _Reply:
    """Return what a response to a question for `name` and `rtype` says, at the end of its aliases.

    This reads record by record, because `dns.message` groups them into sets first, which takes longer than all the rest. Raises
    DNSException or ValueError for a garbled response.
    """
    if wire[2] & 0x78:
        raise ValueError("answers another operation")
    answer, authority, additional = _sections(wire)
    rcode = wire[3] & 0x0F
    # RFC 6891 section 6.1.3: the upper bits of the response code are in the TTL field of the OPT record.
    rcode |= sum(ttl >> 24 << 4 for _, kind, ttl, _ in additional if kind == dns.rdatatype.OPT)
    lowest, links = _LONGEST, 0
    while not (found := [each for each in answer if each[1] == rtype and each[0] == name]):
        alias = next((each for each in answer if each[1] == dns.rdatatype.CNAME and each[0] == name), None)
        if alias is None:
            break
        name, lowest, links = alias[3].target, min(lowest, _limited(alias[2])), links + 1
        if links > len(answer):
            raise ValueError("goes round in circles")
    if found and rcode == dns.rcode.NXDOMAIN:
        raise ValueError("is there and is not")
    if found:
        lowest = min(lowest, *(_limited(each[2]) for each in found))
    else:
        # RFC 2308 section 5: the lesser of the SOA's TTL and its minimum; nothing without an SOA.
        ttls = (min(_limited(ttl), soa.minimum) for _, kind, ttl, soa in authority if kind == dns.rdatatype.SOA)
        # The alias that led here is valid only for its TTL.
        lowest = min(lowest, _LONGEST_NEGATIVE, min(ttls, default=0))
    along: dict[tuple[str, str], tuple[float, list[Any]]] = {}
    for owner, kind, ttl, record in additional:
        if kind in _ADDRESSES:
            there = (_text(owner), _ADDRESSES[kind])
            before, records = along.get(there, (_LONGEST, []))
            along[there] = (min(before, _limited(ttl)), [*records, record])
    return _Reply(dns.rcode.Rcode.make(rcode), tuple(each[3] for each in found), lowest, along)


def _sections(wire: bytes) -> list[list[tuple[dns.name.Name, int, int, Any]]]:
    """Return owner, type, TTL and value of each record, by section; only of the types that the client uses."""
    questions, *counts = struct.unpack_from("!4H", wire, 4)
    at = _HEADER
    if questions:
        at += dns.name.from_wire(wire, at)[1] + 4
    # Most owner names are a pointer of two bytes to a name that was read before.
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


def _limited(ttl: int) -> float:
    """Return a TTL, or 0 if its highest bit is set (RFC 2181 section 8)."""
    return 0.0 if ttl >> 31 else min(float(ttl), _LONGEST)


def _base(service: str, domain: str, protocol: str) -> str:
    """Return the service's name. Service and protocol may be given with or without their underscore."""
    label = _label(f"_{service.removeprefix('_')}")
    return f"{label}._{protocol.removeprefix('_')}.{domain.rstrip('.')}"


def _name(text: str) -> dns.name.Name:
    try:
        return dns.name.from_text(text)
    except (dns.exception.DNSException, ValueError) as wrong:
        raise FatalError(f"reason=no-dns-name name={_plain(text)}") from wrong


def _label(text: str) -> str:
    """Return one label as it is written in a name: an incarnation's label may contain dots and spaces (RFC 6763 section 4.3)."""
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
    """Return a name that is safe for one line on a terminal: a writer of the zone could put control characters into a name."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _several(resolvers: str | Sequence[str]) -> tuple[str, ...]:
    return (resolvers,) if isinstance(resolvers, str) else tuple(resolvers)


def _split(resolver: str) -> Server:
    """Parse a resolver: `HOST`, `HOST:PORT`, `[IPv6]:PORT` or an IPv6 address."""
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
    """Return a value that differs after resolv.conf, or the file that it is a link to, was written again."""
    try:
        found = Path(_RESOLV_CONF).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
