"""Tell paths and links that stay in their folder from those that lead out of it."""

from __future__ import annotations


def is_inside(path: str) -> bool:
    """Return whether a path names something below the folder that it is relative to, without a step back."""
    return not any(part in ("", ".", "..") for part in path.split("/")) and "\0" not in path


def link_stays(path: str, target: str) -> bool:
    """Return whether a link at `path` stays in the folder.

    Steps back must come first, and there must not be more of them than folders above the link. A step back after a name could start from
    the target of another link.
    """
    parts = [part for part in target.split("/") if part != "."]
    back = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    rest = parts[back:]
    return bool(target) and "\0" not in target and back <= path.count("/") and ".." not in rest and "" not in rest
