"""IPv6 of VPCs, subnets and instances, from the documentation range (RFC 3849). moto supports only half of it.

https://docs.aws.amazon.com/vpc/latest/userguide/vpc-migrate-ipv6.html
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from localcloud.aws.catalogue import REGIONS
from localcloud.aws.wire import AwsError, Call

# A /56 for each VPC that asks for one, from the network of the machines' bridge. Each region has a part of it.
RANGE = ipaddress.IPv6Network("2001:db8:1::/48")
_PART = 52
_FILTER = "ipv6-cidr-block-association."
_ASSOCIATED = "associated"


class Shown(dict[str, str]):
    """A state that moto's list of subnets shows as a text."""

    def __str__(self) -> str:
        return self["State"]


def vpc_blocks(region: str) -> Iterator[str]:
    """Yield the blocks of a region of the catalogue. No block is in two regions."""
    part = list(RANGE.subnets(new_prefix=_PART))[REGIONS.index(region)]
    return (str(each) for each in part.subnets(new_prefix=56))


def blocks_of(subnet: Any) -> list[str]:
    """The IPv6 CIDRs that a subnet has now."""
    return [
        str(each["ipv6CidrBlock"])
        for each in subnet.ipv6_cidr_block_associations.values()
        if each["ipv6CidrBlockState"]["State"] == _ASSOCIATED
    ]


def vpc_blocks_of(vpc: Any) -> list[str]:
    """The IPv6 CIDRs that a VPC has now."""
    found = vpc.get_cidr_block_association_set(ipv6=True)
    return [str(each["cidr_block"]) for each in found if each["cidr_block_state"]["state"] == _ASSOCIATED]


def check_block(call: Call, store: Any) -> None:
    """AssociateSubnetCidrBlock: a /64 of the VPC's that no other subnet has. Raises AwsError."""
    subnets = {each.id: each for zone in store.subnets.values() for each in zone.values()}
    subnet, text = subnets.get(call.get("SubnetId") or ""), call.get("Ipv6CidrBlock") or ""
    if subnet is None:
        raise AwsError("InvalidSubnetID.NotFound", f"The subnet ID '{call.get('SubnetId')}' does not exist")
    try:
        block = ipaddress.IPv6Network(text)
    except ValueError as wrong:
        raise AwsError("InvalidParameterValue", f"Value ({text}) for parameter ipv6CidrBlock is invalid.") from wrong
    within = [ipaddress.IPv6Network(each) for each in vpc_blocks_of(store.get_vpc(subnet.vpc_id))]
    if block.prefixlen != 64 or not any(block.subnet_of(each) for each in within):
        raise AwsError("InvalidSubnet.Range", f"The CIDR '{text}' is invalid.")
    taken = [each for one in subnets.values() for each in blocks_of(one)]
    if any(block.overlaps(ipaddress.IPv6Network(each)) for each in taken):
        raise AwsError("InvalidSubnet.Conflict", f"The CIDR '{text}' conflicts with another subnet")


def requested_addresses(call: Call) -> int:
    """How many IPv6 addresses each instance of a launch gets."""
    text = call.get("Ipv6AddressCount") or call.groups("NetworkInterface").get(1, {}).get("Ipv6AddressCount") or "0"
    if not text.isdecimal() or int(text) > 1:
        raise AwsError("InvalidParameterValue", f"Value ({text}) for parameter ipv6AddressCount is invalid.")
    return int(text)


def check_count(call: Call, subnet: Any) -> None:
    """Raise AwsError if a launch asks for addresses that its subnet does not have."""
    if requested_addresses(call) and not blocks_of(subnet):
        raise AwsError(
            "InvalidParameterValue", f"The subnet {subnet.id} does not have an IPv6 CIDR block associated with it"
        )


class Addresses:
    """The IPv6 addresses of a subnet, in order. No address is given to two instances."""

    def __init__(self) -> None:
        self._numbers = itertools.count(0x10)

    def give(self, interface: Any) -> None:
        """Give a network interface the next address."""
        block = ipaddress.IPv6Network(blocks_of(interface.subnet)[0])
        interface.ipv6_addresses = [str(block[next(self._numbers)])]


def subnets_by_id(call: Call, store: Any) -> bytes | None:
    """Return a DescribeSubnets by ids for one with filters by IPv6 CIDR, which moto does not support; None without such filters."""
    filters = [
        (each.get("Name", ""), {value for key, value in each.items() if key.startswith("Value.")})
        for each in call.groups("Filter").values()
    ]
    ours = [(name[len(_FILTER) :], values) for name, values in filters if name.startswith(_FILTER)]
    if not ours:
        return None
    chosen = {each.id: blocks_of(each) for zone in store.subnets.values() for each in zone.values()}
    for kind, values in ours:
        if kind not in ("state", "ipv6-cidr-block"):
            raise AwsError("InvalidParameterValue", f"The filter '{_FILTER}{kind}' is invalid")
        has = {known: [_ASSOCIATED] if blocks and kind == "state" else blocks for known, blocks in chosen.items()}
        chosen = {known: blocks for known, blocks in chosen.items() if values & set(has[known])}
    ids = set(chosen).intersection(*(values for name, values in filters if name == "subnet-id"))
    others = [each for each in filters if not each[0].startswith(_FILTER) and each[0] != "subnet-id"]
    fields = [(key, value) for key, value in call.form if not key.startswith("Filter.")]
    for number, (name, values) in enumerate([*others, ("subnet-id", ids or {"subnet-none"})], 1):
        fields.append((f"Filter.{number}.Name", name))
        fields += [(f"Filter.{number}.Value.{at}", each) for at, each in enumerate(sorted(values), 1)]
    return urlencode(fields).encode()
