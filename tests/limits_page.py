"""The rows of docs/limits.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs/limits.md"
_COLUMNS = 8


@dataclass(frozen=True, kw_only=True)
class Row:
    """A limit that a configuration can exceed. `refusal` is the code of the service; empty where no service refuses."""

    name: str
    number: str
    source: str
    module: str
    function: str
    says: str
    refusal: str

    def describes(self, fault: str) -> bool:
        """Return whether a fault has the words of the page, in which `…` stands for any text."""
        return re.search(".*".join(map(re.escape, self.says.split("…"))), fault) is not None


@cache
def rows() -> dict[str, Row]:
    """Return the limits that a configuration can exceed, by name."""
    found = {}
    for cells in _cells(_COLUMNS):
        name, _, number, source, by, says, _, refusal = cells
        path, _, function = by.strip("`").partition(":")
        found[name.strip("`")] = Row(
            name=name.strip("`"),
            number=number,
            source=source,
            module=path.removesuffix(".py").replace("/", "."),
            function=function,
            says=says.strip("`"),
            refusal=refusal.strip("`") if refusal.startswith("`") else "",
        )
    return found


@cache
def kept() -> dict[str, int]:
    """Return the limits that no configuration exceeds, by name, with their numbers."""
    return {cells[0].strip("`"): int(cells[2].replace(",", "")) for cells in _cells(5)}


def _cells(columns: int) -> Iterator[list[str]]:
    for line in PAGE.read_text().splitlines():
        cells = [each.strip() for each in line.strip("|").split(" | ")]
        if line.startswith("| `") and len(cells) == columns:
            yield cells
