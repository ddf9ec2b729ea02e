"""Which bucket and which key a request is about, by its host and its path.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from localcloud.aws.wire import Call

_HOST = re.compile(r"(?:(?P<bucket>[a-z0-9.-]+)\.)?s3(?:\.(?P<region>[a-z]{2}(?:-[a-z]+)+-\d))?\.amazonaws\.com")


@dataclass(frozen=True, kw_only=True)
class Target:
    """`bucket` and `key` are empty where the request names none; `region` where its host names none."""

    bucket: str
    key: str
    region: str


def target_of(call: Call) -> Target:
    """By the host where it is one of S3's with a bucket in front, else by the path's first part."""
    host = _HOST.fullmatch(call.headers.get("host", "").partition(":")[0])
    path = call.path.lstrip("/") if call.path.startswith("//") else call.path[1:]
    if host is not None and host["bucket"]:
        return Target(bucket=host["bucket"], key=unquote(path), region=host["region"] or "")
    bucket, _, key = path.partition("/")
    return Target(bucket=unquote(bucket), key=unquote(key), region=(host["region"] if host else "") or "")
