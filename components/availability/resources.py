"""AvailabilityZone: the dynamic resource that chooses the zone of a machine (docs/decisions/0029)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import Resource

from components.availability.providers import AvailabilityZoneProvider


@dataclass(frozen=True, kw_only=True)
class AvailabilityZoneArgs:
    """The inputs of an AvailabilityZone.

    - `machine` is the machine's number in its fleet. `size` is its instance type. `cloud` is what `Location.as_inputs` gives.
    - `zones` are those of the configuration: names, ids, or `all`. `subnets` are the ids of all subnets in which the fleet's machines may
      be. A change of either changes nothing by itself.
    - `stays`: the subnet of a machine that exists already. EC2 is not asked then.
    - `again`: why the choice that the state has does not count, empty if it does.
    """

    stack: str
    fleet: str
    machine: str
    size: str
    cloud: Mapping[str, Any]
    zones: Sequence[str]
    subnets: pulumi.Input[Sequence[str]]
    stays: str = ""
    again: str = ""


class AvailabilityZone(Resource, module="rollcall", name="AvailabilityZone"):  # type: ignore[call-arg]
    """Choose an availability zone that has capacity for a machine. Each machine of a fleet with `zones` has one.

    `subnet`, `zone` (its name) and `zone_id` are where the machine is created. `passed_over` are the zones that had no
    capacity then.
    """

    subnet: pulumi.Output[str]
    zone: pulumi.Output[str]
    zone_id: pulumi.Output[str]
    passed_over: pulumi.Output[Sequence[str]]

    def __init__(self, name: str, args: AvailabilityZoneArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        props: dict[str, Any] = {
            "stack": args.stack,
            "fleet": args.fleet,
            "machine": args.machine,
            "size": args.size,
            "cloud": dict(args.cloud),
            "zones": list(args.zones),
            "subnets": args.subnets,
            **({"stays": args.stays} if args.stays else {}),
            **({"again": args.again} if args.again else {}),
            **dict.fromkeys(("subnet", "zone", "zone_id", "passed_over")),
        }
        super().__init__(AvailabilityZoneProvider(), name, props, opts)
