"""Keep one machine out of DNS, and let it join again (`rollcall hold`, `rollcall release-hold`, `rollcall patch`).

The hold is a setting of the running machine. Its agent sees it within 10 s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timezone

from components.model import DesiredState, DnsRecord, Instance, Member
from components.registration.diff import Drift, find_drift, owned
from components.registration.inventory import Registries
from rollcall.in_place import HOLD, Hold


def too_few_after(
    member: Member,
    desired: DesiredState,
    records: Iterable[DnsRecord],
    fewest: Mapping[str, int],
    on_hold: Collection[str] = (),
) -> list[str]:
    """Return a line for each record set that would have too few machines without `member`: a pure function.

    `fewest` has how many machines a record set must keep, by its name; 1 for a name that is not in it. `on_hold` are the
    instances of machines that leave soon, because they are on hold too. A record set without `member` loses nothing.
    """
    listed = list(records)
    mine = {each.key for each in owned(listed, desired.stack, [member]) if not each.leaving}
    found = []
    for expected in desired.record_sets:
        if expected.shared or expected.key not in mine:
            continue
        stay = {
            each.owner.instance
            for each in listed
            if each.key == expected.key and each.owner is not None and each.owner.stack in desired.stacks
        } - {member.instance, *on_hold}
        least = max(fewest.get(expected.key.name, 1), 1)
        if len(stay) < least:
            found.append(f"{expected.key} would have {len(stay)} machines without it, and must keep {least}")
    return list(dict.fromkeys(found))


def put_on_hold(registries: Registries, stack: str, member: Member, reason: str, now: datetime | None = None) -> Hold:
    """Write the hold. Raises SettingsError for a reason that a tag cannot contain."""
    moment = now or datetime.now(timezone.utc)
    hold = Hold(since=moment.strftime("%Y-%m-%dT%H:%M:%SZ"), reason=reason)
    write(registries, stack, {member: {HOLD: hold.words()}})
    return hold


def release(registries: Registries, stack: str, member: Member) -> None:
    """Remove the hold."""
    write(registries, stack, {member: {HOLD: None}})


def write(registries: Registries, stack: str, changes: Mapping[Member, Mapping[str, str | None]]) -> None:
    """Write live settings of machines. None removes a setting."""
    for tagged in sorted({each.stack or stack for each in changes}):
        mine = {each.instance: change for each, change in changes.items() if (each.stack or stack) == tagged}
        registries.set_settings(tagged, mine)


def still_in_dns(registries: Registries, stack: str, member: Member, before: Iterable[DnsRecord]) -> list[DnsRecord]:
    """Return the records of `member` that the DNS providers list, or of `before` that a name server still answers with.

    A host that has left its record sets is not among them: it stays for callers with a cached value (docs/decisions/0014).
    """
    here = [each for each in owned(registries.dns_records(), stack, [member]) if not each.leaving]
    return here or registries.still_answered(each for each in before if not each.leaving)


def drift_of(registries: Registries, desired: DesiredState) -> tuple[Drift, tuple[Instance, ...]]:
    """Return how DNS differs from the desired state now, and the machines that the cloud lists."""
    instances = tuple(each for stack in desired.stacks for each in registries.instances(stack))
    records = registries.dns_records()
    return find_drift(desired, records, instances, registries.answers()), instances
