"""What a program gives an EC2 fleet besides its configuration: outputs of the program's own resources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from components.resources import aws_sdk as aws


@dataclass(frozen=True, kw_only=True)
class FleetInputs:
    """The network, the security groups and the role of an EC2 fleet's machines.

    - `vpc` is the id of the VPC, and `subnets` are ids of its subnets. Machines are spread over them in their order. Without both, the
      machines are where the fleet's configuration says. Other values make successors first.
    - `security_groups` are ids of groups that the machines have besides the group that Rollcall makes. Other values change running
      machines.
    - `role` is the role of the machines, and `instance_profile` is the name of a profile with this role. Rollcall adds one inline policy
      to it, `rollcall`. Without both, Rollcall makes a role and a profile.
    """

    vpc: pulumi.Input[str] | None = None
    subnets: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    security_groups: Sequence[pulumi.Input[str]] = ()
    role: aws.iam.Role | None = None
    instance_profile: pulumi.Input[str] | None = None

    def fault(self) -> str:
        """Return what is wrong with these inputs, and how to fix it; empty if nothing is."""
        if (self.vpc is None) != (self.subnets is None):
            return "has only one of vpc and subnets. Give both: machines are in these subnets, and their security group is in this VPC"
        if (self.role is None) != (self.instance_profile is None):
            return "has only one of role and instance_profile. Give both, and put the role into the profile"
        return ""
