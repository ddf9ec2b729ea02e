"""`rollcall doctor` in environments that are broken in one way each: it names the cause and the fix, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.commands.doctor.points import Verdict, exit_code
from localcloud.aws import Aws
from localcloud.aws.accounts import Accounts
from localcloud.aws.route53 import UNLIMITED
from localcloud.machines.compute import InstantHypervisor
from localcloud.network.http import Server, listen
from localcloud.plugins import install
from tests.cloud import cloudapi_server, cloudflare_server
from tests.cloud.aws_cloud import Cloud, point_shell_at, running
from tests.cloud.doctor_world import (
    ROOT,
    SERVICE_ZONE,
    SITE_ZONE,
    Names,
    World,
    own_environment,
    programs,
    project,
    user_of,
    verdicts,
)

pytestmark = pytest.mark.clouds
SERVICES = {"theService": {"port": 4218, "incarnations": {"v1": {}}}}
VALUES: dict[str, Any] = {
    "aws:region": "us-west-2",
    "rollcall:sites": {"www": {"zone": SITE_ZONE}},
    "rollcall:serviceDiscovery": {"zone": SERVICE_ZONE, "services": SERVICES},
    "rollcall:fleets": {
        "web": {"cloud": "aws", "count": 1, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]},
        "api": {"cloud": "joyent", "count": 1, "size": "g1.micro", "image": "debian-12", "joins": ["theService/v1"]},
    },
}


@pytest.fixture(scope="module")
def aws() -> Iterator[Cloud]:
    with running(hypervisor=InstantHypervisor(), route53_limits=UNLIMITED) as made:
        made.aws.add_zone(SERVICE_ZONE)
        yield made


@pytest.fixture(scope="module")
def key(aws: Cloud) -> tuple[str, str]:
    """The key of a user with the permissions of docs/operations.md, and no other."""
    world = World.__new__(World)
    world.values = VALUES
    return user_of(aws, world.policy())


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    install(home, Path(sys.executable))
    return home


@pytest.fixture(scope="module")
def site() -> Iterator[cloudflare_server.Front]:
    made = cloudflare_server.Front()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def triton() -> Iterator[cloudapi_server.Front]:
    made = cloudapi_server.Front()
    yield made
    made.stop()


@pytest.fixture
def world(
    aws: Cloud,
    key: tuple[str, str],
    plugins: Path,
    site: cloudflare_server.Front,
    triton: cloudapi_server.Front,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    own_environment(monkeypatch)
    point_shell_at(aws, monkeypatch)
    lab, cloudapi = cloudflare_server.Lab(site), cloudapi_server.Lab(triton)
    folder, answers = programs(tmp_path)
    (tmp_path / "key").write_bytes(cloudapi_server.private_text(cloudapi_server.RSA_KEY))
    for name, value in {
        "PATH": f"{folder}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PULUMI_HOME": str(plugins),
        "AWS_ACCESS_KEY_ID": key[0],
        "AWS_SECRET_ACCESS_KEY": key[1],
        "AWS_MAX_ATTEMPTS": "1",
        "CLOUDFLARE_BASE_URL": site.url,
        "CLOUDFLARE_API_TOKEN": cloudflare_server.OPERATOR,
        "TRITON_URL": cloudapi.url,
        "TRITON_ACCOUNT": cloudapi_server.ACCOUNT,
        "TRITON_KEY_ID": cloudapi.fingerprint,
        "TRITON_KEY_FILE": str(tmp_path / "key"),
    }.items():
        monkeypatch.setenv(name, value)
    with contextlib.ExitStack() as ended:
        names = Names(ended, monkeypatch)
        zone = aws.client("route53").list_hosted_zones_by_name(DNSName=SERVICE_ZONE)["HostedZones"][0]["Id"]
        servers = aws.client("route53").get_hosted_zone(Id=zone)["DelegationSet"]["NameServers"]
        listed = lab.api.zones.get(zone_id=lab.zone)
        assert listed is not None
        resolver = names.serve({SITE_ZONE: tuple(listed.name_servers), SERVICE_ZONE: tuple(servers)})
        made = World(
            root=project(tmp_path / "project"),
            aws=aws,
            site=lab,
            triton=cloudapi,
            names=names,
            patch=monkeypatch,
            values={**VALUES, "rollcall:resolvers": [resolver]},
            answers=answers,
            key=key,
        )
        yield made
    aws.faults.clear()
    aws.clock.ahead = 0.0
    made.restore()


def test_in_a_healthy_environment_all_is_ok(world: World) -> None:
    points = world.diagnose()
    assert verdicts(points, Verdict.WRONG, Verdict.NOT_PROVEN) == []
    assert exit_code(points) == 0
    found = {each.name: each.text for each in points}
    account = world.aws.aws.account
    assert found["AWS credentials"] == f"account {account}, arn:aws:iam::{account}:user/deploy, from AWS_ACCESS_KEY_ID"
    assert re.fullmatch(
        r"the user deploy may do all \d\d\d actions of this stack, by simulation", found["AWS permissions"]
    )
    assert found["AWS sources"] == f"provider and boto3 both work in account {account}"
    assert found[f"delegation of {SITE_ZONE}"].startswith("expert names ")
    assert found[f"name servers of {SERVICE_ZONE}"] == "each answers by UDP and TCP with authority"


def old_engine(world: World) -> None:
    (world.answers / "version").write_text("v3.100.0\n")


def no_plugin(world: World) -> None:
    home = world.root.parent / "other-home"
    install(home, Path(sys.executable))
    shutil.rmtree(next((home / "plugins").glob("resource-cloudflare-*")))
    world.patch.setenv("PULUMI_HOME", str(home))


def other_package(world: World) -> None:
    pins = (ROOT / "requirements.txt").read_text()
    program = world.root.parent / "program"
    (program / "components").mkdir(parents=True)
    (program / "requirements.txt").write_text(re.sub(r"^requests==\S+", "requests==1.0.0", pins, flags=re.M))
    text = (world.root / "Pulumi.yaml").read_text()
    (world.root / "Pulumi.yaml").write_text(text.replace(f"main: {ROOT}", f"main: {program}"))


def expired_key(world: World) -> None:
    """Sign in as a role, and let the session end."""
    iam, role = world.aws.client("iam"), "expiring"
    trust = {"Effect": "Allow", "Principal": {"AWS": world.aws.aws.account}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument=document)["Role"]["Arn"]
    got = world.aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="ann")["Credentials"]
    sign_in(world, got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])
    sessions = world.aws.aws.sts._sessions
    sessions._issued[got["AccessKeyId"]] = replace(sessions._issued[got["AccessKeyId"]], expires=time.time() - 1)


def sign_in(world: World, *key: str) -> None:
    for name, value in zip(("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"), key, strict=False):
        world.patch.setenv(f"AWS_{name}", value)


@contextlib.contextmanager
def other_account(world: World) -> Iterator[tuple[str, str]]:
    """A second AWS account behind the same address; the key of its operator."""
    key = ("AKIAOTHER00000000001", "a-secret-of-another")
    other = Aws(operator=key, account="333333333333", hypervisor=InstantHypervisor())
    server = Server(Accounts(world.aws.aws, other), [socket_ := listen("127.0.0.1")])
    server.start()
    world.patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.ports[0]}")
    try:
        yield key
    finally:
        server.stop()
        socket_.close()
        other.close()


def other_account_of_the_provider(world: World) -> Any:
    """A program on the PATH that starts the plugin with the credentials of another account."""

    @contextlib.contextmanager
    def broken() -> Iterator[None]:
        with other_account(world) as key:
            plugin = next((Path(os.environ["PULUMI_HOME"]) / "plugins").glob("resource-aws-*/pulumi-resource-aws"))
            wrapper = world.answers.parent / "pulumi-resource-aws"
            exports = f"export AWS_ACCESS_KEY_ID={key[0]} AWS_SECRET_ACCESS_KEY={key[1]}"
            wrapper.write_text(f'#!/bin/sh\n{exports}\nexec {plugin} "$@"\n')
            wrapper.chmod(0o755)
            yield

    return broken()


def other_account_of_the_profile(world: World) -> Any:
    @contextlib.contextmanager
    def broken() -> Iterator[None]:
        with other_account(world) as key:
            file = world.root.parent / "credentials"
            file.write_text(f"[shop]\naws_access_key_id = {key[0]}\naws_secret_access_key = {key[1]}\n")
            world.patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
            world.patch.setenv("AWS_PROFILE", "shop")
            yield

    return broken()


def lacking_permission(world: World) -> None:
    world.grant(world.policy("ec2:RunInstances"))


def other_token(world: World) -> None:
    other = world.site.cloud.add_zone("other.example")
    client = world.site.token("Zone Read", "DNS Write", resources={f"com.cloudflare.api.account.zone.{other}": "*"})
    world.patch.setenv("CLOUDFLARE_API_TOKEN", str(client.api_token))
    world.values["rollcall:machineToken"] = str(client.api_token)
    world.secrets = ("rollcall:machineToken",)


def foreign_key(world: World) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (world.root.parent / "key").write_bytes(cloudapi_server.private_text(made))
    world.patch.delenv("TRITON_KEY_ID")


def other_delegation(world: World) -> None:
    world.names.delegated["expert"][SITE_ZONE] = ("ns1.registrar.example.", "ns2.registrar.example.")


def no_delegation(world: World) -> None:
    del world.names.delegated["net"][SERVICE_ZONE]


def lame_server(world: World) -> None:
    world.names.faults.add("dns:ada lame")


def wrong_clock(world: World) -> None:
    world.aws.clock.ahead = 1200.0


def blocked_port(world: World) -> None:
    world.names.faults.add("dns drop")


def dead_proxy(world: World) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        world.patch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free.getsockname()[1]}")


# The broken environment, the check that finds it, and what it says.
BROKEN: list[tuple[Callable[[World], Any], str, str]] = [
    (old_engine, "pulumi", r"pulumi: \S+/pulumi is v3\.100\.0, and 3\.259\.0 or newer is needed\. Install a newer one"),
    (
        no_plugin,
        "plugins",
        r"plugins: \S+ lacks resource cloudflare \S+\. Run `pulumi plugin install resource cloudflare \S+`\.",
    ),
    (
        other_package,
        "packages",
        r"\S+\.venv: requests is \S+ and not 1\.0\.0\. Run `\S+/pip install -r \S+/requirements\.txt`\.",
    ),
    (
        expired_key,
        "AWS credentials",
        r"AWS credentials: they have expired, says GetCallerIdentity \(ExpiredToken\)\. Sign in again",
    ),
    (
        lacking_permission,
        "AWS permissions",
        r"AWS permissions: the user deploy lacks ec2:RunInstances on arn:aws:ec2:us-west-2:\d+:instance/i-\w+\. Allow what",
    ),
    (
        other_account_of_the_provider,
        "AWS sources",
        r"AWS credentials: the AWS provider works in account 333333333333 .* in account \d+ .* Set aws:profile or aws:assumeRoles",
    ),
    (
        other_account_of_the_profile,
        "AWS sources",
        r"AWS_PROFILE: shop belongs to account 333333333333, but AWS_ACCESS_KEY_ID hides it, .* Unset the one that you do not mean",
    ),
    (
        other_token,
        "Cloudflare token",
        rf"rollcall:sites\.www\.zone: {SITE_ZONE} is not in the account of this Cloudflare token\. Add the zone",
    ),
    (
        foreign_key,
        "Triton account and key",
        r"rollcall:joyent: GET /rollcall: 401 \w+: .*Check TRITON_ACCOUNT .*that the account has the public key",
    ),
    (
        other_delegation,
        f"delegation of {SITE_ZONE}",
        rf"{SITE_ZONE}: expert delegates it to ns1\.registrar\.example, ns2\.registrar\.example, and this account's zone is at "
        r"\S+, \S+\. Enter \S+, \S+ at the registrar",
    ),
    (
        no_delegation,
        f"delegation of {SERVICE_ZONE}",
        rf"{SERVICE_ZONE}: net does not delegate it, so no name in it resolves\. Enter ns-\S+, .* at the registrar",
    ),
    (
        lame_server,
        f"name servers of {SITE_ZONE}",
        rf"{SITE_ZONE}: the name server ada\.ns\.cloudflare\.com is lame for this zone .*Fix these servers, or remove them",
    ),
    (wrong_clock, "clock", r"clock: this machine is 1(19\d|20\d) s behind AWS API\. .*Set the clock"),
    (
        blocked_port,
        f"name servers of {SITE_ZONE}",
        rf"port 53: no name server of {SITE_ZONE} answers by UDP or TCP from here\. .*Open UDP and TCP 53 outward",
    ),
    (
        dead_proxy,
        "HTTPS_PROXY",
        r"HTTPS_PROXY: the proxy 127\.0\.0\.1:\d+ cannot be reached \(.*refused\)\. Correct it, or unset it\.",
    ),
]


@pytest.mark.parametrize(("broken", "check", "message"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
def test_a_broken_environment_has_its_cause_and_its_fix(
    world: World, broken: Callable[[World], Any], check: str, message: str
) -> None:
    with broken(world) or contextlib.nullcontext():
        points = world.diagnose()
    texts = [each.text for each in points if each.verdict is Verdict.WRONG]
    found = [each for each in points if each.verdict is Verdict.WRONG and re.match(message, each.text)]
    # Without this check nothing would say so.
    assert {each.name for each in found} == {check}, "\n".join(texts) or "nothing is wrong"
    assert exit_code(points) == 1


@pytest.mark.parametrize("broken", [no_plugin, lacking_permission, other_delegation, dead_proxy])
def test_nothing_else_is_reported_as_wrong(world: World, broken: Callable[[World], None]) -> None:
    broken(world)
    assert len(verdicts(world.diagnose(), Verdict.WRONG)) == 1


def test_what_needs_a_point_that_is_wrong_is_not_proven(world: World) -> None:
    sign_in(world, "AKIAAAAAAAAAAAAAAAAA", "nothing")
    points = {each.name: each for each in world.diagnose()}
    assert points["AWS credentials"].text.startswith("AWS_ACCESS_KEY_ID: AWS does not accept the credentials")
    assert points["AWS permissions"].verdict is Verdict.NOT_PROVEN
    assert points["AWS permissions"].text == (
        "AWS permissions: cannot be checked before AWS credentials. Correct that first."
    )


def test_a_policy_that_depends_on_an_unknown_condition_is_not_proven(world: World) -> None:
    policy = world.policy("ec2:RunInstances")
    condition = {"StringEquals": {"aws:PrincipalTag/team": "shop"}}
    policy["Statement"].append(
        {"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "*", "Condition": condition}
    )
    world.grant(policy)
    points = world.diagnose()
    (text,) = verdicts(points, Verdict.NOT_PROVEN)
    assert text.startswith("AWS permissions: whether the user deploy may ec2:RunInstances")
    assert "depends on aws:PrincipalTag/team" in text and exit_code(points) == 2


def test_without_the_right_to_simulate_permissions_are_not_proven(world: World) -> None:
    world.grant(world.policy("iam:SimulatePrincipalPolicy"))
    points = world.diagnose()
    (text,) = verdicts(points, Verdict.NOT_PROVEN)
    assert re.fullmatch(
        r"AWS permissions: cannot be simulated for \S+:user/deploy \(AccessDenied\)\. Allow iam:SimulatePrincipalPolicy and iam:GetRole\.",
        text,
    )
    assert exit_code(points) == 2


def test_a_token_that_may_not_read_its_own_permissions_is_not_proven(world: World) -> None:
    token = str(world.site.token("Zone Read", "DNS Write").api_token)
    world.patch.setenv("CLOUDFLARE_API_TOKEN", token)
    world.values["rollcall:machineToken"], world.secrets = token, ("rollcall:machineToken",)
    points = world.diagnose()
    (text,) = verdicts(points, Verdict.NOT_PROVEN)
    assert f"the token reads {SITE_ZONE}, but may not read its own permissions" in text
    assert verdicts(points, Verdict.WRONG) == []


def run_program(world: World, *words: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run `rollcall doctor` as a process. Return it and how long it took, in seconds."""
    world.write()
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "components.commands.doctor", *words],
        cwd=world.root,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'userdata'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done, time.monotonic() - began


def test_an_api_that_does_not_answer_costs_no_more_than_ten_seconds(world: World) -> None:
    with listen("127.0.0.1") as silent:
        world.patch.setenv("TRITON_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        # Name servers have ports of their own only in this process.
        world.patch.setenv("ROLLCALL_DNS", world.values["rollcall:resolvers"][0])
        done, took = run_program(world, "--stack", "prod", "--json")
    assert took < 10, done.stderr
    points = {each["name"]: each for each in json.loads(done.stdout)["points"]}
    late = points["Triton account and key"]
    assert late["verdict"] == "not proven" and re.fullmatch(
        r"Triton account and key: did not end within \d s\. Check the network, and run it again\.", late["text"]
    )
    assert points["clock"]["verdict"] == "not proven" or "does not answer" in points["CloudAPI"]["text"]
    # How much of the rest ends in time depends on this machine.
    assert points["Python"]["verdict"] == "ok"


def test_the_program_shows_what_is_wrong_first_and_says_it_by_its_exit_code(world: World) -> None:
    old_engine(world)
    done, _ = run_program(world, "--stack", "prod")
    assert done.returncode == 1 and done.stderr == ""
    summary, _, title, first, *_ = done.stdout.splitlines()
    assert re.fullmatch(r"\d\d points: \d+ wrong, \d+ not proven, \d+ ok\.", summary)
    assert title == "Wrong" and first.startswith("  pulumi: ")
    assert re.search(r"^  wrong +pulumi$", done.stdout, re.M) and re.search(
        r"^  ok +Python +3\.\d+$", done.stdout, re.M
    )
    assert world.key[1] not in done.stdout
