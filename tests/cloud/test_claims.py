"""rollcall.before.S3Claims on the local S3: conditional writes, and the rights that they need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from components.resources.dns_credentials import policy_document
from components.resources.releases import claims_of
from rollcall import before, bucket
from rollcall.aws import AwsRefusedError
from rollcall.sigv4 import Credentials
from tests.cloud.aws_cloud import Cloud, running

pytestmark = pytest.mark.clouds
BUCKET, KEY = "rollcall-releases-1a2b3c4", "before/shop/d"
STORE = f"s3 bucket={BUCKET} region=us-west-2"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as made:
        s3 = made.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield made


@pytest.fixture(params=["role", "key"])
def claims(request: pytest.FixtureRequest, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> before.S3Claims:
    """The claims as a machine reaches them that may run the workload `shop`, and no other: by its role, or by the key of a user."""
    policy = policy_document([], [], f"arn:aws:s3:::{BUCKET}/releases/*", [claims_of(f"arn:aws:s3:::{BUCKET}", "shop")])
    if request.param == "key":
        iam = cloud.client("iam")
        iam.create_user(UserName="fleet")
        iam.put_user_policy(UserName="fleet", PolicyName="own", PolicyDocument=policy)
        made = iam.create_access_key(UserName="fleet")["AccessKey"]
        keys = {"route53-key": f"{made['AccessKeyId']} {made['SecretAccessKey']}"}
        words = f"s3 endpoint={cloud.url} bucket={BUCKET} region=us-west-2 key=route53-key"
        return before.S3Claims(words, keys.__getitem__)
    (instance,) = cloud.run(IamInstanceProfile={"Name": cloud.role("machines", json.loads(policy))})
    key, secret, token = cloud.credentials(instance)

    class Role:
        def __init__(self, *_: object) -> None: ...

        def current(self) -> Credentials:
            return Credentials(key, secret, token)

        def renew(self) -> bool:
            return False

    monkeypatch.setattr(bucket, "InstanceRole", Role)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", cloud.url)
    return before.S3Claims(STORE)


def test_of_many_machines_at_once_one_makes_the_claim(claims: before.S3Claims) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [*pool.map(lambda number: claims.create(KEY, f"claim of {number}"), range(24))]
    assert made.count(True) == 1 and claims.read(KEY) == f"claim of {made.index(True)}"


def test_of_many_machines_at_once_one_changes_it(claims: before.S3Claims) -> None:
    assert claims.create(KEY, "old")
    with ThreadPoolExecutor(8) as pool:
        made = [*pool.map(lambda number: claims.change(KEY, "old", f"new {number}"), range(24))]
    assert made.count(True) == 1 and claims.read(KEY) == f"new {made.index(True)}"
    assert not claims.change(KEY, "old", "x")


def test_one_that_the_operator_has_deleted_is_free_again(claims: before.S3Claims, cloud: Cloud) -> None:
    assert claims.create(KEY, "failed") and not claims.create(KEY, "other")
    cloud.client("s3").delete_object(Bucket=BUCKET, Key=KEY)
    assert not claims.change(KEY, "failed", "x") and claims.create(KEY, "other")


def test_a_machine_writes_the_claims_of_its_workloads_only(claims: before.S3Claims) -> None:
    for key in ("before/api/d", "before/shop-2/d", "releases/d.tar.bz2"):
        with pytest.raises(AwsRefusedError) as refused:
            claims.create(key, "x")
        assert refused.value.code == "AccessDenied"


def test_what_s3_does_not_do_the_local_one_refuses(cloud: Cloud) -> None:
    s3 = cloud.client("s3")
    with pytest.raises(s3.exceptions.ClientError, match="NotImplemented"):
        s3.put_object(Bucket=BUCKET, Key="x", Body=b"", IfNoneMatch='"etag"')
    with pytest.raises(s3.exceptions.ClientError, match="NoSuchKey"):
        s3.put_object(Bucket=BUCKET, Key="x", Body=b"", IfMatch='"etag"')


def test_a_key_with_a_colon_is_sent_and_signed_as_s3_expects(claims: before.S3Claims) -> None:
    """The report of a machine has such a key (rollcall.in_place.report_key)."""
    assert claims.create("before/shop/AROA:i-1.json", "x")
    assert claims.read("before/shop/AROA:i-1.json") == "x"
