"""`rollcall hold`: take one machine out of DNS, and keep it out until `rollcall release-hold`.

    rollcall hold web/1 --reason "disk errors" [--force] [--stack prod]    (the same as python -m components.commands.hold)

The machine continues to run and to serve. No `up`, restart or reboot ends the hold; a machine that replaces this one is
not on hold. The command waits until the machine is out of DNS. It refuses a hold that would leave a record set empty, or
with fewer machines than `minRegistered`, unless there is `--force`.

Exit code 0: the machine is on hold and out of DNS; 1: it is not, and why; 2: it could not be found out.
"""

from __future__ import annotations

import argparse
import getpass
import re
import sys
import time
from collections.abc import Callable, Sequence

from components.commands.machines import Deployed, Fleet, Machine, MachinesError, deployed, guarded
from components.model import DnsRecord
from components.registration import holding
from components.registration.diff import owned
from components.registration.messages import since
from rollcall.escaping import escaped

# The agent reads its settings every ten seconds, and an API may fail for a while.
LEAVES_WITHIN_S = 90.0
POLL_S = 1.0


def hold(
    stack: Deployed,
    text: str,
    reason: str,
    *,
    force: bool = False,
    say: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Put the machine that `text` names on hold, and wait until it is out of DNS. Return the exit code. Raises MachinesError."""
    member = stack.machine(text)
    fleet = stack.fleet(member.fleet)
    (machine,) = fleet.machines([member])
    before = fleet.registries.dns_records()
    if machine.instance.hold is None:
        check_is_safe(stack, fleet, machine, before, force=force)
        holding.put_on_hold(fleet.registries, fleet.desired.stack, member, reason)
    else:
        kept = machine.instance.hold
        say(escaped(f"{machine.described}: is on hold already{since(kept)}: {kept.reason}"))
    left = wait_until_out(fleet, machine, before, clock=clock, sleep=sleep)
    if left:
        where = ", ".join(sorted({str(each.key) for each in left}))
        raise MachinesError(
            f"{machine.described}: is on hold, and it is still at {where} after {LEAVES_WITHIN_S:.0f} s. "
            "Its agent removes its records: is it running? `rollcall status` shows when it is out."
        )
    delay = fleet.registries.longest_ttl
    say(
        escaped(
            f"{machine.described}: on hold, and out of DNS. Callers may use it from caches for {delay:.0f} s more. "
            f"`rollcall release-hold {member.fleet}/{member.machine}` lets it join again."
        )
    )
    return 0


def check_is_safe(
    stack: Deployed, fleet: Fleet, machine: Machine, records: Sequence[DnsRecord], *, force: bool = False
) -> None:
    """Raise MachinesError if a record set would have too few machines without this one."""
    listed = (each for one in fleet.desired.stacks for each in fleet.registries.instances(one))
    others = [each.instance for each in listed if each.hold]
    short = holding.too_few_after(machine.member, fleet.desired, records, stack.fewest(), others)
    if short and not force:
        lines = "".join(f"\n  - {each}" for each in short)
        raise MachinesError(f"{machine.described}: cannot be put on hold:{lines}\nUse --force if you want this.")


def wait_until_out(
    fleet: Fleet,
    machine: Machine,
    before: Sequence[DnsRecord],
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> list[DnsRecord]:
    """Wait until no provider lists a record of the machine and no name server answers with one. Return what is left at the end."""
    end = clock() + LEAVES_WITHIN_S
    mine = owned(before, fleet.desired.stack, [machine.member])
    while left := holding.still_in_dns(fleet.registries, fleet.desired.stack, machine.member, mine):
        if clock() >= end:
            break
        sleep(POLL_S)
    return left


def default_reason() -> str:
    """Return who puts the machine on hold, in characters that a tag may have."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = ""
    return f"by {re.sub(r'[^A-Za-z0-9_.-]', '', name)[:40] or 'an operator'}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rollcall hold", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("machine", metavar="MACHINE", help="FLEET/NUMBER, as web/1, or the id of the cloud")
    parser.add_argument("--reason", default="", help="why: letters, digits, spaces and _.:/=+@- (no secrets)")
    parser.add_argument("--force", action="store_true", help="even if a record set keeps too few machines")
    parser.add_argument("--stack", default="", help="default: the selected stack")
    chosen = parser.parse_args(arguments)
    return guarded(
        "hold",
        lambda: hold(deployed(chosen.stack), chosen.machine, chosen.reason or default_reason(), force=chosen.force),
    )


if __name__ == "__main__":
    sys.exit(main())
