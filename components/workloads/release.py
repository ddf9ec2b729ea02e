"""Define a release, which a machine fetches by its digest.

The module uses only the standard library, since any builder packs the agent (tests/unit/builders.py).
"""

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
        """Return it compressed for transport."""
        return bz2.compress(self.tar, 9)
