"""Compare what should be in DNS with what is there: one pure function of values. No I/O, no clock, no text for people.

The same code serves `preview` (what a reviewer sees), `up` (what it waits for) and `rollcall status`. It returns typed findings;
`messages.line` makes text of one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from enum import Enum

from components.model import (
    GOING,
    DesiredState,
    DnsRecord,
    ExpectedRecordSet,
    ForeignRecord,
    Instance,
    Member,
    RecordKey,
    member_of,
)
from rollcall.escaping import escaped
from rollcall.host_label import first_host
from rollcall.in_place import Hold
from rollcall.ownership import Owner

SAFETY_LIMIT_FROM, SAFETY_LIMIT_SHARE = 10, 0.3
# The five parts of an ownership mark.
_OwnerParts = tuple[str, str, str, str, str]


class Kind(Enum):
    """How DNS or a cloud differs from the state. The values name RollCall's properties in the state."""

    MISSING = "missing"
    STALE = "stale"
    LEFTOVER = "leftover"
    FOREIGN = "foreign"
    ORPHANED = "orphaned"
    UNPROVEN = "unproven"


class Cause(Enum):
    """Why a member is missing or stale."""

    NOT_REGISTERED = "it has no record"
    NO_IPV6 = "its cloud lists no IPv6 address of it"
    UNHEALTHY = "it keeps its record although it is unhealthy"
    NOT_ANSWERED = "the name servers do not answer with its record"
    NOT_RESOLVED = "the resolvers of the machines do not answer with its record"
    OTHER_VALUE = "its record has another value"
    OTHER_ADDRESS = "its record has another address"
    ON_HOLD = "it is on hold and has a record"


_UNANSWERED = (Cause.NOT_ANSWERED, Cause.NOT_RESOLVED)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One difference.

    `key` is the record set; None for a machine that is in no state. `member` is the machine. For a record, it is the
    machine that the ownership mark names (None: the record has no mark). `values` are the values in DNS, or what the
    cloud reports of an orphaned machine. `expected` are the values that should be there. `doubt` is the reason why it
    is not proven that Rollcall created a machine.
    """

    kind: Kind
    key: RecordKey | None = None
    member: Member | None = None
    values: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()
    cause: Cause | None = None
    doubt: str = ""


@dataclass(frozen=True, kw_only=True)
class MemberOnHold:
    """A member that an operator keeps out of DNS (`rollcall hold`). It is neither missing nor stale while it has no record."""

    member: Member
    hold: Hold


@dataclass(frozen=True, kw_only=True)
class Drift:
    """All findings of a fleet, sorted. `leftovers` are the leftover records themselves, `orphans` the machines that are in no state and
    may be ended. `on_hold` are no findings: an operator wants them so."""

    findings: tuple[Finding, ...] = ()
    leftovers: tuple[DnsRecord, ...] = ()
    orphans: tuple[Instance, ...] = ()
    on_hold: tuple[MemberOnHold, ...] = ()

    def of(self, *kinds: Kind) -> tuple[Finding, ...]:
        """Return the findings of these kinds."""
        return tuple(each for each in self.findings if each.kind in kinds)

    @property
    def waiting(self) -> frozenset[Member]:
        """The members that do not answer, or not with what they should."""
        return frozenset(each.member for each in self.of(Kind.MISSING, Kind.STALE) if each.member)

    @property
    def unanswered(self) -> frozenset[RecordKey]:
        """The record sets with a member that the name servers, or the resolvers, do not answer with."""
        return frozenset(each.key for each in self.findings if each.key and each.cause in _UNANSWERED)

    @property
    def complete(self) -> bool:
        """Whether all members answer, with the address that they have (promise 1 for this fleet)."""
        return not self.of(Kind.MISSING, Kind.STALE)

    @property
    def clean(self) -> bool:
        return not self.findings


def find_drift(
    desired: DesiredState,
    records: Iterable[DnsRecord],
    instances: Iterable[Instance],
    answers: Mapping[RecordKey, frozenset[str] | None],
) -> Drift:
    """Return how DNS and the cloud differ from the desired state.

    `answers` has the values with which every name server of the zone answers for each record set. None: the answers do not show
    single machines (a proxied name answers with addresses of the edge).
    """
    sets = {each.key: each for each in desired.record_sets}
    listed = [each for each in records if each.key in sets]
    machines = {each.instance: each for each in instances}
    known = {_parts_of(desired.stack, each): each for each in (*desired.members, *desired.leaving)}
    running = {each.instance for each in machines.values() if each.running}
    leftovers = sorted({each for each in listed if _is_leftover(each, desired, known, running)}, key=_record_order)
    in_state = {each.instance for each in known.values()}
    orphans = tuple(sorted(each for each in machines.values() if _is_orphan(each, desired, in_state)))
    strangers = {_foreign(each) for each in listed if is_foreign(each, desired.stacks, sets[each.key])}
    findings = [
        *_of_members(desired, listed, machines, answers),
        *map(_leftover, leftovers),
        *(each for each in strangers if acknowledgement(each) not in desired.acknowledged),
        *map(_orphaned, orphans),
    ]
    return Drift(
        findings=tuple(sorted(findings, key=_order)),
        leftovers=tuple(leftovers),
        orphans=orphans,
        on_hold=_on_hold(desired, machines),
    )


def _on_hold(desired: DesiredState, machines: Mapping[str, Instance]) -> tuple[MemberOnHold, ...]:
    listed = ((each, machines.get(each.instance)) for each in sorted(desired.members))
    return tuple(
        MemberOnHold(member=member, hold=machine.hold) for member, machine in listed if machine and machine.hold
    )


def _of_members(
    desired: DesiredState,
    listed: Iterable[DnsRecord],
    machines: Mapping[str, Instance],
    answers: Mapping[RecordKey, frozenset[str] | None],
) -> Iterator[Finding]:
    """Yield what is wrong with each member in each record set. A fault in the set `beside` is not reported again."""
    # Grouped by owner first: a fleet of hundreds has as many records, and those of each member are searched.
    values: dict[tuple[RecordKey, _OwnerParts], set[str]] = {}
    unhealthy: set[tuple[RecordKey, _OwnerParts]] = set()
    for each in listed:
        if each.owner is not None and not each.leaving:
            values.setdefault((each.key, _parts(each.owner)), set()).add(each.value)
            unhealthy |= {(each.key, _parts(each.owner))} if each.kept else set()
    faulty: set[tuple[RecordKey | None, Member]] = set()
    for expected in desired.record_sets:
        for member in (each for each in desired.members if expected.holds(each)):
            if (expected.beside, member) in faulty:
                continue
            at = expected.key, _parts_of(desired.stack, member)
            machine = machines.get(member.instance)
            fault = _fault(member, expected, values.get(at, set()), machine, answers.get(expected.key))
            if fault:
                faulty.add((expected.key, member))
                yield fault
            elif at in unhealthy:
                yield Finding(kind=Kind.MISSING, cause=Cause.UNHEALTHY, key=expected.key, member=member)


def _fault(
    member: Member, expected: ExpectedRecordSet, values: set[str], machine: Instance | None, answered: Set[str] | None
) -> Finding | None:
    """Return what is wrong with a member in one record set, or None. `values` are those of its records there."""
    key = expected.key
    if machine is not None and machine.hold:
        still = tuple(sorted(values))
        return Finding(kind=Kind.STALE, cause=Cause.ON_HOLD, key=key, member=member, values=still) if values else None
    addresses = machine.addresses_of(expected.address) if machine is not None else ()
    ipv6 = key.type == "AAAA"
    if not values:
        without = ipv6 and addresses and not any(":" in each for each in addresses)
        cause = Cause.NO_IPV6 if without else Cause.NOT_REGISTERED
        return Finding(kind=Kind.MISSING, cause=cause, key=key, member=member)
    fixed = {expected.value.format(generation=member.generation)} if expected.value else set()
    wanted = fixed or {each for each in addresses if (":" in each) == ipv6} or set(addresses)
    found = {first_host(each, member.generation) for each in values} if fixed else values
    if wanted and not found <= wanted:
        return Finding(
            kind=Kind.STALE,
            cause=Cause.OTHER_VALUE if fixed else Cause.OTHER_ADDRESS,
            key=key,
            member=member,
            values=tuple(sorted(found - wanted)),
            expected=tuple(sorted(wanted)),
        )
    if answered is not None and not values & answered:
        names = tuple(sorted(values))
        cause = Cause.NOT_RESOLVED if expected.private else Cause.NOT_ANSWERED
        return Finding(kind=Kind.MISSING, cause=cause, key=key, member=member, values=names)
    return None


def acknowledgement(finding: Finding) -> ForeignRecord:
    """Return what the state remembers of a foreign record that an `up` has shown. A stranger may have written its value."""
    assert finding.key is not None, finding
    stack = finding.member.stack if finding.member else ""
    return ForeignRecord(key=finding.key, value=escaped(", ".join(finding.values)), stack=stack)


def owned(records: Iterable[DnsRecord], stack: str, members: Iterable[Member]) -> list[DnsRecord]:
    """Return those of `records` that belong to one of `members`."""
    theirs = {_parts_of(stack, member) for member in members}
    return [each for each in records if each.owner is not None and _parts(each.owner) in theirs]


def is_foreign(record: DnsRecord, stacks: Collection[str], expected: ExpectedRecordSet) -> bool:
    """Return whether no machine of this stack wrote this record. `stacks` are the ids that the stack has or had."""
    if record.owner is None:
        return not record.dead
    return record.owner.stack not in stacks and not expected.shared


def is_of_another(record: DnsRecord, machines: Iterable[Instance]) -> bool:
    """Return whether a running machine has the address in this record, and the ownership mark names another machine.

    Such a mark was copied: some tools keep one comment for a record set and write one machine's mark on all of its records. The record
    is never removed. The agent of the machine that has the address writes its own mark on it.
    """
    return other_at(record, machines) is not None


def other_at(record: DnsRecord, machines: Iterable[Instance]) -> Instance | None:
    """Return the running machine that has the address in this record, if the ownership mark names another machine."""
    if record.alone:
        return None
    here = (each for each in machines if each.running and record.value in (*each.addresses, *each.private_addresses))
    return next((each for each in here if record.owner is None or each.instance != record.owner.instance), None)


def is_safe_delete(total: int, removed: int) -> bool:
    """Return whether so many leftover records may be removed at once: three in ten, where there are ten or more.

    To remove more than that is more often a mistake.
    """
    return total < SAFETY_LIMIT_FROM or removed <= total * SAFETY_LIMIT_SHARE


def is_safe_end(wanted: int, ended: int) -> bool:
    """Return whether so many orphaned machines may be ended at once beside `wanted` members: three in ten, rounded down.

    So no machine is ended in a fleet of up to three: one of three is much, and the end of a machine cannot be undone.
    """
    return ended <= int(wanted * SAFETY_LIMIT_SHARE + 1e-9)


def with_doubts(drift: Drift, reasons: Mapping[str, str]) -> Drift:
    """Return the drift with some orphaned machines as unproven: those that only their tags connect to this stack.

    They are shown and never ended. `reasons` has the reason for each such instance.
    """
    findings = (
        replace(each, kind=Kind.UNPROVEN, doubt=reasons[each.member.instance])
        if each.kind is Kind.ORPHANED and each.member and each.member.instance in reasons
        else each
        for each in drift.findings
    )
    orphans = tuple(each for each in drift.orphans if each.instance not in reasons)
    return replace(drift, findings=tuple(sorted(findings, key=_order)), orphans=orphans)


def _parts(owner: Owner) -> _OwnerParts:
    return owner.stack, owner.fleet, owner.machine, owner.generation, owner.instance


def _parts_of(stack: str, member: Member) -> _OwnerParts:
    """Return the parts of the mark on a member's records.

    A machine that was tagged by hand may have parts that no mark can have. Then it has no record.
    """
    return member.stack or stack, member.fleet, member.machine, member.generation, member.instance


def _is_leftover(
    record: DnsRecord, desired: DesiredState, known: Mapping[_OwnerParts, Member], running: Set[str]
) -> bool:
    if record.dead:
        return True
    owner = record.owner
    if owner is None or owner.stack not in desired.stacks:
        return False
    if record.leaving and owner.instance in running:
        # Callers with a cached value are still served there. The agent removes it after the TTL.
        return False
    if owner.fleet != desired.fleet and owner.fleet in desired.fleets:
        return False
    member = known.get(_parts(owner))
    return member is None or not any(each.key == record.key and each.holds(member) for each in desired.record_sets)


def _is_orphan(machine: Instance, desired: DesiredState, in_state: Set[str]) -> bool:
    """Return whether a machine has this stack's tags and is in no state.

    Such a machine was created by an `up` that was killed before it could store the machine.
    """
    ours = machine.fleet == desired.fleet or (desired.keeper and machine.fleet not in desired.fleets)
    return ours and machine.instance not in in_state and machine.state not in GOING


def _leftover(record: DnsRecord) -> Finding:
    return Finding(kind=Kind.LEFTOVER, key=record.key, member=_owner(record), values=(record.value,))


def _foreign(record: DnsRecord) -> Finding:
    return Finding(kind=Kind.FOREIGN, key=record.key, member=_owner(record), values=(record.value,))


def _orphaned(machine: Instance) -> Finding:
    return Finding(kind=Kind.ORPHANED, member=member_of(machine), values=(machine.state,))


def _owner(record: DnsRecord) -> Member | None:
    """Return the machine that a record's ownership mark names, with the stack."""
    owner = record.owner
    if owner is None:
        return None
    return Member(
        fleet=owner.fleet,
        machine=owner.machine,
        generation=owner.generation,
        instance=owner.instance,
        stack=owner.stack,
    )


_KINDS = [*Kind]


def _order(finding: Finding) -> tuple[object, ...]:
    member = finding.member or Member(fleet="", machine="", generation="", instance="")
    return _KINDS.index(finding.kind), member, finding.key or RecordKey("", ""), finding.values, finding.expected


def _record_order(record: DnsRecord) -> tuple[object, ...]:
    return record.key, record.value, record.owner is not None, str(record.owner), record.id
