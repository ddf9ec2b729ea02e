"""Read and write small objects in the stack's bucket, with the instance role or with an access key."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlsplit

from rollcall.aws import AccessKey, AwsClient, InstanceRole
from rollcall.errors import FatalError
from rollcall.imds import IMDS, InstanceMetadata

_WITHIN_S = 20.0


class Bucket:
    """The stack's bucket. `store` is the machine setting for it (userdata/get_release.py, `Store`).

    `secret` returns the access key of a machine that has no instance role. Raises FatalError for a setting that is no bucket.
    """

    def __init__(self, store: str, secret: Callable[[str], str] = lambda name: "", metadata: str = IMDS) -> None:
        kind, *words = store.split() or [""]
        found = dict(each.partition("=")[::2] for each in words)
        by_key = {"endpoint", "region", "key"}
        if kind != "s3" or {*found} not in ({"bucket", "region"}, by_key, {*by_key, "bucket"}):
            raise FatalError(f"reason=no-bucket key=rollcall-store value={store[:80]!r}")
        self._region, self._url = found["region"], found.get("endpoint", "")
        self._key, self._secret, self._metadata = found.get("key", ""), secret, metadata
        # Without `bucket`, the endpoint is the bucket's own: https://BUCKET.s3.REGION.amazonaws.com
        bucket = found.get("bucket") or (urlsplit(self._url).hostname or "").partition(".")[0]
        self._bucket, self._folder = bucket, f"/{bucket}" if self._url and "bucket" in found else ""
        self.where = f"s3://{self._bucket}"

    def call(self, method: str, key: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
        """Return the reply's body. Raises TransientError, and AwsRefusedError."""
        client, folder = self._client()
        path = quote(f"{folder}/{key}", safe="/-_.~")
        signed = {**(headers or {}), "X-Amz-Content-Sha256": hashlib.sha256(body).hexdigest()}
        try:
            return client.call(method, path, body=body, headers=signed)
        finally:
            client.close()

    def _client(self) -> tuple[AwsClient, str]:
        """Return a client for the bucket, and what is before the keys in a path."""
        if self._url:
            key = AccessKey(self._secret(self._key))
            return AwsClient("s3", self._region, key, self._url, _WITHIN_S), self._folder
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        metadata = InstanceMetadata(self._metadata)
        domain = "" if endpoint else metadata.get("services/domain", missing="amazonaws.com")
        url = endpoint or f"https://{self._bucket}.s3.{self._region}.{domain}"
        role = InstanceRole(metadata)
        return AwsClient("s3", self._region, role, url, _WITHIN_S), f"/{self._bucket}" if endpoint else ""
