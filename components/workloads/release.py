"""What a machine fetches by its digest. Nothing but the standard library, since any builder packs the agent (tests/unit/builders.py)."""

from __future__ import annotations

import bz2
import functools
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Release:
    """A tar, by its SHA-256 in hexadecimal digits."""

    digest: str
    tar: bytes

    @functools.cached_property
    def packed(self) -> bytes:
        """Compressed for its transport."""
        return bz2.compress(self.tar, 9)
