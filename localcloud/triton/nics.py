"""NICs of a machine. Adding or removing one reboots it (lib/nics.js)."""

from __future__ import annotations

import re

from localcloud.triton import machinejobs
from localcloud.triton.call import Call, Reply
from localcloud.triton.creating import network_object
from localcloud.triton.errors import invalid_argument, missing_parameter, not_found, unallocated
from localcloud.triton.model import Machine, Nic

_MAC = re.compile(r"[0-9a-f]{12}", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def list_nics(call: Call) -> Reply:
    shown = [nic.body() for nic in call.machine().nics]
    return Reply(200, shown, {"x-resource-count": str(len(shown))})


def get_nic(call: Call) -> Reply:
    return Reply(200, _nic(call, call.machine()).body())


def add_nic(call: Call) -> Reply:
    """The NIC is there at once, as provisioning; 302 where the machine has one on that network already."""
    machine, wanted = call.machine(), call.params.get("network")
    if not wanted:
        raise missing_parameter("network must be specified")
    if not isinstance(wanted, str | dict):
        raise invalid_argument("network argument must be a network object or string")
    if isinstance(wanted, str) and not _UUID.fullmatch(wanted):
        raise invalid_argument("network argument has invalid format")
    ip = network_object(call, wanted) if isinstance(wanted, dict) else None
    network = call.store.network(str(wanted["ipv4_uuid"]) if isinstance(wanted, dict) else wanted)
    if network is None:
        raise invalid_argument("network not found")
    there = next((nic for nic in machine.nics if nic.network.id == network.id), None)
    if there is not None:
        return Reply(302, None, {"Location": _path(call, machine, there)})
    _check_allocated(machine, "add_nics")
    real = network.real()
    primary = call.params.get("primary") in (True, "true")
    nic = Nic(real, real.addresses.take(machine.id, ip), primary)
    machine.pending_nics.append(nic)
    call.store.jobs.add(machine, machinejobs.add_nic(call.store, machine, nic, call.caller))
    return Reply(201, nic.body(), {"Location": _path(call, machine, nic)})


def remove_nic(call: Call) -> Reply:
    machine = call.machine()
    nic = _nic(call, machine)
    _check_allocated(machine, "remove_nics")
    call.store.jobs.add(machine, machinejobs.remove_nic(call.store, machine, nic.mac, call.caller))
    return Reply(204)


def _check_allocated(machine: Machine, action: str) -> None:
    if machine.state == "provisioning":
        raise unallocated(action)


def _nic(call: Call, machine: Machine) -> Nic:
    mac = call.path["mac"].replace(":", "")
    if not _MAC.match(mac):
        raise invalid_argument("mac has invalid format")
    for nic in (*machine.nics, *machine.pending_nics):
        if nic.mac.replace(":", "") == mac.lower():
            return nic
    raise not_found("nic not found")


def _path(call: Call, machine: Machine, nic: Nic) -> str:
    return f"/{call.store.login}/machines/{machine.id}/nics/{nic.mac.replace(':', '')}"
