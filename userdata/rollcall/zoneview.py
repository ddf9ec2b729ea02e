"""Ask a zone's own name servers, one by one (RFC 1034 section 4.3), so that no cache is between.

Only a server that answers for the zone has a vote. A server has no vote if it answers REFUSED or SERVFAIL, is lame, is silent, or has no
address. It does not change what the others say: a resolver would ask the next one (RFC 2182 section 3.1, RFC 4697 section 2.2). If no
server has a vote, the resolvers of `rollcall:resolvers` or of this machine are asked, and the answers in their caches count.

The program's roll calls and the machines' agents both read DNS by this module. A machine has dnspython 2.3.

`ROLLCALL_DNS=HOST:PORT[,HOST:PORT…]` in the environment names the name servers to ask instead: a split-horizon primary, or a
sandbox. This machine's own resolvers are not asked then.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

_TIMEOUT_S, _DATAGRAMS = 2.0, 2
# For how long the list of name servers is used, and for how long a silent one is not asked while others answer.
_DISCOVERY_S, _QUIET_S = 60.0, 15.0
# RFC 2308 section 5 calls one to three hours a sensible limit of negative caching.
LONGEST_DELAY_S = 3600.0
_LONGEST_FAULT = 120
_SILENT = "does not answer"


@dataclass(frozen=True, order=True, kw_only=True)
class Server:
    """A name server or a resolver. `name` is its host name, empty if only its address is known."""

    address: str
    port: int = 53
    name: str = ""

    def __str__(self) -> str:
        at = f"[{self.address}]" if ":" in self.address and self.port != 53 else self.address
        at += "" if self.port == 53 else f":{self.port}"
        return f"{self.name} ({at})" if self.name else at


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer of one server: the values, or why it has no vote.

    `ttl`: seconds for which a cache may keep it. `missing`: the name does not exist (NXDOMAIN).
    """

    values: frozenset[str] = frozenset()
    fault: str = ""
    ttl: float = 0.0
    silent: bool = False
    missing: bool = False

    def __str__(self) -> str:
        return self.fault or f"answers {', '.join(sorted(self.values)) or 'nothing'}"


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """A zone's name servers.

    `second` are the IPv6 addresses of servers that have IPv4 too. They are asked if no other server answers. `faults` say why a server
    cannot be asked at all, by the name of its NS record or of the zone.
    """

    servers: tuple[Server, ...] = ()
    second: tuple[Server, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)


class ZoneView:
    """The answers of the name servers of one zone, or of resolvers if no name server has a vote. Threads may share it."""

    def __init__(
        self,
        zone: str,
        resolvers: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        quiet: float = _QUIET_S,
    ) -> None:
        self._zone, self._clock, self._quiet_s = zone, clock, quiet
        self.resolvers = resolvers_of(resolvers)
        self._lock = threading.Lock()
        self._found: tuple[float, Discovery] | None = None
        self._quiet: dict[Server, float] = {}
        self._faults: dict[str, str] = {}
        self._instead = False
        self._delay = 0.0

    def all_of(self, name: str, rtype: str) -> frozenset[str]:
        """Return the values of `name` that every server with a vote answers; empty if no server has one."""
        votes = self.votes(name, rtype)
        return frozenset.intersection(*votes) if votes else frozenset()

    def any_of(self, name: str, rtype: str) -> frozenset[str]:
        """Return the values of `name` that at least one server with a vote still answers. A cache may still read them."""
        return frozenset().union(*self.votes(name, rtype))

    @property
    def instead(self) -> bool:
        """Whether resolvers are asked instead: no name server had a vote at the last query."""
        return self._instead

    @property
    def delay(self) -> float:
        """Seconds by which an answer may be old. If only resolvers can be asked, this is the time for which they cache answers."""
        return self._delay if self._instead else 0.0

    @property
    def negative_s(self) -> float:
        """For how many seconds a name that was asked too early stays hidden: 0, because no cache is asked."""
        return 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each server that had no vote at the last query, or one line that says why resolvers are asked."""
        with self._lock:
            faults = [f"{name_server} {problem}" for name_server, problem in sorted(self._faults.items())]
        if not self._instead:
            return tuple(f"{self._zone}: the name server {each}, so it has no vote" for each in faults)
        blocked = all(problem == _SILENT for problem in self._faults.values())
        problem = (
            f"{'; '.join(faults) or 'none is known'}{'; is port 53 blocked outward?' if blocked and faults else ''}"
        )
        head = f"{self._zone}: none of its name servers can be asked from here ({problem})."
        if not self.resolvers:
            return (f"{head} Set rollcall:resolvers to resolvers that can be asked.",)
        resolvers = ", ".join(map(str, self.resolvers))
        return (f"{head} The resolvers {resolvers} are asked instead; their caches may be {self._delay:.0f} s behind.",)

    def compare(self, name: str, rtype: str) -> str:
        """Return what each name server and each resolver answers for `name`, as one line."""
        found = self._discovered()
        here = {
            **self._query_all(found.servers, name, rtype),
            **self._query_all(self.resolvers, name, rtype, recursive=True),
        }
        lines = [f"{'resolver ' if each in self.resolvers else ''}{each} {reply}" for each, reply in here.items()]
        lines += [f"{name_server} {problem}" for name_server, problem in sorted(found.faults.items())]
        return f"{name} {rtype}: {'; '.join(lines) or 'no server can be asked'}"

    def split(self, name: str, rtype: str) -> str:
        """Return what the name servers and the resolvers answer, as one line; empty if they agree."""
        if not self.resolvers or self._instead:
            return ""
        votes = self.votes(name, rtype)
        replies = self._query_all(self.resolvers, name, rtype, recursive=True)
        apart = [each for each, reply in replies.items() if not reply.fault and votes and reply.values not in votes]
        if not apart or self._instead:
            return ""
        late = max(min(replies[each].ttl, LONGEST_DELAY_S) for each in apart)
        details = "; ".join(f"the resolver {each} {replies[each]}" for each in apart)
        theirs = Reply(values=frozenset().union(*votes))
        here = f"{name} {rtype}: the name servers {str(theirs).replace('answers', 'answer', 1)}; {details}."
        return f"{here} It has another view, or keeps old answers for up to {late:.0f} s."

    def votes(self, name: str, rtype: str, *, cached: bool = True) -> list[frozenset[str]]:
        """Return what each server with a vote answers. If none has one and `cached` is true, return what the resolvers answer.

        A resolver that is asked for a name too early caches for a long time that the name does not exist.
        """
        votes = [each.values for each in self._voting(name, rtype)]
        if votes or not cached:
            return votes
        replies = self._query_all(self.resolvers, name, rtype, recursive=True)
        heard = [each for each in replies.values() if not each.fault]
        with self._lock:
            self._faults.update({f"resolver {each}": reply.fault for each, reply in replies.items() if reply.fault})
            self._delay = min(max((self._delay, *(each.ttl for each in heard))), LONGEST_DELAY_S)
        return [each.values for each in heard]

    def ttls(self, name: str, rtype: str, values: Collection[str]) -> set[float] | None:
        """Return the TTLs with which name servers answer all of `values`; an empty set if no server does.

        Return None if no server has a vote. Resolvers are not asked, because a cache counts TTLs down.
        """
        replies = self._voting(name, rtype)
        return {each.ttl for each in replies if each.values >= {*values}} if replies else None

    def _voting(self, name: str, rtype: str) -> list[Reply]:
        """Return the replies of the name servers with a vote."""
        found, now = self._discovered(), self._clock()
        with self._lock:
            quiet = {each for each, until in self._quiet.items() if until > now}
        awake = [[each for each in some if each not in quiet] for some in (found.servers, found.second)]
        again = [] if self.resolvers else [each for each in (*found.servers, *found.second) if each in quiet]
        replies: dict[Server, Reply] = {}
        votes: list[Reply] = []
        for some in (*awake, again):
            if not votes:
                replies |= self._query_all(some, name, rtype)
                votes = [each for each in replies.values() if not each.fault]
        self._note(found, replies, quiet)
        self._instead = not votes
        return votes

    def _note(self, found: Discovery, replies: Mapping[Server, Reply], quiet: Iterable[Server]) -> None:
        with self._lock:
            now = self._clock()
            self._quiet.update({each: now + self._quiet_s for each, reply in replies.items() if reply.silent})
            left = {str(each): self._faults.get(str(each), _SILENT) for each in quiet if each not in replies}
            self._faults = {**found.faults, **left}
            self._faults.update({str(each): reply.fault for each, reply in replies.items() if reply.fault})

    def _query_all(
        self, servers: Sequence[Server], name: str, rtype: str, *, recursive: bool = False
    ) -> dict[Server, Reply]:
        """Ask all servers at the same time, because a silent one takes seconds."""
        if len(servers) < 2:
            return {each: _query(each, self._zone, name, rtype, recursive=recursive) for each in servers}
        with ThreadPoolExecutor(max_workers=len(servers)) as pool:
            replies = pool.map(lambda each: _query(each, self._zone, name, rtype, recursive=recursive), servers)
            return dict(zip(servers, replies, strict=True))

    def _discovered(self) -> Discovery:
        with self._lock:
            if self._found is None or self._clock() - self._found[0] > _DISCOVERY_S:
                found, before = name_servers(self._zone, self.resolvers), self._found
                # Keep the known name servers while resolvers fail.
                if before and not found.servers:
                    found = replace(before[1], faults=found.faults)
                self._found = (self._clock(), found)
            return self._found[1]


class ResolverView(ZoneView):
    """The answers of this machine's resolvers. They alone answer for the private zones of the machine's network.

    An answer may be as old as its TTL.
    """

    def __init__(
        self, zone: str, resolvers: Sequence[Server] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(zone, clock=clock)
        self.resolvers = own_resolvers() if resolvers is None else tuple(resolvers)
        self._negative, self._negative_at, self._queried_at = 0.0, -_DISCOVERY_S, -_DISCOVERY_S

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each resolver that did not answer the last query."""
        with self._lock:
            return tuple(f"{self._zone}: the resolver {each} {fault}" for each, fault in sorted(self._faults.items()))

    @property
    def negative_s(self) -> float:
        """For how many seconds the resolvers remember that a name does not exist: the lesser of the SOA's TTL and its minimum.

        A cache counts the TTL down. So an earlier, larger answer counts until it has expired.
        """
        now = self._clock()
        if now - self._queried_at >= _DISCOVERY_S:
            self._queried_at = now
            for each in self._voting(self._zone, "SOA"):
                shortest = min((min(each.ttl, float(value.split()[-1])) for value in each.values), default=0.0)
                if each.values and (shortest >= self._negative or now - self._negative_at >= self._negative):
                    self._negative, self._negative_at = shortest, now
        return self._negative

    def ttls(self, name: str, rtype: str, values: Collection[str]) -> set[float] | None:
        """Return an empty set if no resolver answers all of `values`. Otherwise return None, because a cache counts TTLs down."""
        replies = self._voting(name, rtype)
        return None if not replies or any(each.values >= {*values} for each in replies) else set()

    def _voting(self, name: str, rtype: str) -> list[Reply]:
        replies = self._query_all(self.resolvers, name, rtype, recursive=True)
        with self._lock:
            self._faults = {str(each): reply.fault for each, reply in replies.items() if reply.fault}
        return [each for each in replies.values() if not each.fault]

    def votes(self, name: str, rtype: str, *, cached: bool = True) -> list[frozenset[str]]:
        return [each.values for each in self._voting(name, rtype)]


def name_servers(zone: str, resolvers: Sequence[Server] = ()) -> Discovery:
    """Return the name servers of `zone`: those in ROLLCALL_DNS, otherwise those of its NS records, as the resolvers answer."""
    override = os.environ.get("ROLLCALL_DNS")
    if override:
        return Discovery(servers=tuple(server(each) for each in override.replace(",", " ").split()))
    reply = _resolved(zone, "NS", resolvers)
    if not reply.values:
        return Discovery(faults={zone: f"has no NS records that can be looked up ({_reason_for_none(reply)})"})
    servers: list[Server] = []
    second: list[Server] = []
    faults: dict[str, str] = {}
    for name in sorted(each.rstrip(".") for each in reply.values):
        ipv4, ipv6, why = _addresses(name, resolvers)
        servers += [Server(address=each, name=name) for each in ipv4 or ipv6]
        second += [Server(address=each, name=name) for each in ipv6 if ipv4]
        faults.update({name: why} if why else {})
    return Discovery(servers=tuple(servers), second=tuple(second), faults=faults)


def _addresses(name: str, resolvers: Sequence[Server]) -> tuple[list[str], list[str], str]:
    """Return a name server's IPv4 addresses, its IPv6 addresses, and why it has neither."""
    found = [_resolved(name, rtype, resolvers) for rtype in ("A", "AAAA")]
    ipv4, ipv6 = (sorted(reply.values) for reply in found)
    failed = next((reply.fault for reply in found if reply.fault), "")
    why = f"has no address that can be looked up ({failed})" if failed else "has no address"
    return ipv4, ipv6, "" if ipv4 or ipv6 else why


def _resolved(name: str, rtype: str, resolvers: Sequence[Server]) -> Reply:
    """Return the reply of the first resolver that answers."""
    reply = Reply(fault="no resolver is known")
    for each in resolvers:
        reply = _query(each, name, name, rtype, recursive=True)
        if not reply.fault:
            break
    return reply


def _reason_for_none(reply: Reply) -> str:
    return reply.fault or ("NXDOMAIN" if reply.missing else "no such record")


def resolvers_of(listed: Sequence[str]) -> tuple[Server, ...]:
    """Return the resolvers of the configuration, or those of this machine; none of them if ROLLCALL_DNS replaces all of DNS."""
    if listed or os.environ.get("ROLLCALL_DNS"):
        return tuple(server(each) for each in listed)
    return own_resolvers()


def own_resolvers() -> tuple[Server, ...]:
    """Return the resolvers in this machine's resolv.conf (https://man7.org/linux/man-pages/man5/resolv.conf.5.html)."""
    with contextlib.suppress(dns.exception.DNSException, OSError):
        own = dns.resolver.Resolver().nameservers
        return tuple(Server(address=each) for each in own if isinstance(each, str) and not each.startswith("https:"))
    return ()


def server(text: str) -> Server:
    """Parse a server: `192.0.2.53`, `192.0.2.53:5353`, `2001:db8::53` or `[2001:db8::53]:5353`."""
    host, colon, port = text.rpartition(":")
    if text.count(":") == 1 or (colon and host.endswith("]")):
        return Server(address=host.strip("[]"), port=int(port))
    return Server(address=text.strip("[]"))


def _query(one_server: Server, zone: str, name: str, rtype: str, *, recursive: bool) -> Reply:
    query = dns.message.make_query(name, rtype)
    if not recursive:
        query.flags &= ~dns.flags.RD
    for _ in range(_DATAGRAMS):
        try:
            reply, _ = dns.query.udp_with_fallback(query, one_server.address, port=one_server.port, timeout=_TIMEOUT_S)
            return judged(reply, zone, rtype, recursive=recursive)
        except dns.exception.Timeout:
            continue
        except (dns.exception.DNSException, OSError) as failed:
            return Reply(fault=f"cannot be asked ({_reason(failed)})")
    return Reply(fault=_SILENT, silent=True)


def judged(reply: dns.message.Message, zone: str, rtype: str, *, recursive: bool) -> Reply:
    """Return what a reply says, and whether it has a vote.

    RCODE 0 and 3 are answers. Every other RCODE says that the server did not answer (RFC 1035 section 4.1.1). A server to which a zone is
    delegated is lame if it does not answer for it with authority (RFC 8499 section 7): AA is off, or it refers elsewhere. A resolver has no
    authority. It must offer recursion (RA); otherwise an empty answer says only that it has not asked any other server.
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
    values = frozenset(item.to_text() for each in here for item in each)
    return Reply(values=values, ttl=_cache_s(reply, bool(here)), missing=code == dns.rcode.NXDOMAIN)


def _lame(reply: dns.message.Message, zone: str) -> str:
    """Return why a reply is lame, if it is. A referral has NS records beside an empty answer (RFC 2308 section 2.2)."""
    to = next((each.name for each in reply.authority if each.rdtype == dns.rdatatype.NS), None)
    if reply.answer or to is None:
        return "is lame for this zone (its answer has no authority)"
    where = to.to_text()
    if dns.name.from_text(zone).is_subdomain(to):
        return f"is lame for this zone (it refers to the servers of {where})"
    return f"is not responsible there (the zone delegates {where} to others)"


def _cache_s(reply: dns.message.Message, answered: bool) -> float:
    """Return for how many seconds a cache may keep the reply.

    A positive one has its TTL; a negative one has the lower of the SOA's TTL and minimum (RFC 2308 section 5).
    """
    if answered:
        return float(min(each.ttl for each in reply.answer))
    starts = [each for each in reply.authority if each.rdtype == dns.rdatatype.SOA]
    return float(max((min(each.ttl, each[0].minimum) for each in starts), default=0))


def _reason(failed: Exception) -> str:
    """Return a short word for a failure, because dnspython's texts repeat every question."""
    return str(getattr(failed, "strerror", None) or failed or type(failed).__name__)[:_LONGEST_FAULT]
