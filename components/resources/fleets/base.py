"""Ec2Fleet and JoyentFleet: machines with the same job.

Around each machine stands the bracket that keeps state and DNS in step: a Deregistration made before it (and deleted after
it) gives its generation; what replaces a machine replaces its Deregistration first, so that a successor serves before its
predecessor leaves. The RollCalls, which close the bracket, are made by `call_rolls` once all fleets are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pulumi

from components.aws.account_settings import own_region
from components.compute.base import group_description
from components.compute.locations import Access
from components.config.models import FleetSettings
from components.joyent import Machine, MachineArgs, Ready, ReadyArgs
from components.registration.resources import Deregistration, RollCall, RollCallArgs
from components.resources import aws_sdk as aws
from components.resources import ec2_lookups, firewall, ssh_drain, userdata
from components.resources.tags import VERSION, deployment, marks, version
from rollcall.settings import FLEET, GENERATION, JOIN, MACHINE, PROBE, RELEASE, STACK, STORE, WORKLOADS


@dataclass(frozen=True, kw_only=True)
class Membership:
    """One thing that a fleet joins.

    `places` are where its entries stand, as inputs of RollCall; `words` what machine `index` is told; `port` what visitors
    or clients come to (`80/tcp`), and `only_from` the networks that may, if not everybody; `secrets` what clouds that keep
    secrets with the machine give it, by name.
    """

    places: Sequence[pulumi.Output[dict[str, Any]]]
    workload: str
    port: str
    words: Callable[[int], pulumi.Output[str]]
    secrets: Mapping[str, pulumi.Output[str]] = field(default_factory=dict)
    only_from: firewall.Ranges | None = None


@dataclass(frozen=True, kw_only=True)
class FleetArgs:
    """`probe_key` names the secret by which machines ask each other whether they live; `secrets` is what a cloud that keeps secrets with
    the machine gives it besides those of its memberships; `needs` is what must be there before a machine registers and after it has
    left; `profile` is that of the machines' instance role, on a cloud that has such; `store` is what they are told of the release store
    there; `network_ids` are those of its machines' networks,
    on Triton; `linger` in seconds; `by_hand` are machines of the state, by name, that must be replaced since Rollcall did not boot
    them, `by_ssh` those that the state drains over SSH, `renamed` those that were made under another stack id."""

    settings: FleetSettings
    memberships: Sequence[Membership]
    probe_key: pulumi.Input[str] = ""
    secrets: Mapping[str, pulumi.Output[str]] = field(default_factory=dict)
    needs: Sequence[pulumi.Resource] = field(default=())
    profile: pulumi.Input[str] = ""
    store: pulumi.Input[str] = ""
    network_ids: Sequence[str] = ()
    linger: int = 120
    brake: bool = True
    by_hand: frozenset[str] = frozenset()
    by_ssh: frozenset[str] = frozenset()
    renamed: frozenset[str] = frozenset()


class Fleet(pulumi.ComponentResource):
    """What the fleets of all clouds share; one of another cloud is a class with its `make` (components/resources/fleets/registry.py).

    `machines` are the machine resources, `members` what a RollCall is told of them, `addresses` maps each instance's id to its
    public address. Another `image` replaces the machines. `instance_role`: a role of AWS's gives the machines their rights; where
    there is none, they have `secrets` from their cloud."""

    instance_role: ClassVar[bool] = False
    access: Access
    machines: list[pulumi.Resource]
    members: list[dict[str, pulumi.Input[str]]]

    def __init__(self, name: str, args: FleetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"rollcall:index:{type(self).__name__}", name, None, opts)
        self.name = name
        self.args = args
        self.settings = args.settings
        self.stack = deployment()
        # Of all its machines, so looked up once.
        self.sources, self.version = userdata.sources_hash(), version(args.settings)
        self.image: pulumi.Input[str] = f"{self.settings.image} {self.settings.renew}".strip()
        self.machines = []
        # Their power and their farewells: what is in place, or has been done, before a roll call.
        self.attendants: list[pulumi.Resource] = []
        self.members = []
        self.places = [place for membership in args.memberships for place in membership.places]
        self.make()
        self.register_outputs({"members": self.members})

    def make(self) -> None:
        raise NotImplementedError

    def bracket(self, index: int, needs: Sequence[pulumi.Resource]) -> Deregistration:
        """The Deregistration of machine `index`. What replaces the machine is its trigger."""
        return Deregistration(
            f"{self.name}-{index}",
            stack=self.stack,
            fleet=self.name,
            machine=str(index),
            places=self.places,
            cloud=self.access.as_inputs(),
            networks=self.args.network_ids,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[*self.args.needs, *needs],
                replacement_trigger=[
                    self.sources,
                    self.image,
                    self.settings.size,
                    *self._login(),
                    *self._abroad(),
                    *self._families(),
                ],
            ),
        )

    def _abroad(self) -> list[str]:
        """A machine moves by a successor there. The stack's own region is not said, so that naming it replaces nothing."""
        return [self.settings.region] if self.settings.region else []

    def _login(self) -> list[str]:
        """EC2 gives a machine its key pair when it is made, and never again."""
        ssh = self.settings.ssh
        return [ssh.key_name] if ssh and ssh.key_name else []

    def _families(self) -> list[str]:
        """A machine that was made without IPv6 may stand in a subnet that has none."""
        return ["ipv6"] if self.settings.ipv6 else []

    def drained_by_ssh(self, index: int, machine: pulumi.CustomResource, address: pulumi.Output[str]) -> None:
        """Where SSH is configured, machine `index` is told to leave by it as well, after its RollCall and before it goes."""
        name = f"{self.name}-{index}"
        if self.settings.ssh or name in self.args.by_ssh:
            self.attendants.append(ssh_drain.over_ssh(name, self.settings.ssh, machine, address, parent=self))

    def doors(self) -> list[firewall.Door]:
        """What others may come to: what the fleet joins, and SSH where it is configured."""
        return firewall.doors(self.args.memberships, self.settings.ssh.sources if self.settings.ssh else ())

    def identity(self, index: int, deregistration: Deregistration) -> dict[str, pulumi.Input[str]]:
        """By what a machine is found: its stack, fleet, name and generation."""
        return {STACK: self.stack, FLEET: self.name, MACHINE: str(index), GENERATION: deregistration.generation}

    def told(self, index: int, deregistration: Deregistration) -> dict[str, pulumi.Input[str]]:
        """All that machine `index` is told: who it is and what it joins. The keys are known at preview."""
        workloads = dict.fromkeys(membership.workload for membership in self.args.memberships)
        keys = {
            **self.identity(index, deregistration),
            WORKLOADS: " ".join(workloads),
            PROBE: self.args.probe_key,
            RELEASE: userdata.release().digest,
        }
        for at, membership in enumerate(self.args.memberships):
            keys[f"{JOIN}{at}"] = membership.words(index)
        return keys

    def secrets(self) -> dict[str, pulumi.Output[str]]:
        """What a cloud that keeps secrets with the machine gives it, by name."""
        joined = {name: value for each in self.args.memberships for name, value in each.secrets.items()}
        return {**self.args.secrets, **joined}

    def enlist(
        self, index: int, deregistration: Deregistration, machine: pulumi.Resource, instance: pulumi.Output[str]
    ) -> None:
        self.machines.append(machine)
        self.members.append({"machine": str(index), "generation": deregistration.generation, "instance": instance})


class Ec2Fleet(Fleet):
    """EC2 instances over the default VPC's zones, IMDSv2 only, their root volume encrypted, no key pair unless SSH is
    configured. In another region than the stack's everything is made with the provider that `opts` gives."""

    instance_role = True

    def make(self) -> None:
        region = self.settings.region or own_region(pulumi.runtime.get_config)
        self.access = Access(cloud="aws", region=region)
        ipv6 = self.settings.ipv6
        subnets = ec2_lookups.subnets(self.settings.size, self, ipv6=ipv6)
        group = self._security_group()
        self.image = image = ec2_lookups.pinned_image(self.settings, self.stack, self)
        for index in range(self.settings.count):
            deregistration = self.bracket(index, [group])
            instance = aws.ec2.Instance(
                f"{self.name}-{index}",
                ami=image,
                instance_type=self.settings.size,
                subnet_id=subnets.apply(lambda ids, index=index: ids[index % len(ids)]),
                associate_public_ip_address=True,
                ipv6_address_count=1 if ipv6 else None,
                vpc_security_group_ids=[group.id],
                iam_instance_profile=self.args.profile,
                key_name=self.settings.ssh.key_name if self.settings.ssh else None,
                user_data_base64=userdata.gzipped_base64(),
                metadata_options={
                    "http_endpoint": "enabled",
                    "http_tokens": "required",
                    "http_put_response_hop_limit": 1,
                    "instance_metadata_tags": "enabled",
                },
                root_block_device={
                    "encrypted": True,
                    "volume_type": "gp3",
                    "tags": {"Name": f"{self.name}-{index}", **marks()},
                },
                tags={
                    "Name": f"{self.name}-{index}",
                    VERSION: self.version,
                    STORE: self.args.store,
                    **self.told(index, deregistration),
                },
                opts=pulumi.ResourceOptions(
                    parent=self,
                    depends_on=[deregistration],
                    replace_with=[deregistration],
                    # Its Deregistration is made, not replaced; no tag of ours is on it, so its tags always differ.
                    replace_on_changes=["tags"] if f"{self.name}-{index}" in self.args.by_hand else None,
                    # The trigger decides on a replacement: compressed bytes differ between zlib versions, and zones come and
                    # go. An instance that is stopped has no public address, which the provider reads as an input.
                    ignore_changes=["userDataBase64", "ami", "subnetId", "associatePublicIpAddress"],
                ),
            )
            self.enlist(index, deregistration, instance, instance.id)
            self._powered(index, instance)
            self.drained_by_ssh(index, instance, instance.public_ip)
        self.addresses = pulumi.Output.all(
            *(machine.id for machine in self.machines), *(machine.public_ip for machine in self.machines)
        ).apply(lambda both: dict(zip(both[: len(both) // 2], both[len(both) // 2 :], strict=True)))

    def _powered(self, index: int, instance: aws.ec2.Instance) -> None:
        """An instance that somebody stopped, or that lost its host, is a difference, and `up` starts it."""
        power = aws.ec2transitgateway.InstanceState(
            f"{self.name}-{index}-power",
            instance_id=instance.id,
            state="running",
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.attendants.append(power)

    def _security_group(self) -> aws.ec2.SecurityGroup:
        vpc = aws.ec2.get_vpc_output(default=True, opts=pulumi.InvokeOutputOptions(parent=self))
        return aws.ec2.SecurityGroup(
            f"{self.name}-group",
            description=group_description(self.stack, self.name),
            vpc_id=vpc.id,
            ingress=firewall.ingress(self.doors(), ipv6=self.settings.ipv6),
            egress=[
                {
                    "protocol": "-1",
                    "from_port": 0,
                    "to_port": 0,
                    "description": "updates and DNS APIs",
                    "cidr_blocks": [firewall.ANYONE],
                    **({"ipv6_cidr_blocks": [firewall.ANYONE_V6]} if self.settings.ipv6 else {}),
                }
            ],
            tags={"Name": f"rollcall-{self.stack}-{self.name}"},
            opts=pulumi.ResourceOptions(parent=self),
        )


class JoyentFleet(Fleet):
    """Triton machines by the dynamic provider over CloudAPI, with one waiter for the whole fleet; all in one data centre."""

    def make(self) -> None:
        datacenter = self.settings.region
        self.access = Access(cloud="joyent", region=datacenter or "")
        made: list[Machine] = []
        closed = firewall.is_closed(self.args.memberships)
        rules = firewall.firewall_rules(self.name, self.doors(), self, datacenter) if closed else []
        for index in range(self.settings.count):
            deregistration = self.bracket(index, rules)
            machine = Machine(
                f"{self.name}-{index}",
                MachineArgs(
                    machine_name=pulumi.Output.concat(f"{self.name}-{index}-", deregistration.generation),
                    package=self.settings.size,
                    image=self.settings.image,
                    networks=self.settings.networks or None,
                    tags={
                        **marks(),
                        VERSION: self.version,
                        **self.identity(index, deregistration),
                        **(firewall.tags(self.name) if closed else {}),
                    },
                    firewall_enabled=closed,
                    metadata=self.told(index, deregistration),
                    secret_metadata=self.secrets(),
                    userdata=userdata.build(),
                    datacenter=datacenter,
                    # What was adopted before the stack was renamed is replaced: its successor may not adopt it again.
                    adopt=None if f"{self.name}-{index}" in self.args.renamed else self.settings.adopt.get(index),
                ),
                opts=pulumi.ResourceOptions(parent=self, depends_on=[deregistration], replace_with=[deregistration]),
            )
            made.append(machine)
            self.enlist(index, deregistration, machine, machine.id)
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


def call_rolls(
    fleets: Sequence[Fleet], held: Iterable[str] = (), uncounted: Sequence[Mapping[str, str]] = ()
) -> list[RollCall]:
    """A RollCall for each fleet, after the machines of all fleets: no predecessor leaves before every successor answers. `held` are
    the names of the fleets that the state has, `uncounted` its machines that no roll call has counted: those of a fleet that is given
    up are seen off by one fleet in each place."""
    names = {each.name for each in fleets}
    given_up = sorted({*held} - names)
    everybody = [each for fleet in fleets for each in (*fleet.machines, *fleet.attendants)]
    return [
        RollCall(
            fleet.name,
            RollCallArgs(
                stack=fleet.stack,
                fleet=fleet.name,
                fleets=[each.name for each in fleets],
                members=fleet.members,
                places=fleet.places,
                cloud=fleet.access.as_inputs(),
                timeout=fleet.settings.timeout,
                linger=fleet.args.linger,
                peers=peers_of(fleet, fleets),
                elsewhere=[each.as_inputs() for each in elsewhere(fleet.access, (one.access for one in fleets))],
                brake=fleet.args.brake,
                ssh=fleet.settings.ssh is not None,
                given_up=given_up,
                uncounted=[
                    each
                    for each in uncounted
                    if each["fleet"] == fleet.name
                    or (each["fleet"] not in names and fleet.name == min(peers_of(fleet, fleets)))
                ],
            ),
            opts=pulumi.ResourceOptions(parent=fleet, depends_on=everybody),
        )
        for fleet in fleets
    ]


def peers_of(fleet: Fleet, fleets: Iterable[Fleet]) -> list[str]:
    """The names of the fleets in the same place, this one's among them."""
    return [each.name for each in fleets if each.access == fleet.access]


def elsewhere(home: Access, everywhere: Iterable[Access]) -> list[Access]:
    """The other places of the same cloud, each once, sorted."""
    return sorted({each for each in everywhere if each.cloud == home.cloud and each != home})
