"""The power of EC2 instances: their states, the hypervisor that follows them, and the public addresses they have meanwhile.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from localcloud.aws.catalogue import image_of
from localcloud.aws.ec2.addresses import AddressPool
from localcloud.aws.wire import AwsError
from localcloud.machines.compute import Hypervisor, Machine, Observer
from localcloud.network.namespace import is_on_the_wire

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
# Of an interface that is not deleted with its machine.
STAYS = "stays"
_BY_USER = ("Client.UserInitiatedShutdown", "User initiated shutdown")
_BY_GUEST = ("Client.InstanceInitiatedShutdown", "Instance initiated shutdown")
_BY_SERVER = ("Server.InternalError", "Internal error on launch")


@dataclass(frozen=True)
class Change:
    """An instance's state before and after a request, by name."""

    id: str
    before: str
    after: str


@dataclass
class _Unit:
    """A machine. `address` is the one of its interface. `automatic` is the public address that EC2 has given it, if any.

    Both are the same in a VPC with private addresses that no machine can have here (localcloud.network.namespace).
    """

    instance: Any
    address: str = ""
    automatic: str = ""
    ran: bool = False
    ended: float | None = None


class Power:
    """All instances of the account in one region. Thread-safe; `lock` is the one that moto's objects are changed under."""

    def __init__(
        self,
        *,
        hypervisor: Hypervisor,
        observer: Observer,
        pool: AddressPool,
        lock: threading.RLock,
        forget: Callable[[str], None],
        clock: Callable[[], float],
        terminated_visible: float,
    ) -> None:
        self._hypervisor = hypervisor
        self._observer = observer
        self._pool = pool
        self._lock = lock
        self._forget = forget
        self._clock = clock
        self._visible = terminated_visible
        self._units: dict[str, _Unit] = {}
        self._at: dict[str, str] = {}

    # What clients ask for.

    def printed(self, machine_id: str) -> str:
        """Return the console output of an instance."""
        return self._hypervisor.printed(machine_id)

    def launch(self, instances: Sequence[Any]) -> None:
        """Boot instances that moto has just made. There must be an address for each (`free`)."""
        with self._lock:
            for instance in instances:
                unit = _Unit(instance)
                self._units[instance.id] = unit
                self._boot(unit)

    @property
    def free(self) -> int:
        """Return how many more machines can have an address."""
        return len(self._pool)

    def take(self) -> str:
        """Return an unused public address. Raises NoAddressError."""
        return self._pool.take()

    def give_back(self, address: str) -> None:
        self._pool.give_back([address])

    def readdress(self, interface: Any) -> None:
        """Give an interface the public address that it has now: an elastic one, otherwise an automatic one while its machine is on.

        An automatic address is released when an elastic one takes its place:
        https://docs.aws.amazon.com/vpc/latest/userguide/vpc-eips.html
        """
        with self._lock:
            unit = self._units.get(interface.instance.id) if interface.instance is not None else None
            elastic = next((each for each in interface.ec2_backend.addresses if each.eni is interface), None)
            if elastic is not None:
                elastic.instance = interface.instance
                interface.public_ip = elastic.public_ip
            else:
                interface.public_ip = None
            if unit is None:
                return
            is_automatic = elastic is None and bool(unit.address) and bool(interface.public_ip_auto_assign)
            if is_automatic:
                unit.automatic = unit.automatic or (self._pool.take() if _is_private(unit) else unit.address)
                interface.public_ip = unit.automatic
            else:
                self._release_automatic(unit)

    def start(self, ids: Sequence[str]) -> list[Change]:
        with self._lock:
            units = self._chosen(ids)
            for unit in units:
                if _state(unit) not in ("stopped", "pending", "running"):
                    raise _wrong_state(unit, "started")
            starting = [unit for unit in units if _state(unit) == "stopped"]
            if len(starting) > self.free:
                raise AwsError("InsufficientAddressCapacity", "Not enough available addresses to satisfy your request.")
            return [self._changed(unit, self._boot if unit in starting else _nothing) for unit in units]

    def stop(self, ids: Sequence[str], *, force: bool = False) -> list[Change]:
        def stop(unit: _Unit) -> None:
            if _state(unit) in ("pending", "running"):
                _set(unit, "stopping", _BY_USER, self._clock())
                self._turn_off(unit, force)

        with self._lock:
            units = self._chosen(ids)
            for unit in units:
                if _state(unit) in ("shutting-down", "terminated"):
                    raise _wrong_state(unit, "stopped")
                if unit.instance.disable_api_stop:
                    raise AwsError(
                        "OperationNotPermitted",
                        f"The instance '{unit.instance.id}' may not be stopped. Modify its 'disableApiStop' instance "
                        "attribute and try again.",
                    )
            return [self._changed(unit, stop) for unit in units]

    def reboot(self, ids: Sequence[str]) -> None:
        with self._lock:
            units = self._chosen(ids)
            for unit in units:
                if _state(unit) not in ("running", "pending"):
                    raise _wrong_state(unit, "rebooted")
            for unit in units:
                self._hypervisor.reboot(unit.instance.id)

    def terminate(self, ids: Sequence[str], *, force: bool = False) -> list[Change]:
        """Terminate all instances of the request, or none. As in EC2 a graceful shutdown comes first, unless `force`."""

        def terminate(unit: _Unit) -> None:
            if _state(unit) in ("shutting-down", "terminated"):
                return
            off, waiting = _state(unit) == "stopped", _state(unit) == "stopping"
            _set(unit, "shutting-down", _BY_USER, self._clock())
            if off:
                self._end(unit)
            elif not waiting or force:
                self._turn_off(unit, force)

        with self._lock:
            units = self._chosen(ids)
            for unit in units:
                if str(unit.instance.disable_api_termination).lower() == "true":
                    raise AwsError(
                        "OperationNotPermitted",
                        f"The instance '{unit.instance.id}' may not be terminated. Modify its 'disableApiTermination' "
                        "instance attribute and try again.",
                    )
            return [self._changed(unit, terminate) for unit in units]

    def at(self, address: str) -> Any | None:
        """Return the instance with the machine that has this address now."""
        with self._lock:
            found = self._at.get(address)
            return self._units[found].instance if found is not None else None

    def on_the_wire(self) -> list[tuple[Any, tuple[str, ...]]]:
        """Return each instance with a machine that has an address now, and its addresses."""
        with self._lock:
            return [
                (unit.instance, (unit.address, *unit.instance.nics[0].ipv6_addresses))
                for unit in self._units.values()
                if unit.address
            ]

    def state(self, instance_id: str) -> str | None:
        with self._lock:
            unit = self._units.get(instance_id)
            return _state(unit) if unit is not None else None

    def tidy(self) -> None:
        """Forget instances that have been terminated for long enough."""
        with self._lock:
            for known, unit in list(self._units.items()):
                if unit.ended is not None and self._clock() - unit.ended > self._visible:
                    del self._units[known]
                    self._forget(known)

    # The hypervisor's events (localcloud.machines.compute.Observer).

    def running(self, instance_id: str) -> None:
        with self._lock:
            unit = self._units.get(instance_id)
            if unit is not None and _state(unit) == "pending":
                unit.ran = True
                _set(unit, "running")

    def stopped(self, instance_id: str) -> None:
        with self._lock:
            unit = self._units.get(instance_id)
            if unit is None or _state(unit) in ("stopped", "terminated"):
                return
            if _state(unit) == "shutting-down":
                self._end(unit)
            elif _state(unit) == "stopping":
                self._off(unit)
            elif unit.instance.instance_initiated_shutdown_behavior == "terminate":
                _set(unit, "shutting-down", _BY_GUEST)
                self._end(unit)
            else:
                self._off(unit, _BY_GUEST)

    def failed(self, instance_id: str, reason: str) -> None:
        with self._lock:
            unit = self._units.get(instance_id)
            if unit is None or _state(unit) in ("stopped", "terminated"):
                return
            state_reason = (_BY_SERVER[0], f"{_BY_SERVER[1]}: {reason}")
            if unit.ran and _state(unit) != "shutting-down":
                self._off(unit, state_reason)
            else:
                _set(unit, "shutting-down", state_reason)
                self._end(unit)

    def _chosen(self, ids: Sequence[str]) -> list[_Unit]:
        if not ids:
            raise AwsError("MissingParameter", "The request must contain the parameter InstanceId")
        for each in ids:
            if not each.startswith("i-"):
                raise AwsError("InvalidInstanceID.Malformed", f'Invalid id: "{each}"')
        missing = [each for each in ids if each not in self._units]
        if missing:
            what = "IDs" if len(missing) > 1 else "ID"
            verb = "do" if len(missing) > 1 else "does"
            listed = ", ".join(missing)
            raise AwsError("InvalidInstanceID.NotFound", f"The instance {what} '{listed}' {verb} not exist")
        return [self._units[each] for each in dict.fromkeys(ids)]

    def _changed(self, unit: _Unit, act: Callable[[_Unit], None]) -> Change:
        before = _state(unit)
        act(unit)
        after = _state(unit)
        # A stopped machine is terminated at once. The answer is still that of EC2.
        return Change(unit.instance.id, before, after)

    def _boot(self, unit: _Unit) -> None:
        instance = unit.instance
        nic = instance.nics[0]
        unit.address = nic.private_ip_address if is_on_the_wire(nic.subnet.cidr_block) else self._pool.take()
        self._at[unit.address] = instance.id
        self.readdress(nic)
        # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html: the time of the last launch, so a start's too.
        instance.launch_time = datetime.fromtimestamp(self._clock(), UTC).replace(tzinfo=None, microsecond=0)
        _set(unit, "pending")
        self._hypervisor.boot(self._machine(unit), self._observer)

    def _machine(self, unit: _Unit) -> Machine:
        instance = unit.instance
        backend = instance.ec2_backend
        image = image_of(instance.image_id, backend.region_name)
        kind = next(each for each in backend.instance_types if each["InstanceType"] == instance.instance_type)
        pair = backend.key_pairs.get(instance.key_name)
        material = pair.material_public if pair is not None else b""
        key = material.decode() if isinstance(material, bytes) else str(material)
        return Machine(
            id=instance.id,
            cloud="aws",
            name=backend.tags.get(instance.id, {}).get("Name") or instance.id,
            address=unit.address,
            # It belongs to the interface, so it is the same at every boot.
            ipv6=next(iter(instance.nics[0].ipv6_addresses), ""),
            image=image.machine if image is not None else "debian-12",
            memory_mib=int(kind["MemoryInfo"]["SizeInMiB"]),
            ssh_keys=(key.strip(),) if key.strip() else (),
        )

    def _turn_off(self, unit: _Unit, force: bool) -> None:
        if force:
            self._hypervisor.cut_power(unit.instance.id)
        else:
            self._hypervisor.shut_down(unit.instance.id)

    def _off(self, unit: _Unit, why: tuple[str, str] | None = None) -> None:
        reason = why or (unit.instance.state_reason.code, unit.instance.state_reason.message.partition(": ")[2])
        note = unit.instance._reason
        _set(unit, "stopped", reason)
        unit.instance._reason = note if why is None else ""
        self._release(unit)

    def _end(self, unit: _Unit) -> None:
        reason, note = unit.instance.state_reason, unit.instance._reason
        self._hypervisor.remove(unit.instance.id)
        for elastic in unit.instance.ec2_backend.addresses:
            if elastic.instance is unit.instance:
                elastic.instance = None
        unit.instance.terminate()
        unit.instance.state_reason, unit.instance._reason = reason, note
        self._release(unit)
        for index, nic in list(unit.instance.nics.items()):
            self._part(unit.instance, index, nic)
        unit.ended = self._clock()

    def _part(self, instance: Any, index: int, nic: Any) -> None:
        """Remove an interface with its instance, unless it was made before. A terminated instance shows no public address.

        A security group is then no longer in use by it.
        """
        instance.nics[index] = shown = copy.copy(nic)
        shown.public_ip, shown.instance = None, instance
        # moto would return them again when it forgets the instance. Another machine may have them by then.
        instance._private_ips = set()
        if getattr(nic, STAYS, False):
            nic.instance, nic.attachment_id, nic.status = None, None, "available"
            return
        for elastic in instance.ec2_backend.addresses:
            if elastic.eni is nic:
                elastic.eni = elastic.association_id = None
        instance.ec2_backend.enis.pop(nic.id, None)
        nic.subnet.del_subnet_ip(nic.private_ip_address)

    def _release(self, unit: _Unit) -> None:
        self._release_automatic(unit)
        if unit.address:
            self._at.pop(unit.address, None)
            if not _is_private(unit):
                self._pool.give_back([unit.address])
            unit.address = ""
        nic = unit.instance.nics.get(0)
        if nic is not None:
            self.readdress(nic)

    def _release_automatic(self, unit: _Unit) -> None:
        if unit.automatic and unit.automatic != unit.address:
            self._pool.give_back([unit.automatic])
        unit.automatic = ""


def _is_private(unit: _Unit) -> bool:
    return bool(unit.address) and is_on_the_wire(unit.address)


def _nothing(_unit: _Unit) -> None:
    return


def _state(unit: _Unit) -> str:
    return str(unit.instance._state.name)


def _set(unit: _Unit, state: str, why: tuple[str, str] | None = None, requested_at: float | None = None) -> None:
    instance = unit.instance
    # A new object: moto may be rendering the one before.
    kind = type(instance._state)
    instance._state = kind(state, CODES[state])
    reason = type(instance.state_reason)
    instance.state_reason = reason(f"{why[0]}: {why[1]}", why[0]) if why else reason()
    stamp = (
        datetime.fromtimestamp(requested_at, UTC).strftime("%Y-%m-%d %H:%M:%S GMT") if requested_at is not None else ""
    )
    instance._reason = f"User initiated ({stamp})" if stamp else ""


def _wrong_state(unit: _Unit, wanted: str) -> AwsError:
    return AwsError(
        "IncorrectInstanceState",
        f"The instance '{unit.instance.id}' is not in a state from which it can be {wanted}.",
    )
