"""`rollcall release-hold`: let a machine on hold join again.

    rollcall release-hold web/1 [--timeout 300] [--stack prod]    (the same as python -m components.commands.release_hold)

The command waits until the name servers answer with the machine.

Exit code 0: the machine answers; 1: it does not, and why; 2: it could not be found out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from components.commands.machines import Deployed, Fleet, Machine, MachinesError, deployed, guarded
from components.registration import holding
from components.registration.diff import Kind
from components.registration.messages import line
from rollcall.escaping import escaped

POLL_S = 2.0


def release_hold(
    stack: Deployed,
    text: str,
    timeout: float,
    *,
    say: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Remove the hold of the machine that `text` names, and wait until it answers. Return the exit code. Raises MachinesError."""
    member = stack.machine(text)
    fleet = stack.fleet(member.fleet)
    (machine,) = fleet.machines([member])
    if machine.instance.hold is None:
        say(escaped(f"{machine.described}: is not on hold"))
        return 0
    holding.release(fleet.registries, fleet.desired.stack, member)
    end = clock() + timeout
    while missing := missing_of(fleet, machine):
        if clock() >= end:
            raise MachinesError(
                f"{machine.described}: its hold is released, and it does not answer after {timeout:.0f} s: "
                f"{'; '.join(missing)}. Read /var/log/rollcall.log on the machine."
            )
        sleep(POLL_S)
    say(escaped(f"{machine.described}: its hold is released, and the name servers answer with it"))
    return 0


def missing_of(fleet: Fleet, machine: Machine) -> list[str]:
    """Return why a machine does not answer yet: a line for each record set, and the last step of its agent."""
    drift, instances = holding.drift_of(fleet.registries, fleet.desired)
    mine = [each for each in drift.of(Kind.MISSING, Kind.STALE) if each.member == machine.member]
    on_hold = [each.member for each in drift.on_hold]
    if machine.member in on_hold:
        return ["its cloud still lists the hold"]
    if not mine:
        return []
    steps = fleet.registries.steps([machine.member], instances)
    step = steps.get(machine.instance.instance)
    return [*map(line, mine), *([escaped(step)] if step else [])]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rollcall release-hold", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("machine", metavar="MACHINE", help="FLEET/NUMBER, as web/1, or the id of the cloud")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds to wait until it answers (default: 300)")
    parser.add_argument("--stack", default="", help="default: the selected stack")
    chosen = parser.parse_args(arguments)
    return guarded("release-hold", lambda: release_hold(deployed(chosen.stack), chosen.machine, chosen.timeout))


if __name__ == "__main__":
    sys.exit(main())
