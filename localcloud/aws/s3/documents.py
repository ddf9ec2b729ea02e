"""S3's XML: configurations of buckets, lists, and what a client sends.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from localcloud.aws.wire import AwsError, xml

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A document that a bucket has, by its subresource. `root` is its element; `permission` what IAM calls it (`Get…`, `Put…`).

    `default` is what a new bucket has; where that is empty, a client gets 404 with the code `missing`. `kept`: the local S3 takes
    another one; `removable`: DELETE takes it away.
    """

    root: str
    permission: str
    default: str = ""
    missing: str = ""
    kept: bool = False
    removable: bool = False


_ALL_CLOSED = "".join(
    f"<{name}>true</{name}>"
    for name in ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
)
# Since 2023 a new bucket is closed, encrypted and without ACLs:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/create-bucket-faq.html , default-encryption-faq.html
CONFIGURATIONS = {
    "versioning": Configuration(root="VersioningConfiguration", permission="BucketVersioning", default=" ", kept=True),
    "encryption": Configuration(
        root="ServerSideEncryptionConfiguration",
        permission="EncryptionConfiguration",
        default="<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>"
        "</ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule>",
        kept=True,
        removable=True,
    ),
    "publicAccessBlock": Configuration(
        root="PublicAccessBlockConfiguration",
        permission="BucketPublicAccessBlock",
        default=_ALL_CLOSED,
        missing="NoSuchPublicAccessBlockConfiguration",
        kept=True,
        removable=True,
    ),
    "lifecycle": Configuration(
        root="LifecycleConfiguration",
        permission="LifecycleConfiguration",
        missing="NoSuchLifecycleConfiguration",
        kept=True,
        removable=True,
    ),
    "tagging": Configuration(
        root="Tagging", permission="BucketTagging", missing="NoSuchTagSet", kept=True, removable=True
    ),
    "ownershipControls": Configuration(
        root="OwnershipControls",
        permission="BucketOwnershipControls",
        default="<Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>",
    ),
    "abac": Configuration(root="AbacStatus", permission="BucketABAC", default="<Status>Disabled</Status>"),
    "accelerate": Configuration(root="AccelerateConfiguration", permission="AccelerateConfiguration", default=" "),
    "cors": Configuration(root="CORSConfiguration", permission="BucketCORS", missing="NoSuchCORSConfiguration"),
    "logging": Configuration(root="BucketLoggingStatus", permission="BucketLogging", default=" "),
    "object-lock": Configuration(
        root="ObjectLockConfiguration",
        permission="BucketObjectLockConfiguration",
        missing="ObjectLockConfigurationNotFoundError",
    ),
    "replication": Configuration(
        root="ReplicationConfiguration",
        permission="ReplicationConfiguration",
        missing="ReplicationConfigurationNotFoundError",
    ),
    "requestPayment": Configuration(
        root="RequestPaymentConfiguration", permission="BucketRequestPayment", default="<Payer>BucketOwner</Payer>"
    ),
    "website": Configuration(
        root="WebsiteConfiguration", permission="BucketWebsite", missing="NoSuchWebsiteConfiguration"
    ),
}


def document(root: str, inner: str) -> bytes:
    return xml(f'<{root} xmlns="{NAMESPACE}">{inner.strip()}</{root}>')


def read(body: bytes, root: str) -> ElementTree.Element:
    """What a client sent, without its namespace. Raises AwsError unless it is XML of this element."""
    try:
        found = ElementTree.fromstring(body)  # noqa: S314 - from clients of this machine; expat expands no external entity
    except ElementTree.ParseError as broken:
        raise _malformed() from broken
    for each in found.iter():
        each.tag = each.tag.rpartition("}")[2]
    if found.tag != root:
        raise _malformed()
    return found


def _malformed() -> AwsError:
    message = "The XML you provided was not well-formed or did not validate against our published schema"
    return AwsError("MalformedXML", message, 400)


def check(subresource: str, body: bytes) -> None:
    """Raises AwsError for a configuration that S3 would refuse, as far as the program writes such."""
    found = read(body, CONFIGURATIONS[subresource].root)
    if subresource == "versioning" and found.findtext("Status") not in ("Enabled", "Suspended"):
        raise _malformed()
    if subresource == "encryption":
        algorithms = [each.text for each in found.iter("SSEAlgorithm")]
        if not algorithms or not {*algorithms} <= {"AES256", "aws:kms", "aws:kms:dsse"}:
            raise _malformed()
    if subresource == "lifecycle":
        _check_rules(found.findall("Rule"))
    if subresource == "tagging":
        tags_of(found)


_UPLOADS = "AbortIncompleteMultipartUpload"


def _check_rules(rules: Sequence[ElementTree.Element]) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html"""
    acts = ("Expiration", "Transition", "NoncurrentVersionExpiration", "NoncurrentVersionTransition", _UPLOADS)
    if not rules or any(rule.findtext("Status") not in ("Enabled", "Disabled") for rule in rules):
        raise _malformed()
    for rule in rules:
        if rule.find("Filter") is None and rule.find("Prefix") is None:
            raise _malformed()
        if not any(rule.find(act) is not None for act in acts):
            raise AwsError("InvalidRequest", "At least one action needs to be specified in a rule", 400)
        for name in ("NoncurrentDays", "DaysAfterInitiation", "Days"):
            for each in rule.iter(name):
                if not (each.text or "").isdecimal() or int(each.text or "0") < 1:
                    raise AwsError("InvalidArgument", f"'{name}' must be a positive integer", 400)


def tags_of(found: ElementTree.Element, most: int = 50) -> Tags:
    """The tags of a `Tagging`. Raises AwsError: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html"""
    tags = tuple((each.findtext("Key") or "", each.findtext("Value") or "") for each in found.iter("Tag"))
    check_tags(tags, most)
    return tags


def check_tags(tags: Tags, most: int) -> None:
    if len(tags) > most:
        kind = "Object" if most == 10 else "Bucket"
        raise AwsError("BadRequest", f"{kind} tags cannot be greater than {most}", 400)
    if len({key for key, _ in tags}) < len(tags):
        raise AwsError("InvalidTag", "Cannot provide multiple Tags with the same key", 400)
    for key, value in tags:
        if not 1 <= len(key) <= 128 or len(value) > 256 or not re.fullmatch(r"[\w\s.:/=+\-@]*", key + value):
            raise AwsError("InvalidTag", "The TagKey or TagValue you have provided is invalid", 400)
        if key.lower().startswith("aws:"):
            raise AwsError("InvalidTag", "System tags cannot be added/updated by requester", 400)


def tagging(tags: Tags) -> bytes:
    inner = "".join(f"<Tag><Key>{escape(key)}</Key><Value>{escape(value)}</Value></Tag>" for key, value in tags)
    return document("Tagging", f"<TagSet>{inner}</TagSet>")


def stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def element(name: str, *parts: object) -> str:
    return f"<{name}>{''.join(map(str, parts))}</{name}>"


def texts(**values: object) -> str:
    """`<Name>value</Name>…`, escaped."""
    return "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in values.items())


def deletions(body: bytes) -> tuple[list[tuple[str, str]], bool]:
    """The (key, version) pairs of DeleteObjects, and whether only faults are to be answered."""
    found = read(body, "Delete")
    pairs = [(each.findtext("Key") or "", each.findtext("VersionId") or "") for each in found.findall("Object")]
    if not 1 <= len(pairs) <= 1000:
        raise _malformed()
    return pairs, found.findtext("Quiet") == "true"


def owner(account: str) -> str:
    return element("Owner", texts(ID=account.rjust(64, "0")))
