"""Create fleets: machines with the same job. `Fleet` is what Ec2Fleet and JoyentFleet share.

Each machine has a Deregistration and each fleet a RollCall; together they keep state and DNS in step. The
Deregistration is created before the machine, gives the machine its generation, and is deleted after it. A change that
replaces a machine replaces its Deregistration first, so that the new machine serves before the old one leaves.
`call_rolls` creates the RollCalls once all fleets exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pulumi

from components.compute.locations import Location
from components.config.models import FleetSettings
from components.registration.resources import Deregistration
from components.resources import firewall, ssh_drain, userdata
from components.resources.existing import InZone
from components.resources.fleets.revision import image_words, replacement_trigger, version
from components.resources.membership import Membership
from components.resources.tags import deployment
from components.resources.workload_secrets import WorkloadSecrets
from components.workloads.release import Release
from rollcall.in_place import REPORT_TO, VIEW_TO
from rollcall.machine import CREDENTIALS
from rollcall.settings import (
    FLEET,
    GENERATION,
    JOIN,
    MACHINE,
    MIRROR,
    PROBE,
    RELEASE,
    SECRETS,
    STACK,
    WORKLOAD,
    WORKLOADS,
)


@dataclass(frozen=True, kw_only=True)
class FleetArgs:
    """The inputs of a fleet.

    - `probe_key` names the secret with which machines ask each other whether they run.
    - `secrets` is what a cloud that keeps secrets with the machine gives it besides the secrets of its memberships.
    - `needs` is what must exist before a machine registers and until it has left.
    - `profile` is the profile of the machines' instance role, on a cloud that has instance roles.
    - `credentials` is the ARN of the role for workloads with `awsCredentials`; empty if there is none.
    - `store` is what the machines' settings contain about the release store of their region.
    - `mirrors` are the machine settings for mirrors, by the mirrors' names.
    - `workloads` are the releases that machines of a cloud without a store get with their boot script.
    - `delivered` are the releases that a roll-out writes into the metadata of machines of such a cloud.
    - `report_to` is where EC2 machines that change in place write their reports; empty on other clouds.
    - `workload_secrets` are the settings for the secrets of workloads.
    - `network_ids` are the ids of the machines' networks, on Triton.
    - `vpc` and `subnets` are the ids of the VPC and of the subnets on EC2, which the machines use in turn. Without them the machines are in
      the default VPC. `security_groups` are ids of groups that EC2 machines have besides the fleet's own.
    - `public_address`: EC2 machines have public IPv4 addresses.
    - `drain_delay` is in seconds.
    - `by_hand` are machines of the state, by name, that must be replaced because Rollcall did not boot them.
    - `by_ssh` are machines that the state drains over SSH.
    - `renamed` are machines that were created under another stack id.
    - `uncounted` are machines of the state that no roll call has counted.
    - `in_zones` is where the state has the machines of a fleet with zones, by name.
    """

    settings: FleetSettings
    memberships: Sequence[Membership]
    probe_key: pulumi.Input[str] = ""
    secrets: Mapping[str, pulumi.Output[str]] = field(default_factory=dict)
    needs: Sequence[pulumi.Resource] = field(default=())
    profile: pulumi.Input[str] = ""
    credentials: pulumi.Input[str] = ""
    store: pulumi.Input[str] = ""
    mirrors: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    workloads: Sequence[Release] = ()
    delivered: Sequence[Release] = ()
    report_to: pulumi.Input[str] = ""
    view_to: pulumi.Input[str] = ""
    workload_secrets: Sequence[WorkloadSecrets] = ()
    network_ids: Sequence[str] = ()
    vpc: pulumi.Input[str] | None = None
    subnets: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    security_groups: Sequence[pulumi.Input[str]] = ()
    public_address: bool = True
    drain_delay: int = 120
    safe_deletes: bool = True
    by_hand: frozenset[str] = frozenset()
    by_ssh: frozenset[str] = frozenset()
    renamed: frozenset[str] = frozenset()
    uncounted: Sequence[Mapping[str, str]] = ()
    in_zones: Mapping[str, InZone] = field(default_factory=dict)


class Fleet(pulumi.ComponentResource):
    """What the fleets of all clouds share. Each cloud has a subclass with its `make` (components/resources/fleets/registry.py).

    `machines` are the machine resources. `members` are the members that the RollCall gets. `addresses` maps each
    instance's id to its public address. Another `image` replaces the machines. `instance_role`: an AWS role gives the
    machines their rights. Where there is none, they get `secrets` from their cloud.
    """

    instance_role: ClassVar[bool] = False
    access: Location
    machines: list[pulumi.Resource]
    members: list[dict[str, pulumi.Input[str]]]

    def __init__(self, name: str, args: FleetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"rollcall:index:{type(self).__name__}", name, None, opts)
        self.name = name
        self.args = args
        self.settings = args.settings
        self.stack = deployment()
        self.version = version(args.settings)
        self.image: pulumi.Input[str] = image_words(args.settings)
        self.machines = []
        # Resources that start machines, and the commands that drain them by SSH. They are created before the roll call.
        self.pre_roll_call_resources: list[pulumi.Resource] = []
        self.members = []
        self.places = [place for membership in args.memberships for place in membership.places]
        self.make()
        self.register_outputs({"members": self.members})

    def make(self) -> None:
        raise NotImplementedError

    def agent_release(self) -> Release:
        """Return the agent's release, as machines of this cloud get it."""
        return userdata.release()

    def deregistration(self, index: int, needs: Sequence[pulumi.Resource], *, leaves: str = "") -> Deregistration:
        """Create the Deregistration of machine `index`. What replaces the machine is its trigger.

        `leaves` is the availability zone that the machine must leave.
        """
        return Deregistration(
            f"{self.name}-{index}",
            stack=self.stack,
            fleet=self.name,
            machine=str(index),
            places=self.places,
            cloud=self.access.as_inputs(),
            networks=self.args.network_ids,
            uncounted=[
                each for each in self.args.uncounted if (each["fleet"], each["machine"]) == (self.name, str(index))
            ],
            leaves=leaves,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[*self.args.needs, *needs],
                replacement_trigger=[
                    *replacement_trigger(self.settings, self.image),
                    *(each for each in (self.args.vpc, self.args.subnets) if each is not None),
                ],
            ),
        )

    def drained_by_ssh(self, index: int, machine: pulumi.CustomResource, address: pulumi.Output[str]) -> None:
        """Where SSH is configured, also ask machine `index` by SSH to leave, after its RollCall and before it is deleted."""
        name = f"{self.name}-{index}"
        if self.settings.ssh or name in self.args.by_ssh:
            self.pre_roll_call_resources.append(
                ssh_drain.over_ssh(name, self.settings.ssh, machine, address, parent=self)
            )

    def ingress_rules(self) -> list[firewall.IngressRule]:
        """Return the ports that others may reach: those of what the fleet joins, and SSH where it is configured."""
        served = [rule for each in self.args.memberships for rule in (each.ingress, *each.more)]
        return firewall.ingress_rules(served, self.settings.ssh.sources if self.settings.ssh else ())

    def identity(self, index: int, deregistration: Deregistration) -> dict[str, pulumi.Input[str]]:
        """Return the tags by which a machine is found: its stack, fleet, name and generation."""
        return {STACK: self.stack, FLEET: self.name, MACHINE: str(index), GENERATION: deregistration.generation}

    def machine_settings(self, index: int, deregistration: Deregistration) -> dict[str, pulumi.Input[str]]:
        """Return all settings of machine `index`: its identity and what it joins. The keys are known at preview.

        Machines that change in place get the digests of their workloads by a live setting, which is no input of theirs.
        """
        samples = dict.fromkeys(membership.workload for membership in self.args.memberships)
        keys = {
            **self.identity(index, deregistration),
            WORKLOADS: " ".join(self.settings.runs or samples),
            PROBE: self.args.probe_key,
            RELEASE: self.agent_release().digest,
        }
        keys.update({f"{MIRROR}{name}": words for name, words in self.args.mirrors.items()})
        if not self.settings.in_place:
            keys.update({f"{WORKLOAD}{name}": digest for name, digest in self.settings.digests.items()})
        elif self.args.report_to:
            keys[REPORT_TO] = self.args.report_to
        if self.args.view_to:
            keys[VIEW_TO] = self.args.view_to
        keys.update(self.settings.system_settings)
        if self.args.credentials:
            keys[CREDENTIALS] = self.args.credentials
        keys.update({f"{SECRETS}{each.workload}": each.words(index) for each in self.args.workload_secrets})
        for at, membership in enumerate(self.args.memberships):
            keys[f"{JOIN}{at}"] = membership.words(index)
        return keys

    def secrets(self) -> dict[str, pulumi.Output[str]]:
        """Return the secrets that a cloud that keeps secrets with the machine gives it, by name."""
        joined = {name: value for each in self.args.memberships for name, value in each.secrets.items()}
        return {**self.args.secrets, **joined}

    def add_member(
        self, index: int, deregistration: Deregistration, machine: pulumi.Resource, instance: pulumi.Output[str]
    ) -> None:
        self.machines.append(machine)
        self.members.append({"machine": str(index), "generation": deregistration.generation, "instance": instance})
