"""Write releases into a bucket of an S3-compatible store, with the access key that the configuration has for it.

Importing this takes as long as importing boto3, so import it where it is needed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

# The profile of the operator is for the stack's account. Each is a name in the configuration file, a variable of the
# environment, a default, and a conversion.
_NO_PROFILE: dict[str, Any] = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


class StoreError(Exception):
    """The store refuses, or does not answer. The message has no key."""


class Bucket:
    """A bucket that boto3's `client` for S3 reaches."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client, self._bucket = client, bucket

    def put(self, key: str, file: Path) -> None:
        """Write a file to an object. Raises StoreError."""
        try:
            with file.open("rb") as body:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType="application/x-tar")
        except (BotoCoreError, ClientError) as refused:
            raise StoreError(str(refused)) from refused

    def lacks(self, key: str) -> bool:
        """Return whether the store says that it does not have an object. A store that does not answer, or refuses, does not say so."""
        try:
            self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as refused:
            return str(refused.response.get("Error", {}).get("Code")) in ("404", "NoSuchKey", "NotFound")
        except BotoCoreError:
            return False
        return False


class CompatibleStore(Bucket):
    """A bucket of a store at `endpoint`."""

    def __init__(self, *, endpoint: str, bucket: str, region: str, access_key: str, secret_key: str) -> None:
        # Stores other than AWS refuse the checksums that boto3 sends by default:
        # https://docs.aws.amazon.com/sdkref/latest/guide/feature-dataintegrity.html , https://github.com/aws/aws-cli/issues/9214
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=10,
            read_timeout=60,
            retries={"total_max_attempts": 3, "mode": "standard"},
        )
        client = boto3.session.Session(botocore_session=botocore.session.Session(_NO_PROFILE)).client(
            "s3",
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=config,
        )
        super().__init__(client, bucket)
