"""How a DNS entry names the machine it belongs to. The one codec of the project: the agent and the program import it.

In Cloudflare the text is the record's comment (100 characters on the free plan); in Route53 it is the TXT beside the
machine's own A record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PREFIX = "rollcall/1"
# Behind a mark: its machine is unhealthy, and stays in DNS since too few others are there; or it is about to leave for its health.
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
    """A part of an ownership mark has a form that would not be read back."""


@dataclass(frozen=True, order=True)
class Owner:
    """The machine that an entry belongs to.

    `stack` and `fleet` are the names in the Pulumi program, `machine` the machine's name in its fleet (`0`, `1`, …),
    `generation` the 6 hex digits that its Deregistration gave it, `instance` the cloud's id of it.

    Raises OwnershipError where a part would not survive the way to DNS and back, or the text would be longer than 100.
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
        """What is written beside a record of this machine. Where there is no room for `what` (KEPT, LEAVES), it is left out."""
        return f"{self}{what}" if len(f"{self}{what}") <= LONGEST_TEXT else str(self)

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """The owner that `text` names; None for any text that `mark` would not have written, to the byte."""
        bare = text.removesuffix(KEPT) if text.endswith(KEPT) else text.removesuffix(LEAVES)
        words = bare.split(" ")
        if len(words) != len(_FIELDS) + 1 or words[0] != PREFIX or len(text) > LONGEST_TEXT:
            return None
        if not all(form.fullmatch(word) for (_, form), word in zip(_FIELDS, words[1:], strict=True)):
            return None
        return cls(*words[1:])
