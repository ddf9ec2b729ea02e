"""Define the keys `aws:…` of the configuration that are not plain text: lists, booleans, and the roles to assume.

As the AWS provider takes them: https://www.pulumi.com/registry/packages/aws/installation-configuration/
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from components.config.reader import Model
from components.config.rules import Form, refused
from components.config.section import Section

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)"
_SHORTEST_S, _LONGEST_S = 900, 43200
_ROLE = Form(
    r"arn:aws[a-z-]*:iam::[0-9]{12}:role/\S+",
    "is not the ARN of a role",
    "Write it as arn:aws:iam::123456789012:role/NAME",
)
_ACCOUNT = Form(r"[0-9]{12}", "is not the id of an account", "Write 12 digits, in quotes")


def _text(value: Any) -> Any:
    """Return a number as text: YAML reads an account's id without quotes as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _seconds(text: Any) -> Any:
    """Return the seconds of a time as Go writes it (https://pkg.go.dev/time#ParseDuration): `1h30m`."""
    if text == "":
        return 0
    parts = re.findall(_DURATION, text) if isinstance(text, str) else []
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != text or not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise refused("is not a time that a session may last", "Write 15m to 12h, as 1h30m")
    return int(seconds)


def _policy(text: str) -> str:
    try:
        known = not text or isinstance(json.loads(text), Mapping)
    except (ValueError, RecursionError):
        known = False
    if not known:
        raise refused("is not a policy", "Write its JSON")
    return text


_Texts = tuple[Annotated[str, BeforeValidator(_text)], ...]
_Accounts = tuple[Annotated[str, BeforeValidator(_text), _ACCOUNT], ...]
_Flag = Annotated[bool, Field(strict=True)]


@dataclass(frozen=True, kw_only=True)
class SessionKeys(Section):
    """The keys of a role, whichever way it is assumed."""

    arn: Annotated[str, _ROLE, Field(alias="roleArn", examples=["arn:aws:iam::123456789012:role/NAME"])]
    session_name: str = ""
    duration: Annotated[int, BeforeValidator(_seconds)] = 0
    policy: Annotated[str, AfterValidator(_policy)] = ""
    policy_arns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RoleKeys(SessionKeys):
    external_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    transitive_tag_keys: tuple[str, ...] = ()
    source_identity: str = ""


@dataclass(frozen=True, kw_only=True)
class WebIdentityKeys(SessionKeys):
    web_identity_token: str = ""
    web_identity_token_file: str = ""


@dataclass(frozen=True, kw_only=True)
class AwsKeys(Section):
    shared_config_files: _Texts = ()
    shared_credentials_files: _Texts = ()
    allowed_account_ids: _Accounts = ()
    forbidden_account_ids: _Accounts = ()
    insecure: _Flag = False
    use_fips_endpoint: _Flag = False
    use_dualstack_endpoint: _Flag = False
    skip_metadata_api_check: _Flag = False
    assume_roles: tuple[RoleKeys, ...] = ()
    assume_role_with_web_identity: WebIdentityKeys | None = None
    endpoints: tuple[Mapping[str, str], ...] = ()


@cache
def aws_keys() -> Model[AwsKeys]:
    """Return the model of these keys."""
    return Model("aws", AwsKeys)
