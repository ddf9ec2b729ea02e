"""components.aws.session beside the stand-in for the AWS provider: by the same configuration and environment both are the same.

People sign in to one account and deploy into another; the shell has the key of a user of the first who may only assume roles.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from components.aws.session import AwsSession, session_of
from components.config.errors import ConfigurationError
from localcloud.plugins.aws import Api
from localcloud.plugins.resource import PluginError
from tests.cloud.aws_accounts import AUDIENCE, ISSUER, PEOPLE, TARGET, World, token, two_accounts
from tests.cloud.aws_cloud import allow

pytestmark = pytest.mark.clouds
HOST = ISSUER.removeprefix("https://")
ALL = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]


class Scene:
    """The world with roles, a user and files that a configuration may name."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.deploy = world.role("deploy", {"AWS": PEOPLE}, actions=ALL, StringEquals={"sts:ExternalId": "shop"})
        self.open = world.role("open", {"AWS": PEOPLE}, actions=ALL)
        self.inner = world.role("inner", {"AWS": [self.open, self.deploy]}, actions=ALL)
        provider = {"Federated": f"arn:aws:iam::{TARGET}:oidc-provider/{HOST}"}
        self.ci = world.role(
            "ci", provider, actions="sts:AssumeRoleWithWebIdentity", StringEquals={f"{HOST}:aud": AUDIENCE}
        )
        self.after_ci = world.role("after-ci", {"AWS": self.ci})
        iam = world.client("iam")
        iam.create_user(UserName="robot")
        iam.put_user_policy(UserName="robot", PolicyName="own", PolicyDocument=json.dumps(allow("*")))
        key = iam.create_access_key(UserName="robot")["AccessKey"]
        self.robot = (key["AccessKeyId"], key["SecretAccessKey"])
        self.credentials = folder / "credentials"
        self.credentials.write_text(
            f"[robot]\naws_access_key_id = {self.robot[0]}\naws_secret_access_key = {self.robot[1]}\n"
            f"[ann]\naws_access_key_id = {world.ann[0]}\naws_secret_access_key = {world.ann[1]}\n"
        )
        self.config = folder / "config"
        self.config.write_text(
            "[profile robot]\nregion = eu-west-1\n"
            f"[profile by-role]\nrole_arn = {self.open}\nsource_profile = ann\n"
            f"[profile by-code]\nrole_arn = {self.open}\nsource_profile = ann\nmfa_serial = arn:aws:iam::{PEOPLE}:mfa/ann\n"
        )
        self.token = folder / "token"
        self.token.write_text(token())

    @property
    def files(self) -> dict[str, Any]:
        return {"sharedConfigFiles": [str(self.config)], "sharedCredentialsFiles": [str(self.credentials)]}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with two_accounts() as world:
        yield Scene(world, tmp_path_factory.mktemp("aws"))


@pytest.fixture(autouse=True)
def shell(scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment of `ann`, with no file of this machine's."""
    for name in (
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_DEFAULT_REGION",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", scene.world.url)
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", scene.world.ann[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", scene.world.ann[1])
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def config_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """As the engine hands a configuration over: texts as they are, the rest as JSON."""
    return {f"aws:{key}": value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}


def ours(settings: Mapping[str, Any]) -> AwsSession:
    return session_of(config_of(settings).get)


def role(arn: str, **settings: Any) -> dict[str, Any]:
    return {"roleArn": arn, "sessionName": "rollcall", **settings}


CASES: dict[str, tuple[Any, str]] = {
    "nothing": (lambda s: {}, f"arn:aws:iam::{PEOPLE}:user/ann"),
    "a key": (lambda s: {"accessKey": s.robot[0], "secretKey": s.robot[1]}, f"arn:aws:iam::{TARGET}:user/robot"),
    "a profile": (lambda s: {"profile": "robot", **s.files}, f"arn:aws:iam::{TARGET}:user/robot"),
    "a profile with a role": (
        lambda s: {"profile": "by-role", **s.files}, f"arn:aws:sts::{TARGET}:assumed-role/open/",
    ),
    "a role": (
        lambda s: {"assumeRoles": [role(s.deploy, externalId="shop")]}, f"arn:aws:sts::{TARGET}:assumed-role/deploy/rollcall",
    ),
    "a role without a name for the session": (
        lambda s: {"assumeRoles": [{"roleArn": s.open}]}, f"arn:aws:sts::{TARGET}:assumed-role/open/",
    ),
    "a role by a role": (
        lambda s: {"assumeRoles": [role(s.deploy, externalId="shop"), role(s.inner)]},
        f"arn:aws:sts::{TARGET}:assumed-role/inner/rollcall",
    ),
    "a role by a key": (
        lambda s: {"accessKey": s.world.ann[0], "secretKey": s.world.ann[1], "assumeRoles": [role(s.open)]},
        f"arn:aws:sts::{TARGET}:assumed-role/open/rollcall",
    ),
    "a role by a profile": (
        lambda s: {"profile": "ann", **s.files, "assumeRoles": [role(s.open)]}, f"arn:aws:sts::{TARGET}:assumed-role/open/rollcall",
    ),
    "a token": (
        lambda s: {"assumeRoleWithWebIdentity": role(s.ci, webIdentityTokenFile=str(s.token))},
        f"arn:aws:sts::{TARGET}:assumed-role/ci/rollcall",
    ),
    "a token as a text, then a role": (
        lambda s: {"assumeRoleWithWebIdentity": role(s.ci, webIdentityToken=token()), "assumeRoles": [role(s.after_ci)]},
        f"arn:aws:sts::{TARGET}:assumed-role/after-ci/rollcall",
    ),
    "a key before a token": (
        lambda s: {
            "accessKey": s.robot[0],
            "secretKey": s.robot[1],
            "assumeRoleWithWebIdentity": role(s.ci, webIdentityTokenFile=str(s.token)),
        },
        f"arn:aws:iam::{TARGET}:user/robot",
    ),
    "a list of accounts": (
        lambda s: {"assumeRoles": [role(s.open)], "allowedAccountIds": [TARGET], "forbiddenAccountIds": [PEOPLE]},
        f"arn:aws:sts::{TARGET}:assumed-role/open/rollcall",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_both_are_the_same(scene: Scene, name: str) -> None:
    build, arn = CASES[name]
    settings = build(scene)
    identity = ours(settings).identity()
    theirs = Api(settings).client("sts").get_caller_identity()
    assert identity.arn.startswith(arn) and theirs["Arn"].startswith(arn)
    assert identity.account == theirs["Account"] == arn.split(":")[4]


REFUSED: dict[str, tuple[Any, str]] = {
    "another external id": (lambda s: {"assumeRoles": [role(s.deploy, externalId="x1")]}, "AccessDenied"),
    "a role that does not trust": (lambda s: {"assumeRoles": [role(s.inner)]}, "AccessDenied"),
    "too long a session": (lambda s: {"assumeRoles": [role(s.open, duration="3h")]}, "MaxSessionDuration"),
    "an expired token": (
        lambda s: {"assumeRoleWithWebIdentity": role(s.ci, webIdentityToken=token(seconds=-1))}, "Token expired",
    ),
    "no such profile": (lambda s: {"profile": "nobody", **s.files}, "nobody"),
    "an account that is not let in": (
        lambda s: {"assumeRoles": [role(s.open)], "allowedAccountIds": [PEOPLE]}, "account",
    ),
    "an account that is kept out": (lambda s: {"forbiddenAccountIds": [PEOPLE, TARGET]}, "account"),
}  # fmt: skip


def test_no_user_is_asked_for_a_code(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda *_: pytest.fail("asked at the terminal"))
    with pytest.raises(BotoCoreError, match="an MFA code"):
        ours({"profile": "by-code", **scene.files}).identity()


@pytest.mark.parametrize("name", REFUSED)
def test_both_refuse_the_same(scene: Scene, name: str) -> None:
    build, message = REFUSED[name]
    settings = build(scene)
    with pytest.raises((ClientError, BotoCoreError, ConfigurationError), match=message):
        ours(settings).identity()
    with pytest.raises((ClientError, BotoCoreError, PluginError), match=message):
        Api(settings).client("sts").get_caller_identity()


def test_what_limits_a_session_limits_it_on_both_sides(scene: Scene) -> None:
    """Each option of a role by what it does in the account."""
    managed = scene.world.client("iam").create_policy(PolicyName="no-iam", PolicyDocument=json.dumps(allow("ec2:*")))
    limits: list[dict[str, Any]] = [
        {"policy": json.dumps(allow("ec2:*"))},
        {"policyArns": [managed["Policy"]["Arn"]]},
    ]
    for limit in limits:
        settings = {"assumeRoles": [role(scene.open, **limit)]}
        for side in (ours(settings), Api(settings)):
            assert side.client("ec2").describe_instances()["Reservations"] == []
            with pytest.raises(ClientError, match="no session policy allows the iam:ListRoles"):
                side.client("iam").list_roles()
    only = allow("route53:*", StringEquals={"aws:PrincipalTag/team": "shop", "aws:SourceIdentity": "ann"})
    last = scene.world.role("last", {"AWS": scene.open}, actions=ALL, policy=only)
    tagged = {"tags": {"team": "shop"}, "transitiveTagKeys": ["team"], "sourceIdentity": "ann"}
    settings = {"assumeRoles": [role(scene.open, **tagged), role(last)]}
    for side in (ours(settings), Api(settings)):
        assert side.client("route53").list_hosted_zones()["HostedZones"] == []
    settings["assumeRoles"][0].pop("tags")
    settings["assumeRoles"][0].pop("transitiveTagKeys")
    for side in (ours(settings), Api(settings)):
        with pytest.raises(ClientError, match="AccessDenied"):
            side.client("route53").list_hosted_zones()


@pytest.mark.parametrize("words", ["15m", "1h30m", "5400s"])
def test_a_session_lasts_as_long_as_configured(scene: Scene, words: str) -> None:
    session = ours({"assumeRoles": [role(scene.open, duration=words)]})
    session.identity()
    issued = scene.world.target._identities._sessions._issued.values()
    newest = max(issued, key=lambda each: each.issued)
    assert newest.expires - newest.issued == {"15m": 900, "1h30m": 5400, "5400s": 5400}[words]


def test_the_region_is_the_given_one_then_the_environments_then_the_profiles(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = {"profile": "robot", **scene.files}
    assert ours({**profile, "region": "us-west-1"}).region == "us-west-1"
    assert ours(profile).region == "us-west-2"
    monkeypatch.delenv("AWS_REGION")
    assert ours(profile).region == "eu-west-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert ours(profile).region == "us-west-2"


def test_endpoints_of_the_configuration_count_before_the_environments(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    settings = {"endpoints": [{"sts": scene.world.url, "servicequotas": scene.world.url}, {"ec2": scene.world.url}]}
    settings["assumeRoles"] = [role(scene.open)]
    for side in (ours(settings), Api(settings)):
        assert side.client("sts").get_caller_identity()["Account"] == TARGET
        assert side.client("ec2").describe_instances()["Reservations"] == []
        assert side.client("service-quotas").meta.endpoint_url == scene.world.url
        assert side.client("route53").meta.endpoint_url == "http://127.0.0.1:9"


def test_a_proxy_of_the_configuration_is_asked_and_what_goes_past_it_is_not(scene: Scene) -> None:
    settings = {"httpProxy": "http://127.0.0.1:9"}
    with pytest.raises(BotoCoreError, match=r"[Pp]roxy"):
        ours(settings).identity()
    assert ours({**settings, "noProxy": "localhost,127.0.0.1"}).identity().account == PEOPLE


def test_roles_are_assumed_once_for_many_clients(scene: Scene) -> None:
    settings = {"assumeRoles": [role(scene.deploy, externalId="shop"), {**role(scene.inner), "sessionName": "once"}]}
    scene.world.calls()
    for _ in range(3):
        for service in ("ec2", "sts", "route53"):
            client = ours(settings).client(service)
            getattr(
                client, {"ec2": "describe_instances", "sts": "get_caller_identity"}.get(service, "list_hosted_zones")
            )()
    calls = scene.world.calls()
    assert [action for _, action in calls].count("sts:AssumeRole") == 2
    # The shell's key assumes the first role, and does nothing else.
    assert [action for key, action in calls if key == scene.world.ann[0]] == ["sts:AssumeRole"]


def test_no_secret_is_shown(scene: Scene) -> None:
    from components.aws.account_settings import read

    settings = {"accessKey": "AKIA", "secretKey": "hush-hush", "token": "quiet"}
    shown = repr(read(config_of(settings).get)) + repr(
        read(config_of({"assumeRoleWithWebIdentity": role(scene.ci, webIdentityToken="jwt")}).get)
    )
    assert not [word for word in ("hush-hush", "quiet", "jwt") if word in shown]
