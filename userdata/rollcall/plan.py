"""What a machine must change so that its own entry stands at a host, or stands there no more: pure functions of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from rollcall.cloudflare import Record
from rollcall.ownership import KEPT, LEAVES, Owner


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Deletes first, then updates, then creates; `refused` says what of somebody else is in the way."""

    deletes: tuple[Record, ...] = ()
    updates: tuple[Record, ...] = ()
    creates: tuple[Record, ...] = ()
    refused: str = ""

    @property
    def empty(self) -> bool:
        return not (self.deletes or self.updates or self.creates or self.refused)


def joining(present: Iterable[Record], owner: Owner, *wanted: Record, kept: bool = False) -> Plan:
    """How `wanted` (of one name and each of another type, with empty ids) come to stand, owned by `owner`.

    Our own entry with another address or setting is updated; a second one of its type (A, AAAA), or one of a type that is not
    wanted, is deleted. An entry of our stack with an address of ours belonged to a machine that is dead, since the address is
    ours now: taken over. The same content of anybody else, or a CNAME at the name (RFC 1034 section 3.6.2), is refused, and
    nothing is changed then. `kept`: the mark says that the machine is unhealthy and stays.
    """
    here = sorted(record for record in present if record.name == wanted[0].name)
    alias = next((record for record in here if record.type == "CNAME"), None)
    if alias is not None:
        return Plan(refused=f"reason=cname-in-the-way name={alias.name} target={alias.content}")
    mine = [record for record in here if Owner.parse(record.comment) == owner]
    staying, updates, creates = [], [], []
    for each in wanted:
        target = replace(each, comment=owner.mark(KEPT if kept else ""))
        same = [record for record in here if (record.type, record.content) == (each.type, each.content)]
        foreign = next((record for record in same if not _of_stack(record, owner.stack)), None)
        if foreign is not None:
            return Plan(
                refused=f"reason=foreign-entry name={each.name} content={each.content} comment={foreign.comment!r}"
            )
        # The entry that has the content already is kept: another one could not be changed to it (81058).
        old = next((record for record in same + mine if record.type == each.type), None)
        if old is None:
            creates.append(target)
            continue
        staying.append(old)
        target = replace(target, id=old.id, ttl=1 if each.proxied else each.ttl)
        updates += [target] if old != target else []
    deletes = tuple(record for record in mine if record not in staying)
    return Plan(deletes=deletes, updates=tuple(updates), creates=tuple(creates))


def leaving(present: Iterable[Record], owner: Owner) -> Plan:
    """Removes what this generation on this instance wrote; a successor's and everybody else's entries stay."""
    return Plan(deletes=tuple(sorted(record for record in present if Owner.parse(record.comment) == owner)))


def _staying(present: Iterable[Record], rtype: str, stack: str) -> set[Owner]:
    """The machines of a stack that have a record of this type, and have not said that they are about to leave."""
    staying = (each for each in present if each.type == rtype and not each.comment.endswith(LEAVES))
    owners = {Owner.parse(each.comment) for each in staying}
    return {each for each in owners if each is not None and each.stack == stack}


def why_kept(present: Iterable[Record], owner: Owner, floors: Mapping[str, int]) -> str:
    """Why an unhealthy machine must stay: without it a record set of its would have fewer than `floors` machines (by type). Empty where it
    may leave."""
    here = list(present)
    for rtype in sorted({each.type for each in here if Owner.parse(each.comment) == owner}):
        others = len(_staying(here, rtype, owner.stack) - {owner})
        if others < floors.get(rtype, 0):
            return too_few(rtype, others, floors[rtype])
    return ""


def are_leaving(present: Iterable[Record], owner: Owner) -> bool:
    """Whether other machines of the stack are about to leave for their health."""
    owners = (Owner.parse(each.comment) for each in present if each.comment.endswith(LEAVES))
    return any(each is not None and each.stack == owner.stack and each != owner for each in owners)


def too_few(rtype: str, others: int, floor: int) -> str:
    return f"reason=too-few-others type={rtype} others={others} floor={floor}"


def _of_stack(record: Record, stack: str) -> bool:
    owner = Owner.parse(record.comment)
    return owner is not None and owner.stack == stack
