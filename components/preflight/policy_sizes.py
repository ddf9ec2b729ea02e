"""Refuse fleets with an IAM policy that would be longer than IAM takes: a fleet's rights name every SRV set that it joins.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html#reference_iam-quotas-entity-length
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from components.config import secret_names
from components.config.models import FleetSettings, Settings, joins_service
from components.config.secret_names import PROBE_KEY, TSIG
from components.resources import memberships, triton_cargo, workload_secrets
from components.resources.dns_credentials import join_statements, policy_document
from components.resources.release_files import FOLDER, key_of
from components.resources.releases import claims_of
from components.workloads.definitions import project_folder
from rollcall.in_place import REPORTS, VIEWS

# Characters without blanks, in all inline policies of one role or user.
MOST = {"role": 10240, "user": 2048}
# Ids of hosted zones are 32 characters at most: https://docs.aws.amazon.com/Route53/latest/APIReference/API_HostedZone.html
_LONGEST_ID = 32
_ACCOUNT = "0" * 12
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_LONGEST_BUCKET = 63
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}


def faults(settings: Settings, *, zone: str, region: str) -> list[str]:
    """Return what IAM would refuse.

    `zone` is the id of the directory's hosted zone, empty where it is not known yet. `region` is the stack's AWS
    region.
    """
    partition = next((name for start, name in _PARTITIONS.items() if region.startswith(start)), "aws")
    zone_arn = f"arn:{partition}:route53:::hostedzone/{zone or 'Z' * _LONGEST_ID}"

    def parameter(fleet: FleetSettings) -> Callable[[str], str]:
        home = f"arn:{partition}:ssm:{fleet.region or region}:{_ACCOUNT}:parameter/rollcall/{settings.stack}"
        return lambda short: f"{home}/{fleet.name}/{short}"

    objects = f"arn:{partition}:s3:::{'b' * _LONGEST_BUCKET}/{FOLDER}/*"
    return _own_faults(settings) + [
        fault
        for fleet in settings.fleets
        if (owner_kind := owner(settings, fleet))
        for fault in _fault(
            settings, fleet, owner_kind, len_of(document(settings, fleet, zone_arn, parameter(fleet), objects))
        )
    ]


def _own_faults(settings: Settings) -> list[str]:
    """Return a fault for each fleet with own statements that are too long for the role of its workloads."""
    lengths = ((each, len_of(each.policies.document)) for each in settings.fleets_of("aws") if each.policies)
    return [
        f"rollcall:fleets.{fleet.name}.policies.statements: they make a policy of {length} characters, and IAM takes {MOST['role']}. "
        "Shorten them, or make a managed policy of them."
        for fleet, length in lengths
        if length > MOST["role"]
    ]


def owner(settings: Settings, fleet: FleetSettings) -> str:
    """Return which kind of identity gets the fleet's rights: a role on EC2, elsewhere a user if the fleet joins a service, or none."""
    if fleet.cloud == "aws":
        return "role"
    return "user" if _sets(settings, fleet) else ""


def document(
    settings: Settings, fleet: FleetSettings, zone_arn: str, parameter: Callable[[str], str], objects: str
) -> str:
    """Return the policy that the fleet's role or user will get.

    `parameter` gives the ARN of a secret's SSM parameter. `objects` is the ARN of the releases.
    """
    sets, directory = _sets(settings, fleet), settings.service_discovery
    joins = [join_statements(zone_arn, directory.zone, sets)] if sets and directory is not None else []
    bucket = objects.partition("/")[0]
    claims = [claims_of(bucket, each.name) for each in settings.workloads_of(fleet) if each.before is not None]
    if fleet.cloud != "aws":
        named = [f"{bucket}/{key_of(each)}" for each in fetched(settings, fleet)]
        return policy_document([], joins, [objects] if named and fleet.in_place else named, claims)
    reports = [f"{bucket}/{REPORTS}/{fleet.name}"] if fleet.in_place else []
    reports += [f"{bucket}/{VIEWS}/{fleet.name}"] if settings.joins_private_zone(fleet) else []
    return policy_document([parameter(each) for each in secrets_of(settings, fleet)], joins, objects, claims, reports)


def secrets_of(settings: Settings, fleet: FleetSettings) -> list[str]:
    """Return the short names of the secrets that the machines of an EC2 fleet read from SSM."""
    mirrors = [secret_names.mirror(each.name) for each in settings.mirrors if each.endpoint is not None]
    return [PROBE_KEY, *_secrets(settings, fleet), *workload_secrets.names_of(settings.workloads_of(fleet)), *mirrors]


def fetched(settings: Settings, fleet: FleetSettings) -> list[str]:
    """Return the digests of the releases that the machines of a Triton fleet fetch from the stack's bucket."""
    if not settings.has_iam_user(fleet):
        return []
    return [each.digest for each in triton_cargo.cargo(settings, fleet, project_folder()).fetched]


def _secrets(settings: Settings, fleet: FleetSettings) -> list[str]:
    """Return the secrets that a fleet needs for what it joins."""
    directory, found = settings.service_discovery, list[str]()
    for site in settings.sites_of(fleet):
        found += [TSIG] if site.is_dynamic else [secret_names.token(site.zone)]
        found += [secret_names.origin(site.name)] if site.proxied else []
        found += [secret_names.tls(site.name)] if site.tls else []
    if directory is not None and directory.is_dynamic and joins_service(fleet):
        found += [TSIG]
    return [*dict.fromkeys(found)]


def len_of(policy: str) -> int:
    """Return the length of a policy as IAM counts it."""
    return len("".join(policy.split()))


def _sets(settings: Settings, fleet: FleetSettings) -> list[str]:
    directory = settings.service_discovery
    return memberships.sets_of(directory, fleet.joins) if directory is not None and not directory.is_dynamic else []


def _fault(settings: Settings, fleet: FleetSettings, owner_kind: str, length: int) -> Iterator[str]:
    sets = _sets(settings, fleet)
    secrets = workload_secrets.names_of(settings.workloads_of(fleet)) if owner_kind == "role" else []
    if length > MOST[owner_kind] and secrets:
        yield (
            f"rollcall:fleets.{fleet.name}.runs: the fleet joins {len(sets)} SRV sets and its workloads have {len(secrets)} secrets, so "
            f"the policy of its IAM role would have {length} characters, and IAM takes {MOST[owner_kind]}. Keep several secrets in one, or "
            "split the fleet."
        )
    elif length > MOST[owner_kind] and (releases := fetched(settings, fleet)):
        yield (
            f"rollcall:fleets.{fleet.name}.runs: the fleet joins {len(sets)} SRV sets and fetches {len(releases)} workloads from the "
            f"stack's bucket, so the policy of its IAM user would have {length} characters, and IAM takes {MOST[owner_kind]}. Make one "
            "workload of several, or split the fleet."
        )
    elif length > MOST[owner_kind]:
        yield (
            f"rollcall:fleets.{fleet.name}.joins: the fleet joins {len(sets)} SRV sets, so the policy of its IAM {owner_kind} would have "
            f"{length} characters, and IAM takes {MOST[owner_kind]}. Let it join fewer incarnations, split it into several fleets that "
            "share them, or lower the shards of those that it joins."
        )
