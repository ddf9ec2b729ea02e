"""A machine's DNS record at one DNS provider: write it, remove it, check that it is there."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import ClassVar, Protocol, TypeVar

from rollcall import plan
from rollcall.answers import name_servers_answer
from rollcall.aws import AccessKey, InstanceRole
from rollcall.cloudflare import CloudflareStore, Record
from rollcall.errors import RefusedError, TransientError
from rollcall.host_label import HostLabels, KeptLabels
from rollcall.ownership import KEPT, LEAVES, Owner
from rollcall.retrying import retried
from rollcall.route53 import Route53Registry, Route53Store, Store
from rollcall.route53api import Route53Client
from rollcall.settings import CloudflareJoin, ServiceJoin, challenge_name, record_type
from rollcall.srv_transitions import Writer

# systemd gives a stop 30 s. The agent repeats what fails within these limits.
_WITHIN = 12.0
_BOUND = 40.0
T = TypeVar("T")
# None: the call succeeded. A queue.SimpleQueue is reentrant, so a signal handler may put an outcome while another call is in it.
_Outcomes = queue.SimpleQueue[BaseException | None]
# Added to the reason why a machine stays.
AT_ONCE = " others=leave-at-once"


class Registry(Protocol):
    """One membership. Every method is idempotent and raises the errors of `rollcall.errors`."""

    size: int
    """How many DNS records the last snapshot of the record set has."""

    members: tuple[str, ...]
    """The values of the members in the last snapshot, if DNS does not show them."""

    generations: dict[str, str]
    """The generation at each address in the last snapshot, if answers of DNS do not contain it."""

    left_hosts: frozenset[str]
    """The hosts of this machine that are no longer in a record set, as the last call found or caused it. Callers may know them from
    caches, so they stay until `remove_hosts`."""

    lives: Callable[[str, bool], bool]
    """Returns whether another member of the record set is at an address. The registry asks before it treats a record with our ownership
    mark at an address that is not ours as our own. With True as the second argument, silence counts only after it has lasted for a while:
    another member would have written its own mark by then."""

    def join(self, owner: Owner, *addresses: str, kept: bool = False) -> bool:
        """Write the DNS records with these public addresses, one for each family. Return whether anything changed.

        `kept`: the ownership mark says that the machine is unhealthy.
        """

    def leave(self, owner: Owner) -> bool:
        """Remove at once what this generation on this instance wrote, for a dead machine. Return whether there was anything."""

    def leave_set(self, owner: Owner, *addresses: str) -> bool:
        """Take this machine, which has `addresses`, out of the record set. Its hosts stay. Return whether it was in the record set."""

    def leave_unhealthy(self, owner: Owner, floors: Mapping[str, int], *addresses: str) -> str:
        """Leave as `leave_set` does, if each record set then still has `floors` other machines of the stack (by the type of the set).

        Return why the machine stays, or an empty text when it has left. The reason has AT_ONCE at its end if other machines are about to
        leave too, so that this may change in a moment.
        """

    def remove_hosts(self, owner: Owner, hosts: Collection[str], *addresses: str) -> bool:
        """Remove those of `hosts` that are no longer in a record set. Return whether there were any.

        A host that an SRV value still leads to stays, and is in `left_hosts`.
        """

    def owner_at(self, key: str) -> Owner | None:
        """Return the owner of the record behind an answer of DNS: an address, or a service's target."""

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        """Create the challenge of `by` for this machine, or remove it. Return whether there was one.

        Without `by`, remove the challenges of all challengers.
        """

    def challengers(self, owner: Owner) -> tuple[str, ...]:
        """Return the `by` of each challenge for this machine."""

    def interrupt(self) -> None:
        """Give up the call that is under way, if it may take long. A signal handler may call this."""


class CloudflareRegistry:
    """The A and AAAA records of a host in a Cloudflare zone. Each use calls `token`, so the token may be rotated."""

    def __init__(self, join: CloudflareJoin, token: Callable[[], str]) -> None:
        self._join = join
        self._token = token
        self._store: CloudflareStore | None = None
        self._used = ""
        self.lives: Callable[[str, bool], bool] = lambda *_: False
        self.left_hosts: frozenset[str] = frozenset()
        # The ids of the records that this machine wrote. A record that is deleted and created again has another id.
        self._ids: set[str] = set()
        # The records that were removed for health reasons, until we know that enough others are there.
        self._removed: tuple[Record, ...] = ()
        self.size = 0
        self.members: tuple[str, ...] = ()
        self.generations: dict[str, str] = {}

    def join(self, owner: Owner, *addresses: str, kept: bool = False) -> bool:
        settings = self._join
        record = Record(
            name=settings.host, type="", content="", ttl=settings.ttl, proxied=settings.proxied, zone=settings.zone
        )
        wanted = [replace(record, type=record_type(each), content=each) for each in addresses]
        present, self._removed = self._list(), ()
        owners = {each.content: Owner.parse(each.comment) for each in present}
        self.members = tuple(content for content, found in owners.items() if settings.proxied and found)
        self.generations = {content: found.generation for content, found in owners.items() if found}
        live = self._live(present, owner, addresses)
        changes = plan.joining(present, owner, *wanted, kept=kept, ids=self._ids, live=live)
        own = plan.leaving(present, owner, addresses, self._ids, live).deletes
        self._ids = {each.id for each in own if each not in changes.deletes}
        return self._apply(changes)

    def leave(self, owner: Owner) -> bool:
        return self.leave_set(owner)

    def leave_set(self, owner: Owner, *addresses: str) -> bool:
        self._removed = ()
        return self._apply(plan.Plan(deletes=self._own(self._list(), owner, addresses)))

    def remove_hosts(self, owner: Owner, hosts: Collection[str], *addresses: str) -> bool:
        """Remove nothing: a site has no hosts."""
        return False

    def leave_unhealthy(self, owner: Owner, floors: Mapping[str, int], *addresses: str) -> str:
        """Leave if enough other machines stay. Return why the machine stays, or an empty text when it has left.

        Cloudflare has no compare-and-swap. So a machine first writes into its ownership mark that it is about to leave. Then it counts the
        machines that stay. If several leave at once, the last one to count sees the marks of all others, so no machine that is needed
        leaves. Afterwards the machine counts again, and restores its records if too few others are left nevertheless.
        """
        why, mine = self._why_kept(owner, floors, addresses)
        if not why and mine:
            self._write_mark(owner, mine, LEAVES)
            why, mine = self._why_kept(owner, floors, addresses)
        if why:
            return why
        # Note this before anything is removed: if a call fails, the next count restores the records.
        self._removed = (*self._removed, *mine)
        for record in mine:
            self._open().delete(record.zone, record.id)
        why, _ = self._why_kept(owner, floors, addresses) if self._removed else ("", ())
        self._removed = ()
        return why

    def _why_kept(
        self, owner: Owner, floors: Mapping[str, int], addresses: Collection[str]
    ) -> tuple[str, tuple[Record, ...]]:
        """Return why this unhealthy machine must stay, and the records that it has. If it must stay, restore its removed records."""
        present = self._list()
        mine = self._own(present, owner, addresses)
        gone = {(each.type, each.content): each for each in self._removed}
        for each in present:
            gone.pop((each.type, each.content), None)
        why = plan.why_kept(present, (*mine, *gone.values()), owner.stack, floors)
        if why:
            for record in gone.values():
                self._open().create(replace(record, comment=owner.mark(KEPT), id=""))
            self._write_mark(owner, mine, KEPT)
            self._removed = ()
            why += AT_ONCE if plan.are_leaving(present, owner) else ""
        return why, mine

    def _own(self, present: Iterable[Record], owner: Owner, addresses: Collection[str]) -> tuple[Record, ...]:
        here = list(present)
        return plan.leaving(here, owner, addresses, self._ids, self._live(here, owner, addresses)).deletes

    def _live(self, present: Iterable[Record], owner: Owner, addresses: Collection[str]) -> list[str]:
        """Return the addresses that have our ownership mark but belong to other members."""
        return [each for each in plan.elsewhere(present, owner, addresses) if self.lives(each, bool(addresses))]

    def _write_mark(self, owner: Owner, mine: tuple[Record, ...], what: str) -> None:
        for record in mine:
            if record.comment != owner.mark(what):
                self._open().update(replace(record, comment=owner.mark(what)))

    def _list(self) -> tuple[Record, ...]:
        present = self._open().list(self._join.zone, self._join.host)
        self.size = len(present)
        return present

    def owner_at(self, key: str) -> Owner | None:
        listed = self._open().list(self._join.zone, self._join.host)
        return next((Owner.parse(record.comment) for record in listed if record.content == key), None)

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        name, text, store = challenge_name(owner, self._join), f'"{owner} {by}'.rstrip(), self._open()
        there = [
            each for each in store.list(self._join.zone, name) if each.type == "TXT" and each.content.startswith(text)
        ]
        if on and not there:
            store.create(Record(name=name, type="TXT", content=f'{text}"', ttl=60, zone=self._join.zone))
        for each in () if on else there:
            store.delete(each.zone, each.id)
        return bool(there)

    def challengers(self, owner: Owner) -> tuple[str, ...]:
        name, start = challenge_name(owner, self._join), f"{owner} "
        listed = self._open().list(self._join.zone, name)
        texts = (each.content.strip('"') for each in listed if each.type == "TXT")
        return tuple(each.removeprefix(start) for each in texts if each.startswith(start))

    def interrupt(self) -> None:
        """Do nothing: each request ends within seconds."""

    def _apply(self, changes: plan.Plan) -> bool:
        if changes.refused:
            raise RefusedError(changes.refused)
        store = self._open()
        for record in changes.deletes:
            store.delete(record.zone, record.id)
        for record in changes.updates:
            store.update(record)
        for record in changes.creates:
            self._ids.add(store.create(record).id)
        return not changes.empty

    def _open(self) -> CloudflareStore:
        token = self._token()
        if self._store is None or token != self._used:
            self._store, self._used = CloudflareStore(token), token
        return self._store


class RetriedService:
    """A membership in a service that runs each call in a thread. It gives up a call that takes too long or is interrupted.

    `key` returns the provider's key. `lookup` asks DNS for the targets of a record set. `labels` are the labels of this machine's hosts,
    which its memberships share.
    """

    API: ClassVar[str]

    def __init__(
        self,
        join: ServiceJoin,
        key: Callable[[], str],
        lookup: Callable[[str], frozenset[str] | None] | None = None,
        labels: HostLabels | None = None,
    ) -> None:
        self._join = join
        self._key = key
        # A resolver would cache that the set does not exist yet, and later that it lacks this machine.
        self._lookup = lookup or ((lambda _: None) if join.own_resolvers else name_servers_answer(join.domain))
        self._labels = labels or KeptLabels()
        self._writer = Writer()
        self._within = _WITHIN
        self._running: _Outcomes | None = None
        self.lives: Callable[[str, bool], bool] = lambda *_: False
        self.size = 0
        self.members: tuple[str, ...] = ()
        # A host of a service has its generation in its name.
        self.generations: dict[str, str] = {}
        self.left_hosts: frozenset[str] = frozenset()

    def join(self, owner: Owner, *addresses: str, kept: bool = False) -> bool:
        return bool(self._with_registry(lambda registry: registry.join(owner, *addresses, kept=kept)))

    def leave(self, owner: Owner) -> bool:
        return bool(self._with_registry(lambda registry: registry.leave(owner)))

    def leave_set(self, owner: Owner, *addresses: str) -> bool:
        return bool(self._with_registry(lambda registry: registry.leave_set(owner)))

    def leave_unhealthy(self, owner: Owner, floors: Mapping[str, int], *addresses: str) -> str:
        return str(self._with_registry(lambda registry: registry.leave_unhealthy(owner, floors["SRV"])))

    def remove_hosts(self, owner: Owner, hosts: Collection[str], *addresses: str) -> bool:
        return bool(self._with_registry(lambda registry: registry.remove_hosts(owner, hosts, *addresses)))

    def owner_at(self, key: str) -> Owner | None:
        return self._with_registry(lambda registry: registry.owner_at(key))

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        return bool(self._with_registry(lambda registry: registry.challenge(owner, on, by)))

    def challengers(self, owner: Owner) -> tuple[str, ...]:
        return tuple(self._with_registry(lambda registry: registry.challengers(owner)))

    def interrupt(self) -> None:
        """Give up the call that is under way. A signal handler may call this."""
        if self._running is not None:
            self._running.put(TransientError(f"reason=interrupted api={self.API}"))

    def _open(self) -> tuple[Store, Callable[[], None]]:
        """Return the zone's record sets, and a function that closes the connection to them."""
        raise NotImplementedError

    def _with_registry(self, act: Callable[[Route53Registry], T]) -> T:
        store, close = self._open()
        registry = Route53Registry(self._join, store, self._writer, lookup=self._lookup, labels=self._labels)
        # While calls fail, send one request for each try of the agent: an outage must not use up the account's request rate.
        within, self._within = self._within, 0.0
        outcomes = self._running = _Outcomes()
        try:
            result = _bounded(lambda: retried(lambda: act(registry), within), outcomes, self.API)
        except TransientError as fault:
            # After throttling or a conflict the next call may retry too: this machine only has to wait for the others.
            if "Throttling" in str(fault) or "contended" in str(fault):
                self._within = _WITHIN
            raise
        finally:
            self._running = None
            close()
            self._writer, self.left_hosts = registry.writer, registry.left_hosts
        self._within = _WITHIN
        return result


class RetriedRoute53(RetriedService):
    """A membership in a hosted zone of Route53. It uses the IAM user's `key`, or the instance's role if `key` is empty."""

    API = "route53"
    _role: InstanceRole | None = None

    def _open(self) -> tuple[Store, Callable[[], None]]:
        key = self._key()
        self._role = self._role or InstanceRole()
        client = Route53Client(AccessKey(key) if key else self._role, _BOUND)
        return Route53Store(self._join.zone, client), client.close


def _bounded(action: Callable[[], T], outcomes: _Outcomes, api: str) -> T:
    """Run `action` in a thread, and return or raise what it does. Raise TransientError if it takes too long."""
    found: list[T] = []

    def act() -> None:
        try:
            found.append(action())
            outcomes.put(None)
        except BaseException as fault:  # noqa: BLE001 - raised below
            outcomes.put(fault)

    threading.Thread(target=act, name=api, daemon=True).start()
    try:
        fault = outcomes.get(timeout=_BOUND)
    except queue.Empty:
        raise TransientError(f"reason=too-slow api={api} seconds={_BOUND:.0f}") from None
    if fault is not None:
        raise fault
    return found[0]
