"""The provider's credentials: from its settings first, from the environment second, then role by role.

The order is that of aws-sdk-go-base, which the real provider uses (aws_config.go, credentials.go). Keys in the settings are used alone.
Otherwise the profile is used, and if the settings name one, the environment's keys are ignored. A web identity token replaces the profile.
Then the roles are assumed.
https://registry.terraform.io/providers/hashicorp/aws/latest/docs#authentication-and-configuration
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcloud.plugins.aws import sdk
from localcloud.plugins.resource import PluginError

_UNITS = {"h": 3600, "m": 60, "s": 1}
_EARLY_S = 300.0
# Parameters of AssumeRole by the provider's names. `duration`, `tags` and `policyArns` have other forms.
_WORDS = {
    "sessionName": "RoleSessionName",
    "externalId": "ExternalId",
    "policy": "Policy",
    "sourceIdentity": "SourceIdentity",
    "transitiveTagKeys": "TransitiveTagKeys",
}
_BOTH = {"roleArn", "duration", "policy", "policyArns", "sessionName"}
_OF_A_ROLE = _BOTH | {"externalId", "sourceIdentity", "tags", "transitiveTagKeys"}
_OF_A_TOKEN = _BOTH | {"webIdentityToken", "webIdentityTokenFile"}


def plain(value: Any) -> Any:
    """Return a setting as a value. A setting that is not a text comes as JSON, from the stack's configuration and from the SDKs."""
    return json.loads(value) if isinstance(value, str) and value[:1] in ("[", "{") else value


class Account:
    """The credentials of one provider, found when they are first needed and again before they expire."""

    def __init__(self, settings: Mapping[str, Any], region: str) -> None:
        self._settings = {key: plain(value) for key, value in settings.items()}
        self._region = region
        self._keys: dict[str, str] = {}
        self._until = 0.0

    @property
    def are_new(self) -> bool:
        """Whether the credentials must be found again, so that clients with the old ones must be replaced."""
        return not self._keys or time.time() > self._until - _EARLY_S

    def keys(self) -> dict[str, str]:
        """Return the credentials in the form of boto3. Raises PluginError."""
        if self.are_new:
            self._until = float("inf")
            self._keys = self._found()
            self._check_account()
        return self._keys

    def endpoint(self, service: str) -> str | None:
        name = service.replace("-", "")
        endpoints = self._settings.get("endpoints") or ()
        return next((str(each[name]) for each in endpoints if each.get(name)), None)

    def _found(self) -> dict[str, str]:
        settings = self._settings
        if any(settings.get(name) for name in ("accessKey", "secretKey", "token")):
            keys = _as_boto(settings.get("accessKey", ""), settings.get("secretKey", ""), settings.get("token"))
            if not keys["aws_access_key_id"] or not keys["aws_secret_access_key"]:
                raise PluginError("aws: retrieving credentials: static credentials are empty")
        elif settings.get("assumeRoleWithWebIdentity"):
            keys = self._by_token(settings["assumeRoleWithWebIdentity"])
        else:
            keys = self._by_chain()
        for at, role in enumerate(settings.get("assumeRoles") or ()):
            keys = self._by_role(role, at, keys)
        return keys

    def _by_chain(self) -> dict[str, str]:
        """What the SDK finds: environment, profile, container, instance."""
        import botocore.session

        chain = botocore.session.Session(profile=self._settings.get("profile") or None)
        if self._region:
            # For a profile that assumes a role.
            chain.set_config_variable("region", self._region)
        for name, variable in (("sharedConfigFiles", "config_file"), ("sharedCredentialsFiles", "credentials_file")):
            files = self._settings.get(name) or ()
            if len(files) > 1:
                raise PluginError(f"aws: the stand-in reads one of {name}; PLUGINS=real reads several")
            for file in files:
                chain.set_config_variable(variable, str(Path(file).expanduser()))
        found = chain.get_credentials()
        if found is None:
            raise PluginError("aws: No valid credential sources found.")
        frozen = found.get_frozen_credentials()
        return _as_boto(frozen.access_key, frozen.secret_key, frozen.token)

    def _by_token(self, settings: Mapping[str, Any]) -> dict[str, str]:
        from botocore import UNSIGNED
        from botocore.config import Config

        _check_keys(settings, _OF_A_TOKEN, "assumeRoleWithWebIdentity")
        token = settings.get("webIdentityToken") or Path(settings["webIdentityTokenFile"]).expanduser().read_text()
        sts = self._sts({}, config=Config(signature_version=UNSIGNED))
        arguments = {
            "RoleSessionName": f"aws-go-sdk-{time.time_ns()}",
            **_arguments(settings),
            "WebIdentityToken": token,
        }
        return self._taken(sts.assume_role_with_web_identity(**arguments))

    def _by_role(self, settings: Mapping[str, Any], at: int, keys: Mapping[str, str]) -> dict[str, str]:
        from botocore.exceptions import ClientError

        _check_keys(settings, _OF_A_ROLE, f"assumeRoles[{at}]")
        arguments = {"RoleSessionName": f"aws-go-sdk-{time.time_ns()}", **_arguments(settings)}
        try:
            return self._taken(self._sts(keys).assume_role(**arguments))
        except ClientError as refused:
            raise PluginError(f"aws: Cannot assume IAM Role: {refused}") from refused

    def _taken(self, answer: Mapping[str, Any]) -> dict[str, str]:
        made = answer["Credentials"]
        self._until = min(self._until, made["Expiration"].timestamp())
        return _as_boto(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])

    def _check_account(self) -> None:
        """Check the account, if the settings have a list. The real provider always reads its account, but reports it only then."""
        allowed = self._settings.get("allowedAccountIds") or ()
        forbidden = self._settings.get("forbiddenAccountIds") or ()
        if allowed or forbidden:
            account = self._sts(self._keys).get_caller_identity()["Account"]
            if account in map(str, forbidden) or (allowed and account not in map(str, allowed)):
                raise PluginError(f"aws: AWS account ID not allowed: {account}")

    def _sts(self, keys: Mapping[str, str], **options: Any) -> Any:
        region = self._settings.get("stsRegion") or self._region
        return sdk.client("sts", region_name=region, endpoint_url=self.endpoint("sts"), **keys, **options)


def _as_boto(key: str, secret: str, token: str | None) -> dict[str, str]:
    found = {"aws_access_key_id": key, "aws_secret_access_key": secret}
    return {**found, **({"aws_session_token": token} if token else {})}


def _arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"RoleArn": settings.get("roleArn")}
    found |= {name: settings[word] for word, name in _WORDS.items() if settings.get(word)}
    if settings.get("duration"):
        found["DurationSeconds"] = sum(
            int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)([hms])", settings["duration"])
        )
    if settings.get("policyArns"):
        found["PolicyArns"] = [{"arn": each} for each in settings["policyArns"]]
    if settings.get("tags"):
        found["Tags"] = [{"Key": key, "Value": value} for key, value in settings["tags"].items()]
    return found


def _check_keys(settings: Mapping[str, Any], known: set[str], where: str) -> None:
    """Refuse a property that the provider's schema does not have, as the bridge does."""
    for key in sorted(set(settings) - known):
        raise PluginError(f"aws: {where}: an unexpected argument {key!r} was provided")
    if not settings.get("roleArn"):
        raise PluginError(f"aws: Cannot assume IAM Role: IAM Role ARN not set in {where}")
