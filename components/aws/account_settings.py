"""Read and check the `aws:` keys of the stack's configuration, which select the account and say how to reach its API.

The AWS provider reads them. Every other part of the program that asks AWS must get the same account from them
(components/aws/session.py). What the provider takes:
https://www.pulumi.com/registry/packages/aws/installation-configuration/ and
https://registry.terraform.io/providers/hashicorp/aws/latest/docs#authentication-and-configuration, which says that the
configuration comes before the environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.config.errors import ConfigurationError, Faults

if TYPE_CHECKING:
    from components.config.aws_keys import RoleKeys, WebIdentityKeys


Get = Callable[[str], str | None]
# The value of these keys is text as it is. The value of the others is JSON, as the engine gives it.
_TEXTS = (
    "accessKey",
    "secretKey",
    "token",
    "profile",
    "region",
    "stsRegion",
    "customCaBundle",
    "httpProxy",
    "httpsProxy",
    "noProxy",
    "ec2MetadataServiceEndpoint",
    "ec2MetadataServiceEndpointMode",
)
_LISTS = ("sharedConfigFiles", "sharedCredentialsFiles", "allowedAccountIds", "forbiddenAccountIds")
_FLAGS = ("insecure", "useFipsEndpoint", "useDualstackEndpoint", "skipMetadataApiCheck")
_BLOCKS = ("assumeRoles", "assumeRoleWithWebIdentity", "endpoints")
# Keys that the provider does not know (any more), with what it knows: with them the provider and boto3 would differ.
_RENAMED = {
    "assumeRole": "assumeRoles",
    "sharedConfigFile": "sharedConfigFiles",
    "sharedCredentialsFile": "sharedCredentialsFiles",
}
_STRUCTURED = (*_LISTS, *_FLAGS, *_BLOCKS)
# The keys of the stack's config that providers that run beside the program get.
AWS_KEYS = tuple(f"aws:{each}" for each in (*_TEXTS, *_LISTS, *_FLAGS, *_BLOCKS, *_RENAMED))
# Never in plain text: the state contains the whole configuration for the provider of a dynamic resource.
_SECRETS = ("aws:secretKey", "aws:token")


@dataclass(frozen=True, kw_only=True)
class AssumedRole:
    """A role, and the limits of its session.

    `duration` is in seconds; 0 is the API's default. An empty value is not set.
    """

    arn: str
    session_name: str = ""
    external_id: str = ""
    duration: int = 0
    policy: str = ""
    policy_arns: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    transitive_tag_keys: tuple[str, ...] = ()
    source_identity: str = ""


@dataclass(frozen=True, kw_only=True)
class WebIdentity:
    """A role that is assumed with an OpenID Connect token, which is given or in a file."""

    role: AssumedRole
    token: str = field(default="", repr=False)
    token_file: str = ""


@dataclass(frozen=True, kw_only=True)
class AwsSettings:
    """The values of the keys.

    An empty value is not set, and then the environment counts. `repr` does not show secrets.
    """

    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    profile: str = ""
    region: str = ""
    sts_region: str = ""
    config_file: str = ""
    credentials_file: str = ""
    web_identity: WebIdentity | None = None
    roles: tuple[AssumedRole, ...] = ()
    allowed: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    endpoints: Mapping[str, str] = field(default_factory=dict)
    ca_bundle: str = ""
    insecure: bool = False
    proxies: Mapping[str, str] = field(default_factory=dict)
    no_proxy: str = ""
    fips: bool = False
    dualstack: bool = False
    metadata_endpoint: str = ""
    metadata_endpoint_mode: str = ""
    skip_metadata: bool = False

    @property
    def is_static(self) -> bool:
        """Return whether the credentials themselves are set.

        Then neither a profile nor the token of an identity counts.
        """
        return bool(self.access_key or self.secret_key or self.token)


def read(config: Get) -> AwsSettings:
    """Return the settings in `config`, which gives them by their keys (`dict.get`, `pulumi.runtime.get_config`).

    Raises ConfigurationError with every error. No error shows a value: these keys identify the account, and some are
    secrets.
    """
    faults = Faults()
    for old, new in _RENAMED.items():
        if config(f"aws:{old}") is not None:
            faults.add(f"aws:{old}", "is not a key of the AWS provider 7", f"Write aws:{new}, a list")
    text = {name: config(f"aws:{name}") or "" for name in _TEXTS}
    settings = replace(
        _structured(config, faults),
        access_key=text["accessKey"],
        secret_key=text["secretKey"],
        token=text["token"],
        profile=text["profile"],
        region=text["region"],
        sts_region=text["stsRegion"],
        ca_bundle=expanded(text["customCaBundle"]),
        proxies={kind: text[f"{kind}Proxy"] for kind in ("http", "https") if text[f"{kind}Proxy"]},
        no_proxy=text["noProxy"],
        metadata_endpoint=text["ec2MetadataServiceEndpoint"],
        metadata_endpoint_mode=text["ec2MetadataServiceEndpointMode"],
    )
    for lacking, name in ((settings.access_key, "accessKey"), (settings.secret_key, "secretKey")):
        if settings.is_static and not lacking:
            faults.add(f"aws:{name}", "is missing beside the rest of a key", "Set both aws:accessKey and aws:secretKey")
    if faults:
        raise ConfigurationError(faults.found)
    return settings


def _structured(config: Get, faults: Faults) -> AwsSettings:
    """Return the settings of the keys that are not plain text.

    Where none is set, which is usual, pydantic is not imported.
    """
    texts = {name: text for name in _STRUCTURED if (text := config(f"aws:{name}")) is not None}
    if not texts:
        return AwsSettings()
    from components.config.aws_keys import aws_keys
    from components.config.reader import as_value

    keys = aws_keys().read({name: as_value(text) for name, text in texts.items()}, faults, hidden=_STRUCTURED)
    return AwsSettings(
        config_file=_only_file("sharedConfigFiles", keys.shared_config_files, faults),
        credentials_file=_only_file("sharedCredentialsFiles", keys.shared_credentials_files, faults),
        web_identity=_web_identity(keys.assume_role_with_web_identity, faults),
        roles=tuple(_role(index, role, faults) for index, role in enumerate(keys.assume_roles)),
        allowed=keys.allowed_account_ids,
        forbidden=keys.forbidden_account_ids,
        # A list of mappings from services, in the provider's words, to URLs.
        endpoints={service: url for each in keys.endpoints for service, url in each.items()},
        insecure=keys.insecure,
        fips=keys.use_fips_endpoint,
        dualstack=keys.use_dualstack_endpoint,
        skip_metadata=keys.skip_metadata_api_check,
    )


def region_around() -> str:
    """Return the environment's region. boto3 by itself reads only the second variable."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""


def secrets(config: Get) -> tuple[str, ...]:
    """Return the keys that must have Pulumi secrets as values."""
    token = '"webIdentityToken"' in (config("aws:assumeRoleWithWebIdentity") or "")
    return (*_SECRETS, *(("aws:assumeRoleWithWebIdentity",) if token else ()))


def named(config: Get) -> str:
    """Return the first key that selects the account. An empty text: no key does, and the environment selects it."""
    keys = (
        "accessKey",
        "profile",
        "assumeRoleWithWebIdentity",
        "assumeRoles",
        "sharedCredentialsFiles",
        "sharedConfigFiles",
    )
    return next((f"aws:{each}" for each in keys if config(f"aws:{each}")), "")


def expanded(path: str) -> str:
    """Expand a path as the provider does: variables first, then `~`."""
    return str(Path(os.path.expandvars(path)).expanduser()) if path else ""


def _only_file(name: str, files: tuple[str, ...], faults: Faults) -> str:
    """Refuse several files: boto3 reads one configuration file and one of credentials, where the provider merges several."""
    if len(files) > 1:
        faults.add(
            f"aws:{name}",
            f"names {len(files)} files, and what preflight, roll calls and the command line tools ask AWS with reads one",
            "Put the profiles into one file",
        )
    return expanded(files[0]) if files else ""


def _role(index: int, keys: RoleKeys, faults: Faults) -> AssumedRole:
    for each in keys.transitive_tag_keys:
        if each not in keys.tags:
            problem = "names a tag that is none of the role's"
            faults.add(f"aws:assumeRoles[{index}].transitiveTagKeys", problem, "Give that tag, or leave it out")
    return AssumedRole(**vars(keys))


def _web_identity(keys: WebIdentityKeys | None, faults: Faults) -> WebIdentity | None:
    if keys is None:
        return None
    session = {name: value for name, value in vars(keys).items() if not name.startswith("web_identity")}
    token, file = keys.web_identity_token, expanded(keys.web_identity_token_file)
    if bool(token) == bool(file):
        problem = "needs one of webIdentityToken and webIdentityTokenFile"
        faults.add("aws:assumeRoleWithWebIdentity", problem, "Set one of the two")
    return WebIdentity(role=AssumedRole(**session), token=token, token_file=file)
