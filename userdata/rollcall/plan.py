"""What a machine must change so that its own entry stands at a host, or stands there no more: pure functions of values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from rollcall.cloudflare import Record
from rollcall.ownership import Owner


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


def joining(present: Iterable[Record], owner: Owner, wanted: Record) -> Plan:
    """How `wanted` (with an empty id) comes to stand, owned by `owner`.

    Our own entry with another address or setting is updated; a second one, or one of the other family (A, AAAA), is
    deleted, since a machine stands at one address. An entry of our stack with our address belonged to a machine that is
    dead, since its address is ours now: taken over. The same content of anybody else, or a CNAME at the name (RFC 1034
    section 3.6.2), is refused.
    """
    here = sorted(record for record in present if record.name == wanted.name)
    wanted = replace(wanted, comment=str(owner))
    alias = next((record for record in here if record.type == "CNAME"), None)
    if alias is not None:
        return Plan(refused=f"reason=cname-in-the-way name={wanted.name} target={alias.content}")
    typed = [record for record in here if record.type == wanted.type]
    mine = [record for record in here if Owner.parse(record.comment) == owner]
    same = [record for record in typed if record.content == wanted.content]
    foreign = next((record for record in same if not _of_stack(record, owner.stack)), None)
    if foreign is not None:
        return Plan(
            refused=f"reason=foreign-entry name={wanted.name} content={foreign.content} comment={foreign.comment!r}"
        )
    # The entry that has the content already is kept: another one could not be changed to it (81058).
    kept = next((record for record in same + mine if record.type == wanted.type), None)
    deletes = tuple(record for record in mine if record != kept)
    if kept is None:
        return Plan(deletes=deletes, creates=(wanted,))
    target = replace(wanted, id=kept.id, ttl=1 if wanted.proxied else wanted.ttl)
    return Plan(deletes=deletes, updates=() if kept == target else (target,))


def leaving(present: Iterable[Record], owner: Owner) -> Plan:
    """Removes what this generation on this instance wrote; a successor's and everybody else's entries stay."""
    return Plan(deletes=tuple(sorted(record for record in present if Owner.parse(record.comment) == owner)))


def _of_stack(record: Record, stack: str) -> bool:
    owner = Owner.parse(record.comment)
    return owner is not None and owner.stack == stack
