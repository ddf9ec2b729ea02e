"""Write files that other processes read at the same time."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(file: Path, text: str, mode: int = 0, *, lasting: bool = False) -> None:
    """Write a file, and create its folder. A reader finds either the old text or all of the new one.

    With a `mode`, the file never has another one, not even for a moment. `lasting`: after this call the file survives a power cut. Raises
    OSError.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.rollcall-new")
    if mode:
        fresh.unlink(missing_ok=True)
        fresh.touch(mode)
    with fresh.open("w") as opened:
        opened.write(text)
        if lasting:
            opened.flush()
            os.fsync(opened.fileno())
    fresh.replace(file)
    if lasting:
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
