"""Two AWS accounts behind one address, as a team has them: people sign in to the first, and what they deploy is in the second."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from localcloud.aws import Aws
from localcloud.aws.accounts import Accounts
from localcloud.aws.route53 import UNLIMITED
from localcloud.machines.compute import InstantHypervisor
from localcloud.network.http import Server, listen
from tests.cloud.aws_cloud import allow

PEOPLE, TARGET = "111111111111", "222222222222"
ISSUER, AUDIENCE = "https://tokens.ci.example", "sts.amazonaws.com"
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class _Log(logging.Handler):
    """Which key asked for what, from the request log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@dataclass
class World:
    """`people` has the operator's own user `ann`, who may assume roles and do nothing else; `target` is where things are."""

    people: Aws
    target: Aws
    url: str
    log: _Log
    ann: tuple[str, str]
    root: tuple[str, str] = ("AKIATARGET0000000001", "secret-of-the-target")
    calls_before: int = field(default=0)

    def client(self, service: str, key: tuple[str, ...] = (), region: str = "us-west-2", config: Any = None) -> Any:
        key = key or self.root
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=region,
            config=config,
            aws_access_key_id=key[0],
            aws_secret_access_key=key[1],
            aws_session_token=key[2] if len(key) > 2 else None,
        )

    def role(
        self, name: str, principal: Any, *, policy: Any = None, actions: Any = "sts:AssumeRole", **condition: Any
    ) -> str:
        """A role of the target that this principal may assume; its ARN."""
        statement = {"Effect": "Allow", "Principal": principal, "Action": actions}
        trust = {"Version": "2012-10-17", "Statement": {**statement, **({"Condition": condition} if condition else {})}}
        iam = self.client("iam")
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust), MaxSessionDuration=7200)
        iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(policy or allow("*")))
        return str(made["Role"]["Arn"])

    def calls(self) -> list[tuple[str, str]]:
        """Since the last time: (access key id, `service:Action`) of each request that was signed. A line comes after its answer."""
        seen = -1
        while seen != len(self.log.lines):
            seen = len(self.log.lines)
            time.sleep(0.1)
        found = []
        for line in self.log.lines[self.calls_before :]:
            *_, action, key = line.split(" ")
            if key.startswith("key="):
                found.append((key.removeprefix("key="), action))
        self.calls_before = len(self.log.lines)
        return found


@contextmanager
def two_accounts() -> Iterator[World]:
    people = Aws(operator=("AKIAPEOPLE0000000001", "s"), account=PEOPLE, hypervisor=InstantHypervisor())
    root = ("AKIATARGET0000000001", "secret-of-the-target")
    target = Aws(operator=root, account=TARGET, hypervisor=InstantHypervisor(), route53_limits=UNLIMITED)
    target.issuers.add(ISSUER, _KEY.public_key())
    server = Server(Accounts(people, target), [socket := listen("127.0.0.1")])
    log, logger = _Log(), logging.getLogger("localcloud.access")
    level = logger.level
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    server.start()
    try:
        url = f"http://127.0.0.1:{server.ports[0]}"
        world = World(people, target, url, log, ann=("", ""), root=root)
        iam = world.client("iam", ("AKIAPEOPLE0000000001", "s"))
        iam.create_user(UserName="ann")
        may = allow("sts:AssumeRole")
        may["Statement"][0]["Action"] = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
        iam.put_user_policy(UserName="ann", PolicyName="own", PolicyDocument=json.dumps(may))
        key = iam.create_access_key(UserName="ann")["AccessKey"]
        world.ann = (key["AccessKeyId"], key["SecretAccessKey"])
        world.client("iam").create_open_id_connect_provider(
            Url=ISSUER, ClientIDList=[AUDIENCE], ThumbprintList=["0" * 40]
        )
        world.calls()
        yield world
    finally:
        logger.removeHandler(log)
        logger.setLevel(level)
        server.stop()
        socket.close()
        people.close()
        target.close()


def token(subject: str = "repo:shop/rollcall", *, seconds: float = 600, audience: str = AUDIENCE) -> str:
    """An OpenID Connect token of the issuer that the target trusts."""

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"iss": ISSUER, "aud": audience, "sub": subject, "exp": time.time() + seconds}
    signed = f"{part({'alg': 'RS256'})}.{part(claims)}"
    signature = _KEY.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
