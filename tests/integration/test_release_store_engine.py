"""The release stores under the real engine: what a bucket is like, when a release comes and goes, and that a stack leaves none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from components.resources.release_files import key_of
from tests.integration.engine_harness import Trial, on_trial

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
PROGRAM = """
import hashlib
import json
import os
import pulumi
import pulumi_aws as aws
from components.resources import ec2_lookups, releases, userdata
from components.resources.fleets.base import FleetArgs
from components.resources.fleets.ec2 import Ec2Fleet
from components.resources.fleets.roll_calls import call_rolls
from components.resources.tags import tag_everything
from components.resources.dns_credentials import InstanceRole, InstanceRoleArgs
from components.config.models import FleetSettings

options = {"release": "one", "regions": {"web": None}} | json.loads(os.environ["TRIAL"])
tar = options["release"].encode()
made = userdata.Release(digest=hashlib.sha256(tar).hexdigest(), tar=tar)
userdata.release = releases.release = lambda: made
userdata.sources_hash = lambda: made.digest[:16]
tag_everything()
fleets = [
    FleetSettings(name=name, cloud="aws", joins=(), count=2, image="debian-12", size="t3.micro", region=region)
    for name, region in options["regions"].items()
]
providers = ec2_lookups.providers(fleets)
stores = releases.stores(fleets, providers, lambda _: made, keep=2)
called = []
for each in fleets:
    store, provider = stores[each.region], providers.get(each.region)
    role = InstanceRole(each.name, InstanceRoleArgs(objects=store.objects, region=each.region, provider=provider))
    args = FleetArgs(settings=each, memberships=[], needs=[*role.all_made, *store.made], profile=role.profile, store=store.setting)
    called.append(Ec2Fleet(each.name, args, pulumi.ResourceOptions(providers=[provider]) if provider else None))
call_rolls(called)
"""
AWAY = "eu-west-1"


def digest(release: str) -> str:
    return hashlib.sha256(release.encode()).hexdigest()


class Stores:
    """A trial, and what each region has of releases and machines."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.log: list[tuple[str, str, set[str]]] = []
        aws, real = trial.aws.aws, trial.aws.aws.s3.answer

        def answer(call: Any, check: Any) -> Any:
            reply = real(call, check)
            if "/releases/" in call.path and call.method in ("PUT", "DELETE"):
                self.log.append((call.method, call.path.rpartition("/")[2][:64], self.named()))
            return reply

        aws.s3.answer = answer  # type: ignore[method-assign]

    def buckets(self) -> list[str]:
        return [each["Name"] for each in self.trial.aws.client("s3").list_buckets()["Buckets"]]

    def named(self) -> set[str]:
        """The releases that machines name which are not terminated."""
        found = set()
        for region in ("us-west-2", AWAY):
            listed = self.trial.aws.client("ec2", region=region).describe_instances()["Reservations"]
            for each in (one for reservation in listed for one in reservation["Instances"]):
                if each["State"]["Name"] not in ("terminated", "shutting-down"):
                    found |= {tag["Value"] for tag in each["Tags"] if tag["Key"] == "rollcall-release"}
        return found

    def objects(self, bucket: str, region: str = "us-west-2") -> set[str]:
        """Every version of everything that is in a bucket, by its key."""
        found = self.trial.aws.client("s3", region=region).list_object_versions(Bucket=bucket)
        return {each["Key"] for each in (*found.get("Versions", ()), *found.get("DeleteMarkers", ()))}


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with on_trial(tmp_path, PROGRAM) as made:
        yield Stores(made)


def test_a_bucket_is_private_and_keeps_the_last_two_releases(stores: Stores) -> None:
    trial = stores.trial
    trial.up()
    (bucket,) = stores.buckets()
    s3 = trial.aws.client("s3")
    assert bucket.startswith("rollcall-releases-") and stores.objects(bucket) == {key_of(digest("one"))}
    closed = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert len(closed) == 4 and all(closed.values())
    (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    tags = {each["Key"]: each["Value"] for each in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]}
    assert tags == {"rollcall-stack": "trial.trial", "rollcall-project": "trial", "managed-by": "pulumi"}
    assert s3.get_object_tagging(Bucket=bucket, Key=key_of(digest("one")))["TagSet"] == []
    assert "unchanged" in trial.run("preview", "--expect-no-changes")

    stores.log.clear()
    trial.up(release="two")
    assert stores.objects(bucket) == {key_of(digest(each)) for each in ("one", "two")}
    assert stores.named() == {digest("two")}
    assert stores.log == [("PUT", digest("two"), {digest("one")})], "the new one is there before a machine names it"
    # The third takes the place of the first, which no machine names.
    stores.log.clear()
    trial.up(release="three")
    assert stores.objects(bucket) == {key_of(digest(each)) for each in ("two", "three")}
    put, *deleted = stores.log
    assert put == ("PUT", digest("three"), {digest("two")})
    assert deleted and {found for _, found, _ in deleted} == {digest("one")}
    # Back to a former one: it is still there, and stays.
    trial.up(release="two")
    assert stores.objects(bucket) == {key_of(digest(each)) for each in ("two", "three")}
    assert "unchanged" in trial.run("preview", "--expect-no-changes", release="two")

    # A user deletes the object, or opens the bucket: a difference, and `up` puts it right.
    s3.delete_object(Bucket=bucket, Key=key_of(digest("two")))
    s3.delete_public_access_block(Bucket=bucket)
    shown = trial.run("preview", "--diff", release="two")
    assert "releases-release" in shown and "releases-closed" in shown and "ec2/instance" not in shown, shown
    trial.up(release="two")
    assert s3.head_object(Bucket=bucket, Key=key_of(digest("two")))
    assert "unchanged" in trial.run("preview", "--expect-no-changes", release="two")

    # What others put there goes with the bucket.
    s3.put_object(Bucket=bucket, Key="by-hand", Body=b"x")
    trial.run("destroy", "--yes", "--skip-preview")
    assert stores.buckets() == []


def test_each_region_with_fleets_has_a_bucket_and_a_fleet_that_moves_takes_its_own_along(stores: Stores) -> None:
    trial = stores.trial
    trial.up(regions={"home": None, "away": AWAY, "beside": AWAY})
    assert len(stores.buckets()) == 2
    (there,) = (each for each in stores.buckets() if AWAY in each)
    abroad = trial.aws.client("s3", region=AWAY)
    assert abroad.head_bucket(Bucket=there)["BucketRegion"] == AWAY
    assert stores.objects(there, AWAY) == {key_of(digest("one"))}
    found = trial.aws.client("ec2", region=AWAY).describe_instances()["Reservations"]
    given = {tag["Value"] for each in found for tag in each["Instances"][0]["Tags"] if tag["Key"] == "rollcall-store"}
    assert given == {f"s3 bucket={there} region={AWAY}"}
    stores.log.clear()
    trial.up(regions={"home": None})
    assert len(stores.buckets()) == 1 and there not in stores.buckets()
    trial.run("destroy", "--yes", "--skip-preview")
    assert stores.buckets() == []


def test_a_role_reads_the_releases_of_its_store_and_nothing_else(stores: Stores) -> None:
    trial = stores.trial
    trial.up()
    (bucket,) = stores.buckets()
    (instance, *_) = trial.aws.client("ec2").describe_instances()["Reservations"]
    # The hypervisor of a trial boots nothing, and the metadata service knows the instance all the same.
    address = instance["Instances"][0]["PublicIpAddress"]
    path = "meta-data/iam/security-credentials/"
    keys = json.loads(trial.aws.metadata(address, path + trial.aws.metadata(address, path)[1])[1])
    machine = trial.aws.client("s3", (keys["AccessKeyId"], keys["SecretAccessKey"], keys["Token"]))
    assert machine.get_object(Bucket=bucket, Key=key_of(digest("one")))["Body"].read()
    trial.aws.client("s3").put_object(Bucket=bucket, Key="elsewhere", Body=b"x")
    tried: tuple[Callable[[], Any], ...] = (
        lambda: machine.get_object(Bucket=bucket, Key="elsewhere"),
        lambda: machine.list_objects_v2(Bucket=bucket),
        lambda: machine.put_object(Bucket=bucket, Key=key_of(digest("one")), Body=b"another"),
        lambda: machine.delete_object(Bucket=bucket, Key=key_of(digest("one"))),
        lambda: machine.put_bucket_policy(Bucket=bucket, Policy="{}"),
        lambda: machine.list_buckets(),
    )
    for act in tried:
        with pytest.raises(ClientError, match="AccessDenied"):
            act()
    trial.run("destroy", "--yes", "--skip-preview")
