"""`rollcall logs`: the logs of the machines of a fleet, each line with the name of its machine.

    rollcall logs web [-f] [-n 100] [WORKLOAD] [--stack prod]    (the same as python -m components.commands.logs)
    rollcall logs web/1 shop

Without WORKLOAD it shows the agent and all workloads. It reads the journal by SSH if the fleet has `ssh`. Otherwise it
shows what the cloud has: on EC2 the console, on Triton the last status of the agent.

Exit code 0: shown; else the largest exit code of a machine (255: it was not reached); 1 or 2: nothing can be shown, and why.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from components.commands.machines import Deployed, Fleet, Machine, MachinesError, address_of, deployed, guarded
from components.commands.several import Output, on_each
from components.config.models import Settings
from components.remote.base import AS_ROOT, RemoteError, Shell
from components.remote.ssh import SshShell
from rollcall.escaping import escaped

_OF_SAMPLES = {"site": "nginx", "the-service": "the-service"}


def units_of(settings: Settings, fleet: Fleet, workload: str) -> list[str]:
    """Return the systemd units with the logs of a workload; of everything, if `workload` is empty. Raises MachinesError."""
    runs = fleet.settings.runs if fleet.settings else ()
    kinds = {each.name: each.nginx is not None for each in settings.workloads}
    units = {
        name: "nginx" if kinds.get(name) else _OF_SAMPLES.get(name, f"workload-{name}")
        for name in {*kinds, *_OF_SAMPLES}
    }
    if not workload:
        return ["rollcall", "rollcall-boot", "nginx", "the-service", "workload-*"]
    if workload not in units:
        known = ", ".join(sorted(runs)) or "none"
        raise MachinesError(f"{workload}: the stack has no such workload. The fleet {fleet.name} runs {known}.")
    return [units[workload]]


def command_for(units: Sequence[str], lines: int, *, follow: bool) -> str:
    """Return the shell command that shows the journal of these units."""
    chosen = " ".join(f"-u '{each}.service'" for each in units)
    return f"{AS_ROOT}\nrun journalctl --no-pager -q -o short-iso -n {lines}{' -f' if follow else ''} {chosen}"


def logs(stack: Deployed, text: str, workload: str, lines: int, *, follow: bool, output: Output) -> int:
    """Show the logs of the machines that `text` names. Return the exit code. Raises MachinesError, RemoteError."""
    members = stack.named(text)
    if not members:
        raise MachinesError(f"{text}: has no machine. Set its count, and run `pulumi up`.")
    fleet = stack.fleet(members[0].fleet)
    machines = fleet.machines(members)
    if fleet.settings is None or fleet.settings.ssh is None:
        return _from_the_cloud(fleet, machines, lines, follow=follow, output=output)
    user = fleet.settings.ssh.user
    command = command_for(units_of(stack.settings, fleet, workload), lines, follow=follow)

    def shell(machine: Machine) -> Shell:
        return SshShell(user, address_of(machine))

    # Each machine that is followed needs its connection for as long as the command runs.
    return on_each(machines, shell, command, len(machines), output)


def _from_the_cloud(fleet: Fleet, machines: Sequence[Machine], lines: int, *, follow: bool, output: Output) -> int:
    """Show what the cloud has of each machine, and say what it does not have."""
    fix = f"Set `ssh` of rollcall:fleets.{fleet.name}, and run `pulumi up`, to read the journal."
    if follow:
        raise RemoteError(
            f"{fleet.name}: -f needs SSH. Set `ssh` of rollcall:fleets.{fleet.name}, and run `pulumi up`."
        )
    for machine in machines:
        line = partial(output.line, machine.name)
        console = fleet.registries.console(machine.instance)
        if console is None:
            line(f"Triton gives no log without SSH, only the last status of the agent. {fix}", True)
            line(machine.instance.note or "no status yet", False)
            continue
        line(f"the console of EC2 has the boot and the status of the agent, and no workload. {fix}", True)
        for each in console.splitlines()[-lines:]:
            line(escaped(each), False)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rollcall logs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("machines", metavar="FLEET[/NUMBER]", help="a fleet, or one machine of it")
    parser.add_argument(
        "workload", metavar="WORKLOAD", nargs="?", default="", help="default: the agent and all workloads"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on until it is interrupted; needs SSH")
    parser.add_argument("-n", "--lines", type=_count, default=50, help="the last lines of each machine (default: 50)")
    parser.add_argument("--stack", default="", help="default: the selected stack")
    chosen = parser.parse_intermixed_args(arguments)

    def act() -> int:
        given = (chosen.machines, chosen.workload, chosen.lines)
        return logs(deployed(chosen.stack), *given, follow=chosen.follow, output=Output())

    return guarded("logs", act)


def _count(text: str) -> int:
    found = int(text)
    if not 0 < found <= 100_000:
        raise argparse.ArgumentTypeError("must be 1 to 100000")
    return found


if __name__ == "__main__":
    sys.exit(main())
