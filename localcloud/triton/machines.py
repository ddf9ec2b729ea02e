"""Machines: list, get, actions, delete, audit (lib/machines.js, lib/audit.js)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from localcloud.triton import machinejobs
from localcloud.triton.call import Call, Reply
from localcloud.triton.creating import (
    LONGEST_CNS_NAME,
    LONGEST_NAME,
    active_package,
    check_name_free,
    too_long_for_cns,
    valid_name,
)
from localcloud.triton.errors import ApiError, invalid_argument, missing_parameter, unallocated, validation_failed
from localcloud.triton.model import HVM, Machine
from localcloud.triton.packages import package_named

_ACCEPTED = Reply(202)
# Both transitional states are read as "active", which is everything that is there (lib/machines.js, getListOptions).
_STATES = ("provisioning", "stopping", "active", "running", "stopped", "unknown", "destroyed")


def list_machines(call: Call) -> Reply:
    params = call.params
    limit, offset = call.whole("limit", 1000) or 1000, call.whole("offset", 0)
    fits = _filter(call)
    machines = sorted(call.store.machines.values(), key=lambda machine: machine.created)
    if params.get("tags") == "*":
        # Overrides everything else, limit and offset too.
        found = [machine for machine in machines if machine.tags]
    else:
        found = [machine for machine in machines if fits(machine)][offset : offset + limit]
    shown = [machine.body(bool(params.get("credentials"))) for machine in found]
    return Reply(200, shown, {"x-query-limit": str(limit), "x-resource-count": str(len(shown))})


def _filter(call: Call) -> Callable[[Machine], bool]:
    """Raises ApiError for values that no list takes."""
    params = call.params
    state, kind, docker = params.get("state"), params.get("type"), params.get("docker")
    if state is not None and state not in _STATES:
        raise invalid_argument(f"{state} is not a valid state")
    if kind is not None and kind not in ("smartmachine", "virtualmachine"):
        raise invalid_argument(f"{kind} is not a valid type")
    if docker is not None and docker not in ("true", "false", True, False):
        raise invalid_argument(f"{docker} is not a valid boolean")
    tags = {key.removeprefix("tag."): str(value) for key, value in params.items() if key.startswith("tag.")}
    exact = {name: str(params[name]) for name in ("brand", "image", "memory", "name") if params.get(name)}

    def fits(machine: Machine) -> bool:
        shown = {
            "brand": machine.brand, "image": machine.image.id, "memory": str(machine.package.memory), "name": machine.name,
        }  # fmt: skip
        return (
            _fits_state(machine, state, bool(params.get("tombstone")))
            and (kind is None or (kind == "virtualmachine") == (machine.brand in HVM))
            and docker not in ("true", True)
            and all(shown[name] == value for name, value in exact.items())
            and all(key in machine.tags and value in ("*", _text(machine.tags[key])) for key, value in tags.items())
        )

    return fits


def _fits_state(machine: Machine, state: str | None, tombstone: bool) -> bool:
    if state is None:
        return tombstone or machine.exists
    if state in ("provisioning", "stopping", "active"):
        return machine.exists
    return machine.state == ("deleted" if state == "destroyed" else state)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def get_machine(call: Call) -> Reply:
    """410 with the whole machine for one that was deleted."""
    machine = call.machine()
    return Reply(410 if machine.state == "deleted" else 200, _body(call, machine))


def _body(call: Call, machine: Machine) -> dict[str, Any]:
    body = machine.body(bool(call.params.get("credentials")))
    return {**body, "dns_names": call.store.dns_names(machine)} if call.store.cns else body


def update_machine(call: Call) -> Reply:
    action = call.params.get("action")
    handler = _ACTIONS.get(str(action)) if action else None
    if handler is None:
        raise (
            invalid_argument(f"{action} is not a valid action")
            if action
            else missing_parameter("action must be specified")
        )
    machine = call.machine()
    if machine.state == "deleted" and not str(action).endswith("deletion_protection"):
        return Reply(410, _body(call, machine))
    return handler(call, machine)


def _power(make: Callable[..., Any], name: str) -> Callable[[Call, Machine], Reply]:
    def handle(call: Call, machine: Machine) -> Reply:
        if machine.state == "provisioning":
            raise unallocated(name)
        call.store.jobs.add(machine, make(call.store, machine, call.caller))
        return _ACCEPTED

    return handle


def _update(call: Call, machine: Machine, action: str | None, what: Callable[[], bool | None]) -> Reply:
    if machine.state == "provisioning":
        raise unallocated("update")
    call.store.jobs.add(machine, machinejobs.change(call.store, machine, action, call.caller, what))
    return _ACCEPTED


def _rename(call: Call, machine: Machine) -> Reply:
    name = str(call.params.get("name") or "")
    if not name:
        raise missing_parameter("New name must be specified")
    if len(name) > LONGEST_NAME:
        raise invalid_argument(f"Name cannot be longer than {LONGEST_NAME} characters.")
    if call.store.cns and len(name) > LONGEST_CNS_NAME:
        raise too_long_for_cns()
    if not valid_name(name):
        raise validation_failed("Invalid VM update parameters", "alias", "Invalid", "String does not match regexp")
    check_name_free(call, name, machine.id)

    def rename() -> None:
        machine.name = name

    return _update(call, machine, "rename", rename)


def _resize(call: Call, machine: Machine) -> Reply:
    if machine.brand == "kvm":
        raise invalid_argument("resize is not supported for KVM virtualmachines")
    name = str(call.params.get("package") or "")
    package = active_package(package_named(call.store, name) if name else None, name)
    needs = machine.image.requirements
    if needs.get("min_ram", 0) > package.memory:
        raise invalid_argument(f"Package RAM ({package.memory}) is less than allowed by the image ({needs['min_ram']})")
    if needs.get("max_ram", package.memory) < package.memory:
        raise invalid_argument(f"Package RAM ({package.memory}) is more than allowed by the image ({needs['max_ram']})")
    if package.traits != machine.package.traits:
        raise invalid_argument("Resizing to a package with differing traits not supported")
    if machine.brand == "bhyve" and not package.flexible_disk:
        raise invalid_argument("Resizing to a package without flexible disk space is not supported")
    if package.memory > machine.package.memory and call.store.switch("capacity") is not None:
        message = "Invalid VM update parameters"
        raise validation_failed(message, "ram", "InsufficientCapacity", "Required additional RAM exceeds the server's")

    def resize() -> None:
        machine.package = package

    return _update(call, machine, "resize", resize)


def _switch(field: str, wanted: bool, action: str | None) -> Callable[[Call, Machine], Reply]:
    def handle(call: Call, machine: Machine) -> Reply:
        if getattr(machine, field) is wanted:
            return _ACCEPTED
        return _update(call, machine, action, lambda: setattr(machine, field, wanted))

    return handle


_ACTIONS: dict[str, Callable[[Call, Machine], Reply]] = {
    "start": _power(machinejobs.start, "start"),
    "stop": _power(machinejobs.stop, "stop"),
    "reboot": _power(machinejobs.reboot, "reboot"),
    "rename": _rename,
    "resize": _resize,
    # The audit trail has no name for firewall changes (lib/audit.js, translateAction).
    "enable_firewall": _switch("firewall", True, "unknown"),
    "disable_firewall": _switch("firewall", False, "unknown"),
    "enable_deletion_protection": _switch("protected", True, "enable_deletion_protection"),
    "disable_deletion_protection": _switch("protected", False, "disable_deletion_protection"),
}


def delete_machine(call: Call) -> Reply:
    """204 again while the job runs; 410 after it. A machine that has no server yet cannot be deleted (VMAPI, deleteVm)."""
    machine = call.machine()
    if machine.state == "deleted":
        return Reply(410, _body(call, machine))
    if machine.protected:
        message = 'Instance has "deletion_protection" enabled, preventing deletion'
        raise ApiError(409, "CannotDestroyMachineError", message)
    if machine.server is None:
        raise ApiError(409, "Conflict", "Cannot delete a VM with no server_uuid")
    if not any(job.action == "destroy" for job in machine.jobs):
        call.store.jobs.add(machine, machinejobs.destroy(call.store, machine, call.caller))
    return Reply(204)


def audit(call: Call) -> Reply:
    """Finished jobs, the newest first."""
    return Reply(200, list(call.machine().audit))
