"""The stand-in for the AWS plugin 7.x, over boto3. Endpoint, credentials and region as boto3 finds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localcloud.plugins.aws import ec2, functions, iam, route53, ssm
from localcloud.plugins.aws.common import default_tags
from localcloud.plugins.server import Plugin


class Api:
    """boto3 clients by service, made once; `region` is the provider's, and so are `default_tags`."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        import os

        self.default_tags = default_tags(settings, os.environ)
        self.region = str(
            settings.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        )
        self._made: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        if service not in self._made:
            import boto3
            from botocore.config import Config

            retries = Config(retries={"mode": "adaptive", "total_max_attempts": 10})
            self._made[service] = boto3.client(service, region_name=self.region or None, config=retries)
        return self._made[service]


class Aws(Plugin):
    name = "aws"
    types = (*ec2.TYPES, *iam.TYPES, *route53.TYPES, *ssm.TYPES)
    functions = {**functions.FUNCTIONS, "aws:route53/getZone:getZone": route53.get_zone}
    settings = (
        "region",
        "profile",
        "accessKey",
        "secretKey",
        "token",
        "endpoints",
        "defaultTags",
        "skipCredentialsValidation",
        "skipRegionValidation",
        "skipMetadataApiCheck",
    )

    moving = ("region",)

    def client(self, settings: Mapping[str, Any]) -> Api:
        return Api(settings)

    def explained(self, error: Exception) -> str | None:
        from botocore.exceptions import BotoCoreError, ClientError

        return f"aws: {error}" if isinstance(error, BotoCoreError | ClientError) else None


PLUGIN = Aws()
