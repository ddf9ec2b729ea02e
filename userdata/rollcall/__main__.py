"""`python3 -m rollcall`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rollcall.status_file import STATUS_FILE, has_left


def main(arguments: Sequence[str], status_file: Path = STATUS_FILE) -> int:
    """Run a command of a machine. Return its exit code.

    A shutdown waits for `leave --at-shutdown`. Nearly always the agent has left before, and to find that out takes less time than to import
    the agent.
    """
    if list(arguments) == ["leave", "--at-shutdown"] and has_left(status_file):
        return 0
    from rollcall.cli import main as run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
