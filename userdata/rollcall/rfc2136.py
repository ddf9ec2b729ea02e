"""Zones on a name server that accepts dynamic updates (RFC 2136), signed with a TSIG key (RFC 8945): BIND, Knot or PowerDNS.

An update is all or nothing, and its prerequisites (RFC 2136 section 2.4) say what the record sets must be. So an SRV set changes by
compare-and-swap as in Route53, and `rollcall.route53.Route53Registry` works on `Rfc2136Store`. The zone is listed by a transfer (AXFR,
RFC 5936), which shows one version of it.

A record has no comment, so the ownership marks of a site's addresses are in one TXT record set at `rc.HOST`, with one value for each
address: `"ADDRESS MARK"`. Marks are added and removed one by one, so no change of another machine is lost. Addresses without a mark keep
every byte.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update
import dns.xfr
import dns.zone

from rollcall import plan
from rollcall.cloudflare import Record
from rollcall.errors import FatalError, RefusedError, RollcallError, TransientError
from rollcall.ownership import KEPT, Owner
from rollcall.registry import RetriedService
from rollcall.route53 import RecordSet, begins, challengers_at, put_challenge
from rollcall.route53api import ConflictError
from rollcall.settings import HOSTS_LABEL, Rfc2136Join, Rfc2136SiteJoin, challenge_name, record_type

_TIMEOUT_S, _TRANSFER_S = 5.0, 20.0
_TRIES = 25
MARK_TTL_S = 60
_TYPES = ("A", "AAAA", "TXT", "SRV", "CNAME")
# A prerequisite was not met (RFC 2136 section 2.2).
_CONFLICTS = (dns.rcode.YXDOMAIN, dns.rcode.YXRRSET, dns.rcode.NXRRSET, dns.rcode.NXDOMAIN)
_KEY = re.compile(r"(?:(hmac-[a-z0-9-]+):)?((?!hmac-)[^:\s]+):([A-Za-z0-9+/]{2,}={0,2})", re.IGNORECASE)
_CHECKS = {
    "REFUSED": "does the server allow this key to update and transfer the zone?",
    "SERVFAIL": "does the server take so many records in a set (max-records-per-type of BIND)?",
    "NOTAUTH": "does the server have this zone as its primary?",
    "NOTZONE": "is the name in this zone?",
    "NOTIMP": "does the server take dynamic updates?",
    # Knot also answers so if the key does not have the permission.
    "BADKEY": "does the server know this key by its name and algorithm, and allow it this?",
    "BADSIG": "is the secret of the key the server's?",
    "BADTIME": "are the clocks of machine and server right?",
}


@dataclass(frozen=True)
class TsigKey:
    """A key in the form of nsupdate's `-y`: `hmac-sha256:NAME:SECRET`, the secret in Base64. The default algorithm is hmac-sha256."""

    name: str
    secret: str
    algorithm: str = "hmac-sha256"

    @classmethod
    def parse(cls, text: str) -> TsigKey:
        """Read a key. Raises FatalError, and its message has no part of `text`, which is a secret."""
        found = _KEY.fullmatch(text.strip())
        try:
            key = cls(found[2], found[3], (found[1] or cls.algorithm).lower()) if found else None
            if key is not None:
                key.dnspython()
                return key
        except (ValueError, NotImplementedError, dns.exception.DNSException):
            pass
        raise FatalError("reason=bad-key api=rfc2136 fix='write it as hmac-sha256:NAME:BASE64'")

    def dnspython(self) -> dns.tsig.Key:
        key = dns.tsig.Key(self.name, self.secret, self.algorithm)
        # dnspython reports an unknown algorithm only when it signs, so sign here.
        dns.tsig.get_context(key)  # type: ignore[no-untyped-call]
        return key


class Rfc2136Zone:
    """One zone at its primary server, `ADDRESS@PORT`. It does not retry.

    Raises TransientError, FatalError, and ConflictError if a prerequisite is not met.
    """

    def __init__(self, domain: str, server: str, key: TsigKey) -> None:
        self.domain = domain.lower()
        self.server = server
        address, _, port = server.partition("@")
        self._address, self._port = address, int(port or 53)
        self._key = key.dnspython()

    def sets(self) -> tuple[RecordSet, ...]:
        """Return every record set of the zone, as of one moment."""
        zone = dns.zone.Zone(self.domain, relativize=False)
        with self._understood("transfer"):
            query, _ = dns.xfr.make_query(zone, serial=None, keyring=self._key)
            dns.query.inbound_xfr(self._address, zone, query, port=self._port, timeout=_TIMEOUT_S, lifetime=_TRANSFER_S)
        return tuple(
            RecordSet(_text(name), dns.rdatatype.to_text(each.rdtype), each.ttl, _values(each))
            for name, each in zone.iterate_rdatasets()
        )

    def at(self, name: str, types: Collection[str] = _TYPES) -> tuple[RecordSet, ...]:
        """Return the record sets of these types at a name."""
        found = []
        with self._understood("query"), self._connected() as connection:
            for rtype in types:
                query = dns.message.make_query(name, rtype, flags=0)
                query.use_tsig(self._key)
                reply = self._checked(dns.query.tcp(query, self._address, _TIMEOUT_S, sock=connection))
                if reply.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                    raise self._error(dns.rcode.to_text(reply.rcode()), "query")
                if not reply.flags & dns.flags.AA:
                    raise self._error("NOTAUTH", "query")
                here = (each for each in reply.answer if _text(each.name) == name.lower())
                found += [
                    RecordSet(name.lower(), rtype, each.ttl, _values(each))
                    for each in here
                    if each.rdtype == dns.rdatatype.from_text(rtype)
                ]
        return tuple(found)

    def message(self) -> dns.update.UpdateMessage:
        """Return an update of this zone that changes nothing yet."""
        return dns.update.UpdateMessage(self.domain, keyring=self._key)

    def send(self, update: dns.update.UpdateMessage) -> None:
        """Send an update to the server."""
        with self._understood("update"), self._connected() as connection:
            reply = self._checked(dns.query.tcp(update, self._address, _TIMEOUT_S, sock=connection))
        if reply.rcode() in _CONFLICTS:
            raise ConflictError(f"reason=contended api=rfc2136 code={dns.rcode.to_text(reply.rcode())}")
        if reply.rcode() != dns.rcode.NOERROR:
            raise self._error(dns.rcode.to_text(reply.rcode()), "update")

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        with socket.create_connection((self._address, self._port), _TIMEOUT_S) as connection:
            # dnspython waits by itself, and needs a socket that does not block.
            connection.setblocking(False)
            yield connection

    def _checked(self, reply: dns.message.Message) -> dns.message.Message:
        """Return `reply`, or raise if it is a success that is not signed. A forged reply could say so; an unsigned refusal counts."""
        if not reply.had_tsig and reply.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise self._unsigned("reply")
        return reply

    def _unsigned(self, doing: str) -> TransientError:
        """Return the error for a reply without a signature.

        Knot does not sign its answer that it lacks the zone, and an attacker or proxy cannot sign. dnspython 2.7 raises FormError.
        """
        check = "does the server have this zone?"
        return TransientError(f"reason=no-signed-reply api=rfc2136 server={self.server} doing={doing} check={check!r}")

    @contextlib.contextmanager
    def _understood(self, doing: str) -> Iterator[None]:
        """Translate what dnspython raises into the agent's errors."""
        try:
            yield
        except dns.tsig.PeerError as refused:
            codes = {
                dns.tsig.PeerBadKey: "BADKEY",
                dns.tsig.PeerBadSignature: "BADSIG",
                dns.tsig.PeerBadTime: "BADTIME",
            }
            raise self._error(codes.get(type(refused), "BADTRUNC"), doing) from refused
        except dns.tsig.BadTime as late:
            raise self._error("BADTIME", doing) from late
        except dns.xfr.TransferError as refused:
            raise self._error(dns.rcode.to_text(refused.rcode), doing) from refused
        except dns.exception.FormError as unsigned:
            raise self._unsigned(doing) from unsigned
        except (dns.exception.DNSException, OSError, EOFError) as failed:
            where = f"reason=unreachable api=rfc2136 server={self.server} doing={doing}"
            raise TransientError(f"{where} error={type(failed).__name__}") from failed

    def _error(self, code: str, doing: str) -> RollcallError:
        """Return the error for a response code (RFC 1035, RFC 2136) or an error of TSIG (RFC 8945 section 3)."""
        check = f" check={_CHECKS[code]!r}" if code in _CHECKS else ""
        text = f"reason=refused api=rfc2136 server={self.server} zone={self.domain} doing={doing} code={code}{check}"
        # BADTIME may end by itself: after a boot the clock may not be set yet.
        return TransientError(text) if code in ("SERVFAIL", "BADTIME") else FatalError(text)


class Rfc2136Store:
    """The record sets of a zone, as `rollcall.route53.Store`."""

    def __init__(self, zone: Rfc2136Zone) -> None:
        self.zone = zone

    def at(self, name: str) -> tuple[RecordSet, ...]:
        return self.zone.at(name)

    def beginning(self, name: str) -> tuple[RecordSet, ...]:
        return tuple(each for each in self.zone.sets() if begins(each.name, name.lower()))

    def under(self, *names: str) -> Iterator[list[RecordSet]]:
        ends = tuple(f".{each.lower()}" for each in names)
        yield [each for each in self.zone.sets() if f".{each.name}".endswith(ends)]

    def change(self, deletes: Iterable[RecordSet], creates: Iterable[RecordSet]) -> None:
        olds = {(each.name, each.type): each for each in deletes}
        news = {(each.name, each.type): each for each in creates}
        if not olds and not news:
            return
        update = self.zone.message()
        for old in olds.values():
            update.present(_absolute(old.name), old.type, *old.values)
        for name, rtype in news.keys() - olds.keys():
            update.absent(_absolute(name), rtype)
        for name in sorted({name for name, rtype in news if rtype != "CNAME"}):
            # A server silently ignores a record that is added beside a CNAME (RFC 2136 section 3.4.2.2).
            update.absent(_absolute(name), "CNAME")
        for at in sorted({*olds, *news}):
            _swap(update, olds.get(at), news.get(at))
        self.zone.send(update)


def _swap(update: dns.update.UpdateMessage, old: RecordSet | None, new: RecordSet | None) -> None:
    """Replace `old` by `new` in an update. Only the differences are in the message, since it has 65,535 bytes at most."""
    at = old or new
    assert at is not None
    common = set(old.values) & set(new.values) if old and new and old.ttl == new.ttl else set()
    if old and not common:
        update.delete(_absolute(at.name), at.type)
    for value in sorted({*old.values} - common) if old and common else ():
        update.delete(_absolute(at.name), at.type, value)
    for value in sorted({*new.values} - common) if new else ():
        update.add(_absolute(at.name), new.ttl, at.type, value)  # type: ignore[union-attr]


class RetriedRfc2136(RetriedService):
    """A membership in a service in a zone with dynamic updates."""

    API = "rfc2136"

    def __init__(self, join: Rfc2136Join, *given: Any, **named: Any) -> None:
        super().__init__(join, *given, **named)
        self._server = join.server

    def _open(self) -> tuple[Rfc2136Store, Callable[[], None]]:
        zone = Rfc2136Zone(self._join.domain, self._server, TsigKey.parse(self._key()))
        return Rfc2136Store(zone), lambda: None


class Rfc2136Site:
    """The A and AAAA records of a host in a zone with dynamic updates. Each use calls `key`, so the key may be rotated."""

    def __init__(
        self, join: Rfc2136SiteJoin, key: Callable[[], str], pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._join, self._key, self._pause = join, key, pause
        self.lives: Callable[[str, bool], bool] = lambda *_: False
        self.left_hosts: frozenset[str] = frozenset()
        # The records that this machine wrote. They are its own even if their marks were removed.
        self._ids: set[str] = set()
        self.size = 0
        self.members: tuple[str, ...] = ()
        self.generations: dict[str, str] = {}

    def join(self, owner: Owner, *addresses: str, kept: bool = False) -> bool:
        settings, site = self._join, self._site()
        present = self._list(site)
        record = Record(name=settings.host, type="", content="", ttl=settings.ttl, zone=settings.domain)
        wanted = [replace(record, type=record_type(each), content=each) for each in addresses]
        changes = plan.joining(present, owner, *wanted, kept=kept, ids=self._ids)
        if changes.refused:
            raise RefusedError(changes.refused)
        changed = site.apply(changes, owner, addresses)
        self._ids = {_id(record_type(each), each) for each in addresses}
        return changed

    def leave(self, owner: Owner) -> bool:
        return self.leave_set(owner)

    def leave_set(self, owner: Owner, *addresses: str) -> bool:
        site = self._site()
        changes = plan.leaving(self._list(site), owner, addresses, self._ids)
        changed = site.apply(changes, owner, ())
        self._ids -= {each.id for each in changes.deletes}
        return changed

    def remove_hosts(self, owner: Owner, hosts: Collection[str], *addresses: str) -> bool:
        """Remove nothing: a site has no hosts."""
        return False

    def leave_unhealthy(self, owner: Owner, floors: Mapping[str, int], *addresses: str) -> str:
        """Leave by compare-and-swap of the address records, so no record set falls below its floor because of this."""
        for _ in range(_TRIES):
            site = self._site()
            present = self._list(site)
            mine = plan.leaving(present, owner, addresses, self._ids).deletes
            why = plan.why_kept(present, mine, owner.stack, floors)
            if why:
                marked = [replace(each, comment=owner.mark(KEPT)) for each in mine]
                site.apply(plan.Plan(updates=tuple(marked)), owner, [each.content for each in mine])
                return why
            try:
                site.apply(plan.Plan(deletes=mine), owner, (), {each.type for each in mine})
                return ""
            except ConflictError:
                self._pause(random.uniform(0, 0.5))  # noqa: S311
        raise ConflictError(f"reason=contended name={self._join.host}")

    def owner_at(self, key: str) -> Owner | None:
        return next((Owner.parse(each.comment) for each in self._list(self._site()) if each.content == key), None)

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        return put_challenge(self._store(), challenge_name(owner, self._join), owner, on, by)

    def challengers(self, owner: Owner) -> tuple[str, ...]:
        return challengers_at(self._store(), challenge_name(owner, self._join), owner)

    def interrupt(self) -> None:
        """Do nothing: each request ends within seconds."""

    def _store(self) -> Rfc2136Store:
        return Rfc2136Store(Rfc2136Zone(self._join.domain, self._join.server, TsigKey.parse(self._key())))

    def _site(self) -> MarkedAddresses:
        return MarkedAddresses(self._join.host, self._store())

    def _list(self, site: MarkedAddresses) -> tuple[Record, ...]:
        present = site.list()
        self.size = len(present)
        owners = {each.content: Owner.parse(each.comment) for each in present}
        self.generations = {content: found.generation for content, found in owners.items() if found}
        return present


class MarkedAddresses:
    """The address records of a host with their ownership marks, in the form of a site's plan.

    The mark is the `comment`, and `id` is `TYPE ADDRESS`. Call `list` before `apply`.
    """

    def __init__(self, host: str, store: Rfc2136Store) -> None:
        self._host, self._zone = host.lower(), store.zone
        self._sets: dict[str, RecordSet] = {}
        self._marks: dict[str, tuple[str, ...]] = {}

    def list(self) -> tuple[Record, ...]:
        """Return every A, AAAA and CNAME record at the host, ours and foreign."""
        # `apply` removes marks without an address, so marks must be read first. An address without a mark may be new: read marks again
        # then.
        self._marks = self._read_marks()
        self._sets = {each.type: each for each in self._zone.at(self._host, ("A", "AAAA", "CNAME"))}
        here = {value for each in self._sets.values() for value in each.values}
        if here - self._marks.keys():
            self._marks |= {address: mark for address, mark in self._read_marks().items() if address in here}
        return tuple(
            Record(
                name=self._host,
                type=each.type,
                content=value,
                ttl=each.ttl,
                comment=self._marks.get(value, ("",))[0],
                zone=self._zone.domain,
                id=_id(each.type, value),
            )
            for each in self._sets.values()
            for value in each.values
        )

    def _read_marks(self) -> dict[str, tuple[str, ...]]:
        """Return the marks by address."""
        found: dict[str, tuple[str, ...]] = {}
        for text in (value for each in self._zone.at(mark_name(self._host), ("TXT",)) for value in each.values):
            address, _, mark = text.strip('"').partition(" ")
            if Owner.parse(mark) is not None:
                found[address] = (*found.get(address, ()), mark)
        return found

    def apply(
        self, changes: plan.Plan, owner: Owner | None, staying: Collection[str], unchanged: Collection[str] = ()
    ) -> bool:
        """Make these changes in one update, if the sets of the types `unchanged` are as `list` found them. Return whether anything changed.

        The update also removes the marks of `owner` at addresses other than `staying`, and marks of its stack that have no address.
        """
        update, news = self._zone.message(), self._changed(changes)
        for rtype, new in sorted(news.items()):
            old = self._sets.get(rtype)
            if old is not None and (rtype in unchanged or old.ttl != new.ttl):
                update.present(_absolute(self._host), rtype, *old.values)
            update.absent(_absolute(self._host), "CNAME")
            _swap(update, old, new if new.values else None)
        marks = {(address, mark) for address, each in self._marks.items() for mark in each}
        wanted = self._wanted(marks, changes, owner, staying)
        for address, mark in sorted(marks - wanted):
            update.delete(_absolute(mark_name(self._host)), "TXT", f'"{address} {mark}"')
        for address, mark in sorted(wanted - marks):
            update.add(_absolute(mark_name(self._host)), MARK_TTL_S, "TXT", f'"{address} {mark}"')
        if not news and wanted == marks:
            return False
        self._zone.send(update)
        return True

    def _changed(self, changes: plan.Plan) -> dict[str, RecordSet]:
        """Return the new address sets by type; only those that change. A set has one TTL (RFC 2181 section 5.2)."""
        news = dict(self._sets)
        for each in (*changes.deletes, *(_before(each) for each in changes.updates)):
            old = news[each.type]
            news[each.type] = replace(old, values=tuple(value for value in old.values if value != each.content))
        for each in (*changes.updates, *changes.creates):
            values = news[each.type].values if each.type in news else ()
            news[each.type] = RecordSet(self._host, each.type, each.ttl, tuple(sorted({*values, each.content})))
        return {rtype: new for rtype, new in news.items() if new != self._sets.get(rtype)}

    def _wanted(
        self, marks: Iterable[tuple[str, str]], changes: plan.Plan, owner: Owner | None, staying: Collection[str]
    ) -> set[tuple[str, str]]:
        """Return the new marks."""
        here = {value for each in self._sets.values() for value in each.values}
        written = (*changes.updates, *changes.creates)
        gone = {each.content for each in (*changes.deletes, *map(_before, changes.updates), *written)}
        stay = {each for each in marks if each[0] not in gone and not self._is_over(*each, owner, {*staying}, here)}
        return stay | {(each.content, each.comment) for each in written}

    @staticmethod
    def _is_over(address: str, mark: str, owner: Owner | None, staying: Collection[str], here: Collection[str]) -> bool:
        found = Owner.parse(mark)
        return (
            found is not None
            and owner is not None
            and ((found == owner and address not in staying) or (found.stack == owner.stack and address not in here))
        )


def mark_name(host: str) -> str:
    """Return the name of the marks of a site's addresses. Challenges are below it."""
    return f"{HOSTS_LABEL}.{host}".lower()


def _before(changed: Record) -> Record:
    """Return a record that will be changed as it is now."""
    rtype, _, content = changed.id.partition(" ")
    return replace(changed, type=rtype, content=content)


def _id(rtype: str, address: str) -> str:
    return f"{rtype} {address}"


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(name)


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _values(found: Iterable[object]) -> tuple[str, ...]:
    return tuple(sorted(each.to_text() for each in found))  # type: ignore[attr-defined]
