"""Report what the engine does in a few lines: its progress, failures, the text of a roll call, and the counts at the end.

The engine writes its events down as they happen (`--event-log`, which the automation API reads as well); what it prints is far more,
and for the log.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

# What each operation on a resource does and has done; the engine's words for what it does beside these change nothing.
_DOES = {
    "create": "creating",
    "create-replacement": "replacing",
    "delete": "deleting",
    "delete-replaced": "replacing",
    "import": "importing",
    "import-replacement": "importing",
    "replace": "replacing",
    "update": "updating",
}
_DONE = {
    "create": "created",
    "delete": "deleted",
    "import": "imported",
    "replace": "replaced",
    "update": "updated",
    "same": "unchanged",
}
_PLANNED = {
    "create": "to create",
    "delete": "to delete",
    "import": "to import",
    "replace": "to replace",
    "update": "to update",
    "same": "unchanged",
}
_COLOUR = re.compile(r"<\{%[^%]*%\}>|\x1b\[[0-9;]*m")
# The engine makes these for itself.
_OF_THE_ENGINE = re.compile(r"pulumi:providers:[\w-]+::default(_|$)")
_NAMES = 3
# A resource in what `pulumi preview --diff` prints: the operation's mark, the type, the operation; below it, further in, its name
# and what changes.
_RESOURCE = re.compile(
    r"(?P<indent> *)(?P<mark>[^\s\w]*) ?(?P<type>\w[\w./-]*:[\w./:-]+): \((?P<op>create|create-replacement|delete|"
    r"delete-replaced|discard|import|import-replacement|read|read-replacement|refresh|replace|same|update)\)"
)
_NAMED = re.compile(r"\[urn=.*::(.+)\]$")
# A property that changes, or a part of one; between these the engine shows what stays the same.
_CHANGED = re.compile(r" *[-+~] ")
# If a resource is created or deleted as a whole, only its name is shown.
_WHOLE = ("create", "create-replacement", "delete", "delete-replaced", "discard", "import", "read")

Event = Mapping[str, Any]


class Events:
    """The events in a file that the engine writes: those that have come since the last time.

    `pulumi up` makes the file twice, for its preview and for the update. Each is taken away as soon as it is open here, so that
    the second one is another file, and what the resources are made of is not left behind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._rest = b""
        path.unlink(missing_ok=True)

    def new(self) -> list[Event]:
        found: list[Event] = []
        # Looked for first: once there is another one, this one is whole.
        following = self._opened()
        while True:
            found += self._read()
            if following is None:
                return found
            self.close()
            self._file, following = following, self._opened()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""

    def _opened(self) -> IO[bytes] | None:
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return None
        self.path.unlink()
        return file

    def _read(self) -> list[Event]:
        if self._file is None:
            return []
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [event for line in lines if isinstance(event := _parsed(line), dict)]


def _parsed(line: bytes) -> Any:
    """Return an event, or None for a line that is not JSON: an error in the display must not stop the update."""
    with contextlib.suppress(ValueError):
        return json.loads(line)
    return None


class Update:
    """The state of one `pulumi` command, by its events so far."""

    def __init__(self) -> None:
        self.failed = False
        self._printed: set[str] = set()
        self._planned: set[tuple[str, str]] = set()
        self._refreshed: dict[bool, set[str]] = {True: set(), False: set()}
        self._done: set[tuple[str, str]] = set()
        self._broken: set[tuple[str, str]] = set()
        self._going: dict[tuple[str, str], None] = {}
        self._planning = True
        self._changes: Mapping[str, int] | None = None

    def add(self, event: Event) -> list[str]:
        """Process an event. Return the lines to show because of it, each once."""
        if diagnostic := event.get("diagnosticEvent"):
            return self._diagnostic(diagnostic)
        if summary := event.get("summaryEvent"):
            self._planning = bool(summary.get("isPreview"))
            self._changes = summary.get("resourceChanges") or {}
            return []
        for kind in ("resourcePreEvent", "resOutputsEvent", "resOpFailedEvent"):
            if step := event.get(kind):
                self._step(kind, step.get("metadata") or {}, bool(step.get("planning")))
        return []

    def headline(self) -> str:
        """Return the progress as one line."""
        if known := {*self._done, *self._broken, *self._going}:
            total = max(len(self._planned), len(known))
            names = [_named(urn) for urn, _ in self._going]
            more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
            now = f": {', '.join(names[:_NAMES])}{more}" if names else ""
            broken = f", {len(self._broken)} failed" if self._broken else ""
            return f"{self._verb()} {len(self._done)} of {total}{broken}{now}"
        read, listed = self._refreshed[self._planning], self._refreshed[True]
        if read and not (self._planning and self._planned):
            return f"reading resources: {len(read)}{'' if self._planning else f' of {len(listed)}'}"
        return f"finding out what changes: {len(self._planned)} so far"

    def counts(self) -> str:
        """Return the result: the engine's own counts."""
        words = _PLANNED if self._planning else _DONE
        found = {words[op]: count for op, count in (self._changes or {}).items() if op in words and count}
        return ", ".join(f"{found[word]} {word}" for word in words.values() if word in found) or "nothing"

    def _verb(self) -> str:
        does = {_DOES[op] for _, op in (*self._planned, *self._done, *self._going)}
        return does.pop() if len(does) == 1 else "changing"

    def _step(self, kind: str, step: Mapping[str, Any], planning: bool) -> None:
        urn, op = step.get("urn", ""), step.get("op", "")
        self._planning = planning
        if _OF_THE_ENGINE.search(urn):
            return
        if op == "refresh":
            if kind != "resourcePreEvent":
                self._refreshed[planning].add(urn)
            return
        if op not in _DOES or op == "replace":
            return
        key = (urn, op)
        if planning:
            self._planned.add(key)
        elif kind == "resourcePreEvent":
            self._going[key] = None
            if not _is_custom(step):
                # A component is there as soon as it is known; of its outputs nothing need ever come.
                self._finish(key)
        elif kind == "resOpFailedEvent":
            self._going.pop(key, None)
            self._broken.add(key)
        else:
            self._finish(key)

    def _finish(self, key: tuple[str, str]) -> None:
        self._going.pop(key, None)
        self._done.add(key)

    def _diagnostic(self, diagnostic: Mapping[str, Any]) -> list[str]:
        severity = diagnostic.get("severity", "info")
        if diagnostic.get("ephemeral") or severity == "debug":
            return []
        text = _COLOUR.sub("", diagnostic.get("message", "")).strip("\n").rstrip()
        name = diagnostic.get("urn", "").rpartition("::")[2]
        is_fault = severity == "error"
        words = [severity] if severity in ("error", "warning") else []
        shown = ": ".join([*words, *([name] if is_fault and name else []), text])
        if not text or shown in self._printed:
            return []
        self._printed.add(shown)
        self.failed = self.failed or is_fault
        first, *rest = shown.split("\n")
        return [f"    {first}", *(f"      {line}" for line in rest)]


def _named(urn: str) -> str:
    """`urn:pulumi:STACK::PROJECT::PARENTS$PACKAGE:MODULE:Type::NAME` -> `NAME (Type)`"""
    kinds, _, name = urn.rpartition("::")
    return f"{name} ({kinds.rpartition(':')[2]})"


def _is_custom(step: Mapping[str, Any]) -> bool:
    state = step.get("new") or step.get("old") or {}
    return bool(state.get("custom"))


def changes(text: str) -> list[str]:
    """What `pulumi preview --diff` has found, without what stays the same: a line for what is made or goes, and the properties that
    change of what is there."""
    found: list[str] = []
    block: re.Match[str] | None = None
    body: list[str] = []
    for line in [*text.split("\n"), ""]:
        header = _RESOURCE.match(line)
        if header is None and block is not None and _is_within(line, block):
            body.append(line)
        elif block is not None:
            found += _resource(block, body)
            block = None
        if header is not None:
            block, body = header, []
    return found


def _is_within(line: str, block: re.Match[str]) -> bool:
    return line.startswith(f"{block['indent']}  ")


def _resource(block: re.Match[str], body: list[str]) -> list[str]:
    name = next((named[1] for line in body if (named := _NAMED.search(line))), "")
    properties = [line for line in body if _CHANGED.match(line)]
    line = f"    {block['mark']:<2} {block['op']:<8} {name} ({block['type']})"
    if block["op"] in _WHOLE:
        return [line]
    if block["op"] == "same" or not properties:
        return []
    return [line, *(f"        {each[len(block['indent']) + 2 :]}".rstrip() for each in properties)]
