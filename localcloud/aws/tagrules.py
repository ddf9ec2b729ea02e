"""The rules for tags that AWS's services share. Those of EC2 are in `localcloud.aws.ec2.tags`, those of Route53 with its API.

https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html#id_tags_rules ,
https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_Tag.html
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from localcloud.aws.wire import AwsError

LONGEST_KEY, LONGEST_VALUE, MOST = 128, 256, 50
_PATTERN = r"[\p{L}\p{Z}\p{N}_.:/=+\-@]"
_SIGNS = frozenset("_.:/=+-@")
_RESERVED = "aws:"
Tags = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Codes:
    """By which codes a service refuses: what has the wrong form, what is reserved or doubled, and one too many. `reserved_values`:
    what is reserved in keys is so in values."""

    form: str
    meaning: str
    count: str
    reserved_values: bool = False


IAM = Codes(form="ValidationError", meaning="InvalidInput", count="LimitExceeded", reserved_values=True)
SSM = Codes(form="ValidationException", meaning="ValidationException", count="TooManyTagsError")


def check(tags: Tags, codes: Codes, *, same: Callable[[str], str] = str) -> None:
    """Raises AwsError where the service would refuse one. Keys that are equal by `same` are doubled."""
    for key, value in tags:
        if not 1 <= len(key) <= LONGEST_KEY or len(value) > LONGEST_VALUE:
            raise AwsError(
                codes.form,
                f"Member must have length less than or equal to {LONGEST_KEY} (key), {LONGEST_VALUE} (value)",
            )
        if not all(map(_is_allowed, key + value)):
            raise AwsError(codes.form, f"Member must satisfy regular expression pattern: {_PATTERN}+")
        reserved = (key, value) if codes.reserved_values else (key,)
        if any(each.lower().startswith(_RESERVED) for each in reserved):
            raise AwsError(
                codes.meaning, f"'{_RESERVED}' prefixed tag key and value names are not allowed for external use."
            )
    keys = [same(key) for key, _ in tags]
    if len(set(keys)) < len(keys):
        raise AwsError(codes.meaning, "Duplicate tag keys found.")
    if len(keys) > MOST:
        raise AwsError(codes.count, f"A resource has at most {MOST} tags.", 409 if codes is IAM else 400)


def _is_allowed(char: str) -> bool:
    return char in _SIGNS or unicodedata.category(char)[0] in "LZN"
