"""Filters, order and pages of lists.

https://developers.cloudflare.com/api/resources/dns/subresources/records/methods/list/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from localcloud.cloudflare import errors
from localcloud.cloudflare.contents import TYPES
from localcloud.cloudflare.model import Record

T = TypeVar("T")
Test = Callable[[Record], bool]

_TEXT_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "exact": lambda text, wanted: text == wanted,
    "contains": lambda text, wanted: wanted in text,
    "startswith": lambda text, wanted: text.startswith(wanted),
    "endswith": lambda text, wanted: text.endswith(wanted),
}
_TEXTS: Mapping[str, Callable[[Record], str]] = {
    "name": lambda record: record.fields.name.lower(),
    "content": lambda record: record.fields.content.lower(),
    "comment": lambda record: (record.fields.comment or "").lower(),
}
_ORDERS: Mapping[str, Callable[[Record], Any]] = {
    "type": lambda record: record.fields.type,
    "name": lambda record: record.fields.name,
    "content": lambda record: record.fields.content,
    "ttl": lambda record: record.fields.ttl,
    "proxied": lambda record: record.fields.proxied,
}


@dataclass(frozen=True)
class Page:
    """One page of a list, and the `result_info` that goes with it."""

    items: Sequence[Any]
    info: dict[str, int]


def paged(items: Sequence[T], query: Mapping[str, str], usual: int, most: int) -> Page:
    """The page that `query` asks for; `usual` and `most` items a page. Raises ApiError."""
    page = _whole(query, "page", 1, 1_000_000_000)
    size = _whole(query, "per_page", usual, most)
    shown = items[(page - 1) * size : page * size]
    pages = -(-len(items) // size)
    info = {"page": page, "per_page": size, "count": len(shown), "total_count": len(items), "total_pages": pages}
    return Page(shown, info)


def records(found: Sequence[Record], query: Mapping[str, str]) -> list[Record]:
    """Return those of `found` that `query` asks for, in its order (by default by type). Raises ApiError."""
    tests = _tests(query)
    tag_tests = _tag_tests(query)
    if tag_tests:
        tests.append(_joined(tag_tests, query.get("tag_match", "all")))
    wanted = _joined(tests, query.get("match", "all"))
    search = query.get("search", "").lower()
    matching = [each for each in found if wanted(each) and (not search or _mentions(each, search))]
    order = query.get("order", "type")
    if order not in _ORDERS:
        raise errors.invalid(f"order must be one of {', '.join(_ORDERS)}")
    direction = _one_of(query, "direction", ("asc", "desc"))
    return sorted(matching, key=_ORDERS[order], reverse=direction == "desc")


def _tests(query: Mapping[str, str]) -> list[Test]:
    tests: list[Test] = []
    for field, text in _TEXTS.items():
        for operator, compare in _TEXT_TESTS.items():
            value = query.get(f"{field}.{operator}", query.get(field) if operator == "exact" else None)
            if value is not None:
                tests.append(_text_test(text, compare, value.lower()))
    if "comment.present" in query:
        tests.append(lambda record: record.fields.comment is not None)
    if "comment.absent" in query:
        tests.append(lambda record: record.fields.comment is None)
    if "type" in query:
        kind = query["type"].upper()
        if kind not in TYPES:
            raise errors.bad_type()
        tests.append(lambda record: record.fields.type == kind)
    if "proxied" in query:
        proxied = _one_of(query, "proxied", ("true", "false")) == "true"
        tests.append(lambda record: record.fields.proxied is proxied)
    return tests


def _text_test(text: Callable[[Record], str], compare: Callable[[str, str], bool], wanted: str) -> Test:
    return lambda record: compare(text(record), wanted)


def _tag_tests(query: Mapping[str, str]) -> list[Test]:
    tests: list[Test] = []
    if "tag.present" in query:
        tests.append(_has_tag(query["tag.present"]))
    if "tag.absent" in query:
        has = _has_tag(query["tag.absent"])
        tests.append(lambda record: not has(record))
    for operator, compare in _TEXT_TESTS.items():
        value = query.get(f"tag.{operator}", query.get("tag") if operator == "exact" else None)
        if value is not None:
            tests.append(_tag_value(value, compare))
    return tests


def _has_tag(name: str) -> Test:
    return lambda record: any(each.partition(":")[0].lower() == name.lower() for each in record.fields.tags)


def _tag_value(pair: str, compare: Callable[[str, str], bool]) -> Test:
    name, _, wanted = pair.lower().partition(":")

    def test(record: Record) -> bool:
        pairs = (each.lower().partition(":") for each in record.fields.tags)
        return any(key == name and compare(value, wanted) for key, _, value in pairs)

    return test


def _joined(tests: Sequence[Test], match: str) -> Test:
    if match not in ("any", "all"):
        raise errors.invalid("match must be any or all")
    if not tests:
        return lambda record: True
    join = any if match == "any" else all
    return lambda record: join(test(record) for test in tests)


def _mentions(record: Record, search: str) -> bool:
    fields = record.fields
    texts = (fields.name, fields.type, fields.content, fields.comment or "", *fields.tags)
    return any(search in text.lower() for text in texts)


def _one_of(query: Mapping[str, str], field: str, values: tuple[str, ...]) -> str:
    value = query.get(field, values[0])
    if value not in values:
        raise errors.invalid(f"{field} must be one of {', '.join(values)}")
    return value


def _whole(query: Mapping[str, str], field: str, usual: int, most: int) -> int:
    text = query.get(field)
    if text is None:
        return usual
    try:
        value = float(text)
    except ValueError as unreadable:
        raise errors.invalid(f"{field} must be a number") from unreadable
    if value != value or not 1 <= value <= most or value != int(value):
        raise errors.invalid(f"{field} must be from 1 to {most}")
    return int(value)
