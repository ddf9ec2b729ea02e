"""All records of a zone at one moment, and changes that make the next moment or nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from localcloud.cloudflare import errors
from localcloud.cloudflare.model import Fields, Plan, Record, new_id
from localcloud.cloudflare.rules import check_beside, drafted


@dataclass(frozen=True)
class ZoneData:
    """A zone's records by id and by name, oldest first. Never changed in place, so it is read without a lock."""

    zone: str
    records: Mapping[str, Record]
    by_name: Mapping[str, tuple[Record, ...]]

    @classmethod
    def empty(cls, zone: str) -> ZoneData:
        return cls(zone, {}, {})

    @cached_property
    def parents(self) -> frozenset[str]:
        """Names above records, which exist although they hold nothing (RFC 4592 section 2.2.2)."""
        found = set()
        for name in self.by_name:
            labels = name.split(".")
            found |= {".".join(labels[at:]) for at in range(1, len(labels) - self.zone.count("."))}
        return frozenset(found)


class Change:
    """Changes on top of a ZoneData, each checked against those before it; `done()` is what comes of them.

    Every method raises ApiError and then the change is to be thrown away.
    """

    def __init__(self, data: ZoneData, plan: Plan, edges: tuple[str, ...], now: float) -> None:
        self._zone, self._plan, self._edges, self._now = data.zone, plan, edges, now
        self._records = dict(data.records)
        self._by_name = dict(data.by_name)

    def done(self) -> ZoneData:
        return ZoneData(self._zone, self._records, self._by_name)

    def create(self, body: Mapping[str, Any]) -> Record:
        fields = drafted(body, self._zone, self._plan, self._edges)
        check_beside(fields, self._others(fields.name, ""), self._zone)
        if len(self._records) >= self._plan.records:
            raise errors.quota_exceeded()
        record = Record(
            id=new_id(),
            fields=fields,
            created_on=self._now,
            modified_on=self._now,
            comment_modified_on=self._now if fields.comment is not None else None,
            tags_modified_on=self._now if fields.tags else None,
        )
        self._put(record)
        return record

    def edit(self, record_id: object, body: Mapping[str, Any]) -> Record:
        """PATCH: what `body` leaves out stays."""
        before = self._found(record_id)
        return self._replace(before, drafted(body, self._zone, self._plan, self._edges, before.fields))

    def overwrite(self, record_id: object, body: Mapping[str, Any]) -> Record:
        """PUT: what `body` leaves out becomes the default."""
        before = self._found(record_id)
        return self._replace(before, drafted(body, self._zone, self._plan, self._edges))

    def delete(self, record_id: object) -> Record:
        record = self._found(record_id)
        self._take(record)
        return record

    def batch(self, body: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Deletes, patches, puts, posts, in this order whatever the order in `body`; the reply's `result`."""
        lists = {key: _operations(body, key) for key in ("deletes", "patches", "puts", "posts")}
        count = sum(len(each) for each in lists.values())
        if count > self._plan.batch:
            raise errors.invalid(f"a batch holds {count} operations, more than the {self._plan.batch} of the plan")
        acts: dict[str, Callable[[Mapping[str, Any]], Record]] = {
            "deletes": lambda each: self.delete(each.get("id")),
            "patches": lambda each: self.edit(each.get("id"), each),
            "puts": lambda each: self.overwrite(each.get("id"), each),
            "posts": self.create,
        }
        return {key: [act(each).body() for each in lists[key]] for key, act in acts.items()}

    def _found(self, record_id: object) -> Record:
        record = self._records.get(record_id) if isinstance(record_id, str) else None
        if record is None:
            raise errors.no_such_record()
        return record

    def _others(self, name: str, record_id: str) -> list[Fields]:
        return [each.fields for each in self._by_name.get(name, ()) if each.id != record_id]

    def _replace(self, before: Record, fields: Fields) -> Record:
        """Replace a record. `modified_on` changes only with a value; otherwise a refresh would show false drift."""
        check_beside(fields, self._others(fields.name, before.id), self._zone)
        if fields == before.fields:
            return before
        record = Record(
            id=before.id,
            fields=fields,
            created_on=before.created_on,
            modified_on=self._now,
            comment_modified_on=_moved(before.comment_modified_on, before.fields.comment, fields.comment, self._now),
            tags_modified_on=_moved(before.tags_modified_on, before.fields.tags, fields.tags, self._now),
        )
        if fields.name == before.fields.name:
            here = self._by_name[fields.name]
            self._by_name[fields.name] = tuple(record if each.id == record.id else each for each in here)
            self._records[record.id] = record
        else:
            self._take(before)
            self._put(record)
        return record

    def _put(self, record: Record) -> None:
        self._records[record.id] = record
        name = record.fields.name
        self._by_name[name] = (*self._by_name.get(name, ()), record)

    def _take(self, record: Record) -> None:
        del self._records[record.id]
        name = record.fields.name
        left = tuple(each for each in self._by_name[name] if each.id != record.id)
        if left:
            self._by_name[name] = left
        else:
            del self._by_name[name]


def _moved(before: float | None, old: object, new: object, now: float) -> float | None:
    if not new:
        return None
    return before if old == new else now


def _operations(body: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    given = body.get(key)
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(each, Mapping) for each in given):
        raise errors.invalid(f"{key} must be a list of objects")
    return given
