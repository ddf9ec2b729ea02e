"""Define a release, which a machine fetches by its digest.

The module uses only the standard library, since any builder packs the agent (tests/unit/builders.py).
"""

from __future__ import annotations

import bz2
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

# A tar with more bytes is neither kept in memory nor in the engine's state.
LARGE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Release:
    """A tar, by its SHA-256 in hexadecimal digits.

    A large one has `rewrite` in place of `tar`: this writes the tar again, from the files that it was made of. `manifest` is a short
    text by which two releases of a workload can be compared (components/workloads/manifest.py); empty: not known.
    """

    digest: str
    tar: bytes = b""
    rewrite: Callable[[IO[bytes]], None] | None = None
    manifest: str = field(default="", compare=False)

    @property
    def is_large(self) -> bool:
        """Whether it is too large for memory and for the engine's state."""
        return self.rewrite is not None

    @functools.cached_property
    def packed(self) -> bytes:
        """Return a release that is not large, compressed for transport."""
        return bz2.compress(self.tar, 9)

    def pack_into(self, file: IO[bytes]) -> None:
        """Write it to a file, compressed for transport."""
        if self.rewrite is None:
            file.write(self.packed)
            return
        with bz2.BZ2File(file, "wb", compresslevel=9) as compressed:
            self.rewrite(compressed)
