"""Make text that a machine or a stranger wrote safe for a terminal and a CI log.

A console, metadata, a tag, a record or an HTTP header can contain dangerous characters. A terminal executes some as commands (ECMA-48: C0,
C1 and what follows an ESC). Some begin a new line, with which a stranger could imitate a line of ours. Some show a text in another order
than it has (UTS #55, https://www.unicode.org/reports/tr55/). All of them are escaped: `\\x1b`, `\\u202e`. So are the commands of GitHub's
runner: `::` at the beginning of a line, also after blanks, and `##[` anywhere
(https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs).
"""

from __future__ import annotations

import re
import unicodedata

# Controls, formats (bidirectional, zero-width, tags), surrogates, which cannot be encoded, and separators of lines and paragraphs.
_ESCAPED = ("Cc", "Cf", "Cs", "Zl", "Zp")
_ORDER = re.compile(r"^(\s*):(?=:)|#(?=#\[)", re.MULTILINE)


def escaped(text: object) -> str:
    """Return any text as one safe line."""
    return _without_orders("".join(map(_shown, str(text))))


def escaped_lines(text: object) -> str:
    """Return a safe text that keeps the line feeds and tabs, for text in which we wrote them ourselves."""
    return _without_orders("".join(each if each in "\n\t" else _shown(each) for each in str(text)))


def _without_orders(text: str) -> str:
    return _ORDER.sub(lambda found: "\\x23" if found[1] is None else f"{found[1]}\\x3a", text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _ESCAPED:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
