"""How many security groups a region has, and how many rules a group. moto counts IPv4 and IPv6 rules together, EC2 does not.

https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html#vpc-limits-security-groups ; the codes:
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from localcloud.aws.wire import AwsError, Call

_RANGE = re.compile(r"IpPermissions\.\d+\.(?:IpRanges\.\d+\.(CidrIp)|Ipv6Ranges\.\d+\.(CidrIpv6))|(CidrIp)")


def check_count(store: Any, quota: float) -> None:
    """Raises AwsError if the region has as many security groups as it may have."""
    if sum(map(len, store.groups.values())) >= quota:
        raise AwsError("SecurityGroupLimitExceeded", "The maximum number of security groups has been reached.")


def check_rules(call: Call, store: Any, quota: float) -> None:
    """Raises AwsError if the group would have too many rules of a family, in the direction of the request."""
    identity, egress = call.get("GroupId"), call.action.endswith("Egress")
    known = (each for groups in store.groups.values() for each in groups.values())
    group = next((each for each in known if each.id == identity), None)
    added = [bool(found[2]) for key, _ in call.form if (found := _RANGE.fullmatch(key))]
    present = [*_families(group.egress_rules if egress else group.ingress_rules)] if group is not None else []
    for is_v6 in (False, True):
        if added.count(is_v6) and added.count(is_v6) + present.count(is_v6) > quota:
            raise AwsError(
                "RulesPerSecurityGroupLimitExceeded",
                "The maximum number of rules per security group has been reached.",
            )


def _families(rules: Iterable[Any]) -> Iterable[bool]:
    """Yield for each rule with a range whether it is one of IPv6. moto keeps one range in a rule."""
    for rule in rules:
        if rule.ip_range:
            yield "CidrIpv6" in rule.ip_range
