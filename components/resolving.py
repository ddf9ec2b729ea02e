"""What a zone's own name servers answer, asked one by one (RFC 1034 section 4.3), not what some cache holds.

Only a server that answers for the zone has a vote. One that answers REFUSED or SERVFAIL, is lame, is silent, or has no address
takes nothing away from what the others say: a resolver would ask the next one (RFC 2182 section 3.1, RFC 4697 section 2.2). Where
none has a vote, the resolvers of `rollcall:resolvers` are asked, or those of this machine, and what they have in their caches counts.

`ROLLCALL_DNS=HOST:PORT[,HOST:PORT…]` in the environment names the name servers to ask instead: a split-horizon primary, or a
rehearsal. This machine's own resolvers are not asked then.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

_TIMEOUT_S, _TRIES = 2.0, 2
# How long the list of name servers counts, and how long a silent one is left alone while others answer.
_DISCOVERY_S, _QUIET_S = 60.0, 15.0
# RFC 2308 section 5 calls one to three hours a sensible limit of negative caching.
LONGEST_DELAY_S = 3600.0
_LONGEST_FAULT = 120
_SILENT = "does not answer"


@dataclass(frozen=True, order=True, kw_only=True)
class Server:
    """A name server or a resolver. `name` is its host name, empty where only its address is known."""

    address: str
    port: int = 53
    name: str = ""

    def __str__(self) -> str:
        at = f"[{self.address}]" if ":" in self.address and self.port != 53 else self.address
        at += "" if self.port == 53 else f":{self.port}"
        return f"{self.name} ({at})" if self.name else at


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What one server answers: the values, or why it has no vote. `ttl`: seconds for which a cache may keep it."""

    values: frozenset[str] = frozenset()
    fault: str = ""
    ttl: float = 0.0
    silent: bool = False

    def __str__(self) -> str:
        return self.fault or f"answers {', '.join(sorted(self.values)) or 'nothing'}"


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """A zone's name servers; `faults` say which cannot be asked at all, by the names of their NS records or of the zone."""

    servers: tuple[Server, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)


class ZoneView:
    """What the name servers of one zone answer, and its resolvers where no name server has a vote. Safe for threads."""

    def __init__(self, zone: str, resolvers: Sequence[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._zone, self._clock = zone, clock
        self.resolvers = resolvers_of(resolvers)
        self._lock = threading.Lock()
        self._found: tuple[float, Discovery] | None = None
        self._quiet: dict[Server, float] = {}
        self._faults: dict[str, str] = {}
        self._instead = False
        self._delay = 0.0

    def all_of(self, name: str, rtype: str) -> frozenset[str]:
        """The values of `name` that everyone with a vote answers with; empty where nobody has one."""
        votes = self._votes(name, rtype)
        return frozenset.intersection(*votes) if votes else frozenset()

    def any_of(self, name: str, rtype: str) -> frozenset[str]:
        """The values of `name` that somebody with a vote still answers with: a cache may take them up yet."""
        return frozenset().union(*self._votes(name, rtype))

    @property
    def delay(self) -> float:
        """Seconds by which an answer may be behind: what resolvers keep in their caches where only they can be asked."""
        return self._delay if self._instead else 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each server without a vote, as it was last asked; or one line that says why the resolvers are asked."""
        with self._lock:
            faults = [f"{who} {why}" for who, why in sorted(self._faults.items())]
        if not self._instead:
            return tuple(f"{self._zone}: the name server {each}, so it has no vote" for each in faults)
        blocked = all(why == _SILENT for why in self._faults.values())
        why = f"{'; '.join(faults) or 'none is known'}{'; is port 53 blocked outward?' if blocked and faults else ''}"
        head = f"{self._zone}: none of its name servers can be asked from here ({why})."
        if not self.resolvers:
            return (f"{head} Set rollcall:resolvers to resolvers that can be asked.",)
        told = ", ".join(map(str, self.resolvers))
        return (f"{head} The resolvers {told} are asked instead; their caches may be {self._delay:.0f} s behind.",)

    def compare(self, name: str, rtype: str) -> str:
        """What each name server and each resolver answers for `name`, as one line."""
        found = self._discovered()
        here = {**self._asked(found.servers, name, rtype), **self._asked(self.resolvers, name, rtype, recursive=True)}
        lines = [f"{'resolver ' if each in self.resolvers else ''}{each} {reply}" for each, reply in here.items()]
        lines += [f"{who} {why}" for who, why in sorted(found.faults.items())]
        return f"{name} {rtype}: {'; '.join(lines) or 'nobody can be asked'}"

    def split(self, name: str, rtype: str) -> str:
        """What the name servers and the resolvers answer where they differ, as one line; else empty."""
        if not self.resolvers or self._instead:
            return ""
        votes = self._votes(name, rtype)
        replies = self._asked(self.resolvers, name, rtype, recursive=True)
        apart = [each for each, reply in replies.items() if not reply.fault and votes and reply.values not in votes]
        if not apart or self._instead:
            return ""
        late = max(min(replies[each].ttl, LONGEST_DELAY_S) for each in apart)
        said = "; ".join(f"the resolver {each} {replies[each]}" for each in apart)
        theirs = Reply(values=frozenset().union(*votes))
        here = f"{name} {rtype}: the name servers {str(theirs).replace('answers', 'answer', 1)}; {said}."
        return f"{here} It has a view of its own, or keeps old answers for up to {late:.0f} s."

    def _votes(self, name: str, rtype: str) -> list[frozenset[str]]:
        found, now = self._discovered(), self._clock()
        with self._lock:
            quiet = {each for each, until in self._quiet.items() if until > now}
        asked = self._asked([each for each in found.servers if each not in quiet], name, rtype)
        votes = [each.values for each in asked.values() if not each.fault]
        if not votes and quiet and not self.resolvers:
            asked |= self._asked([each for each in found.servers if each in quiet], name, rtype)
            votes = [each.values for each in asked.values() if not each.fault]
        self._note(found, asked, quiet)
        self._instead = not votes
        if votes:
            return votes
        replies = self._asked(self.resolvers, name, rtype, recursive=True)
        heard = [each for each in replies.values() if not each.fault]
        with self._lock:
            self._faults.update({f"resolver {each}": reply.fault for each, reply in replies.items() if reply.fault})
            self._delay = min(max((self._delay, *(each.ttl for each in heard))), LONGEST_DELAY_S)
        return [each.values for each in heard]

    def _note(self, found: Discovery, asked: Mapping[Server, Reply], quiet: Iterable[Server]) -> None:
        with self._lock:
            now = self._clock()
            self._quiet.update({each: now + _QUIET_S for each, reply in asked.items() if reply.silent})
            left = {str(each): self._faults.get(str(each), _SILENT) for each in quiet if each not in asked}
            self._faults = {**found.faults, **left}
            self._faults.update({str(each): reply.fault for each, reply in asked.items() if reply.fault})

    def _asked(
        self, servers: Sequence[Server], name: str, rtype: str, *, recursive: bool = False
    ) -> dict[Server, Reply]:
        """All at the same time: a silent one costs seconds."""
        if len(servers) < 2:
            return {each: _ask(each, self._zone, name, rtype, recursive=recursive) for each in servers}
        with ThreadPoolExecutor(max_workers=len(servers)) as pool:
            replies = pool.map(lambda each: _ask(each, self._zone, name, rtype, recursive=recursive), servers)
            return dict(zip(servers, replies, strict=True))

    def _discovered(self) -> Discovery:
        with self._lock:
            if self._found is None or self._clock() - self._found[0] > _DISCOVERY_S:
                self._found = (self._clock(), name_servers(self._zone, self.resolvers))
            return self._found[1]


def name_servers(zone: str, resolvers: Sequence[Server] = ()) -> Discovery:
    """The name servers of `zone`: those that ROLLCALL_DNS names, else those of its NS records as the resolvers know them."""
    override = os.environ.get("ROLLCALL_DNS")
    if override:
        return Discovery(servers=tuple(server(each) for each in override.replace(",", " ").split()))
    try:
        names = sorted(str(each.target).rstrip(".") for each in _looked_up(zone, "NS", resolvers))
    except (dns.exception.DNSException, OSError) as failed:
        return Discovery(faults={zone: f"has no NS records that can be looked up ({_reason(failed)})"})
    servers: list[Server] = []
    faults: dict[str, str] = {}
    for name in names:
        found, why = _addresses(name, resolvers)
        servers += [Server(address=each, name=name) for each in found]
        faults.update({} if found else {name: why})
    return Discovery(servers=tuple(servers), faults=faults)


def _addresses(name: str, resolvers: Sequence[Server]) -> tuple[list[str], str]:
    """A name server's IPv4 addresses, or its IPv6 ones where it has no others; or why there are none."""
    why = "has no address"
    for rtype in ("A", "AAAA"):
        try:
            return [each.address for each in _looked_up(name, rtype, resolvers)], ""
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            continue
        except (dns.exception.DNSException, OSError) as failed:
            why = f"has no address that can be looked up ({_reason(failed)})"
    return [], why


def _looked_up(name: str, rtype: str, resolvers: Sequence[Server]) -> list[Any]:
    asked = dns.resolver.Resolver(configure=False)
    asked.nameservers = [dns.nameserver.Do53Nameserver(each.address, each.port) for each in resolvers]
    return list(asked.resolve(name, rtype, lifetime=_TIMEOUT_S * 3))


def resolvers_of(listed: Sequence[str]) -> tuple[Server, ...]:
    """The resolvers of the configuration, or those of this machine, unless ROLLCALL_DNS stands for all of DNS."""
    if listed or os.environ.get("ROLLCALL_DNS"):
        return tuple(server(each) for each in listed)
    return own_resolvers()


def own_resolvers() -> tuple[Server, ...]:
    """Those of this machine's resolv.conf (https://man7.org/linux/man-pages/man5/resolv.conf.5.html)."""
    with contextlib.suppress(dns.exception.DNSException, OSError):
        own = dns.resolver.Resolver().nameservers
        return tuple(Server(address=each) for each in own if isinstance(each, str) and not each.startswith("https:"))
    return ()


def server(text: str) -> Server:
    """`192.0.2.53`, `192.0.2.53:5353`, `2001:db8::53` or `[2001:db8::53]:5353`."""
    host, colon, port = text.rpartition(":")
    if text.count(":") == 1 or (colon and host.endswith("]")):
        return Server(address=host.strip("[]"), port=int(port))
    return Server(address=text.strip("[]"))


def _ask(asked: Server, zone: str, name: str, rtype: str, *, recursive: bool) -> Reply:
    query = dns.message.make_query(name, rtype)
    if not recursive:
        query.flags &= ~dns.flags.RD
    for _ in range(_TRIES):
        try:
            reply, _ = dns.query.udp_with_fallback(query, asked.address, port=asked.port, timeout=_TIMEOUT_S)
            return judged(reply, zone, rtype, recursive=recursive)
        except dns.exception.Timeout:
            continue
        except (dns.exception.DNSException, OSError) as failed:
            return Reply(fault=f"cannot be asked ({_reason(failed)})")
    return Reply(fault=_SILENT, silent=True)


def judged(reply: dns.message.Message, zone: str, rtype: str, *, recursive: bool) -> Reply:
    """What a reply says, and whether it has a vote.

    RCODE 0 and 3 are answers; every other one says that the server did not answer (RFC 1035 section 4.1.1). A server to which a zone is
    delegated, and which does not answer for it with authority, is lame (RFC 8499 section 7): AA is off, or it refers elsewhere.
    A resolver has no authority; it must offer recursion (RA), or an empty answer says only that it has not looked.
    """
    code = reply.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return Reply(fault=f"answers {dns.rcode.to_text(code)}")
    if recursive and not reply.flags & dns.flags.RA:
        return Reply(fault="offers no recursion")
    if not recursive and not reply.flags & dns.flags.AA:
        return Reply(fault=_lame(reply, zone))
    wanted = dns.rdatatype.from_text(rtype)
    here = [each for each in reply.answer if each.rdtype == wanted]
    return Reply(values=frozenset(item.to_text() for each in here for item in each), ttl=_kept(reply, bool(here)))


def _lame(reply: dns.message.Message, zone: str) -> str:
    """A referral has NS records beside an empty answer (RFC 2308 section 2.2)."""
    to = next((each.name for each in reply.authority if each.rdtype == dns.rdatatype.NS), None)
    if reply.answer or to is None:
        return "is lame for this zone (its answer has no authority)"
    where = to.to_text()
    if dns.name.from_text(zone).is_subdomain(to):
        return f"is lame for this zone (it refers to the servers of {where})"
    return f"has no say there (the zone delegates {where} to others)"


def _kept(reply: dns.message.Message, answered: bool) -> float:
    """For how long a cache may keep the reply: a positive one by its TTL, a negative one by the lower of the SOA's TTL and minimum
    (RFC 2308 section 5)."""
    if answered:
        return float(min(each.ttl for each in reply.answer))
    starts = [each for each in reply.authority if each.rdtype == dns.rdatatype.SOA]
    return float(max((min(each.ttl, each[0].minimum) for each in starts), default=0))


def _reason(failed: Exception) -> str:
    """A short word for what went wrong: the texts of dnspython's exceptions repeat every question."""
    words = {
        dns.resolver.NXDOMAIN: "NXDOMAIN",
        dns.resolver.NoAnswer: "no such record",
        dns.resolver.NoNameservers: "no resolver answers it",
        dns.exception.Timeout: "timed out",
    }
    named = next((word for kind, word in words.items() if isinstance(failed, kind)), None)
    return named or str(getattr(failed, "strerror", None) or failed or type(failed).__name__)[:_LONGEST_FAULT]
