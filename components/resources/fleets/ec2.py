"""A fleet of EC2 instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi

from components.availability.resources import AvailabilityZone, AvailabilityZoneArgs
from components.aws.region import own_region
from components.compute.ec2 import group_description
from components.compute.locations import Location
from components.config.availability_zones import is_outside
from components.config.machine_keys import BlockSettings
from components.config.models import PARTITION
from components.registration.resources import Deregistration
from components.resources import aws_sdk as aws
from components.resources import ec2_lookups, firewall, userdata
from components.resources.existing import InZone
from components.resources.fleets.base import Fleet
from components.resources.fleets.revision import EC2_IGNORED, VERSION, replacement_trigger
from components.resources.stable_addresses import StableInterface
from components.resources.tags import stack_tags
from rollcall.settings import STORE

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/limitations-placement-groups.html
MOST_PARTITIONS = 7


_OF_INTERFACE = ("subnetId", "associatePublicIpAddress", "ipv6AddressCount", "vpcSecurityGroupIds")


def _chosen(volume: BlockSettings) -> dict[str, Any]:
    """Return what a volume has besides its size, type and encryption."""
    return {**volume.performance, **({"kms_key_id": volume.kms_key} if volume.kms_key else {})}


class Ec2Fleet(Fleet):
    """EC2 instances in the subnets of a VPC, by default of the default VPC.

    They have IMDSv2 only, and no key pair unless SSH is configured. Volumes are encrypted, unless the configuration says otherwise.

    In a region other than the stack's, everything is created with the provider that `opts` gives.
    """

    instance_role = True

    def make(self) -> None:
        region = self.settings.region or own_region(pulumi.runtime.get_config)
        self.access = Location(cloud="aws", region=region)
        self._subnets = self._chosen_subnets()
        group = self._security_group()
        groups = [group.id, *self.args.security_groups]
        self.image = image = ec2_lookups.pinned_image(self.settings, self.stack, self)
        placement = self._placement_group()
        for index in range(self.settings.count):
            zone = self._zone(index, self._subnets) if self.settings.zones else None
            needs = [group, *([placement] if placement else []), *([zone] if zone else [])]
            deregistration = self.deregistration(index, needs, leaves=self._leaves(index))
            network, needed = self._network(index, groups, deregistration, zone)
            instance = aws.ec2.Instance(
                f"{self.name}-{index}",
                ami=image,
                instance_type=self.settings.size,
                **network,
                placement_group=placement.name if placement else None,
                iam_instance_profile=self.args.profile,
                key_name=self.settings.ssh.key_name if self.settings.ssh else None,
                user_data_base64=userdata.gzipped_base64(),
                metadata_options={
                    "http_endpoint": "enabled",
                    "http_tokens": "required",
                    "http_put_response_hop_limit": 1,
                    "instance_metadata_tags": "enabled",
                },
                root_block_device=self._root_volume(index),
                ebs_block_devices=self._volumes(index) or None,
                monitoring=self.settings.monitoring,
                tags={
                    **self.settings.tags,
                    "Name": f"{self.name}-{index}",
                    VERSION: self.version,
                    STORE: self.args.store,
                    **self.machine_settings(index, deregistration),
                },
                opts=pulumi.ResourceOptions(
                    parent=self,
                    depends_on=[deregistration, *needed],
                    replace_with=[deregistration],
                    # Its Deregistration is created, not replaced. An adopted instance has no tag of ours, so its tags always differ.
                    # In place the size changes by a stop. A plain `up` never does that, and one with --target must not either.
                    replace_on_changes=[
                        "instanceType",
                        *(["tags"] if f"{self.name}-{index}" in self.args.by_hand else []),
                    ],
                    # The Deregistration's trigger decides on a replacement.
                    # With its own interface, an ignored key would bring back its value of before, and the two exclude each other.
                    ignore_changes=[
                        each for each in EC2_IGNORED if each not in _OF_INTERFACE or not self.settings.stable_addresses
                    ],
                ),
            )
            self.add_member(index, deregistration, instance, instance.id)
            self._powered(index, instance)
            self.drained_by_ssh(index, instance, instance.public_ip)
        self.addresses = pulumi.Output.all(
            *(machine.id for machine in self.machines), *(machine.public_ip for machine in self.machines)
        ).apply(lambda both: dict(zip(both[: len(both) // 2], both[len(both) // 2 :], strict=True)))

    def _zone(self, index: int, subnets: pulumi.Input[Sequence[str]]) -> AvailabilityZone:
        """Create the choice of the availability zone of machine `index`. A machine that is replaced may get another zone."""
        name = f"{self.name}-{index}"
        there, leaves = self.args.in_zones.get(name, InZone()), self._leaves(index)
        again = f"the machine leaves {leaves}" if leaves else ""
        if there.chosen and not there.subnet:
            # The `up` with the choice failed before it created the machine. The zone may be out of capacity by now.
            again = "the machine does not exist"
        return AvailabilityZone(
            name,
            AvailabilityZoneArgs(
                stack=self.stack,
                fleet=self.name,
                machine=str(index),
                size=self.settings.size,
                cloud=self.access.as_inputs(),
                zones=self.settings.zones,
                subnets=subnets,
                stays="" if there.chosen or leaves else there.subnet,
                again=again if there.chosen else "",
            ),
            pulumi.ResourceOptions(
                parent=self, replacement_trigger=[self.stack, *replacement_trigger(self.settings, self.image)]
            ),
        )

    def _leaves(self, index: int) -> str:
        """Return the availability zone of machine `index` if the fleet may no longer be there."""
        there = self.args.in_zones.get(f"{self.name}-{index}", InZone())
        return there.zone if is_outside(self.settings.zones, there.zone, there.zone_id) else ""

    def _placement_group(self) -> aws.ec2.PlacementGroup | None:
        """Create the fleet's placement group. Machines that are replaced together get another one.

        So the limit of 7 machines in a zone does not count the machines that leave.
        """
        strategy = self.settings.placement
        if strategy is None:
            return None
        return aws.ec2.PlacementGroup(
            f"{self.name}-placement",
            strategy=strategy,
            partition_count=MOST_PARTITIONS if strategy == PARTITION else None,
            tags={"Name": f"rollcall-{self.stack}-{self.name}"},
            opts=pulumi.ResourceOptions(
                parent=self, replacement_trigger=[self.stack, *replacement_trigger(self.settings, self.image)]
            ),
        )

    def _chosen_subnets(self) -> pulumi.Output[Any]:
        """Return the ids of the fleet's subnets."""
        if self.args.subnets is None:
            return ec2_lookups.subnets(self.settings.size, self, ipv6=self.settings.ipv6)
        return pulumi.Output.from_input(self.args.subnets)

    def _network(
        self,
        index: int,
        groups: Sequence[pulumi.Input[str]],
        deregistration: Deregistration,
        zone: AvailabilityZone | None,
    ) -> tuple[dict[str, Any], list[pulumi.Resource]]:
        """Return the inputs of instance `index` for its network, and what must exist before it for them."""
        subnet = zone.subnet if zone else self._subnets.apply(lambda ids: ids[index % len(ids)])
        ipv6 = self.settings.ipv6
        if self.settings.stable_addresses:
            stable = StableInterface(
                self.name,
                index,
                region=self.access.region,
                subnet=subnet,
                groups=groups,
                ipv6=ipv6,
                deregistration=deregistration,
                parent=self,
            )
            return {"primary_network_interface": {"network_interface_id": stable.interface.id}}, [stable.association]
        return {
            "subnet_id": subnet,
            "associate_public_ip_address": self.args.public_address,
            "ipv6_address_count": 1 if ipv6 else None,
            "vpc_security_group_ids": [*groups],
        }, []

    def _root_volume(self, index: int) -> dict[str, Any]:
        disk = self.settings.disk
        chosen = {} if disk.is_default else {"volume_size": disk.size, **_chosen(disk)}
        return {"encrypted": disk.encrypted, "volume_type": disk.type, "tags": self._volume_tags(index), **chosen}

    def _volumes(self, index: int) -> list[dict[str, Any]]:
        """Return the further volumes of a machine. The provider changes nothing of them in place."""
        return [
            {
                "device_name": f"/dev/{device}",
                "delete_on_termination": True,
                "encrypted": each.encrypted,
                "volume_type": each.type,
                "volume_size": each.size,
                "tags": self._volume_tags(index),
                **_chosen(each),
            }
            for device, each in self.settings.volume_devices
        ]

    def _volume_tags(self, index: int) -> dict[str, str]:
        return {**self.settings.tags, "Name": f"{self.name}-{index}", **stack_tags()}

    def _powered(self, index: int, instance: aws.ec2.Instance) -> None:
        """Start an instance that was stopped or that lost its host.

        A preview shows it as a difference, and `up` starts it.
        """
        power = aws.ec2transitgateway.InstanceState(
            f"{self.name}-{index}-power",
            instance_id=instance.id,
            state="running",
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.pre_roll_call_resources.append(power)

    def _security_group(self) -> aws.ec2.SecurityGroup:
        vpc = self.args.vpc
        if vpc is None:
            vpc = aws.ec2.get_vpc_output(default=True, opts=pulumi.InvokeOutputOptions(parent=self)).id
        return aws.ec2.SecurityGroup(
            f"{self.name}-group",
            description=group_description(self.stack, self.name),
            vpc_id=vpc,
            ingress=firewall.security_group_rules(self.ingress_rules(), ipv6=self.settings.ipv6),
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
