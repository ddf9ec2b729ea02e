"""aws:s3: Bucket, BucketPublicAccessBlock, BucketServerSideEncryptionConfiguration, BucketVersioning, BucketPolicy,
BucketLifecycleConfiguration, BucketObjectv2."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import urlencode

from localcloud.plugins.aws.common import REGION, TAGS, Regional, from_tags, gone_on, to_tags
from localcloud.plugins.resource import Values, flag, keeping, mapping, plain, several, text

_HOME_REGION = "us-east-1"


class Bucket(Regional):
    token = "aws:s3/bucket:Bucket"
    named = "bucket"
    inputs = {
        "bucket": text(replaces=True),
        "bucketNamespace": text(replaces=True, computed=True, choices=("global", "account-regional")),
        "forceDestroy": flag(default=False),
        "objectLockEnabled": flag(replaces=True, computed=True),
        **REGION,
        **TAGS,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        s3, name = self.api.client("s3"), given["bucket"]
        where = {"LocationConstraint": self.api.region} if self.api.region != _HOME_REGION else {}
        s3.create_bucket(Bucket=name, **({"CreateBucketConfiguration": where} if where else {}))
        with keeping(name):
            self._tag(name, given)
        return name, self._outputs(name, given)

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        with gone_on("NoSuchBucket", "404"):
            self.api.client("s3").head_bucket(Bucket=identity)
        tags = self._tags(identity)
        now = {"bucket": identity, "forceDestroy": bool(state.get("forceDestroy")), "tags": tags or None}
        return self._outputs(identity, now), now

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        if plain(old.get("tags")) != plain(new.get("tags")):
            self._tag(identity, new)
        return self._outputs(identity, new)

    def delete(self, identity: str, state: Values) -> None:
        with gone_on("NoSuchBucket"):
            if state.get("forceDestroy"):
                self._empty(identity)
            self.api.client("s3").delete_bucket(Bucket=identity)

    def _empty(self, name: str) -> None:
        s3 = self.api.client("s3")
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
            listed = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            if listed:
                objects = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in listed]
                s3.delete_objects(Bucket=name, Delete={"Objects": objects, "Quiet": True})

    def _tag(self, name: str, given: Values) -> None:
        s3 = self.api.client("s3")
        if given.get("tags"):
            s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": to_tags(given["tags"])})
        else:
            s3.delete_bucket_tagging(Bucket=name)

    def _tags(self, name: str) -> dict[str, str]:
        from botocore.exceptions import ClientError

        try:
            return from_tags(self.api.client("s3").get_bucket_tagging(Bucket=name)["TagSet"])
        except ClientError as none:
            if none.response["Error"]["Code"] != "NoSuchTagSet":
                raise
            return {}

    def _outputs(self, name: str, given: Values) -> dict[str, Any]:
        return {
            "arn": f"arn:aws:s3:::{name}",
            "bucketDomainName": f"{name}.s3.amazonaws.com",
            "bucketRegion": self.api.region,
            "bucketRegionalDomainName": f"{name}.s3.{self.api.region}.amazonaws.com",
            "tagsAll": dict(given.get("tags") or {}),
        }


class _Companion(Regional):
    """A configuration of a bucket, with the bucket's name as its id. A subclass defines how to put, read and remove it."""

    gone: ClassVar[tuple[str, ...]] = ()

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        self.put(given)
        return given["bucket"], {}

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        with gone_on("NoSuchBucket", *self.gone):
            return {}, {"bucket": identity, **self.found(identity)}

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        self.put(new)
        return {}

    def delete(self, identity: str, state: Values) -> None:
        with gone_on("NoSuchBucket", *self.gone):
            self.remove(identity)

    def put(self, given: Values) -> None:
        raise NotImplementedError

    def found(self, bucket: str) -> Values:
        raise NotImplementedError

    def remove(self, bucket: str) -> None:
        raise NotImplementedError


class BucketPublicAccessBlock(_Companion):
    token = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
    gone = ("NoSuchPublicAccessBlockConfiguration",)
    inputs = {
        "bucket": text(required=True, replaces=True),
        "blockPublicAcls": flag(default=False),
        "blockPublicPolicy": flag(default=False),
        "ignorePublicAcls": flag(default=False),
        "restrictPublicBuckets": flag(default=False),
        **REGION,
    }

    def put(self, given: Values) -> None:
        options = {_upper(key): given[key] for key in self._flags()}
        self.api.client("s3").put_public_access_block(Bucket=given["bucket"], PublicAccessBlockConfiguration=options)

    def found(self, bucket: str) -> Values:
        answer = self.api.client("s3").get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        return {key: answer[_upper(key)] for key in self._flags()}

    def remove(self, bucket: str) -> None:
        self.api.client("s3").delete_public_access_block(Bucket=bucket)

    def _flags(self) -> list[str]:
        return [key for key, spec in self.inputs.items() if spec.kind is bool]


class BucketVersioning(_Companion):
    token = "aws:s3/bucketVersioning:BucketVersioning"
    inputs = {
        "bucket": text(required=True, replaces=True),
        "versioningConfiguration": mapping(required=True),
        **REGION,
    }

    def put(self, given: Values) -> None:
        self._set(given["bucket"], given["versioningConfiguration"]["status"])

    def found(self, bucket: str) -> Values:
        status = self.api.client("s3").get_bucket_versioning(Bucket=bucket).get("Status", "Disabled")
        return {"versioningConfiguration": {"status": status}}

    def remove(self, bucket: str) -> None:
        """Suspend versioning: a bucket that was versioned cannot become unversioned again."""
        self._set(bucket, "Suspended")

    def faults(self, given: Values) -> list[tuple[str, str]]:
        return [*super().faults(given), *_nested(given, "versioningConfiguration", {"status", "mfaDelete"})]

    def _set(self, bucket: str, status: str) -> None:
        self.api.client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


class BucketServerSideEncryptionConfiguration(_Companion):
    token = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    inputs = {"bucket": text(required=True, replaces=True), "rules": several(required=True), **REGION}

    def put(self, given: Values) -> None:
        rules = []
        for each in given["rules"]:
            default = each["applyServerSideEncryptionByDefault"]
            key = {"KMSMasterKeyID": default["kmsMasterKeyId"]} if default.get("kmsMasterKeyId") else {}
            rules.append({"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": default["sseAlgorithm"], **key}})
        self.api.client("s3").put_bucket_encryption(
            Bucket=given["bucket"], ServerSideEncryptionConfiguration={"Rules": rules}
        )

    def found(self, bucket: str) -> Values:
        answer = self.api.client("s3").get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
        defaults = [each["ApplyServerSideEncryptionByDefault"] for each in answer["Rules"]]
        return {
            "rules": [
                {"applyServerSideEncryptionByDefault": {"sseAlgorithm": each["SSEAlgorithm"]}} for each in defaults
            ]
        }

    def remove(self, bucket: str) -> None:
        self.api.client("s3").delete_bucket_encryption(Bucket=bucket)

    def faults(self, given: Values) -> list[tuple[str, str]]:
        known = {"applyServerSideEncryptionByDefault", "bucketKeyEnabled"}
        return [*super().faults(given), *_nested(given, "rules", known)]


class BucketPolicy(_Companion):
    token = "aws:s3/bucketPolicy:BucketPolicy"
    gone = ("NoSuchBucketPolicy",)
    inputs = {"bucket": text(required=True, replaces=True), "policy": text(required=True), **REGION}

    def put(self, given: Values) -> None:
        self.api.client("s3").put_bucket_policy(Bucket=given["bucket"], Policy=given["policy"])

    def found(self, bucket: str) -> Values:
        return {"policy": self.api.client("s3").get_bucket_policy(Bucket=bucket)["Policy"]}

    def remove(self, bucket: str) -> None:
        self.api.client("s3").delete_bucket_policy(Bucket=bucket)

    def same(self, key: str, before: Any, after: Any) -> bool:
        if key != "policy" or not isinstance(before, str) or not isinstance(after, str):
            return super().same(key, before, after)
        return bool(json.loads(before) == json.loads(after))


class BucketLifecycleConfiguration(_Companion):
    token = "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration"
    gone = ("NoSuchLifecycleConfiguration",)
    inputs = {"bucket": text(required=True, replaces=True), "rules": several(), **REGION}
    _known: ClassVar[frozenset[str]] = frozenset(
        {"id", "status", "filter", "expiration", "noncurrentVersionExpiration", "abortIncompleteMultipartUpload"}
    )

    def put(self, given: Values) -> None:
        rules = [
            {
                "ID": each["id"],
                "Status": each["status"],
                "Filter": {"Prefix": (each.get("filter") or {}).get("prefix", "")},
                **_days(each, "expiration", "days"),
                **_days(each, "noncurrentVersionExpiration", "noncurrentDays"),
                **_days(each, "abortIncompleteMultipartUpload", "daysAfterInitiation"),
            }
            for each in given.get("rules") or ()
        ]
        self.api.client("s3").put_bucket_lifecycle_configuration(
            Bucket=given["bucket"], LifecycleConfiguration={"Rules": rules}
        )

    def found(self, bucket: str) -> Values:
        rules = self.api.client("s3").get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        return {"rules": list(map(_rule, rules))}

    def remove(self, bucket: str) -> None:
        self.api.client("s3").delete_bucket_lifecycle(Bucket=bucket)

    def faults(self, given: Values) -> list[tuple[str, str]]:
        return [*super().faults(given), *_nested(given, "rules", self._known)]


class BucketObjectv2(Regional):
    token = "aws:s3/bucketObjectv2:BucketObjectv2"
    inputs = {
        "bucket": text(required=True, replaces=True),
        # The real plugin gives the resource's name where a program gives none.
        "key": text(replaces=True),
        "content": text(),
        "contentBase64": text(),
        "contentType": text(computed=True),
        "forceDestroy": flag(default=False),
        "overrideProvider": mapping(),
        **REGION,
        **TAGS,
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        return f"{given['bucket']}/{given['key']}", self._put(given)

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        s3, (bucket, _, key) = self.api.client("s3"), identity.partition("/")
        with gone_on("NoSuchBucket", "NoSuchKey", "404"):
            found = s3.head_object(Bucket=bucket, Key=key)
            tags = from_tags(s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"])
        # The provider does not read an object's contents back.
        stored = {each: state[each] for each in ("content", "contentBase64", "overrideProvider") if state.get(each)}
        now = {"bucket": bucket, "key": key, "contentType": found["ContentType"], **stored, "tags": tags or None}
        now["forceDestroy"] = bool(state.get("forceDestroy"))
        return self._outputs(now, found), now

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        moved = ("content", "contentBase64", "contentType")
        if any(plain(old.get(each)) != plain(new.get(each)) for each in moved):
            return self._put(new)
        s3, where = self.api.client("s3"), {"Bucket": new["bucket"], "Key": new["key"]}
        if plain(old.get("tags")) != plain(new.get("tags")):
            s3.put_object_tagging(**where, Tagging={"TagSet": to_tags(new.get("tags"))})
        return self._outputs(new, s3.head_object(**where))

    def delete(self, identity: str, state: Values) -> None:
        """Delete the object with all of its versions, as the provider does if the bucket has versions."""
        s3, bucket, key = self.api.client("s3"), state["bucket"], state["key"]
        with gone_on("NoSuchBucket", "NoSuchKey"):
            if not state.get("versionId"):
                s3.delete_object(Bucket=bucket, Key=key)
                return
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key):
                for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                    if each["Key"] == key:
                        s3.delete_object(Bucket=bucket, Key=key, VersionId=each["VersionId"])

    def completed(self, given: Values) -> Values:
        """Return the inputs with tags. The default tags of `overrideProvider` replace those of the provider."""
        default_tags = (given.get("overrideProvider") or {}).get("defaultTags")
        if default_tags is None:
            return super().completed(given)
        tags = {**(default_tags.get("tags") or {}), **(given.get("tags") or {})}
        return {**given, "tags": tags} if tags else given

    def faults(self, given: Values) -> list[tuple[str, str]]:
        found = [*super().faults(given), *_nested(given, "overrideProvider", {"defaultTags"})]
        if not given.get("key"):
            found.append(("key", "the stand-in needs `key`"))
        if (given.get("content") is None) == (given.get("contentBase64") is None):
            found.append(("content", "the stand-in takes exactly one of `content`, `contentBase64`"))
        return found

    def _put(self, given: Values) -> dict[str, Any]:
        s3 = self.api.client("s3")
        encoded = given.get("contentBase64")
        body = base64.b64decode(encoded) if encoded is not None else str(given["content"]).encode()
        optional = {
            "ContentType": given.get("contentType") or "application/octet-stream",
            "Tagging": urlencode(given.get("tags") or {}),
        }
        s3.put_object(
            Bucket=given["bucket"],
            Key=given["key"],
            Body=body,
            **{name: each for name, each in optional.items() if each},
        )
        return self._outputs(given, s3.head_object(Bucket=given["bucket"], Key=given["key"]))

    def _outputs(self, given: Values, found: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "arn": f"arn:aws:s3:::{given['bucket']}/{given['key']}",
            "etag": str(found["ETag"]).strip('"'),
            "contentType": found["ContentType"],
            "serverSideEncryption": found.get("ServerSideEncryption"),
            "storageClass": "STANDARD",
            "versionId": found.get("VersionId") or "",
            "tagsAll": dict(given.get("tags") or {}),
        }


def _nested(given: Values, key: str, known: set[str] | frozenset[str]) -> Iterator[tuple[str, str]]:
    """Yield the options within an input that the stand-in would ignore."""
    value = given.get(key)
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, Mapping):
            for name in sorted(set(each) - known):
                yield key, f"the stand-in for aws has no {key}.{name}"


def _upper(name: str) -> str:
    return f"{name[0].upper()}{name[1:]}"


def _days(rule: Values, action: str, days: str) -> dict[str, Any]:
    declared = rule.get(action)
    return {_upper(action): {_upper(days): plain(declared[days])}} if declared else {}


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"id": rule["ID"], "status": rule["Status"]}
    found["filter"] = {"prefix": (rule.get("Filter") or {}).get("Prefix", "")}
    for action, days in (
        ("Expiration", "Days"),
        ("NoncurrentVersionExpiration", "NoncurrentDays"),
        ("AbortIncompleteMultipartUpload", "DaysAfterInitiation"),
    ):
        if action in rule:
            found[f"{action[0].lower()}{action[1:]}"] = {f"{days[0].lower()}{days[1:]}": rule[action][days]}
    return found


TYPES = (
    Bucket,
    BucketPublicAccessBlock,
    BucketServerSideEncryptionConfiguration,
    BucketVersioning,
    BucketPolicy,
    BucketLifecycleConfiguration,
    BucketObjectv2,
)
