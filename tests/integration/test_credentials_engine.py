"""A stack with its accounts in the configuration: all of the program works there, with the real engine and two AWS accounts.

The shell has the key of a user of another account, who may assume roles and nothing else; nothing boots.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcloud.runtime.cli import PASSED_ON
from localcloud.runtime.sandbox import Sandbox
from tests.cloud.aws_accounts import PEOPLE, TARGET, World, two_accounts
from tests.integration.conftest import sandboxed
from tests.integration.log_inspection import Arguments
from tests.integration.test_secrets import found

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
FLEET = {
    "cloud": "aws",
    "count": 1,
    "size": "t3.micro",
    "image": "debian-12",
    "joins": ["theService/v1"],
    "timeout": 10,
}
BASE: dict[str, Any] = {
    "aws:region": "us-west-2",
    "rollcall:drainDelay": 0,
    "rollcall:serviceDiscovery": {
        "zone": "unilans.net",
        "services": {"theService": {"port": 4218, "incarnations": {"v1": {}}}},
    },
}


class Shop:
    """The stack `local` in the second account, run from a shell of the first one."""

    def __init__(self, sandbox: Sandbox, world: World) -> None:
        self.sandbox, self.world = sandbox, world
        self.file = sandbox.work / "Pulumi.local.yaml"
        self.deploy = world.role("deploy", {"AWS": PEOPLE}, StringEquals={"sts:ExternalId": "shop"})
        self.roles = [{"roleArn": self.deploy, "externalId": "shop", "sessionName": "rollcall"}]
        self.shell = {
            "AWS_ENDPOINT_URL": world.url,
            "AWS_ACCESS_KEY_ID": world.ann[0],
            "AWS_SECRET_ACCESS_KEY": world.ann[1],
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def configure(self, fleets: dict[str, Any], **aws: Any) -> None:
        salt = [line for line in self.file.read_text().splitlines() if line.startswith("encryptionsalt")]
        given_settings = {**BASE, "rollcall:fleets": fleets, **{f"aws:{key}": value for key, value in aws.items()}}
        self.file.write_text(
            yaml.safe_dump({"config": given_settings}, sort_keys=False) + "".join(f"{line}\n" for line in salt)
        )

    def pulumi(self, *words: str, **env: str) -> tuple[int, str]:
        done = self.sandbox.pulumi(*words, "--stack", "local", capture=True, check=False, extra={**self.shell, **env})
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    def tool(self, module: str, *words: str) -> tuple[int, str]:
        """One of the command line tools, in the same shell."""
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        done = subprocess.run(
            [sys.executable, "-m", f"components.commands.{module}", *words],
            cwd=self.sandbox.work,
            env={**passed, **self.sandbox.environment(), **self.shell},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def instances(self, key: tuple[str, ...] = (), region: str = "us-west-2") -> list[str]:
        pages = self.world.client("ec2", key, region).describe_instances()["Reservations"]
        found = [each for page in pages for each in page["Instances"]]
        return [each["InstanceId"] for each in found if each["State"]["Name"] == "running"]

    def run_by_the_shell(self) -> set[str]:
        """What the shell's own key was used for since the last time, and that another key was used at all."""
        calls = self.world.calls()
        assert any(key not in ("-", self.world.ann[0]) for key, _ in calls), calls
        return {action for key, action in calls if key == self.world.ann[0]}

    def resources(self) -> list[str]:
        types = [each["type"] for each in self.sandbox.resources()]
        return [each for each in types if not each.startswith("pulumi:")]


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with two_accounts() as world, sandboxed("accounts", machines=False) as sandbox:
        world.target.add_zone("unilans.net")
        yield Shop(sandbox, world)


ONLY_THAT = {"sts:AssumeRole"}
# Without a preview of its own: the tests show that one apart.
AT_ONCE = ("--yes", "--skip-preview")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"assumeRole": {"roleArn": "ROLE"}},
            "aws:assumeRole: is not a key of the AWS provider 7. Write aws:assumeRoles, a list.",
        ),
        (
            {"assumeRoles": [{"roleArn": "ROLE", "externalId": "x1"}]},
            "aws:assumeRoles: AWS does not let the credentials",
        ),
        ({"profile": "nobody-has-this"}, "aws:profile: The config profile (nobody-has-this) could not be found"),
        (
            {"accessKey": "AKIAROBOT00000000001", "secretKey": "plain"},
            "aws:secretKey: is in plain text. Run `pulumi config set",
        ),
        ({}, "AWS credentials: AWS does not let them"),
    ],
    ids=["a key of earlier versions", "an external id", "a profile", "plain text", "the shell's own account"],
)
def test_what_cannot_be_used_is_named_by_its_key_and_nothing_is_made(
    shop: Shop, wrong: dict[str, Any], message: str
) -> None:
    aws = json.loads(json.dumps(wrong).replace("ROLE", shop.deploy))
    shop.configure({"api": FLEET}, **aws)
    code, printed = shop.pulumi("up", "--yes")
    assert code and message in printed, printed
    assert shop.resources() == [] and "plain" not in printed.replace("plain text", "")


def test_an_account_that_the_list_does_not_let_in_is_named(shop: Shop) -> None:
    shop.configure({"api": FLEET}, assumeRoles=shop.roles, allowedAccountIds=[PEOPLE])
    code, printed = shop.pulumi("up", "--yes")
    assert code and f"aws:allowedAccountIds: the credentials are those of account {TARGET}" in printed, printed
    assert shop.resources() == []


def test_a_preview_asks_with_the_roles_credentials_alone(shop: Shop) -> None:
    shop.configure({"api": FLEET}, assumeRoles=shop.roles, allowedAccountIds=[TARGET])
    shop.world.calls()
    code, printed = shop.pulumi("preview")
    assert code == 0, printed
    assert shop.run_by_the_shell() == ONLY_THAT


def test_an_up_makes_everything_in_the_roles_account_in_two_regions(shop: Shop) -> None:
    fleets = {"api": FLEET, "far": {**FLEET, "region": "eu-west-1"}}
    shop.configure(fleets, assumeRoles=shop.roles, allowedAccountIds=[TARGET])
    code, printed = shop.pulumi("up", *AT_ONCE)
    # Nothing boots, so nothing answers: both machines are there, and the roll calls say so.
    assert code and "the roll call was not answered, and nothing changed for 10 s" in printed, printed
    assert shop.run_by_the_shell() == ONLY_THAT
    people = ("AKIAPEOPLE0000000001", "s")
    for region in ("us-west-2", "eu-west-1"):
        assert len(shop.instances(region=region)) == 1 and shop.instances(people, region) == []


@pytest.mark.parametrize(
    ("module", "words", "code", "says"),
    [
        # The roll calls of the `up` above failed, so it was counted by none.
        ("status", ["--stack", "local"], 1, "in no roll call"),
        ("adopt", ["--stack", "local"], 0, "nothing to adopt"),
        ("catalogue", ["--stack", "local", "aws", "t3.micro"], 0, "t3.micro"),
        ("catalogue", ["aws", "t3.micro"], 0, "t3.micro"),
    ],
    ids=["status", "adopt", "catalogue of a stack", "catalogue of the selected stack"],
)
def test_the_command_line_tools_ask_with_the_roles_credentials(
    shop: Shop, module: str, words: list[str], code: int, says: str
) -> None:
    shop.world.calls()
    done, printed = shop.tool(module, *words)
    assert (done, says in printed) == (code, True), printed
    assert shop.run_by_the_shell() == ONLY_THAT


def test_a_fleet_is_deployed_inspected_and_destroyed_with_the_roles_credentials(shop: Shop) -> None:
    shop.configure({"api": {**FLEET, "count": 0}}, assumeRoles=shop.roles)
    code, printed = shop.pulumi("up", *AT_ONCE)
    assert code == 0, printed
    assert shop.run_by_the_shell() == ONLY_THAT
    done, printed = shop.tool("status", "--stack", "local")
    assert (done, "In step" in printed) == (0, True), printed
    assert shop.run_by_the_shell() == ONLY_THAT
    assert shop.instances() == shop.instances(region="eu-west-1") == []
    code, printed = shop.pulumi("destroy", *AT_ONCE)
    assert code == 0, printed
    assert shop.run_by_the_shell() == ONLY_THAT


def test_a_key_in_the_configuration_is_used_and_is_nowhere_in_plain_text(shop: Shop, tmp_path: Path) -> None:
    iam = shop.world.client("iam")
    iam.create_user(UserName="robot")
    iam.put_user_policy(
        UserName="robot",
        PolicyName="own",
        PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
        ),
    )
    key = iam.create_access_key(UserName="robot")["AccessKey"]
    shop.configure({"api": {**FLEET, "count": 0}, "far": {**FLEET, "count": 0, "region": "eu-west-1"}})
    with Arguments().recorded() as arguments:
        for name, value in (("aws:accessKey", key["AccessKeyId"]), ("aws:secretKey", key["SecretAccessKey"])):
            # From a file, as an operator does who leaves no trace.
            (tmp_path / "value").write_text(value)
            with (tmp_path / "value").open() as given:
                subprocess.run(
                    ["pulumi", "config", "set", "--secret", name, "--stack", "local"],
                    cwd=shop.sandbox.work,
                    env={**os.environ, **shop.sandbox.environment()},
                    stdin=given,
                    check=True,
                )
        (tmp_path / "value").unlink()
        shop.world.calls()
        code, printed = shop.pulumi("up", *AT_ONCE)
        assert code == 0, printed
        calls = shop.world.calls()
        assert {used for used, _ in calls} == {key["AccessKeyId"]}, calls
        done, shown = shop.tool("status", "--stack", "local", "--json")
        assert done == 0, shown
        assert {used for used, _ in shop.world.calls()} == {key["AccessKeyId"]}
        preview = shop.pulumi("preview", "--diff")[1]
        destroyed = shop.pulumi("destroy", *AT_ONCE)[1]
    state = shop.sandbox.state
    files = [each for each in state.rglob("*") if each.is_file() and each.suffix not in (".so", ".pyc")]
    places = [(str(each), each.read_bytes()) for each in files if "program/.venv" not in str(each)]
    places += [("the engine's output", (printed + preview + destroyed + shown).encode())]
    places += [("a process's arguments", each) for each in arguments.seen]
    assert len(places) > 10
    assert found({"aws:secretKey": key["SecretAccessKey"]}, places) == []
    # The search finds what is there.
    assert found({"x": key["SecretAccessKey"]}, [("here", f"a{key['SecretAccessKey']}b".encode())])


def test_cloudflares_configuration_counts_before_the_environment_on_both_sides(shop: Shop) -> None:
    environ = shop.sandbox.environment()
    site = {"web": {**FLEET, "cloud": "joyent", "size": "g1.micro", "count": 0, "joins": ["site/www"]}}
    given_settings = {"rollcall:sites": {"www": {"zone": "scalability.expert", "ttl": 60}}, "rollcall:fleets": site}
    salt = [line for line in shop.file.read_text().splitlines() if line.startswith("encryptionsalt")]
    shop.file.write_text(yaml.safe_dump({"config": given_settings}) + "".join(f"{line}\n" for line in salt))

    def set_secret(value: str) -> None:
        subprocess.run(
            ["pulumi", "config", "set", "--secret", "cloudflare:apiToken", "--stack", "local"],
            cwd=shop.sandbox.work, env={**os.environ, **environ}, input=value, text=True, check=True,
        )  # fmt: skip

    set_secret(environ["CLOUDFLARE_API_TOKEN"])
    code, printed = shop.pulumi("up", *AT_ONCE, CLOUDFLARE_API_TOKEN="x" * 40)
    assert code == 0, printed
    code, printed = shop.pulumi("destroy", *AT_ONCE, CLOUDFLARE_API_TOKEN="x" * 40)
    assert code == 0, printed
    set_secret("y" * 40)
    code, printed = shop.pulumi("up", *AT_ONCE)
    assert code and "cloudflare:apiToken: Cloudflare does not accept it" in printed, printed
