"""Write files that other processes read at the same time."""

from __future__ import annotations

from pathlib import Path


def write_whole(file: Path, text: str, mode: int = 0) -> None:
    """Write a file, and create its folder. A reader finds either the old text or all of the new one.

    With a `mode`, the file never has another one, not even for a moment. Raises OSError.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.rollcall-new")
    if mode:
        fresh.unlink(missing_ok=True)
        fresh.touch(mode)
    fresh.write_text(text)
    fresh.replace(file)
