"""One region of the account: EC2, SSM, quotas, and the metadata of machines. IAM, STS and Route53 are global."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from localcloud.aws import imds
from localcloud.aws.ec2 import store
from localcloud.aws.ec2.addresses import AddressPool
from localcloud.aws.ec2.api import Ec2Api
from localcloud.aws.ec2.power import Power
from localcloud.aws.identity import Sessions
from localcloud.aws.moto_backends import Moto
from localcloud.aws.quotas import QuotasApi
from localcloud.aws.ssm import SsmApi
from localcloud.machines.compute import Hypervisor, Observer

if TYPE_CHECKING:
    from localcloud.network.faults import Faults


class Region:
    """One region. All regions of an account share `lock`, because there is one moto, and `pool`, because each address is used once."""

    def __init__(
        self,
        name: str,
        *,
        account: str,
        lock: threading.RLock,
        pool: AddressPool,
        hypervisor: Hypervisor,
        observer: Observer,
        sessions: Sessions,
        clock: Callable[[], float],
        terminated_visible: float,
        vcpu_limit: int,
        faults: Faults | None = None,
    ) -> None:
        self.name = name
        self.moto = Moto(account, name, lock)
        self.store = backend = store.install(account, name)
        self.power = Power(
            hypervisor=hypervisor,
            observer=observer,
            pool=pool,
            lock=lock,
            forget=lambda instance: _forget(backend, instance),
            clock=clock,
            terminated_visible=terminated_visible,
        )
        self.quotas = QuotasApi(account, name, vcpu_limit)
        self.ec2 = Ec2Api(
            self.moto,
            backend,
            self.power,
            vcpu_limit=vcpu_limit,
            quota=self.quotas.value,
            faults=faults,
            clock=clock,
        )
        self.ssm = SsmApi(self.moto)
        self.imds = imds.Imds(store=backend, power=self.power, sessions=sessions, region=name, lock=lock, clock=clock)

    def has_vpc(self, vpc: str) -> bool:
        return vpc in self.store.vpcs

    def instances(self) -> list[Any]:
        """moto's, terminated ones too."""
        return list(self.moto.ec2.all_instances())


def _forget(backend: object, instance_id: str) -> None:
    """Take an instance out of moto's reservations."""
    reservations = backend.reservations  # type: ignore[attr-defined]
    for known, reservation in list(reservations.items()):
        reservation.instances = [each for each in reservation.instances if each.id != instance_id]
        if not reservation.instances:
            del reservations[known]
