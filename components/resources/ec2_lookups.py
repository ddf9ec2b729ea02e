"""Look up what an EC2 fleet uses in its account: the image that it keeps, and subnets in zones that have its instance type.

The module also makes the AWS providers of regions other than the stack's region.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

import pulumi

from components.config.models import X86, FleetSettings, ec2_parameter
from components.resources import aws_sdk as aws


def providers(
    fleets: Iterable[FleetSettings], opts: pulumi.ResourceOptions | None = None
) -> dict[str | None, aws.Provider]:
    """Return an AWS provider for each region that fleets name, by the region.

    Everything else, and what is global, uses the engine's default provider. Only that one reads the stack's settings
    (`aws:profile`, `aws:assumeRoles`, …), so this function passes them on.
    """
    regions = sorted({each.region for each in fleets if each.cloud == "aws" and each.region})
    provider_inputs = provider_settings(pulumi.Config("aws").get) if regions else {}
    secret_inputs = {
        name: pulumi.Output.secret(value) if pulumi.runtime.is_config_secret(f"aws:{_camel(name)}") else value
        for name, value in provider_inputs.items()
    }
    return {
        region: aws.Provider(f"aws-{region}", **{**secret_inputs, "region": region}, opts=opts) for region in regions
    }


def provider_identity() -> aws.GetCallerIdentityResult:
    """Return the AWS identity of the engine's default provider, as the provider reports it."""
    return aws.get_caller_identity()


def provider_settings(config: Callable[[str], str | None]) -> dict[str, Any]:
    """Return what `config` has for the inputs of the provider, by the SDK's names.

    Text is used as it is; the rest is JSON.
    """
    inputs = inspect.signature(aws.ProviderArgs).parameters
    found = {name: text for name in inputs if (text := config(_camel(name))) is not None}
    return {
        name: text if str in get_args(inputs[name].annotation) else json.loads(text) for name, text in found.items()
    }


def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)


def pinned_image(fleet: FleetSettings, stack: str, parent: pulumi.Resource) -> pulumi.Output[str]:
    """Return the AMI of a fleet.

    An image `ami-…` is the AMI itself. Anything else is a public parameter, and the AMI is the one that it named when
    it was first looked up.

    The result is kept in a parameter of the account. So machines that are created later (by a scale-up, or as
    replacements) get the same image as the rest, however often the vendor publishes. Another `image` or `imageRefresh`
    looks it up again.
    """
    if fleet.image.startswith("ami-"):
        return pulumi.Output.from_input(fleet.image)
    found = aws.ssm.get_parameter_output(
        name=ec2_parameter(fleet.image, fleet.architecture), opts=pulumi.InvokeOutputOptions(parent=parent)
    )
    # A name that Pulumi chooses would begin with the fleet's, and no parameter's name may begin with `aws` or `ssm`. A
    # new lookup has another name, so that the old parameter and the new one can exist together for a while:
    # https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html
    architecture = [] if fleet.architecture == X86 else [fleet.architecture]
    lookup = " ".join((fleet.image, fleet.image_refresh, *architecture))
    lookup_id = hashlib.sha256(lookup.encode()).hexdigest()[:8]
    parameter = aws.ssm.Parameter(
        f"{fleet.name}-image",
        name=f"/rollcall/{stack}/{fleet.name}/image-{lookup_id}",
        description=f"The image of Rollcall's fleet {fleet.name}, by {fleet.image}",
        type="String",
        # The value of a public parameter is not secret, but the property `value` would make it one.
        insecure_value=found.insecure_value,
        # The path belongs to this stack. A parameter that exists there was left by an `up` that was killed before its state contained it.
        overwrite=True,
        opts=pulumi.ResourceOptions(
            parent=parent,
            ignore_changes=["insecureValue"],
            replacement_trigger=[fleet.image, fleet.image_refresh, *architecture],
        ),
    )
    return parameter.insecure_value.apply(str)


def subnets(size: str, parent: pulumi.Resource, *, ipv6: bool = False) -> pulumi.Output[Sequence[str]]:
    """Return the default VPC's subnets, one for each zone, in zones that have the instance type.

    With `ipv6`, only subnets that have an IPv6 CIDR. They are sorted, so that machines are spread over the zones by
    their index.
    """
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
