"""A machine in the SRV record set of a service's incarnation, in Route53.

The machine's host name lives below one label of the zone that belongs to Rollcall (`GENERATION.rc.unilans.net`, and
`GENERATION-SUFFIX.rc.unilans.net` for a later registration: rollcall.host_label): its A and AAAA, and a TXT that says whose it is, at
which addresses, and in which sets it should stand. The SRV set of an incarnation is everybody's, so it changes by compare-and-swap:
one batch deletes the exact old values and creates the new ones.

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

LABEL = HOSTS_LABEL
MOST_VALUES = 400
# Of a batch: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DNSLimitations.html#limits-api-requests-changeresourcerecordsets
_BATCH_VALUES, _BATCH_CHARACTERS = 1000, 32_000
_CHALLENGE_TTL_S = 60
_TRIES, _ROUNDS, _PATIENCE = 25, 6, 8
# `kept`: the machine is unhealthy, and is in the set only because too few others are.
_JOINS, _LEAVES, _KEPT, _AT = "joins", "leaves", "kept", "at"
_MEMBERS = (_JOINS, _KEPT)


@dataclass(frozen=True, order=True)
class RecordSet:
    """As Route53 lists it: `name` in lower case without the final dot, `ttl` in seconds, `values` sorted, as in a zone file.
    `routed`: it has a routing policy or is an alias, so it is not ours to change."""

    name: str
    type: str
    ttl: int
    values: tuple[str, ...]
    routed: bool = False


class Store(Protocol):
    """The record sets of one hosted zone. Raises TransientError, FatalError, and ConflictError where it says so."""

    def at(self, name: str) -> tuple[RecordSet, ...]:
        """The record sets of every type at `name`."""

    def beginning(self, name: str) -> tuple[RecordSet, ...]:
        """The record sets at `name`, and at the names beside it of which the first label begins with this one and a hyphen."""

    def under(self, *names: str) -> Iterable[Iterable[RecordSet]]:
        """What is at and below these names, a page for each call. They must be given in the order of their labels from the
        right, in which Route53 sorts: what is near to each other comes in one page, and is seen at one moment."""

    def change(self, deletes: Iterable[RecordSet], creates: Iterable[RecordSet]) -> None:
        """All of it or nothing. Raises ConflictError when a set to be deleted is another, or one to be created is there."""


class Route53Store:
    """By Route53's API. It does not retry: who calls knows what to read again."""

    def __init__(self, zone: str, api: Route53Api) -> None:
        self._zone = zone
        self._api = api

    def at(self, name: str) -> tuple[RecordSet, ...]:
        return tuple(each for page in self.under(name) for each in page if each.name == name.lower())

    def beginning(self, name: str) -> tuple[RecordSet, ...]:
        # In Route53's order they follow each other.
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
                # What lies between is not of interest.
                rest = [each for each in rest if by_labels(each) > by_labels(following)]
                start = {"StartRecordName": rest[0]} if rest else {}


class Route53Registry:
    """One membership. `fresh`: what is there of this machine: nothing, as far as is known (True), its host that was made for
    this address but perhaps no value (the addresses), or no one knows (False). `pause` sleeps, `look` asks DNS for the set's
    targets, `labels` are those of this machine's hosts. `left_hosts` are those of its hosts that the last call has found, or made, to be
    in no set any more: callers may know them from caches, so they stay until `remove_hosts` (docs/decisions/0014)."""

    def __init__(
        self,
        told: ServiceJoin,
        store: Store,
        fresh: bool | str = True,
        pause: Callable[[float], None] = time.sleep,
        dice: random.Random | None = None,
        look: Callable[[str], frozenset[str] | None] = lambda _: None,
        labels: HostLabels | None = None,
    ) -> None:
        self._told = told
        self._store = store
        self._labels = labels or FirstLabels()
        self.fresh = fresh
        self._registered = fresh
        self._alone = fresh is True
        self._look = look
        self._helped: set[str] = set()
        self._said: dict[str, list[RecordSet]] = {}
        self.left_hosts: frozenset[str] = frozenset()
        self._wrote: tuple[str, ...] = ()
        self._pause = pause
        self._dice = dice or random.Random()  # noqa: S311
        self._set = set_name(told)
        self._names = srv_names(told)

    def join(self, owner: Owner, *addresses: str, kept: bool = False) -> bool:
        """Host first, so that no value ever leads nowhere; then the set, with every registered host that it lacks.

        Who adds others looks again: they may have left meanwhile (they look after they have said so, we say so after we have
        looked), and more may have come. So of many that join at once a few write, and the others see it in DNS, for nothing.
        """
        changed = False
        if self.fresh is True and self._labels.is_used(owner, self._told.domain):
            # An earlier process registered it, and what it wrote may be there.
            self.left_hosts |= {name for name, here in self._own_hosts(owner).items() if owner_of(here)}
            self.fresh = self._registered = self._alone = False
        # Who is refused at first is one of many.
        alone, self._alone, self._said = self._alone, False, {}
        noted = " ".join(addresses)
        if self._registered != noted:
            changed = self._register(owner, addresses, _KEPT if kept else _JOINS)
            self._registered, self.fresh = noted, self.fresh and noted
        host = self.host(owner)
        self.left_hosts -= {host}
        if self.fresh and not alone:
            # Another may have written us, or will; the longer DNS does not show it, the more probably we write all who wait.
            for look in range(_PATIENCE):
                if host in (self._look(self._set) or ()):
                    self.fresh = False
                    return True
                if self._dice.randrange(_PATIENCE) < look:
                    break
                self._pause(self._dice.uniform(0.5, 1.5))
        changed |= self._put(host, owner, addresses, [srv_value(self._told, host)])
        self.fresh = False
        return changed

    def _put(self, host: str, owner: Owner, addresses: tuple[str, ...], wanted: list[str]) -> bool:
        """Have `wanted` in the set for our host, and look again as long as others were helped; whether anything changed."""
        changed = False
        for attempt in range(_TRIES):
            try:
                changed |= self._put_once(host, owner, addresses, wanted, attempt < _ROUNDS)
            except TransientError:
                if not self._helped:
                    raise
            if not self._helped:
                break
            self._pause(self._dice.uniform(0, attempt / 2))
        self._helped = set()
        return changed

    def _put_once(self, host: str, owner: Owner, addresses: tuple[str, ...], wanted: list[str], helps: bool) -> bool:
        """One look at the sets and the hosts, and what follows from it."""
        sets: list[RecordSet] = []
        for page in self._store.under(*self._read_names()):
            sets += page
            current = self._current(sets)
            if not self._helped and self._is_there(sets, host, wanted):
                return False
        dead = _dead_with(addresses, sets, owner)
        former = _former(sets, owner, host) if wanted else []
        # Before anything is written: what fails after that is not found again.
        self.left_hosts |= {each.name for each in former}
        hosts = hosts_of(each for each in sets if each not in dead and each not in former)
        # Whoever wrote after us goes on with it.
        helps &= not self._helped or current.values == self._wrote
        # One that is unhealthy now decides itself whether it may go.
        left = self._helped - {
            each for word in _MEMBERS for each, sets_ in hosts_of(sets, word).items() if self._set in sets_
        }
        leaving = {each.get(self._set) for each in hosts_of(sets, _LEAVES).values()} if helps else set()
        kept = [each for each in current.values if _target(each) not in left and each not in leaving]
        others = {each: hosts[each][self._set] for each in hosts if helps and self._set in hosts[each]}
        values = joined(kept, self._told.domain, hosts, others, host, wanted)
        changed = self._write(sets, current, values, hosts, host)
        self._wrote, self._helped = values, {_target(each) for each in {*values} - {*current.values}} - {host}
        with contextlib.suppress(ConflictError):
            self._store.change(*_cleared(dead))
            self._give_up(former)
        return changed

    def _give_up(self, former: list[RecordSet]) -> None:
        """Have this machine's hosts of earlier registrations say that they leave. One without an address serves no caller, so it goes."""
        for name, here in sorted(_by_name(former).items()):
            if _sets_of(here, name) - {self._set} or any(each.type in ("A", "AAAA") for each in here):
                self.left_hosts |= {name}
                self._say(here, _LEAVES)
            else:
                self._store.change(*_cleared(here))
                self.left_hosts -= {name}

    def host(self, owner: Owner) -> str:
        """The name of this machine's own host."""
        return host_name(self._labels.of(owner, self._told.domain), self._told.domain)

    def _read_names(self) -> list[str]:
        """What is looked at: the sets, and all hosts after ours."""
        sets = [f"{self._told.service}.{self._told.domain}".lower(), *self._names] if self._names else [self._set]
        names = {each for each in sets if not any(each.endswith(f".{other}") for other in sets)}
        return sorted({*names, f"{LABEL}.{self._told.domain}"}, key=by_labels)

    def _is_there(self, sets: list[RecordSet], host: str, wanted: list[str]) -> bool:
        """Whether our host has just `wanted` in its set, and so in those of the other names, and no other of our hosts has."""
        generation = generation_of(host)

        def has(name: str, values: list[str]) -> bool:
            current = self._current(sets, name)
            mine = [
                each for each in current.values if self._is_ours(each) and generation_of(_target(each)) == generation
            ]
            return mine == values and (not values or current.ttl == self._told.ttl)

        # On another page there may be more; only who is to be nowhere has to know that.
        others = all(has(name, wanted if on else []) for name, on in self._names.items())
        return has(self._set, wanted) and others and (bool(wanted) or not self._names)

    def leave(self, owner: Owner) -> bool:
        """Remove all of a machine at once: its values, and the hosts that are then in no set. For one that is dead: its address serves no
        caller, and may be another's soon."""
        changed = self._leave_sets(owner)
        for host, said in [*self._said.items()]:
            changed |= self._clear(said, host)
        self._said = {}
        return changed

    def leave_set(self, owner: Owner) -> bool:
        """Remove the values only; whether there were any. The hosts say that they leave, and are `left_hosts`."""
        changed = self._leave_sets(owner)
        self.left_hosts = frozenset(host for host, said in self._said.items() if owner_of(said))
        self._said = {}
        return changed

    def _leave_sets(self, owner: Owner) -> bool:
        """Say so first: whoever adds missing hosts would bring us back. Then the sets, which whoever writes next may do for us."""
        self._registered = self.fresh = False
        for host, present in ({} if self._said else self._own_hosts(owner)).items():
            self._said[host] = self._say(present, _LEAVES)
        changed = False
        for host in [*self._said]:
            changed |= self._put(host, owner, (), [])
        return changed

    def remove_hosts(self, owner: Owner, hosts: Collection[str], *addresses: str) -> bool:
        """Remove those of `hosts` that are in no set any more, by what they say and by the sets; whether there were any.

        One that joins this set again stays, and is not in `left_hosts`; one that a value still leads to is. Raises ConflictError where
        another changes a host at this moment. `addresses` are those of this machine.
        """
        changed, left = False, set()
        for host, present in self._own_hosts(owner).items():
            joined_sets = _sets_of(present, host)
            if host not in hosts or not owner_of(present):
                continue
            if self._set in joined_sets:
                # Joined again; but of a former host only the word is missing that it has left.
                if host != self.host(owner):
                    self._say(present, _LEAVES)
                    left.add(host)
            elif joined_sets:
                changed |= self._say(present, "") != present
            elif self._is_led_to(present, host):
                left.add(host)
            else:
                self._store.change(*_cleared(present, addresses))
                changed = True
        self.left_hosts = frozenset(left)
        return changed

    def _is_led_to(self, present: list[RecordSet], host: str) -> bool:
        """Whether a set that a host leaves has its value all the same."""
        names = {self._set, *hosts_of(present, _LEAVES).get(host, {})}
        values = (value for name in sorted(names) for value in self._current(self._store.at(name), name).values)
        return any(_target(each) == host for each in values)

    def _own_hosts(self, owner: Owner) -> dict[str, list[RecordSet]]:
        """The hosts of all registrations of a machine with what is there, and its own one also where its mark is gone."""
        host, here = self.host(owner), _by_name(self._store.beginning(host_name(owner.generation, self._told.domain)))
        mine = {name for name, present in here.items() if _same_machine(owner_of(present), owner)} or {host}
        return {name: here.get(name, []) for name in sorted(mine) if not _is_of_another(here.get(name, ()), owner)}

    def leave_unhealthy(self, owner: Owner, floor: int) -> str:
        """As `leave_set`, where the set keeps `floor` other machines of the stack; why the machine stays, or nothing once it is out.

        The set changes by compare-and-swap, so it never has fewer for this. First the machine says that it is unhealthy: then nobody
        writes its value, and nobody takes it out for it.
        """
        self._registered = self.fresh = False
        for _ in range(_TRIES):
            try:
                return self._leave_unhealthy(owner, floor)
            except ConflictError:
                self._pause(self._dice.uniform(0, 0.5))
        raise ConflictError(f"reason=contended name={self._set}")

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
        here = self._say(here, _KEPT if rest != current.values else _LEAVES)
        if rest != current.values:
            others = self._machines(sets, rest, owner.stack)
            if others < floor:
                return f"reason=too-few-others type=SRV others={others} floor={floor}"
        self._write(sets, current, rest, hosts_of(sets), host)
        self._give_up(former)
        if owner_of(self._say(here, _LEAVES)):
            self.left_hosts |= {host}
        return ""

    def _machines(self, sets: Iterable[RecordSet], values: Iterable[str], stack: str) -> int:
        """How many machines of a stack are in the set with `values` and have not said that they leave."""
        hosts, found = _by_name(sets), 0
        for target in {*map(_target, values)}:
            there = owner_of(hosts.get(target, ()))
            says = {word for word in _MEMBERS if self._set in hosts_of(hosts.get(target, ()), word).get(target, {})}
            found += there is not None and there.stack == stack and bool(says)
        return found

    def _say(self, present: Iterable[RecordSet], word: str) -> list[RecordSet]:
        """Have a host say `word` of our set (empty: nothing); what it says then."""
        said, before = [], re.compile(rf'^"(?:{_JOINS}|{_KEPT}|{_LEAVES}) {re.escape(self._set)} ')
        present = list(present)
        for each in present:
            changed = [before.sub(f'"{word} {self._set} ', value) for value in each.values]
            kept = [new for old, new in zip(each.values, changed, strict=True) if word or not before.match(old)]
            said.append(replace(each, values=tuple(sorted(kept))) if owner_of([each]) else each)
        if said != present:
            self._store.change({*present} - {*said}, {*said} - {*present})
        return said

    def _clear(self, said: list[RecordSet], host: str) -> bool:
        """Remove a host that stands in no set any more; whether there was one."""
        if not owner_of(said) or _sets_of(said, host):
            return False
        try:
            self._store.change(*_cleared(said))
        except ConflictError:
            self._said = {}
            raise
        return True

    def owner_at(self, key: str) -> Owner | None:
        """Whose host this is. A mark of another generation was copied: it says nothing."""
        owner = owner_of(self._store.at(key))
        return owner if owner is not None and generation_of(key) == owner.generation else None

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        """Put up the challenge of `by` for this machine, or take it away (without `by` everybody's); whether there was one.
        Raises ConflictError when another changes them at this moment: whether there is one has to be seen again."""
        return put_challenge(self._store, challenge_name(owner, self._told), owner, on, by)

    def challengers(self, owner: Owner) -> tuple[str, ...]:
        """Return the `by` of each challenge for this machine."""
        return challengers_at(self._store, challenge_name(owner, self._told), owner)

    def _register(self, owner: Owner, addresses: tuple[str, ...], word: str = _JOINS) -> bool:
        """Our A, AAAA and TXT stand; whether anything had to be changed. A machine's first join needs no look before."""
        if self.fresh:
            try:
                self._store.change([], [each for each in self._host_sets(owner, addresses, word) if each.values])
            except ConflictError:
                self.fresh = False
            else:
                self._labels.use(owner, self._told.domain)
                return True
        present = self._present(owner, addresses)
        wanted = _says(self._told, self.host(owner), word)
        changes = _host_changes(present, self._host_sets(owner, addresses, word), owner, self._set, wanted)
        self._store.change(*changes)
        self._labels.use(owner, self._told.domain)
        return any(changes)

    def _present(self, owner: Owner, addresses: tuple[str, ...]) -> tuple[RecordSet, ...]:
        """What is at our host. Where its addresses had gone it is another one, since resolvers may remember that they had."""
        present = self._store.at(self.host(owner))
        there = {value for each in present if each.type in ("A", "AAAA") for value in each.values}
        kept = bool(there) if _has_generation(owner_of(present), owner) else not there.isdisjoint(addresses)
        if kept or not self._labels.is_used(owner, self._told.domain):
            return present
        self._labels.renew(owner, self._told.domain)
        return ()

    def _host_sets(self, owner: Owner, addresses: tuple[str, ...], word: str) -> list[RecordSet]:
        return _host_sets(self._told, self.host(owner), owner, addresses, word)

    def drop(self, targets: set[str]) -> bool:
        """Take the values that lead to `targets` out of the sets; whether there were any."""
        present = [each for page in self._store.under(*self._read_names()) for each in page]
        current = self._current(present)
        values = tuple(each for each in current.values if _target(each) not in targets)
        return self._write(present, current, values, hosts_of(present).keys() - targets, "")

    def _current(self, sets: Iterable[RecordSet], name: str = "") -> RecordSet:
        name = name or self._set
        here = (each for each in sets if (each.name, each.type) == (name, "SRV"))
        return next(here, RecordSet(name, "SRV", self._told.ttl, ()))

    def _write(
        self,
        present: list[RecordSet],
        current: RecordSet,
        values: tuple[str, ...],
        hosts: Collection[str],
        ours: str,
    ) -> bool:
        """The set with `values`, and with it those of the other names, by compare-and-swap; whether anything had to be changed.
        Raises ConflictError where another was first."""
        wanted = replace(current, ttl=self._told.ttl, values=values)
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
        """How the sets of the other names change, where they do: they have the members of ours, beside what is not ours."""
        members = [each for each in wanted.values if self._is_ours(each)]
        known = {ours, *map(_target, members), *map(_target, filter(self._is_ours, current.values))}
        # Of those that are in another incarnation too, that one's machines write the service's name.
        elsewhere = {each for each in self._elsewhere(present) if each in hosts}
        found = []
        for name, on in self._names.items():
            old = self._current(present, name)
            leave = known if on else known - elsewhere
            kept = [each for each in old.values if _target(each) not in leave and not self._is_gone(name, each, hosts)]
            new = replace(old, ttl=self._told.ttl if on else old.ttl, values=tuple(sorted(kept + members * on)))
            # What somebody has put there keeps no machine from its set: the roll call says what is missing.
            with contextlib.suppress(RefusedError):
                if _differ(old, new):
                    _check(present, new)
                    found.append((old, new))
        return found

    def _elsewhere(self, present: Iterable[RecordSet]) -> set[str]:
        """The hosts that are in the set of another incarnation of the service."""
        end, sets = f".{_short_name(self._told)}", list(present)
        found = (each for word in _MEMBERS for each in hosts_of(sets, word).items())
        return {host for host, names in found if any(name != self._set and name.endswith(end) for name in names)}

    def _swap(self, changes: list[tuple[RecordSet, RecordSet]]) -> None:
        """In one batch, or one after the other where that is more than Route53 takes at once."""
        lines = [value for pair in changes for each in pair for value in each.values]
        whole = len(lines) <= _BATCH_VALUES and sum(map(len, lines)) <= _BATCH_CHARACTERS
        for batch in [changes] if whole else [[each] for each in changes if _differ(*each)]:
            deletes = [old for old, _ in batch if old.values]
            self._store.change(deletes, [new for _, new in batch if new.values])

    def _is_ours(self, value: str) -> bool:
        return _target(value).endswith(f".{LABEL}.{self._told.domain}")

    def _is_gone(self, name: str, value: str, hosts: Collection[str]) -> bool:
        """Whether a value at another name leads to no member. At the service's name there may be those of another incarnation."""
        return self._is_ours(value) and (name != _short_name(self._told) or _target(value) not in hosts)


def put_challenge(store: Store, name: str, owner: Owner, on: bool, by: str) -> bool:
    """Put up the challenge of `by` for `owner` at `name`, or take it away (without `by` everybody's); whether there was one."""
    text = f'"{owner} {by}'.rstrip()
    none = RecordSet(name, "TXT", _CHALLENGE_TTL_S, ())
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
    """Raise RefusedError where a set cannot be written. What is in the way of nothing need not go."""
    name = wanted.name
    alias = next((each for each in present if (each.name, each.type) == (name, "CNAME")), None)
    if alias is not None:
        raise RefusedError(f"reason=cname-in-the-way name={name} target={alias.values[0]}")
    if wanted.routed:
        raise RefusedError(f"reason=routed-set name={name}")
    if len(wanted.values) > MOST_VALUES:
        raise RefusedError(f"reason=set-full name={name} values={len(wanted.values)} fix='give it shards'")


def set_name(told: ServiceJoin) -> str:
    return f"{told.incarnation}.{told.service}.{told.domain}".lower()


def srv_names(told: ServiceJoin) -> dict[str, bool]:
    """The names of RFC 2782, and whether an incarnation's members are to be there: the service's may be another incarnation's."""
    if not told.srv:
        return {}
    return {f"{told.service}.{told.incarnation}.{told.domain}".lower(): True, _short_name(told): told.srv == "service"}


def _short_name(told: ServiceJoin) -> str:
    return f"{told.service}.{told.domain}".lower()


def by_labels(name: str) -> list[str]:
    """How Route53 sorts names: by their labels from the right."""
    return name.split(".")[::-1]


def host_name(label: str, domain: str) -> str:
    return f"{label}.{LABEL}.{domain}"


def begins(name: str, with_name: str) -> bool:
    """Whether a name is another one, or one beside it whose first label begins with that one's and a hyphen."""
    (label, _, rest), (first, _, parent) = name.partition("."), with_name.partition(".")
    return rest == parent and (label == first or label.startswith(f"{first}-"))


def srv_value(told: ServiceJoin, host: str) -> str:
    return f"{told.priority} {told.weight} {told.port} {host}."


def hosts_of(sets: Iterable[RecordSet], wish: str = _JOINS) -> dict[str, dict[str, str]]:
    """For each host below our label the sets in which it should stand (or which it `leaves`), with its value there. A host
    without a TXT of Rollcall's is there with none."""
    found: dict[str, dict[str, str]] = {}
    for each in sets:
        joins = found.setdefault(each.name, {})
        if each.type == "TXT" and _owner(each) is not None:
            for text in each.values:
                word, _, rest = text.strip('"').partition(" ")
                name, _, value = rest.partition(" ")
                if word == wish and value.endswith(f" {each.name}."):
                    joins[name] = value
    return found


def own_records(
    told: ServiceJoin, owner: Owner, addresses: tuple[str, ...], kept: bool, host_ttl: int = 0, host: str = ""
) -> list[RecordSet]:
    """What a member has in DNS: its host's records, and its value in the set and at the other names. `host_ttl`: the
    shortest of all services that the host is in; `host`: its name, where it is not that of the first registration."""
    host = host or host_name(owner.generation, told.domain)
    sets = _host_sets(told, host, owner, addresses, _KEPT if kept else _JOINS)
    found = [replace(each, ttl=host_ttl or told.ttl) for each in sets if each.values]
    value = srv_value(told, host)
    names = [name for name, on in {set_name(told): True, **srv_names(told)}.items() if on]
    return [*found, *(RecordSet(name, "SRV", told.ttl, (value,)) for name in names)]


def _host_sets(told: ServiceJoin, host: str, owner: Owner, addresses: tuple[str, ...], word: str) -> list[RecordSet]:
    """The A, AAAA and TXT of a member's host; without values where it has none."""
    texts = tuple(sorted((f'"{owner}"', f'"{_AT} {" ".join(addresses)}"', _says(told, host, word))))
    kinds = {"A": (), "AAAA": (), **{record_type(each): (each,) for each in addresses}, "TXT": texts}
    return [RecordSet(host, kind, told.ttl, values) for kind, values in kinds.items()]


def _says(told: ServiceJoin, host: str, word: str) -> str:
    return f'"{word} {set_name(told)} {srv_value(told, host)}"'


def is_leaving(sets: Iterable[RecordSet], host: str) -> bool:
    """Whether a host's TXT says that its machine leaves a set, and is in none."""
    here = list(sets)
    return bool(hosts_of(here, _LEAVES).get(host)) and not _sets_of(here, host)


def is_kept(sets: Iterable[RecordSet], name: str) -> bool:
    """Whether a host's TXT says that its machine is unhealthy and stays in the set `name`."""
    return any(name in found for found in hosts_of(sets, _KEPT).values())


def _sets_of(sets: Iterable[RecordSet], host: str) -> set[str]:
    """The sets that a host is in, by what its TXT says."""
    here = list(sets)
    return {name for word in _MEMBERS for name in hosts_of(here, word).get(host, {})}


def _is_of_another(present: Iterable[RecordSet], owner: Owner) -> bool:
    """Whether the host of `owner` is a twin's or a successor's. No other machine has its generation, so any other mark was copied."""
    other = owner_of(present)
    return other != owner and _has_generation(other, owner)


def _has_generation(found: Owner | None, owner: Owner) -> bool:
    return found is not None and found.generation == owner.generation


def _same_machine(found: Owner | None, owner: Owner) -> bool:
    return found is not None and _has_generation(found, owner) and found.instance == owner.instance


def _former(sets: Iterable[RecordSet], owner: Owner, host: str) -> list[RecordSet]:
    """What a machine's hosts of earlier registrations still have, as where the agent has lost what it had kept."""
    here = list(sets)
    names = {each.name for each in here if each.type == "TXT" and _same_machine(_owner(each), owner)} - {host}
    return [each for each in here if each.name in names and generation_of(each.name) == owner.generation]


def owner_of(sets: Iterable[RecordSet]) -> Owner | None:
    """Whose a host is, by the TXT among its record sets."""
    return next((owner for each in sets if each.type == "TXT" and (owner := _owner(each)) is not None), None)


def joined(
    values: Iterable[str],
    domain: str,
    hosts: Iterable[str],
    others: dict[str, str],
    ours: str,
    wanted: Iterable[str],
) -> tuple[str, ...]:
    """The set's new values: `wanted` instead of what leads to our host, those of `others` (by host) that were missing, and no
    value that leads to a name below our label where nothing stands. Everybody else's values to the byte."""
    kept = [each for each in values if _target(each) != ours and not is_dead(each, domain, hosts)]
    missing = sorted(others[each] for each in others.keys() - {ours, *map(_target, kept)})
    return tuple(sorted([*kept, *missing[: max(MOST_VALUES - len(kept) - 1, 0)], *wanted]))


def is_dead(value: str, domain: str, hosts: Iterable[str]) -> bool:
    """`hosts` must have been read after the set: a host is registered before its value, and its value goes before it."""
    target = _target(value)
    return target.endswith(f".{LABEL}.{domain}") and target not in hosts


def _host_changes(
    present: Iterable[RecordSet], fresh: list[RecordSet], owner: Owner, name: str, wanted: str
) -> tuple[list[RecordSet], list[RecordSet]]:
    """How what is at our host becomes what we want there, with what others put beside it. Of an empty set of `fresh` only what
    an earlier life of ours had goes."""
    here = {each.type: each for each in present}
    if "CNAME" in here:
        raise RefusedError(f"reason=cname-in-the-way name={fresh[0].name} target={here['CNAME'].values[0]}")
    text = here.get("TXT")
    before = _owner(text) if text is not None else None
    # An earlier life of ours, or a twin that an interrupted `up` left: nobody else has this generation.
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
        # A caller must not have an address for longer than the value that led to it; of several services the shortest time counts. Of
        # a set of which nothing is ours the TTL is not either.
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
    """What other hosts of our stack have at an address of ours: its machine is dead, since the address is ours now."""
    found = []
    for records in _by_name(sets).values():
        other = owner_of(records)
        there = {value for each in records if each.type in ("A", "AAAA") for value in each.values}
        if other is not None and other.stack == owner.stack and other != owner and there & {*addresses}:
            found += records if there <= {*_noted(records)} else []
    return found


def _cleared(sets: list[RecordSet], addresses: tuple[str, ...] = ()) -> tuple[list[RecordSet], list[RecordSet]]:
    """What goes of a machine's host when it stands nowhere any more, and what others have in the same sets comes back."""
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
    """The addresses that machines wrote down as theirs."""
    values = (value.strip('"').split() for each in sets if each.type == "TXT" for value in each.values)
    return [each for words in values if words[:1] == [_AT] for each in words[1:]]


def _owner(text: RecordSet) -> Owner | None:
    return next((found for each in text.values if (found := Owner.parse(each.strip('"'))) is not None), None)


def _target(value: str) -> str:
    return value.rpartition(" ")[2].rstrip(".").lower()


def _record_set(found: Any) -> RecordSet:
    routed = any(key in found for key in ("SetIdentifier", "AliasTarget", "TrafficPolicyInstanceId"))
    values = tuple(sorted(each["Value"] for each in found.get("ResourceRecords", ())))
    # Route53 writes `*` as `\\052`.
    name = found["Name"].rstrip(".").replace("\\052", "*")
    return RecordSet(name, found["Type"], int(found.get("TTL", 0)), values, routed)


def _change(action: str, record: RecordSet) -> dict[str, Any]:
    values = [{"Value": value} for value in record.values]
    shown = {"Name": record.name, "Type": record.type, "TTL": record.ttl, "ResourceRecords": values}
    return {"Action": action, "ResourceRecordSet": shown}
