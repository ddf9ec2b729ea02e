"""Define how a command runs on a machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

# Gets each line of output, without its line end, and whether it is of standard error.
Line = Callable[[str, bool], None]
# The exit code for a machine that cannot be reached: that of `ssh`.
UNREACHABLE = 255
# The definition of a shell function that runs a command as root.
AS_ROOT = """run() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }"""


class RemoteError(Exception):
    """Nothing can run on a machine. The message says why, and what to do."""


class Shell(Protocol):
    """One machine, on which commands run."""

    def run(self, command: str, line: Line) -> int:
        """Run a command by the machine's shell. Return its exit code, or UNREACHABLE.

        The command is visible in the lists of processes, here and on the machine. Raises RemoteError.
        """

    def stop(self) -> None:
        """End what `run` waits for in another thread."""
