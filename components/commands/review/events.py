"""Read what the engine wrote about a preview (`pulumi preview --event-log FILE`) into values.

The event log is the only output of the engine that has everything: what the refresh found apart from what the program
changes, the order of steps, reasons for replacements, and messages. `--json` leaves out resources that stay the same
and mixes a refresh's result with the step that follows it; `--diff` is text for people. The automation API reads the
same log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# The key with which the engine marks a value with a special type, and the type of secrets.
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET_TYPE = "1b47061264138c4ac30d75fd1eb44270"
SECRET = "[secret]"
UNKNOWN = "known once it is made"
# Placeholders of values that are not known before the deployment.
UNKNOWNS = (
    "04da6b54-80e4-46f7-96ec-b56ff0331ba9",
    "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
    "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
    "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
    "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
)
_COLOUR = re.compile(r"<\{%[^%]*%\}>|\x1b\[[0-9;]*m")
_HIDDEN_KEYS = re.compile(
    r"(?i)password|passphrase|secret|token|privatekey|private_key|credential|user_?data(base64)?$"
)
# Only the names of these contain "token" or "secret"; their values are not secret.
_SHOWN_KEYS = ("secrets", "http_tokens", "httpTokens")


class LogError(Exception):
    """The file is not an event log of the engine. The message says what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class State:
    """A resource as the state has it or as the program wants it. Values are plain: secrets and unknowns are words."""

    id: str = ""
    parent: str = ""
    protect: bool = False
    retain: bool = False
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What the engine will do with one resource, or with `refreshed` what it found."""

    op: str
    urn: str
    type: str
    old: State | None
    new: State | None
    changed: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.urn.rpartition("::")[2]

    @property
    def state(self) -> State:
        """The new state where there is one, else the old one."""
        return self.new or self.old or State()


@dataclass(frozen=True, kw_only=True)
class Message:
    severity: str
    text: str
    urn: str = ""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A preview: what the refresh found, what would be done, and the messages.

    `finished`: the engine came to its end.
    """

    refreshed: tuple[Step, ...]
    steps: tuple[Step, ...]
    messages: tuple[Message, ...]
    finished: bool


def read_log(text: str) -> Preview:
    """Read an event log. Raises LogError when `text` is not one."""
    refreshed: dict[str, Step] = {}
    steps: list[Step] = []
    messages: list[Message] = []
    looking: set[str] = set()
    finished = False
    for event in _events(text):
        if before := event.get("resourcePreEvent"):
            step = _step(before["metadata"])
            if step.op == "refresh":
                looking.add(step.urn)
            else:
                looking.discard(step.urn)
                steps.append(step)
        elif after := event.get("resOutputsEvent"):
            step = _step(after["metadata"])
            if step.urn in looking:
                looking.discard(step.urn)
                refreshed[step.urn] = replace(step, op=_found(step))
        elif diagnostic := event.get("diagnosticEvent"):
            if not diagnostic.get("ephemeral") and diagnostic.get("severity") != "debug":
                words = _COLOUR.sub("", diagnostic.get("prefix", "") + diagnostic.get("message", "")).strip()
                messages.append(
                    Message(severity=diagnostic.get("severity", "info"), text=words, urn=diagnostic.get("urn", ""))
                )
        elif "summaryEvent" in event:
            finished = True
    return Preview(
        refreshed=tuple(refreshed[urn] for urn in sorted(refreshed)),
        steps=tuple(steps),
        messages=tuple(messages),
        finished=finished,
    )


def _found(step: Step) -> str:
    """Return what a refresh found. In a preview the engine always says `refresh`, whatever it found."""
    if step.new is None:
        return "delete"
    before = step.old or State()
    return "same" if (before.inputs, before.outputs) == (step.new.inputs, step.new.outputs) else "update"


def _events(text: str) -> Iterable[dict[str, Any]]:
    # Not splitlines(), which ends lines at more characters than the engine does. A text may contain some of them.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except ValueError as broken:
            raise LogError(
                f"line {number}: is not JSON. Give the file that `pulumi preview --event-log` wrote."
            ) from broken
        if not isinstance(event, dict):
            raise LogError(f"line {number}: is not an event. Give the file that `pulumi preview --event-log` wrote.")
        yield event


def _step(metadata: Mapping[str, Any]) -> Step:
    detailed = metadata.get("detailedDiff") or {}
    return Step(
        op=metadata["op"],
        urn=metadata["urn"],
        type=metadata["type"],
        old=_state(metadata.get("old")),
        new=_state(metadata.get("new")),
        changed=tuple(sorted(detailed or metadata.get("diffs") or ())),
        reasons=tuple(sorted(metadata.get("keys") or ())),
    )


def _state(recorded: Mapping[str, Any] | None) -> State | None:
    if recorded is None:
        return None
    return State(
        id=recorded.get("id") or "",
        parent=recorded.get("parent") or "",
        protect=bool(recorded.get("protect")),
        retain=bool(recorded.get("retainOnDelete")),
        inputs=plain(recorded.get("inputs") or {}),
        outputs=plain(recorded.get("outputs") or {}),
    )


def plain(value: Any, key: str = "") -> Any:
    """Return a value without its secrets: what the engine marked as one, and everything below a key that names one."""
    if isinstance(value, Mapping):
        if value.get(_SIGNATURE) == _SECRET_TYPE:
            return SECRET
        if _SIGNATURE in value:
            return plain(value.get("value", UNKNOWN), key)
        return {name: plain(item, name) for name, item in value.items() if name != "__provider"}
    if isinstance(value, list):
        return [plain(item, key) for item in value]
    if value in UNKNOWNS:
        return UNKNOWN
    if isinstance(value, str) and value and key not in _SHOWN_KEYS and _HIDDEN_KEYS.search(key):
        return SECRET
    return value
