"""Mirrors that `up` fills, under the real engine: what is uploaded, what the state has of it, and what a preview shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.resources.release_files import key_of
from tests.integration.engine_harness import on_trial
from tests.integration.test_release_store_engine import digest

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
BUCKET = "mirror"
PROGRAM = """
import hashlib
import json
import os
import pulumi
from pydantic import SecretStr
from components.config.models import MirrorSettings, MirrorUploadSettings
from components.resources import mirror_uploads, release_files, release_uploads
from components.workloads.release import Release

chosen = {"releases": ["one"]} | json.loads(os.environ["TRIAL"])
tars = [each.encode() for each in chosen["releases"]]
made = [Release(digest=hashlib.sha256(tar).hexdigest(), tar=tar) for tar in tars]
if not pulumi.runtime.is_dry_run():
    release_files.write(release_uploads.FILES, made)
upload = MirrorUploadSettings(access_key=SecretStr(chosen["id"]), secret_key=SecretStr(chosen["secret"]))
mirror = MirrorSettings(name="r2", endpoint=os.environ["AWS_ENDPOINT_URL"], bucket="mirror", region="us-west-2", upload=upload)
mirror_uploads.Mirror(mirror, [release_files.key_of(each.digest) for each in made])
"""


def test_up_uploads_what_the_bucket_lacks_and_the_state_has_no_key_in_plain_text(tmp_path: Path) -> None:
    with on_trial(tmp_path, PROGRAM) as trial:
        s3, iam = trial.aws.client("s3"), trial.aws.client("iam")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
        iam.create_user(UserName="writer")
        own = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        iam.put_user_policy(UserName="writer", PolicyName="own", PolicyDocument=json.dumps(own))
        key = iam.create_access_key(UserName="writer")["AccessKey"]
        given = {"id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}

        def objects() -> set[str]:
            return {each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ())}

        assert "mirror-r2" in trial.run("preview", **given) and objects() == set()
        printed = trial.up(**given)
        assert objects() == {key_of(digest("one"))}
        assert "unchanged" in trial.run("preview", "--expect-no-changes", **given)
        printed += trial.up(releases=["one", "two"], **given)
        assert objects() == {key_of(digest("one")), key_of(digest("two"))}
        # After an object is deleted, a preview shows it, and `up` uploads it again.
        s3.delete_object(Bucket=BUCKET, Key=key_of(digest("one")))
        shown = trial.run("preview", "--diff", releases=["one", "two"], **given)
        assert "mirror-r2" in shown and "update" in shown, shown
        printed += shown + trial.up(releases=["one", "two"], **given)
        assert objects() == {key_of(digest("one")), key_of(digest("two"))}
        # Another key is taken without another upload. The former one is in the state, encrypted.
        iam.delete_access_key(UserName="writer", AccessKeyId=given["id"])
        fresh = iam.create_access_key(UserName="writer")["AccessKey"]
        renewed = {"id": fresh["AccessKeyId"], "secret": fresh["SecretAccessKey"]}
        printed += trial.up(releases=["one", "two"], **renewed)
        assert "unchanged" in trial.run("preview", "--expect-no-changes", releases=["one", "two"], **renewed)
        kept = "".join(each.read_text(errors="replace") for each in (tmp_path / "backend").rglob("*") if each.is_file())
        assert "mirror-r2" in kept
        for each in (*given.values(), *renewed.values()):
            assert each not in kept + printed
        # The bucket is not the stack's, so the stack deletes nothing of it.
        trial.run("destroy", "--yes", "--skip-preview", **renewed)
        assert objects() == {key_of(digest("one")), key_of(digest("two"))}
