"""Reads nested plain values (what YAML holds) into typed ones and collects every fault instead of stopping at the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Faults:
    """What is wrong with a configuration, each fault with the key it is about and how to mend it."""

    found: list[str] = field(default_factory=list)

    def add(self, key: str, wrong: str, mend: str) -> None:
        self.found.append(f"{key}: {wrong}; {mend}")

    def __bool__(self) -> bool:
        return bool(self.found)


class Reader:
    """One mapping of the configuration, at `key`. Every read names what it expects; a fault is noted and the default returned.

    Call `done()` after the last read: what was not asked for is a fault too (most often a misspelt key).
    """

    def __init__(self, value: object, key: str, faults: Faults) -> None:
        self.key = key
        self._faults = faults
        self._asked: list[str] = []
        self._values: dict[str, Any] = {}
        if isinstance(value, Mapping):
            self._values = {str(name): item for name, item in value.items()}
        elif value is not None:
            faults.add(key, f"is {_shown(value)}, not a mapping", "write it as `{name: value, …}`")

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def is_empty(self, name: str) -> bool:
        """Whether a list is there, with nothing in it."""
        return bool(self._values.get(name) == [])

    def take(self, name: str) -> Any:
        """A value of any form, as it is; None where there is none."""
        return self._take(name, None)

    def text(self, name: str, default: str | None = None, *, check: Callable[[str], str | None] | None = None) -> str:
        """A text. `check` returns what is wrong with it and the mend (`"is too long; shorten it"`), or None."""
        value = self._take(name, default)
        if value is None:
            self.fault(name, "is missing", "set it")
            return ""
        if not isinstance(value, str):
            self.fault(name, f"is {_shown(value)}, not a text", "put it in quotes")
            return default or ""
        wrong = check(value) if check else None
        if wrong:
            reason, _, mend = wrong.partition("; ")
            self.fault(name, f"is {value!r}: {reason}", mend or "change it")
        return value

    def optional_text(self, name: str, *, check: Callable[[str], str | None] | None = None) -> str | None:
        if self._values.get(name) is None:
            self._asked.append(name)
            return None
        return self.text(name, check=check)

    def number(self, name: str, default: int | None, *, least: int, most: int, unit: str = "") -> int:
        value = self._take(name, default)
        if value is None:
            self.fault(name, "is missing", f"set it to a whole number from {least} to {most}{unit}")
            return least
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.fault(name, f"is {_shown(value)}", f"set it to a whole number from {least} to {most}{unit}")
            return default if default is not None else least
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self._take(name, default)
        if not isinstance(value, bool):
            self.fault(name, f"is {_shown(value)}", "set it to true or false")
            return default
        return value

    def choice(self, name: str, choices: Iterable[str], default: str | None = None) -> str:
        known = tuple(choices)
        value = self._take(name, default)
        if value is None:
            self.fault(name, "is missing", f"set it to one of {', '.join(known)}")
            return known[0]
        if value not in known:
            self.fault(name, f"is {_shown(value)}", f"set it to one of {', '.join(known)}{near(value, known)}")
            return default or known[0]
        return str(value)

    def texts(self, name: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        value = self._take(name, list(default) if default is not None else None)
        if (
            not isinstance(value, list)
            or not all(isinstance(item, str) for item in value)
            or not (value or default == ())
        ):
            self.fault(
                name, "is missing" if value is None else f"is {_shown(value)}", "set it to a list of names, as [a, b]"
            )
            return default or ()
        return tuple(value)

    def texts_by_name(self, name: str) -> dict[str, str]:
        """A mapping of texts; numbers are refused too, since YAML has changed what was written by the time we see it."""
        reader = self.inner(name)
        return {item: reader.text(item) for item in reader.names()}

    def inner(self, name: str) -> Reader:
        return Reader(self._take(name, None), self._at(name), self._faults)

    def names(self) -> Iterator[str]:
        """The keys of a mapping whose keys are the user's own names."""
        yield from list(self._values)

    def fault(self, name: str, wrong: str, mend: str) -> None:
        self._faults.add(self._at(name) if name else self.key, wrong, mend)

    def done(self) -> None:
        for name in self._values:
            if name not in self._asked:
                self.fault(
                    name, "is not a setting", f"remove it; known are {', '.join(self._asked)}{near(name, self._asked)}"
                )

    def _at(self, name: str) -> str:
        """As the user writes it: `rollcall:linger`, `rollcall:site.zone`."""
        return f"{self.key}{'.' if ':' in self.key else ':'}{name}"

    def _take(self, name: str, default: object) -> Any:
        self._asked.append(name)
        value = self._values.get(name)
        return default if value is None else value


def near(value: object, known: Iterable[str]) -> str:
    """A question for the known word that a text is most like; empty where it is like none."""
    found = get_close_matches(str(value), list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def _shown(value: object) -> str:
    return f"{value!r}" if isinstance(value, str | int | float | bool) else f"a {type(value).__name__}"
