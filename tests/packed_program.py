"""Change the program that gets the release where it is packed in a boot script."""

from __future__ import annotations

import base64
import bz2

MARK, END = "#GET_RELEASE\n", "\n#FILES\n"


def changed_program(script: str, old: str, new: str) -> str:
    """Return the script with `new` in the place of `old` in its program. Raise AssertionError where `old` is not there."""
    before, mark, rest = script.partition(MARK)
    packed, end, after = rest.partition(END)
    program = bz2.decompress(base64.b85decode(packed)).decode()
    assert old in program, f"the program has no {old!r}"
    return f"{before}{mark}{base64.b85encode(bz2.compress(program.replace(old, new).encode())).decode()}{end}{after}"
