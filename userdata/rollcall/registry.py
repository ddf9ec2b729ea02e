"""A machine's entry in one registry: put it there, take it away, ask whether it stands."""

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

# systemd gives a stop 30 s, and what has to be tried again is tried by the agent.
_WITHIN = 12.0
_BOUND = 40.0
T = TypeVar("T")
# None: it is done. Its methods may be called again while they are called (queue.SimpleQueue), as by a signal handler.
_Outcomes = queue.SimpleQueue[BaseException | None]
# Behind why a machine stays.
AT_ONCE = " others=leave-at-once"


class Registry(Protocol):
    """One membership. Every method is idempotent and raises the errors of `rollcall.errors`."""

    size: int
    """How many entries stood there at the last look."""

    members: tuple[str, ...]
    """With what they stand there, where DNS does not show it."""

    generations: dict[str, str]
    """Of the addresses that stood there at the last look, whose the answers of DNS do not say."""

    left_hosts: frozenset[str]
    """The hosts of this machine that the last call has found, or made, to be in no set any more. Callers may know them from caches, so
    they stay until `remove_hosts`."""

    lives: Callable[[str, bool], bool]
    """Whether a member of the set is at an address; asked before what has our mark at another's address is taken for ours. True as the
    second: silence counts only when it has lasted, since that member would have written its own mark by then."""

    def join(self, owner: Owner, *addresses: str, kept: bool = False) -> bool:
        """Make the entry stand with these public addresses, one a family; whether anything had to be changed. `kept`: its mark says
        that the machine is unhealthy."""

    def leave(self, owner: Owner) -> bool:
        """Take away at once what this generation on this instance wrote; whether there was anything. For a machine that is dead."""

    def leave_set(self, owner: Owner, *addresses: str) -> bool:
        """Take this machine, which has `addresses`, out of the record set; whether it was in it. Its hosts stay."""

    def leave_unhealthy(self, owner: Owner, floors: Mapping[str, int], *addresses: str) -> str:
        """The same, but only where each record set keeps `floors` other machines of the stack (by the set's type).
        Returns why it stays, with AT_ONCE where others may make room in a moment, or nothing once it is out."""

    def remove_hosts(self, owner: Owner, hosts: Collection[str], *addresses: str) -> bool:
        """Remove those of `hosts` that are in no set any more; whether there were any. What a value still leads to is in `left_hosts`."""

    def owner_at(self, key: str) -> Owner | None:
        """Whose entry an answer of DNS is: an address, or a service's target."""

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        """Put up the challenge of `by` for this machine, or take it away (without `by` everybody's); whether there was one."""

    def challengers(self, owner: Owner) -> tuple[str, ...]:
        """Return the `by` of each challenge for this machine."""

    def interrupt(self) -> None:
        """Give up the call that is under way, where it may take long. A signal handler may call this."""


class CloudflareRegistry:
    """The A and AAAA records of a host in a Cloudflare zone. `token` is asked for at each use, so it may be rotated."""

    def __init__(self, join: CloudflareJoin, token: Callable[[], str]) -> None:
        self._told = join
        self._token = token
        self._store: CloudflareStore | None = None
        self._used = ""
        self.lives: Callable[[str, bool], bool] = lambda *_: False
        self.left_hosts: frozenset[str] = frozenset()
        # The records that this machine wrote, as long as nobody has made them anew.
        self._ids: set[str] = set()
        # What went for health reasons, until it is known that enough others are there.
        self._removed: tuple[Record, ...] = ()
        self.size = 0
        self.members: tuple[str, ...] = ()
        self.generations: dict[str, str] = {}

    def join(self, owner: Owner, *addresses: str, kept: bool = False) -> bool:
        told = self._told
        entry = Record(name=told.host, type="", content="", ttl=told.ttl, proxied=told.proxied, zone=told.zone)
        wanted = [replace(entry, type=record_type(each), content=each) for each in addresses]
        present, self._removed = self._list(), ()
        owners = {each.content: Owner.parse(each.comment) for each in present}
        self.members = tuple(content for content, found in owners.items() if told.proxied and found)
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
        """A site has no hosts."""
        return False

    def leave_unhealthy(self, owner: Owner, floors: Mapping[str, int], *addresses: str) -> str:
        """Cloudflare has no compare-and-swap. So a machine first says that it is about to leave, in its mark, and then looks who stays:
        of several that leave at once the last to look sees all the others' word, so none goes that is needed.

        After that it looks again, and comes back where too few are left all the same.
        """
        why, mine = self._why_kept(owner, floors, addresses)
        if not why and mine:
            self._write_mark(owner, mine, LEAVES)
            why, mine = self._why_kept(owner, floors, addresses)
        if why:
            return why
        # Before anything goes: should a call fail, the next look brings it back.
        self._removed = (*self._removed, *mine)
        for record in mine:
            self._open().delete(record.zone, record.id)
        why, _ = self._why_kept(owner, floors, addresses) if self._removed else ("", ())
        self._removed = ()
        return why

    def _why_kept(
        self, owner: Owner, floors: Mapping[str, int], addresses: Collection[str]
    ) -> tuple[str, tuple[Record, ...]]:
        """Why this unhealthy machine must stay, and the records that it has. Where it must, those that went are there again."""
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
        """The addresses with our mark that are other members'."""
        return [each for each in plan.elsewhere(present, owner, addresses) if self.lives(each, bool(addresses))]

    def _write_mark(self, owner: Owner, mine: tuple[Record, ...], what: str) -> None:
        for record in mine:
            if record.comment != owner.mark(what):
                self._open().update(replace(record, comment=owner.mark(what)))

    def _list(self) -> tuple[Record, ...]:
        present = self._open().list(self._told.zone, self._told.host)
        self.size = len(present)
        return present

    def owner_at(self, key: str) -> Owner | None:
        listed = self._open().list(self._told.zone, self._told.host)
        return next((Owner.parse(record.comment) for record in listed if record.content == key), None)

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        name, text, store = challenge_name(owner, self._told), f'"{owner} {by}'.rstrip(), self._open()
        there = [
            each for each in store.list(self._told.zone, name) if each.type == "TXT" and each.content.startswith(text)
        ]
        if on and not there:
            store.create(Record(name=name, type="TXT", content=f'{text}"', ttl=60, zone=self._told.zone))
        for each in () if on else there:
            store.delete(each.zone, each.id)
        return bool(there)

    def challengers(self, owner: Owner) -> tuple[str, ...]:
        name, start = challenge_name(owner, self._told), f"{owner} "
        listed = self._open().list(self._told.zone, name)
        texts = (each.content.strip('"') for each in listed if each.type == "TXT")
        return tuple(each.removeprefix(start) for each in texts if each.startswith(start))

    def interrupt(self) -> None:
        """A request ends within seconds."""

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
    """A membership in a service, each call in a thread: one that takes too long, or that is not wanted any more, is given up.

    `key` gives the provider's key; `look` asks DNS for a set's targets; `labels` are those of this machine's
    hosts, which its memberships share.
    """

    API: ClassVar[str]

    def __init__(
        self,
        join: ServiceJoin,
        key: Callable[[], str],
        look: Callable[[str], frozenset[str] | None] | None = None,
        labels: HostLabels | None = None,
    ) -> None:
        self._told = join
        self._key = key
        self._look = look or name_servers_answer(join.domain)
        self._labels = labels or KeptLabels()
        self._fresh: bool | str = True
        self._within = _WITHIN
        self._running: _Outcomes | None = None
        self.lives: Callable[[str, bool], bool] = lambda *_: False
        self.size = 0
        self.members: tuple[str, ...] = ()
        # A host of a service has its generation in its name.
        self.generations: dict[str, str] = {}
        self.left_hosts: frozenset[str] = frozenset()

    def join(self, owner: Owner, *addresses: str, kept: bool = False) -> bool:
        return bool(self._ask(lambda registry: registry.join(owner, *addresses, kept=kept)))

    def leave(self, owner: Owner) -> bool:
        return bool(self._ask(lambda registry: registry.leave(owner)))

    def leave_set(self, owner: Owner, *addresses: str) -> bool:
        return bool(self._ask(lambda registry: registry.leave_set(owner)))

    def leave_unhealthy(self, owner: Owner, floors: Mapping[str, int], *addresses: str) -> str:
        return str(self._ask(lambda registry: registry.leave_unhealthy(owner, floors["SRV"])))

    def remove_hosts(self, owner: Owner, hosts: Collection[str], *addresses: str) -> bool:
        return bool(self._ask(lambda registry: registry.remove_hosts(owner, hosts, *addresses)))

    def owner_at(self, key: str) -> Owner | None:
        return self._ask(lambda registry: registry.owner_at(key))

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        return bool(self._ask(lambda registry: registry.challenge(owner, on, by)))

    def challengers(self, owner: Owner) -> tuple[str, ...]:
        return tuple(self._ask(lambda registry: registry.challengers(owner)))

    def interrupt(self) -> None:
        """Give up the call that is under way. A signal handler may call this."""
        if self._running is not None:
            self._running.put(TransientError(f"reason=interrupted api={self.API}"))

    def _open(self) -> tuple[Store, Callable[[], None]]:
        """The zone's record sets, and what ends the connection to them."""
        raise NotImplementedError

    def _ask(self, act: Callable[[Route53Registry], T]) -> T:
        store, close = self._open()
        registry = Route53Registry(self._told, store, self._fresh, look=self._look, labels=self._labels)
        # While it fails, one request for each try of the agent: an outage must not take the account's rate.
        within, self._within = self._within, 0.0
        outcomes = self._running = _Outcomes()
        try:
            result = _bounded(lambda: retried(lambda: act(registry), within), outcomes, self.API)
        except TransientError as fault:
            # Who only has to wait for the others may be quick.
            if "Throttling" in str(fault) or "contended" in str(fault):
                self._within = _WITHIN
            raise
        finally:
            self._running = None
            close()
            self._fresh, self.left_hosts = registry.fresh, registry.left_hosts
        self._within = _WITHIN
        return result


class RetriedRoute53(RetriedService):
    """In a hosted zone of Route53, with an IAM user's `key`, or with the instance's role where that is empty."""

    API = "route53"
    _role: InstanceRole | None = None

    def _open(self) -> tuple[Store, Callable[[], None]]:
        key = self._key()
        self._role = self._role or InstanceRole()
        client = Route53Client(AccessKey(key) if key else self._role, _BOUND)
        return Route53Store(self._told.zone, client), client.close


def _bounded(action: Callable[[], T], outcomes: _Outcomes, api: str) -> T:
    """What `action` returns or raises in a thread, or TransientError where that takes too long."""
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
