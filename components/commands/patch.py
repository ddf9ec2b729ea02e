"""`rollcall patch`: upgrade the packages of a fleet's machines, and reboot them if needed, batch by batch.

    rollcall patch web [--batch N] [--reboot | --no-reboot] [--stack prod]    (the same as python -m components.commands.patch)
    rollcall patch web --abandon

Each machine is put on hold, leaves DNS, serves for the drain delay, is upgraded by apt, reboots if needed, is checked,
and joins again. The next batch begins when the name servers answer with the machines of the last one. The command stops
at the first machine that fails, and leaves it on hold. Run it again after it was stopped or killed: it continues.
It runs commands by SSH if the fleet has `ssh`, else on EC2 by Systems Manager (SSM).

Exit code 0: all machines are patched; 1: one has failed, and why; 2: it could not be found out what to do.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from components.commands.hold import check_is_safe
from components.commands.machines import Deployed, Fleet, Machine, MachinesError, deployed, guarded
from components.model import DnsRecord
from components.patching import patch as patching
from components.patching.transitions import Act, Found, MachinePatch, Patch, Reboot, Step, planned
from components.registration import holding
from components.registration.diff import Kind, owned
from components.remote.base import UNREACHABLE, RemoteError
from rollcall.escaping import escaped
from rollcall.in_place import PATCH

REASON = "rollcall patch"
# A resolver that counts whole seconds keeps an answer up to a second longer than its TTL (userdata/rollcall/agent.py).
_CACHE_CLOCK_S = 1.0
_SCRIPT = Path(patching.__file__).with_name("on_machine.sh")
_PARTS = {Act.INSPECT: "inspect", Act.UPGRADE: "upgrade", Act.REBOOT: "reboot"}


def at_once(text: str) -> None:
    """Print a line, also where standard output is not a terminal."""
    print(text, flush=True)


def found_in(lines: Sequence[str]) -> Found:
    """Return what on_machine.sh has reported in its last line."""
    words = dict(word.split("=", 1) for word in (lines[-1] if lines else "").split() if "=" in word)
    if not {"packages", "reboot", "boot"} <= {*words} or not words["packages"].isdecimal():
        return Found(failed=f"it answered {lines[-1] if lines else 'nothing'!r}")
    return Found(packages=int(words["packages"]), reboot=words["reboot"] == "yes", boot=words["boot"])


def unhealthy(text: str) -> str | None:
    """Return why the agent's status, as JSON, does not show a healthy machine that is out of DNS. None: it does."""
    try:
        status = json.loads(text)
        if not status["memberships"]:
            return "its agent has not read its settings"
        ill = [str(each["join"]) for each in status["memberships"] if not each["healthy"]]
    except (ValueError, KeyError, TypeError):
        return "its agent does not run"
    return f"the check of {', '.join(ill)} fails" if ill else None


class FleetNeighbours:
    """The machines of a fleet, its cloud, and DNS. Machines are named as `rollcall status` does, `web-1`."""

    def __init__(
        self, stack: Deployed, fleet: Fleet, machines: Sequence[Machine], *, force: bool, say: Callable[[str], None]
    ) -> None:
        self._stack, self._fleet, self._force, self._say = stack, fleet, force, say
        self._machines = {each.name: each for each in machines}
        self._records: Sequence[DnsRecord] = ()

    def in_dns(self, names: Sequence[str]) -> Mapping[str, tuple[bool, bool]]:
        fleet = self._fleet
        drift, _ = holding.drift_of(fleet.registries, fleet.desired)
        faulty = {each.member for each in drift.of(Kind.MISSING, Kind.STALE)} | {each.member for each in drift.on_hold}
        found = {}
        for name in names:
            member = self._machines[name].member
            mine = owned(self._records, fleet.desired.stack, [member])
            left = holding.still_in_dns(fleet.registries, fleet.desired.stack, member, mine)
            found[name] = (bool(left), member not in faulty)
        return found

    def command(self, name: str, act: Act) -> Found:
        code, lines, errors = self._run(name, _PARTS[act])
        if code and act is not Act.REBOOT:
            what = "it cannot be reached" if code == UNREACHABLE else f"exit code {code}"
            last = [each for each in (*lines, *errors) if each.strip()][-1:]
            return Found(failed=escaped("; ".join([what, *last])))
        return found_in(lines)

    def state(self, name: str) -> tuple[str, str | None]:
        code, lines, _ = self._run(name, "state")
        if code or len(lines) < 2:
            return "", "it cannot be reached"
        return found_in(lines[:-1]).boot, unhealthy(lines[-1])

    def _run(self, name: str, part: str) -> tuple[int, list[str], list[str]]:
        lines: list[str] = []
        errors: list[str] = []
        script = f"sh -c {shlex.quote(_SCRIPT.read_text())} on_machine.sh {part}"
        try:
            code = self._fleet.shell(self._machines[name]).run(
                script, lambda text, is_error: (errors if is_error else lines).append(text)
            )
        except RemoteError as failed:
            return UNREACHABLE, lines, [str(failed)]
        return code, lines, errors

    def hold(self, name: str) -> str:
        fleet, machine = self._fleet, self._now(name)
        self._records = [*self._records, *fleet.registries.dns_records()]
        if machine.instance.hold is not None:
            return ""
        try:
            check_is_safe(self._stack, fleet, machine, fleet.registries.dns_records(), force=self._force)
        except MachinesError as unsafe:
            return " ".join(str(unsafe).split())
        holding.put_on_hold(fleet.registries, fleet.desired.stack, machine.member, REASON)
        return ""

    def release(self, name: str) -> None:
        holding.release(self._fleet.registries, self._fleet.desired.stack, self._machines[name].member)

    def save(self, settings: Mapping[str, str | None]) -> None:
        # Machines with the same setting get the same dictionary: one request writes it for all of them.
        same = {text: {PATCH: text} for text in settings.values()}
        members = {self._machines[name].member: same[text] for name, text in settings.items()}
        holding.write(self._fleet.registries, self._fleet.desired.stack, members)

    def _now(self, name: str) -> Machine:
        """Return a machine as its cloud lists it now."""
        return self._fleet.machines([self._machines[name].member])[0]


def patch(
    stack: Deployed,
    name: str,
    *,
    batch: int | None,
    reboot: Reboot,
    force: bool = False,
    say: Callable[[str], None] = at_once,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Patch the machines of a fleet. Return the exit code. Raises MachinesError, RemoteError.

    Without `batch`, that of the fleet counts.
    """
    fleet, machines = _fleet(stack, name)
    settings = {each.name: each.instance.live.get(PATCH) for each in machines}
    on_hold = [each.name for each in machines if each.instance.hold is not None]
    patched, continues = planned(settings, on_hold, reboot, clock())
    if not patched:
        raise MachinesError(f"{name}: has no machine. Set its count, and run `pulumi up`.")
    for each in machines:
        # A fleet without SSH and SSM is an error before anything is done.
        fleet.shell(each)
    neighbours = FleetNeighbours(stack, fleet, machines, force=force, say=say)
    if continues:
        say(f"{name}: continues: {', '.join(f'{each.name} ({each.step.value})' for each in patched)}")
    size = batch or (fleet.settings.batch_size if fleet.settings else 1)
    work = Patch(machines=patched, batch=size, drain_delay=fleet.drain_delay + _CACHE_CLOCK_S)
    run = patching.Run(work, neighbours, say=lambda text: say(escaped(text)), clock=clock, sleep=sleep)
    after = run.until_finished()
    if not after.failed:
        say(f"{name}: {len(patched)} machines are patched")
        return 0
    lines = "".join(f"\n  - {_outcome(each)}" for each in after.failed)
    left = sum(each.step is Step.TODO for each in after.machines)
    raise MachinesError(
        f"{name}: stopped, and {left} machines were not begun:{lines}\n"
        f"Fix the cause, and run `rollcall patch {name}` again: it begins with this machine. Or end it with --abandon."
    )


def _outcome(machine: MachinePatch) -> str:
    return f"{machine.name}: {machine.reason}. It is {'on hold' if machine.is_touched else 'as before'}"


def abandon(stack: Deployed, name: str, say: Callable[[str], None] = print) -> int:
    """End a patch that was stopped. Machines on hold stay on hold."""
    fleet, machines = _fleet(stack, name)
    begun = [each for each in machines if PATCH in each.instance.live]
    FleetNeighbours(stack, fleet, machines, force=False, say=say).save({each.name: None for each in begun})
    say(f"{name}: {len(begun)} machines were left, and the patch is ended. `rollcall status` lists machines on hold.")
    return 0


def _fleet(stack: Deployed, name: str) -> tuple[Fleet, list[Machine]]:
    if name not in stack.state.fleets:
        raise MachinesError(f"{name}: the stack has no such fleet. Its fleets are {', '.join(stack.state.fleets)}.")
    fleet = stack.fleet(name)
    return fleet, fleet.machines(stack.members(name))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rollcall patch", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("fleet", metavar="FLEET", help="the fleet")
    parser.add_argument("--batch", type=int, help="machines at once (default: `batch` of the fleet)")
    reboots = parser.add_mutually_exclusive_group()
    reboots.add_argument("--reboot", action="store_true", help="reboot every machine, whether it is needed or not")
    reboots.add_argument("--no-reboot", action="store_true", help="reboot no machine")
    parser.add_argument("--force", action="store_true", help="even if a record set keeps too few machines")
    parser.add_argument("--abandon", action="store_true", help="end a patch that was stopped")
    parser.add_argument("--stack", default="", help="default: the selected stack")
    chosen = parser.parse_args(arguments)
    if chosen.batch is not None and chosen.batch < 1:
        parser.error("--batch: must be at least 1")
    reboot = Reboot.ALWAYS if chosen.reboot else Reboot.NEVER if chosen.no_reboot else Reboot.NEEDED

    def act() -> int:
        stack = deployed(chosen.stack)
        if chosen.abandon:
            return abandon(stack, chosen.fleet)
        return patch(stack, chosen.fleet, batch=chosen.batch, reboot=reboot, force=chosen.force)

    return guarded("patch", act)


if __name__ == "__main__":
    sys.exit(main())
