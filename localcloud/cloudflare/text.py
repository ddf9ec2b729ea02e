"""TXT contents: Cloudflare keeps what fits character strings of RFC 1035 as it is given, and splits the rest."""

from __future__ import annotations

from localcloud.cloudflare import errors

_LONGEST = 255
_QUOTE, _ESCAPE = '"', "\\"


def character_strings(content: str) -> list[bytes]:
    """The strings of a TXT content: quoted ones by their quotes, one without quotes as it is, none over 255 bytes.

    Raises ApiError where quotes do not match.
    """
    pieces = [each[at : at + _LONGEST] for each in _given(content) for at in range(0, max(len(each), 1), _LONGEST)]
    return pieces or [b""]


def is_split(content: str, strings: list[bytes]) -> bool:
    """Return whether `strings` has more strings than the given content."""
    return len(strings) > max(len(_given(content)), 1)


def quoted(strings: list[bytes]) -> str:
    return " ".join(f'"{"".join(_escaped(byte) for byte in each)}"' for each in strings)


def _given(content: str) -> list[bytes]:
    return _unquoted(content) if content.lstrip().startswith(_QUOTE) else [content.encode()]


def _escaped(byte: int) -> str:
    if chr(byte) in (_QUOTE, _ESCAPE):
        return _ESCAPE + chr(byte)
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03d}"


def _unquoted(content: str) -> list[bytes]:
    strings: list[bytes] = []
    now: bytearray | None = None
    at = 0
    while at < len(content):
        char = content[at]
        at += 1
        if now is None:
            if char == _QUOTE:
                now = bytearray()
            elif not char.isspace():
                raise errors.invalid("content of a TXT record has text outside its quotes")
        elif char == _QUOTE:
            strings.append(bytes(now))
            now = None
        elif char == _ESCAPE and content[at : at + 3].isdecimal() and len(content[at : at + 3]) == 3:
            now.append(int(content[at : at + 3]) & 0xFF)
            at += 3
        elif char == _ESCAPE and at < len(content):
            now += content[at].encode()
            at += 1
        else:
            now += char.encode()
    if now is not None:
        raise errors.invalid("content of a TXT record has a quote that is not closed")
    return strings
