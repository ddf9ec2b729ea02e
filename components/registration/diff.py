"""What should be in DNS against what is there: one pure function of values. No I/O, no clock, no logging.

The same code serves `preview` (what a reviewer sees), `up` (what it waits for) and `make status`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace

from components.model import GOING, DesiredState, DnsRecord, ExpectedRecordSet, Instance, Member, RecordKey, describe
from rollcall.escaping import escaped
from rollcall.host_label import first_host
from rollcall.ownership import Owner

BRAKE_FROM, BRAKE_SHARE = 10, 0.3
KEPT = "kept although unhealthy"
NOT_PROVEN = "only its tags say that it is this stack's"
# An owner's five parts.
_Whose = tuple[str, str, str, str, str]


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Readable lines, sorted. `stray` are the left-over entries themselves, `orphans` the machines that are in no state,
    `unproven` are the lines of those that only their tags say to be the stack's, `unanswered` the record sets that have a member which
    the name servers do not answer with."""

    missing: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    orphaned: tuple[str, ...] = ()
    unanswered: tuple[RecordKey, ...] = ()
    unproven: tuple[str, ...] = ()
    stray: tuple[DnsRecord, ...] = field(default=())
    orphans: tuple[Instance, ...] = field(default=())

    @property
    def complete(self) -> bool:
        """Promise 1 for this fleet: all members answer, with the address that they have."""
        return not self.missing and not self.stale

    @property
    def clean(self) -> bool:
        return self.complete and not self.left_over and not self.foreign and not self.orphaned


def difference(
    roll: DesiredState,
    entries: Iterable[DnsRecord],
    seen: Iterable[Instance],
    answers: Mapping[RecordKey, frozenset[str] | None],
) -> Drift:
    """How DNS differs from the roll.

    `answers` holds for each place the values with which every name server of its zone answers, or None where the
    answers say nothing about single machines (a proxied name answers with the edge's addresses).
    """
    listed = tuple(entries)
    machines = {machine.instance: machine for machine in seen}
    missing: list[str] = []
    stale: list[str] = []
    unanswered: set[RecordKey] = set()
    # By whose they are: a fleet of hundreds has as many entries, of which each member's are asked for.
    values_of: dict[tuple[RecordKey, _Whose], set[str]] = {}
    kept: set[tuple[RecordKey, _Whose]] = set()
    for entry in listed:
        if entry.owner is not None:
            values_of.setdefault((entry.key, _of(entry.owner)), set()).add(entry.value)
            kept |= {(entry.key, _of(entry.owner))} if entry.kept else set()
    faulty: set[tuple[RecordKey | None, Member]] = set()
    for stand in roll.record_sets:
        for member in roll.members:
            if not stand.holds(member) or (stand.beside, member) in faulty:
                continue
            values = values_of.get((stand.key, _as(roll.stack, member)), set())
            fault, is_stale = _fault_of(member, stand, values, machines.get(member.instance), answers.get(stand.key))
            if not fault and (stand.key, _as(roll.stack, member)) in kept:
                missing.append(f"{describe(member)} is at {stand.key} and {KEPT}")
            if fault:
                faulty.add((stand.key, member))
                (stale if is_stale else missing).append(fault)
                unanswered |= {stand.key} if values and not is_stale else set()
    ours = {stand.key: stand for stand in roll.record_sets}
    at_ours = [entry for entry in listed if entry.key in ours]
    known = {_as(roll.stack, member): member for member in (*roll.members, *roll.leaving)}
    stray = tuple(sorted({entry for entry in at_ours if _is_left_over(entry, roll, known)}))
    foreign = sorted({_foreign_line(entry) for entry in at_ours if is_foreign(entry, roll.stacks, ours[entry.key])})
    in_state = {member.instance for member in known.values()}
    orphans = tuple(sorted(each for each in machines.values() if _is_orphan(each, roll, in_state)))
    return Drift(
        orphaned=tuple(_orphan_line(each, "") for each in orphans),
        orphans=orphans,
        unanswered=tuple(sorted(unanswered)),
        missing=tuple(sorted(missing)),
        stale=tuple(sorted(stale)),
        left_over=tuple(escaped(f"{entry.value} of {_owner_name(entry)} at {entry.key}") for entry in stray),
        foreign=tuple(line for line in foreign if line not in roll.acknowledged),
        stray=stray,
    )


def _of(owner: Owner) -> _Whose:
    return owner.stack, owner.fleet, owner.machine, owner.generation, owner.instance


def _as(stack: str, member: Member) -> _Whose:
    """What its entries' owner is. What somebody tagged by hand may lack what an owner must have; it has no entry then."""
    return member.stack or stack, member.fleet, member.machine, member.generation, member.instance


def owned(entries: Iterable[DnsRecord], stack: str, members: Iterable[Member]) -> list[DnsRecord]:
    """Those of `entries` that belong to one of `members`."""
    theirs = {_as(stack, member) for member in members}
    return [entry for entry in entries if entry.owner is not None and _of(entry.owner) in theirs]


def is_foreign(entry: DnsRecord, stacks: Collection[str], stand: ExpectedRecordSet) -> bool:
    """Not written by a machine of this stack, which has or had the ids `stacks`: left as it is, and shown."""
    if entry.owner is None:
        return not entry.dead
    return entry.owner.stack not in stacks and not stand.shared


def is_of_another(entry: DnsRecord, machines: Iterable[Instance]) -> bool:
    """Whether a machine that runs has this entry's address, and the owner that is written beside it is another one.

    A mark that was copied is not a machine: a tool that keeps one comment for a record set writes one machine's mark on all of it. So
    such an entry is never removed; the agent of the machine that has the address writes its own mark on it."""
    return not entry.alone and any(
        each.running
        and entry.value in each.addresses
        and (entry.owner is None or each.instance != entry.owner.instance)
        for each in machines
    )


def _fault_of(
    member: Member,
    stand: ExpectedRecordSet,
    values: set[str],
    machine: Instance | None,
    answered: frozenset[str] | None,
) -> tuple[str, bool]:
    """What is wrong with a member at a stand, or an empty text; and whether the entry is there but with another value."""
    who, place = describe(member), stand.key
    known = machine.addresses if machine is not None else ()
    if not values:
        lacks = place.type == "AAAA" and known and not any(":" in each for each in known)
        return f"{who} is not at {place}{': its cloud lists no IPv6 address of it' if lacks else ''}", False
    has = {stand.value.format(generation=member.generation)} if stand.value else set()
    current = has or {each for each in known if (":" in each) == (place.type == "AAAA")} or set(known)
    plain = {first_host(each, member.generation) for each in values} if has else values
    if current and not plain <= current:
        verb = "it should be with" if has else "it has"
        return (
            escaped(
                f"{who} is at {place} with {', '.join(sorted(plain - current))}, {verb} {', '.join(sorted(current))}"
            ),
            True,
        )
    if answered is not None and not values & answered:
        return (
            f"{who} is in the zone with {', '.join(sorted(values))}, but the name servers do not answer with it at {place}",
            False,
        )
    return "", False


def _is_left_over(entry: DnsRecord, roll: DesiredState, known: Mapping[_Whose, Member]) -> bool:
    if entry.dead:
        return True
    owner = entry.owner
    if owner is None or owner.stack not in roll.stacks:
        return False
    if owner.fleet != roll.fleet and owner.fleet in roll.fleets:
        return False
    member = known.get(_of(owner))
    return member is None or not any(stand.key == entry.key and stand.holds(member) for stand in roll.record_sets)


def _is_orphan(machine: Instance, roll: DesiredState, known: Set[str]) -> bool:
    """Tagged as one of ours, and in no state: made by an `up` that was killed before it could write that down."""
    ours = machine.fleet == roll.fleet or (roll.keeper and machine.fleet not in roll.fleets)
    return ours and machine.instance not in known and machine.state not in GOING


def within_brake(total: int, removed: int) -> bool:
    """May so many left-over entries go at once? Three in ten, where there are ten or more: what removes more is more often a mistake."""
    return total < BRAKE_FROM or removed <= total * BRAKE_SHARE


def is_safe_end(wanted: int, ended: int) -> bool:
    """May so many machines in no state be ended at once beside `wanted` members? Three in ten, rounded down, so none in a fleet of up to
    three: one of three is much, and to end a machine cannot be undone."""
    return ended <= int(wanted * BRAKE_SHARE + 1e-9)


def with_doubts(found: Drift, why: Mapping[str, str]) -> Drift:
    """The same where machines are tagged as the stack's and nothing else says that they are: they are shown, and are no orphans that may be
    ended. `why` is the reason, by instance."""
    return replace(
        found,
        orphaned=tuple(_orphan_line(each, why.get(each.instance, "")) for each in found.orphans),
        orphans=tuple(each for each in found.orphans if each.instance not in why),
        unproven=tuple(_orphan_line(each, why[each.instance]) for each in found.orphans if each.instance in why),
    )


def _orphan_line(machine: Instance, doubt: str) -> str:
    line = escaped(f"{machine.instance} ({machine.state}) is tagged {machine.fleet}-{machine.machine}")
    if not doubt:
        return line
    fix = "If it is not this stack's, take its rollcall- tags away; if it is and is not needed, terminate it"
    return f"{line}, and {NOT_PROVEN} ({escaped(doubt)}), so it is not ended. {fix}."


def _foreign_line(entry: DnsRecord) -> str:
    by = "no owner" if entry.owner is None else f"stack {entry.owner.stack}"
    return escaped(f"{entry.value} ({by}) at {entry.key}")


def _owner_name(entry: DnsRecord) -> str:
    owner = entry.owner
    return f"{owner.fleet}-{owner.machine} ({owner.instance})" if owner is not None else "nobody"
