"""Every machine as its cloud lists it, for `localcloud ps`: id, cloud, name, state, public addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localcloud.aws import Aws
    from localcloud.cloudapi import CloudApi


def instances_of_aws(aws: Aws) -> list[dict[str, Any]]:
    from moto.ec2.models import ec2_backends

    found = []
    for instance in ec2_backends[aws.account][aws.region].all_instances():
        tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
        here = instance.public_ip and instance.state != "terminated"
        # An interface keeps its IPv6 address while nobody can be reached by it.
        addresses = [instance.public_ip, *instance.nics[0].ipv6_addresses] if here else []
        name = tags.get("Name", instance.id)
        found.append({"id": instance.id, "cloud": "aws", "name": name, "state": instance.state, "addresses": addresses})
    return sorted(found, key=lambda each: str(each["name"]))


def machines_of_joyent(api: CloudApi) -> list[dict[str, Any]]:
    return api.list_instances()
