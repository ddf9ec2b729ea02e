"""Domain names as Route53 keeps them: lower case, no final dot, everything but `a-z 0-9 - _` as `\\OOO` in octal.

https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DomainNameFormat.html
"""

from __future__ import annotations

import functools
import re

import dns.exception
import dns.name

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
_LONGEST_LABEL = 63
_LONGEST_NAME = 255
_ESCAPE = re.compile(rb"\\([0-3][0-7]{2})|\\(.)", re.DOTALL)
# What must be written as an escape: the bytes from 0x00 to 0x20 and from 0x7f to 0xff.
_RAW = re.compile(r"[^\x21-\x7e]")
WILDCARD = "\\052"


class BadNameError(ValueError):
    """A text that is not a domain name. The message has the reason."""


@functools.lru_cache(maxsize=4096)
def normalize(text: str) -> str:
    """`*.Example.com.` -> `\\052.example.com`. Takes plain characters and octal escapes alike. Raises BadNameError."""
    trimmed = text[:-1] if text.endswith(".") and not text.endswith("\\.") else text
    labels = [_label(part) for part in _split(trimmed)] if trimmed else []
    if sum(_length(label) + 1 for label in labels) + 1 > _LONGEST_NAME:
        raise BadNameError("DomainLabelTooLong: Domain name is too long")
    return ".".join(labels)


@functools.lru_cache(maxsize=4096)
def presentation(name: str) -> str:
    """A normalized name as the DNS server has it (RFC 1035 section 5.1): escapes in decimal, and only where they are needed."""
    labels = [re.sub(rb"\\([0-7]{3})", _byte, part.encode()) for part in name.split(".")] if name else []
    return dns.name.Name([*labels, b""]).to_text(omit_final_dot=True)


@functools.lru_cache(maxsize=4096)
def from_presentation(text: str) -> str:
    """The normalized name of one as the DNS server has it. Raises BadNameError."""
    try:
        labels = dns.name.from_text(text).labels[:-1]
    except dns.exception.DNSException as wrong:
        raise BadNameError(f"UnsupportedCharacter: {wrong}") from wrong
    return ".".join(_escaped(label.lower()) for label in labels)


def order(name: str) -> tuple[str, ...]:
    """The sorting key of a normalized name: its labels from the last to the first."""
    return tuple(reversed(name.split(".")))


def within(name: str, zone: str) -> bool:
    return name == zone or name.endswith(f".{zone}")


def parents(name: str, zone: str) -> list[str]:
    """The names between `name` and its zone, nearest first, neither included."""
    found = []
    while within(name := name.partition(".")[2], zone) and name != zone:
        found.append(name)
    return found


def _split(text: str) -> list[str]:
    """At dots that are not escaped."""
    parts, part, index = [], "", 0
    while index < len(text):
        if text[index] == "\\":
            step = 4 if re.match(r"\\[0-7]{3}", text[index:]) else 2
            part += text[index : index + step]
            index += step
        elif text[index] == ".":
            parts.append(part)
            part, index = "", index + 1
        else:
            part += text[index]
            index += 1
    return [*parts, part]


def _label(part: str) -> str:
    if _RAW.search(part):
        raise BadNameError("UnsupportedCharacter: Value contains unsupported characters")
    # Upper and lower case are of ASCII only (RFC 4343).
    data = _ESCAPE.sub(_byte, part.encode()).lower()
    if not data:
        raise BadNameError("DomainLabelEmpty: Domain label is empty")
    if len(data) > _LONGEST_LABEL:
        raise BadNameError("DomainLabelTooLong: Domain label is too long")
    return _escaped(data)


def _byte(found: re.Match[bytes]) -> bytes:
    return bytes((int(found[1], 8),)) if found[1] else found[2]


def _escaped(data: bytes) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"\\{byte:03o}" for byte in data)


def _length(label: str) -> int:
    return len(re.sub(r"\\[0-7]{3}", "x", label))
