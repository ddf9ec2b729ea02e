"""Every machine as its cloud lists it, for `localcloud ps`: id, cloud, region or data centre, name, state, public addresses,
tags."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localcloud.aws import Aws
    from localcloud.triton import CloudApi


def instances_of_aws(aws: Aws) -> list[dict[str, Any]]:
    found = [_of_aws(each, region.name) for region in aws.regions.values() for each in region.instances()]
    return sorted(found, key=lambda each: str(each["name"]))


def _of_aws(instance: Any, region: str) -> dict[str, Any]:
    tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
    here = instance.public_ip and instance.state != "terminated"
    # An interface keeps its IPv6 address also while its machine is off.
    addresses = [instance.public_ip, *instance.nics[0].ipv6_addresses] if here else []
    where = {"cloud": "aws", "region": region}
    return {
        "id": instance.id,
        **where,
        "name": tags.get("Name", instance.id),
        "state": instance.state,
        "addresses": addresses,
        "tags": tags,
    }


def machines_of_joyent(apis: Iterable[CloudApi]) -> list[dict[str, Any]]:
    return [each for api in apis for each in api.list_instances()]
