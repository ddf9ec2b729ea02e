"""`rollcall exec`: run a command on the machines of a fleet.

    rollcall exec web [--batch 1] [--stack prod] -- systemctl is-active nginx    (the same as python -m components.commands.exec)
    rollcall exec web/1 -- 'df -h / | tail -n 1'

It runs by SSH if the fleet has `ssh`, as that user. Otherwise it runs on EC2 by Systems Manager (SSM), as root. One word
is a command of the machine's shell; several words are a command and its arguments. The command is visible in lists of
processes, and with SSM in its history: it must not contain a secret.

Exit code: the largest of the machines' exit codes (255: a machine was not reached); 1 or 2: nothing can run, and why.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from components.commands.machines import Deployed, MachinesError, deployed, guarded
from components.commands.several import Output, on_each

_AT_ONCE = 10


def execute(stack: Deployed, text: str, words: Sequence[str], batch: int, output: Output) -> int:
    """Run a command on the machines that `text` names. Return the exit code. Raises MachinesError, RemoteError."""
    members = stack.named(text)
    if not members:
        raise MachinesError(f"{text}: has no machine. Set its count, and run `pulumi up`.")
    fleet = stack.fleet(members[0].fleet)
    command = words[0] if len(words) == 1 else shlex.join(words)
    return on_each(fleet.machines(members), fleet.shell, command, batch, output)


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    at = given.index("--") if "--" in given else len(given)
    usage = "rollcall exec [-h] [--batch N] [--stack STACK] FLEET[/NUMBER] -- COMMAND …"
    parser = argparse.ArgumentParser(prog="rollcall exec", usage=usage, description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("machines", metavar="FLEET[/NUMBER]", help="a fleet, or one machine of it")
    parser.add_argument("--batch", type=int, default=_AT_ONCE, help=f"machines at once (default: {_AT_ONCE})")
    parser.add_argument("--stack", default="", help="default: the selected stack")
    chosen = parser.parse_args(given[:at])
    words = given[at + 1 :]
    if not words:
        parser.error("COMMAND is missing. Write it after `--`, as `-- uptime`")
    return guarded("exec", lambda: execute(deployed(chosen.stack), chosen.machines, words, chosen.batch, Output()))


if __name__ == "__main__":
    sys.exit(main())
