"""Read the command line of the engine that runs this provider host.

The engine does not tell a provider whether the whole stack is destroyed or only a part of it. Its command line does.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

_PROC = Path("/proc")
# The host is started by the engine, or by a script that the engine starts.
_MOST_ANCESTORS = 6
_PARTIAL = ("--target", "-t", "--exclude", "-x")

Process = tuple[int, list[str]]


def engine_arguments(parent: int | None = None, process_of: Callable[[int], Process] | None = None) -> list[str]:
    """Return the words after `pulumi` of the engine above this process. An empty list: it was not found.

    `process_of` returns the parent of a process, and its words. Raises OSError or ValueError for a process that cannot be read.
    """
    process, read = os.getppid() if parent is None else parent, process_of or _process_of
    for _ in range(_MOST_ANCESTORS):
        try:
            above, words = read(process)
        except (OSError, ValueError, subprocess.SubprocessError):
            return []
        if words and Path(words[0]).name in ("pulumi", "pulumi.exe"):
            return words[1:]
        process = above
    return []


def is_partial_destroy(words: Sequence[str]) -> bool:
    """Return whether these arguments of the engine destroy some resources of a stack and leave others."""
    return "destroy" in words and any(
        word in _PARTIAL or word.startswith(tuple(f"{each}=" for each in _PARTIAL)) for word in words
    )


def _process_of(process: int) -> Process:
    if _PROC.joinpath("self/cmdline").exists():
        status = (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
        words = (_PROC / str(process) / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        return int(status[1]), words
    # macOS has no /proc.
    done = subprocess.run(
        ["ps", "-o", "ppid=,args=", "-p", str(process)], capture_output=True, text=True, timeout=5, check=True
    )
    above, *words = done.stdout.split()
    return int(above), words
