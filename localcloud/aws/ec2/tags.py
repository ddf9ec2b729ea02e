"""What EC2 takes as tags. https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from localcloud.aws.wire import AwsError, Call

MOST = 50
LONGEST_KEY = 128
LONGEST_VALUE = 256
_RESERVED = "aws:"
# Only such keys can be paths of the metadata service:
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html
_IN_METADATA = re.compile(r"[0-9a-zA-Z\-_+=,.@:]{1,255}")
_NOT_IN_METADATA = (".", "..", "_index")


def check_tags(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """`Key` and `Value` of each, as a mapping. Raises AwsError where EC2 would refuse one."""
    found: dict[str, str] = {}
    for tag in tags:
        key, value = tag.get("Key", ""), tag.get("Value", "")
        if not key:
            raise AwsError("InvalidParameterValue", "Tag key cannot be empty")
        if key.lower().startswith(_RESERVED):
            raise AwsError(
                "InvalidParameterValue", f"Tag keys starting with '{_RESERVED}' are reserved for internal use"
            )
        if len(key) > LONGEST_KEY:
            raise AwsError("InvalidParameterValue", f"Tag key exceeds the maximum length of {LONGEST_KEY} characters")
        if len(value) > LONGEST_VALUE:
            raise AwsError(
                "InvalidParameterValue", f"Tag value exceeds the maximum length of {LONGEST_VALUE} characters"
            )
        if key in found:
            raise AwsError("InvalidParameterValue", f"Duplicate tag key '{key}' specified.")
        found[key] = value
    return found


def check_count(before: Iterable[str], added: Iterable[str]) -> None:
    """Raises AwsError where a resource would have more tags than EC2 keeps."""
    if len([key for key in {*before, *added} if not key.startswith(_RESERVED)]) > MOST:
        raise AwsError("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")


def check_specifications(call: Call) -> None:
    """What a request that makes something gives as its tags. Raises AwsError where EC2 would refuse one."""
    shown = call.get("MetadataOptions.InstanceMetadataTags") == "enabled"
    for specification in call.groups("TagSpecification").values():
        numbers = sorted({key.split(".")[1] for key in specification if key.startswith("Tag.")}, key=int)
        tags = check_tags(
            {part: specification.get(f"Tag.{number}.{part}", "") for part in ("Key", "Value")} for number in numbers
        )
        check_count((), tags)
        if shown and specification.get("ResourceType") == "instance":
            check_metadata_keys(tags)


def check_metadata_keys(keys: Iterable[str]) -> None:
    """Raises AwsError for a key that cannot be shown in instance metadata."""
    for key in keys:
        if not _IN_METADATA.fullmatch(key) or key in _NOT_IN_METADATA:
            raise AwsError(
                "InvalidParameterValue",
                f"'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{{1,255}}), and must "
                "not be a reserved name ('.', '..', '_index')",
            )
