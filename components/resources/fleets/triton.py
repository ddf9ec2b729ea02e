"""A fleet of Triton machines."""

from __future__ import annotations

import pulumi

from components.compute.locations import Location
from components.joyent import Machine, MachineArgs, Ready, ReadyArgs
from components.resources import firewall, userdata
from components.resources.fleets.base import Fleet
from components.resources.fleets.revision import VERSION
from components.resources.tags import stack_tags
from components.workloads.release import Release
from rollcall.settings import STORE


class JoyentFleet(Fleet):
    """Triton machines, created by the dynamic provider over CloudAPI, with one waiter for the whole fleet.

    All are in one data centre.
    """

    def agent_release(self) -> Release:
        return userdata.carried_release(**self._modules)

    @property
    def _modules(self) -> dict[str, bool]:
        """Which modules of the agent the machines carry besides those that every machine needs."""
        return {
            "in_place": self.settings.in_place,
            "certificates": self.settings.secured,
            "system": bool(self.settings.system_settings),
            "dynamic": self.settings.dynamic,
        }

    def make(self) -> None:
        datacenter = self.settings.region
        self.access = Location(cloud="joyent", region=datacenter or "")
        made: list[Machine] = []
        closed = firewall.is_closed(each.ingress for each in self.args.memberships)
        rules = firewall.firewall_rules(self.name, self.ingress_rules(), self, datacenter) if closed else []
        for index in range(self.settings.count):
            deregistration = self.deregistration(index, rules)
            machine = Machine(
                f"{self.name}-{index}",
                MachineArgs(
                    machine_name=pulumi.Output.concat(f"{self.name}-{index}-", deregistration.generation),
                    package=self.settings.size,
                    image=self.settings.image,
                    networks=self.settings.networks or None,
                    tags={
                        **self.settings.tags,
                        **stack_tags(),
                        VERSION: self.version,
                        **self.identity(index, deregistration),
                        **(firewall.tags(self.name) if closed else {}),
                    },
                    firewall_enabled=closed,
                    brand=self.settings.brand,
                    affinity=self.settings.affinity or None,
                    disks=self.settings.disk_sizes or None,
                    deletion_protection=self.settings.deletion_protection,
                    delete_protected=self.settings.deletion_protection or None,
                    metadata={
                        **({STORE: self.args.store} if self.args.store else {}),
                        **self.machine_settings(index, deregistration),
                    },
                    secret_metadata=self.secrets(),
                    userdata=userdata.build(tuple(self.args.workloads), **self._modules),
                    datacenter=datacenter,
                    # A machine that was adopted before the stack was renamed is replaced: the new machine cannot adopt it again.
                    adopt=None if f"{self.name}-{index}" in self.args.renamed else self.settings.adopt.get(index),
                ),
                opts=pulumi.ResourceOptions(
                    parent=self,
                    depends_on=[deregistration],
                    replace_with=[deregistration],
                    # In place the size changes by a reboot. A plain `up` never does that, and one with --target must not either.
                    replace_on_changes=["package"],
                ),
            )
            made.append(machine)
            self.add_member(index, deregistration, machine, machine.id)
        ready = Ready(
            f"{self.name}-ready",
            ReadyArgs(machines=[machine.id for machine in made], timeout=self.settings.timeout, datacenter=datacenter),
            opts=pulumi.ResourceOptions(parent=self, depends_on=made),
        )
        self.machines.append(ready)
        self.addresses = ready.addresses
        for index, machine in enumerate(made):
            address = pulumi.Output.all(ready.addresses, machine.id).apply(lambda both: str(both[0].get(both[1], "")))
            self.drained_by_ssh(index, machine, address)
