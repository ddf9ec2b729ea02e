"""S3 of the local AWS: who may do what, what is refused and by which code, and what a client gets."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest
import requests
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.cloud.aws_cloud import OPERATOR, Cloud, allow, running

pytestmark = pytest.mark.clouds
BUCKET, HERE = "one-bucket", {"LocationConstraint": "us-west-2"}
ARN = f"arn:aws:s3:::{BUCKET}"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as made:
        made.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=HERE)
        yield made


@pytest.fixture
def s3(cloud: Cloud) -> Any:
    return cloud.client("s3")


def refused(code: str, call: Callable[[], Any], status: int = 0) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response
    assert error["Error"]["Code"] == code, error
    assert not status or error["ResponseMetadata"]["HTTPStatusCode"] == status
    return str(error["Error"]["Message"])


def machine(cloud: Cloud, *policies: dict[str, Any]) -> tuple[str, ...]:
    """The credentials of a machine with a role that has these rights."""
    statements = [each for policy in policies for each in policy["Statement"]]
    cloud.role("machine", {"Version": "2012-10-17", "Statement": statements} if statements else None)
    (instance,) = cloud.run(IamInstanceProfile={"Name": "machine"})
    return cloud.credentials(instance)


def sent(
    cloud: Cloud,
    path: str,
    key: tuple[str, ...] = OPERATOR,
    *,
    region: str = "us-west-2",
    host: str = "",
    headers: Mapping[str, str] | None = None,
) -> requests.Response:
    """A GET signed as S3 wants it; `headers` are added after that."""
    request = AWSRequest("GET", f"http://{host}{path}" if host else cloud.url + path)
    S3SigV4Auth(Credentials(*key), "s3", region).add_auth(request)
    given = {**dict(request.headers), **(headers or {}), **({"Host": host} if host else {})}
    given_settings = {name: value for name, value in given.items() if value}
    return requests.get(cloud.url + path, headers=given_settings, timeout=10)


def code(reply: requests.Response) -> str:
    return reply.text.partition("<Code>")[2].partition("<")[0]


class TestRights:
    def test_a_missing_object_is_forbidden_without_the_permission_to_list(self, cloud: Cloud, s3: Any) -> None:
        s3.put_object(Bucket=BUCKET, Key="releases/a", Body=b"x")
        reader = cloud.client("s3", machine(cloud, allow("s3:GetObject", f"{ARN}/releases/*")))
        assert reader.get_object(Bucket=BUCKET, Key="releases/a")["Body"].read() == b"x"
        message = refused("AccessDenied", lambda: reader.get_object(Bucket=BUCKET, Key="releases/b"), 403)
        assert "s3:ListBucket" in message
        refused("AccessDenied", lambda: reader.get_object(Bucket=BUCKET, Key="other"), 403)
        refused("403", lambda: reader.head_object(Bucket=BUCKET, Key="releases/b"), 403)

    def test_a_missing_object_is_not_found_with_the_permission_to_list(self, cloud: Cloud, s3: Any) -> None:
        reader = cloud.client("s3", machine(cloud, allow("s3:GetObject", f"{ARN}/*"), allow("s3:ListBucket", ARN)))
        refused("NoSuchKey", lambda: reader.get_object(Bucket=BUCKET, Key="b"), 404)
        refused("NoSuchKey", lambda: s3.get_object(Bucket=BUCKET, Key="b"), 404)
        refused("404", lambda: s3.head_object(Bucket=BUCKET, Key="b"), 404)

    def test_a_reader_can_do_nothing_else(self, cloud: Cloud, s3: Any) -> None:
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"x")
        reader = cloud.client("s3", machine(cloud, allow("s3:GetObject", f"{ARN}/*")))
        for act in (
            lambda: reader.list_objects_v2(Bucket=BUCKET),
            lambda: reader.put_object(Bucket=BUCKET, Key="a", Body=b"y"),
            lambda: reader.delete_object(Bucket=BUCKET, Key="a"),
            lambda: reader.get_object(Bucket=BUCKET, Key="a", VersionId="null"),
            lambda: reader.get_object_tagging(Bucket=BUCKET, Key="a"),
            lambda: reader.get_bucket_policy(Bucket=BUCKET),
            lambda: reader.delete_bucket(Bucket=BUCKET),
            lambda: reader.create_bucket(Bucket="another", CreateBucketConfiguration=HERE),
            lambda: reader.list_buckets(),
        ):
            refused("AccessDenied", act, 403)
        gone = reader.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "a"}]})
        assert [each["Code"] for each in gone["Errors"]] == ["AccessDenied"]
        assert s3.get_object(Bucket=BUCKET, Key="a")["Body"].read() == b"x"

    def test_what_a_buckets_policy_denies_is_denied_to_everybody(self, cloud: Cloud, s3: Any) -> None:
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"x")
        key = machine(cloud, allow("s3:*"))
        statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": f"{ARN}/*"}
        s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        for client in (s3, cloud.client("s3", key)):
            message = refused("AccessDenied", lambda client=client: client.get_object(Bucket=BUCKET, Key="a"), 403)  # type: ignore[misc]
            assert "with an explicit deny in a resource-based policy" in message
        statement["Condition"] = {"Bool": {"aws:SecureTransport": "false"}}  # type: ignore[assignment]
        s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        assert s3.get_object(Bucket=BUCKET, Key="a")["Body"].read() == b"x"

    def test_a_policy_may_allow_a_role_what_its_own_does_not(self, cloud: Cloud, s3: Any) -> None:
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"x")
        reader = cloud.client("s3", machine(cloud))
        refused("AccessDenied", lambda: reader.get_object(Bucket=BUCKET, Key="a"))
        role = f"arn:aws:iam::{cloud.aws.account}:role/machine"
        for principal, may in (({"AWS": "arn:aws:iam::123456789012:root"}, False), ({"AWS": [role]}, True)):
            statement = {"Effect": "Allow", "Principal": principal, "Action": "s3:GetObject", "Resource": f"{ARN}/a"}
            s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
            if may:
                assert reader.get_object(Bucket=BUCKET, Key="a")["Body"].read() == b"x"
            else:
                refused("AccessDenied", lambda: reader.get_object(Bucket=BUCKET, Key="a"))

    def test_a_public_policy_is_refused_as_long_as_the_bucket_is_closed(self, s3: Any) -> None:
        statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"{ARN}/*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        refused("AccessDenied", lambda: s3.put_bucket_policy(Bucket=BUCKET, Policy=policy), 403)
        s3.delete_public_access_block(Bucket=BUCKET)
        s3.put_bucket_policy(Bucket=BUCKET, Policy=policy)


class TestSignature:
    def test_host_and_path_style_lead_to_the_same_object(self, cloud: Cloud, s3: Any) -> None:
        s3.put_object(Bucket=BUCKET, Key="releases/a b+c", Body=b"x")
        path = f"/{quote('releases/a b+c')}"
        for host, where in (
            (f"{BUCKET}.s3.us-west-2.amazonaws.com", path),
            ("s3.us-west-2.amazonaws.com", f"/{BUCKET}{path}"),
            ("", f"/{BUCKET}{path}"),
        ):
            assert sent(cloud, where, host=host).content == b"x", (host, where)
        refusal = sent(cloud, path, host=f"{BUCKET}.s3.eu-west-1.amazonaws.com", region="eu-west-1")
        assert (refusal.status_code, code(refusal)) == (301, "PermanentRedirect")

    def test_a_signature_for_another_region_is_refused(self, cloud: Cloud) -> None:
        for region, words in (("eu-west-1", "expecting &apos;us-west-2&apos;"), ("us-east-9", "is wrong")):
            reply = sent(cloud, f"/{BUCKET}/a", region=region)
            assert (reply.status_code, code(reply)) == (400, "AuthorizationHeaderMalformed")
            assert words in reply.text or words.replace("&apos;", "'") in reply.text

    @pytest.mark.parametrize(
        ("headers", "status", "message"),
        [
            ({"X-Amz-Content-SHA256": ""}, 400, "InvalidRequest"),
            ({"X-Amz-Content-SHA256": hashlib.sha256(b"other").hexdigest()}, 400, "XAmzContentSHA256Mismatch"),
            ({"X-Amz-Meta-Added": "later"}, 403, "AccessDenied"),
            ({"Authorization": ""}, 403, "AccessDenied"),
            ({"Authorization": "AWS4-HMAC-SHA256 nonsense"}, 400, "IncompleteSignature"),
            ({"X-Amz-Date": "20200101T000000Z"}, 403, "SignatureDoesNotMatch"),
        ],
        ids=str,
    )
    def test_what_is_not_signed_as_s3_wants_it_is_refused(
        self, cloud: Cloud, headers: dict[str, str], status: int, message: str
    ) -> None:
        # What is not signed names the service by its host only.
        host = "" if "Authorization" not in headers or headers["Authorization"] else "s3.us-west-2.amazonaws.com"
        reply = sent(cloud, f"/{BUCKET}/a", host=host, headers=headers)
        assert (reply.status_code, code(reply)) == (status, message), reply.text

    def test_the_token_of_a_role_is_part_of_it(self, cloud: Cloud, s3: Any) -> None:
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"x")
        key, secret, token = machine(cloud, allow("s3:GetObject", f"{ARN}/*"))
        assert sent(cloud, f"/{BUCKET}/a", (key, secret, token)).content == b"x"
        for wrong in ((key, secret), (key, secret, "another")):
            reply = sent(cloud, f"/{BUCKET}/a", wrong)
            assert (reply.status_code, code(reply)) == (400, "InvalidToken")
        cloud.clock.ahead = 7 * 3600
        reply = sent(cloud, f"/{BUCKET}/a", (key, secret, token))
        assert (reply.status_code, code(reply)) == (400, "ExpiredToken")

    def test_keys_that_are_not_known_and_clocks_that_are_wrong_have_codes_of_s3(self, cloud: Cloud) -> None:
        reply = sent(cloud, f"/{BUCKET}/a", ("AKIANOBODY", "x"))
        assert (reply.status_code, code(reply)) == (403, "InvalidAccessKeyId")
        reply = sent(cloud, f"/{BUCKET}/a", (OPERATOR[0], "wrong"))
        assert (reply.status_code, code(reply)) == (403, "SignatureDoesNotMatch")
        for ahead, status in ((600.0, 404), (1000.0, 403)):
            cloud.clock.ahead = ahead
            reply = sent(cloud, f"/{BUCKET}/a")
            assert (
                reply.status_code == status and code(reply) == {404: "NoSuchKey", 403: "RequestTimeTooSkewed"}[status]
            )


class TestBuckets:
    @pytest.mark.parametrize("name", ["Up", "a", "ab", "a..b", "1.2.3.4", "xn--a", "a-s3alias", "-ab", "x" * 64])
    def test_a_name_that_none_may_have_is_refused(self, cloud: Cloud, name: str) -> None:
        request = AWSRequest("PUT", f"{cloud.url}/{name}")
        S3SigV4Auth(Credentials(*OPERATOR), "s3", "us-west-2").add_auth(request)
        reply = requests.put(f"{cloud.url}/{name}", headers=dict(request.headers), timeout=10)
        assert (reply.status_code, code(reply)) == (400, "InvalidBucketName")

    def test_a_bucket_is_made_where_the_request_goes(self, cloud: Cloud, s3: Any) -> None:
        abroad = cloud.client("s3", region="eu-west-1")
        refused("IllegalLocationConstraintException", lambda: s3.create_bucket(Bucket="second"), 400)
        refused(
            "IllegalLocationConstraintException",
            lambda: abroad.create_bucket(Bucket="second", CreateBucketConfiguration=HERE),
        )
        abroad.create_bucket(Bucket="second", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        assert abroad.get_bucket_location(Bucket="second")["LocationConstraint"] == "eu-west-1"
        assert abroad.head_bucket(Bucket="second")["BucketRegion"] == "eu-west-1"
        refused("BucketAlreadyOwnedByYou", lambda: s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=HERE), 409)
        assert [each["Name"] for each in s3.list_buckets()["Buckets"]] == [BUCKET, "second"]

    def test_names_are_shared_by_all_accounts(self, cloud: Cloud) -> None:
        with running() as other:
            cloud.aws.beside([cloud.aws, other.aws])
            other.client("s3").create_bucket(Bucket="theirs", CreateBucketConfiguration=HERE)
            mine = cloud.client("s3")
            refused("BucketAlreadyExists", lambda: mine.create_bucket(Bucket="theirs", CreateBucketConfiguration=HERE))
            refused("AccessDenied", lambda: mine.get_object(Bucket="theirs", Key="a"), 403)
            refused("NoSuchBucket", lambda: mine.get_object(Bucket="nobodys", Key="a"), 404)

    def test_a_new_one_is_closed_encrypted_and_not_versioned(self, s3: Any) -> None:
        closed = s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
        assert len(closed) == 4 and all(closed.values())
        (rule,) = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
        assert "Status" not in s3.get_bucket_versioning(Bucket=BUCKET)
        for missing, ask in (
            ("NoSuchBucketPolicy", s3.get_bucket_policy),
            ("NoSuchLifecycleConfiguration", s3.get_bucket_lifecycle_configuration),
            ("NoSuchTagSet", s3.get_bucket_tagging),
            ("NoSuchCORSConfiguration", s3.get_bucket_cors),
            ("NoSuchWebsiteConfiguration", s3.get_bucket_website),
            ("ReplicationConfigurationNotFoundError", s3.get_bucket_replication),
        ):
            refused(missing, lambda ask=ask: ask(Bucket=BUCKET), 404)  # type: ignore[misc]
        assert s3.get_bucket_request_payment(Bucket=BUCKET)["Payer"] == "BucketOwner"
        assert len(s3.get_bucket_acl(Bucket=BUCKET)["Grants"]) == 1
        s3.delete_public_access_block(Bucket=BUCKET)
        refused("NoSuchPublicAccessBlockConfiguration", lambda: s3.get_public_access_block(Bucket=BUCKET), 404)

    @pytest.mark.parametrize(
        ("code", "rule"),
        [
            ("MalformedXML", {"Status": "on"}),
            ("InvalidRequest", {}),
            ("InvalidArgument", {"NoncurrentVersionExpiration": {"NoncurrentDays": 0}}),
        ],
    )
    def test_a_lifecycle_that_says_nothing_is_refused(self, s3: Any, code: str, rule: dict[str, Any]) -> None:
        given_settings = {"ID": "a", "Status": "Enabled", "Filter": {"Prefix": ""}, **rule}
        refused(
            code,
            lambda: s3.put_bucket_lifecycle_configuration(
                Bucket=BUCKET, LifecycleConfiguration={"Rules": [given_settings]}
            ),
            400,
        )

    @pytest.mark.parametrize("policy", ["nonsense", '{"Statement": []', '{"Statement": [{"Effect": "Deny"}]}', json.dumps({
        "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "arn:aws:s3:::other"}]
    })])  # fmt: skip
    def test_a_policy_that_is_none_or_about_another_bucket_is_refused(self, s3: Any, policy: str) -> None:
        refused("MalformedPolicy", lambda: s3.put_bucket_policy(Bucket=BUCKET, Policy=policy), 400)

    def test_tags_are_counted_and_have_letters_that_s3_takes(self, s3: Any) -> None:
        def tag(*keys: str) -> None:
            s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": [{"Key": key, "Value": ""} for key in keys]})

        for keys in (("a", "a"), ("aws:x",), ("a?",), ("x" * 129,)):
            refused("InvalidTag", lambda keys=keys: tag(*keys), 400)  # type: ignore[misc]
        refused("BadRequest", lambda: tag(*(f"k{each}" for each in range(51))), 400)
        tag(*(f"k{each}" for each in range(50)))


class TestObjects:
    def test_a_deleted_version_stays_until_it_is_deleted_by_its_number(self, s3: Any) -> None:
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        first, second = (s3.put_object(Bucket=BUCKET, Key="a", Body=body)["VersionId"] for body in (b"1", b"2"))
        marker = s3.delete_object(Bucket=BUCKET, Key="a")
        assert marker["DeleteMarker"] is True
        refused("NoSuchKey", lambda: s3.get_object(Bucket=BUCKET, Key="a"), 404)
        assert s3.get_object(Bucket=BUCKET, Key="a", VersionId=first)["Body"].read() == b"1"
        refused("NoSuchVersion", lambda: s3.get_object(Bucket=BUCKET, Key="a", VersionId="none"), 404)
        s3.delete_object(Bucket=BUCKET, Key="a", VersionId=marker["VersionId"])
        assert s3.get_object(Bucket=BUCKET, Key="a")["VersionId"] == second
        refused("BucketNotEmpty", lambda: s3.delete_bucket(Bucket=BUCKET), 409)
        found = s3.list_object_versions(Bucket=BUCKET)["Versions"]
        assert [(each["VersionId"], each["IsLatest"]) for each in found] == [(second, True), (first, False)]
        both = [{"Key": "a", "VersionId": each} for each in (first, second)]
        assert "Errors" not in s3.delete_objects(Bucket=BUCKET, Delete={"Objects": both})
        s3.delete_bucket(Bucket=BUCKET)

    def test_without_versions_there_is_the_last_one_only(self, s3: Any) -> None:
        for body in (b"1", b"2"):
            assert "VersionId" not in s3.put_object(Bucket=BUCKET, Key="a", Body=body)
        assert s3.get_object(Bucket=BUCKET, Key="a")["Body"].read() == b"2"
        s3.delete_object(Bucket=BUCKET, Key="a")
        s3.delete_bucket(Bucket=BUCKET)

    def test_headers_tags_and_sums_come_back(self, s3: Any) -> None:
        s3.put_object(
            Bucket=BUCKET, Key="a", Body=b"x", ContentType="application/x-tar", Metadata={"by": "us"}, Tagging="k=v",
            ChecksumAlgorithm="SHA256",
        )  # fmt: skip
        found = s3.head_object(Bucket=BUCKET, Key="a", ChecksumMode="ENABLED")
        assert (found["ContentType"], found["Metadata"], found["ContentLength"]) == (
            "application/x-tar",
            {"by": "us"},
            1,
        )
        assert found["ServerSideEncryption"] == "AES256" and found["ETag"] == f'"{hashlib.md5(b"x").hexdigest()}"'  # noqa: S324
        assert found["ChecksumSHA256"] and s3.get_object_tagging(Bucket=BUCKET, Key="a")["TagSet"] == [
            {"Key": "k", "Value": "v"}
        ]

    def test_a_body_that_is_not_the_one_that_was_summed_is_refused(self, s3: Any) -> None:
        for given in ({"ChecksumSHA256": "AAAA"}, {"ContentMD5": "AAAAAAAAAAAAAAAAAAAAAA=="}):
            refused("BadDigest", lambda given=given: s3.put_object(Bucket=BUCKET, Key="a", Body=b"x", **given), 400)  # type: ignore[misc]

    def test_an_object_takes_ten_tags(self, s3: Any) -> None:
        tags = "&".join(f"k{each}=v" for each in range(11))
        refused("BadRequest", lambda: s3.put_object(Bucket=BUCKET, Key="a", Body=b"", Tagging=tags), 400)

    def test_lists_have_prefixes_and_pages(self, s3: Any) -> None:
        for key in ("a/1", "a/2", "a/3", "b/1 +"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 2})
        assert [each["Key"] for page in pages for each in page["Contents"]] == ["a/1", "a/2", "a/3", "b/1 +"]
        assert s3.list_objects_v2(Bucket=BUCKET, Prefix="b")["KeyCount"] == 1

    def test_what_is_not_emulated_is_refused_by_name_and_no_client_tries_again(self, s3: Any) -> None:
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"x")
        rules = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]
        for act in (
            lambda: s3.copy_object(Bucket=BUCKET, Key="b", CopySource=f"{BUCKET}/a"),
            lambda: s3.get_object(Bucket=BUCKET, Key="a", Range="bytes=0-0"),
            lambda: s3.create_multipart_upload(Bucket=BUCKET, Key="c"),
            lambda: s3.put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRules": rules}),
            lambda: s3.list_objects_v2(Bucket=BUCKET, Delimiter="/"),
        ):  # fmt: skip
            began = time.monotonic()
            assert "does not emulate" in refused("NotImplemented", act, 400)
            assert time.monotonic() - began < 5


def test_faults_are_in_front_of_it(cloud: Cloud, s3: Any) -> None:
    cloud.faults.add("s3 throttle times=1")
    refused("SlowDown", lambda: s3.list_buckets(), 503)
    assert s3.list_buckets()["Buckets"]


def control(
    cloud: Cloud, method: str, body: bytes = b"", query: str = "", key: tuple[str, ...] = OPERATOR
) -> requests.Response:
    """S3 Control, as the AWS provider asks for tags."""
    url = f"{cloud.url}/v20180820/tags/{quote(ARN, safe='')}{query}"
    request = AWSRequest(method, url, data=body, headers={"x-amz-account-id": cloud.aws.account})
    S3SigV4Auth(Credentials(*key), "s3", "us-west-2").add_auth(request)
    return requests.request(method, url, data=body, headers=dict(request.headers), timeout=10)


def test_s3_control_has_the_same_tags(cloud: Cloud, s3: Any) -> None:
    assert "<Tags></Tags>" in control(cloud, "GET").text
    body = "<TagResourceRequest><Tags><Tag><Key>{}</Key><Value>{}</Value></Tag></Tags></TagResourceRequest>"
    for key, value in (("a", "1"), ("b", "2")):
        assert control(cloud, "POST", body.format(key, value).encode()).status_code == 204
    assert {each["Key"]: each["Value"] for each in s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"]} == {
        "a": "1",
        "b": "2",
    }
    assert control(cloud, "DELETE", query="?tagKeys=a").status_code == 204
    assert "<Key>b</Key>" in control(cloud, "GET").text and "<Key>a</Key>" not in control(cloud, "GET").text
    reader = machine(cloud, allow("s3:ListTagsForResource", ARN))
    assert control(cloud, "GET", key=reader).status_code == 200
    assert code(control(cloud, "POST", body.format("c", "3").encode(), key=reader)) == "AccessDenied"


def test_a_new_bucket_may_have_tags_with_the_permission_to_tag(cloud: Cloud, s3: Any) -> None:
    given_settings = {**HERE, "Tags": [{"Key": "a", "Value": "1"}]}
    s3.create_bucket(Bucket="tagged", CreateBucketConfiguration=given_settings)
    assert s3.get_bucket_tagging(Bucket="tagged")["TagSet"] == [{"Key": "a", "Value": "1"}]
    maker = cloud.client("s3", machine(cloud, allow("s3:CreateBucket")))
    refused(
        "AccessDenied", lambda: maker.create_bucket(Bucket="another", CreateBucketConfiguration=given_settings), 403
    )
    maker.create_bucket(Bucket="another", CreateBucketConfiguration=HERE)
