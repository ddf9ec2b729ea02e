"""Which actions of AWS the operator needs, and which of them the operator's policies allow.

docs/operations.md ("Permissions of the operator") shows `ROWS`; a test compares both. IAM evaluates the policies by
SimulatePrincipalPolicy, without doing anything:
https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html . What the simulation evaluates: the policies of the
user and of its groups, or of the role; the permissions boundary; the service control policies (SCPs) of an organization. What it does not
evaluate: resource control policies (RCPs, "not supported in this release"), policies of resources, session policies.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from components.config.models import FleetSettings, ServiceDiscoverySettings, Settings
from components.preflight import dns_conflicts
from components.resources.release_files import FOLDER
from rollcall.settings import STACK

# The first column of the table in docs/operations.md, and the actions. A service counts until the next one is named. `_NEEDED` says when
# a row counts. Only some of the services of a row may be used.
ROWS: Mapping[str, str] = {
    "aws:ec2/instance:Instance": (
        "ec2:RunInstances TerminateInstances StartInstances StopInstances ModifyInstanceAttribute ModifyInstanceMetadataOptions "
        "DescribeInstances DescribeInstanceAttribute DescribeInstanceTypes DescribeInstanceCreditSpecifications DescribeImages "
        "DescribeKeyPairs DescribeVolumes DescribeTags CreateTags DeleteTags iam:PassRole"
    ),
    "type, iops and throughput of disk": "ec2:ModifyVolume DescribeVolumesModifications",
    "kmsKey of disk and volumes": "kms:CreateGrant Decrypt DescribeKey GenerateDataKeyWithoutPlaintext ReEncryptFrom ReEncryptTo",
    "monitoring": "ec2:MonitorInstances UnmonitorInstances",
    "aws:ec2transitgateway/instanceState:InstanceState": "ec2:StartInstances StopInstances DescribeInstances",
    "aws:ec2/securityGroup:SecurityGroup": (
        "ec2:CreateSecurityGroup DeleteSecurityGroup DescribeSecurityGroups DescribeNetworkInterfaces AuthorizeSecurityGroupIngress "
        "AuthorizeSecurityGroupEgress RevokeSecurityGroupIngress RevokeSecurityGroupEgress"
    ),
    "aws:ec2/placementGroup:PlacementGroup": "ec2:CreatePlacementGroup DeletePlacementGroup DescribePlacementGroups",
    "the choice of a zone": (
        "ec2:CreateCapacityReservation CancelCapacityReservation DescribeCapacityReservations DescribeSubnets"
    ),
    "aws:ec2/eip:Eip": (
        "ec2:AllocateAddress ReleaseAddress DisassociateAddress DescribeAddresses DescribeAddressesAttribute CreateTags DeleteTags"
    ),
    "aws:ec2/eipAssociation:EipAssociation": "ec2:AssociateAddress DisassociateAddress DescribeAddresses",
    "aws:ec2/networkInterface:NetworkInterface": (
        "ec2:CreateNetworkInterface DeleteNetworkInterface DescribeNetworkInterfaces ModifyNetworkInterfaceAttribute CreateTags DeleteTags"
    ),
    "aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings": "ec2:DescribeInstanceTypeOfferings",
    "aws:ec2/getSubnets:getSubnets": "ec2:DescribeSubnets",
    "aws:ec2/getVpc:getVpc": "ec2:DescribeVpcs DescribeVpcAttribute DescribeRouteTables",
    "aws:iam/role:Role": (
        "iam:CreateRole DeleteRole GetRole UpdateRole UpdateRoleDescription UpdateAssumeRolePolicy ListRolePolicies "
        "ListAttachedRolePolicies ListInstanceProfilesForRole TagRole UntagRole"
    ),
    "aws:iam/rolePolicy:RolePolicy": "iam:PutRolePolicy GetRolePolicy DeleteRolePolicy",
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": "iam:AttachRolePolicy DetachRolePolicy ListAttachedRolePolicies",
    "aws:iam/instanceProfile:InstanceProfile": (
        "iam:CreateInstanceProfile DeleteInstanceProfile GetInstanceProfile AddRoleToInstanceProfile RemoveRoleFromInstanceProfile "
        "TagInstanceProfile UntagInstanceProfile"
    ),
    "aws:iam/user:User": "iam:CreateUser DeleteUser GetUser UpdateUser ListGroupsForUser TagUser UntagUser",
    "aws:iam/userPolicy:UserPolicy": "iam:PutUserPolicy GetUserPolicy DeleteUserPolicy",
    "aws:iam/accessKey:AccessKey": "iam:CreateAccessKey DeleteAccessKey ListAccessKeys UpdateAccessKey",
    "aws:index/getCallerIdentity:getCallerIdentity": "sts:GetCallerIdentity",
    "aws:route53/record:Record": "route53:ChangeResourceRecordSets ListResourceRecordSets GetChange GetHostedZone",
    "manageSoa, and a zone that the stack makes": "route53:ListResourceRecordSets ChangeResourceRecordSets",
    "aws:route53/zone:Zone": (
        "route53:CreateHostedZone UpdateHostedZoneComment ListTagsForResource ChangeTagsForResource"
    ),
    "aws:route53/getZone:getZone": "route53:ListHostedZones ListHostedZonesByName GetHostedZone ListTagsForResource",
    "aws:s3/bucket:Bucket": (
        "s3:CreateBucket DeleteBucket ListBucket ListBucketVersions DeleteObject DeleteObjectVersion TagResource UntagResource "
        "ListTagsForResource PutBucketTagging GetAccelerateConfiguration GetBucketAcl GetBucketCORS GetBucketLocation GetBucketLogging "
        "GetBucketObjectLockConfiguration GetBucketPolicy GetBucketRequestPayment GetBucketTagging GetBucketVersioning "
        "GetBucketWebsite GetEncryptionConfiguration GetLifecycleConfiguration GetReplicationConfiguration"
    ),
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": (
        "s3:PutLifecycleConfiguration GetLifecycleConfiguration"
    ),
    "aws:s3/bucketObjectv2:BucketObjectv2": (
        "s3:PutObject GetObject GetObjectTagging ListBucketVersions DeleteObject DeleteObjectVersion"
    ),
    "aws:s3/bucketPolicy:BucketPolicy": "s3:PutBucketPolicy GetBucketPolicy DeleteBucketPolicy",
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": (
        "s3:PutBucketPublicAccessBlock GetBucketPublicAccessBlock"
    ),
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": (
        "s3:PutEncryptionConfiguration GetEncryptionConfiguration"
    ),
    "aws:s3/bucketVersioning:BucketVersioning": "s3:PutBucketVersioning GetBucketVersioning",
    "aws:ssm/parameter:Parameter": (
        "ssm:PutParameter DeleteParameter GetParameter GetParameters DescribeParameters ListTagsForResource AddTagsToResource "
        "RemoveTagsFromResource"
    ),
    "aws:ssm/getParameter:getParameter": "ssm:GetParameter",
    "roll calls and status": (
        "ec2:DescribeInstances DescribeSecurityGroups CreateTags DeleteTags GetConsoleOutput TerminateInstances "
        "iam:GetInstanceProfile route53:ListResourceRecordSets ChangeResourceRecordSets"
    ),
    "the deletion of former releases from the bucket": "s3:ListBucketVersions DeleteObjectVersion ec2:DescribeInstances",
    "the upload key of a mirror": "s3:PutObject GetObject ListBucket",
    "the reports of machines with release: in-place": "s3:ListBucket GetObject DeleteObjectVersion",
    "private: true": (
        "route53:AssociateVPCWithHostedZone DisassociateVPCFromHostedZone ec2:DescribeVpcs DescribeVpcAttribute s3:ListBucket GetObject"
    ),
    "releases of more than 1 MiB": "s3:PutObject GetObject",
    "rollcall exec and patch of an EC2 fleet without ssh": "ssm:SendCommand GetCommandInvocation",
    "rollcall catalogue": "ssm:GetParameter ec2:DescribeImages DescribeInstanceTypes DescribeInstanceTypeOfferings",
    "rollcall doctor": "iam:SimulatePrincipalPolicy GetRole",
    "checks before anything is created": (
        "ec2:DescribeInstances DescribeInstanceTypes DescribeInstanceTypeOfferings DescribeVpcs DescribeSubnets DescribeKeyPairs "
        "DescribeImages ssm:GetParameter route53:ListHostedZonesByName GetHostedZone ListResourceRecordSets"
    ),
    "checks of vpc, subnets, securityGroups and publicAddress": (
        "ec2:DescribeVpcs DescribeSubnets DescribeRouteTables DescribeSecurityGroups DescribeVpcEndpoints "
        "DescribeInstanceTypeOfferings"
    ),
    "limits": (
        "servicequotas:GetServiceQuota GetAWSDefaultServiceQuota iam:GetAccountSummary route53:GetHostedZoneLimit GetAccountLimit "
        "ssm:DescribeParameters ec2:DescribeSecurityGroups DescribeAddresses s3:ListAllMyBuckets"
    ),
}
# Either all of the first, or the second: what tags a bucket.
_TAGS_OF_BUCKETS = (("s3:TagResource", "s3:UntagResource", "s3:ListTagsForResource"), "s3:PutBucketTagging")
# AWS never refuses this one, so a simulation of it would mislead.
_FREE = ("sts:GetCallerIdentity",)
# Rows that an `up` does without, that are for another principal, or that the policy of a KMS key may allow, which no simulation knows.
_NOT_NEEDED = (
    "kmsKey",
    "the upload key of a mirror",
    "rollcall catalogue",
    "rollcall doctor",
    "rollcall exec",
    "limits",
)
# Actions that set tags: a condition may name the tags of the request. Elsewhere it may name those of the resource.
_SETS_TAGS = re.compile(r":(Create|Tag|Run|Put(Parameter|BucketTagging)|AddTags|ChangeTags)")
_GLOBAL = ("iam", "route53")
_GLOBAL_REGION = "us-east-1"
# AWS and Pulumi choose the ends of these names; a simulation needs no resource that exists.
_HEX, _EC2_ID, _ZONE_ID = "1234567", "0123456789abcdef0", "Z00000000000000000000"
_AT_ONCE = 8
_SESSION = re.compile(r"arn:(?P<partition>[\w-]+):sts::(?P<account>\d{12}):assumed-role/(?P<name>[^/]+)/.+")
_PRINCIPAL = re.compile(r"arn:[\w-]+:iam::\d{12}:(user|role)/.+")


def actions_in(words: str) -> tuple[str, ...]:
    """Return the actions of a row, each with its service: `ec2:A B iam:C` -> `ec2:A`, `ec2:B`, `iam:C`"""
    found, service = [], ""
    for word in words.split():
        service = word.partition(":")[0] if ":" in word else service
        found.append(f"{service}:{word.rpartition(':')[2]}")
    return tuple(found)


def needed(settings: Settings) -> tuple[str, ...]:
    """Return the actions that `up` and `destroy` of these settings need, sorted."""
    found = {
        action
        for row, words in ROWS.items()
        if not row.startswith(_NOT_NEEDED) and _counts(row, settings)
        for action in actions_in(words)
        if action not in _FREE and _uses(action, settings)
    }
    return tuple(sorted(found))


def _counts(row: str, settings: Settings) -> bool:
    """Return whether the settings have what a row is for. `_uses` decides for rows of several services."""
    return next((counts(settings) for prefix, counts in _ROWS_FOR if row.startswith(prefix)), True)


def _uses(action: str, settings: Settings) -> bool:
    service = action.partition(":")[0]
    if service == "route53":
        return settings.service_discovery is not None
    return bool(settings.fleets_of("aws")) or (service == "iam" and _makes_users(settings))


def _makes_users(settings: Settings) -> bool:
    return any(settings.has_iam_user(each) for each in settings.fleets)


def _any_on_ec2(has: Callable[[FleetSettings], object]) -> Callable[[Settings], bool]:
    return lambda settings: any(has(each) for each in settings.fleets_of("aws"))


def _of_directory(has: Callable[[ServiceDiscoverySettings], bool]) -> Callable[[Settings], bool]:
    return lambda settings: settings.service_discovery is not None and has(settings.service_discovery)


# What the settings must have for the rows that begin so. The first prefix that fits decides.
_ROWS_FOR: tuple[tuple[str | tuple[str, ...], Callable[[Settings], bool]], ...] = (
    (("aws:iam/user", "aws:iam/accessKey"), _makes_users),
    ("aws:ec2/placementGroup", _any_on_ec2(lambda each: each.placement)),
    ("the choice of a zone", _any_on_ec2(lambda each: each.zones)),
    (("aws:ec2/eip", "aws:ec2/networkInterface"), _any_on_ec2(lambda each: each.stable_addresses)),
    (
        "checks of vpc",
        lambda settings: any(settings.chooses_vpc(each) or each.security_groups for each in settings.fleets_of("aws")),
    ),
    ("aws:iam/rolePolicyAttachment", _any_on_ec2(lambda each: each.policies and each.policies.managed)),
    ("aws:iam/", _any_on_ec2(lambda _: True)),
    ("aws:route53/zone", _of_directory(lambda each: each.create)),
    ("private", _of_directory(lambda each: each.private)),
    ("type, iops", _any_on_ec2(lambda each: not each.disk.is_default)),
    ("monitoring", _any_on_ec2(lambda each: each.monitoring is not None)),
    ("manageSoa", _of_directory(lambda each: each.create or each.manages_soa)),
)


@dataclass(frozen=True, kw_only=True)
class Denied:
    """An action that the policies do not allow on these resources. `why`: what denies it, empty if only nothing allows it.

    `missing`: the condition keys that the policies ask for and that no simulation knows, so the answer may be wrong.
    """

    action: str
    resources: tuple[str, ...]
    why: str = ""
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        on = "" if self.resources == ("*",) else f" on {self.resources[0]}"
        return f"{self.action}{on}{f' ({self.why})' if self.why else ''}"


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """The outcome: what is denied, how many actions were simulated, and whether the account is in an organization."""

    denied: tuple[Denied, ...] = ()
    count: int = 0
    in_organization: bool = False


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the stack works: the AWS partition, account and region, and the id of the hosted zone."""

    partition: str
    account: str
    region: str
    zone_id: str = ""


def principal_of(arn: str, role_arn: Callable[[str], str]) -> str:
    """Return the ARN of the user or role whose policies count for the caller with this ARN; empty for the root user and others.

    `role_arn` looks up a role by its name: the ARN of a session does not have the role's path.
    """
    session = _SESSION.fullmatch(arn)
    if session:
        return role_arn(session["name"])
    return arn if _PRINCIPAL.fullmatch(arn) else ""


def simulate(iam: Any, principal: str, settings: Settings, place: Place) -> Simulated:
    """Return what the policies of a principal deny. Raises what boto3's client raises."""
    groups: dict[_Scene, list[str]] = defaultdict(list)
    actions = needed(settings)
    for action in actions:
        for scene in _scenes(action, settings, place):
            groups[scene].append(action)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(lambda scene: _answers(iam, principal, groups[scene], scene), groups))
    results = [each for some in answers for each in some]
    # A key that a scene has is absent elsewhere because AWS does not send it there. Only keys of no scene are unknown.
    known = frozenset(key.lower() for scene in groups for key, _ in scene.context)
    denied = [each for result in results for each in _denied(result, known)]
    return Simulated(
        denied=tuple(sorted(_without_alternatives(denied), key=str)),
        count=len(actions),
        in_organization=any("OrganizationsDecisionDetail" in each for each in results),
    )


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """What actions are simulated with together: the resources, and the values of condition keys."""

    resources: tuple[str, ...]
    context: tuple[tuple[str, tuple[str, ...]], ...]


def _answers(iam: Any, principal: str, actions: Sequence[str], scene: _Scene) -> list[Mapping[str, Any]]:
    values = [
        {
            "ContextKeyName": key,
            "ContextKeyType": "stringList" if len(given) > 1 or key in _LISTS else "string",
            "ContextKeyValues": list(given),
        }
        for key, given in scene.context
    ]
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=principal,
        ActionNames=list(actions),
        ResourceArns=list(scene.resources),
        ContextEntries=values,
    )
    return [each for page in pages for each in page["EvaluationResults"]]


def _denied(result: Mapping[str, Any], known: Collection[str]) -> Iterator[Denied]:
    """Yield what one evaluation denies. Where a resource has a decision, the common one is not used."""
    action = str(result["EvalActionName"])
    specific = result.get("ResourceSpecificResults") or []
    if result["EvalDecision"] == "allowed" and all(each["EvalResourceDecision"] == "allowed" for each in specific):
        return
    bad = [each for each in specific if each["EvalResourceDecision"] != "allowed"]
    missing = {
        key for each in (result, *bad) for key in each.get("MissingContextValues") or () if key.lower() not in known
    }
    yield Denied(
        action=action,
        resources=tuple(str(each["EvalResourceName"]) for each in bad) or ("*",),
        why=_why(result, bad),
        missing=tuple(sorted(missing)),
    )


def _why(result: Mapping[str, Any], bad: Sequence[Mapping[str, Any]]) -> str:
    organization = result.get("OrganizationsDecisionDetail") or {}
    if organization.get("AllowedByOrganizations") is False:
        return "a service control policy of the organization does not allow it"
    details = [each.get("PermissionsBoundaryDecisionDetail") or {} for each in (result, *bad)]
    if any(each.get("AllowedByPermissionsBoundary") is False for each in details):
        return "the permissions boundary does not allow it"
    decisions = {result["EvalDecision"], *(each["EvalResourceDecision"] for each in bad)}
    return "a policy denies it" if "explicitDeny" in decisions else ""


def _without_alternatives(denied: Sequence[Denied]) -> list[Denied]:
    """Leave out the actions that tag a bucket if the other way to tag it is allowed."""
    names, (several, one) = {each.action for each in denied}, _TAGS_OF_BUCKETS
    left_out = (one,) if one in names else several
    return [each for each in denied if each.action not in left_out]


_LISTS = (
    "aws:TagKeys",
    "route53:ChangeResourceRecordSetsActions",
    "route53:ChangeResourceRecordSetsRecordTypes",
    "route53:ChangeResourceRecordSetsNormalizedRecordNames",
)


def _scenes(action: str, settings: Settings, place: Place) -> list[_Scene]:
    """Return the resources and conditions with which the program uses an action: one scene for each region."""
    service = action.partition(":")[0]
    if service in _GLOBAL:
        regions = [_GLOBAL_REGION]
        resources = {_GLOBAL_REGION: _global_resources(action, settings, place)}
    else:
        regions = [name or place.region for name in settings.by_region("aws")]
        resources = {each: _regional_resources(action, settings, place, each) for each in regions}
    return [_Scene(resources=resources[each], context=_context(action, settings, each)) for each in regions]


def _context(action: str, settings: Settings, region: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    service, own = action.partition(":")[0], settings.stack
    found: dict[str, tuple[str, ...]] = {"aws:RequestedRegion": (region,), "aws:SecureTransport": ("true",)}
    if action == "iam:PassRole":
        found["iam:PassedToService"] = ("ec2.amazonaws.com",)
    elif action == "route53:ChangeResourceRecordSets" and settings.service_discovery is not None:
        found["route53:ChangeResourceRecordSetsActions"] = ("CREATE", "DELETE", "UPSERT")
        found["route53:ChangeResourceRecordSetsRecordTypes"] = ("PTR", "SRV", "TXT")
        found["route53:ChangeResourceRecordSetsNormalizedRecordNames"] = tuple(_record_names(settings))
    elif service in ("ec2", "iam", "s3", "ssm"):
        kind = "RequestTag" if _SETS_TAGS.search(action) else "ResourceTag"
        found[f"aws:{kind}/{STACK}"] = (own,)
        if kind == "RequestTag":
            found["aws:TagKeys"] = (STACK,)
        elif service in ("ec2", "iam"):
            found[f"{service}:ResourceTag/{STACK}"] = (own,)
    if service == "ec2":
        found["ec2:Region"] = (region,)
    if action == "ec2:RunInstances":
        found["ec2:InstanceType"] = tuple(sorted({each.size for each in settings.fleets_of("aws")}))[:1]
        found["ec2:MetadataHttpTokens"], found["ec2:Encrypted"] = ("required",), ("true",)
    if action == "ec2:CreateTags":
        found["ec2:CreateAction"] = ("RunInstances",)
    return tuple(sorted(found.items()))


def _record_names(settings: Settings) -> list[str]:
    """Return the names of the records that `up` makes, as Route53's condition keys have them: lower case, without a final dot."""
    directory = settings.service_discovery
    wanted = dns_conflicts.of_directory(directory) if directory is not None else []
    return sorted({each.name.rstrip(".").lower() for each in wanted if each.types})


def _global_resources(action: str, settings: Settings, place: Place) -> tuple[str, ...]:
    service, name = action.split(":")
    if service == "route53":
        return _zone_resources(name, place)
    home = f"arn:{place.partition}:iam::{place.account}"
    if "InstanceProfile" in name and name != "ListInstanceProfilesForRole":
        return tuple(f"{home}:instance-profile/{each}-profile-{_HEX}" for each in _roles(settings))
    if "User" in name or "AccessKey" in name:
        users = (each.name for each in settings.fleets if settings.has_iam_user(each))
        return tuple(f"{home}:user/rollcall/{each}-user-{_HEX}" for each in users)
    second = (f"{home}:role/{_role(each)}-workloads-{_HEX}" for each in settings.fleets_of("aws") if each.policies)
    # Only the role of the machines is passed to EC2.
    passed = f"{service}:{name}" == "iam:PassRole"
    return (*(f"{home}:role/{each}-role-{_HEX}" for each in _roles(settings)), *(() if passed else second))


def _zone_resources(name: str, place: Place) -> tuple[str, ...]:
    """https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonroute53.html"""
    if name in ("CreateHostedZone", "ListHostedZones", "ListHostedZonesByName"):
        return ("*",)
    if name == "GetChange":
        return (f"arn:{place.partition}:route53:::change/C0000000000000",)
    return (f"arn:{place.partition}:route53:::hostedzone/{place.zone_id or _ZONE_ID}",)


def _roles(settings: Settings) -> list[str]:
    """Return the names of the roles of fleets, as components/resources/dns_credentials.py begins them."""
    return [_role(each) for each in settings.fleets_of("aws")]


def _role(fleet: FleetSettings) -> str:
    return f"{fleet.name}-{fleet.region}" if fleet.region else fleet.name


def _regional_resources(action: str, settings: Settings, place: Place, region: str) -> tuple[str, ...]:
    service, name = action.split(":")
    fleets = [each for each in settings.fleets_of("aws") if (each.region or place.region) == region]
    if service == "s3":
        bucket = f"arn:{place.partition}:s3:::{_bucket(region, place)}"
        return (f"{bucket}/{FOLDER}/{_HEX}.tar.bz2",) if "Object" in name and "Bucket" not in name else (bucket,)
    if service == "ssm":
        return _parameters(name, settings, fleets, f"arn:{place.partition}:ssm:{region}", place.account)
    if service == "ec2" and not name.startswith("Describe"):
        return _ec2_resources(name, fleets, f"arn:{place.partition}:ec2:{region}:{place.account}")
    return ("*",)


def _bucket(region: str, place: Place) -> str:
    """Return a name of the region's bucket, as components/resources/releases.py begins it."""
    return f"rollcall-releases-{region}-{_HEX}" if region != place.region else f"rollcall-releases-{_HEX}"


def _parameters(
    name: str, settings: Settings, fleets: Iterable[FleetSettings], home: str, account: str
) -> tuple[str, ...]:
    if name == "DescribeParameters":
        return ("*",)
    own = tuple(f"{home}:{account}:parameter/rollcall/{settings.stack}/{each.name}/image-0" for each in fleets)
    public = (f"{home}::parameter/aws/service/debian/release/12/latest/amd64",) if name == "GetParameter" else ()
    return (*own, *public)


def _ec2_resources(name: str, fleets: Sequence[FleetSettings], home: str) -> tuple[str, ...]:
    """https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html"""

    def of(*kinds: str) -> tuple[str, ...]:
        short = {
            "instance": "i",
            "network-interface": "eni",
            "volume": "vol",
            "security-group": "sg",
            "elastic-ip": "eipalloc",
        }
        return tuple(f"{home}:{kind}/{short.get(kind, kind)}-{_EC2_ID}" for kind in kinds)

    if name == "RunInstances":
        partition_and_region = home.rpartition(":")[0]
        keys = tuple(f"{home}:key-pair/{each.ssh.key_name}" for each in fleets if each.ssh and each.ssh.key_name)
        made = of("instance", "network-interface", "volume", "security-group", "subnet")
        return (*made, f"{partition_and_region}::image/ami-{_EC2_ID}", *keys)
    if "NetworkInterface" in name:
        return (
            of("network-interface", "subnet", "security-group")
            if name.startswith("Create")
            else of("network-interface")
        )
    if "Address" in name:
        return of("elastic-ip", "network-interface") if "sociate" in name else of("elastic-ip")
    if "SecurityGroup" in name:
        return of("security-group", "vpc") if name == "CreateSecurityGroup" else of("security-group")
    if name in ("CreateTags", "DeleteTags"):
        return of("instance", "security-group") if name == "DeleteTags" else of("instance", "security-group", "volume")
    return of("volume") if name == "ModifyVolume" else of("instance")
