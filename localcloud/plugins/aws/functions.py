"""aws functions: getParameter, getVpc, getSubnets, getAmi, getInstances, getRegion, getCallerIdentity, getAvailabilityZones,
getInstanceTypeOfferings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from localcloud.plugins.aws.common import from_tags
from localcloud.plugins.resource import PluginError, Values


def _filters(given: Values) -> list[dict[str, Any]]:
    found = [{"Name": each["name"], "Values": list(each["values"])} for each in given.get("filters") or ()]
    return found + [{"Name": f"tag:{key}", "Values": [value]} for key, value in (given.get("tags") or {}).items()]


def get_parameter(api: Any, given: Values) -> dict[str, Any]:
    found = api.client("ssm").get_parameter(Name=given["name"], WithDecryption=given.get("withDecryption", True))[
        "Parameter"
    ]
    result = {
        "id": found["Name"],
        "arn": found["ARN"],
        "name": found["Name"],
        "type": found["Type"],
        "value": found["Value"],
    }
    return {**result, "version": found["Version"], "insecureValue": found["Value"], "region": api.region}


def get_vpc(api: Any, given: Values) -> dict[str, Any]:
    filters = _filters(given)
    if given.get("default") is not None:
        filters.append({"Name": "isDefault", "Values": [str(bool(given["default"])).lower()]})
    ids = {"VpcIds": [given["id"]]} if given.get("id") else {}
    found = api.client("ec2").describe_vpcs(Filters=filters, **ids)["Vpcs"]
    if len(found) != 1:
        raise PluginError(f"aws: getVpc: {len(found)} VPCs match; exactly one must")
    (vpc,) = found
    return {
        "id": vpc["VpcId"],
        "cidrBlock": vpc["CidrBlock"],
        "default": vpc.get("IsDefault", False),
        "state": vpc["State"],
        "tags": from_tags(vpc.get("Tags")),
        "region": api.region,
    }


def get_subnets(api: Any, given: Values) -> dict[str, Any]:
    found = api.client("ec2").describe_subnets(Filters=_filters(given))["Subnets"]
    return {"id": api.region, "ids": [each["SubnetId"] for each in found], "region": api.region}


def get_ami(api: Any, given: Values) -> dict[str, Any]:
    owners = {"Owners": list(given["owners"])} if given.get("owners") else {}
    found = api.client("ec2").describe_images(Filters=_filters(given), **owners)["Images"]
    if not found or (len(found) > 1 and not given.get("mostRecent")):
        raise PluginError(f"aws: getAmi: {len(found)} images match; one must, or set mostRecent")
    image = max(found, key=lambda each: str(each["CreationDate"]))
    return {
        "id": image["ImageId"],
        "imageId": image["ImageId"],
        "name": image["Name"],
        "architecture": image.get("Architecture", "x86_64"),
        "region": api.region,
    }


def get_instances(api: Any, given: Values) -> dict[str, Any]:
    states = list(given.get("instanceStateNames") or ("running",))
    filters = [
        {"Name": "instance-state-name", "Values": states},
        *_filters({**given, "tags": given.get("instanceTags")}),
    ]
    pages = api.client("ec2").get_paginator("describe_instances").paginate(Filters=filters)
    found = [each for page in pages for reservation in page["Reservations"] for each in reservation["Instances"]]
    return {
        **{key: given[key] for key in ("filters", "instanceTags", "instanceStateNames") if given.get(key)},
        "id": api.region,
        "ids": [each["InstanceId"] for each in found],
        "privateIps": [each["PrivateIpAddress"] for each in found if each.get("PrivateIpAddress")],
        "publicIps": [each["PublicIpAddress"] for each in found if each.get("PublicIpAddress")],
        "ipv6Addresses": [each["Ipv6Address"] for each in found if each.get("Ipv6Address")],
        "region": api.region,
    }


def get_region(api: Any, given: Values) -> dict[str, Any]:
    return {
        "id": api.region,
        "name": api.region,
        "region": api.region,
        "endpoint": f"ec2.{api.region}.amazonaws.com",
        "description": api.region,
    }


def get_caller_identity(api: Any, given: Values) -> dict[str, Any]:
    found = api.client("sts").get_caller_identity()
    return {"id": found["Account"], "accountId": found["Account"], "arn": found["Arn"], "userId": found["UserId"]}


def get_zones(api: Any, given: Values) -> dict[str, Any]:
    found = api.client("ec2").describe_availability_zones(Filters=_filters(given))["AvailabilityZones"]
    return {
        "id": api.region,
        "names": [each["ZoneName"] for each in found],
        "zoneIds": [each["ZoneId"] for each in found],
        "groupNames": [],
    }


def get_offerings(api: Any, given: Values) -> dict[str, Any]:
    where = given.get("locationType") or "region"
    pages = api.client("ec2").get_paginator("describe_instance_type_offerings")
    found = [
        each
        for page in pages.paginate(LocationType=where, Filters=_filters(given))
        for each in page["InstanceTypeOfferings"]
    ]
    return {
        "id": api.region,
        "instanceTypes": [each["InstanceType"] for each in found],
        "locations": [each["Location"] for each in found],
        "locationTypes": [each["LocationType"] for each in found],
        "region": api.region,
    }


FUNCTIONS: Mapping[str, Callable[[Any, Values], dict[str, Any]]] = {
    "aws:ssm/getParameter:getParameter": get_parameter,
    "aws:ec2/getVpc:getVpc": get_vpc,
    "aws:ec2/getSubnets:getSubnets": get_subnets,
    "aws:ec2/getAmi:getAmi": get_ami,
    "aws:ec2/getInstances:getInstances": get_instances,
    "aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings": get_offerings,
    "aws:index/getRegion:getRegion": get_region,
    "aws:index/getCallerIdentity:getCallerIdentity": get_caller_identity,
    "aws:index/getAvailabilityZones:getAvailabilityZones": get_zones,
}
