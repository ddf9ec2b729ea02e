"""components.aws.account_settings: what the `aws:` keys say, and what the provider would not take or the two sides not honour alike."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi_aws
import pytest

from components.aws.account_settings import AWS_KEYS, AssumedRole, named, read
from components.aws.region import own_region
from components.config.errors import ConfigurationError
from components.config.models import SECRET_KEYS
from components.preflight import checks
from components.registration.providers import RollCallProvider

NOTHING: dict[str, str] = {}
ARN = "arn:aws:iam::123456789012:role/deploy"


def config(settings: Mapping[str, Any]) -> dict[str, str]:
    return {f"aws:{key}": value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}


def faults(settings: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        read(config(settings).get)
    except ConfigurationError as wrong:
        return wrong.faults
    return ()


def test_every_option_of_a_role_is_read() -> None:
    settings = {
        "roleArn": ARN,
        "sessionName": "rollcall",
        "externalId": "shop",
        "duration": "1h30m",
        "policy": '{"Version": "2012-10-17", "Statement": []}',
        "policyArns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"],
        "tags": {"team": "shop"},
        "transitiveTagKeys": ["team"],
        "sourceIdentity": "ann",
    }
    assert read(config({"assumeRoles": [settings, {"roleArn": ARN}]}).get).roles == (
        AssumedRole(
            arn=ARN,
            session_name="rollcall",
            external_id="shop",
            duration=5400,
            policy=settings["policy"],  # type: ignore[arg-type]
            policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
            tags={"team": "shop"},
            transitive_tag_keys=("team",),
            source_identity="ann",
        ),
        AssumedRole(arn=ARN),
    )
    assert set(settings) == {
        camel(name) for name in pulumi_aws.ProviderAssumeRoleArgs.__init__.__annotations__ if name != "return"
    }


def camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), name)


# a wrong setting, a right one beside it, and what the fault must name
TABLE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"assumeRole": {"roleArn": ARN}}, {"assumeRoles": [{"roleArn": ARN}]}, "aws:assumeRole: is not a key of the AWS"),
    ({"sharedConfigFile": "x"}, {"sharedConfigFiles": ["x"]}, "aws:sharedConfigFile: is not a key"),
    ({"assumeRoles": {"roleArn": ARN}}, {"assumeRoles": [{"roleArn": ARN}]}, "aws:assumeRoles: the value (not shown) is not a list"),
    ({"assumeRoles": "arn"}, {"assumeRoles": []}, "aws:assumeRoles: the value (not shown) is not a list. Set it to a list"),
    ({"assumeRoles": [{"sessionName": "x"}]}, {"assumeRoles": [{"roleArn": ARN}]}, "aws:assumeRoles[0].roleArn: is missing"),
    ({"assumeRoles": [{"roleArn": "deploy"}]}, {"assumeRoles": [{"roleArn": ARN}]}, "is not the ARN of a role"),
    (
        {"assumeRoles": [{"roleArn": ARN}, {"roleArn": ARN, "durationSeconds": 900}]},
        {"assumeRoles": [{"roleArn": ARN}, {"roleArn": ARN, "duration": "15m"}]},
        "aws:assumeRoles[1].durationSeconds: is not a setting",
    ),
    ({"assumeRoles": [{"roleArn": ARN, "duration": "900"}]}, {"assumeRoles": [{"roleArn": ARN, "duration": "900s"}]}, "15m to 12h"),
    ({"assumeRoles": [{"roleArn": ARN, "duration": "13h"}]}, {"assumeRoles": [{"roleArn": ARN, "duration": "12h"}]}, "15m to 12h"),
    ({"assumeRoles": [{"roleArn": ARN, "policy": "{"}]}, {"assumeRoles": [{"roleArn": ARN, "policy": "{}"}]}, "is not a policy"),
    (
        {"assumeRoles": [{"roleArn": ARN, "transitiveTagKeys": ["a"]}]},
        {"assumeRoles": [{"roleArn": ARN, "transitiveTagKeys": ["a"], "tags": {"a": "b"}}]},
        "names a tag that is none",
    ),
    (
        {"assumeRoleWithWebIdentity": {"roleArn": ARN}},
        {"assumeRoleWithWebIdentity": {"roleArn": ARN, "webIdentityToken": "x"}},
        "needs one of webIdentityToken and webIdentityTokenFile",
    ),
    ({"sharedCredentialsFiles": ["a", "b"]}, {"sharedCredentialsFiles": ["a"]}, "aws:sharedCredentialsFiles: names 2 files"),
    ({"allowedAccountIds": ["12345"]}, {"allowedAccountIds": [123456789012]}, "is not the id of an account. Write 12 digits"),
    ({"accessKey": "AKIA"}, {"accessKey": "AKIA", "secretKey": "x"}, "aws:secretKey: is missing beside"),
    ({"token": "x"}, {"token": "x", "accessKey": "AKIA", "secretKey": "x"}, "aws:accessKey: is missing beside"),
    ({"endpoints": {"ec2": "http://x"}}, {"endpoints": [{"ec2": "http://x"}]}, "aws:endpoints: the value (not shown) is not a list"),
    ({"insecure": "perhaps"}, {"insecure": "true"}, "aws:insecure: the value (not shown) is not a boolean"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "right", "message"), TABLE, ids=[message for _, _, message in TABLE])
def test_a_wrong_setting_is_a_fault_that_names_its_key(wrong: Any, right: Any, message: str) -> None:
    found = faults(wrong)
    assert any(message in each for each in found), found
    assert faults(right) == ()


def test_every_fault_is_reported_at_once() -> None:
    assert len(faults({"accessKey": "AKIA", "assumeRole": {}, "endpoints": {}})) == 3


def test_files_are_expanded_as_the_provider_expands_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("TEAM", "shop")
    settings = read(config({"sharedConfigFiles": ["~/.aws/$TEAM"], "customCaBundle": "~/ca.pem"}).get)
    assert (settings.config_file, settings.ca_bundle) == ("/home/ann/.aws/shop", "/home/ann/ca.pem")


def test_secrets_in_plain_text_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    token = {"roleArn": ARN, "webIdentityToken": "x"}
    settings = {
        **config({"accessKey": "AKIA", "secretKey": "x", "token": "y", "assumeRoleWithWebIdentity": token}),
        "cloudflare:apiToken": "z",
    }
    monkeypatch.setattr(checks, "config", settings.get)
    monkeypatch.setattr(checks, "is_secret", lambda _: True)
    assert checks.plain_secrets() == []
    monkeypatch.setattr(checks, "is_secret", lambda _: False)
    wrong = ["aws:secretKey", "aws:token", "aws:assumeRoleWithWebIdentity", "cloudflare:apiToken"]
    assert checks.plain_secrets() == [
        f"{key}: is in plain text. Run `pulumi config set --secret {key}`, and revoke this one." for key in wrong
    ]
    in_a_file = {"assumeRoleWithWebIdentity": {"roleArn": ARN, "webIdentityTokenFile": "x"}}
    monkeypatch.setattr(checks, "config", config(in_a_file).get)
    assert checks.plain_secrets() == []


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_each_secret_of_rollcall_is_refused_in_plain_text(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "config", {f"rollcall:{key}": "x"}.get)
    monkeypatch.setattr(checks, "is_secret", lambda _: False)
    (fault,) = checks.plain_secrets()
    assert fault.startswith(f"rollcall:{key}: is in plain text")


def test_the_error_names_the_key_of_the_account() -> None:
    assert named(NOTHING.get) == named(config({"region": "us-west-2"}).get) == ""
    assert named(config({"assumeRoles": [], "profile": "shop"}).get) == "aws:profile"


def test_the_stacks_own_region_is_found_without_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert own_region(NOTHING.get) == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert own_region(NOTHING.get) == "us-west-2"
    assert own_region({"aws:region": "us-west-1"}.get) == "us-west-1"


def test_a_profile_that_is_not_there_has_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert own_region({"aws:profile": "nobody-has-this"}.get) == ""


def test_every_credential_key_of_the_sdk_is_known_here() -> None:
    """A key that a later SDK adds is looked at by a person, who puts it among these or among those that say nothing of it."""
    indifferent = {
        *("defaultTags", "ignoreTags", "maxRetries", "retryMode", "s3UsEast1RegionalEndpoint", "s3UsePathStyle"),
        *("skipCredentialsValidation", "skipRegionValidation", "skipRequestingAccountId", "tagPolicyCompliance"),
        *("tokenBucketRateLimiterCapacity", "userAgents"),
    }
    sdk = {camel(name) for name in inspect.signature(pulumi_aws.ProviderArgs).parameters}
    assert len(sdk) > 30
    assert sdk - indifferent <= {key.removeprefix("aws:") for key in AWS_KEYS}


def test_a_roll_call_gets_every_key() -> None:
    class Request:
        config: dict[str, str] = {key: "x" for key in AWS_KEYS}

    provider = RollCallProvider()
    provider.configure(Request())
    assert set(AWS_KEYS) <= set(provider._config)


def test_one_file_alone_makes_boto3s_clients_for_the_account() -> None:
    """Another file would use the shell's credentials, which may be those of another account. A mirror's bucket has its own access key."""
    home = Path(__file__).parents[3]
    importing = {
        each.relative_to(home).as_posix()
        for each in [home / "__main__.py", *(home / "components").rglob("*.py")]
        if re.search(r"^\s*(import|from) boto(3|core\.session)\b", each.read_text(), re.M)
    }
    assert importing == {"components/aws/session.py", "components/aws/compatible_store.py"}
