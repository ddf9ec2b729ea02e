"""Snapshots of a machine (lib/snapshots.js). What is kept is that there is one, not the disk's contents."""

from __future__ import annotations

import time

from localcloud.triton import machinejobs
from localcloud.triton.call import Call, Reply
from localcloud.triton.errors import invalid_argument, not_found, unallocated, validation_failed
from localcloud.triton.model import Machine, Snapshot

_SIZE = 31_457_280


def create(call: Call) -> Reply:
    machine = call.machine()
    if machine.brand == "bhyve":
        raise invalid_argument("Snapshots of bhyve VMs are not allowed")
    if machine.state == "provisioning":
        raise unallocated("create_snapshot")
    now = call.store.clock()
    name = str(call.params.get("name") or time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)))
    if _find(machine, name) is not None:
        raise validation_failed("Invalid VM parameters", "snapshot_name", "Duplicate", "Snapshot name already exists")
    snapshot = Snapshot(name, now)
    machine.snapshots.append(snapshot)

    def done() -> None:
        snapshot.state, snapshot.size = "created", _SIZE

    call.store.jobs.add(machine, machinejobs.change(call.store, machine, "create_snapshot", call.caller, done))
    return Reply(201, snapshot.body())


def list_snapshots(call: Call) -> Reply:
    """Those that exist: one that is queued is not listed yet."""
    return Reply(200, [each.body() for each in call.machine().snapshots if each.state == "created"])


def get(call: Call) -> Reply:
    """A snapshot that was deleted is shown as such."""
    snapshot = _find(call.machine(), call.path["name"], deleted=True)
    if snapshot is None:
        raise not_found("Snapshot does not exist")
    return Reply(200, snapshot.body())


def start_from(call: Call) -> Reply:
    """Roll back; the machine is started after it."""
    machine = call.machine()
    if machine.state == "provisioning":
        raise unallocated("rollback_snapshot")
    snapshot = _find(machine, call.path["name"])
    if snapshot is None:
        raise not_found("Snapshot does not exist")
    call.store.jobs.add(machine, machinejobs.rollback(call.store, machine, call.caller))
    return Reply(202)


def delete(call: Call) -> Reply:
    machine, name = call.machine(), call.path["name"]
    snapshot = _find(machine, name)
    if snapshot is None or snapshot.state != "created":
        raise not_found(f"{name} not found")

    def gone() -> None:
        snapshot.state, snapshot.size = "deleted", 0

    call.store.jobs.add(machine, machinejobs.change(call.store, machine, "delete_snapshot", call.caller, gone))
    return Reply(204)


def _find(machine: Machine, name: str, *, deleted: bool = False) -> Snapshot | None:
    named = [each for each in machine.snapshots if each.name == name and (deleted or each.state != "deleted")]
    return named[-1] if named else None
