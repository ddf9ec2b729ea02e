"""The `rollcall` command of the package: the commands of a machine, and in the program's folder also those about a whole stack."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

ABOUT_A_STACK = {
    "status": "state, clouds and DNS of the stack side by side, differences first; fails when there are any",
    "adopt": "find DNS records made by hand for the stack's machines; with --yes they become the machines' own",
    "check": "the errors of a stack's configuration, all at once; without the engine and without a network",
    "catalogue": "the images and sizes that a fleet may name, of both clouds",
}
ANYWHERE = {"resolve": "a service's live machines, by DNS"}
ON_A_MACHINE = {
    "run": "what the machine's service runs: join when healthy, leave when not and when stopped",
    "join": "register once",
    "leave": "deregister once",
    "whoami": "cloud, instance and workloads",
    "status": "what the agent last did, as JSON",
}
_HELP = ("-h", "--help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a `rollcall` command. Return its exit code.

    In a folder with Rollcall's program, `rollcall status [--stack NAME] [--json]` runs `python -m components.commands.status`, and so on.
    Elsewhere, and for every other command, it runs the command as on a machine.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    here, command = Path.cwd(), given[0] if given else ""
    if command in _HELP:
        print(usage())
        return 0
    if command not in {**ABOUT_A_STACK, **ANYWHERE, **ON_A_MACHINE}:
        what = f"{command!r} is not a command" if command else "no command was given"
        print(f"rollcall: {what}. `rollcall --help` lists them.", file=sys.stderr)
        return 2
    if command not in ABOUT_A_STACK or not (here / "components" / "commands" / f"{command}.py").is_file():
        if command in ABOUT_A_STACK and given != ["status"]:
            fix = f"cd to the folder of Pulumi.yaml, not {here}"
            print(f"rollcall {command}: reason=no-program fix={fix!r}", file=sys.stderr)
            return 2
        return on_a_machine(given)
    if str(here) not in sys.path:
        sys.path.insert(0, str(here))
    code: int = import_module(f"components.commands.{command}").main(given[1:])
    return code


def on_a_machine(arguments: Sequence[str]) -> int:
    """Run a command of a machine. The import is here, because only these commands need their clients."""
    from rollcall.cli import main as run

    return run(arguments)


def usage() -> str:
    """Return the text of `rollcall --help`."""
    parts = (
        ("In the folder of Rollcall's program, about a stack:", ABOUT_A_STACK),
        ("Anywhere:", ANYWHERE),
        ("On a machine of a fleet:", ON_A_MACHINE),
    )
    return "\n".join(
        [
            "usage: rollcall COMMAND …",
            *(line for title, commands in parts for line in ("", title, *_rows(commands))),
            "",
            "`rollcall COMMAND --help` shows a command's options.",
        ]
    )


def _rows(commands: Mapping[str, str]) -> list[str]:
    return [f"  {name:<10} {text}" for name, text in commands.items()]
