"""Find out for which architecture the machines of EC2 fleets need their image: the size decides.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ProcessorInfo.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from components.config.models import ARM, X86, Settings


def of_types(types: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the architecture of instance types, as DescribeInstanceTypes lists them, by their names."""
    return {each["InstanceType"]: best(each["ProcessorInfo"]["SupportedArchitectures"]) for each in types}


def best(supported: Sequence[str]) -> str:
    """Return the architecture that a fleet uses of those that its size has. A size with neither keeps x86, and its check fails."""
    return ARM if ARM in supported and X86 not in supported else X86


def found(settings: Settings, client: Callable[[str], Any]) -> Settings:
    """Return the settings with the architecture of each EC2 fleet. `client` makes EC2's client for a region, empty for the stack's.

    Raises what the client raises.
    """
    known: dict[tuple[str, str], str] = {}
    for region, fleets in settings.by_region("aws").items():
        sizes = sorted({each.size for each in fleets})
        pages = (
            client(region)
            .get_paginator("describe_instance_types")
            .paginate(Filters=[{"Name": "instance-type", "Values": sizes}])
        )
        listed = of_types(each for page in pages for each in page["InstanceTypes"])
        known.update({(region, size): architecture for size, architecture in listed.items()})
    located = (
        replace(each, architecture=known.get((each.region or "", each.size), each.architecture))
        for each in settings.fleets
    )
    return replace(settings, fleets=tuple(located))
