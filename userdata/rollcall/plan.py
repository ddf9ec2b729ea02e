"""What a machine must change so that its own entry stands at a host, or stands there no more: pure functions of values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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


def joining(
    present: Iterable[Record],
    owner: Owner,
    *wanted: Record,
    kept: bool = False,
    ids: Collection[str] = (),
    live: Collection[str] = (),
) -> Plan:
    """How `wanted` (of one name and each of another type, with empty ids) come to stand, owned by `owner`.

    Our own entry with another address or setting is updated; a second one of its type (A, AAAA), or one of a type that is not
    wanted, is deleted. An entry of our stack with an address of ours belonged to a machine that is dead, since the address is
    ours now: taken over. The same content of anybody else, or a CNAME at the name (RFC 1034 section 3.6.2), is refused, and
    nothing is changed then. `kept`: the mark says that the machine is unhealthy and stays.

    A mark that was copied is not a machine (octoDNS keeps one comment for a record set): at the addresses `live` other members answer, so
    what has our mark there is theirs. Of the records with these `ids`, which we wrote, somebody has replaced the mark.
    """
    here = sorted(record for record in present if record.name == wanted[0].name)
    alias = next((record for record in here if record.type == "CNAME"), None)
    if alias is not None:
        return Plan(refused=f"reason=cname-in-the-way name={alias.name} target={alias.content}")
    addresses = [each.content for each in wanted]
    mine = _own(here, owner, addresses, ids, live)
    staying, updates, creates = [], [], []
    for each in wanted:
        target = replace(each, comment=owner.mark(KEPT if kept else ""))
        same = [record for record in here if (record.type, record.content) == (each.type, each.content)]
        foreign = next((record for record in same if record not in mine), None)
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


def leaving(
    present: Iterable[Record],
    owner: Owner,
    addresses: Collection[str] = (),
    ids: Collection[str] = (),
    live: Collection[str] = (),
) -> Plan:
    """Removes what this generation on this instance wrote; a successor's and everybody else's entries stay.

    `addresses` are those of the machine that leaves itself: what is there is its own whatever member's mark is on it.
    """
    return Plan(deletes=tuple(sorted(_own(present, owner, addresses, ids, live))))


def elsewhere(present: Iterable[Record], owner: Owner, addresses: Collection[str]) -> list[str]:
    """The addresses at which our mark is and we are not: we had them before, or the mark was copied."""
    return sorted(
        {each.content for each in present if Owner.parse(each.comment) == owner and each.content not in addresses}
    )


def _own(
    present: Iterable[Record], owner: Owner, addresses: Collection[str], ids: Collection[str], live: Collection[str]
) -> list[Record]:
    """The records of a machine, by mark and value. What it wrote (`ids`) is its own without a mark as well: Cloudflare takes no second
    record of the same content, so what is in its place was made of it."""

    def is_own(record: Record) -> bool:
        if record.type in ("A", "AAAA") and record.content in addresses:
            return _of_stack(record, owner.stack) or record.id in ids or bool(ids and not record.comment)
        return record.content not in live and Owner.parse(record.comment) == owner

    return [each for each in present if is_own(each)]


def _staying(present: Iterable[Record], rtype: str, stack: str) -> set[str]:
    """The addresses of this type at which machines of a stack are that have not said that they are about to leave."""
    here = (each for each in present if each.type == rtype and not each.comment.endswith(LEAVES))
    return {each.content for each in here if _of_stack(each, stack)}


def why_kept(present: Iterable[Record], mine: Iterable[Record], stack: str, floors: Mapping[str, int]) -> str:
    """Why an unhealthy machine with the records `mine` must stay: without it a record set would have fewer than `floors` machines of the
    stack (by type). Empty where it may leave."""
    here, own = list(present), list(mine)
    for rtype in sorted({each.type for each in own}):
        others = len(_staying(here, rtype, stack) - {each.content for each in own})
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
