"""Cloud firewall rules: read, written the one way FWAPI writes them, and matched with machines.

`FROM targets TO targets ALLOW|BLOCK protocol …`; https://docs.tritondatacenter.com "Firewall rules reference".
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from localcloud.triton.errors import invalid_argument
from localcloud.triton.model import Machine

_WORD = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[()=,]|[^\s()=,"]+)')
_PORTED = ("tcp", "udp")
_ICMP = ("icmp", "icmp6")
# sdc-fwrule, lib/rule.js
_MOST = 24


class _NoRule(ValueError):
    """The text is not a rule. The message names the position of the error."""


@dataclass(frozen=True, order=True)
class Target:
    """`kind` is any, all vms, ip, subnet, vm or tag; `value` None for a tag whatever its value."""

    kind: str
    key: str = ""
    value: str | None = None

    def __str__(self) -> str:
        if self.kind == "tag":
            return f'tag "{self.key}"' + (f' = "{self.value}"' if self.value is not None else "")
        return f"{self.kind} {self.key}".rstrip()

    def covers(self, machine: Machine) -> bool:
        if self.kind == "all vms":
            return True
        if self.kind == "vm":
            return self.key == machine.id
        if self.kind == "tag" and self.key in machine.tags:
            return self.value is None or self.value == _as_text(machine.tags[self.key])
        return False


@dataclass(frozen=True)
class Parsed:
    source: tuple[Target, ...]
    destination: tuple[Target, ...]
    action: str
    protocol: str
    details: str
    priority: int

    def __str__(self) -> str:
        words = ["FROM", _side(self.source), "TO", _side(self.destination), self.action, self.protocol, self.details]
        words.append(f"PRIORITY {self.priority}" if self.priority else "")
        return " ".join(word for word in words if word)

    def covers(self, machine: Machine) -> bool:
        return any(target.covers(machine) for target in (*self.source, *self.destination))


@dataclass
class Rule:
    parsed: Parsed
    enabled: bool = False
    log: bool = False
    description: str = ""
    common: bool = False
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"id": self.id, "rule": str(self.parsed), "enabled": self.enabled, "log": self.log}
        if self.common:
            body["global"] = True
        return {**body, "description": self.description} if self.description else body


def parse(text: object) -> Parsed:
    """Raise ApiError 409 for an invalid rule."""
    try:
        if not isinstance(text, str):
            raise _NoRule("rule must be a string")
        return _Parser(text).rule()
    except _NoRule as wrong:
        detail = str(wrong)
        refusal = invalid_argument(f"rule is invalid: {detail}")
        refusal.errors = ({"field": "rule", "code": "InvalidParameter", "message": detail},)
        raise refusal from wrong


def _side(targets: tuple[Target, ...]) -> str:
    if len(targets) == 1:
        return str(targets[0])
    return f"({' OR '.join(str(target) for target in targets)})"


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Parser:
    def __init__(self, text: str) -> None:
        self._words: list[str] = []
        position = 0
        while text[position:].strip():
            found = _WORD.match(text, position)
            if found is None:
                raise _NoRule(f"Error at character {position}: unexpected text")
            self._words.append(found[1])
            position = found.end()

    def rule(self) -> Parsed:
        self._expect("FROM")
        source = self._targets()
        self._expect("TO")
        destination = self._targets()
        action = self._take("ALLOW or BLOCK").lower()
        if action not in ("allow", "block"):
            raise _NoRule(f"expected ALLOW or BLOCK, got {action!r}")
        protocol = self._take("a protocol").lower()
        details = self._details(protocol)
        priority = int(self._number("a priority", 0, 100)) if self._skip("PRIORITY") else 0
        if self._words:
            raise _NoRule(f"unexpected {self._words[0]!r}")
        if not any(target.kind in ("all vms", "vm", "tag") for target in (*source, *destination)):
            raise _NoRule("rule does not affect VMs")
        return Parsed(source, destination, action.upper(), protocol, details, priority)

    def _details(self, protocol: str) -> str:
        if protocol in _PORTED:
            return self._ports()
        if protocol in _ICMP:
            return self._types()
        if protocol in ("ah", "esp"):
            return ""
        raise _NoRule(f"unknown protocol {protocol!r}")

    def _ports(self) -> str:
        bracketed = self._skip("(")
        if self._skip("PORTS"):
            ranges = sorted({self._range()}, key=_low)
            while self._skip(","):
                ranges = sorted({*ranges, self._range()}, key=_low)
            self._close(bracketed)
            _check_number(ranges, "ports")
            return f"PORTS {', '.join(ranges)}"
        ports: set[str] = set()
        while not ports or self._skip("AND"):
            self._expect("PORT")
            ports.add("all" if self._skip("all") else self._number("a port", 1, 65535))
        self._close(bracketed)
        _check_number(ports, "ports")
        written = " AND ".join(f"PORT {port}" for port in sorted(ports, key=_low))
        return f"({written})" if len(ports) > 1 else written

    def _range(self) -> str:
        word = self._take("ports")
        if self._skip("-"):
            word = f"{word}-{self._take('the last port')}"
        low, dash, high = word.partition("-")
        for port in (low, high) if dash else (low,):
            if not port.isdecimal() or not 1 <= int(port) <= 65535:
                raise _NoRule(f"{word!r} is not a range of ports")
        return f"{low} - {high}" if dash else low

    def _types(self) -> str:
        bracketed = self._skip("(")
        types: set[str] = set()
        while not types or self._skip("AND"):
            self._expect("TYPE")
            found = "all" if self._skip("all") else self._number("an ICMP type", 0, 255)
            if self._skip("CODE"):
                found += f" CODE {self._number('an ICMP code', 0, 255)}"
            types.add(found)
        self._close(bracketed)
        _check_number(types, "types")
        written = " AND ".join(f"TYPE {each}" for each in sorted(types, key=_low))
        return f"({written})" if len(types) > 1 else written

    def _targets(self) -> tuple[Target, ...]:
        bracketed = self._skip("(")
        targets = {self._target()}
        while bracketed and self._skip("OR"):
            targets.add(self._target())
        self._close(bracketed)
        if len(targets) > _MOST:
            raise _NoRule(f"maximum of {_MOST} targets allowed per side")
        return tuple(sorted(targets, key=str))

    def _target(self) -> Target:
        kind = self._take("a target").lower()
        if kind == "any":
            return Target("any")
        if kind == "all":
            self._expect("VMS")
            return Target("all vms")
        if kind == "tag":
            key = _unquoted(self._take("a tag"))
            return Target("tag", key, _unquoted(self._take("a tag's value")) if self._skip("=") else None)
        return Target(kind, self._place(kind))

    def _place(self, kind: str) -> str:
        word = self._take(f"the {kind}")
        try:
            if kind == "ip":
                return str(ipaddress.ip_address(word))
            if kind == "subnet":
                return str(ipaddress.ip_network(word))
            if kind == "vm":
                return str(uuid.UUID(word))
        except ValueError as wrong:
            raise _NoRule(f"{word!r} is not a valid {kind}") from wrong
        raise _NoRule(f"unknown target {kind!r}")

    def _take(self, what: str) -> str:
        if not self._words:
            raise _NoRule(f"expected {what} at the end")
        return self._words.pop(0)

    def _skip(self, word: str) -> bool:
        if self._words and self._words[0].lower() == word.lower():
            self._words.pop(0)
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._skip(word):
            raise _NoRule(f"expected {word}, got {self._words[0]!r}" if self._words else f"expected {word} at the end")

    def _close(self, bracketed: bool) -> None:
        if bracketed:
            self._expect(")")

    def _number(self, what: str, low: int, high: int) -> str:
        word = self._take(what)
        if not word.isdecimal() or not low <= int(word) <= high:
            raise _NoRule(f"{word!r} is not {what} from {low} to {high}")
        return str(int(word))


def _check_number(found: Collection[str], what: str) -> None:
    if len(found) > _MOST:
        raise _NoRule(f"maximum of {_MOST} {what} allowed")


def _low(text: str) -> tuple[int, str]:
    head = text.split(" ")[0]
    return (int(head), text) if head.isdecimal() else (-1, text)


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith('"') else word


def covering(rules: Iterable[Rule], machine: Machine) -> list[Rule]:
    return [rule for rule in rules if rule.parsed.covers(machine)]
