"""The blocks of docs/tutorial.md and docs/own-repository.md: what a reader types, and what the page says that it prints."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.documented import OWN_REPOSITORY, TUTORIAL

PAGE, OWN_PAGE = TUTORIAL, OWN_REPOSITORY
_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.M | re.S)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of commands. `shown` are the lines that the page says it prints, in this order."""

    commands: str
    shown: tuple[str, ...] = ()


def blocks(text: str) -> list[Block]:
    """Return the blocks of the page, in order. Raises ValueError for a block of another kind, which no test would run."""
    found: list[Block] = []
    for indent, kind, body in _FENCE.findall(text):
        # In a list, a block is indented as far as its fence.
        plain = re.sub(rf"^{indent}", "", body, flags=re.M)
        if kind == "sh":
            found.append(Block(commands=plain))
        elif kind == "text" and found and not found[-1].shown:
            found[-1] = Block(commands=found[-1].commands, shown=tuple(plain.splitlines()))
        else:
            raise ValueError(f"a block of {kind} is neither commands nor what they print: {plain[:80]!r}")
    return found


def missing(shown: tuple[str, ...], printed: str) -> list[str]:
    """Return what the page says that a block prints, from the first line on that is not there. `…` matches any text within a line."""
    lines = iter(printed.splitlines())
    for at, each in enumerate(shown):
        wanted = re.compile(".*".join(map(re.escape, each.split("…"))))
        if not any(wanted.fullmatch(line) for line in lines):
            return list(shown[at:])
    return []
