"""What the tests of the local AWS share: the cloud on loopback, its clients, and a clock that a test can turn."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config

from localcloud.aws import Aws
from localcloud.machines.compute import Hypervisor, Machine, Observer
from localcloud.network.faults import Faults
from localcloud.network.http import Server, listen
from rollcall.aws import AccessKey
from rollcall.route53api import Route53Client
from tests.patience import came_true

OPERATOR = ("AKIAOPERATOR00000001", "a-secret-of-the-operator")
# One session: it reads the descriptions of the services once.
_SESSION = boto3.session.Session()
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)


class Clock:
    """The real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Hands(Hypervisor):
    """A hypervisor that does nothing by itself: the test says when a machine is running or stopped."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.machines: dict[str, Machine] = {}
        self.observer: Observer | None = None

    def boot(self, machine: Machine, observer: Observer) -> None:
        self.observer = observer
        self.machines[machine.id] = machine
        self.calls.append(("boot", machine.id))

    def shut_down(self, machine_id: str) -> None:
        self.calls.append(("shut_down", machine_id))

    def reboot(self, machine_id: str) -> None:
        self.calls.append(("reboot", machine_id))

    def cut_power(self, machine_id: str) -> None:
        self.calls.append(("cut_power", machine_id))

    def remove(self, machine_id: str) -> None:
        self.calls.append(("remove", machine_id))


class Cloud:
    """A local AWS that listens, and clients of it."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.faults = Faults()
        self.hands = Hands()
        options.setdefault("hypervisor", self.hands)
        self.aws = Aws(operator=OPERATOR, clock=self.clock, faults=self.faults, **options)
        self._listener = listen("127.0.0.1")
        self.server = Server(self.aws.app, [self._listener])
        self.server.start()
        self._clients: dict[tuple[Any, ...], Any] = {}
        self._machines_clients: list[Route53Client] = []
        self.url = f"http://127.0.0.1:{self.server.ports[0]}"

    def client(self, service: str, key: tuple[str, ...] = OPERATOR, region: str = "us-west-2") -> Any:
        known = (service, key, region)
        if known not in self._clients:
            quick = Config(retries={"total_max_attempts": 1, "mode": "standard"}, connect_timeout=5, read_timeout=30)
            self._clients[known] = _SESSION.client(
                service,
                endpoint_url=self.url,
                config=quick,
                region_name=region,
                aws_access_key_id=key[0],
                aws_secret_access_key=key[1],
                aws_session_token=key[2] if len(key) > 2 else None,
            )
        return self._clients[known]

    def route53(self, key: tuple[str, ...] = OPERATOR) -> Route53Client:
        """The machines' own client."""
        made = Route53Client(AccessKey(" ".join(key)), url=self.url)
        self._machines_clients.append(made)
        return made

    def run(self, count: int = 1, **options: Any) -> list[str]:
        """Launch instances that are up (where the hypervisor is a test's hands); their ids."""
        options.setdefault("ImageId", debian(self))
        options.setdefault("InstanceType", "t3.micro")
        made = self.client("ec2").run_instances(MinCount=count, MaxCount=count, **options)
        ids = [each["InstanceId"] for each in made["Instances"]]
        for each in ids:
            self.aws.running(each)
        return ids

    def describe(self, instance: str) -> Any:
        return self.client("ec2").describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]

    def metadata(self, address: str, path: str, **headers: str) -> tuple[int, str]:
        """GET with a fresh token."""
        status, _, token = self.aws.imds(
            address, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        )
        assert status == 200
        status, _, body = self.aws.imds(
            address, "GET", f"/latest/{path}", {"X-aws-ec2-metadata-token": token.decode(), **headers}
        )
        return status, body.decode()

    def role(self, name: str, policy: dict[str, Any] | None = None) -> str:
        """A role with one inline policy, and an instance profile of the same name; the profile's name."""
        iam = self.client("iam")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
        if policy is not None:
            iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(policy))
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        return name

    def credentials(self, instance: str) -> tuple[str, str, str]:
        """What the instance's role gets from its metadata service."""
        address = self.hands.machines[instance].address
        role = self.metadata(address, "meta-data/iam/security-credentials/")[1]
        document = json.loads(self.metadata(address, f"meta-data/iam/security-credentials/{role}")[1])
        return document["AccessKeyId"], document["SecretAccessKey"], document["Token"]

    def close(self) -> None:
        for client in (*self._clients.values(), *self._machines_clients):
            client.close()
        self.server.stop()
        self._listener.close()
        self.aws.close()


def debian(cloud: Cloud) -> str:
    return image(cloud, "/aws/service/debian/release/12/latest/amd64")


def image(cloud: Cloud, parameter: str) -> str:
    return str(cloud.client("ssm").get_parameter(Name=parameter)["Parameter"]["Value"])


def allow(action: str, resource: str = "*", /, **condition: Any) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": action, "Resource": resource}
    if condition:
        statement["Condition"] = condition
    return {"Version": "2012-10-17", "Statement": [statement]}


@contextmanager
def running(**options: Any) -> Iterator[Cloud]:
    cloud = Cloud(**options)
    try:
        yield cloud
    finally:
        cloud.close()


def until(condition: Callable[[], bool], timeout: float = 10.0) -> bool:
    return came_true(condition, timeout)


def point_shell_at(cloud: Cloud, patch: pytest.MonkeyPatch) -> None:
    """Give this process the environment of an operator's shell that works on `cloud`."""
    patch.setenv("AWS_ENDPOINT_URL", cloud.url)
    patch.setenv("AWS_REGION", "us-west-2")
    patch.setenv("AWS_ACCESS_KEY_ID", OPERATOR[0])
    patch.setenv("AWS_SECRET_ACCESS_KEY", OPERATOR[1])
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
