"""The `rollcall` command of the package: all that a machine's has, and what is about a whole stack in its program's folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rollcall.cli import main as on_a_machine

ABOUT_A_STACK = ("status", "catalogue", "adopt")


def main(arguments: Sequence[str] | None = None) -> int:
    """In a folder with Rollcall's program, `rollcall status [--stack NAME] [--json]` is `python -m components.status`, and so on.

    Anywhere else, and for every other command, it is what the command says on a machine.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    here, command = Path.cwd(), given[0] if given else ""
    if command not in ABOUT_A_STACK or not (here / "components" / f"{command}.py").is_file():
        if command in ABOUT_A_STACK and given != ["status"]:
            look = f"cd to the folder of Pulumi.yaml, not {here}"
            print(f"rollcall {command}: reason=no-program look={look!r}", file=sys.stderr)
            return 2
        return on_a_machine(given)
    if str(here) not in sys.path:
        sys.path.insert(0, str(here))
    code: int = import_module(f"components.{command}").main(given[1:])
    return code
