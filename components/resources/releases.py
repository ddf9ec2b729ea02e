"""Create the stack's release stores: one private bucket for each region with EC2 fleets, with the release that machines boot with.

A machine reads it with its instance role, which may get these objects, write the claims of its workloads' hooks and its
own report, and do nothing else with the bucket. The object's key is the release's digest, so another release is another
object. The engine creates it before the machines that name it. Former ones stay (components/resources/kept_releases.py).
Everything in a bucket is public in the repository or built from it, and none of it is secret.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.aws.region import own_region
from components.config.models import FleetSettings
from components.config.secret_names import KEY
from components.resources import aws_sdk as aws
from components.resources.kept_releases import KeptReleases, setting_of
from components.resources.release_files import FOLDER as FOLDER
from components.resources.release_files import clean_up, write
from components.resources.release_files import key_of as key_of
from components.resources.release_uploads import FILES, ReleaseUploads
from components.resources.tags import deployment
from components.resources.userdata import release
from components.workloads.release import Release
from rollcall.in_place import REPORTS, VIEWS

CLAIMS = "before"
# For how many days a bucket keeps what another client's change replaced, and the parts of an upload that broke off. An
# object that the stack deletes is deleted with all of its versions.
_KEEP_DAYS, _UPLOAD_DAYS, _REPORT_DAYS, _VIEW_DAYS = 30, 1, 1, 1


@dataclass(frozen=True, kw_only=True)
class ReleaseStoreArgs:
    """The inputs of a ReleaseStore.

    `release` is the agent's; None where no EC2 fleet is in the region. `workloads` are the operator's releases, by their
    names; those in `in_place` change on machines that run. Of each kind `keep` stay in the store. `reports`: machines
    that change in place write their reports there. `views`: machines write there what their resolvers answer.
    `datacenters` are those of Triton fleets that use the store. `region` is the bucket's region, and `provider` its
    provider, if it is not the stack's region.
    """

    release: Release | None
    region: str
    workloads: Mapping[str, Release] = field(default_factory=dict)
    in_place: Collection[str] = ()
    keep: int = 5
    reports: bool = False
    datacenters: Collection[str] = ()
    views: bool = False
    provider: pulumi.ProviderResource | None = None


class ReleaseStore(pulumi.ComponentResource):
    """A bucket that only the stack's machines read, and the release in it.

    `setting` is what a machine's settings say about the bucket, and `setting_by_key` the same for a machine that reads it
    with the access key of an IAM user. `objects` is the ARN of what machines may read. `made` is what must exist before a
    machine boots, and until it is deleted.
    """

    setting: pulumi.Output[str]
    objects: pulumi.Output[str]

    def __init__(self, name: str, args: ReleaseStoreArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("rollcall:index:ReleaseStore", name, None, opts)
        mine = pulumi.ResourceOptions(parent=self, provider=args.provider)
        bucket = aws.s3.Bucket(f"rollcall-{name}", force_destroy=True, opts=mine)
        closed = aws.s3.BucketPublicAccessBlock(
            f"{name}-closed",
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=mine,
        )
        encrypted = aws.s3.BucketServerSideEncryptionConfiguration(
            f"{name}-encrypted",
            bucket=bucket.id,
            rules=[{"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}],
            opts=mine,
        )
        versioned = aws.s3.BucketVersioning(
            f"{name}-versioned", bucket=bucket.id, versioning_configuration={"status": "Enabled"}, opts=mine
        )
        # S3 takes only one change of a bucket at a time. The provider repeats a change that S3 refuses meanwhile.
        policy = aws.s3.BucketPolicy(
            f"{name}-policy",
            bucket=bucket.id,
            policy=bucket.arn.apply(tls_only),
            opts=pulumi.ResourceOptions.merge(mine, pulumi.ResourceOptions(depends_on=[closed])),
        )
        lifecycle = aws.s3.BucketLifecycleConfiguration(
            f"{name}-lifecycle",
            bucket=bucket.id,
            rules=lifecycle_rules(args.reports, args.views),
            opts=pulumi.ResourceOptions.merge(mine, pulumi.ResourceOptions(depends_on=[versioned])),
        )
        companions: list[pulumi.Resource] = [bucket, closed, encrypted, versioned, policy, lifecycle]
        named = {f"{name}-release": args.release} if args.release else {}
        named.update({f"{name}-workload-{each}": of for each, of in args.workloads.items()})
        uploaded = {of.digest: of for each, of in args.workloads.items() if of.is_large or each in args.in_place}
        ready = pulumi.ResourceOptions(depends_on=companions, retain_on_delete=True)
        objects: list[pulumi.Resource] = [
            aws.s3.BucketObjectv2(
                title,
                bucket=bucket.id,
                key=key_of(release.digest),
                content_base64=base64.b64encode(release.packed).decode(),
                content_type="application/x-tar",
                # An object takes ten tags, and the provider would give it all of `aws:defaultTags`.
                override_provider={"default_tags": {"tags": {}}},
                opts=pulumi.ResourceOptions.merge(mine, ready),
            )
            for title, release in named.items()
            if release.digest not in uploaded
        ]
        if uploaded:
            files = {key_of(digest): release for digest, release in uploaded.items()}
            if not pulumi.runtime.is_dry_run():
                write(FILES, files.values())
                clean_up(FILES, files)
            objects.append(
                ReleaseUploads(
                    f"{name}-uploads",
                    bucket=bucket.id,
                    region=args.region,
                    named=sorted(files),
                    opts=pulumi.ResourceOptions(parent=self, depends_on=companions),
                )
            )
        KeptReleases(
            f"{name}-kept",
            bucket=bucket.id,
            region=args.region,
            named={title: key_of(release.digest) for title, release in named.items()},
            keep=args.keep,
            reports=args.reports,
            stack=deployment(),
            datacenters=sorted(args.datacenters),
            opts=pulumi.ResourceOptions(parent=self, depends_on=objects),
        )
        self.setting = bucket.id.apply(lambda made: setting_of(made, args.region))
        self.objects = bucket.arn.apply(lambda arn: f"{arn}/{FOLDER}/*")
        self._arn = bucket.arn
        region = args.region
        self.setting_by_key = bucket.id.apply(
            lambda made: f"s3 endpoint=https://{made}.s3.{region}.{domain_of(region)} region={region} key={KEY}"
        )
        self.made: list[pulumi.Resource] = [*companions, *objects]
        self.register_outputs({"setting": self.setting})

    def object_of(self, release: Release) -> pulumi.Output[str]:
        """Return the ARN of a release's object."""
        return self._arn.apply(lambda arn: f"{arn}/{key_of(release.digest)}")

    def reports(self, fleet: str) -> pulumi.Output[str]:
        """Return the ARN of the folder with the reports of a fleet's machines (docs/decisions/0020)."""
        return self._arn.apply(lambda arn: f"{arn}/{REPORTS}/{fleet}")

    def views(self, fleet: str) -> pulumi.Output[str]:
        """Return the ARN of the folder with what a fleet's machines report about their resolvers (docs/decisions/0028)."""
        return self._arn.apply(lambda arn: f"{arn}/{VIEWS}/{fleet}")

    def claims(self, workload: str) -> pulumi.Output[str]:
        """Return the ARN of the claims of a workload's hooks, one for each release (docs/decisions/0016)."""
        return self._arn.apply(lambda arn: claims_of(arn, workload))


def lifecycle_rules(reports: bool, views: bool = False) -> list[dict[str, Any]]:
    """Return what a bucket deletes by itself. A report replaces the one before it, which is of no use for long.

    A machine writes its view again and again. So an old one is that of a machine that is gone.
    """
    left_behind = {
        "id": "left-behind",
        "status": "Enabled",
        "filter": {"prefix": f"{FOLDER}/"},
        "noncurrent_version_expiration": {"noncurrent_days": _KEEP_DAYS},
        "abort_incomplete_multipart_upload": {"days_after_initiation": _UPLOAD_DAYS},
    }
    former = {
        "id": "former-reports",
        "status": "Enabled",
        "filter": {"prefix": f"{REPORTS}/"},
        "noncurrent_version_expiration": {"noncurrent_days": _REPORT_DAYS},
    }
    of_gone = {
        "id": "former-views",
        "status": "Enabled",
        "filter": {"prefix": f"{VIEWS}/"},
        "expiration": {"days": _VIEW_DAYS},
        "noncurrent_version_expiration": {"noncurrent_days": _VIEW_DAYS},
    }
    return [left_behind, *([former] if reports else []), *([of_gone] if views else [])]


def claims_of(bucket: str, workload: str) -> str:
    """Return the ARN of a workload's claims in the bucket with this ARN, as userdata/rollcall/before.py names them."""
    return f"{bucket}/{CLAIMS}/{workload}/*"


def domain_of(region: str) -> str:
    """Return the domain of AWS's services in a region.

    https://docs.aws.amazon.com/general/latest/gr/s3.html
    """
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"


def tls_only(bucket: str) -> str:
    """Return the policy of a bucket with this ARN: no access over plain HTTP.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html#transit
    """
    statement = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [bucket, f"{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, sort_keys=True)


def stores(
    fleets: Iterable[FleetSettings],
    providers: Mapping[str | None, pulumi.ProviderResource],
    release_of: Callable[[str], Release],
    keep: int = 5,
    fetched: Collection[str] = (),
    views: Collection[str] = (),
    opts: pulumi.ResourceOptions | None = None,
) -> dict[str | None, ReleaseStore]:
    """Create a store for each region that EC2 fleets are in, by the region as fleets name it.

    `release_of` returns the release of a workload. `keep` releases of each workload stay in its store. `fetched` are the
    workloads that machines of another cloud fetch from the store of the stack's region. `views` are the regions with
    machines that report about their resolvers.
    """
    run: dict[str, set[str]] = {"": {*fetched}} if fetched else {}
    fleets = tuple(fleets)
    in_ec2 = [each for each in fleets if each.cloud == "aws"]
    in_place = {name for each in fleets if each.in_place for name in each.digests}
    datacenters = {each.region or "" for each in fleets if each.cloud == "joyent"} if fetched else set[str]()
    for each in in_ec2:
        run.setdefault(each.region or "", set()).update(each.digests)
    return {
        region or None: ReleaseStore(
            f"releases-{region}" if region else "releases",
            ReleaseStoreArgs(
                release=release() if any((each.region or "") == region for each in in_ec2) else None,
                region=region or own_region(pulumi.runtime.get_config),
                provider=providers.get(region or None),
                workloads={name: release_of(name) for name in sorted(run[region])},
                in_place=in_place,
                keep=keep,
                reports=any(each.in_place and (each.region or "") == region for each in in_ec2),
                datacenters=() if region else datacenters,
                views=region in views,
            ),
            opts,
        )
        for region in sorted(run)
    }
