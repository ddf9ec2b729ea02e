"""Bring a machine in line with its description, in place: each request, and a bounded wait for its result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from components.joyent.client import CloudApi
from components.joyent.errors import FatalError, NotFoundError
from components.joyent.machine_fields import Inputs, opened_metadata, owned_metadata, owned_tags, same, wanted_networks
from components.joyent.pacing import wait_until
from components.joyent.records import MachineRecord
from components.joyent.session import Session

Probe = Callable[[MachineRecord], bool]


class Change:
    """The change of one machine from `old` to `new` inputs. Only what is declared in either is touched.

    `carry_out` raises a CloudApiError. What was done before it stays done, and the next refresh shows it.
    """

    def __init__(self, session: Session, machine: str, old: Inputs, new: Inputs, timeout: float) -> None:
        self._session, self._api, self._id = session, session.api, machine
        self._old, self._new, self._timeout = old, new, timeout

    def carry_out(self) -> None:
        try:
            # One wait for everything that CloudAPI does at the same time; then what must be done one after the other.
            self._wait({**self._tags(), **self._metadata(), **self._name(), **self._switches()})
            self._package()
            self._networks()
            self._power()
        finally:
            self._session.machines.changed()

    def _changed(self, name: str) -> bool:
        return self._new.get(name) is not None and not same(self._old.get(name), self._new[name])

    def _tags(self) -> dict[str, Probe]:
        old, new = owned_tags(self._old), owned_tags(self._new)
        setting = {key: value for key, value in new.items() if key not in old or not same(old[key], value)}
        removing = old.keys() - new.keys()
        if setting:
            self._api.merge_tags(self._id, setting)
        for key in sorted(removing):
            _unless_gone(self._api.delete_tag, self._id, key)
        return {"tags": lambda machine: _shows(machine.tags, setting, removing)} if setting or removing else {}

    def _metadata(self) -> dict[str, Probe]:
        old, new = owned_metadata(self._old), owned_metadata(self._new)
        setting = opened_metadata(self._new, [key for key, value in new.items() if old.get(key) != value])
        removing = old.keys() - new.keys()
        if setting:
            self._api.merge_metadata(self._id, setting)
        for key in sorted(removing):
            _unless_gone(self._api.delete_metadata, self._id, key)
        return {"metadata": lambda machine: _shows(machine.metadata, setting, removing)} if setting or removing else {}

    def _name(self) -> dict[str, Probe]:
        if not self._changed("machine_name"):
            return {}
        name = self._new["machine_name"]
        self._api.act(self._id, "rename", name=name)
        return {"name": lambda machine: machine.name == name}

    def _switches(self) -> dict[str, Probe]:
        probes: dict[str, Probe] = {}
        for field, action in (("firewall_enabled", "firewall"), ("deletion_protection", "deletion_protection")):
            if self._changed(field):
                wanted = bool(self._new[field])
                self._api.act(self._id, f"{'enable' if wanted else 'disable'}_{action}")
                probes[field] = _is(field, wanted)
        return probes

    def _package(self) -> None:
        if self._changed("package"):
            package = self._session.catalogue.package(self._new["package"])
            self._api.act(self._id, "resize", package=package.id)
            # A stopped machine may show no package name, but it shows the new memory.
            self._wait({"package": lambda machine: package.name == machine.package or package.memory == machine.memory})

    def _networks(self) -> None:
        """Change NICs one after the other, since each addition and removal reboots the machine.

        The order is the declared one.
        """
        if not self._changed("networks"):
            return
        listed = {network.id for network in self._session.catalogue.networks()}
        wanted = wanted_networks(self._new, self._session.catalogue)
        ids = [each if isinstance(each, str) else each["ipv4_uuid"] for each in wanted]
        nics = self._api.list_nics(self._id)
        keep = 0
        for nic, network in zip(nics, ids, strict=False):
            # A network that no list shows is a pool's member. It may be what was asked for, so it stays.
            if nic["network"] != network and nic["network"] in listed:
                break
            keep += 1
        for nic in nics[keep:]:
            _unless_gone(self._api.remove_nic, self._id, nic["mac"])
            self._until(f"NIC {nic['mac']} removed", partial(self._nic_gone, nic["mac"]))
        for network, id_ in zip(wanted[keep:], ids[keep:], strict=True):
            mac = self._api.add_nic(self._id, network)["mac"]
            self._until(f"NIC on network {id_}", partial(self._nic_running, mac))

    def _nic_gone(self, mac: str) -> bool | None:
        return True if self._nic_state(mac) is None else None

    def _nic_state(self, mac: str) -> str | None:
        try:
            return str(self._api.get_nic(self._id, mac).get("state", "running"))
        except NotFoundError:
            return None

    def _nic_running(self, mac: str) -> bool | None:
        state = self._nic_state(mac)
        if state is None:
            raise FatalError(
                f"machine {self._id}: the NIC {mac} could not be added. Run `triton instance audit {self._id}` for the reason."
            )
        return True if state == "running" else None

    def _power(self) -> None:
        if self._changed("power"):
            power(self._session, self._id, str(self._new["power"]), self._timeout)

    def _wait(self, probes: Mapping[str, Probe]) -> None:
        if probes:
            self._until(
                ", ".join(probes),
                lambda: all(probe(self._api.get_machine(self._id)) for probe in probes.values()) or None,
            )

    def _until(self, what: str, probe: Callable[[], Any]) -> None:
        wait_until(f"machine {self._id}: {what}", probe, timeout=self._timeout, sleep=self._session.sleep)


def power(session: Session, machine: str, wanted: str, timeout: float) -> None:
    """Start or stop a machine and wait for it. `wanted` is running or stopped. A machine that is gone counts as stopped.

    The waits of all machines share one list call a second.
    """
    requested = False

    def there() -> bool | None:
        nonlocal requested
        found = session.machines.find(machine, 1.0, own_writes=False)
        if found is None or found.state == "failed":
            if wanted == "stopped":
                return True
            raise FatalError(
                f"machine {machine}: cannot be started, because it {'has failed' if found else 'is gone'}. Run `pulumi up` again."
            )
        if found.state == wanted:
            return True
        # In any other state (provisioning, stopping) CloudAPI cannot be asked yet.
        if not requested and found.state == ("stopped" if wanted == "running" else "running"):
            session.api.act(machine, "start" if wanted == "running" else "stop")
            requested = True
        return None

    wait_until(f"machine {machine}: {wanted}", there, timeout=timeout, sleep=session.sleep)


def unprotect(api: CloudApi, machine: str, timeout: float, sleep: Callable[[float], None]) -> None:
    """Turn off the deletion protection of a machine, and wait until CloudAPI shows it. A machine that is gone is no error.

    DeleteMachine refuses a machine as long as VMAPI has it as protected, which a job changes (disable_deletion_protection and
    deleteMachine of sdc-cloudapi's lib/machines.js).
    """
    with contextlib.suppress(NotFoundError):
        api.act(machine, "disable_deletion_protection")
        wait_until(
            f"machine {machine}: deletion_protection",
            lambda: None if api.get_machine(machine).deletion_protection else True,
            timeout=timeout,
            sleep=sleep,
        )


def _is(field: str, wanted: bool) -> Probe:
    return lambda machine: getattr(machine, field) is wanted


def _shows(live: Mapping[str, Any], setting: Mapping[str, Any], removing: Any) -> bool:
    return all(key in live and same(live[key], value) for key, value in setting.items()) and not set(removing) & set(
        live
    )


def _unless_gone(call: Callable[[str, str], None], machine: str, key: str) -> None:
    try:
        call(machine, key)
    except NotFoundError:
        return
