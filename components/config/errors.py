"""Define the error that names everything that is wrong with a configuration.

The module does not import pydantic, because the hosts of dynamic providers use it too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Protocol

from rollcall.escaping import escaped_lines

_PLAIN_NAME = r"[A-Za-z0-9_-]+"
# The form of a password, a token or a key. A value of this form is never shown, and must not be in a TXT record.
_SECRET = r"(?i:passw|secret|token|api.?key|private.?key)|AKIA[0-9A-Z]{16}|-----BEGIN|[0-9A-Za-z+/_-]{40,}"
_LONGEST_SHOWN = 80


class ConfigurationError(Exception):
    """The stack's configuration cannot be used; the message lists every error with its key and the fix."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(map(escaped_lines, faults))
        count = "1 error" if len(self.faults) == 1 else f"{len(self.faults)} errors"
        super().__init__(
            f"the configuration has {count}, nothing was changed:\n"
            + "\n".join(f"  - {fault}" for fault in self.faults)
        )


@dataclass
class Faults:
    """Errors in the shape `WHERE: PROBLEM. FIX.`, in the order in which they were found."""

    found: list[str] = field(default_factory=list)

    def add(self, where: str, problem: str, fix: str) -> None:
        self.found.append(f"{where}: {problem}. {fix[:1].upper()}{fix[1:]}.")

    def covers(self, where: str) -> bool:
        """Return whether this key has an error already: on itself, on a mapping that contains it, or on an item of its list."""
        keys = [each.partition(": ")[0] for each in self.found]
        return any(
            where == key or where.startswith((f"{key}.", f"{key}[")) or key.startswith(f"{where}[") for key in keys
        )

    def __bool__(self) -> bool:
        return bool(self.found)


def at(section: str, *path: str | int) -> str:
    """Return a key as Pulumi writes its path: `rollcall:fleets.web.joins[0]`, `rollcall:fleets["a b"]`."""
    return section + "".join(
        f"[{each}]"
        if isinstance(each, int)
        else f".{each}"
        if re.fullmatch(_PLAIN_NAME, each)
        else f"[{json.dumps(each, ensure_ascii=False)}]"
        for each in path
    )


def near(value: object, known: Iterable[str]) -> str:
    """Return a question with the known word that is most similar to a text. Empty: none is similar."""
    found = get_close_matches(str(value), list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def may_be_secret(text: str) -> bool:
    return re.search(_SECRET, text) is not None


def shown(value: object, *, hidden: bool = False) -> str:
    """Return a value as an error may show it: in YAML's words, short, and never a secret."""
    if hidden or (isinstance(value, str) and may_be_secret(value)):
        return "the value (not shown)"
    if value is None:
        return "null"
    if isinstance(value, bool | float):
        return str(value).lower()
    if isinstance(value, int):
        return str(value) if abs(value) < 10**_LONGEST_SHOWN else "the number"
    if isinstance(value, str):
        return repr(value) if len(value) <= _LONGEST_SHOWN else f"a text of {len(value)} characters"
    return "a list" if isinstance(value, list | tuple) else "a mapping" if isinstance(value, dict) else "the value"


class Add(Protocol):
    """Add an error, unless its key has one already."""

    @property
    def faults(self) -> Faults: ...

    def __call__(
        self, where: str, problem: str, fix: str, *, value: str | None = None, detail: object = ""
    ) -> None: ...
