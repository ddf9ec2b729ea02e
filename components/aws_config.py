"""The `aws:` keys of the stack's configuration that say which account it is, and how its API is reached; read and checked.

The AWS provider reads them, and whatever else of the program asks AWS must mean the same account by them (components/aws_session.py).
What the provider takes: https://www.pulumi.com/registry/packages/aws/installation-configuration/ and
https://registry.terraform.io/providers/hashicorp/aws/latest/docs#authentication-and-configuration, which says that the configuration
comes before the environment.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from components.reading import Faults, Reader
from components.settings import ConfigurationError

Get = Callable[[str], str | None]
# Of these the value is a text as it stands; of the others it is JSON, as the engine hands it over.
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
# Those that the provider does not know (any more), and what it knows: with them the two sides would differ.
_RENAMED = {
    "assumeRole": "assumeRoles",
    "sharedConfigFile": "sharedConfigFiles",
    "sharedCredentialsFile": "sharedCredentialsFiles",
}
# What providers that run beside the program are told of the stack's config.
AWS_KEYS = tuple(f"aws:{each}" for each in (*_TEXTS, *_LISTS, *_FLAGS, *_BLOCKS, *_RENAMED))
# Never in plain text, since a dynamic resource's provider has the whole configuration in the state.
_SECRETS = ("aws:secretKey", "aws:token")
_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+")
_ACCOUNT = re.compile(r"\d{12}")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_SHORTEST_S, _LONGEST_S = 900, 43200


@dataclass(frozen=True, kw_only=True)
class AssumedRole:
    """A role, and what the session of it is limited to; `duration` in seconds, 0 is the API's own. Empty is not told."""

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
    """What the keys say; empty is not told, and then the environment counts. Secrets are not shown by `repr`."""

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
        """Whether the credentials themselves are told, in which case neither a profile nor a token of an identity counts."""
        return bool(self.access_key or self.secret_key or self.token)


def read(config: Get) -> AwsSettings:
    """The settings that `config` gives by their keys (`dict.get`, `pulumi.runtime.get_config`). Raises ConfigurationError with
    every fault."""
    faults = Faults()
    for old, new in _RENAMED.items():
        if config(f"aws:{old}") is not None:
            faults.add(f"aws:{old}", "is no key of the AWS provider 7", f"write aws:{new}, a list")
    values = {
        name: value
        for name in (*_TEXTS, *_LISTS, *_FLAGS, *_BLOCKS)
        if (value := _value(name, config, faults)) is not None
    }
    reader = Reader(values, "aws", faults)
    text = {name: reader.text(name, "") for name in _TEXTS}
    settings = AwsSettings(
        access_key=text["accessKey"],
        secret_key=text["secretKey"],
        token=text["token"],
        profile=text["profile"],
        region=text["region"],
        sts_region=text["stsRegion"],
        config_file=_only_file(reader, "sharedConfigFiles"),
        credentials_file=_only_file(reader, "sharedCredentialsFiles"),
        web_identity=_web_identity(reader.inner("assumeRoleWithWebIdentity"))
        if "assumeRoleWithWebIdentity" in reader
        else None,
        roles=_roles(reader, faults),
        allowed=_accounts(reader, "allowedAccountIds"),
        forbidden=_accounts(reader, "forbiddenAccountIds"),
        endpoints=_endpoints(reader, faults),
        ca_bundle=expanded(text["customCaBundle"]),
        insecure=reader.flag("insecure", False),
        proxies={kind: text[f"{kind}Proxy"] for kind in ("http", "https") if text[f"{kind}Proxy"]},
        no_proxy=text["noProxy"],
        fips=reader.flag("useFipsEndpoint", False),
        dualstack=reader.flag("useDualstackEndpoint", False),
        metadata_endpoint=text["ec2MetadataServiceEndpoint"],
        metadata_endpoint_mode=text["ec2MetadataServiceEndpointMode"],
        skip_metadata=reader.flag("skipMetadataApiCheck", False),
    )
    for lacking, name in ((settings.access_key, "accessKey"), (settings.secret_key, "secretKey")):
        if settings.is_static and not lacking:
            reader.fault(name, "is missing beside the rest of a key", "set both aws:accessKey and aws:secretKey")
    if faults:
        raise ConfigurationError(faults.found)
    return settings


def own_region(config: Get) -> str:
    """The stack's own region: told, in the environment, or else the profile's; an empty text where nothing says any."""
    told = config("aws:region") or region_around()
    if told:
        return told
    from botocore.exceptions import BotoCoreError

    from components.aws_session import session_of

    try:
        return session_of(config).region
    except BotoCoreError:
        # A profile that is not there, which the check of the credentials says.
        return ""


def region_around() -> str:
    """The environment's region; boto3 by itself reads the second only."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""


def secrets(config: Get) -> tuple[str, ...]:
    """The keys whose values must be Pulumi secrets."""
    token = '"webIdentityToken"' in (config("aws:assumeRoleWithWebIdentity") or "")
    return (*_SECRETS, *(("aws:assumeRoleWithWebIdentity",) if token else ()))


def named(config: Get) -> str:
    """The first key that says whose account it is; an empty text where none does, so that the environment does."""
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
    """As the provider expands it: variables first, then `~`."""
    return str(Path(os.path.expandvars(path)).expanduser()) if path else ""


def _value(name: str, config: Get, faults: Faults) -> Any:
    text = config(f"aws:{name}")
    if text is None or name in _TEXTS:
        return text or None
    try:
        return json.loads(text)
    except ValueError:
        faults.add(
            f"aws:{name}",
            "is no JSON",
            f"write it in the stack's file as YAML, or as `pulumi config set --path 'aws:{name}…'`",
        )
        return None


def _only_file(reader: Reader, name: str) -> str:
    """boto3 reads one configuration file and one of credentials, where the provider merges several."""
    files = _texts(reader, name)
    if len(files) > 1:
        reader.fault(
            name,
            f"names {len(files)} files, and what preflight, roll calls and the command line tools ask AWS with reads one",
            "put the profiles into one file",
        )
    return expanded(files[0]) if files else ""


def _accounts(reader: Reader, name: str) -> tuple[str, ...]:
    found = _texts(reader, name)
    for each in found:
        if not _ACCOUNT.fullmatch(each):
            reader.fault(name, f"names {each!r}", "an account's id is 12 digits, in quotes")
    return found


def _texts(reader: Reader, name: str) -> tuple[str, ...]:
    """YAML takes an account's id without quotes for a number."""
    found = reader.take(name)
    if found is None:
        return ()
    if not isinstance(found, list) or not all(
        isinstance(each, str | int) and not isinstance(each, bool) for each in found
    ):
        reader.fault(name, "is no list of texts", "write it as [a, b]")
        return ()
    return tuple(str(each) for each in found)


def _endpoints(reader: Reader, faults: Faults) -> dict[str, str]:
    """A list of mappings from services, in the provider's words, to URLs."""
    found: dict[str, str] = {}
    for each in _items(reader, "endpoints", faults):
        found |= {service: each.text(service) for service in each.names()}
    return found


def _roles(reader: Reader, faults: Faults) -> tuple[AssumedRole, ...]:
    """In the order in which they are assumed, each by the one before it."""
    return tuple(_role(each) for each in _items(reader, "assumeRoles", faults))


def _items(reader: Reader, name: str, faults: Faults) -> list[Reader]:
    found = reader.take(name)
    if found is not None and not isinstance(found, list):
        reader.fault(name, "is no list", "write it as a list of mappings, `[{name: value, …}]`")
        return []
    return [Reader(each, f"aws:{name}[{at}]", faults) for at, each in enumerate(found or ())]


def _role(reader: Reader) -> AssumedRole:
    role = replace(
        _session(reader),
        external_id=reader.text("externalId", ""),
        tags=reader.texts_by_name("tags"),
        transitive_tag_keys=reader.texts("transitiveTagKeys", ()),
        source_identity=reader.text("sourceIdentity", ""),
    )
    for each in role.transitive_tag_keys:
        if each not in role.tags:
            reader.fault(
                "transitiveTagKeys", f"names {each!r}, which is none of its tags", "give that tag, or leave it out"
            )
    reader.done()
    return role


def _session(reader: Reader) -> AssumedRole:
    """What a role has in common however it is assumed."""
    return AssumedRole(
        arn=reader.text("roleArn", check=_arn_fault),
        session_name=reader.text("sessionName", ""),
        duration=_duration(reader),
        policy=reader.text("policy", "", check=_policy_fault),
        policy_arns=reader.texts("policyArns", ()),
    )


def _web_identity(reader: Reader) -> WebIdentity:
    found = WebIdentity(
        role=_session(reader),
        token=reader.text("webIdentityToken", ""),
        token_file=expanded(reader.text("webIdentityTokenFile", "")),
    )
    if bool(found.token) == bool(found.token_file):
        reader.fault("", "needs one of webIdentityToken and webIdentityTokenFile", "set one of the two")
    reader.done()
    return found


def _duration(reader: Reader) -> int:
    """As Go writes it (https://pkg.go.dev/time#ParseDuration): `1h30m`."""
    text = reader.text("duration", "")
    if not text:
        return 0
    parts = _DURATION.findall(text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != text or not _SHORTEST_S <= seconds <= _LONGEST_S:
        reader.fault("duration", f"is {text!r}", "write 15m to 12h, as 1h30m")
    return int(seconds)


def _arn_fault(text: str) -> str | None:
    return None if _ARN.fullmatch(text) else "no role's ARN; write it as arn:aws:iam::123456789012:role/NAME"


def _policy_fault(text: str) -> str | None:
    try:
        return None if not text or isinstance(json.loads(text), Mapping) else "no policy; write its JSON"
    except ValueError:
        return "no policy; write its JSON"
