"""Joyent's Triton on this machine: CloudAPI as a WSGI app, and the machines that it controls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from localcloud.machines.compute import Hypervisor
from localcloud.network.packets import Gate
from localcloud.triton import catalogue, gates, guest, netdata
from localcloud.triton.app import App
from localcloud.triton.jobs import Jobs
from localcloud.triton.machinejobs import Reporter
from localcloud.triton.model import Machine
from localcloud.triton.netdata import Names
from localcloud.triton.schedule import Schedule, Scheduler
from localcloud.triton.store import Options, Store, User
from localcloud.triton.throttle import Buckets, Throttle

if TYPE_CHECKING:
    from localcloud.network.faults import Faults

__all__ = ["CloudApi", "Names", "Throttle"]
_USUAL = Throttle()
_JOYENTS = Names()


class CloudApi:
    """One account in one data centre, in memory; a `localcloud.machines.compute.Observer`. Thread-safe.

    `provisioning` and `job_delay` are how many seconds a machine's provisioning and each other job take, in addition to the hypervisor's
    time (npm's `triton` misses jobs that end before it reads its clock). With `throttle` None there is no rate limit. `quota` limits the
    number of machines. Public addresses come from `public_range`; `addresses` limits them to those between its first and last. With `pool`
    each public network is a pool of two. `networks` are the networks and their names. A package may be used on a fabric if its name begins
    with one of `fabric_packages`; without these, all may. `cns`: Triton CNS is on. Switches of `faults`: `readonly[=SECONDS]`,
    `failed-provisioning[=REASON]`, `failed-image[=REASON]`, `capacity`, `skew=SECONDS`.
    """

    def __init__(
        self,
        *,
        account: str,
        hypervisor: Hypervisor,
        clock: Callable[[], float] = time.time,
        faults: Faults | None = None,
        provisioning: float = 0.0,
        job_delay: float = 0.2,
        throttle: Throttle | None = _USUAL,
        quota: int | None = None,
        public_range: str = "203.0.113.0/24",
        pool: bool = False,
        networks: Names = _JOYENTS,
        fabric_packages: tuple[str, ...] = (),
        cns: bool = False,
        schedule: Schedule | None = None,
        datacenter: str = catalogue.DATACENTER,
        addresses: tuple[str, str] | None = None,
    ) -> None:
        self._faults = faults
        options = Options(
            provisioning=provisioning, job_delay=job_delay, quota=quota, cns=cns, fabric_packages=fabric_packages
        )
        self._store = Store(
            account,
            options,
            clock,
            self._switch,
            lambda owner: netdata.networks(networks, public_range, pool, owner, datacenter, addresses),
            datacenter,
        )
        self._store.jobs = Jobs(self._store.lock, schedule or Scheduler(), hypervisor, clock)
        self._reporter = Reporter(self._store)
        self._clock = clock
        self.app = App(self._store, Buckets(throttle, clock), self._server_clock)
        """The API as a WSGI app; its `throttled` answers as when the rate limit is exceeded."""

    @property
    def account_id(self) -> str:
        return self._store.id

    def add_key(self, name: str, openssh_public_key: str, user: str | None = None) -> str:
        """Add a key to the account, or to its sub-user `user`. Return its MD5 fingerprint. Raises ApiError for an invalid key."""
        with self._store.lock:
            ring = self._store.user(user).keys if user is not None else self._store.keys
            return ring.add(name, openssh_public_key).fingerprint

    def add_user(self, login: str, *, administrator: bool = False) -> str:
        """Add a sub-user and return its id. Only an administrator has any permission."""
        with self._store.lock:
            now = self._clock()
            user = User(login, f"{login}@rollcall.invalid", administrator, created=now, updated=now)
            self._store.users[user.id] = user
            return user.id

    @property
    def datacenter(self) -> str:
        """Its name."""
        return self._store.datacenter

    def has(self, machine_id: str) -> bool:
        with self._store.lock:
            return machine_id in self._store.machines

    def add_datacenter(self, name: str, url: str) -> None:
        """Add another data centre of the account to this one's list."""
        with self._store.lock:
            self._store.datacenters[name] = url

    def disable(self, disabled: bool = True) -> None:
        """Disable the account, as its operator may. Every request then gets 403."""
        with self._store.lock:
            self._store.disabled = disabled

    def share_image(self, name: str, version: str) -> str:
        """Add an image of another account that is shared with ours. Return its id."""
        image = catalogue.Image(
            name, version, "debian-12", owner=catalogue.NEIGHBOUR_ID, public=False, acl=[self._store.id]
        )
        with self._store.lock:
            self._store.images.append(image)
        return image.id

    def list_instances(self) -> list[dict[str, Any]]:
        """Every machine, deleted ones too: id, cloud, name, state, addresses, tags."""
        with self._store.lock:
            return [
                {
                    "id": machine.id,
                    "cloud": "joyent",
                    "region": self._store.datacenter,
                    "name": machine.name,
                    "state": machine.state,
                    "addresses": [nic.ip for nic in machine.nics],
                    "tags": dict(machine.tags),
                }
                for machine in self._store.machines.values()
            ]

    def gates(self) -> list[Gate]:
        """Return what the firewall does now to the packets of each machine that has it on."""
        with self._store.lock:
            return gates.gates(self._store.rules.values(), self._store.alive())

    # The guest's side. Raises KeyError for an unknown machine.

    def metadata_get(self, machine_id: str, key: str) -> str | None:
        with self._store.lock:
            return guest.get(self._store.machines[machine_id], key, self._store.datacenter)

    def metadata_put(self, machine_id: str, key: str, value: str) -> None:
        """Raises ValueError for a key that a guest may not set."""
        with self._store.lock:
            machine = self._touched(machine_id)
            guest.put(machine, key, value)

    def metadata_delete(self, machine_id: str, key: str) -> None:
        """Raises ValueError for a key that a guest may not delete."""
        with self._store.lock:
            guest.delete(self._touched(machine_id), key)

    def metadata_list(self, machine_id: str) -> list[str]:
        with self._store.lock:
            return guest.keys(self._store.machines[machine_id])

    def _touched(self, machine_id: str) -> Machine:
        machine = self._store.machines[machine_id]
        machine.updated = self._clock()
        return machine

    # What the hypervisor reports

    def running(self, machine_id: str) -> None:
        self._reporter.running(machine_id)

    def stopped(self, machine_id: str) -> None:
        self._reporter.stopped(machine_id)

    def failed(self, machine_id: str, reason: str) -> None:
        self._reporter.failed(machine_id, reason)

    def _switch(self, name: str) -> str | None:
        return self._faults.switch("cloudapi", name) if self._faults is not None else None

    def _server_clock(self) -> float:
        skew = self._switch("skew")
        return self._clock() + (float(skew) if skew else 0.0)
