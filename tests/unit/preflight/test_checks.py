"""components.preflight.checks and components.config: where a fleet is, and what is refused before any cloud is asked."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from components.aws import session
from components.aws.session import Identity
from components.config.errors import ConfigurationError
from components.config.models import Settings
from components.config.reader import read
from components.preflight import checks, credentials
from components.resources import ec2_lookups

OWN = {"aws": "us-west-2", "joyent": "us-central-1"}


def settings(cloud: str, region: str | None) -> Settings:
    fleet = {"cloud": cloud, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}
    given = {
        "sites": {"www": {"zone": "scalability.expert"}},
        "fleets": {"web": {**fleet, **({"region": region} if region else {})}},
    }
    return read("prod", given)


@pytest.mark.parametrize(
    ("cloud", "region", "found"),
    [
        ("aws", None, None),
        ("aws", "us-west-2", None),
        ("aws", "eu-west-1", "eu-west-1"),
        # Each cloud has names of its own, and some are those of the other's.
        ("aws", "us-central-1", "us-central-1"),
        ("joyent", None, None),
        ("joyent", "us-central-1", None),
        ("joyent", "us-west-2", "us-west-2"),
    ],
)
def test_naming_the_stacks_own_place_says_the_same_as_naming_none(
    cloud: str, region: str | None, found: str | None
) -> None:
    assert settings(cloud, region).at_home(OWN).fleets[0].region == found
    assert settings(cloud, region).at_home({}).fleets[0].region == region


def test_fleets_are_distinguished_by_where_they_are() -> None:
    fleet = {"size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}
    fleets = {
        "a": {"cloud": "aws", **fleet},
        "b": {"cloud": "aws", "region": "eu-west-1", **fleet},
        "c": {"cloud": "joyent", "region": "eu-west-1", **fleet},
        "d": {"cloud": "aws", "region": "eu-west-1", **fleet},
    }
    given = read("prod", {"sites": {"www": {"zone": "scalability.expert"}}, "fleets": fleets})
    found = {
        cloud: {region: [each.name for each in fleets] for region, fleets in given.by_region(cloud).items()}
        for cloud in ("aws", "joyent")
    }
    assert found == {"aws": {"": ["a"], "eu-west-1": ["b", "d"]}, "joyent": {"eu-west-1": ["c"]}}


@pytest.mark.parametrize(
    ("cloud", "region", "message"),
    [
        ("aws", "eu-west-1a", "'eu-west-1a' is not an AWS region. Write it as eu-west-1"),
        ("aws", "Ireland", "'Ireland' is not an AWS region"),
        ("joyent", "https://cloudapi.example", "is not the name of a data centre. `triton datacenters` lists them"),
    ],
)
def test_what_can_be_no_place_is_refused_by_its_key(cloud: str, region: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=r"rollcall:fleets\.web\.region") as refused:
        settings(cloud, region)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("theirs", "config", "message"),
    [
        ("111111111111", {}, None),
        (
            "222222222222",
            {},
            "AWS credentials: the AWS provider works in account 222222222222 (arn:theirs), but preflight",
        ),
        ("222222222222", {"aws:profile": "shop"}, "aws:profile: the AWS provider works in account 222222222222"),
        ("222222222222", {"aws:assumeRoles": "[…]"}, "aws:assumeRoles: the AWS provider works in account 222222222222"),
    ],
)
def test_a_provider_in_another_account_is_a_fault_that_names_the_key_and_both(
    monkeypatch: pytest.MonkeyPatch, theirs: str, config: dict[str, str], message: str | None
) -> None:
    ours = SimpleNamespace(identity=lambda: Identity(account="111111111111", arn="arn:ours"))
    monkeypatch.setattr(credentials, "config", config.get)
    monkeypatch.setattr(session, "session_of", lambda _: ours)
    monkeypatch.setattr(ec2_lookups, "provider_identity", lambda: SimpleNamespace(account_id=theirs, arn="arn:theirs"))
    fault = credentials.account_fault()
    if message is None:
        assert fault is None
    else:
        assert fault and fault.startswith(message) and "in account 111111111111 (arn:ours). Give both" in fault


def test_the_program_shows_no_value_of_a_secret_key(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"rollcall:sites": '{"zone": "hunter2"}', "rollcall:drainDelay": "hunter3", "rollcall:fleets": "hunter4"}
    monkeypatch.setattr(checks, "config", given.get)
    monkeypatch.setattr(checks, "is_secret", lambda key: key != "rollcall:drainDelay")
    monkeypatch.setattr(checks, "config_keys", lambda: sorted(given))
    with pytest.raises(ConfigurationError) as refused:
        checks.configured("local")
    assert str(refused.value).count("the value (not shown) is not") == 2
    assert "'hunter3'" in str(refused.value)
    assert "hunter2" not in str(refused.value) and "hunter4" not in str(refused.value)
