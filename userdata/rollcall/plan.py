"""Plan which DNS records a machine must change to join or to leave a host: pure functions of values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from rollcall.cloudflare import Record
from rollcall.ownership import KEPT, LEAVES, Owner


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Changes in this order: deletes, updates, creates. `refused` names the foreign record that prevents them (empty: none)."""

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
    """Plan the changes after which `owner` has the records `wanted`. These have one name, different types, and empty ids.

    Our own record with another address or setting is updated. A second record of its type (A, AAAA), or one of a type that is not wanted,
    is deleted. If a record of our stack has an address of ours, its machine is dead, since the address is ours now: we take the record
    over. A foreign record with the same content, or a CNAME at the name (RFC 1034 section 3.6.2), is refused, and then nothing is changed.
    `kept`: the mark says that the machine is unhealthy and stays.

    An ownership mark may be a copy (octoDNS keeps one comment for a record set). At the addresses `live` other members answer, so the
    records there belong to them even if they have our mark. We wrote the records with these `ids`, and they are ours even if their mark was
    replaced.
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
                refused=f"reason=foreign-record name={each.name} content={each.content} comment={foreign.comment!r}"
            )
        # Keep the record that has the content already: Cloudflare refuses to change another one to it (81058).
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
    """Plan the removal of what this generation on this instance wrote. The records of a successor and of all others stay.

    `addresses` are those of a machine that leaves itself. The records there are its own, even with the mark of another member.
    """
    return Plan(deletes=tuple(sorted(_own(present, owner, addresses, ids, live))))


def elsewhere(present: Iterable[Record], owner: Owner, addresses: Collection[str]) -> list[str]:
    """Return the addresses that have our mark but are not ours: we had them before, or the mark was copied."""
    return sorted(
        {each.content for each in present if Owner.parse(each.comment) == owner and each.content not in addresses}
    )


def _own(
    present: Iterable[Record], owner: Owner, addresses: Collection[str], ids: Collection[str], live: Collection[str]
) -> list[Record]:
    """Return the records of a machine, by mark and value.

    A record that it wrote (`ids`) is its own also without a mark. Cloudflare accepts no second record with the same content, so a record
    with this content was made from it.
    """

    def is_own(record: Record) -> bool:
        if record.type in ("A", "AAAA") and record.content in addresses:
            return _of_stack(record, owner.stack) or record.id in ids or bool(ids and not record.comment)
        return record.content not in live and Owner.parse(record.comment) == owner

    return [each for each in present if is_own(each)]


def _staying(present: Iterable[Record], rtype: str, stack: str) -> set[str]:
    """Return the addresses of this type of the stack's machines that are not about to leave."""
    here = (each for each in present if each.type == rtype and not each.comment.endswith(LEAVES))
    return {each.content for each in here if _of_stack(each, stack)}


def why_kept(present: Iterable[Record], mine: Iterable[Record], stack: str, floors: Mapping[str, int]) -> str:
    """Return why an unhealthy machine with the records `mine` must stay; empty if it may leave.

    It must stay if a record set would otherwise have fewer than `floors` machines of the stack (by type).
    """
    here, own = list(present), list(mine)
    for rtype in sorted({each.type for each in own}):
        others = len(_staying(here, rtype, stack) - {each.content for each in own})
        if others < floors.get(rtype, 0):
            return too_few(rtype, others, floors[rtype])
    return ""


def are_leaving(present: Iterable[Record], owner: Owner) -> bool:
    """Return whether other machines of the stack are about to leave because they are unhealthy."""
    owners = (Owner.parse(each.comment) for each in present if each.comment.endswith(LEAVES))
    return any(each is not None and each.stack == owner.stack and each != owner for each in owners)


def too_few(rtype: str, others: int, floor: int) -> str:
    return f"reason=too-few-others type={rtype} others={others} floor={floor}"


def _of_stack(record: Record, stack: str) -> bool:
    owner = Owner.parse(record.comment)
    return owner is not None and owner.stack == stack
