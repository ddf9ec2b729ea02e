"""`rollcall status`: state, clouds and DNS of a stack side by side, differences first.

    rollcall status [--stack prod] [--json]        (the same as python -m components.status; the selected stack unless told)

Needs what `pulumi up` needs: the engine on the PATH, the backend, and the clouds' credentials, which it takes from the stack's
configuration and the environment as `pulumi up` does. It only looks.
Exit code 0: in step; 1: something differs; 2: it could not be told (why, on stderr).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components import awserrors
from components.attendance import Difference, Entry, Member, Roll, Seen, difference, owned
from components.joyent.errors import CloudApiError
from components.realm import Access
from components.registration import registries_of, roll_of
from components.settings import ConfigurationError
from rollcall.errors import RollcallError

_ROLL_CALL = "pulumi-python:dynamic/rollcall:RollCall"
_DIFFERENCES = ("missing", "stale", "left_over", "orphaned", "foreign")


class StatusError(Exception):
    """The stack cannot be looked at; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class MachineStatus:
    """One machine: as the state names it, as its cloud lists it, and where DNS has it. `since` is when it was made."""

    name: str
    instance: str
    state: str
    addresses: tuple[str, ...]
    since: str
    stands: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class FleetStatus:
    """A fleet's machines, and each way in which DNS or its cloud differs from the state. `region` is the AWS region, or Triton's
    data centre where it is not the configured one."""

    fleet: str
    cloud: str
    region: str
    machines: tuple[MachineStatus, ...]
    differences: Mapping[str, tuple[str, ...]]

    @property
    def in_step(self) -> bool:
        return not any(self.differences.values())


def status_of(
    access: Access, roll: Roll, entries: Sequence[Entry], seen: Sequence[Seen], found: Difference
) -> FleetStatus:
    """What is shown of one fleet: a pure function of what was seen."""
    listed = {machine.instance: machine for machine in seen}
    return FleetStatus(
        fleet=roll.fleet,
        cloud=access.cloud,
        region=access.region,
        machines=tuple(_machine(member, roll, entries, listed.get(member.instance)) for member in roll.members),
        differences={key: getattr(found, key) for key in _DIFFERENCES},
    )


def _machine(member: Member, roll: Roll, entries: Iterable[Entry], seen: Seen | None) -> MachineStatus:
    mine = owned(entries, roll.stack, [member])
    return MachineStatus(
        name=member.name,
        instance=member.instance,
        state=seen.state if seen else "not listed by its cloud",
        addresses=seen.addresses if seen else (),
        since=seen.since if seen else "",
        stands=tuple(sorted({entry.place for entry in mine})),
        note=seen.note if seen else "",
    )


def look(resources: Iterable[Mapping[str, Any]], config: Mapping[str, str]) -> list[FleetStatus]:
    """Every fleet of an exported state, with its cloud and DNS looked at now. Raises the errors of the clouds' clients."""
    found = []
    for props in (each["outputs"] for each in resources if each.get("type") == _ROLL_CALL and not each.get("delete")):
        access = Access.from_inputs(props["cloud"])
        registries = registries_of(props, config)
        roll = roll_of(props)
        entries, seen = registries.entries(), registries.seen(roll.stack)
        differs = difference(roll, entries, seen, registries.answers())
        found.append(status_of(access, roll, entries, seen, differs))
    return sorted(found, key=lambda fleet: fleet.fleet)


def shown(fleets: Sequence[FleetStatus]) -> str:
    """The same for people: differences first."""
    lines = [
        f"  {fleet.fleet}: {key.replace('_', ' ')}: {line}"
        for fleet in fleets
        for key, listed in fleet.differences.items()
        for line in listed
    ]
    if not fleets:
        return "Nothing is deployed: the stack's state has no fleet."
    lines = ["Differences", *lines, ""] if lines else ["In step: state, clouds and DNS say the same.", ""]
    for fleet in fleets:
        lines.append(f"{fleet.fleet} ({f'{fleet.cloud} {fleet.region}'.strip()})")
        for machine in fleet.machines:
            addresses = ", ".join(machine.addresses) or "no address"
            row = f"  {machine.name:<16} {machine.instance:<37} {machine.state:<9} {addresses:<16} {machine.since}"
            lines.append(row.rstrip())
            lines += [f"      at {place}" for place in machine.stands]
    return "\n".join(lines)


def exported(stack: str) -> tuple[list[Mapping[str, Any]], Configuration]:
    """The resources in the stack's state, and its configuration. `stack` may be empty: the one that is selected. Raises StatusError."""
    chosen = ("--stack", stack) if stack else ()
    state = json.loads(_pulumi("stack", "export", *chosen) or "{}")
    return state.get("deployment", {}).get("resources") or [], configuration(stack)


class Configuration(dict[str, str]):
    """The stack's configuration as the engine hands it to the program. A secret that could not be decrypted is not in it, and to ask
    for it raises StatusError: without a credential that it should have, another account would be asked."""

    def __init__(self, values: Mapping[str, str], sealed: Iterable[str] = (), why: str = "") -> None:
        super().__init__(values)
        self._sealed, self._why = frozenset(sealed), why

    def get(self, key: str, default: Any = None) -> Any:
        if key in self._sealed:
            fix = "Set PULUMI_CONFIG_PASSPHRASE, or get the right to use the key"
            raise StatusError(f"{key}: cannot be decrypted ({self._why}). {fix}.")
        return super().get(key, default)


def configuration(stack: str) -> Configuration:
    """The configuration of a stack, or of the selected one. Raises StatusError."""
    chosen = ("--stack", stack) if stack else ()
    why = ""
    try:
        told = _pulumi("config", "--json", "--show-secrets", *chosen)
    except StatusError as refused:
        why, told = str(refused), _pulumi("config", "--json", *chosen)
    found = json.loads(told or "{}")
    values = {key: str(each["value"]) for key, each in found.items() if "value" in each}
    return Configuration(values, found.keys() - values.keys(), why)


def _pulumi(*words: str) -> str:
    try:
        done = subprocess.run(
            ["pulumi", *words, "--non-interactive"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except OSError as missing:
        raise StatusError(f"pulumi cannot be started ({missing.strerror}); put the engine on the PATH") from missing
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise StatusError(f"`pulumi {' '.join(words)}` failed: {said}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rollcall status", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stack", default="", help="the selected one unless told")
    parser.add_argument("--json", action="store_true", help="for programs")
    chosen = parser.parse_args(arguments)

    # A region that cannot be asked is no difference: nothing is known of it.
    try:
        fleets = look(*exported(chosen.stack))
    except (StatusError, ConfigurationError, RollcallError, CloudApiError) as fault:
        print(f"rollcall status: {fault}", file=sys.stderr)
        return 2
    except awserrors.failures() as failed:
        print(f"rollcall status: {awserrors.told(failed)}", file=sys.stderr)
        return 2
    if chosen.json:
        print(
            json.dumps({"in_step": all(each.in_step for each in fleets), "fleets": [asdict(each) for each in fleets]})
        )
    else:
        print(shown(fleets))
    return 0 if all(fleet.in_step for fleet in fleets) else 1


if __name__ == "__main__":
    sys.exit(main())
