"""List, drain, stop and end the stack's machines on Triton, and write and read their settings."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from components.compute.base import public, releases_in, reports_of, utc
from components.joyent.errors import CloudApiError, FatalError, NotFoundError, RefusedError
from components.joyent.machine_changes import unprotect
from components.joyent.machine_fields import USER_SCRIPT
from components.joyent.records import MachineRecord, NetworkRecord, is_public
from components.model import Instance
from components.workloads.release import Release
from rollcall.escaping import escaped
from rollcall.in_place import CARRIED, LIVE, REPORT, ReleaseReport
from rollcall.resolver_view import ResolverReport
from rollcall.settings import DRAIN, FLEET, GENERATION, MACHINE, STACK, STATUS, STORE

# The text that every version of Rollcall's user-script contains.
BOOT_SIGNATURE = "/usr/local/lib/rollcall"
_AT_ONCE = 8
_UNPROTECTED_WITHIN_S = 60.0


class TritonView:
    """Triton by CloudAPI: `TRITON_*` from the environment first, `rollcall:joyent` of the stack's configuration second."""

    def __init__(self, config: Mapping[str, str], datacenter: str = "") -> None:
        from components.joyent.session import session_of

        session = session_of(json.loads(config.get("rollcall:joyent") or "{}"), datacenter)
        self._api, self._networks = session.api, session.catalogue.networks

    # What the account may use. Which networks are fabrics does not change, so an answer of a minute ago is good enough.
    _networks: Callable[[], Sequence[NetworkRecord]] = staticmethod(tuple)

    def machines(self, stack: str) -> tuple[Instance, ...]:
        return self._instances(self._api.list_machines(tags={STACK: stack}))

    def of(self, instances: Sequence[str]) -> tuple[Instance, ...]:
        return self._instances(each for each in self._api.list_machines() if each.id in instances)

    def _instances(self, machines: Iterable[MachineRecord]) -> tuple[Instance, ...]:
        listed = list(machines)
        # Networks count only where machines have any.
        networks = self._networks() if any(each.networks for each in listed) else ()
        fabrics = frozenset(each.id for each in networks if each.fabric)
        return tuple(triton_instance(each, fabrics) for each in listed)

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

    def console(self, machine: Instance) -> str | None:
        """Return None: CloudAPI has no request for the text of a console, only an interactive VNC.

        https://docs.tritondatacenter.com/public-cloud/api-access/cloudapi (ConnectMachineVNC)
        """
        return None

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
        """Terminate machines, also protected ones: what made them is gone from the program, or never came into the state."""
        for instance in instances:
            with contextlib.suppress(NotFoundError):
                try:
                    self._api.delete_machine(instance)
                except RefusedError:
                    if not self._api.get_machine(instance).deletion_protection:
                        raise
                    unprotect(self._api, instance, _UNPROTECTED_WITHIN_S, time.sleep)
                    self._api.delete_machine(instance)

    def set_settings(self, stack: str, changes: Mapping[str, Mapping[str, str | None]]) -> None:
        alive = {each.id for each in self._api.list_machines(tags={STACK: stack})}
        _at_once(self._change, [(each, changes[each]) for each in changes if each in alive])

    def _change(self, instance: str, change: Mapping[str, str | None]) -> None:
        """Write and remove metadata of one machine. All calls of the account share one rate limiter."""
        written = {key: value for key, value in change.items() if value is not None}
        with contextlib.suppress(NotFoundError):
            if written:
                self._api.merge_metadata(instance, written)
        for key in (each for each, value in change.items() if value is None):
            # The key may be gone, or the machine.
            with contextlib.suppress(NotFoundError):
                self._api.delete_metadata(instance, key)

    def reports(self, machines: Sequence[Instance]) -> dict[str, ReleaseReport]:
        wanted = {each.instance for each in machines}
        listed = {each.id: each.metadata.get(REPORT, "") for each in self._api.list_machines() if each.id in wanted}
        return reports_of(listed)

    def resolver_reports(self, machines: Sequence[Instance]) -> dict[str, ResolverReport]:
        """Return nothing: no machine of this cloud is in a VPC."""
        return {}

    def deliver(self, instances: Sequence[str], releases: Sequence[Release]) -> None:
        """Write each release by a request of its own, because CloudAPI limits a request (components/joyent/machine_checks.py)."""
        texts = {f"{CARRIED}{each.digest}": base64.b85encode(each.packed).decode() for each in releases}
        changes: list[tuple[str, Mapping[str, str | None]]] = []
        for machine in self._api.list_machines():
            if machine.id in instances:
                old = [key for key in machine.metadata if key.startswith(CARRIED) and key not in texts]
                new = [key for key, text in texts.items() if machine.metadata.get(key) != text]
                changes += [(machine.id, {key: texts[key]}) for key in new]
                changes += [(machine.id, dict.fromkeys(old))]
        _at_once(self._change, changes)


def _at_once(
    change: Callable[[str, Mapping[str, str | None]], None], changes: Sequence[tuple[str, Mapping[str, str | None]]]
) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        # The list raises the first error.
        list(pool.map(lambda each: change(*each), changes))


def _joyent_doubt(stack: str, machine: Instance, listed: MachineRecord | None) -> str:
    metadata = listed.metadata if listed is not None else {}
    identity = {STACK: stack, FLEET: machine.fleet, MACHINE: machine.machine, GENERATION: machine.generation}
    if any(not value or metadata.get(key) != value for key, value in identity.items()):
        return "its metadata do not name it as its tags do"
    return "" if BOOT_SIGNATURE in metadata.get(USER_SCRIPT, "") else "its user-script is not Rollcall's"


def triton_instance(machine: MachineRecord, fabrics: Collection[str] = ()) -> Instance:
    """Return a machine of Triton. `fabrics` are the ids of the networks that are fabrics.

    `ips` and `networks` have one item for each NIC, in the same order (translate of sdc-cloudapi's lib/machines.js). An agent
    finds the same addresses in its metadata (rollcall.clouds.Joyent).
    """
    on_fabric = {ip for ip, network in zip(machine.ips, machine.networks, strict=False) if network in fabrics}
    tags = {key: escaped(value) for key, value in machine.tags.items()}
    return Instance(
        instance=machine.id,
        fleet=tags.get(FLEET, ""),
        machine=tags.get(MACHINE, ""),
        generation=tags.get(GENERATION, ""),
        running=machine.state in ("provisioning", "ready", "running", "stopping", "offline", "unknown"),
        # The primary address first: its agent registers this one.
        addresses=public(each for each in dict.fromkeys((machine.primary_ip, *machine.ips)) if each not in on_fabric),
        state=escaped(machine.state),
        drained=machine.metadata.get(DRAIN) == "true",
        note=escaped(machine.metadata.get(STATUS, "")),
        since=utc(machine.created),
        live={key: escaped(value) for key, value in machine.metadata.items() if key.startswith(LIVE)},
        store=escaped(machine.metadata.get(STORE, "")),
        releases=releases_in(machine.metadata),
        # The first private network's address first: its agent registers this one.
        private_addresses=tuple(each for each in machine.ips if each in on_fabric or not is_public(each)),
    )
