"""rollcall.role_credentials on the local AWS: a workload gets the rights of the fleet's policies, and none of the agent's."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from components.resources.dns_credentials import trust_of
from rollcall.errors import TransientError
from rollcall.machine import CREDENTIALS
from rollcall.role_credentials import Assumed, RoleCredentials, assume
from rollcall.sigv4 import Credentials
from rollcall.workload_units import units
from tests.cloud.aws_cloud import TRUST, Cloud, running

pytestmark = pytest.mark.clouds
ROLE = "arn:aws:iam::123456789012:role/web-workloads"
SETTINGS = {CREDENTIALS: ROLE}


class Machine:
    """A machine with workloads; `refuses` is what STS says."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.queries, self.refuses = folder, 0.0, list[tuple[str, str]](), ""
        self.kept = RoleCredentials(
            self.assume, lambda: "eu-west-1", lambda: "i-1", folder / "aws", folder / "workloads", lambda: self.now
        )

    def assume(self, role: str, session: str) -> Assumed:
        self.queries.append((role, session))
        if self.refuses:
            raise TransientError(self.refuses)
        return Assumed(text=f"keys {len(self.queries)}")

    def runs(self, name: str, **definition: object) -> None:
        home = self.folder / "workloads" / name / "current"
        home.mkdir(parents=True, exist_ok=True)
        (home / "workload.json").write_text(json.dumps({"name": name, **definition}))

    def step(self, *workloads: str, seconds: float = 0.0) -> None:
        self.now += seconds
        self.kept.step(SETTINGS, workloads)

    def text(self, name: str, file: str) -> str:
        return (self.folder / "aws" / name / file).read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_only_workloads_that_ask_get_credentials_and_they_are_renewed_before_they_expire(machine: Machine) -> None:
    machine.runs("shop", awsCredentials=True)
    machine.runs("www")
    machine.step("shop", "www", "site")
    machine.step("shop", "www", "site", seconds=1499)
    assert machine.queries == [(ROLE, "i-1-shop")]
    assert [each.name for each in (machine.folder / "aws").iterdir()] == ["shop"]
    assert machine.text("shop", "credentials.json") == "keys 1"
    assert "region = eu-west-1" in machine.text("shop", "config")
    assert "credential_process = /bin/cat /run/workload-aws/credentials.json" in machine.text("shop", "config")
    machine.step("shop", seconds=2)
    assert machine.text("shop", "credentials.json") == "keys 2"


def test_only_root_may_enter_the_folder_of_all_and_any_user_may_read_in_it(machine: Machine) -> None:
    machine.runs("shop", awsCredentials=True)
    machine.step("shop")
    modes = [stat.S_IMODE((machine.folder / each).stat().st_mode) for each in ("aws", "aws/shop", "aws/shop/config")]
    assert modes == [0o700, 0o755, 0o444]


def test_a_refusal_is_logged_once_and_tried_again(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.runs("shop", awsCredentials=True)
    machine.refuses = "code=AccessDenied"
    for _ in range(3):
        machine.step("shop", seconds=15)
    assert len(machine.queries) == 3
    (line,) = [each.getMessage() for each in caplog.records]
    assert line == "workload=shop reason=no-aws-credentials said='code=AccessDenied'"
    machine.refuses = ""
    machine.step("shop", seconds=15)
    assert machine.text("shop", "credentials.json") == "keys 4"


def test_the_unit_of_a_workload_has_the_folder_and_the_metadata_service_stays_closed() -> None:
    definition = {"name": "shop", "run": "./shop", "awsCredentials": True}
    text = units("shop", definition, "i-1")["workload-shop.service"]
    assert "BindReadOnlyPaths=/run/rollcall/aws/shop:/run/workload-aws\n" in text
    assert 'Environment="AWS_CONFIG_FILE=/run/workload-aws/config"' in text
    assert "IPAddressDeny=169.254.169.254" in text
    without = units("shop", {**definition, "awsCredentials": False}, "i-1")["workload-shop.service"]
    assert "AWS_" not in without and "workload-aws" not in without
    container = {"name": "cart", "container": {"image": "a.example/cart@sha256:0"}, "awsCredentials": True}
    text = units("cart", container, "i-1")["workload-cart.service"]
    assert "--volume=/run/rollcall/aws/cart:/run/workload-aws:ro" in text
    assert "AWS_CONFIG_FILE=/run/workload-aws/config" in text and "IPAddressDeny=169.254.169.254" in text


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as made:
        yield made


def test_a_workload_may_do_what_the_policies_say_and_nothing_of_what_the_agent_may(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    iam = cloud.client("iam")
    everything = json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    )
    agent = iam.create_role(RoleName="agent", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    iam.put_role_policy(RoleName="agent", PolicyName="rollcall", PolicyDocument=everything)
    role = iam.create_role(RoleName="workloads", AssumeRolePolicyDocument=trust_of(agent))["Role"]["Arn"]
    reads = {"Effect": "Allow", "Action": "ssm:DescribeParameters", "Resource": "*"}
    iam.put_role_policy(
        RoleName="workloads",
        PolicyName="rollcall",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [reads]}),
    )

    class Metadata:
        def get(self, path: str, missing: str = "") -> str:
            return {"placement/region": "us-west-2", "services/domain": "amazonaws.com"}[path]

    made = cloud.client("sts").assume_role(RoleArn=agent_trusting_the_operator(cloud), RoleSessionName="i-1")[
        "Credentials"
    ]
    own = Credentials(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"], 2e9)
    monkeypatch.setattr("rollcall.role_credentials.InstanceRole", lambda _: Given(own))
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    found = json.loads(assume(role, "i-1-shop", Metadata()).text)  # type: ignore[arg-type]
    assert found["Version"] == 1 and found["Expiration"]

    def client(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=cloud.url,
            region_name="us-west-2",
            aws_access_key_id=found["AccessKeyId"],
            aws_secret_access_key=found["SecretAccessKey"],
            aws_session_token=found["SessionToken"],
        )

    assert client("ssm").describe_parameters()["Parameters"] == []
    acts: list[Callable[[], Any]] = [
        lambda: client("ssm").get_parameter(Name="/rollcall/local/web/probe-key", WithDecryption=True),
        lambda: client("route53").list_hosted_zones(),
        lambda: client("sts").assume_role(RoleArn=agent, RoleSessionName="back"),
    ]
    for act in acts:
        with pytest.raises(ClientError, match="AccessDenied"):
            act()


class Given:
    """Credentials that do not change."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def current(self) -> Credentials:
        return self._credentials

    def renew(self) -> bool:
        return False


def agent_trusting_the_operator(cloud: Cloud) -> str:
    """Let the operator of the test act for the machine: it assumes the agent's role, which EC2 does otherwise."""
    iam, me = cloud.client("iam"), cloud.client("sts").get_caller_identity()["Arn"]
    iam.update_assume_role_policy(RoleName="agent", PolicyDocument=trust_of(me))
    return str(iam.get_role(RoleName="agent")["Role"]["Arn"])
