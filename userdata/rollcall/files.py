"""Files that other processes read while they are written anew."""

from __future__ import annotations

from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Write a file, and the folder that it is in, so that a reader finds the text of before or all of this one. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.rollcall-new")
    fresh.write_text(text)
    fresh.replace(file)
