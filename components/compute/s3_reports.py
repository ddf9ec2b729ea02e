"""Read the reports that EC2 machines write: about their releases in place (docs/decisions/0020), and what their resolvers answer (0028).

Each report is one object of the stack's bucket. The machine's instance role may write only that object.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from components.model import Instance
from rollcall.in_place import REPORTS, report_key

# botocore's clients keep ten connections: https://botocore.amazonaws.com/v1/documentation/api/latest/reference/config.html
_AT_ONCE = 10


class S3Reports:
    """The reports of machines below a folder, read again only if they have changed. `client` returns S3's client for a region.

    Reports that are older than `max_age` seconds are ignored. Both times are those of S3, because the clock of a machine may be wrong.
    """

    def __init__(self, client: Callable[[str], Any], folder: str = REPORTS, max_age: float = math.inf) -> None:
        self._client, self._folder, self._max_age = client, folder, max_age
        self._known: dict[tuple[str, str], tuple[str, str]] = {}

    def read(self, machines: Sequence[Instance]) -> dict[str, str]:
        """Return the text of each machine's report, by instance. Raises botocore's errors."""
        found: dict[str, str] = {}
        for store in sorted({each.store for each in machines if each.store}):
            words = dict(word.partition("=")[::2] for word in store.split())
            if {"bucket", "region"} <= words.keys():
                own = [each for each in machines if each.store == store]
                found |= self._of(words["bucket"], words["region"], own)
        return found

    def _of(self, bucket: str, region: str, machines: Sequence[Instance]) -> dict[str, str]:
        # Each key ends with the instance, after the id of its role. A fleet gets another role if it moves to another region and back.
        endings = {report_key("", each.instance): each.instance for each in machines}
        client = self._client(region)
        listed = {
            key: tag
            for prefix in sorted({f"{self._folder}/{each.fleet}/" for each in machines})
            for key, tag, age in _listed(client, bucket, prefix)
            if _ending(key) in endings and age <= self._max_age
        }
        changed = [key for key, tag in listed.items() if self._known.get((bucket, key), ("",))[0] != tag]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for key, read in zip(changed, pool.map(lambda key: _read(client, bucket, key), changed), strict=True):
                self._known[bucket, key] = read
        return {endings[_ending(key)]: text for key in listed if (text := self._known[bucket, key][1])}


def _ending(key: str) -> str:
    return key[key.rfind(":") :]


def texts(client: Any, bucket: str) -> dict[str, str]:
    """Return every report in a bucket, by its key. Raises botocore's errors."""
    keys = [key for key, _, _ in _listed(client, bucket, f"{REPORTS}/")]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        read = pool.map(lambda key: _read(client, bucket, key)[1], keys)
        return dict(zip(keys, read, strict=True))


def _listed(client: Any, bucket: str, prefix: str) -> list[tuple[str, str, float]]:
    """Return the keys below a prefix, each with its ETag, which is another one after each change, and its age in seconds."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [
        (each["Key"], each["ETag"], (_now(page) - each["LastModified"]).total_seconds())
        for page in pages
        for each in page.get("Contents", ())
    ]


def _now(page: Any) -> datetime:
    """Return the time of S3 in a reply (https://docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonResponseHeaders.html, Date)."""
    found = page["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(found) if found else datetime.now(timezone.utc)


def _read(client: Any, bucket: str, key: str) -> tuple[str, str]:
    """Return the ETag of a report and its text. Both are empty for a report that has just been deleted."""
    from botocore.exceptions import ClientError

    try:
        reply = client.get_object(Bucket=bucket, Key=key)
    except ClientError as refused:
        if refused.response.get("Error", {}).get("Code") == "NoSuchKey":
            return "", ""
        raise
    return str(reply["ETag"]), reply["Body"].read().decode(errors="replace")
