"""components.preflight.checks on the local AWS when it throttles, fails, or the clock is wrong: no advice that does not help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import boto3
import pulumi
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from components.config.models import Settings
from components.config.reader import read
from components.preflight import checks, credentials
from components.preflight.quotas import check_ec2
from localcloud.aws.route53 import UNLIMITED
from localcloud.machines.compute import InstantHypervisor
from tests.cloud.aws_cloud import Cloud, point_shell_at, running

pytestmark = pytest.mark.clouds


@pytest.fixture(scope="module")
def shared() -> Iterator[Cloud]:
    with running(hypervisor=InstantHypervisor(), route53_limits=UNLIMITED) as made:
        made.aws.add_zone("unilans.net")
        yield made


@pytest.fixture
def aws(shared: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    point_shell_at(shared, monkeypatch)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(pulumi.runtime, "get_config", {}.get)
    yield shared
    shared.faults.clear()
    shared.clock.ahead = 0.0


def settings(**fleet: str) -> Settings:
    web = {"cloud": "aws", "size": "t3.micro", "image": "debian-12", "joins": ["theService/v1"], **fleet}
    services = {"theService": {"port": 4218, "incarnations": {"v1": {}}}}
    return read("local", {"serviceDiscovery": {"zone": "unilans.net", "services": services}, "fleets": {"web": web}})


def test_a_cloud_that_answers_is_not_a_fault(aws: Cloud) -> None:
    assert credentials.aws_faults(settings(region="eu-west-1")) == []


@pytest.mark.parametrize("service", ["sts", "route53"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [("throttle", r"AWS throttles"), ("status=503", r"AWS fails at|what answers is not AWS's API")],
    ids=["throttled", "down"],
)
def test_throttling_and_outages_are_not_blamed_on_the_credentials(
    aws: Cloud, service: str, fault: str, message: str
) -> None:
    aws.faults.add(f"{service} {fault}")
    (found,) = credentials.aws_faults(settings())
    assert re.search(message, found) and "Give" not in found and "Export" not in found


def test_a_wrong_clock_is_reported_as_that(aws: Cloud) -> None:
    aws.clock.ahead = 400.0
    (found,) = credentials.aws_faults(settings())
    assert found.startswith(
        "AWS credentials: AWS refuses GetCallerIdentity (SignatureDoesNotMatch), since this machine's clock is wrong"
    )


def test_a_wrong_key_is_still_a_wrong_key(aws: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAAAAAAAAAAAAAAAA")
    (found,) = credentials.aws_faults(settings())
    assert found.startswith(
        "AWS_ACCESS_KEY_ID: AWS does not accept the credentials, says GetCallerIdentity (InvalidClientTokenId)"
    )


def test_a_throttling_region_is_not_reported_as_disabled(aws: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(region="eu-west-1")
    fleets = given.by_region("aws")["eu-west-1"]
    aws.faults.add("sts throttle")
    (found,) = credentials.region_faults("eu-west-1", fleets)
    assert (
        found.startswith("rollcall:fleets.web.region: AWS throttles GetCallerIdentity (Throttling)")
        and "enable" not in found
    )


@pytest.mark.parametrize(
    ("fault", "message"), [("throttle", "AWS throttles"), ("status=503", "what answers is not AWS's API")]
)
def test_a_region_where_ec2_does_not_answer_is_named(aws: Cloud, fault: str, message: str) -> None:
    aws.faults.add(f"ec2 {fault}")
    (found,) = checks.quotas_found(settings()).faults
    assert found.startswith(f"aws:region us-west-2: {message}")


def test_what_fails_while_the_zones_records_are_read_is_a_fault_and_no_trace(
    aws: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "prior_state", lambda: None)
    aws.faults.add("route53 throttle")
    (found,) = checks.existing_found(settings()).faults
    assert found.startswith("rollcall:serviceDiscovery.zone: AWS throttles ListHostedZonesByName")


def test_quotas_that_were_not_read_for_another_reason_need_no_other_right(aws: Cloud) -> None:
    once = Config(retries={"total_max_attempts": 1})

    def client(name: str) -> Any:
        made = boto3.client(name, region_name="us-west-2", config=once)
        if name == "service-quotas":
            busy: Any = {"Error": {"Code": "TooManyRequestsException", "Message": ""}}
            made.get_service_quota = lambda **_: (_ for _ in ()).throw(ClientError(busy, "GetServiceQuota"))
        return made

    (warning,) = check_ec2(settings().fleets, "local", "us-west-2", client).warnings
    assert "was not read (TooManyRequestsException)" in warning and warning.endswith("Run it again.")
