"""What an EC2 fleet finds in its account: the image that it keeps, and subnets in zones that have its instance type."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_aws as aws

from components.settings import EC2_IMAGES, FleetSettings


def pinned_image(fleet: FleetSettings, parent: pulumi.Resource) -> pulumi.Output[str]:
    """The AMI of a fleet: an `ami-…` is itself, anything else the one that a public parameter named when it was first looked up.

    What was found is kept in a parameter of the account's own, so machines that come later (by a scale-up, or in the place of
    others) get the image that the rest has, however often the vendor publishes. Another `image` or `renew` looks anew.
    """
    if fleet.image.startswith("ami-"):
        return pulumi.Output.from_input(fleet.image)
    found = aws.ssm.get_parameter_output(
        name=EC2_IMAGES.get(fleet.image, fleet.image), opts=pulumi.InvokeOutputOptions(parent=parent)
    )
    kept = aws.ssm.Parameter(
        f"{fleet.name}-image",
        description=f"The image of Rollcall's fleet {fleet.name}, by {fleet.image}",
        type="String",
        # A public parameter's value is no secret, and `value` would make one of it.
        insecure_value=found.insecure_value,
        opts=pulumi.ResourceOptions(
            parent=parent,
            ignore_changes=["insecureValue"],
            replacement_trigger=[fleet.image, fleet.renew],
        ),
    )
    return kept.insecure_value.apply(str)


def subnets(size: str, parent: pulumi.Resource, *, ipv6: bool = False) -> pulumi.Output[Sequence[str]]:
    """The default VPC's subnets, one a zone, in zones that have the instance type, with `ipv6` those that have an IPv6 CIDR;
    sorted, so that machines spread over the zones by their index."""
    options = pulumi.InvokeOutputOptions(parent=parent)
    offered = aws.ec2.get_instance_type_offerings_output(
        filters=[{"name": "instance-type", "values": [size]}], location_type="availability-zone", opts=options
    )
    found = aws.ec2.get_subnets_output(
        filters=[
            {"name": "default-for-az", "values": ["true"]},
            {"name": "availability-zone", "values": offered.locations.apply(sorted)},
            *([{"name": "ipv6-cidr-block-association.state", "values": ["associated"]}] if ipv6 else []),
        ],
        opts=options,
    )
    return found.ids.apply(sorted)
