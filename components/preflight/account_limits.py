"""Refuse what would exceed a quota of the AWS account: IAM, Route53, SSM, S3, security groups and elastic addresses. The vCPUs
are in quotas.py.

What the state has exists already, and counts as used. So the checks ask AWS only if this `up` makes something. A quota
that cannot be read is a warning, because AWS itself refuses what exceeds it.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html#reference_iam-quotas-entities
https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DNSLimitations.html#limits-api-entities
https://docs.aws.amazon.com/general/latest/gr/ssm.html#limits_ssm
https://docs.aws.amazon.com/AmazonS3/latest/userguide/BucketRestrictions.html
https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html#vpc-limits-security-groups
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/elastic-ip-addresses-eip.html#using-instance-addressing-limit
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.aws import api_errors
from components.config.models import (
    CLOSED_PORT,
    FleetSettings,
    ServiceDiscoverySettings,
    Settings,
    joins_service,
    joins_site,
)
from components.preflight import policy_sizes
from components.preflight.quotas import Found, applied
from components.preflight.state import PriorState
from components.resources import firewall, memberships
from components.resources.service_directory import static_records
from components.resources.stable_addresses import address_names
from rollcall.ownership import PREFIX

# A quota of security groups, of their rules, of buckets, and of elastic addresses in Service Quotas.
GROUPS, RULES, BUCKETS = "L-E79EC296", "L-0EA8095F", "L-DC2B2D3D"
ADDRESSES = "L-0263D0A3"
_IAM_CODES = {"Roles": "L-FE177D64", "InstanceProfiles": "L-6E65F664"}
# Standard parameters of a region. This quota cannot be raised.
MOST_PARAMETERS = 10_000
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/limitations-placement-groups.html
MOST_PLACEMENT_GROUPS = 500
DEFAULT_RULES = 60
_ROLE, _PROFILE, _USER = (
    "aws:iam/role:Role",
    "aws:iam/instanceProfile:InstanceProfile",
    "aws:iam/user:User",
)
_PARAMETER, _BUCKET, _GROUP, _ADDRESS = (
    "aws:ssm/parameter:Parameter",
    "aws:s3/bucket:Bucket",
    "aws:ec2/securityGroup:SecurityGroup",
    "aws:ec2/eip:Eip",
)
_PLACEMENT_GROUP = "aws:ec2/placementGroup:PlacementGroup"
# The region in which a partition shows the quota of buckets.
_BUCKET_REGIONS = {"cn-": "cn-north-1", "us-gov-": "us-gov-west-1"}


@dataclass(frozen=True, kw_only=True)
class Account:
    """An AWS account with the stack's prior state. `client` makes boto3's clients; `region` is the stack's."""

    client: Callable[..., Any]
    region: str
    state: PriorState | None

    def made(self, kind: str, names: Iterable[str]) -> list[str]:
        """Return those of these resources that this `up` makes. Without the state nothing is known, so none."""
        return [] if self.state is None else [each for each in names if (kind, each) not in self.state]


def found(settings: Settings, account: Account, hosted: str | None, edge: Callable[[], firewall.Ranges]) -> Found:
    """Return what the account's quotas do not allow.

    `hosted` is the id of the directory's zone. `edge` gives Cloudflare's networks, and is called where a fleet needs
    them.
    """
    directory = settings.service_discovery
    here = iam(settings, account)
    if directory is not None and not directory.is_dynamic:
        here += zone_records(settings, account, hosted) if hosted else hosted_zones(directory, account)
    for name, fleets in settings.by_region("aws").items():
        region = name or account.region
        here += parameters(settings, fleets, account, region)
        here += groups(fleets, account, region)
        here += placement_groups(fleets, account, region)
        here += addresses(fleets, account, region)
        here += rules(settings, fleets, account, region, edge)
    return here + buckets(settings, account)


# IAM


def iam(settings: Settings, account: Account) -> Found:
    """Check roles, instance profiles and users. GetAccountSummary has the numbers, and the quotas as they were raised."""
    names = [_regional(each) for each in settings.fleets_of("aws")]
    users = [each for each in settings.fleets if each.cloud != "aws" and settings.has_iam_user(each)]
    # The role of workloads is another one (WorkloadRole).
    second = [f"{_regional(each)}-workloads" for each in settings.fleets_of("aws") if each.policies is not None]
    made = {
        "Roles": account.made(_ROLE, (*(f"{each}-role" for each in names), *second)),
        "InstanceProfiles": account.made(_PROFILE, (f"{each}-profile" for each in names)),
        "Users": account.made(_USER, (f"{each.name}-user" for each in users)),
    }
    if not any(made.values()):
        return Found()

    def read() -> Found:
        summary = account.client("iam").get_account_summary()["SummaryMap"]
        wanted = (("Roles", "IAM roles"), ("InstanceProfiles", "instance profiles"), ("Users", "IAM users"))
        return sum((_iam(summary, kind, what, made[kind]) for kind, what in wanted), Found())

    return _read(read, "quotas of IAM", "iam:GetAccountSummary")


def _iam(summary: Mapping[str, int], kind: str, what: str, made: Sequence[str]) -> Found:
    code = _IAM_CODES.get(kind)
    fix = _increase("iam", code, "us-east-1") if code else "This quota cannot be raised: remove unused ones"
    return _over("rollcall:fleets", what, summary[kind], len(made), summary[f"{kind}Quota"], fix)


# Route53


def hosted_zones(directory: ServiceDiscoverySettings, account: Account) -> Found:
    """Check that the account may have another hosted zone, if the stack makes it. GetAccountLimit has the raised quota."""
    if not directory.create:
        return Found()

    def read() -> Found:
        here = account.client("route53").get_account_limit(Type="MAX_HOSTED_ZONES_BY_OWNER")
        fix = "Ask AWS for more (https://console.aws.amazon.com/servicequotas/home/services/route53/quotas), or delete a zone"
        key = "rollcall:serviceDiscovery.create"
        return _over(key, "hosted zones", here["Count"], 1, here["Limit"]["Value"], fix)

    return _read(read, "quota of hosted zones", "route53:GetAccountLimit")


def zone_records(settings: Settings, account: Account, hosted: str) -> Found:
    """Check that the hosted zone has room for our record sets beside those of others. GetHostedZoneLimit has the raised quota."""
    needed = record_sets_needed(settings)

    def read() -> Found:
        route53 = account.client("route53")
        here = route53.get_hosted_zone_limit(Type="MAX_RRSETS_BY_ZONE", HostedZoneId=hosted)
        limit, count = here["Limit"]["Value"], here["Count"]
        if count + needed <= limit:
            return Found()
        pages = route53.get_paginator("list_resource_record_sets").paginate(HostedZoneId=hosted)
        others = count - _own(settings, [each for page in pages for each in page["ResourceRecordSets"]])
        if others + needed <= limit or count > limit:
            return Found()
        return Found(
            faults=(
                f"rollcall:serviceDiscovery.zone: the hosted zone has {others} record sets of others, and the stack takes up to {needed} "
                f"while its largest fleet is replaced; the zone's quota is {limit}. Ask AWS for more "
                "(https://console.aws.amazon.com/servicequotas/home/services/route53/quotas), delete some, or lower the counts.",
            )
        )

    return _read(read, "quota of the hosted zone's records", "route53:GetHostedZoneLimit")


def record_sets_needed(settings: Settings) -> int:
    """Return the most record sets that the stack has in the directory's zone.

    A machine has an A, a TXT and with IPv6 an AAAA. The largest fleet counts twice, because a replacement doubles it.
    """
    directory = settings.service_discovery
    if directory is None:
        return 0
    joined = [each for each in settings.fleets if joins_service(each)]
    each_has = [each.count * (3 if each.ipv6 else 2) for each in joined]
    return sum(each_has) + max(each_has, default=0) + len(_set_names(directory))


def _set_names(directory: ServiceDiscoverySettings) -> set[tuple[str, str]]:
    """Return name and type of the record sets that are not a machine's own."""
    joins = tuple(f"{each.name}/{one.name}" for each in directory.services for one in each.incarnations)
    static = {(each.name, each.type) for each in static_records(directory)}
    return static | {(each.lower(), "SRV") for each in memberships.sets_of(directory, joins)}


def _own(settings: Settings, listed: Sequence[Mapping[str, Any]]) -> int:
    """Return how many of these record sets are the stack's: its hosts, by the mark in their TXT, and what it declares."""
    directory = settings.service_discovery
    known = _set_names(directory) if directory is not None else set()
    mark = f'"{PREFIX} {settings.stack} '
    hosts = {
        each["Name"]
        for each in listed
        if each["Type"] == "TXT" and any(one["Value"].startswith(mark) for one in each.get("ResourceRecords", ()))
    }
    return sum(each["Name"] in hosts or (each["Name"].rstrip("."), each["Type"]) in known for each in listed)


# SSM


def parameters(settings: Settings, fleets: Sequence[FleetSettings], account: Account, region: str) -> Found:
    """Check the standard parameters of one region."""
    names = [
        *(f"{_regional(each)}-{short}" for each in fleets for short in policy_sizes.secrets_of(settings, each)),
        *(f"{each.name}-image" for each in fleets if not each.image.startswith("ami-")),
    ]
    made = account.made(_PARAMETER, names)
    if not made:
        return Found()

    def read() -> Found:
        pages = account.client("ssm", region).get_paginator("describe_parameters").paginate(MaxResults=50)
        used = sum(each.get("Tier") != "Advanced" for page in pages for each in page["Parameters"])
        fix = (
            "This quota cannot be raised: delete unused parameters, keep several secrets in one, or use another region"
        )
        return _over("rollcall:fleets", f"SSM parameters in {region}", used, len(made), MOST_PARAMETERS, fix)

    return _read(read, f"number of SSM parameters in {region}", "ssm:DescribeParameters")


# S3


def buckets(settings: Settings, account: Account) -> Found:
    """Check that the account may have another bucket for each region with EC2 fleets, and for what Triton machines fetch."""
    regions = dict.fromkeys([*settings.by_region("aws"), *([""] if _is_fetched(settings) else [])])
    made = account.made(_BUCKET, (f"rollcall-releases-{name}" if name else "rollcall-releases" for name in regions))
    if not made:
        return Found()

    def read() -> Found:
        home = next(
            (there for start, there in _BUCKET_REGIONS.items() if account.region.startswith(start)), "us-east-1"
        )
        quota, warning = applied(account.client("service-quotas", home), BUCKETS, home, "s3", what="buckets")
        if quota is None:
            return Found(warnings=(warning,))
        used = len(account.client("s3").list_buckets()["Buckets"])
        return _over("rollcall:fleets", "S3 buckets", used, len(made), quota, _increase("s3", BUCKETS, home))

    return _read(read, "number of S3 buckets", "s3:ListAllMyBuckets")


def _is_fetched(settings: Settings) -> bool:
    """Return whether Triton machines use the stack's bucket (components/resources/deployment.py)."""
    using = [each for each in settings.fleets if settings.has_iam_user(each)]
    return any(
        policy_sizes.fetched(settings, each) or any(one.before for one in settings.workloads_of(each)) for each in using
    )


# Elastic addresses


def addresses(fleets: Sequence[FleetSettings], account: Account, region: str) -> Found:
    """Check that the region may have the elastic addresses of fleets with `stableAddresses`. The default quota is 5."""
    names = [name for each in fleets if each.stable_addresses for name in address_names(each)]
    made = account.made(_ADDRESS, names)
    if not made:
        return Found()

    def read() -> Found:
        quota, warning = applied(account.client("service-quotas", region), ADDRESSES, region, what="elastic addresses")
        if quota is None:
            return Found(warnings=(warning,))
        used = len(account.client("ec2", region).describe_addresses()["Addresses"])
        stable = next(each for each in fleets if each.stable_addresses)
        key, what = f"rollcall:fleets.{stable.name}.stableAddresses", f"elastic addresses in {region}"
        return _over(key, what, used, len(made), quota, _increase("ec2", ADDRESSES, region))

    return _read(read, f"number of elastic addresses in {region}", "ec2:DescribeAddresses")


# Security groups


def groups(fleets: Sequence[FleetSettings], account: Account, region: str) -> Found:
    """Check that the region may have another security group for each new fleet."""
    made = account.made(_GROUP, (f"{each.name}-group" for each in fleets))
    if not made:
        return Found()

    def read() -> Found:
        quota, warning = applied(
            account.client("service-quotas", region), GROUPS, region, "vpc", what="security groups"
        )
        if quota is None:
            return Found(warnings=(warning,))
        pages = account.client("ec2", region).get_paginator("describe_security_groups").paginate()
        used = sum(len(page["SecurityGroups"]) for page in pages)
        what = f"security groups in {region}"
        return _over("rollcall:fleets", what, used, len(made), quota, _increase("vpc", GROUPS, region))

    return _read(read, f"number of security groups in {region}", "ec2:DescribeSecurityGroups")


def placement_groups(fleets: Sequence[FleetSettings], account: Account, region: str) -> Found:
    """Check that the region may have another placement group for each new fleet with `placement`."""
    made = account.made(_PLACEMENT_GROUP, (f"{each.name}-placement" for each in fleets if each.placement))
    if not made:
        return Found()

    def read() -> Found:
        used = len(account.client("ec2", region).describe_placement_groups()["PlacementGroups"])
        fix = "This quota cannot be raised: delete unused ones, or leave placement out"
        what = f"placement groups in {region}"
        return _over("rollcall:fleets", what, used, len(made), MOST_PLACEMENT_GROUPS, fix)

    return _read(read, f"number of placement groups in {region}", "ec2:DescribePlacementGroups")


def rules(
    settings: Settings,
    fleets: Sequence[FleetSettings],
    account: Account,
    region: str,
    edge: Callable[[], firewall.Ranges],
) -> Found:
    """Check the rules of each fleet's security group. IPv4 and IPv6 rules are counted separately."""
    networks = functools.cache(edge)
    counted = [(each, rule_counts(settings, each, networks)) for each in fleets]
    many = [(each, counts) for each, counts in counted if max(counts) > DEFAULT_RULES]
    if not many:
        return Found()
    quota, warning = applied(
        account.client("service-quotas", region), RULES, region, "vpc", what="rules of a security group"
    )
    if quota is None:
        return Found(warnings=(warning,))
    return Found(faults=tuple(_rule_faults(many, quota, region)))


def rule_counts(
    settings: Settings, fleet: FleetSettings, edge: Callable[[], firewall.Ranges] = lambda: firewall.Ranges(v4=())
) -> tuple[int, int]:
    """Return how many IPv4 and how many IPv6 rules for incoming packets the fleet's security group has."""
    closed = any(each.proxied for each in settings.sites_of(fleet))
    served = [
        firewall.IngressRule(port=CLOSED_PORT, protocol="tcp", only_from=edge() if closed else None)
        if each.proxied
        else firewall.IngressRule(port=each.port, protocol="tcp")
        for each in settings.sites_of(fleet)
    ]
    directory = settings.service_discovery
    joined = [each for each in fleet.joins if not joins_site(each)] if directory is not None else []
    services = [memberships.found(directory, each)[0] for each in joined if directory is not None]
    served += [firewall.IngressRule(port=each.port, protocol=each.protocol) for each in services]
    opened = firewall.ingress_rules(served, fleet.ssh.sources if fleet.ssh else ())
    listed = firewall.security_group_rules(opened, ipv6=fleet.ipv6)
    v4, v6 = (sum(len(each.get(key, ())) for each in listed) for key in ("cidr_blocks", "ipv6_cidr_blocks"))
    return v4, v6


def _rule_faults(many: Sequence[tuple[FleetSettings, tuple[int, int]]], quota: float, region: str) -> Iterator[str]:
    for fleet, counts in many:
        for family, count in zip(("IPv4", "IPv6"), counts, strict=True):
            if count > quota:
                yield (
                    f"rollcall:fleets.{fleet.name}: its security group would have {count} {family} rules for incoming packets, and the "
                    f"quota is {quota:g}. Name fewer networks in ssh.from, or join fewer. Or: "
                    f"{_increase('vpc', RULES, region).format(need=count)}."
                )


# Shared


def _regional(fleet: FleetSettings) -> str:
    """Return the beginning of the names of a fleet's IAM resources and secrets (components/resources/dns_credentials.py)."""
    return f"{fleet.name}-{fleet.region}" if fleet.region else fleet.name


def _over(key: str, what: str, used: int, made: int, quota: float, fix: str) -> Found:
    if not made or used + made <= quota:
        return Found()
    return Found(
        faults=(
            f"{key}: the account would have {used + made} {what} ({used} are there, this `up` makes {made}), and the quota is {quota:g}. "
            f"{fix.format(need=used + made)}.",
        )
    )


def _increase(service: str, code: str, region: str) -> str:
    return (
        f"Run `aws service-quotas request-service-quota-increase --service-code {service} --quota-code {code} --desired-value {{need}} "
        f"--region {region}`"
    )


def _read(read: Callable[[], Found], what: str, action: str) -> Found:
    """Return what `read` finds, or a warning that the account could not be asked."""
    try:
        return read()
    except api_errors.failures() as failed:
        denied = api_errors.is_denied(failed)
        code = api_errors.code_of(failed) if hasattr(failed, "response") else type(failed).__name__
        fix = f"Allow {action}" if denied else "Run it again"
        return Found(
            warnings=(
                f"AWS did not show the account's {what} ({code}), so `up` has not checked that the stack fits into it. {fix}.",
            )
        )
