"""The `rollcall` command of the package: all that a machine's has, and `status` of a whole stack in its program's folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rollcall.cli import main as on_a_machine


def main(arguments: Sequence[str] | None = None) -> int:
    """In a folder with Rollcall's program, `rollcall status [--stack NAME] [--json]` is `python -m components.status`.

    Anywhere else, and for every other command, it is what the command says on a machine.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    here = Path.cwd()
    if given[:1] != ["status"] or not (here / "components" / "status.py").is_file():
        if given[:2] == ["status", "--stack"]:
            print(
                f"rollcall status: reason=no-program look='cd to the folder of Pulumi.yaml, not {here}'",
                file=sys.stderr,
            )
            return 2
        return on_a_machine(given)
    if str(here) not in sys.path:
        sys.path.insert(0, str(here))
    code: int = import_module("components.status").main(given[1:])
    return code
