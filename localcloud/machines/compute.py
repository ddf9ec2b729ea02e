"""The interfaces between a compute API and the hypervisor.

The two compute APIs (EC2 in `localcloud.aws`, CloudAPI in `localcloud.triton`) decide *what* should happen to a machine;
a `Hypervisor` makes it happen and reports back through the machine's `Observer`. `localcloud.machines.hypervisor` boots containers;
`InstantHypervisor` here boots nothing and serves the scale tests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from localcloud.network.namespace import Cloud

Power = Literal["booting", "running", "stopping", "stopped", "failed", "removed"]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine as its cloud's API made it.

    `id` is `i-…` (17 hex digits) on AWS and a lower-case UUID on Joyent; `address` is the IPv4 address of its interface:
    in 198.51.100.0/24 on AWS, or in 192.0.2.0/24 where its VPC is there, and in 203.0.113.0/24 on Joyent; `ipv6` one of
    2001:db8:1::/48, if it has any; `image` is an image name of the local catalogue.
    `fabric_address` is its address on the fabric of a Joyent account, if it has any. A machine on a fabric only has no other
    `address`.
    """

    id: str
    cloud: Cloud
    name: str
    address: str
    ipv6: str = ""
    fabric_address: str = ""
    image: str = "debian-12"
    memory_mib: int = 512
    ssh_keys: tuple[str, ...] = field(default=())


class Observer(Protocol):
    """The events that a compute API gets about its machines. The hypervisor's threads call it, never reentrantly."""

    def running(self, machine_id: str) -> None:
        """The machine's init has taken over (not: its userdata has run)."""

    def stopped(self, machine_id: str) -> None:
        """The machine is off: by its API, by itself (`poweroff`), or by a power cut."""

    def failed(self, machine_id: str, reason: str) -> None:
        """The machine could not be started."""


class Hypervisor(Protocol):
    """An interface that runs machines. Every method returns at once; the `Observer` gets the result. Unknown ids are ignored."""

    def boot(self, machine: Machine, observer: Observer) -> None:
        """Make the machine's disk if there is none, and start it (also: start again after a stop)."""

    def shut_down(self, machine_id: str) -> None:
        """Ask init to power off, as ACPI does; services stop in order. After 90 s the power is cut."""

    def reboot(self, machine_id: str) -> None:
        """Shut down and start again; the observer hears `stopped` only if it does not come back."""

    def cut_power(self, machine_id: str) -> None:
        """Kill the machine at once, without notice to the guest. The disk stays."""

    def remove(self, machine_id: str) -> None:
        """Cut the power if it runs and remove its disk."""

    def printed(self, machine_id: str) -> str:
        """Return the machine's console output, as far as it is kept."""
        return ""


class InstantHypervisor:
    """A hypervisor that boots nothing: every machine is running (or stopped) `delay` seconds after the request."""

    def __init__(self, delay: float = 0.0, schedule: Callable[[float, Callable[[], None]], None] | None = None) -> None:
        self._delay = delay
        self._schedule = schedule or _on_a_timer
        self._observers: dict[str, Observer] = {}

    def boot(self, machine: Machine, observer: Observer) -> None:
        self._observers[machine.id] = observer
        self._schedule(self._delay, lambda: self._tell("running", machine.id))

    def shut_down(self, machine_id: str) -> None:
        self._schedule(self._delay, lambda: self._tell("stopped", machine_id))

    def reboot(self, machine_id: str) -> None:
        self._schedule(self._delay, lambda: self._tell("running", machine_id))

    def cut_power(self, machine_id: str) -> None:
        self._schedule(0.0, lambda: self._tell("stopped", machine_id))

    def remove(self, machine_id: str) -> None:
        self._observers.pop(machine_id, None)

    def printed(self, machine_id: str) -> str:
        return ""

    def _tell(self, what: Literal["running", "stopped"], machine_id: str) -> None:
        observer = self._observers.get(machine_id)
        if observer is not None:
            getattr(observer, what)(machine_id)


def _on_a_timer(delay: float, action: Callable[[], None]) -> None:
    timer = threading.Timer(delay, action)
    timer.daemon = True
    timer.start()
