"""`make catalogue`, `rollcall catalogue [WORD …] [--region NAME] [--json]`: images, sizes and networks that a fleet may name.

Takes the clouds' credentials from the stack's configuration and the environment, as `pulumi up` does. Where no stack is
selected, it takes them from the environment alone. A cloud without credentials, or without the region or data centre
NAME, is left out. Each WORD must be part of a line. It only reads.

Exit code 0: shown; 2: no cloud could be asked (why, on stderr).
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.aws import api_errors
from components.commands.status import StatusError, configuration
from components.config.errors import ConfigurationError
from components.config.models import ARM, EC2_IMAGES, X86, ec2_parameter
from components.preflight import architectures
from components.preflight.triton_networks import kind as kind_of_network

_ARCHITECTURES = (X86, ARM)


@dataclass(frozen=True, order=True, kw_only=True)
class Offer:
    """One line.

    `kind` is `image`, `size` or `network`. `name` is what a fleet says. Memory is in MiB, 0 where it has none.
    """

    cloud: str
    kind: str
    vcpus: int = 0
    memory: int = 0
    name: str
    note: str = ""

    def __str__(self) -> str:
        cores = f"{self.vcpus or '-'} vCPU" if self.vcpus else ""
        memory = f"{self.memory / 1024:g} GiB" if self.memory else ""
        return f"{self.cloud:<7} {self.kind:<7} {self.name:<34} {cores:>8} {memory:>10}  {self.note}".rstrip()


def of_ec2(client: Callable[[str], Any]) -> list[Offer]:
    """Return the named images with their present AMI, and the region's instance types that run them.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypes.html
    """
    ssm, ec2 = client("ssm"), client("ec2")
    found = []
    for name in EC2_IMAGES:
        amis = {
            each: ssm.get_parameter(Name=ec2_parameter(name, each))["Parameter"]["Value"] for each in _ARCHITECTURES
        }
        listed = ec2.describe_images(ImageIds=[amis[X86]])["Images"]
        made = f", {listed[0].get('Name', '')} of {listed[0].get('CreationDate', '')[:10]}" if listed else ""
        found.append(Offer(cloud="aws", kind="image", name=name, note=f"now {amis[X86]}{made}; for {ARM} {amis[ARM]}"))
    filters = [{"Name": "processor-info.supported-architecture", "Values": [*_ARCHITECTURES]}]
    offered = {
        each["InstanceType"]
        for page in ec2.get_paginator("describe_instance_type_offerings").paginate()
        for each in page["InstanceTypeOfferings"]
    }
    for page in ec2.get_paginator("describe_instance_types").paginate(Filters=filters):
        for each in page["InstanceTypes"]:
            if each["InstanceType"] in offered and each.get("CurrentGeneration", True):
                cores, memory = each["VCpuInfo"]["DefaultVCpus"], each["MemoryInfo"]["SizeInMiB"]
                kind = architectures.best(each["ProcessorInfo"]["SupportedArchitectures"])
                note = "" if kind == X86 else kind
                found.append(
                    Offer(cloud="aws", kind="size", vcpus=cores, memory=memory, name=each["InstanceType"], note=note)
                )
    return found


def of_triton(api: Any) -> list[Offer]:
    """Return the active images, the packages and the networks of the account's data centre."""
    images = [
        Offer(
            cloud="joyent",
            kind="image",
            name=f"{each.name}@{each.version}",
            note=f"{each.os}, {each.type}, published {each.published_at[:10] or 'never'}, {each.id}",
        )
        for each in api.list_images()
    ]
    packages = [
        Offer(
            cloud="joyent",
            kind="size",
            vcpus=each.vcpus,
            memory=each.memory,
            name=each.name,
            note=", ".join(filter(None, (f"{each.disk / 1024:g} GiB disk", each.brand, each.group))),
        )
        for each in api.list_packages()
    ]
    networks = [
        Offer(cloud="joyent", kind="network", name=each.name, note=f"{kind_of_network(each)}, {each.id}")
        for each in api.list_networks()
    ]
    return images + packages + networks


def chosen(offers: Iterable[Offer], words: Sequence[str]) -> list[Offer]:
    """Return the offers with every word in their line, sorted."""
    return sorted(each for each in offers if all(word.lower() in str(each).lower() for word in words))


def list_offers(region: str = "", config: Mapping[str, str] | None = None) -> tuple[list[Offer], list[str]]:
    """Return what the clouds of the stack's configuration and of the environment have, and why one could not be asked.

    `region` is an AWS region or a data centre by its name, or both, since some names exist on both clouds. The default
    is that of the stack.
    """
    from components.aws.session import session_of as aws_session_of
    from components.joyent import CloudApiError
    from components.joyent.provider import read_settings
    from components.joyent.session import session_of

    settings = config or {}
    found: list[Offer] = []
    faults = []
    try:
        found += of_ec2(functools.partial(aws_session_of(settings.get).client, region=region))
    except ConfigurationError as wrong:
        faults += [f"aws is left out: {each}" for each in wrong.faults]
    except api_errors.failures() as fault:
        faults.append(f"aws is left out: {api_errors.message_of(fault)}")
    try:
        found += of_triton(session_of(read_settings(settings.get("rollcall:joyent")), region).api)
    except CloudApiError as fault:
        faults.append(f"joyent is left out: {fault}")
    return found, faults


def _configuration(stack: str) -> tuple[dict[str, str], str]:
    """Return the stack's configuration, or none and why.

    There may be no stack yet; then the environment alone counts.
    """
    try:
        return configuration(stack), ""
    except StatusError as none:
        return {}, str(none)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rollcall catalogue", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="show lines with all of these, as: aws size t3")
    parser.add_argument("--region", default="", metavar="NAME", help="an AWS region, or a data centre of Triton")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--stack", default="", help="the stack with the configuration to use; default: the selected stack"
    )
    # Words may be on both sides of an option.
    options = parser.parse_intermixed_args(arguments)
    config, without = _configuration(options.stack)
    if without and options.stack:
        print(f"rollcall catalogue: {without}", file=sys.stderr)
        return 2
    found, faults = list_offers(options.region, config)
    for each in faults:
        print(f"rollcall catalogue: {each}", file=sys.stderr)
    shown = chosen(found, options.words)
    if options.json:
        print(json.dumps([dataclasses.asdict(each) for each in shown]))
    else:
        print("\n".join(map(str, shown)) or f"Nothing has {' and '.join(options.words)}.")
    return 0 if found else 2


if __name__ == "__main__":
    sys.exit(main())
