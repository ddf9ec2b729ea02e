"""A machine in the SRV record set of a service's incarnation, in Route53.

The machine's host name is below one label of the zone that belongs to Rollcall (`GENERATION.rc.unilans.net`, and
`GENERATION-SUFFIX.rc.unilans.net` for a later registration: rollcall.host_label). The host has A and AAAA records and a TXT. The TXT says
which machine it belongs to, at which addresses the machine is, and in which record sets it should be. All members share the SRV set of an
incarnation, so it changes by compare-and-swap: one batch deletes the exact old values and creates the new ones.

https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html
"""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rollcall.errors import RefusedError, TransientError
from rollcall.host_label import FirstLabels, HostLabels, generation_of
from rollcall.ownership import Owner
from rollcall.route53api import ConflictError, Route53Api
from rollcall.settings import HOSTS_LABEL, ServiceJoin, challenge_name, record_type
from rollcall.srv_transitions import (
    PATIENCE,
    Action,
    AskDns,
    Decided,
    Done,
    Event,
    Failed,
    FindFormer,
    FormerFound,
    HostsRemoved,
    HostWritten,
    Join,
    Leave,
    LeaveIfEnough,
    LeaveUnhealthy,
    Mark,
    Marked,
    NotShown,
    Raise,
    RemoveHosts,
    SetFound,
    SetWritten,
    Shown,
    Tidied,
    WriteHost,
    Writer,
    WriteSet,
    next_call,
    step,
)

LABEL = HOSTS_LABEL
MOST_VALUES = 400
# Limits of a batch:
# https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DNSLimitations.html#limits-api-requests-changeresourcerecordsets
_BATCH_VALUES, _BATCH_CHARACTERS = 1000, 32_000
_CHALLENGE_TTL_S = 60
# In a private zone each machine asks a resolver, and must see soon that another challenge was added or that its own was removed.
_PRIVATE_CHALLENGE_TTL_S = 5
# `kept`: the machine is unhealthy, and is in the set only because too few others are.
_JOINS, _LEAVES, _KEPT, _AT = "joins", "leaves", "kept", "at"
_MEMBERS = (_JOINS, _KEPT)


@dataclass(frozen=True, order=True)
class RecordSet:
    """A record set as Route53 lists it.

    `name` is in lower case and without the final dot, `ttl` is in seconds, and `values` are sorted and written as in a zone file. `routed`:
    it has a routing policy or is an alias, so Rollcall does not change it.
    """

    name: str
    type: str
    ttl: int
    values: tuple[str, ...]
    routed: bool = False


class Store(Protocol):
    """The record sets of one hosted zone. Raises TransientError, FatalError, and ConflictError where it says so."""

    def at(self, name: str) -> tuple[RecordSet, ...]:
        """Return the record sets of every type at `name`."""

    def beginning(self, name: str) -> tuple[RecordSet, ...]:
        """Return the record sets at `name`, and at its sibling names that begin with the first label of `name` and a hyphen."""

    def under(self, *names: str) -> Iterable[Iterable[RecordSet]]:
        """Return the record sets at and below these names, one page for each call.

        Give the names in the order of their labels from the right, in which Route53 sorts. Names that are near to each other then come in
        one page, so they are read at one moment.
        """

    def change(self, deletes: Iterable[RecordSet], creates: Iterable[RecordSet]) -> None:
        """Do all these changes or none.

        Raises ConflictError when a set to delete has changed, or a set to create exists already.
        """


class Route53Store:
    """The record sets of a hosted zone by Route53's API. It does not retry, because the caller knows what to read again."""

    def __init__(self, zone: str, api: Route53Api) -> None:
        self._zone = zone
        self._api = api

    def at(self, name: str) -> tuple[RecordSet, ...]:
        return tuple(each for page in self.under(name) for each in page if each.name == name.lower())

    def beginning(self, name: str) -> tuple[RecordSet, ...]:
        # These names follow each other in Route53's order.
        found: list[RecordSet] = []
        start = {"StartRecordName": name.lower()}
        while start:
            page = self._api.list_resource_record_sets(HostedZoneId=self._zone, **start)
            sets = [_record_set(each) for each in page["ResourceRecordSets"]]
            here = [each for each in sets if begins(each.name, name.lower())]
            found += here
            more = bool(sets) and sets[-1] in here
            start = {key.replace("Next", "Start"): page[key] for key in page if key.startswith("NextR") and more}
        return tuple(found)

    def change(self, deletes: Iterable[RecordSet], creates: Iterable[RecordSet]) -> None:
        changes = [_change("DELETE", each) for each in deletes] + [_change("CREATE", each) for each in creates]
        if changes:
            self._api.change_resource_record_sets(HostedZoneId=self._zone, ChangeBatch={"Changes": changes})

    def under(self, *names: str) -> Iterator[list[RecordSet]]:
        ends = tuple(f".{each.lower()}" for each in names)
        rest = [each.lower() for each in names]
        start = {"StartRecordName": names[0]}
        while start:
            page = self._api.list_resource_record_sets(HostedZoneId=self._zone, **start)
            sets = map(_record_set, page["ResourceRecordSets"])
            found = [each for each in sets if f".{each.name}".endswith(ends)]
            yield found
            start = {key.replace("Next", "Start"): page[key] for key in page if key.startswith("NextR")}
            following = start["StartRecordName"].rstrip(".") if start else ""
            if start and not f".{following}".endswith(ends):
                # Skip the names between.
                rest = [each for each in rest if by_labels(each) > by_labels(following)]
                start = {"StartRecordName": rest[0]} if rest else {}


class Route53Registry:
    """One membership.

    `writer` is what this machine remembers from earlier calls; the next call needs it. `pause` sleeps. `lookup` asks DNS for the targets of
    the record set. `labels` are the labels of this machine's hosts. `left_hosts` are its hosts that are no longer in a record set, as the
    last call found or caused it. Callers may know them from caches, so they stay until `remove_hosts` (docs/decisions/0014).
    """

    def __init__(
        self,
        join: ServiceJoin,
        store: Store,
        writer: Writer = Writer(),  # noqa: B008 - frozen
        pause: Callable[[float], None] = time.sleep,
        dice: random.Random | None = None,
        lookup: Callable[[str], frozenset[str] | None] = lambda _: None,
        labels: HostLabels | None = None,
    ) -> None:
        self._join = join
        self._store = store
        self._labels = labels or FirstLabels()
        self.writer = next_call(writer)
        self._lookup = lookup
        self._marked: dict[str, list[RecordSet]] = {}
        self._unneeded: tuple[list[RecordSet], list[RecordSet]] = ([], [])
        self.left_hosts: frozenset[str] = frozenset()
        self._pause = pause
        self._dice = dice or random.Random()  # noqa: S311
        self._set = set_name(join)
        self._names = srv_names(join)

    def _run(self, event: Event, do: Callable[[Action], Event]) -> bool:
        """Follow the state machine until the call ends. Return whether anything changed."""
        while True:
            self.writer, action = step(self.writer, event)
            if isinstance(action, Done):
                return action.changed
            if isinstance(action, Raise):
                raise action.fault
            if isinstance(action, AskDns | WriteSet | LeaveIfEnough) and action.pause is not None:
                self._pause(self._dice.uniform(*action.pause))
            try:
                event = do(action)
            except TransientError as fault:
                event = Failed(fault, isinstance(fault, ConflictError))

    def join(self, owner: Owner, *addresses: str, kept: bool = False) -> bool:
        """Write the machine's host, then its value in the record set. Return whether anything changed.

        The host comes first, so that no value ever leads to a missing name. The value comes with those of all registered hosts that the
        record set lacks. When many machines join at once, a few write, and the others see the result in DNS, which costs no API call.
        """
        noted, word = " ".join(addresses), _KEPT if kept else _JOINS

        def do(action: Action) -> Event:
            if isinstance(action, FindFormer):
                self.left_hosts |= {name for name, here in self._own_hosts(owner).items() if owner_of(here)}
                return FormerFound(noted)
            if isinstance(action, WriteHost):
                changed = (self._create if action.create else self._register)(owner, addresses, word)
                return HostWritten(noted, changed)
            host = self.host(owner)
            self.left_hosts -= {host}
            if isinstance(action, AskDns):
                shown = host in (self._lookup(self._set) or ())
                return Shown() if shown else NotShown(self._dice.randrange(PATIENCE))
            return self._write_or_tidy(action, owner, addresses, host, [srv_value(self._join, host)])

        return self._run(Join(noted, self._labels.is_used(owner, self._join.domain)), do)

    def _write_or_tidy(
        self, action: Action, owner: Owner, addresses: tuple[str, ...], host: str, wanted: list[str]
    ) -> Event:
        if isinstance(action, WriteSet):
            return self._put(host, owner, addresses, wanted, action.adds)
        dead, former = self._unneeded
        with contextlib.suppress(ConflictError):
            self._store.change(*_cleared(dead))
            self._give_up(former)
        return Tidied()

    def _put(self, host: str, owner: Owner, addresses: tuple[str, ...], wanted: list[str], adds: bool) -> Event:
        """Take one snapshot of the record sets and the hosts, and write what follows from it. `wanted` are the values of our host."""
        sets: list[RecordSet] = []
        added = self.writer.added
        for page in self._store.under(*self._read_names()):
            sets += page
            current = self._current(sets)
            if not added and self._is_there(sets, host, wanted):
                return SetFound()
        dead = _dead_with(addresses, sets, owner)
        former = _former(sets, owner, host) if wanted else []
        # Note them before anything is written: after a failure the next call would not find them again.
        self.left_hosts |= {each.name for each in former}
        hosts = hosts_of(each for each in sets if each not in dead and each not in former)
        # If another machine wrote after us, it continues to add the others.
        adds &= not added or current.values == self.writer.values
        # A machine that is unhealthy now decides itself whether it may leave.
        left = added - self._named(sets, *_MEMBERS)
        leaving = {each.get(self._set) for each in hosts_of(sets, _LEAVES).values()} if adds else set()
        staying = [each for each in current.values if _target(each) not in left and each not in leaving]
        others = {each: hosts[each][self._set] for each in hosts if adds and self._set in hosts[each]}
        values = joined(staying, self._join.domain, hosts, others, host, wanted)
        changed = self._write(sets, current, values, hosts, host)
        self._unneeded = dead, former
        return SetWritten(values, frozenset(map(_target, {*values} - {*current.values})) - {host}, changed)

    def _give_up(self, former: list[RecordSet]) -> None:
        """Mark this machine's hosts of earlier registrations as leaving. Remove those without an address, which serve no caller."""
        for name, here in sorted(_by_name(former).items()):
            if _sets_of(here, name) - {self._set} or any(each.type in ("A", "AAAA") for each in here):
                self.left_hosts |= {name}
                self._write_word(here, _LEAVES)
            else:
                self._store.change(*_cleared(here))
                self.left_hosts -= {name}

    def host(self, owner: Owner) -> str:
        """Return the name of this machine's own host."""
        return host_name(self._labels.of(owner, self._join.domain), self._join.domain)

    def _read_names(self) -> list[str]:
        """Return the names to read: the record sets, and the label with all hosts below it."""
        sets = [f"{self._join.service}.{self._join.domain}".lower(), *self._names] if self._names else [self._set]
        names = {each for each in sets if not any(each.endswith(f".{other}") for other in sets)}
        return sorted({*names, f"{LABEL}.{self._join.domain}"}, key=by_labels)

    def _is_there(self, sets: list[RecordSet], host: str, wanted: list[str]) -> bool:
        """Return whether exactly `wanted` leads to this machine's hosts in the record set, and so in those of the other names."""
        generation = generation_of(host)

        def has(name: str, values: list[str]) -> bool:
            current = self._current(sets, name)
            near = [each for each in current.values if _target(each).startswith(generation)]
            mine = [each for each in near if self._is_ours(each) and generation_of(_target(each)) == generation]
            return mine == values and (not values or current.ttl == self._join.ttl)

        # Another page may have more of our values. Only a machine that must be in no record set has to know that.
        others = all(has(name, wanted if on else []) for name, on in self._names.items())
        return has(self._set, wanted) and others and (bool(wanted) or not self._names)

    def leave(self, owner: Owner) -> bool:
        """Remove everything of a dead machine at once: its values, and the hosts that are then in no record set.

        The address of a dead machine serves no caller, and may soon belong to another machine.
        """
        return self._leave(owner, Leave(removes_hosts=True))

    def leave_set(self, owner: Owner) -> bool:
        """Remove the values only. Return whether there were any.

        The TXT of each host then says that it leaves, and the host is in `left_hosts`.
        """
        changed = self._leave(owner, Leave(removes_hosts=False))
        self.left_hosts = frozenset(host for host, marked in self._marked.items() if owner_of(marked))
        return changed

    def _leave(self, owner: Owner, event: Leave) -> bool:
        def do(action: Action) -> Event:
            if isinstance(action, Mark):
                self._marked = {
                    host: self._write_word(present, _LEAVES) for host, present in self._own_hosts(owner).items()
                }
                return Marked(tuple(self._marked))
            if isinstance(action, RemoveHosts):
                return HostsRemoved(sum(self._clear(self._marked[host], host) for host in action.hosts) > 0)
            # The next machine that writes the record set may remove our values before us.
            return self._write_or_tidy(action, owner, (), action.host if isinstance(action, WriteSet) else "", [])

        return self._run(event, do)

    def remove_hosts(self, owner: Owner, hosts: Collection[str], *addresses: str) -> bool:
        """Remove those of `hosts` that are no longer in a record set, by their TXT and by the sets. Return whether there were any.

        A host that joins this set again stays, and is not in `left_hosts`. A host that a value still leads to stays too, and is in
        `left_hosts`. Raises ConflictError when another machine changes a host at this moment. `addresses` are those of this machine.
        """
        changed, left = False, set()
        for host, present in self._own_hosts(owner).items():
            joined_sets = _sets_of(present, host)
            if host not in hosts or not owner_of(present):
                continue
            if self._set in joined_sets:
                # The host has joined again. But a former host has left, and its TXT does not say so yet.
                if host != self.host(owner):
                    self._write_word(present, _LEAVES)
                    left.add(host)
            elif joined_sets:
                changed |= self._write_word(present, "") != present
            elif self._is_led_to(present, host):
                left.add(host)
            else:
                self._store.change(*_cleared(present, addresses))
                changed = True
        self.left_hosts = frozenset(left)
        return changed

    def _is_led_to(self, present: list[RecordSet], host: str) -> bool:
        """Return whether a record set that a host leaves still has its value."""
        names = {self._set, *hosts_of(present, _LEAVES).get(host, {})}
        values = (value for name in sorted(names) for value in self._current(self._store.at(name), name).values)
        return any(_target(each) == host for each in values)

    def _own_hosts(self, owner: Owner) -> dict[str, list[RecordSet]]:
        """Return the hosts of all registrations of a machine with their record sets.

        The present host is among them if its ownership mark is missing, but not if it belongs to another machine.
        """
        host, here = self.host(owner), _by_name(self._store.beginning(host_name(owner.generation, self._join.domain)))
        mine = {name for name, present in here.items() if _same_machine(owner_of(present), owner)} or {host}
        return {name: here.get(name, []) for name in sorted(mine) if not _is_of_another(here.get(name, ()), owner)}

    def leave_unhealthy(self, owner: Owner, floor: int) -> str:
        """Leave as `leave_set` does, if the record set then still has `floor` other machines of the stack.

        Return why the machine stays, or an empty text when it has left. The set changes by compare-and-swap, so a leave never causes fewer
        machines. First the machine's TXT says that it is unhealthy. After that no other machine writes or removes its value.
        """
        why = ""

        def do(action: Action) -> Event:
            nonlocal why
            why = self._leave_unhealthy(owner, floor)
            return Decided()

        self._run(LeaveUnhealthy(), do)
        return why

    def _leave_unhealthy(self, owner: Owner, floor: int) -> str:
        self.left_hosts = frozenset()
        sets = [each for page in self._store.under(*self._read_names()) for each in page]
        host = self.host(owner)
        here = [each for each in sets if each.name == host]
        if _is_of_another(here, owner):
            return ""
        former, current = _former(sets, owner, host), self._current(sets)
        mine = {host, *(each.name for each in former)}
        rest = tuple(each for each in current.values if _target(each) not in mine)
        here = self._write_word(here, _KEPT if rest != current.values else _LEAVES)
        if rest != current.values:
            others = self._machines(sets, rest, owner.stack)
            if others < floor:
                return f"reason=too-few-others type=SRV others={others} floor={floor}"
        self._write(sets, current, rest, hosts_of(sets), host)
        self._give_up(former)
        if owner_of(self._write_word(here, _LEAVES)):
            self.left_hosts |= {host}
        return ""

    def _machines(self, sets: Iterable[RecordSet], values: Iterable[str], stack: str) -> int:
        """Return how many machines of a stack are in the record set with `values` and are not leaving."""
        hosts, found = _by_name(sets), 0
        for target in {*map(_target, values)}:
            there = owner_of(hosts.get(target, ()))
            says = {word for word in _MEMBERS if self._set in hosts_of(hosts.get(target, ()), word).get(target, {})}
            found += there is not None and there.stack == stack and bool(says)
        return found

    def _write_word(self, present: Iterable[RecordSet], word: str) -> list[RecordSet]:
        """Write `word` about our record set into a host's TXT (empty: remove the word). Return the host's record sets afterwards."""
        after, before = [], re.compile(rf'^"(?:{_JOINS}|{_KEPT}|{_LEAVES}) {re.escape(self._set)} ')
        present = list(present)
        for each in present:
            changed = [before.sub(f'"{word} {self._set} ', value) for value in each.values]
            texts = [new for old, new in zip(each.values, changed, strict=True) if word or not before.match(old)]
            after.append(replace(each, values=tuple(sorted(texts))) if owner_of([each]) else each)
        if after != present:
            self._store.change({*present} - {*after}, {*after} - {*present})
        return after

    def _clear(self, sets: list[RecordSet], host: str) -> bool:
        """Remove a host that is no longer in a record set. Return whether there was one."""
        if not owner_of(sets) or _sets_of(sets, host):
            return False
        self._store.change(*_cleared(sets))
        return True

    def owner_at(self, key: str) -> Owner | None:
        """Return the owner of this host. An ownership mark of another generation was copied, so it does not count."""
        owner = owner_of(self._store.at(key))
        return owner if owner is not None and generation_of(key) == owner.generation else None

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        """Create the challenge of `by` for this machine, or remove it. Return whether there was one.

        Without `by`, remove the challenges of all challengers. Raises ConflictError when another machine changes them at this moment: the
        caller has to read them again.
        """
        ttl = _PRIVATE_CHALLENGE_TTL_S if self._join.own_resolvers else _CHALLENGE_TTL_S
        return put_challenge(self._store, challenge_name(owner, self._join), owner, on, by, ttl)

    def challengers(self, owner: Owner) -> tuple[str, ...]:
        """Return the `by` of each challenge for this machine."""
        return challengers_at(self._store, challenge_name(owner, self._join), owner)

    def _create(self, owner: Owner, addresses: tuple[str, ...], word: str) -> bool:
        """Create our A, AAAA and TXT without a read. Raises ConflictError if there are any."""
        self._store.change([], [each for each in self._host_sets(owner, addresses, word) if each.values])
        self._labels.use(owner, self._join.domain)
        return True

    def _register(self, owner: Owner, addresses: tuple[str, ...], word: str) -> bool:
        """Write our A, AAAA and TXT. Return whether anything changed."""
        present = self._present(owner, addresses)
        wanted = _statement(self._join, self.host(owner), word)
        changes = _host_changes(present, self._host_sets(owner, addresses, word), owner, self._set, wanted)
        self._store.change(*changes)
        self._labels.use(owner, self._join.domain)
        return any(changes)

    def _present(self, owner: Owner, addresses: tuple[str, ...]) -> tuple[RecordSet, ...]:
        """Return the record sets at our host. If its addresses were removed, take a new host name first.

        Resolvers may remember that the old name has no addresses.
        """
        present = self._store.at(self.host(owner))
        there = {value for each in present if each.type in ("A", "AAAA") for value in each.values}
        is_ours = bool(there) if _has_generation(owner_of(present), owner) else not there.isdisjoint(addresses)
        if is_ours or not self._labels.is_used(owner, self._join.domain):
            return present
        self._labels.renew(owner, self._join.domain)
        return ()

    def _host_sets(self, owner: Owner, addresses: tuple[str, ...], word: str) -> list[RecordSet]:
        return _host_sets(self._join, self.host(owner), owner, addresses, word)

    def drop(self, targets: set[str]) -> bool:
        """Remove the values that lead to `targets` from the record sets. Return whether there were any."""
        present = [each for page in self._store.under(*self._read_names()) for each in page]
        current = self._current(present)
        values = tuple(each for each in current.values if _target(each) not in targets)
        return self._write(present, current, values, hosts_of(present).keys() - targets, "")

    def _current(self, sets: Iterable[RecordSet], name: str = "") -> RecordSet:
        name = name or self._set
        here = (each for each in sets if (each.name, each.type) == (name, "SRV"))
        return next(here, RecordSet(name, "SRV", self._join.ttl, ()))

    def _write(
        self,
        present: list[RecordSet],
        current: RecordSet,
        values: tuple[str, ...],
        hosts: Collection[str],
        ours: str,
    ) -> bool:
        """Write `values` into the record set and those of the other names, by compare-and-swap. Return whether anything changed.

        Raises ConflictError when another machine was first. A machine that leaves may have settings from before the last change. So it
        changes no TTL.
        """
        ttl = self._join.ttl if ours in map(_target, values) or not current.values else current.ttl
        wanted = replace(current, ttl=ttl, values=values)
        others = self._others(present, current, wanted, hosts, ours)
        if _differ(current, wanted):
            _check(present, wanted)
        elif not others:
            return False
        self._swap([(current, wanted), *others])
        return True

    def _others(
        self, present: list[RecordSet], current: RecordSet, wanted: RecordSet, hosts: Collection[str], ours: str
    ) -> list[tuple[RecordSet, RecordSet]]:
        """Return the changes of the record sets of the other names.

        They get the members of our record set, and keep the values that Rollcall did not write. A machine that leaves writes there only
        what it changes in our record set, because its settings may be from before the last change.
        """
        if not self._names:
            return []
        leaving, named = self._named(present, _LEAVES), self._named(present, *_MEMBERS, _LEAVES)
        # A host that exists with a TXT that does not name our record set belongs to another writer.
        theirs = {*hosts} - named
        members = [each for each in wanted.values if self._is_ours(each) and _target(each) not in theirs]
        known = {ours, *map(_target, {*members, *filter(self._is_ours, current.values)})} - theirs
        joins = ours in map(_target, members)
        if not joins:
            members = [each for each in members if each not in current.values]
            known = {ours, *map(_target, {*current.values} ^ {*wanted.values})}
        # A member stays that our record set lacks, because a user may have deleted that set.
        stay = {*hosts} - known - leaving
        # If a host is in another incarnation too, the machines of that incarnation write it at the service's name.
        elsewhere = {each for each in self._elsewhere(present) if each in hosts}
        found = []
        for name, on in self._names.items():
            old = self._current(present, name)
            leave = known if on else known - elsewhere
            staying = [
                each
                for each in old.values
                if _target(each) not in leave and (_target(each) in stay or not self._is_gone(name, each, hosts))
            ]
            ttl = self._join.ttl if on and (joins or not old.values) else old.ttl
            new = replace(old, ttl=ttl, values=tuple(sorted(staying + members * on)))
            # A foreign record at another name does not stop a machine from joining its set. The roll call reports what is missing.
            with contextlib.suppress(RefusedError):
                if _differ(old, new):
                    _check(present, new)
                    found.append((old, new))
        return found

    def _named(self, present: Iterable[RecordSet], *words: str) -> set[str]:
        """Return the hosts with one of these words about our record set in their TXT."""
        here = list(present)
        return {host for word in words for host, names in hosts_of(here, word).items() if self._set in names}

    def _elsewhere(self, present: Iterable[RecordSet]) -> set[str]:
        """Return the hosts that are in the record set of another incarnation of the service."""
        end = f".{_short_name(self._join)}"
        return {
            host
            for host, names in _memberships(present)
            if any(name != self._set and name.endswith(end) for name in names)
        }

    def _swap(self, changes: list[tuple[RecordSet, RecordSet]]) -> None:
        """Do the changes in one batch, or one after the other if that is more than Route53 accepts in a batch."""
        lines = [value for pair in changes for each in pair for value in each.values]
        whole = len(lines) <= _BATCH_VALUES and sum(map(len, lines)) <= _BATCH_CHARACTERS
        for batch in [changes] if whole else [[each] for each in changes if _differ(*each)]:
            deletes = [old for old, _ in batch if old.values]
            self._store.change(deletes, [new for _, new in batch if new.values])

    def _is_ours(self, value: str) -> bool:
        return _target(value).endswith(f".{LABEL}.{self._join.domain}")

    def _is_gone(self, name: str, value: str, hosts: Collection[str]) -> bool:
        """Return whether a value at another name leads to no member. The service's name may have members of another incarnation."""
        return self._is_ours(value) and (name != _short_name(self._join) or _target(value) not in hosts)


def put_challenge(store: Store, name: str, owner: Owner, on: bool, by: str, ttl: int = _CHALLENGE_TTL_S) -> bool:
    """Create the challenge of `by` for `owner` at `name`, or remove it. Return whether there was one.

    Without `by`, remove the challenges of all challengers.
    """
    text = f'"{owner} {by}'.rstrip()
    none = RecordSet(name, "TXT", ttl, ())
    old = next((each for each in store.at(name) if each.type == "TXT"), none)
    rest = tuple(each for each in old.values if not each.startswith(text))
    there = rest != old.values
    if on != there:
        values = (*rest, f'{text}"') if on else rest
        store.change([old] if old.values else [], [replace(old, values=values)] if values else [])
    return there


def challengers_at(store: Store, name: str, owner: Owner) -> tuple[str, ...]:
    """Return the `by` of each challenge for `owner` at `name`."""
    start = f'"{owner} '
    texts = (value for each in store.at(name) for value in each.values)
    return tuple(each.removeprefix(start).rstrip('"') for each in texts if each.startswith(start))


def _differ(old: RecordSet, new: RecordSet) -> bool:
    return (old.values, old.ttl) != (new.values, new.ttl)


def _check(present: Iterable[RecordSet], wanted: RecordSet) -> None:
    """Raise RefusedError if a record set cannot be written because of what is there."""
    name = wanted.name
    alias = next((each for each in present if (each.name, each.type) == (name, "CNAME")), None)
    if alias is not None:
        raise RefusedError(f"reason=cname-in-the-way name={name} target={alias.values[0]}")
    if wanted.routed:
        raise RefusedError(f"reason=routed-set name={name}")
    if len(wanted.values) > MOST_VALUES:
        raise RefusedError(f"reason=set-full name={name} values={len(wanted.values)} fix='give it shards'")


def set_name(join: ServiceJoin) -> str:
    return f"{join.incarnation}.{join.service}.{join.domain}".lower()


def srv_names(join: ServiceJoin) -> dict[str, bool]:
    """Return the names of RFC 2782, and whether an incarnation's members belong there: another incarnation may own the service's name."""
    if not join.srv:
        return {}
    return {f"{join.service}.{join.incarnation}.{join.domain}".lower(): True, _short_name(join): join.srv == "service"}


def _short_name(join: ServiceJoin) -> str:
    return f"{join.service}.{join.domain}".lower()


def by_labels(name: str) -> list[str]:
    """Return the key by which Route53 sorts names: their labels from the right."""
    return name.split(".")[::-1]


def host_name(label: str, domain: str) -> str:
    return f"{label}.{LABEL}.{domain}"


def begins(name: str, with_name: str) -> bool:
    """Return whether a name is `with_name`, or a sibling of it that begins with its first label and a hyphen."""
    (label, _, rest), (first, _, parent) = name.partition("."), with_name.partition(".")
    return rest == parent and (label == first or label.startswith(f"{first}-"))


def srv_value(join: ServiceJoin, host: str) -> str:
    return f"{join.priority} {join.weight} {join.port} {host}."


def hosts_of(sets: Iterable[RecordSet], wish: str = _JOINS) -> dict[str, dict[str, str]]:
    """Return for each host below our label the record sets about which its TXT says `wish`, with its value there.

    By default these are the sets that it joins. A host without a TXT of Rollcall has none.
    """
    start = f'"{wish} '
    found: dict[str, dict[str, str]] = {}
    for each in sets:
        joins = found.setdefault(each.name, {})
        texts = [text for text in each.values if text.startswith(start)] if each.type == "TXT" else []
        if texts and _owner(each) is not None:
            for text in texts:
                name, _, value = text.removeprefix(start).rstrip('"').partition(" ")
                if value.endswith(f" {each.name}."):
                    joins[name] = value
    return found


def _memberships(sets: Iterable[RecordSet]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each host with the record sets in which it is by its TXT, and its value there; once for each word of _MEMBERS."""
    here = list(sets)
    for word in _MEMBERS:
        yield from hosts_of(here, word).items()


def own_records(
    join: ServiceJoin, owner: Owner, addresses: tuple[str, ...], kept: bool, host_ttl: int = 0, host: str = ""
) -> list[RecordSet]:
    """Return what a member has in DNS: the records of its host, and its value in the record set and at the other names.

    `host_ttl` is the shortest TTL of all services that the host is in. `host` is its name, if it is not that of the first registration.
    """
    host = host or host_name(owner.generation, join.domain)
    sets = _host_sets(join, host, owner, addresses, _KEPT if kept else _JOINS)
    found = [replace(each, ttl=host_ttl or join.ttl) for each in sets if each.values]
    value = srv_value(join, host)
    names = [name for name, on in {set_name(join): True, **srv_names(join)}.items() if on]
    return [*found, *(RecordSet(name, "SRV", join.ttl, (value,)) for name in names)]


def _host_sets(join: ServiceJoin, host: str, owner: Owner, addresses: tuple[str, ...], word: str) -> list[RecordSet]:
    """Return the A, AAAA and TXT of a member's host. A set without values means that the host has no such set."""
    texts = tuple(sorted((f'"{owner}"', f'"{_AT} {" ".join(addresses)}"', _statement(join, host, word))))
    kinds = {"A": (), "AAAA": (), **{record_type(each): (each,) for each in addresses}, "TXT": texts}
    return [RecordSet(host, kind, join.ttl, values) for kind, values in kinds.items()]


def _statement(join: ServiceJoin, host: str, word: str) -> str:
    return f'"{word} {set_name(join)} {srv_value(join, host)}"'


def is_leaving(sets: Iterable[RecordSet], host: str) -> bool:
    """Return whether a host's TXT says that its machine leaves a record set and is in no other."""
    here = list(sets)
    return bool(hosts_of(here, _LEAVES).get(host)) and not _sets_of(here, host)


def is_kept(sets: Iterable[RecordSet], name: str) -> bool:
    """Return whether a host's TXT says that its machine is unhealthy and stays in the record set `name`."""
    return any(name in found for found in hosts_of(sets, _KEPT).values())


def _sets_of(sets: Iterable[RecordSet], host: str) -> set[str]:
    """Return the record sets that a host is in, by its TXT."""
    here = list(sets)
    return {name for word in _MEMBERS for name in hosts_of(here, word).get(host, {})}


def _is_of_another(present: Iterable[RecordSet], owner: Owner) -> bool:
    """Return whether the host of `owner` belongs to a machine of the same generation on another instance.

    That is a twin or a successor. No other machine has this generation, so any other ownership mark was copied.
    """
    other = owner_of(present)
    return other != owner and _has_generation(other, owner)


def _has_generation(found: Owner | None, owner: Owner) -> bool:
    return found is not None and found.generation == owner.generation


def _same_machine(found: Owner | None, owner: Owner) -> bool:
    return found is not None and _has_generation(found, owner) and found.instance == owner.instance


def _former(sets: Iterable[RecordSet], owner: Owner, host: str) -> list[RecordSet]:
    """Return the record sets of a machine's hosts of earlier registrations. There are some if, for example, the agent lost its file."""
    here = list(sets)
    names = {each.name for each in here if each.type == "TXT" and _same_machine(_owner(each), owner)} - {host}
    return [each for each in here if each.name in names and generation_of(each.name) == owner.generation]


def owner_of(sets: Iterable[RecordSet]) -> Owner | None:
    """Return the owner of a host, by the TXT among its record sets."""
    return next((owner for each in sets if each.type == "TXT" and (owner := _owner(each)) is not None), None)


def joined(
    values: Iterable[str],
    domain: str,
    hosts: Iterable[str],
    others: dict[str, str],
    ours: str,
    wanted: Iterable[str],
) -> tuple[str, ...]:
    """Return the new values of the record set.

    `wanted` replaces the values that lead to our host. Missing values of `others` (by host) are added. Values that lead to a name below our
    label without records are removed. All foreign values stay, to the byte.
    """
    staying = [each for each in values if _target(each) != ours and not is_dead(each, domain, hosts)]
    missing = sorted(others[each] for each in others.keys() - {ours, *map(_target, staying)})
    return tuple(sorted([*staying, *missing[: max(MOST_VALUES - len(staying) - 1, 0)], *wanted]))


def is_dead(value: str, domain: str, hosts: Iterable[str]) -> bool:
    """Return whether a value leads to a host of Rollcall that does not exist.

    `hosts` must have been read after the record set: a machine writes its host before its value, and removes its value before its host.
    """
    target = _target(value)
    return target.endswith(f".{LABEL}.{domain}") and target not in hosts


def _host_changes(
    present: Iterable[RecordSet], fresh: list[RecordSet], owner: Owner, name: str, wanted: str
) -> tuple[list[RecordSet], list[RecordSet]]:
    """Return the deletes and creates that make `fresh` the records of our host. Foreign values at the host stay.

    If a set in `fresh` is empty, only the values of an earlier registration of ours are removed.
    """
    here = {each.type: each for each in present}
    if "CNAME" in here:
        raise RefusedError(f"reason=cname-in-the-way name={fresh[0].name} target={here['CNAME'].values[0]}")
    text = here.get("TXT")
    before = _owner(text) if text is not None else None
    # An earlier registration of ours, or a twin that an interrupted `up` left: no other machine has this generation.
    noted = _noted([text]) if text is not None and before is not None and before.stack == owner.stack else []
    shared = (
        any(value.startswith(f'"{_JOINS} ') and f" {name} " not in value for value in text.values) if text else False
    )
    deletes, creates = [], []
    for each in fresh:
        old = here.get(each.type, replace(each, values=()))
        if old.routed:
            if each.values:
                raise RefusedError(f"reason=routed-set name={each.name} type={each.type}")
            continue
        if each.type == "TXT":
            members = tuple(f'"{word} ' for word in _MEMBERS)
            other = [value for value in old.values if value.startswith(members) and f" {name} " not in value]
            values = {*each.values, *(other if _owner(old) == owner else ()), *_foreign(old)}
        else:
            values = {*each.values, *(value for value in old.values if value not in noted)}
        # A caller must not keep an address for longer than the value that led to it. If the host is in several services, the shortest TTL
        # counts. If no value in a set is ours, we do not change its TTL.
        ttl = old.ttl if not each.values else min(old.ttl, each.ttl) if shared else each.ttl
        new = replace(old, ttl=ttl, values=tuple(sorted(values)))
        if new != old and (old.values or values):
            deletes += [old] if old.values else []
            creates += [new] if values else []
    return deletes, creates


def _by_name(sets: Iterable[RecordSet]) -> dict[str, list[RecordSet]]:
    found: dict[str, list[RecordSet]] = {}
    for each in sets:
        found.setdefault(each.name, []).append(each)
    return found


def _dead_with(addresses: tuple[str, ...], sets: Iterable[RecordSet], owner: Owner) -> list[RecordSet]:
    """Return the records of other hosts of our stack at an address of ours. Their machine is dead, since the address is ours now."""
    found = []
    for records in _by_name(sets).values():
        other = owner_of(records)
        there = {value for each in records if each.type in ("A", "AAAA") for value in each.values}
        if other is not None and other.stack == owner.stack and other != owner and there & {*addresses}:
            found += records if there <= {*_noted(records)} else []
    return found


def _cleared(sets: list[RecordSet], addresses: tuple[str, ...] = ()) -> tuple[list[RecordSet], list[RecordSet]]:
    """Return the deletes and creates that remove a machine's host. The creates restore foreign values in the same sets."""
    deletes, creates, noted = [], [], {*_noted(sets), *addresses}
    for each in sets:
        if each.type in ("A", "AAAA", "TXT") and not each.routed:
            values = _foreign(each) if each.type == "TXT" else [value for value in each.values if value not in noted]
            if values != list(each.values):
                deletes.append(each)
                creates += [replace(each, values=tuple(values))] if values else []
    return deletes, creates


def _foreign(text: RecordSet) -> list[str]:
    words = ('"rollcall/', *(f'"{word} ' for word in (_JOINS, _LEAVES, _KEPT, _AT)))
    return [value for value in text.values if not value.startswith(words)]


def _noted(sets: Iterable[RecordSet]) -> list[str]:
    """Return the addresses that machines noted as theirs in their TXT."""
    values = (value.strip('"').split() for each in sets if each.type == "TXT" for value in each.values)
    return [each for words in values if words[:1] == [_AT] for each in words[1:]]


def _owner(text: RecordSet) -> Owner | None:
    return next((found for each in text.values if (found := Owner.parse(each.strip('"'))) is not None), None)


def _target(value: str) -> str:
    return value.rpartition(" ")[2].rstrip(".").lower()


def _record_set(found: Any) -> RecordSet:
    routed = any(key in found for key in ("SetIdentifier", "AliasTarget", "TrafficPolicyInstanceId"))
    values = tuple(sorted(each["Value"] for each in found.get("ResourceRecords", ())))
    # Route53 returns `*` as `\\052`.
    name = found["Name"].rstrip(".").replace("\\052", "*")
    return RecordSet(name, found["Type"], int(found.get("TTL", 0)), values, routed)


def _change(action: str, record: RecordSet) -> dict[str, Any]:
    values = [{"Value": value} for value in record.values]
    shown = {"Name": record.name, "Type": record.type, "TTL": record.ttl, "ResourceRecords": values}
    return {"Action": action, "ResourceRecordSet": shown}
