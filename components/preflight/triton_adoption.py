"""Check existing Triton machines that will become machines of a fleet (`adopt`): refuse them, or show what changes on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from components.config.models import FleetSettings
from components.joyent.catalogue import Catalogue, is_uuid
from components.joyent.errors import AmbiguousError, NotFoundError, RefusedError
from components.joyent.machine_fields import MARK_TAG, USER_SCRIPT, live_inputs, needs_new_machine, same
from components.joyent.records import MachineRecord
from components.preflight.quotas import Found
from rollcall.settings import FLEET, MACHINE, STACK


@dataclass(frozen=True, kw_only=True)
class Adopter:
    """The stack that adopts: its tag, and the project and stack of Pulumi's mark.

    `networks` and `firewall` are the fleet's.
    """

    stack: str
    mark: str
    networks: Sequence[str]
    firewall: bool


def compare(fleet: FleetSettings, by: Adopter, machines: Iterable[MachineRecord], catalogue: Catalogue) -> Found:
    """Return what adopting changes, and faults. Raises CloudApiError where the catalogue cannot be asked.

    `machines` are all of the account. A machine that the fleet has adopted before is not reported.
    """
    listed = list(machines)
    faults, notes = [], []
    for index, wanted in sorted(fleet.adopt.items()):
        key, name = f"rollcall:fleets.{fleet.name}.adopt.{index}", f"{fleet.name}-{index}"
        if any(_is(each.tags, by.stack, fleet.name, index) for each in listed):
            continue
        found = [each for each in listed if wanted == (each.id if is_uuid(wanted) else each.name)]
        if len(found) != 1:
            ids = ", ".join(each.id for each in found)
            fault = (
                f"names {len(found)} machines ({ids}). Give one id."
                if found
                else "is not a machine. Give the name or id of one."
            )
            faults.append(f"{key}: {wanted!r} {fault}")
            continue
        (machine,) = found
        owner = _owner(machine, f"{by.mark}/{name}")
        if owner:
            faults.append(
                f"{key}: {machine.name} ({machine.id}) belongs to {owner}. Remove it there first, or name another."
            )
            continue
        refused = list(_refused(fleet, machine, catalogue))
        faults += [f"{key}: {machine.name} ({machine.id}) {fault}" for fault in refused]
        if not refused:
            notes.append(
                f"{name}: {machine.name} ({machine.id}) is adopted; {'; '.join(_changes(fleet, by, name, machine, catalogue))}"
            )
    return Found(faults=tuple(faults), notes=tuple(notes))


def _is(tags: Mapping[str, object], stack: str, fleet: str, index: int) -> bool:
    return (tags.get(STACK), tags.get(FLEET), str(tags.get(MACHINE))) == (stack, fleet, str(index))


def _owner(machine: MachineRecord, mark: str) -> str:
    """Return the owner of a machine: any Rollcall stack by its tag, any program with our resources by its mark."""
    if STACK in machine.tags:
        return f"stack {machine.tags[STACK]}, as {machine.tags.get(FLEET)}-{machine.tags.get(MACHINE)}"
    owner = machine.tags.get(MARK_TAG)
    return "" if owner is None or same(owner, mark) else str(owner)


def _refused(fleet: FleetSettings, machine: MachineRecord, catalogue: Catalogue) -> Iterator[str]:
    """Return the differences that would need another machine."""
    alone = "which needs a new machine. Leave adopt out, and delete this one when the new one answers."
    try:
        image, package = catalogue.image(fleet.image), catalogue.package(fleet.size)
    except (AmbiguousError, NotFoundError, RefusedError):
        return  # The provider's check reports it, with similar names.
    if machine.image != image.id:
        yield f"has the image {machine.image}, the fleet {image}, {alone}"
    if machine.package not in ("", package.name) and needs_new_machine(machine.brand, package):
        yield f"is {machine.package} and {machine.brand}, which cannot be resized to {package}, {alone}"


def _changes(
    fleet: FleetSettings, by: Adopter, name: str, machine: MachineRecord, catalogue: Catalogue
) -> Iterator[str]:
    declared = {"package": fleet.size, "networks": list(by.networks), "firewall_enabled": by.firewall}
    live = live_inputs(declared, machine, machine.image, catalogue)
    yield f"it is called {name}-GENERATION, and gets the stack's tags and metadata beside its own"
    if live["package"] != fleet.size:
        yield f"its size goes from {live['package']} to {fleet.size}"
    if live["networks"] != list(by.networks):
        yield f"its networks go from {', '.join(live['networks'])} to {', '.join(by.networks)}, each change with a reboot"
    if live["firewall_enabled"] != by.firewall:
        yield f"its firewall is turned {'on' if by.firewall else 'off'}"
    script = "its own user-script is replaced by one" if machine.metadata.get(USER_SCRIPT) else "it gets a user-script"
    when = (
        "`up` starts it"
        if machine.state == "stopped"
        else f"`triton instance reboot {machine.id}` while `up` waits for it, or stop it before and `up` starts it"
    )
    yield f"{script} that runs at its next boot: {when}"
