"""Check that the machines of a private hosted zone find it: their VPCs are associated, and have Amazon's DNS.

https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/hosted-zone-private-considerations.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from components.config.models import ServiceDiscoverySettings, Settings

_KEY = "rollcall:serviceDiscovery"
# A private zone needs both: the page above, "Amazon VPC settings".
_ATTRIBUTES = {"enableDnsSupport": "EnableDnsSupport", "enableDnsHostnames": "EnableDnsHostnames"}
Client = Callable[[str, str], Any]


def vpcs_of(settings: Settings, region: str, client: Client) -> dict[tuple[str, str], list[str]]:
    """Return the fleets that join, by the region and the id of their VPC. `region` is the stack's. A VPC that is not found is left out."""
    found: dict[tuple[str, str], list[str]] = {}
    default: dict[str, str] = {}
    for fleet in filter(settings.joins_private_zone, settings.fleets):
        where = fleet.region or region
        vpc = settings.vpc_of(fleet)
        if not vpc and where not in default:
            listed = client("ec2", where).describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
            default[where] = next((str(each["VpcId"]) for each in listed), "")
        if vpc or default[where]:
            found.setdefault((where, vpc or default[where]), []).append(fleet.name)
    return found


def faults(settings: Settings, zone: str | None, region: str, client: Client) -> Iterator[str]:
    """Yield why machines would not find the private zone with the id `zone` (None: it will be created)."""
    directory = settings.service_discovery
    if directory is None or not directory.private:
        return
    vpcs = vpcs_of(settings, region, client)
    yield from _unassociated(directory, zone, region, vpcs, client)
    for (where, vpc), fleets in vpcs.items():
        ec2 = client("ec2", where)
        for attribute, name in _ATTRIBUTES.items():
            value = ec2.describe_vpc_attribute(VpcId=vpc, Attribute=attribute)[name]["Value"]
            if not value:
                fix = f"`aws ec2 modify-vpc-attribute --region {where} --vpc-id {vpc} --{_option(attribute)}`"
                yield f"{_KEY}.private: {vpc} of {_named(fleets)} has {attribute} off, so it finds no private zone. Run {fix}."


def hidden_sites(settings: Settings) -> Iterator[str]:
    """Yield a warning for each site that EC2 machines do not see, because their resolvers find the private zone in its place."""
    directory = settings.service_discovery
    if directory is None or not directory.private:
        return
    for site in settings.sites:
        hidden = f".{site.fqdn}".endswith(f".{directory.zone}")
        fleets = [each.name for each in settings.fleets_of("aws") if site.join in each.joins]
        if hidden and fleets:
            yield (
                f"{site.key}.zone: {site.fqdn} is in a public zone, but machines of {_named(fleets)} find the private {directory.zone} "
                "in its place. So the records of a crashed machine are removed after up to six minutes. Give the private zone another name."
            )


def _unassociated(
    directory: ServiceDiscoverySettings,
    zone: str | None,
    region: str,
    vpcs: Mapping[tuple[str, str], list[str]],
    client: Client,
) -> Iterator[str]:
    if directory.create:
        given = {(where or region, id_) for where, _, id_ in (each.rpartition("/") for each in directory.vpcs)}
        if not given and not vpcs:
            yield f"{_KEY}.vpcs: is missing, and no fleet joins a service. Name a VPC, as [vpc-0123456789abcdef0]."
        for (_, vpc), fleets in vpcs.items() if given else ():
            if vpc not in {id_ for _, id_ in given}:
                yield f"{_KEY}.vpcs: lacks {vpc} of {_named(fleets)}. Add it, or leave vpcs out."
        return
    if zone is None:
        return
    found = client("route53", "us-east-1").get_hosted_zone(Id=zone).get("VPCs") or []
    associated = {(str(each["VPCRegion"]), str(each["VPCId"])) for each in found}
    listed = ", ".join(sorted(f"{id_} in {where}" for where, id_ in associated)) or "none"
    for (where, vpc), fleets in vpcs.items():
        if (where, vpc) not in associated:
            command = f"`aws route53 associate-vpc-with-hosted-zone --hosted-zone-id {zone} --vpc VPCRegion={where},VPCId={vpc}`"
            yield (
                f"{_KEY}.zone: the private zone {directory.zone} ({zone}) is not associated with {vpc} of {_named(fleets)}; it "
                f"has {listed}. Run {command}."
            )


def _named(fleets: list[str]) -> str:
    return f"the fleet{'s' if len(fleets) > 1 else ''} {', '.join(fleets)}"


def _option(attribute: str) -> str:
    return {"enableDnsSupport": "enable-dns-support", "enableDnsHostnames": "enable-dns-hostnames"}[attribute]
