"""components.resources.mirror_uploads on a local S3: what is uploaded, when again, and what a store that fails means."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.resources import release_files
from components.resources.mirror_uploads import MirrorProvider
from components.resources.release_uploads import FILES as FOLDER
from components.resources.release_uploads import BucketUploadProvider, UploadError
from components.workloads.release import Release
from tests.cloud.aws_cloud import Cloud, allow, point_shell_at, running

pytestmark = pytest.mark.clouds
BUCKET = "mirror"


def release(text: bytes) -> Release:
    return Release(digest=hashlib.sha256(text).hexdigest(), tar=text)


ONE, TWO = release(b"one"), release(b"two")
KEYS = [release_files.key_of(each.digest) for each in (ONE, TWO)]


class Store:
    """A bucket in a store of its own, and a key that may write releases into it."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.s3 = cloud, cloud.client("s3")
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
        iam = cloud.client("iam")
        iam.create_user(UserName="writer")
        policy = allow("s3:*", f"arn:aws:s3:::{BUCKET}/releases/*")
        policy["Statement"].append({"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{BUCKET}"})
        iam.put_user_policy(UserName="writer", PolicyName="own", PolicyDocument=json.dumps(policy))
        self.key = iam.create_access_key(UserName="writer")["AccessKey"]
        self.puts: list[str] = []
        real = cloud.aws.s3.answer

        def answer(call: Any, check: Any) -> Any:
            if call.method == "PUT" and "/releases/" in call.path:
                self.puts.append(call.path.partition("/releases/")[2][:64])
            return real(call, check)

        cloud.aws.s3.answer = answer  # type: ignore[method-assign]

    def props(self, *named: str, **other: Any) -> dict[str, Any]:
        return {
            "mirror": "r2",
            "endpoint": self.cloud.url,
            "bucket": BUCKET,
            "region": "us-west-2",
            "access_key": self.key["AccessKeyId"],
            "secret_key": self.key["SecretAccessKey"],
            "named": [*named],
            "present": None,
            **other,
        }

    def body(self, key: str) -> bytes:
        found: bytes = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return found


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.chdir(tmp_path)
    # What an operator's shell has for the stack's account is not for the mirror.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOPERATORSOWN0000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    release_files.write(FOLDER, [ONE, TWO])
    with running() as cloud:
        yield Store(cloud)


def test_releases_are_uploaded_once_and_only_those_that_are_new(store: Store) -> None:
    provider = MirrorProvider()
    first = provider.create(store.props(KEYS[0])).outs
    assert first and first["present"] == KEYS[:1] and store.body(KEYS[0]) == ONE.packed
    assert not provider.diff("", first, store.props(KEYS[0])).changes
    news = store.props(*KEYS)
    assert provider.diff("", first, news).changes
    second = provider.update("", first, news).outs
    assert second and second["present"] == KEYS and store.body(KEYS[1]) == TWO.packed
    assert store.puts == [ONE.digest, TWO.digest]
    # A former release stays: another stack may need it.
    third = provider.update("", second, store.props(KEYS[1])).outs
    assert third and store.body(KEYS[0]) == ONE.packed and len(store.puts) == 2
    provider.delete("", third)
    assert store.body(KEYS[0]) == ONE.packed


def test_the_profile_of_the_operator_is_not_for_a_mirror(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "of-the-operator")
    monkeypatch.setenv("AWS_CONFIG_FILE", "config")
    Path("config").write_text("[default]\nendpoint_url = http://127.0.0.1:1\nregion = eu-west-1\n")
    assert (MirrorProvider().create(store.props(KEYS[0])).outs or {})["present"] == KEYS[:1]


def test_what_is_deleted_by_hand_is_a_difference_and_comes_back(store: Store) -> None:
    provider = MirrorProvider()
    made = provider.create(store.props(*KEYS)).outs or {}
    store.s3.delete_object(Bucket=BUCKET, Key=KEYS[0])
    seen = provider.read("id", made).outs or {}
    assert seen["present"] == KEYS[1:] and provider.diff("", seen, store.props(*KEYS)).changes
    provider.update("", seen, store.props(*KEYS))
    assert store.body(KEYS[0]) == ONE.packed and store.puts.count(TWO.digest) == 1


@pytest.mark.parametrize("fault", ["s3 status=503", "s3 status=403", "s3 drop"])
def test_a_store_that_does_not_answer_makes_no_difference(store: Store, fault: str) -> None:
    provider = MirrorProvider()
    made = provider.create(store.props(*KEYS)).outs or {}
    store.cloud.faults.add(fault)
    assert (provider.read("id", made).outs or {})["present"] == KEYS


def test_another_bucket_gets_all_of_them(store: Store) -> None:
    provider = MirrorProvider()
    made = provider.create(store.props(*KEYS, bucket=BUCKET)).outs or {}
    made["bucket"] = "the-former-one"
    moved = provider.update("", made, store.props(*KEYS)).outs or {}
    assert moved["present"] == KEYS and len(store.puts) == 4


@pytest.mark.parametrize(
    ("given", "fault"),
    [({}, "s3 status=500"), ({}, "s3 drop"), ({"secret_key": "hush-hush"}, ""), ({"bucket": "none"}, "")],
)
def test_an_upload_that_fails_says_where_and_what_to_do_and_never_the_key(
    store: Store, given: dict[str, str], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    if fault:
        store.cloud.faults.add(fault)
    props = store.props(*KEYS, **given)
    with pytest.raises(UploadError) as failed:
        MirrorProvider().create(props)
    error = str(failed.value)
    assert error.startswith(f"rollcall:mirrors.r2: {KEYS[0]} could not be written to the bucket {props['bucket']} (")
    assert error.endswith("Correct rollcall:mirrors.r2.upload, or run `pulumi up` again when the store answers.")
    assert props["secret_key"] not in error + caplog.text


def test_a_file_with_another_content_is_not_uploaded(store: Store) -> None:
    (FOLDER / KEYS[0]).write_bytes(TWO.packed)
    with pytest.raises(UploadError, match="had another content than its name says"):
        MirrorProvider().create(store.props(KEYS[0]))
    assert store.puts == []


def test_large_releases_go_to_the_stacks_bucket_with_the_operators_credentials(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_shell_at(store.cloud, monkeypatch)
    provider = BucketUploadProvider()
    props = {"bucket": BUCKET, "region": "us-west-2", "named": [KEYS[0]], "present": None}
    made = provider.create(props).outs or {}
    assert store.body(KEYS[0]) == ONE.packed and not provider.diff("", made, props).changes
    store.s3.delete_object(Bucket=BUCKET, Key=KEYS[0])
    seen = provider.read("id", made).outs or {}
    assert provider.diff("", seen, props).changes
    assert (provider.update("", seen, props).outs or {})["present"] == [KEYS[0]]
    assert store.body(KEYS[0]) == ONE.packed


def test_old_files_of_other_releases_are_deleted_and_young_ones_stay(store: Store) -> None:
    for key, age in zip(KEYS, (90_000.0, 3_600.0), strict=True):
        os.utime(FOLDER / key, (time.time() - age,) * 2)
    release_files.clean_up(FOLDER, [])
    assert [(FOLDER / key).exists() for key in KEYS] == [False, True]


def test_a_release_is_named_again_without_a_change_if_the_bucket_has_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A roll-out went back by itself, and then the operator's program did."""
    point_shell_at(store.cloud, monkeypatch)
    provider = BucketUploadProvider()
    first = {"bucket": BUCKET, "region": "us-west-2", "named": [KEYS[0]], "present": None}
    second = {**first, "named": [KEYS[1]]}
    made = provider.create(first).outs or {}
    assert provider.diff("", made, second).changes
    broken = provider.update("", made, second).outs or {}
    assert provider.read("id", broken).outs == broken
    assert not provider.diff("", broken, first).changes
    # KeptReleases deletes old releases. Such a one is uploaded again.
    store.s3.delete_object(Bucket=BUCKET, Key=KEYS[0])
    assert provider.read("id", broken).outs == broken
    assert provider.diff("", broken, first).changes
    again = provider.update("", broken, first).outs or {}
    assert store.body(KEYS[0]) == ONE.packed and not provider.diff("", again, first).changes
