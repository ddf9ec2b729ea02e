"""Define the keys of a fleet for the machines themselves: their disks, and what their system is set to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from components.config.rules import Form, OneOf, refused
from components.config.section import Section

# /dev/sdf to /dev/sdp are for volumes: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html
DEVICES = tuple(f"sd{letter}" for letter in "fghijklmnop")
MOST_VOLUMES = len(DEVICES)


@dataclass(frozen=True, kw_only=True)
class VolumeType:
    """The ranges of a type of EBS volume: its size in GiB, its IOPS, and its throughput in MiB/s.

    A volume has at most `iops_per_gib`, and `throughput_per_iops`. `iops` None: they cannot be chosen.
    """

    size: tuple[int, int]
    iops: tuple[int, int] | None = None
    iops_per_gib: int = 0
    throughput: tuple[int, int] | None = None
    boots: bool = True
    # What a volume has if nothing is said; 0: it must be said.
    default_iops: int = 0


# https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html , provisioned-iops.html and hdd-vols.html . gp3 has had these
# ranges since September 2025.
VOLUME_TYPES = {
    "gp3": VolumeType(
        size=(1, 65_536), iops=(3_000, 80_000), iops_per_gib=500, throughput=(125, 2_000), default_iops=3_000
    ),
    "gp2": VolumeType(size=(1, 16_384)),
    "io2": VolumeType(size=(4, 65_536), iops=(100, 256_000), iops_per_gib=1_000),
    "io1": VolumeType(size=(4, 16_384), iops=(100, 64_000), iops_per_gib=50),
    "st1": VolumeType(size=(125, 16_384), boots=False),
    "sc1": VolumeType(size=(125, 16_384), boots=False),
}
# MiB/s for each of the IOPS of a gp3 volume.
THROUGHPUT_PER_IOPS = 0.25
BOOT_TYPES = tuple(name for name, each in VOLUME_TYPES.items() if each.boots)
# The provider reads back the ARN of the key. Any other name of it would be a difference at every preview, and replace the machines.
_KMS_KEY = Form(
    r"arn:aws(?:-[a-z]+)*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]{1,64}",
    "is not the ARN of a KMS key",
    "Write it as arn:aws:kms:eu-west-1:123456789012:key/…: `aws kms describe-key --key-id alias/NAME` shows it",
)
_MOUNT = Form(
    r"(?!(?:.*/)?\.\.?(?:/|$))/(?:srv|mnt|data|opt|var/lib)(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*",
    "is not a folder for a volume",
    "Write it as /srv/data: /srv, /mnt, /data, or a folder below one of these, below /opt or below /var/lib",
)
_SIZE = {"unit": " GiB"}


@dataclass(frozen=True, kw_only=True)
class BlockSettings(Section):
    """What every EBS volume has."""

    type: Annotated[str, OneOf(tuple(VOLUME_TYPES))] = "gp3"
    iops: Annotated[
        int | None,
        Field(
            strict=True,
            ge=100,
            le=256_000,
            description="of gp3 3000 to 80000, of io1 and io2, which need it, up to 64000 and 256000",
            json_schema_extra={"shown": "`3000` of gp3"},
        ),
    ] = None
    throughput: Annotated[
        int | None,
        Field(
            strict=True,
            ge=125,
            le=2_000,
            description="in MiB/s, of gp3 only. At most a quarter of `iops`",
            json_schema_extra={"shown": "`125` of gp3"},
        ),
    ] = None
    encrypted: Annotated[bool, Field(strict=True, description="encrypt the volume")] = True
    kms_key: Annotated[
        str | None,
        _KMS_KEY,
        Field(
            description="the ARN of the KMS key that encrypts it, in the fleet's region",
            json_schema_extra={"shown": "the account's default key for EBS"},
        ),
    ] = None

    @property
    def performance(self) -> dict[str, int]:
        """Return the IOPS and the throughput, for the types that have them. So a key that is removed has its default again."""
        kind, found = VOLUME_TYPES[self.type], dict[str, int]()
        if kind.iops is not None and (iops := self.iops or kind.default_iops):
            found["iops"] = iops
        if kind.throughput is not None:
            found["throughput"] = self.throughput or kind.throughput[0]
        return found


@dataclass(frozen=True, kw_only=True)
class DiskSettings(BlockSettings):
    """The root volume of a machine."""

    size: Annotated[
        int | None,
        Field(
            strict=True,
            ge=1,
            le=65_536,
            description="at least the size of the image. Another size replaces the machines, successors first",
            json_schema_extra={**_SIZE, "shown": "the size of the image"},
        ),
    ] = None
    type: Annotated[
        str,
        OneOf(BOOT_TYPES),
        Field(description="the type of the volume. `type`, `iops` and `throughput` change in place"),
    ] = "gp3"

    @property
    def is_default(self) -> bool:
        """Return whether the configuration says nothing of the disk."""
        return self == NO_DISK


# A disk of which the configuration says nothing.
NO_DISK = DiskSettings()


@dataclass(frozen=True, kw_only=True)
class VolumeSettings(BlockSettings):
    """A further volume of a machine. It is deleted with the machine."""

    size: Annotated[
        int,
        Field(
            strict=True, ge=1, le=65_536, description="the size of the volume", examples=[100], json_schema_extra=_SIZE
        ),
    ]
    type: Annotated[str, OneOf(tuple(VOLUME_TYPES)), Field(description="the type of the volume")] = "gp3"
    mount: Annotated[
        str,
        _MOUNT,
        Field(
            description="the folder at which each machine mounts it, with an ext4 file system, before a workload starts",
            examples=["/srv/data"],
        ),
    ]


_POLICY_ARN = Form(
    r"arn:aws(?:-[a-z]+)*:iam::(?:aws|[0-9]{12}):policy/[A-Za-z0-9+=,.@_/-]{1,512}",
    "is not the ARN of a managed policy",
    "Write it as arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess or arn:aws:iam::123456789012:policy/NAME",
)
_ACTION = Form(
    r"\*|[a-z0-9-]+:[A-Za-z0-9*?]+", "is not an action of AWS", "Write it as s3:GetObject; * stands for any text"
)
_RESOURCE = Form(
    r"\*|arn:[^\s:]+:[^\s:]+:[^\s]*", "is not the ARN of a resource", "Write it as arn:aws:s3:::my-bucket/*"
)
ALLOW, DENY = "allow", "deny"
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html#reference_iam-quotas-entities
MOST_MANAGED = 10


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise refused("is in it twice", "Name each once", name)
    return names


@dataclass(frozen=True, kw_only=True)
class StatementSettings(Section):
    """A statement of a policy, in the words of IAM."""

    effect: Annotated[str, OneOf((ALLOW, DENY)), Field(description="what the statement does")] = ALLOW
    actions: Annotated[
        tuple[Annotated[str, _ACTION], ...],
        Field(min_length=1, description="the actions, for example `[s3:GetObject]`", examples=[["s3:GetObject"]]),
    ]
    resources: Annotated[
        tuple[Annotated[str, _RESOURCE], ...],
        Field(
            min_length=1,
            description="the ARNs of the resources, or `*`",
            examples=[["arn:aws:s3:::my-bucket/*"]],
        ),
    ]
    conditions: Annotated[
        Mapping[str, Mapping[str, Any]],
        Field(description="the conditions as IAM has them: `{StringEquals: {aws:ResourceTag/team: web}}`"),
    ] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """Return the statement as IAM has it."""
        found = {"Effect": self.effect.capitalize(), "Action": [*self.actions], "Resource": [*self.resources]}
        return (
            {**found, "Condition": {key: dict(each) for key, each in self.conditions.items()}}
            if self.conditions
            else found
        )


@dataclass(frozen=True, kw_only=True)
class PoliciesSettings(Section):
    """What the workloads of an EC2 fleet may do in AWS."""

    managed: Annotated[
        tuple[Annotated[str, _POLICY_ARN], ...],
        Field(
            max_length=MOST_MANAGED,
            description="ARNs of managed policies of AWS or of your account",
            examples=[["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"]],
        ),
        AfterValidator(_once),
    ] = ()
    statements: Annotated[
        tuple[StatementSettings, ...],
        Field(
            description="statements of your own: `[{actions: [s3:GetObject], resources: ['arn:aws:s3:::my-bucket/*']}]`",
        ),
    ] = ()

    @property
    def document(self) -> str:
        """Return the inline policy with all statements; empty if there is none."""
        if not self.statements:
            return ""
        statements = [each.document for each in self.statements]
        return json.dumps({"Version": "2012-10-17", "Statement": statements}, sort_keys=True)


# The names of https://www.iana.org/time-zones : the machine refuses one that its tzdata does not have.
TIMEZONE = Form(
    r"UTC|[A-Z][A-Za-z_]+(?:/[A-Z][A-Za-z0-9_+-]*){1,2}", "is not the name of a time zone", "Write it as Europe/Berlin"
)
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,126}[A-Za-z0-9])?|\[[0-9A-Fa-f:]{2,39}\])"
PROXY = Form(
    rf"http://{_HOST}:[0-9]{{1,5}}/?",
    "is not the address of an HTTP proxy",
    "Write it as http://proxy.example.net:3128, without a user and a password: every machine setting can be read",
)
APT_MIRROR = Form(
    rf"https?://{_HOST}(?::[0-9]{{1,5}})?(?:/[A-Za-z0-9_.+-]+)*/?",
    "is not the address of a mirror for apt",
    "Write it as https://mirror.example.net/debian, without a user and a password",
)
_SYSLOG = Form(rf"{_HOST}:[0-9]{{1,5}}", "is not a host and a port", "Write it as logs.example.net:514")
_JOURNAL = Form(
    rf"https?://{_HOST}(?::[0-9]{{1,5}})?(?:/[A-Za-z0-9_.-]+)*/?",
    "is not the address of a journal receiver",
    "Write it as https://logs.example.net:19532, without a user and a password",
)


@dataclass(frozen=True, kw_only=True)
class LogsSettings(Section):
    """Where a machine sends its journal."""

    syslog: Annotated[
        str | None,
        _SYSLOG,
        Field(
            description="the host and the TCP port of a syslog server. The machine installs `rsyslog`",
            examples=["logs.example.net:514"],
        ),
    ] = None
    http: Annotated[
        str | None,
        _JOURNAL,
        Field(
            description="in place of `syslog`: the address of a receiver for `systemd-journal-upload`, which the machine installs",
            examples=["https://logs.example.net:19532"],
        ),
    ] = None

    @property
    def words(self) -> str:
        """Return the target as machine settings have it."""
        return f"syslog={self.syslog}" if self.syslog else f"http={self.http}"
