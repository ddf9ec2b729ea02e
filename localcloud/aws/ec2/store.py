"""moto's EC2 backend with our catalogue, whole metadata options, and an instance profile on every instance of a launch."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import datetime
from ipaddress import IPv4Address, IPv6Network
from itertools import cycle
from typing import Any

from localcloud.aws.catalogue import images
from localcloud.aws.ec2 import ipv6, routes, volumes


def install(account: str, region: str) -> Any:
    """Make the account's EC2 backend. To be called before anything asks moto for it."""
    models = importlib.import_module("moto.ec2.models")
    _fix_association()
    _fix_images()
    own = {"_region": region, "_blocks": ipv6.vpc_blocks(region)}
    store = type("Store", (Corrections, models.EC2Backend), own)(region, account)
    models.ec2_backends[account][region] = store
    routes.give_default_gateway(store)
    return store


# moto is imported late, so what its backend has is not known here.
_Backend: Any = object


class Corrections(_Backend):
    """What differs from moto's EC2 backend, of which the store of an account and a region is a subclass, too."""

    _region: str
    _blocks: Iterator[str]
    _performances: Iterator[dict[str, Any]] | None = None

    def _load_amis(self) -> None:
        amis = importlib.import_module("moto.ec2.models.amis")
        for image in images(self._region):
            self.amis[image.ami] = amis.Ami(
                self,
                image.ami,
                name=image.name,
                description=image.description,
                owner_id=image.owner,
                owner_alias="amazon",
                public=True,
                virtualization_type="hvm",
                architecture=image.architecture,
                creation_date=datetime.fromisoformat(image.built.replace("Z", "+00:00")),
                hypervisor="xen",
                image_location=f"{image.owner}/{image.name}",
                root_device_type="ebs",
                root_device_name=image.root_device,
                region_name=self._region,
                boot_mode="uefi-preferred",
            )

    def _verify_group_will_respect_rule_count_limit(self, *_: Any, **__: Any) -> None:
        """Do nothing: moto counts the rules of both families together (localcloud/aws/ec2/groups.py)."""

    def associate_vpc_cidr_block(self, vpc_id: str, cidr_block: str, amazon_provided: bool) -> Any:
        """Give the VPC a CIDR of our range. moto invents one that belongs to a real network."""
        if not amazon_provided:
            return super().associate_vpc_cidr_block(vpc_id, cidr_block, amazon_provided)
        made = self.get_vpc(vpc_id).associate_vpc_cidr_block(None, True)
        made["cidr_block"] = next(self._blocks)
        for table in list(self.route_tables.values()):
            if table.vpc_id == vpc_id:
                self.create_route(table.id, None, destination_ipv6_cidr_block=made["cidr_block"], local=True)
        return made

    def associate_subnet_cidr_block(self, subnet_id: str, ipv6_cidr_block: str) -> Any:
        made = super().associate_subnet_cidr_block(subnet_id, ipv6_cidr_block)
        made["ipv6CidrBlockState"] = ipv6.Shown(made["ipv6CidrBlockState"])
        return made

    def create_subnet(self, *args: Any, **options: Any) -> Any:
        """Make a subnet that is not a default one, as CreateSubnet does. moto's first one of each zone is, in any VPC.

        https://docs.aws.amazon.com/vpc/latest/userguide/default-subnet.html
        """
        made = super().create_subnet(*args, **options)
        made.default_for_az = made.map_public_ip_on_launch = False
        return made

    def create_default_subnet(self, availability_zone: str) -> Any:
        made = super().create_default_subnet(availability_zone)
        made.default_for_az = made.map_public_ip_on_launch = True
        return made

    def have_ipv6(self) -> None:
        """Give the default VPC and its subnets IPv6 CIDRs, as if the owner had asked for IPv6 in each zone."""
        vpc = next(each for each in self.vpcs.values() if each.is_default)
        block = IPv6Network(self.associate_vpc_cidr_block(vpc.id, "", True)["cidr_block"])
        subnets = [each for zone in self.subnets.values() for each in zone.values() if each.default_for_az]
        for each, part in zip(
            sorted(subnets, key=lambda one: str(one.availability_zone)), block.subnets(8), strict=False
        ):
            self.associate_subnet_cidr_block(each.id, str(part))

    def create_network_interface(self, subnet: Any, private_ip_address: Any, *args: Any, **options: Any) -> Any:
        """Give an interface an address of its subnet that nothing else has. moto draws one."""
        where = self.get_subnet(subnet) if isinstance(subnet, str) else subnet
        given = (
            private_ip_address[0] if isinstance(private_ip_address, list) and private_ip_address else private_ip_address
        )
        if not given or IPv4Address(given) not in where.cidr:
            given = where.get_available_subnet_ip(None)
        return super().create_network_interface(where, given, *args, **options)

    def run_instances(self, *args: Any, **options: Any) -> Any:
        # moto gives the volumes of a launch no IOPS and no throughput. It makes them one after the other, for each instance.
        self._performances = cycle(options.get("block_device_mappings") or ({},))
        try:
            made = super().run_instances(*args, **options)
        finally:
            self._performances = None
        # moto's response associates the profile with the first instance only.
        for instance in made.instances[1:]:
            name = options.get("iam_instance_profile_name")
            arn = options.get("iam_instance_profile_arn")
            if name or arn:
                self.associate_iam_instance_profile(
                    instance_id=instance.id, iam_instance_profile_name=name, iam_instance_profile_arn=arn
                )
        return made

    def create_volume(self, *args: Any, **options: Any) -> Any:
        if self._performances is not None:
            options.update(volumes.shaped(next(self._performances).get("Ebs") or {}))
        return super().create_volume(*args, **options)

    def replace_iam_instance_profile_association(self, *args: Any, **options: Any) -> Any:
        """Replace the association and the instance's profile. moto still shows the instance with its former profile."""
        made = super().replace_iam_instance_profile_association(*args, **options)
        shown = {"Arn": made.iam_instance_profile.arn, "Id": made.association_id}
        self.modify_instance_attribute(made.instance_id, "iam_instance_profile", shown)
        return made

    def describe_tags(self, filters: dict[str, list[str]] | None = None) -> list[dict[str, str]]:
        """Filter tags as EC2 does. moto compares resource types without wildcards, and ignores `tag:KEY`."""
        known = importlib.import_module("moto.ec2.utils").EC2_PREFIX_TO_RESOURCE
        left = dict(filters or {})
        by_key = {name[4:]: left.pop(name) for name in list(left) if name.startswith("tag:")}
        if "resource-type" in left:
            kinds = [kind for kind in sorted(set(known.values())) if kind in left["resource-type"]]
            # moto takes an empty list as no filter.
            left["resource-type"] = kinds or ["none"]
        tags = super().describe_tags(left or None)
        return [each for each in tags if all(each["key"] == key and each["value"] in by_key[key] for key in by_key)]

    def modify_instance_metadata_options(self, instance_id: str, **changes: Any) -> Any:
        """Change only the given options. moto resets the others."""
        instances = importlib.import_module("moto.ec2.models.instances")
        instance = self.get_instance(instance_id)
        before = instance.metadata_options
        given = {
            "HttpTokens": changes.get("http_tokens") or before.http_tokens,
            "HttpPutResponseHopLimit": changes.get("hop_limit") or before.http_put_response_hop_limit,
            "HttpEndpoint": changes.get("http_endpoint") or before.http_endpoint,
            "HttpProtocolIpv6": changes.get("http_protocol") or before.http_protocol_ipv6,
            "InstanceMetadataTags": changes.get("metadata_tags") or before.instance_metadata_tags,
        }
        instance.metadata_options = instances.MetadataOptions(given)
        return instance.metadata_options


def _fix_images() -> None:
    """Let an image have the size that machines boot with. moto has 15 GiB for each."""
    image: Any = importlib.import_module("moto.ec2.models.amis").Ami
    written = image.block_device_mappings.fget
    if getattr(written, "fixed", False):
        return

    def mappings(self: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = written(self)
        return [{**each, "Ebs": {**each["Ebs"], "VolumeSize": volumes.ROOT_GIB}} for each in found]

    mappings.fixed = True  # type: ignore[attr-defined]
    image.block_device_mappings = property(mappings)


def _fix_association() -> None:
    """Let an interface without a public address have no association, and one with it the address's public name.

    moto shows an empty association and a private name.
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceNetworkInterface.html
    """
    interface: Any = importlib.import_module("moto.ec2.models.elastic_network_interfaces").NetworkInterface
    written = interface.association.fget
    if getattr(written, "fixed", False):
        return

    def association(self: Any) -> dict[str, Any] | None:
        found = written(self) or None
        if found is not None:
            domain = f"{self.ec2_backend.region_name}.compute.amazonaws.com"
            found["publicDnsName"] = f"ec2-{found['publicIp'].replace('.', '-')}.{domain}"
        return found

    association.fixed = True  # type: ignore[attr-defined]
    interface.association = property(association)
