"""`make reference`: the keys and defaults in docs/configuration.md, from what components/settings.py reads.

    python -m components.reference [--write]

The words beside a key are the document's own; which keys there are, in which order, and their defaults come from the code.
Without `--write` it only says what differs. Exit code 0: nothing differs (any more); 1: something does.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components import settings
from components.reading import Faults, Reader

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
NEEDED = "needed"
_TABLE = re.compile(r"(<!-- keys: (\S+) -->\n\| key \| default \| what \|\n\|---\|---\|---\|\n)((?:\|.*\n)*)")
_ROW = re.compile(r"\| `([^`]+)` *\|([^|]*)\| *(.*?) *\|\n")
_PORT = 4218
_SERVICE = {"port": _PORT, "incarnations": {"v1": {}}}
_SITE = {"zone": "zone.example"}
_SSH = {"user": "admin", "keyName": "operators", "from": ["203.0.113.0/24"]}
_FLEET = {"cloud": "aws", "size": "s", "image": "debian-12", "joins": ["site"], "ssh": _SSH, "adopt": {}}


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key as the code reads it: what it is when it is not told, and what it takes where the code limits that."""

    name: str
    default: str
    takes: tuple[str, ...] = ()


@dataclass
class _Notes:
    asked: dict[str, tuple[object, tuple[str, ...]]] = field(default_factory=dict)


class _Noting(Reader):
    """Reads as Reader does, and notes what was asked for at its own level; what is inside of it is another table."""

    notes: _Notes

    def text(self, name: str, default: str | None = None, *, check: Callable[[str], str | None] | None = None) -> str:
        self._note(name, default)
        return super().text(name, default, check=check)

    def optional_text(self, name: str, *, check: Callable[[str], str | None] | None = None) -> str | None:
        self._note(name, None)
        return super().optional_text(name, check=check)

    def number(self, name: str, default: int | None, *, least: int, most: int, unit: str = "") -> int:
        self._note(name, default, f"{least} to {most}")
        return super().number(name, default, least=least, most=most, unit=unit)

    def flag(self, name: str, default: bool) -> bool:
        self._note(name, default)
        return super().flag(name, default)

    def choice(self, name: str, choices: Iterable[str], default: str | None = None) -> str:
        known = tuple(choices)
        self._note(name, default, *(f"`{each}`" for each in known if each != default))
        return super().choice(name, known, default)

    def texts(self, name: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        self._note(name, None)
        return super().texts(name, default)

    def inner(self, name: str) -> Reader:
        self._note(name, None)
        return super().inner(name)

    def _note(self, name: str, default: object, *takes: str) -> None:
        self.notes.asked.setdefault(name, (default, takes))


# A table of the document -> what reads it, and the least that it takes.
_READERS: dict[str, tuple[Callable[[Reader], object], Mapping[str, Any]]] = {
    "site": (settings._site, _SITE),
    "fleets": (lambda reader: settings._fleet("web", reader), _FLEET),
    "ssh": (lambda reader: settings._ssh(reader, "aws"), _SSH),
    "directory": (settings._directory, {"zone": "zone.example", "services": {"theService": _SERVICE}}),
    "services": (lambda reader: settings._service("theService", reader), _SERVICE),
    "incarnations": (lambda reader: settings._incarnation("v1", reader), {}),
    "joyent": (settings._joyent, {}),
}


def keys(table: str) -> list[Key]:
    """What the code reads for this table of the document, in the order in which it asks."""
    read, least = _READERS[table]
    faults, notes = _read(read, least)
    if faults:
        raise AssertionError(f"the sample of {table} has faults: {faults}")
    found = []
    for name, (default, takes) in notes.asked.items():
        without = {key: value for key, value in least.items() if key != name}
        needed = any(
            fault.startswith((f"rollcall:at.{name}:", f"rollcall:at.{name}.")) for fault in _read(read, without)[0]
        )
        found.append(Key(name=name, default=NEEDED if needed else _shown(default), takes=takes))
    return found


def _read(read: Callable[[Reader], object], values: Mapping[str, Any]) -> tuple[list[str], _Notes]:
    faults, notes = Faults(), _Notes()
    reader = _Noting(values, "rollcall:at", faults)
    reader.notes = notes
    read(reader)
    return faults.found, notes


def _shown(default: object) -> str:
    if default is None:
        return "none"
    if default == "":
        return "empty"
    text = default if isinstance(default, str) else json.dumps(default)
    return f"`{text.replace(str(_PORT), 'PORT')}`"


def generated(document: str) -> str:
    """The document with the rows of each of its tables as the code has them; a key without words gets `…`."""

    def table(found: re.Match[str]) -> str:
        words = {row[1]: row[3] for row in _ROW.finditer(found[3])}
        rows = [f"| `{key.name}` | {key.default} | {words.get(key.name, '…')} |\n" for key in keys(found[2])]
        return found[1] + "".join(rows)

    return _TABLE.sub(table, document)


def unsaid(document: str) -> list[str]:
    """What the document does not say: a table that is not there, a key without words, limits or choices that its words lack."""
    tables = {found[2]: {row[1]: row[3] for row in _ROW.finditer(found[3])} for found in _TABLE.finditer(document)}
    lacking = [f"{table}: no such table" for table in _READERS if table not in tables]
    for table, words in tables.items():
        for key in keys(table):
            said = words.get(key.name, "…")
            lacking += [f"{table}.{key.name}: no words"] if said == "…" else []
            lacking += [f"{table}.{key.name}: {each} is not named" for each in key.takes if each not in said]
    known = {name for name in settings.KEYS}
    return lacking + [
        f"rollcall:{name}: no section" for name in sorted(known) if f"## `rollcall:{name}`" not in document
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="components.reference", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write what the code says into the document")
    chosen = parser.parse_args(arguments)
    before = DOCUMENT.read_text()
    after = generated(before)
    if chosen.write and after != before:
        DOCUMENT.write_text(after)
        before = after
    wrong = unsaid(before) + ([] if after == before else ["keys or defaults differ from the code: `make reference`"])
    for each in wrong:
        print(f"{DOCUMENT.name}: {each}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
