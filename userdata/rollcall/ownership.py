"""Encode and decode the ownership mark, which says which machine a DNS record belongs to. The agent and the program both import it.

In Cloudflare the mark is the record's comment (100 characters on the free plan). In Route53 it is the TXT beside the machine's own A
record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PREFIX = "rollcall/1"
# At the end of a mark. KEPT: the machine is unhealthy, and stays in DNS because too few others are there. LEAVES: the machine is about to
# leave because it is unhealthy.
KEPT, LEAVES = " kept", " leaves"
LONGEST_TEXT = 100
_STACK = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_GENERATION = re.compile(r"[0-9a-f]{6}")
_INSTANCE = re.compile(
    r"i-[0-9a-f]{8}(?:[0-9a-f]{9})?|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[a-z0-9][a-z0-9-]{1,40}"
)
_FIELDS = (
    ("stack", _STACK),
    ("fleet", _NAME),
    ("machine", _NAME),
    ("generation", _GENERATION),
    ("instance", _INSTANCE),
)


class OwnershipError(ValueError):
    """A part of an ownership mark has a form that `Owner.parse` would not accept."""


@dataclass(frozen=True, order=True)
class Owner:
    """The machine that a DNS record belongs to.

    `stack` and `fleet` are the names in the Pulumi program, `machine` the machine's name in its fleet (`0`, `1`, …),
    `generation` the 6 hex digits that its Deregistration gave it, `instance` the cloud's id of it.

    Raises OwnershipError if a part cannot be written to DNS and read back, or if the text would be longer than 100 characters.
    """

    stack: str
    fleet: str
    machine: str
    generation: str
    instance: str

    def __post_init__(self) -> None:
        for name, form in _FIELDS:
            if not form.fullmatch(getattr(self, name)):
                raise OwnershipError(f"{name} {getattr(self, name)!r} does not fit {form.pattern}")
        if len(str(self)) > LONGEST_TEXT:
            raise OwnershipError(
                f"the ownership text {str(self)!r} is over {LONGEST_TEXT} characters; shorten the stack's or the fleet's name"
            )

    def __str__(self) -> str:
        return " ".join((PREFIX, self.stack, self.fleet, self.machine, self.generation, self.instance))

    def mark(self, what: str = "") -> str:
        """Return the ownership mark of this machine's records. `what` (KEPT, LEAVES) is left out if there is no room for it."""
        return f"{self}{what}" if len(f"{self}{what}") <= LONGEST_TEXT else str(self)

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """Return the owner that `text` names; None for any text that differs from what `mark` writes, even by one byte."""
        bare = text.removesuffix(KEPT) if text.endswith(KEPT) else text.removesuffix(LEAVES)
        words = bare.split(" ")
        if len(words) != len(_FIELDS) + 1 or words[0] != PREFIX or len(text) > LONGEST_TEXT:
            return None
        if not all(form.fullmatch(word) for (_, form), word in zip(_FIELDS, words[1:], strict=True)):
            return None
        return cls(*words[1:])
