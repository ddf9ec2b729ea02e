"""Machines made by hand that serve the site become machines of fleets, while visitors ask all along: an EC2 instance by an import, with
its hand-made record, and a Triton machine by `adopt`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from localcloud.runtime.prepare import ROOT
from localcloud.runtime.sandbox import Sandbox
from tests.integration.conftest import machines, sandboxed, wait_until
from tests.integration.deployed import HOST
from tests.integration.instep import InStep
from tests.integration.log_inspection import Prober, config_file

pytestmark = [pytest.mark.machines, pytest.mark.engine, pytest.mark.prove]
DEBIAN = "/aws/service/debian/release/12/latest/amd64"
BEFORE = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 5
  rollcall:sites: { www: { zone: scalability.expert, host: www, ttl: 60 } }
  rollcall:fleets:
    web-aws: { cloud: aws, count: 0, size: t3.micro, image: debian-12, joins: [site/www] }
    web-joyent: { cloud: joyent, count: 0, size: g1.micro, image: debian-12, joins: [site/www] }
"""
AFTER = BEFORE.replace("cloud: aws, count: 0", "cloud: aws, count: 1").replace(
    "cloud: joyent, count: 0", "cloud: joyent, count: 1, adopt: { 0: old-web }"
)


class ExistingSite(InStep):
    """A site that one EC2 instance serves, made with its security group and its record by hand."""

    def make(self) -> str:
        self.group = self.ec2.create_security_group(GroupName="old", Description="old")["GroupId"]
        web = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        self.ec2.authorize_security_group_ingress(GroupId=self.group, IpPermissions=[web])
        ami = self.aws("ssm").get_parameter(Name=DEBIAN)["Parameter"]["Value"]
        made = self.ec2.run_instances(
            MinCount=1, MaxCount=1, ImageId=ami, InstanceType="t3.micro", SecurityGroupIds=[self.group]
        )
        old = str(made["Instances"][0]["InstanceId"])
        wait_until("it runs", lambda: self.listed(old)["state"] == "running", 60)
        self.inside(old, "systemctl", "start", "nginx")
        self.call("POST", {"name": HOST, "type": "A", "content": self.listed(old)["addresses"][0], "ttl": 60})
        return old

    def listed(self, instance: str) -> dict[str, Any]:
        return next(each for each in machines(self.sandbox) if each["id"] == instance)

    def call(self, method: str, body: Any, record: str = "") -> Any:
        token = {"Authorization": f"Bearer {self.env['CLOUDFLARE_API_TOKEN']}"}
        url = f"{self.env['CLOUDFLARE_BASE_URL']}/zones/{self.zone()}/dns_records{record}"
        reply = requests.request(method, url, json=body, headers=token, timeout=10)
        assert reply.ok, reply.text
        return reply.json()["result"]

    def adopt(self, *words: str) -> dict[str, Any]:
        """`rollcall adopt`, as an operator in the program's folder."""
        code = "import sys; from rollcall.console import main; sys.exit(main(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", code, "adopt", "--stack", "local", "--json", *words],
            cwd=self.sandbox.work,
            env={**self.env, "HOME": str(self.sandbox.state), "PYTHONPATH": f"{ROOT}:{ROOT / 'userdata'}"},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def test_machines_made_by_hand_become_the_fleets_and_no_visitor_fails(tmp_path: Path) -> None:
    config = config_file(tmp_path, BEFORE)
    with sandboxed("existing", config) as sandbox:
        stack = ExistingSite(sandbox)
        old = stack.make()
        wait_until("it serves", lambda: stack.ask_site() == "HTTP 200", 30)
        with Prober(stack.ask_site, 0.1).running() as site:
            become_fleets(sandbox, stack, config, old)
            assert len(site.answers) > 50
        assert site.failures({"HTTP 200", *stack.in_state()}.__contains__) == []


def become_fleets(sandbox: Sandbox, stack: ExistingSite, config: Path, old: str) -> None:
    stack.up()
    assert stack.adopt()["records"][0]["reason"] == "no running machine of the state has this address"
    fleet = next(each["urn"] for each in stack.resources() if each["urn"].endswith("Ec2Fleet::web-aws"))
    sandbox.pulumi(
        "import", "aws:ec2/instance:Instance", "web-aws-0", old, "--parent", f"web-aws={fleet}", "--protect=false",
        "--generate-code=false", "--yes", "--stack", "local", capture=True,
    )  # fmt: skip
    (dry,) = stack.adopt()["records"]
    assert dry["becomes"] == f"rollcall/1 local web-aws 0 000000 {old}"
    assert stack.adopt("--yes")["written"] == [dry["becomes"]]

    # The Triton machine is stopped, so `up` starts it with its new user-script.
    stack.triton("create", "--name", "old-web", "--tag", "kept=yes", "--wait", "debian-12", "g1.nano")
    (triton,) = (each["id"] for each in machines(sandbox) if each["cloud"] == "joyent")
    stack.triton("instance", "stop", "-w", triton)
    config.write_text(AFTER)
    sandbox.lay_out()
    shown = sandbox.pulumi("preview", "--stack", "local", capture=True).stdout
    assert "web-aws-0 was not booted by Rollcall and cannot join" in shown
    assert f"web-joyent-0: old-web ({triton}) is adopted; it is called web-joyent-0-GENERATION" in shown
    assert "its size goes from g1.nano to g1.micro" in shown and "`up` starts it" in shown

    stack.up()
    joined = stack.in_state()
    assert triton in joined and old not in joined and len(joined) == 2
    stack.assert_tagged(joined)
    addresses = {each["addresses"][0] for each in machines(sandbox) if each["id"] in joined}
    assert set(stack.answers()) == addresses == {each["content"] for each in stack.records()}
    assert stack.ec2.describe_instances(InstanceIds=[old])["Reservations"][0]["Instances"][0]["State"]["Name"] in (
        "shutting-down",
        "terminated",
    )
    tags = json.loads(stack.triton("instance", "get", "-j", triton))["tags"]
    assert tags["kept"] in ("yes", True) and tags["rollcall-fleet"] == "web-joyent"
    assert "unchanged" in sandbox.pulumi("preview", "--expect-no-changes", "--stack", "local", capture=True).stdout
