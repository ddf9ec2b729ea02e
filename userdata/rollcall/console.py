"""The `rollcall` command of the package: the commands of a machine, and in the folder of Pulumi.yaml also those about a whole stack."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

ABOUT_A_STACK = {
    "status": "state, clouds and DNS of the stack side by side, differences first; fails when there are any",
    "rollback": "`rollback FLEET [DIGEST]` lets a fleet go back to a former release, batch by batch",
    "promote": "`promote FLEET DIGEST` lets a canary go on, or a release after a rollback",
    "abort": "undo a canary, or a roll-out that is under way",
    "hold": "take one machine out of DNS, and keep it out across `up`, restarts and reboots",
    "release-hold": "let a machine on hold join again",
    "logs": "the logs of machines, each line with its machine",
    "exec": "`rollcall exec FLEET -- COMMAND` runs a command on machines",
    "patch": "upgrade and reboot the machines of a fleet, batch by batch, each out of DNS meanwhile",
    "adopt": "find DNS records made by hand for the stack's machines; with --yes they become the machines' own",
    "check": "the errors of a stack's configuration, all at once; without the engine and without a network",
    "doctor": "versions, credentials, permissions, zones and network, each with its fix; in ten seconds",
    "review": "what `pulumi preview` would do, as a comment for the reviewer of a change",
    "release": "`release export FOLDER` writes the files of a mirror, for a web server that you fill",
    "catalogue": "the images and sizes that a fleet may name, of both clouds",
}
ANYWHERE = {"resolve": "a service's live machines, by DNS"}
ON_A_MACHINE = {
    "run": "what the machine's service runs: join when healthy, leave when not and when stopped",
    "join": "register once",
    "leave": "deregister once",
    "whoami": "cloud, instance and workloads",
    "prepare": "set the system to what the machine's settings say",
    "status": "what the agent last did, as JSON",
}
_HELP = ("-h", "--help")
PROJECT = "Pulumi.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a `rollcall` command. Return its exit code.

    In a folder with Rollcall's program, or with a Pulumi.yaml whose `main` names it, `rollcall status [--stack NAME] [--json]` runs
    `python -m components.commands.status`, and so on. Elsewhere, and for every other command, it runs the command as on a machine.
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
    if command not in ABOUT_A_STACK:
        return on_a_machine(given)
    program = program_of(here)
    home = program / "components" / "commands"
    # A command is a module, or a package that `python -m` runs.
    module = command.replace("-", "_")
    module = f"{module}.__main__" if (home / module / "__main__.py").is_file() else module
    if not (home / f"{module.replace('.', '/')}.py").is_file():
        if not _is_project(here) and given == ["status"]:
            return on_a_machine(given)
        fix = "name the folder of Rollcall as `main`" if _is_project(here) else "cd to the folder of Pulumi.yaml"
        print(f"rollcall {command}: reason=no-program folder={str(here)!r} fix={fix!r}", file=sys.stderr)
        return 2
    if str(program) not in sys.path:
        sys.path.insert(0, str(program))
    code: int = import_module(f"components.commands.{module}").main(given[1:])
    return code


def program_of(project: Path) -> Path:
    """Return the folder of the program of a Pulumi project: the one that `main` of its Pulumi.yaml names, else its own."""
    if (project / "components").is_dir() or not _is_project(project):
        return project
    # On a machine there is no Pulumi.yaml, and perhaps no such library.
    import yaml

    try:
        whole = yaml.safe_load((project / PROJECT).read_text())
        main: Path = project / whole["main"]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return project
    return main.parent if main.is_file() else main


def _is_project(folder: Path) -> bool:
    return (folder / PROJECT).is_file()


def on_a_machine(arguments: Sequence[str]) -> int:
    """Run a command of a machine. The import is here, because only these commands need their clients."""
    from rollcall.cli import main as run

    return run(arguments)


def usage() -> str:
    """Return the text of `rollcall --help`."""
    parts = (
        ("In the folder of Pulumi.yaml, about a stack:", ABOUT_A_STACK),
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
    return [f"  {name:<12} {text}" for name, text in commands.items()]
