"""The local S3: private buckets, their configurations, and objects with versions. What else S3 has is refused by name."""

from localcloud.aws.s3.api import S3

__all__ = ["S3"]
