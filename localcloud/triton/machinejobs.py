"""The jobs that change what runs: each is the steps that the data centre's workflow of that name takes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from localcloud.machines.compute import Hypervisor, Observer
from localcloud.machines.compute import Machine as Guest
from localcloud.triton.jobs import settle
from localcloud.triton.model import Machine, Nic
from localcloud.triton.steps import Ask, Await, Job, Pause, Steps
from localcloud.triton.store import Store

_log = logging.getLogger(__name__)
# The part of provisioning after which a server is chosen; from then on the machine can be deleted.
_PLACED = 0.1


class Reporter:
    """Observes machines for a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def running(self, machine_id: str) -> None:
        self._report(machine_id, "running")

    def stopped(self, machine_id: str) -> None:
        self._report(machine_id, "stopped")

    def failed(self, machine_id: str, reason: str) -> None:
        _log.warning("machine %s could not be started: %s", machine_id, reason)
        self._report(machine_id, "failed")

    def _report(self, machine_id: str, event: Any) -> None:
        with self._store.lock:
            machine = self._store.machines.get(machine_id)
            if machine is not None:
                self._store.jobs.report(machine, event)


def boot(store: Store, machine: Machine) -> Ask:
    on_fabric = next((nic.ip for nic in machine.nics if nic.network.fabric), "")
    public = next((nic.ip for nic in machine.nics if nic.network.public), "")
    primary = machine.primary()
    guest = Guest(
        id=machine.id,
        cloud="joyent",
        name=machine.name,
        # Private networks that are no fabrics are not in the namespace.
        address=public or (primary.ip if primary and not on_fabric else ""),
        fabric_address=on_fabric,
        image=machine.image.boots,
        memory_mib=machine.package.memory,
        ssh_keys=tuple(str(machine.metadata.get("root_authorized_keys", "")).splitlines()),
    )
    observer: Observer = Reporter(store)
    return Ask(lambda hypervisor: hypervisor.boot(guest, observer))


def _ask(machine: Machine, method: Callable[[Hypervisor, str], None]) -> Ask:
    return Ask(lambda hypervisor: method(hypervisor, machine.id))


def provision(store: Store, machine: Machine, caller: dict[str, Any]) -> Job:
    def steps() -> Steps:
        whole = store.options.provisioning
        yield Pause(whole * _PLACED)
        machine.server = store.server()
        yield Pause(whole * (1 - _PLACED))
        reason = store.switch("failed-provisioning")
        if reason is not None:
            _log.info("machine %s fails to provision, as a fault wants it: %s", machine.id, reason or "no reason")
            return _failed(machine)
        machine.nics = machine.wanted_nics
        yield boot(store, machine)
        if (yield Await()) != "running":
            machine.nics = []
            return _failed(machine)
        machine.state = "running"
        for nic in machine.nics:
            nic.state = "running"
        return True

    return Job("provision", steps(), caller, power=True)


def _failed(machine: Machine) -> bool:
    machine.state = "failed"
    release(machine)
    return False


def release(machine: Machine) -> None:
    for nic in {id(each): each for each in (*machine.wanted_nics, *machine.nics, *machine.pending_nics)}.values():
        nic.network.addresses.release(nic.ip)
    machine.wanted_nics, machine.pending_nics, machine.nics = [], [], []


def start(store: Store, machine: Machine, caller: dict[str, Any]) -> Job:
    def steps() -> Steps:
        yield Pause(store.options.job_delay)
        if machine.state != "stopped":
            return False
        return (yield from _up(store, machine))

    return Job("start", steps(), caller, power=True)


def stop(store: Store, machine: Machine, caller: dict[str, Any]) -> Job:
    def steps() -> Steps:
        yield Pause(store.options.job_delay)
        if machine.state != "running":
            return False
        yield from _down(machine)
        return True

    return Job("stop", steps(), caller, power=True)


def _up(store: Store, machine: Machine) -> Steps:
    yield boot(store, machine)
    event = yield Await()
    settle(machine, event or "failed", store.clock())
    return event == "running"


def _down(machine: Machine) -> Steps:
    machine.state = "stopping"
    yield _ask(machine, lambda hypervisor, machine_id: hypervisor.shut_down(machine_id))
    while (yield Await()) == "running":
        pass
    machine.state = "stopped"
    return True


def reboot(store: Store, machine: Machine, caller: dict[str, Any]) -> Job:
    def steps() -> Steps:
        yield Pause(store.options.job_delay)
        if machine.state != "running":
            return False
        machine.state = "stopping"
        yield _ask(machine, lambda hypervisor, machine_id: hypervisor.reboot(machine_id))
        event = yield Await()
        settle(machine, event or "failed", store.clock())
        return event == "running"

    return Job("reboot", steps(), caller, power=True)


def destroy(store: Store, machine: Machine, caller: dict[str, Any]) -> Job:
    """A power cut: the guest hears nothing."""

    def steps() -> Steps:
        yield Pause(store.options.job_delay)
        yield _ask(machine, lambda hypervisor, machine_id: hypervisor.cut_power(machine_id))
        yield _ask(machine, lambda hypervisor, machine_id: hypervisor.remove(machine_id))
        machine.state = "deleted"
        release(machine)
        return True

    return Job("destroy", steps(), caller, power=True)


def change(
    store: Store, machine: Machine, action: str | None, caller: dict[str, Any], what: Callable[[], bool | None]
) -> Job:
    """A job that changes something without touching what runs; `what` returns False where it failed."""

    def steps() -> Steps:
        yield Pause(store.options.job_delay)
        return machine.state != "deleted" and what() is not False

    return Job(action, steps(), caller)


def add_nic(store: Store, machine: Machine, nic: Nic, caller: dict[str, Any]) -> Job:
    def steps() -> Steps:
        yield Pause(store.options.job_delay)
        for other in machine.nics if nic.primary else ():
            other.primary = False
        machine.pending_nics = [each for each in machine.pending_nics if each is not nic]
        if machine.state not in ("running", "stopped"):
            nic.network.addresses.release(nic.ip)
            return False
        machine.nics = [*machine.nics, nic]
        done = yield from _restarted(store, machine)
        nic.state = "running"
        return done

    # The trail names NIC jobs by their task.
    return Job("add_nics", steps(), caller, power=True)


def remove_nic(store: Store, machine: Machine, mac: str, caller: dict[str, Any]) -> Job:
    def steps() -> Steps:
        yield Pause(store.options.job_delay)
        gone = [nic for nic in machine.nics if nic.mac == mac]
        if not gone:
            return False
        machine.nics = [nic for nic in machine.nics if nic.mac != mac]
        if machine.nics and not any(nic.primary for nic in machine.nics):
            machine.nics[0].primary = True
        for nic in gone:
            nic.network.addresses.release(nic.ip)
        return (yield from _restarted(store, machine))

    return Job("remove_nics", steps(), caller, power=True)


def _restarted(store: Store, machine: Machine) -> Steps:
    """Stop and start in the place of a reboot: the machine may come back under another address."""
    if machine.state != "running":
        return True
    yield from _down(machine)
    return (yield from _up(store, machine))


def rollback(store: Store, machine: Machine, caller: dict[str, Any]) -> Job:
    def steps() -> Steps:
        yield Pause(store.options.job_delay)
        if machine.state == "running":
            yield from _down(machine)
        return machine.state == "stopped" and (yield from _up(store, machine))

    return Job("rollback_snapshot", steps(), caller, power=True)
