"""SSM parameters of the local AWS."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from tests.cloud.aws_cloud import Cloud, running

pytestmark = pytest.mark.clouds
NAME = "/rollcall/local/site"
SECRET = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as made:
        yield made


def test_a_secure_string_is_reported_only_when_asked_for_decrypted(
    cloud: Cloud, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    ssm = cloud.client("ssm")
    logging.getLogger("localcloud").setLevel(logging.DEBUG)
    ssm.put_parameter(Name=NAME, Type="SecureString", Value=SECRET)
    assert ssm.get_parameter(Name=NAME, WithDecryption=True)["Parameter"]["Value"] == SECRET
    for plain in (
        ssm.get_parameter(Name=NAME),
        ssm.get_parameters(Names=[NAME]),
        ssm.get_parameters_by_path(Path="/rollcall", Recursive=True),
        ssm.get_parameter_history(Name=NAME),
        list(ssm.get_paginator("describe_parameters").paginate()),
    ):
        assert NAME in str(plain) and SECRET not in str(plain)
    assert ssm.get_parameters(Names=[NAME], WithDecryption=True)["Parameters"][0]["Value"] == SECRET
    logged = [
        record.getMessage() for record in caplog.records if record.name.startswith(("localcloud", "moto", "werkzeug"))
    ]
    assert SECRET not in "".join(logged) + "".join(capfd.readouterr())


def test_a_parameter_is_overwritten_only_on_request(cloud: Cloud) -> None:
    ssm = cloud.client("ssm")
    ssm.put_parameter(Name=NAME, Type="SecureString", Value="one")
    with pytest.raises(ClientError, match="ParameterAlreadyExists"):
        ssm.put_parameter(Name=NAME, Type="SecureString", Value="two")
    assert ssm.put_parameter(Name=NAME, Type="SecureString", Value="two", Overwrite=True)["Version"] == 2
    assert ssm.get_parameter(Name=NAME, WithDecryption=True)["Parameter"]["Value"] == "two"
    ssm.delete_parameter(Name=NAME)
    with pytest.raises(ClientError, match="ParameterNotFound"):
        ssm.get_parameter(Name=NAME)


def test_a_standard_parameter_is_4096_characters_at_most(cloud: Cloud) -> None:
    ssm = cloud.client("ssm")
    ssm.put_parameter(Name=NAME, Type="String", Value="x" * 4096)
    with pytest.raises(ClientError, match="4096"):
        ssm.put_parameter(Name=NAME, Type="String", Value="x" * 4097, Overwrite=True)


def test_a_request_that_breaks_the_local_cloud_is_logged_without_its_content(
    cloud: Cloud, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(SECRET)

    cloud.client("ssm").put_parameter(Name="other", Type="String", Value="1")
    monkeypatch.setattr(cloud.aws.regions["us-west-2"].ssm, "_hide", broken)
    with pytest.raises(ClientError, match="InternalFailure"):
        cloud.client("ssm").get_parameter(Name="other")
    assert "RuntimeError" in caplog.text and SECRET not in caplog.text


def test_a_value_nests_no_other_parameter(cloud: Cloud) -> None:
    ssm = cloud.client("ssm")
    for value in ("{{}}", "a{{ssm:other}}b", "{{\n}}"):
        with pytest.raises(ClientError, match=r"ValidationException.*can't nest another parameter"):
            ssm.put_parameter(Name=NAME, Type="SecureString", Value=value)
    for value in ("{a}", "}}{{", "{{"):
        ssm.put_parameter(Name=NAME, Type="SecureString", Value=value, Overwrite=True)
