"""List, drain, stop and end the stack's machines on Triton."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence

from components.compute.base import public, utc
from components.joyent.errors import CloudApiError, FatalError, NotFoundError
from components.joyent.machine_fields import USER_SCRIPT
from components.joyent.records import MachineRecord
from components.model import Instance
from rollcall.escaping import escaped
from rollcall.settings import DRAIN, FLEET, GENERATION, MACHINE, STACK, STATUS

# The text that every version of Rollcall's user-script contains.
BOOT_SIGNATURE = "/usr/local/lib/rollcall"


class TritonView:
    """Triton by CloudAPI: `TRITON_*` from the environment first, `rollcall:joyent` of the stack's configuration second."""

    def __init__(self, config: Mapping[str, str], datacenter: str = "") -> None:
        from components.joyent.session import session_of

        self._api = session_of(json.loads(config.get("rollcall:joyent") or "{}"), datacenter).api

    def machines(self, stack: str) -> tuple[Instance, ...]:
        return tuple(triton_instance(each) for each in self._api.list_machines(tags={STACK: stack}))

    def of(self, instances: Sequence[str]) -> tuple[Instance, ...]:
        return tuple(triton_instance(each) for each in self._api.list_machines() if each.id in instances)

    def drain(self, stack: str, instances: Sequence[str]) -> None:
        for machine in self.machines(stack):
            if machine.instance in instances and not machine.drained:
                with contextlib.suppress(NotFoundError):
                    self._api.merge_metadata(machine.instance, {DRAIN: "true"})

    def undrain(self, stack: str, instances: Sequence[str]) -> None:
        for machine in self.machines(stack):
            if machine.instance in instances and machine.drained:
                with contextlib.suppress(NotFoundError):
                    self._api.delete_metadata(machine.instance, DRAIN)

    def stop(self, stack: str, instances: Sequence[str]) -> None:
        """Stop each machine first, because deleting is a power cut, and four are deleted at a time.

        A machine that is protected will not be deleted, and continues to serve. The deletion repeats what fails here,
        and reports the reason.
        """
        with contextlib.suppress(CloudApiError):
            for machine in self._api.list_machines(tags={STACK: stack}):
                if machine.id in instances and machine.state == "running" and not machine.deletion_protection:
                    # The error of a machine that is gone by now. An API that fails has been asked repeatedly, and its error ends the stop.
                    with contextlib.suppress(FatalError):
                        self._api.act(machine.id, "stop")

    def steps(self, machines: Sequence[Instance]) -> dict[str, str]:
        """Read the steps from the metadata that the agent writes: each machine was listed with it."""
        return {machine.instance: machine.note for machine in machines if machine.note}

    def unproven(self, stack: str, machines: Sequence[Instance]) -> dict[str, str]:
        """Check a machine's metadata, which has its identity and the script with which Rollcall boots a machine.

        A user who may only tag a machine (AddMachineTags) may not write them (UpdateMachineMetadata).

        https://docs.tritondatacenter.com/public-cloud/rbac/rules (each call is a separate right)
        """
        wanted = {machine.instance: machine for machine in machines}
        listed = {each.id: each for each in self._api.list_machines() if each.id in wanted}
        doubts = {instance: _joyent_doubt(stack, each, listed.get(instance)) for instance, each in wanted.items()}
        return {instance: doubt for instance, doubt in doubts.items() if doubt}

    def end(self, instances: Sequence[str]) -> None:
        for instance in instances:
            with contextlib.suppress(NotFoundError):
                self._api.delete_machine(instance)


def _joyent_doubt(stack: str, machine: Instance, listed: MachineRecord | None) -> str:
    metadata = listed.metadata if listed is not None else {}
    identity = {STACK: stack, FLEET: machine.fleet, MACHINE: machine.machine, GENERATION: machine.generation}
    if any(not value or metadata.get(key) != value for key, value in identity.items()):
        return "its metadata do not name it as its tags do"
    return "" if BOOT_SIGNATURE in metadata.get(USER_SCRIPT, "") else "its user-script is not Rollcall's"


def triton_instance(machine: MachineRecord) -> Instance:
    tags = {key: escaped(value) for key, value in machine.tags.items()}
    return Instance(
        instance=machine.id,
        fleet=tags.get(FLEET, ""),
        machine=tags.get(MACHINE, ""),
        generation=tags.get(GENERATION, ""),
        running=machine.state in ("provisioning", "ready", "running", "stopping", "offline", "unknown"),
        # The primary address first: its agent registers this one.
        addresses=public(dict.fromkeys((machine.primary_ip, *machine.ips))),
        state=escaped(machine.state),
        drained=machine.metadata.get(DRAIN) == "true",
        note=escaped(machine.metadata.get(STATUS, "")),
        since=utc(machine.created),
    )
