"""The stand-in for the AWS plugin 7.x, over boto3: settings, credentials and endpoints as the real one finds them."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from localcloud.plugins.aws import addresses, ec2, functions, iam, route53, s3, sdk, ssm
from localcloud.plugins.aws.common import IgnoredTags, default_tags
from localcloud.plugins.aws.credentials import Account
from localcloud.plugins.server import Plugin


class Api:
    """boto3 clients by service, made once for the same credentials. The rest is of the provider: region, default tags, ignored tags."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.default_tags = default_tags(settings, os.environ)
        self.ignored_tags = IgnoredTags.of(settings, os.environ)
        self.region = str(
            settings.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        )
        self._account = Account(settings, self.region)
        self._made: dict[str, Any] = {}
        self._lock = threading.Lock()

    def client(self, service: str) -> Any:
        with self._lock:
            if self._account.are_new:
                self._made = {}
            if service not in self._made:
                self._made[service] = self._make(service)
            return self._made[service]

    def _make(self, service: str) -> Any:
        from botocore.config import Config

        retries = Config(retries={"mode": "adaptive", "total_max_attempts": 10})
        return sdk.client(
            service,
            region_name=self.region or None,
            config=retries,
            endpoint_url=self._account.endpoint(service),
            **self._account.keys(),
        )


class Aws(Plugin):
    name = "aws"
    types = (*ec2.TYPES, *addresses.TYPES, *iam.TYPES, *route53.TYPES, *s3.TYPES, *ssm.TYPES)
    functions = {**functions.FUNCTIONS, "aws:route53/getZone:getZone": route53.get_zone}
    # The settings of the SDK (pulumi_aws.config) that select credentials and endpoints. The stand-in would ignore the others.
    settings = (
        "region",
        "profile",
        "accessKey",
        "secretKey",
        "token",
        "assumeRoles",
        "assumeRoleWithWebIdentity",
        "sharedConfigFiles",
        "sharedCredentialsFiles",
        "allowedAccountIds",
        "forbiddenAccountIds",
        "stsRegion",
        "endpoints",
        "defaultTags",
        "ignoreTags",
        "skipCredentialsValidation",
        "skipRegionValidation",
        "skipMetadataApiCheck",
    )

    moving = ("region",)

    def preload(self) -> None:
        sdk.preload()

    def client(self, settings: Mapping[str, Any]) -> Api:
        return Api(settings)

    def explained(self, error: Exception) -> str | None:
        from botocore.exceptions import BotoCoreError, ClientError

        return f"aws: {error}" if isinstance(error, BotoCoreError | ClientError) else None


PLUGIN = Aws()
