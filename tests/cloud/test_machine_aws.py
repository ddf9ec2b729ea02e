"""What a machine asks AWS with its instance role, on the local AWS: IMDSv2, the session token, SSM and Route53."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from rollcall.aws import InstanceRole
from rollcall.clouds import Ec2
from rollcall.errors import FatalError, TransientError
from rollcall.imds import InstanceMetadata
from rollcall.route53 import Route53Store
from rollcall.route53api import Route53Client
from tests.cloud.aws_cloud import Cloud, allow, running
from tests.unit.agent.fakes import Scripted

pytestmark = pytest.mark.clouds
NAME, SECRET = "/rollcall/local/site", "a-token-that-nobody-may-see"


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with running() as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
        made.client("ssm").put_parameter(Name=NAME, Type="SecureString", Value=SECRET)
        yield made


@pytest.fixture
def metadata(cloud: Cloud) -> Iterator[Scripted]:
    """The metadata service of an instance with a role that may read all parameters and change all zones."""
    policy = allow("*")
    (instance,) = cloud.run(IamInstanceProfile={"Name": cloud.role("machine", policy)})
    address = cloud.hands.machines[instance].address
    made = Scripted(lambda method, path, headers: cloud.aws.imds(address, method, path, headers))
    yield made
    made.stop()


def test_a_secret_is_read_with_the_role_and_is_in_no_log(metadata: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert Ec2(metadata.url).secret(NAME) == SECRET
    assert SECRET not in caplog.text


def test_a_secret_that_is_not_there_is_worth_another_try(metadata: Scripted) -> None:
    with pytest.raises(
        TransientError, match=r"reason=no-secret parameter=/none said=.code=ParameterNotFound"
    ) as caught:
        Ec2(metadata.url).secret("/none")
    assert "\n" not in str(caught.value)


def test_a_zone_is_read_and_changed_with_the_role(cloud: Cloud, metadata: Scripted) -> None:
    zone = cloud.aws.add_zone("unilans.net")
    api = Route53Client(InstanceRole(InstanceMetadata(metadata.url)))
    store = Route53Store(zone, api)
    made = cloud.route53()
    value = [{"Value": '"a <b> & \\303\\244"'}]
    record = {"Name": "t.unilans.net", "Type": "TXT", "TTL": 60, "ResourceRecords": value}
    made.change_resource_record_sets(
        HostedZoneId=zone, ChangeBatch={"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]}
    )
    (found,) = store.at("t.unilans.net")
    assert found.values == ('"a <b> & \\303\\244"',)
    store.change([found], [])
    assert store.at("t.unilans.net") == ()
    api.close()


def test_a_role_that_may_not_is_refused_by_name(cloud: Cloud, metadata: Scripted) -> None:
    zone = cloud.aws.add_zone("unilans.net")
    cloud.client("iam").delete_role_policy(RoleName="machine", PolicyName="own")
    api = Route53Client(InstanceRole(InstanceMetadata(metadata.url)))
    with pytest.raises(FatalError, match="reason=refused api=route53 code=AccessDenied message='User: arn:aws:sts::"):
        Route53Store(zone, api).at("a.unilans.net")
    api.close()


def test_a_clock_that_is_wrong_is_reported(cloud: Cloud, metadata: Scripted) -> None:
    zone = cloud.aws.add_zone("unilans.net")
    api = cloud.route53()
    cloud.clock.ahead = 3600
    with pytest.raises(FatalError, match="code=SignatureDoesNotMatch message='Signature expired: "):
        Route53Store(zone, api).at("a.unilans.net")


def test_credentials_that_end_before_a_machine_thinks_so_are_read_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(credential_lifetime=1.0) as cloud:
        monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
        (instance,) = cloud.run(IamInstanceProfile={"Name": cloud.role("machine", allow("*"))})
        address = cloud.hands.machines[instance].address
        server = Scripted(lambda method, path, headers: cloud.aws.imds(address, method, path, headers))
        api = Route53Client(InstanceRole(InstanceMetadata(server.url), lambda: 0.0))
        store = Route53Store(cloud.aws.add_zone("unilans.net"), api)
        for _ in range(2):
            assert store.at("a.unilans.net") == ()
            time.sleep(1.2)
        assert len([each for each in server.requests if each.endswith("/machine")]) == 2
        api.close()
        server.stop()
