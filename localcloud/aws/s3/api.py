"""S3's operations on buckets and objects, by host or path style.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html ,
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from email.utils import format_datetime
from urllib.parse import parse_qsl, quote

from localcloud.aws.authorization import Need
from localcloud.aws.policy import Policy
from localcloud.aws.s3 import control, documents
from localcloud.aws.s3.addressing import Target, target_of
from localcloud.aws.s3.documents import CONFIGURATIONS, element, texts
from localcloud.aws.s3.store import Bucket, Version
from localcloud.aws.wire import AwsError, Call, Reply

# What may be done: identity policies and, if there is one, that of the bucket.
Check = Callable[[list[Need], Policy | None], None]
_XML = "application/xml"
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_NAME = re.compile(
    r"(?!xn--|sthree-|amzn-s3-demo-)(?!.*(-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
)
_IP = re.compile(r"\d+\.\d+\.\d+\.\d+")
_HOME_REGION = "us-east-1"
_OBJECT_TAGS = 10
_PAGE = 1000
# Headers that come back with the object as they were put.
_STORED_HEADERS = ("content-type", "cache-control", "content-disposition", "content-encoding", "content-language")
# Query fields that only concern the form of the reply or the identity of the caller.
_PLAIN = frozenset(
    {
        "x-id",
        "list-type",
        "prefix",
        "delimiter",
        "max-keys",
        "encoding-type",
        "start-after",
        "continuation-token",
        "key-marker",
    }
    | {"version-id-marker", "marker", "fetch-owner", "versionId", "max-buckets"}
)
_CHECKSUMS: Mapping[str, Callable[[bytes], bytes]] = {
    "x-amz-checksum-crc32": lambda data: binascii.crc32(data).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda data: hashlib.sha1(data).digest(),  # noqa: S324 - one of those that S3 takes
    "x-amz-checksum-sha256": lambda data: hashlib.sha256(data).digest(),
}


class S3:
    """The buckets of one account, in all of its regions.

    `taken` says whether another account has a bucket of a name. `most` gives the account's quota of buckets.
    """

    def __init__(
        self, account: str, taken: Callable[[str], bool] = lambda _: False, most: Callable[[], float] = lambda: 10_000
    ) -> None:
        self._account, self._most = account, most
        self._taken = taken
        self._lock = threading.RLock()
        self._buckets: dict[str, Bucket] = {}

    def has(self, name: str) -> bool:
        return name in self._buckets

    def answer(self, call: Call, check: Check) -> Reply:
        """Raises AwsError. `check` raises it for needs that the principal is not allowed."""
        tagged = control.bucket_of(call, self._account)
        target = Target(bucket=tagged, key="", region="") if tagged else target_of(call)
        with self._lock:
            if tagged:
                return self._on_tags(call, self._found(call, target), check)
            if not target.bucket:
                return self._list_buckets(call, check)
            subresources = sorted(call.query_parameters().keys() - _PLAIN)
            if len(subresources) > 1:
                raise _not_emulated(call, f"{' and '.join(subresources)} together")
            sub = subresources[0] if subresources else ""
            if not target.key:
                return self._on_bucket(call, target, sub, check)
            return _Objects(self._found(call, target), call, target.key, check).answer(sub)

    def _list_buckets(self, call: Call, check: Check) -> Reply:
        if call.method != "GET":
            raise _not_allowed(call)
        check([Need(action="s3:ListAllMyBuckets")], None)
        inner = [
            element("Bucket", texts(Name=each.name, CreationDate=documents.stamp(each.made), BucketRegion=each.region))
            for each in sorted(self._buckets.values(), key=lambda each: each.name)
        ]
        return _document("ListAllMyBucketsResult", documents.owner(self._account) + element("Buckets", *inner))

    def _found(self, call: Call, target: Target) -> Bucket:
        """The bucket, if the request came to its region and was signed for it."""
        bucket = self._buckets.get(target.bucket)
        if bucket is None:
            if self._taken(target.bucket):
                raise AwsError("AccessDenied", "Access Denied", 403)
            raise AwsError("NoSuchBucket", "The specified bucket does not exist", 404)
        if target.region and target.region != bucket.region:
            message = "The bucket you are attempting to access must be addressed using the specified endpoint."
            raise AwsError("PermanentRedirect", message, 301)
        if call.region != bucket.region:
            message = f"The authorization header is malformed; the region '{call.region}' is wrong; expecting '{bucket.region}'"
            raise AwsError("AuthorizationHeaderMalformed", message, 400)
        return bucket

    def _on_tags(self, call: Call, bucket: Bucket, check: Check) -> Reply:
        check([Need(action=f"s3:{control.ACTIONS[call.method]}", resource=_arn(bucket))], _policy(bucket))
        stored = bucket.configurations.get("tagging")
        before = dict(documents.tags_of(documents.read(stored, "Tagging"))) if stored else {}
        reply, tags = control.answered(call, before)
        bucket.configurations.pop("tagging", None)
        if tags:
            bucket.configurations["tagging"] = documents.tagging(tuple(tags.items()))
        return reply

    def _on_bucket(self, call: Call, target: Target, sub: str, check: Check) -> Reply:
        if call.method == "PUT" and not sub:
            return self._create(call, target, check)
        bucket = self._found(call, target)

        def needs(action: str) -> None:
            check([Need(action=f"s3:{action}", resource=_arn(bucket))], _policy(bucket))

        if call.method == "DELETE" and not sub:
            needs("DeleteBucket")
            if bucket.objects:
                raise AwsError("BucketNotEmpty", "The bucket you tried to delete is not empty", 409)
            del self._buckets[bucket.name]
            return Reply(status=204)
        if call.method == "POST" and sub == "delete":
            return self._delete_many(call, bucket, check)
        if call.method in ("GET", "HEAD") and (not sub or sub in _READINGS):
            permission, reading = _READINGS[sub if call.method == "GET" else "head"]
            needs(permission)
            return reading(bucket, call, self._account)
        if sub == "policy":
            return _on_policy(bucket, call, needs)
        if sub in CONFIGURATIONS:
            return _on_configuration(bucket, sub, call, needs)
        raise _not_emulated(call, f"{call.method} of a bucket's {sub or 'contents'}")

    def _create(self, call: Call, target: Target, check: Check) -> Reply:
        arn = f"arn:aws:s3:::{target.bucket}"
        check([Need(action="s3:CreateBucket", resource=arn)], None)
        region, name = call.region, target.bucket
        tags: documents.Tags = ()
        if not _NAME.fullmatch(name) or ".." in name or _IP.fullmatch(name):
            raise AwsError("InvalidBucketName", "The specified bucket is not valid.", 400)
        wanted = ""
        if call.body:
            given = documents.read(call.body, "CreateBucketConfiguration")
            wanted, tags = given.findtext("LocationConstraint") or "", documents.tags_of(given)
        if tags:
            check([Need(action="s3:TagResource", resource=arn)], None)
        if wanted != ("" if region == _HOME_REGION else region):
            message = (
                f"The {wanted or 'unspecified'} location constraint is incompatible for the region specific endpoint "
            )
            message += "this request was sent to."
            raise AwsError("IllegalLocationConstraintException", message, 400)
        if self._taken(name):
            message = (
                "The requested bucket name is not available. The bucket namespace is shared by all users of the system."
            )
            raise AwsError("BucketAlreadyExists", message, 409)
        if name in self._buckets:
            message = "Your previous request to create the named bucket succeeded and you already own it."
            raise AwsError("BucketAlreadyOwnedByYou", message, 409)
        if len(self._buckets) >= self._most():
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/BucketRestrictions.html
            raise AwsError("TooManyBuckets", "You have attempted to create more buckets than allowed.", 400)
        self._buckets[name] = made = Bucket(name=name, region=region, made=datetime.now(timezone.utc))
        made.configurations = {
            sub: documents.document(each.root, each.default) for sub, each in CONFIGURATIONS.items() if each.default
        }
        if tags:
            made.configurations["tagging"] = documents.tagging(tags)
        return Reply(headers={"Location": f"/{name}"})

    def _delete_many(self, call: Call, bucket: Bucket, check: Check) -> Reply:
        pairs, quiet = documents.deletions(call.body)
        results = []
        for key, version in pairs:
            where = texts(Key=key, **({"VersionId": version} if version else {}))
            try:
                removed = _Objects(bucket, call, key, check).remove(version)
            except AwsError as refused:
                results.append(element("Error", where, texts(Code=refused.code, Message=refused.message)))
                continue
            marker = removed is not None and removed.data is None
            shown = texts(DeleteMarker="true", DeleteMarkerVersionId=removed.id) if marker and removed else ""
            results += [] if quiet else [element("Deleted", where, shown)]
        return _document("DeleteResult", "".join(results))


class _Objects:
    """One request about one key of a bucket."""

    def __init__(self, bucket: Bucket, call: Call, key: str, check: Check) -> None:
        self._bucket, self._call, self._key, self._check = bucket, call, key, check
        self._version = call.query_parameters().get("versionId", "")

    def answer(self, sub: str) -> Reply:
        call = self._call
        if "x-amz-copy-source" in call.headers or "range" in call.headers:
            raise _not_emulated(call, "a copy, or a part of an object")
        known = {"": {"GET": self._get, "HEAD": self._get, "PUT": self._put, "DELETE": self._delete}}
        known["tagging"] = {"GET": self._tags, "PUT": self._tag, "DELETE": self._untag}
        act = known.get(sub, {}).get(call.method)
        if act is None:
            raise _not_emulated(call, f"{call.method} of an object's {sub or 'contents'}")
        return act()

    def remove(self, version: str) -> Version | None:
        self._needs("DeleteObjectVersion" if version else "DeleteObject")
        return self._bucket.remove(self._key, version) if version else self._bucket.delete(self._key)

    def _needs(self, *actions: str) -> None:
        resource = f"{_arn(self._bucket)}/{self._key}"
        self._check([Need(action=f"s3:{each}", resource=resource) for each in actions], _policy(self._bucket))

    def _there(self) -> Version:
        """Return the object that the request names. A caller that may not list the bucket gets 403 for a missing object too.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html#API_GetObject_RequestSyntax (Permissions)
        """
        found = self._bucket.version(self._key, self._version) if self._version else self._bucket.current(self._key)
        if found is None or found.data is None:
            self._check([Need(action="s3:ListBucket", resource=_arn(self._bucket))], _policy(self._bucket))
            if self._version and found is None:
                raise AwsError("NoSuchVersion", "The specified version does not exist.", 404)
            raise AwsError("NoSuchKey", "The specified key does not exist.", 404)
        return found

    def _get(self) -> Reply:
        self._needs("GetObjectVersion" if self._version else "GetObject")
        found = self._there()
        headers = {key: value for key, value in found.headers.items() if not key.startswith("x-amz-checksum")}
        if self._call.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
            headers = dict(found.headers)
        headers |= {"ETag": found.etag, "Last-Modified": format_datetime(found.modified, usegmt=True)}
        headers |= {"Accept-Ranges": "bytes", **_encrypted(), **self._numbered(found)}
        if found.tags:
            headers["x-amz-tagging-count"] = str(len(found.tags))
        kind = headers.pop("content-type", "binary/octet-stream")
        return Reply(body=found.data or b"", content_type=kind, headers=headers)

    def _put(self) -> Reply:
        call = self._call
        tags = tuple(parse_qsl(call.headers.get("x-amz-tagging", ""), keep_blank_values=True))
        self._needs("PutObject", *(["PutObjectTagging"] if tags else []))
        documents.check_tags(tags, _OBJECT_TAGS)
        if len(self._key.encode()) > 1024:
            raise AwsError("KeyTooLongError", "Your key is too long", 400)
        self._meets_conditions()
        headers = {name: call.headers[name] for name in _STORED_HEADERS if call.headers.get(name)}
        headers |= {name: value for name, value in call.headers.items() if name.startswith("x-amz-meta-")}
        sums = _checked_sums(call)
        made = self._bucket.put(self._key, call.body, {**headers, **sums}, tags)
        return Reply(headers={"ETag": made.etag, **sums, **_encrypted(), **self._numbered(made)})

    def _meets_conditions(self) -> None:
        """Refuse a write if its condition is not met.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        found = self._bucket.current(self._key)
        is_there = found is not None and found.data is not None
        absent, etag = (self._call.headers.get(name, "") for name in ("if-none-match", "if-match"))
        if absent not in ("", "*"):
            raise AwsError("NotImplemented", "A header you provided implies functionality that is not implemented", 501)
        if etag:
            self._needs("GetObject")
        if etag and not is_there:
            raise AwsError("NoSuchKey", "The specified key does not exist.", 404)
        if (absent and is_there) or (etag and found is not None and found.etag.strip('"') != etag.strip('"')):
            raise AwsError("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)

    def _delete(self) -> Reply:
        removed = self.remove(self._version)
        if removed is None:
            return Reply(status=204)
        marker = {"x-amz-delete-marker": "true"} if removed.data is None else {}
        return Reply(status=204, headers={**marker, **self._numbered(removed)})

    def _tags(self) -> Reply:
        self._needs("GetObjectTagging")
        return Reply(body=documents.tagging(self._there().tags), content_type=_XML)

    def _tag(self) -> Reply:
        self._needs("PutObjectTagging")
        tags = documents.tags_of(documents.read(self._call.body, "Tagging"), _OBJECT_TAGS)
        found = self._there()
        self._bucket.replace(self._key, found, replace(found, tags=tags))
        return Reply()

    def _untag(self) -> Reply:
        self._needs("DeleteObjectTagging")
        found = self._there()
        self._bucket.replace(self._key, found, replace(found, tags=()))
        return Reply(status=204)

    def _numbered(self, version: Version) -> dict[str, str]:
        return {"x-amz-version-id": version.id} if self._bucket.versioning else {}


# What a request reads of a bucket, by its subresource: the permission, and the answer.


def _head(bucket: Bucket, call: Call, account: str) -> Reply:
    return Reply(content_type=_XML, headers={"x-amz-bucket-region": bucket.region})


def _location(bucket: Bucket, call: Call, account: str) -> Reply:
    return _document("LocationConstraint", "" if bucket.region == _HOME_REGION else bucket.region)


def _acl(bucket: Bucket, call: Call, account: str) -> Reply:
    grantee_id = texts(ID=account.rjust(64, "0"))
    grantee = f'<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">{grantee_id}</Grantee>'
    grant = element("Grant", grantee, texts(Permission="FULL_CONTROL"))
    return _document("AccessControlPolicy", documents.owner(account) + element("AccessControlList", grant))


def _list(bucket: Bucket, call: Call, account: str) -> Reply:
    query = call.query_parameters()
    if "delimiter" in query:
        raise _not_emulated(call, "a list by a delimiter")
    prefix, after = (
        query.get("prefix", ""),
        query.get("continuation-token") or query.get("start-after") or query.get("marker", ""),
    )
    most = min(int(query.get("max-keys", _PAGE)), _PAGE)
    there = {key: bucket.current(key) for key in sorted(bucket.objects) if key.startswith(prefix) and key > after}
    found = [(key, each) for key, each in there.items() if each is not None and each.data is not None]
    page, cut = found[:most], len(found) > most
    name = quote if query.get("encoding-type") == "url" else str
    inner = [
        element(
            "Contents",
            texts(
                Key=name(key),
                LastModified=documents.stamp(each.modified),
                ETag=each.etag,
                Size=len(each.data or b""),
                StorageClass="STANDARD",
            ),
        )
        for key, each in page
    ]
    says = texts(Name=bucket.name, Prefix=name(prefix), MaxKeys=most, IsTruncated=str(cut).lower(), KeyCount=len(page))
    encoded = texts(EncodingType="url") if name is quote else ""
    more = texts(NextContinuationToken=page[-1][0], NextMarker=name(page[-1][0])) if cut and page else ""
    return _document("ListBucketResult", says + encoded + more + "".join(inner))


def _list_versions(bucket: Bucket, call: Call, account: str) -> Reply:
    query = call.query_parameters()
    if "delimiter" in query or query.get("version-id-marker"):
        raise _not_emulated(call, "a list of versions by a delimiter or from a version on")
    prefix, after = query.get("prefix", ""), query.get("key-marker", "")
    name = quote if query.get("encoding-type") == "url" else str
    inner = []
    for key in sorted(each for each in bucket.objects if each.startswith(prefix) and each > after):
        for at, each in enumerate(reversed(bucket.objects[key])):
            says = texts(
                Key=name(key),
                VersionId=each.id,
                IsLatest=str(at == 0).lower(),
                LastModified=documents.stamp(each.modified),
            )
            if each.data is None:
                inner.append(element("DeleteMarker", says, documents.owner(account)))
            else:
                data = texts(ETag=each.etag, Size=len(each.data), StorageClass="STANDARD")
                inner.append(element("Version", says, data, documents.owner(account)))
    if len(inner) > _PAGE:
        raise _not_emulated(call, f"a list of more than {_PAGE} versions")
    says = texts(Name=bucket.name, Prefix=name(prefix), MaxKeys=_PAGE, IsTruncated="false")
    encoded = texts(EncodingType="url") if name is quote else ""
    return _document("ListVersionsResult", says + encoded + "".join(inner))


def _uploads(bucket: Bucket, call: Call, account: str) -> Reply:
    return _document("ListMultipartUploadsResult", texts(Bucket=bucket.name, MaxUploads=1000, IsTruncated="false"))


_READINGS: Mapping[str, tuple[str, Callable[[Bucket, Call, str], Reply]]] = {
    "head": ("ListBucket", _head),
    "": ("ListBucket", _list),
    "versions": ("ListBucketVersions", _list_versions),
    "uploads": ("ListBucketMultipartUploads", _uploads),
    "location": ("GetBucketLocation", _location),
    "acl": ("GetBucketAcl", _acl),
}


# What a bucket is configured with.


def _on_configuration(bucket: Bucket, sub: str, call: Call, needs: Callable[[str], None]) -> Reply:
    kind = CONFIGURATIONS[sub]
    needs(f"{'Get' if call.method == 'GET' else 'Put'}{kind.permission}")
    if call.method == "GET":
        found = bucket.configurations.get(sub)
        if found is None:
            raise AwsError(kind.missing, f"The {kind.root} does not exist", 404)
        return Reply(body=found, content_type=_XML)
    if call.method == "PUT" and kind.kept:
        if sub == "lifecycle" and not _has_sum(call):
            raise AwsError("InvalidRequest", "Missing required header for this request: Content-MD5", 400)
        _checked_sums(call)
        documents.check(sub, call.body)
        bucket.configurations[sub] = call.body
        return Reply()
    if call.method == "DELETE" and kind.removable:
        bucket.configurations.pop(sub, None)
        if sub == "encryption":
            bucket.configurations[sub] = documents.document(kind.root, kind.default)
        return Reply(status=204)
    raise _not_emulated(call, f"{call.method} of a bucket's {sub}")


def _on_policy(bucket: Bucket, call: Call, needs: Callable[[str], None]) -> Reply:
    verbs = {"GET": "Get", "PUT": "Put", "DELETE": "Delete"}
    if call.method not in verbs:
        raise _not_allowed(call)
    needs(f"{verbs[call.method]}BucketPolicy")
    if call.method == "GET":
        if "policy" not in bucket.configurations:
            raise AwsError("NoSuchBucketPolicy", "The bucket policy does not exist", 404)
        return Reply(body=bucket.configurations["policy"], content_type="application/json")
    if call.method == "DELETE":
        bucket.configurations.pop("policy", None)
        return Reply(status=204)
    try:
        policy = json.loads(call.body)
        statements = policy["Statement"]
        resources = [each["Resource"] for each in statements]
        effects = {each["Effect"] for each in statements}
        principals = [each["Principal"] for each in statements if each["Effect"] == "Allow"]
    except (ValueError, KeyError, TypeError) as broken:
        raise AwsError("MalformedPolicy", "This policy contains invalid Json or lacks an element", 400) from broken
    named = [one for each in resources for one in (each if isinstance(each, list) else [each])]
    if not effects <= {"Allow", "Deny"} or any(
        one != _arn(bucket) and not one.startswith(f"{_arn(bucket)}/") for one in named
    ):
        raise AwsError("MalformedPolicy", "Policy has invalid resource", 400)
    closed = b"<BlockPublicPolicy>true" in bucket.configurations.get("publicAccessBlock", b"")
    if closed and any(each in ("*", {"AWS": "*"}) for each in principals):
        message = "public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access."
        raise AwsError("AccessDenied", f"The request is denied because {message}", 403)
    bucket.configurations["policy"] = call.body
    return Reply(status=204)


def _policy(bucket: Bucket) -> Policy | None:
    found = bucket.configurations.get("policy")
    policy: Policy | None = json.loads(found) if found else None
    return policy


def _arn(bucket: Bucket) -> str:
    return f"arn:aws:s3:::{bucket.name}"


def _has_sum(call: Call) -> bool:
    return "content-md5" in call.headers or any(name.startswith("x-amz-checksum-") for name in call.headers)


def _checked_sums(call: Call) -> dict[str, str]:
    """Return the checksum of a request's body, which S3 returns with the object. Raises AwsError if it is wrong.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
    """
    digest = call.headers.get("content-md5")
    if digest and digest != base64.b64encode(hashlib.md5(call.body).digest()).decode():  # noqa: S324 - RFC 1864
        raise AwsError("BadDigest", "The Content-MD5 you specified did not match what we received.", 400)
    found = {}
    for name, value in call.headers.items():
        if not name.startswith("x-amz-checksum-") or name in ("x-amz-checksum-mode", "x-amz-checksum-type"):
            continue
        if name not in _CHECKSUMS:
            raise _not_emulated(call, f"the checksum {name}")
        if value != base64.b64encode(_CHECKSUMS[name](call.body)).decode():
            raise AwsError("BadDigest", f"The {name} you specified did not match what we received.", 400)
        found[name] = value
    return found


def _encrypted() -> dict[str, str]:
    return {"x-amz-server-side-encryption": "AES256"}


def _document(root: str, inner: str) -> Reply:
    return Reply(body=documents.document(root, inner), content_type=_XML)


def _not_allowed(call: Call) -> AwsError:
    return AwsError("MethodNotAllowed", "The specified method is not allowed against this resource.", 405)


def _not_emulated(call: Call, what: str) -> AwsError:
    """Return the refusal of an operation that is not emulated. It is not a server error, because clients would retry that."""
    return AwsError("NotImplemented", f"The local s3 does not emulate {what}.", 400)
