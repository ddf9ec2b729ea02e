"""Make boto3's clients for the stack's AWS account, as the AWS provider makes its clients. No other module makes any.

The configuration comes before the environment, and each step overrides the one before it (credentials.go and
aws_config.go of https://github.com/hashicorp/aws-sdk-go-base, which the provider uses). First `aws:accessKey` and
similar keys, or else `aws:profile`, or else what the SDK finds (environment, default profile, container, instance
role). Then `aws:assumeRoleWithWebIdentity` instead of that, unless the access keys themselves are set. Then each of
`aws:assumeRoles`, with the credentials of the one before it.

Importing this takes as long as importing boto3, so import it where it is needed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import getproxies_environment

import boto3
import botocore.session

# Only the package is imported, which is loaded under one lock. Two threads that begin at two of its modules may each see half of the other.
import requests
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    AssumeRoleWithWebIdentityCredentialFetcher,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import NoCredentialsError, PartialCredentialsError

from components.aws.account_settings import AWS_KEYS, AssumedRole, AwsSettings, Get, read, region_around
from components.config.errors import ConfigurationError

# Services to which the provider's `endpoints` give another name than boto3 does.
_SERVICES = {"service-quotas": "servicequotas"}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The identity of the credentials."""

    account: str
    arn: str


class AwsSession:
    """The clients of one account. Safe for threads. Credentials of a role are renewed as long as the session exists."""

    def __init__(self, settings: AwsSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._clients: dict[Any, Any] = {}
        core = _Core(settings)
        self.region = settings.region or region_around() or core.get_config_variable("region") or ""
        """The stack's region; an empty text where nothing sets one."""
        credentials = _credentials(settings, self.region)
        if credentials is not None:
            core.register_component("credential_provider", _Given(credentials))
        self._session = boto3.session.Session(botocore_session=core, region_name=self.region or None)

    def client(self, service: str, region: str = "", config: Any = None) -> Any:
        """Return boto3's client for a service, in the stack's region or another one."""
        usual = (self._settings.sts_region if service == "sts" else "") or self.region
        with self._lock:
            # A client is safe for threads, and its first call costs more than all others.
            key = (service, region or usual, config)
            if key not in self._clients:
                self._clients[key] = self._session.client(service, region_name=region or usual or None, config=config)
            return self._clients[key]

    def regions(self) -> list[str]:
        """Return every region in which boto3 knows EC2."""
        return list(self._session.get_available_regions("ec2"))

    def identity(self) -> Identity:
        """Return the identity of the credentials.

        Raises what boto3's client raises, and ConfigurationError for an account that the configuration does not allow.
        """
        found = self.client("sts").get_caller_identity()
        identity = Identity(account=found["Account"], arn=found["Arn"])
        settings = self._settings
        if settings.allowed and identity.account not in settings.allowed:
            raise _refused("allowedAccountIds", identity, f"which is not among {', '.join(settings.allowed)}")
        if identity.account in settings.forbidden:
            raise _refused("forbiddenAccountIds", identity, "which it names")
        return identity


def session_of(config: Get) -> AwsSession:
    """Return the session for this configuration (`dict.get`, `pulumi.runtime.get_config`) and the environment, one for the whole process.

    Raises ConfigurationError with every fault of the configuration, also for an account that it does not allow. Raises
    boto3's error where the profile does not exist.
    """
    configured = tuple((key, value) for key in AWS_KEYS if (value := config(key)) is not None)
    around = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    with _LOCK:
        if (configured, around) not in _SESSIONS:
            settings = read(config)
            session = AwsSession(settings)
            if settings.allowed or settings.forbidden:
                session.identity()
            _SESSIONS[configured, around] = session
        return _SESSIONS[configured, around]


_SESSIONS: dict[Any, AwsSession] = {}
_LOCK = threading.Lock()


class _Core(botocore.session.Session):
    """Makes every client as the settings say, also those that only get credentials."""

    def __init__(self, settings: AwsSettings) -> None:
        super().__init__(profile=settings.profile or None)
        self._settings = settings
        for name, value in (
            ("config_file", settings.config_file),
            ("credentials_file", settings.credentials_file),
            ("ec2_metadata_service_endpoint", settings.metadata_endpoint),
            ("ec2_metadata_service_endpoint_mode", settings.metadata_endpoint_mode),
        ):
            if value:
                self.set_config_variable(name, value)
        chain = self.get_component("credential_provider")
        # botocore would ask at the terminal, in the middle of an `up`.
        chain.get_provider("assume-role")._prompter = _no_code
        if settings.skip_metadata:
            chain.remove("iam-role")

    def create_client(self, service_name: str, *words: Any, **given: Any) -> Any:
        settings = self._settings
        given["endpoint_url"] = given.get("endpoint_url") or settings.endpoints.get(
            _SERVICES.get(service_name, service_name)
        )
        if given.get("verify") is None:
            given["verify"] = False if settings.insecure else settings.ca_bundle or None
        client_config = given.pop("config", None) or Config()
        proxies = _proxies(settings)
        client = super().create_client(
            service_name, *words, config=_config(settings, proxies).merge(client_config), **given
        )
        if proxies and requests.utils.should_bypass_proxies(client.meta.endpoint_url, settings.no_proxy or None):
            # botocore itself cannot exclude hosts from a proxy that it got as a setting.
            client = super().create_client(
                service_name, *words, config=_config(settings, {}).merge(client_config), **given
            )
        return client


def _no_code(_prompt: str) -> str:
    """Refuse to ask for an MFA code, as the provider does."""
    raise PartialCredentialsError(provider="assume-role", cred_var="an MFA code, which this program cannot ask for")


class _Given:
    """Answers as botocore's chain of providers does, with credentials that are already known."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def load_credentials(self) -> Any:
        return self._credentials


def _config(settings: AwsSettings, proxies: Mapping[str, str]) -> Any:
    options: dict[str, Any] = {"proxies": dict(proxies)} if proxies else {}
    options |= {"use_fips_endpoint": True} if settings.fips else {}
    options |= {"use_dualstack_endpoint": True} if settings.dualstack else {}
    return Config(**options)


def _proxies(settings: AwsSettings) -> dict[str, str]:
    """Return the proxies where the configuration names one.

    The other one comes from the environment, or else is the same for HTTPS (HTTPTransportOptions of aws-sdk-go-base).
    Without a setting, botocore reads the environment by itself.
    """
    configured = settings.proxies
    if not configured:
        return {}
    found = {**getproxies_environment(), **configured}
    both = {"http": found.get("http"), "https": found.get("https") or configured.get("http")}
    return {scheme: url for scheme, url in both.items() if url}


def _credentials(settings: AwsSettings, region: str) -> Any:
    """Return the credentials that sign every call. None: the chain finds them by itself."""
    core, found = _Core(settings), None
    region = settings.sts_region or region
    if region:
        core.set_config_variable("region", region)
    if settings.is_static:
        core.set_credentials(settings.access_key, settings.secret_key, settings.token or None)
        found = core.get_credentials()
    elif settings.web_identity is not None:
        found = _deferred(
            AssumeRoleWithWebIdentityCredentialFetcher(
                _clients(core, region),
                _token_of(settings.web_identity.token, settings.web_identity.token_file),
                settings.web_identity.role.arn,
                extra_args=_arguments(settings.web_identity.role),
            )
        )
    for role in settings.roles:
        by = found or _Late(core.get_credentials)
        found = _deferred(
            AssumeRoleCredentialFetcher(_clients(core, region), by, role.arn, extra_args=_arguments(role))
        )
    return found


class _Late:
    """The credentials that the chain finds. They are looked up when a role is first assumed with them."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find

    def get_frozen_credentials(self) -> Any:
        found = self._find()
        if found is None:
            raise NoCredentialsError
        return found.get_frozen_credentials()


def _deferred(fetcher: Any) -> Any:
    return DeferredRefreshableCredentials(refresh_using=fetcher.fetch_credentials, method="assume-role")


def _clients(core: Any, region: str) -> Callable[..., Any]:
    """Return a function that makes the STS clients that assume roles."""
    return lambda service, **given: core.create_client(service, region_name=region or None, **given)


def _arguments(role: AssumedRole) -> dict[str, Any]:
    """Return the arguments of AssumeRole that are set: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html"""
    given = {
        "RoleSessionName": role.session_name,
        "ExternalId": role.external_id,
        "DurationSeconds": role.duration,
        "Policy": role.policy,
        "PolicyArns": [{"arn": each} for each in role.policy_arns],
        "Tags": [{"Key": key, "Value": value} for key, value in role.tags.items()],
        "TransitiveTagKeys": list(role.transitive_tag_keys),
        "SourceIdentity": role.source_identity,
    }
    return {key: value for key, value in given.items() if value}


def _token_of(token: str, file: str) -> Callable[[], str]:
    """Return a function that reads the token each time: the program that writes the file replaces it before the token expires."""
    return lambda: token or Path(file).read_text()


def _refused(name: str, identity: Identity, reason: str) -> ConfigurationError:
    return ConfigurationError(
        [
            f"aws:{name}: the credentials are those of account {identity.account} ({identity.arn}), {reason}. Use credentials of "
            "another account, or correct the list."
        ]
    )
