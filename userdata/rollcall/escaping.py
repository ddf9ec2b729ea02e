"""Text that a machine or a stranger wrote, as a terminal and a CI log may show it.

A console, metadata, a tag, a record or an HTTP header can have characters that a terminal takes for orders (ECMA-48: C0, C1 and what
follows an ESC), that begin a new line and so one of somebody else's making, or that show a text in another order than it has (UTS #55,
https://www.unicode.org/reports/tr55/). They are written out: `\\x1b`, `\\u202e`. So is what GitHub's runner takes for an order: `::` at the
beginning of a line, whatever blanks are before it, and `##[` anywhere
(https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs).
"""

from __future__ import annotations

import re
import unicodedata

# Controls, formats (bidirectional ones, zero-width ones, tags), surrogates that no encoding takes, separators of lines and paragraphs.
_ESCAPED = ("Cc", "Cf", "Cs", "Zl", "Zp")
_ORDER = re.compile(r"^(\s*):(?=:)|#(?=#\[)", re.MULTILINE)


def escaped(text: object) -> str:
    """The text as one line, whatever is in it."""
    return _without_orders("".join(map(_shown, str(text))))


def escaped_lines(text: object) -> str:
    """The same, with the line feeds and tabs that we wrote ourselves."""
    return _without_orders("".join(each if each in "\n\t" else _shown(each) for each in str(text)))


def _without_orders(text: str) -> str:
    return _ORDER.sub(lambda found: "\\x23" if found[1] is None else f"{found[1]}\\x3a", text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _ESCAPED:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
