"""docs/library.md: a program of somebody's own, in a folder outside of Rollcall, with the package installed. Nothing boots."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from components.resources import userdata
from localcloud.runtime.prepare import ROOT
from localcloud.runtime.sandbox import Sandbox
from rollcall import agent as agents
from rollcall.health import Health
from tests.integration.conftest import sandboxed
from tests.integration.deployed import Deployed
from tests.integration.test_in_step_engine import Agents

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
EXAMPLE = ROOT / "docs/examples/library"


class Shop:
    """The example in a folder of its own, and local clouds that boot nothing."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder, self.sandbox = folder, sandbox
        self.deployed = Deployed(sandbox, "")
        shutil.copytree(EXAMPLE, folder)
        self.vpc = self._network()
        stack = folder / "Pulumi.dev.yaml"
        stack.write_text(stack.read_text().replace("vpc-0123456789abcdef0", self.vpc))
        _install(folder / "venv")

    def _network(self) -> str:
        """Make the VPC of a company. The account has no default VPC."""
        ec2 = self.deployed.ec2
        for each in ec2.describe_subnets()["Subnets"]:
            ec2.delete_subnet(SubnetId=each["SubnetId"])
        ec2.delete_vpc(VpcId=ec2.describe_vpcs()["Vpcs"][0]["VpcId"])
        vpc: str = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
        for at, zone in enumerate(("us-west-2a", "us-west-2b")):
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.7.{at}.0/24", AvailabilityZone=zone)
        return vpc

    def pulumi(self, verb: str, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["pulumi", verb, "--stack", "dev", "--non-interactive", *words], cwd=self.folder, env=self.environment(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400, check=False,
        )  # fmt: skip
        assert (done.returncode == 0) == check, done.stdout
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Return the environment of an engine that finds only what is installed in the folder's virtual environment."""
        found = self.sandbox.engines_environment()
        path = [
            each for each in found["PATH"].split(os.pathsep) if "warm" not in each and each != str(ROOT / ".venv/bin")
        ]
        return {**found, "PATH": os.pathsep.join([str(self.folder / "venv/bin"), *path])}

    def instances(self) -> list[Mapping[str, Any]]:
        found = self.deployed.ec2.describe_instances()["Reservations"]
        return [each for one in found for each in one["Instances"] if each["State"]["Name"] == "running"]

    def change(self, old: str, new: str) -> None:
        program = self.folder / "__main__.py"
        assert old in program.read_text()
        program.write_text(program.read_text().replace(old, new))


def _install(venv: Path) -> None:
    """Make a virtual environment with Rollcall as pip installs it, and the other packages of the one that runs the tests."""
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    for name in ("source", "wheels"):
        (venv / name).mkdir()
    listed = subprocess.check_output(["git", "ls-files", "-zco", "--exclude-standard"], cwd=ROOT, text=True)
    for each in filter(None, listed.split("\0")):
        if each.startswith(("components/", "userdata/", "rollcall_pulumi/", "pyproject.toml", "README.md", "LICENSE")):
            (venv / "source" / each).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / each, venv / "source" / each)
    build = [
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(venv / "wheels"),
        str(venv / "source"),
    ]
    subprocess.run([sys.executable, "-m", *build], check=True)
    (wheel,) = (venv / "wheels").glob("*.whl")
    subprocess.run([str(venv / "bin/pip"), "install", "-q", "--no-deps", str(wheel)], check=True)
    # A line of a .pth file adds only the folder: the tests' own installation of Rollcall stays out.
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    with sandboxed("library", machines=False) as sandbox:
        made = Shop(tmp_path / "shop", sandbox)
        monkeypatch.setenv("CLOUDFLARE_BASE_URL", made.deployed.env["CLOUDFLARE_BASE_URL"])
        monkeypatch.setattr(agents, "health_of", lambda _: Health(str))
        monkeypatch.setattr(agents, "REREAD", 1.0)
        hands = Agents(made.deployed, stack="shop.dev")
        hands.start()
        try:
            yield made
        finally:
            hands.stop()


@pytest.mark.prove
def test_the_example_deploys_with_what_its_program_makes(shop: Shop) -> None:
    run = [
        str(shop.folder / "venv/bin/python"),
        "-c",
        "import components, rollcall_pulumi, sys; print(components.__path__)",
    ]
    assert str(shop.folder) in subprocess.check_output(run, text=True, cwd=shop.folder)
    shop.pulumi("stack", "init")
    shown = shop.pulumi("preview")
    assert "rollcall:index:Deployment rollcall create" in shown, shown
    shop.pulumi("up", "--yes", "--skip-preview")
    found, ec2 = shop.instances(), shop.deployed.ec2
    assert len(found) == 2 and {each["VpcId"] for each in found} == {shop.vpc}
    assert {each["Placement"]["AvailabilityZone"] for each in found} == {"us-west-2a", "us-west-2b"}
    groups = {each["GroupId"]: each for each in ec2.describe_security_groups()["SecurityGroups"]}
    for each in found:
        described = {groups[group["GroupId"]]["Description"] for group in each["SecurityGroups"]}
        assert described == {"metrics for the monitoring", "Rollcall shop.dev web"}, described
    # The role of the program has the rights of the machines, and no tag of Rollcall: it belongs to the program.
    iam = shop.deployed.aws("iam")
    (role,) = [each["RoleName"] for each in iam.list_roles()["Roles"] if each["RoleName"].startswith("web-")]
    assert iam.list_role_policies(RoleName=role)["PolicyNames"] == ["rollcall"]
    tagged = {tag["Key"] for tag in iam.list_role_tags(RoleName=role)["Tags"]}
    assert not any(each.startswith("rollcall-") for each in tagged)
    # The release has the bytes that a checkout packs.
    tags = {tag["Key"]: tag["Value"] for tag in found[0]["Tags"]}
    assert tags["rollcall-release"] == userdata.release().digest
    addresses = json.loads(shop.pulumi("stack", "output", "addresses"))["web"]
    assert set(addresses.values()) == set(shop.deployed.answers())
    assert "unchanged" in shop.pulumi("preview", "--expect-no-changes")
    # Errors of the program are found before anything is changed.
    shop.change('"count": 2', '"count": role.name.apply(len)')
    assert "rollcall:fleets.web.count: is an output" in shop.pulumi("preview", check=False)
    shop.change('"count": role.name.apply(len)', '"count": 1')
    shop.pulumi("up", "--yes", "--skip-preview")
    assert len(shop.instances()) == 1
    shop.pulumi("destroy", "--yes", "--skip-preview")
    assert shop.instances() == [] and shop.deployed.records() == []


BY_ROLLCALL = """  rollcall:fleets:
    web: { cloud: aws, count: 1, size: t3.micro, image: debian-12, joins: [site/www] }
"""


@pytest.mark.prove
def test_a_stack_of_rollcalls_own_program_keeps_everything_in_a_component(shop: Shop) -> None:
    program, stack = shop.folder / "__main__.py", shop.folder / "Pulumi.dev.yaml"
    stack.write_text(stack.read_text() + BY_ROLLCALL)
    shop.deployed.ec2.create_default_vpc()
    program.write_text((ROOT / "__main__.py").read_text())
    shop.pulumi("stack", "init")
    shop.pulumi("up", "--yes", "--skip-preview")
    before = {each["InstanceId"] for each in shop.instances()}
    program.write_text('import rollcall_pulumi\n\nrollcall_pulumi.Deployment("rollcall")\n')
    shown = shop.pulumi("up", "--yes", "--skip-preview")
    assert "replaced" not in shown and "deleted" not in shown and "+ 1 created" in shown, shown
    assert {each["InstanceId"] for each in shop.instances()} == before
    assert "unchanged" in shop.pulumi("preview", "--expect-no-changes")
    program.write_text(program.read_text() + 'rollcall_pulumi.Deployment("another")\n')
    assert "the program has 'rollcall' already" in shop.pulumi("preview", check=False)


def test_the_page_has_the_example() -> None:
    page = (ROOT / "docs/library.md").read_text()
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", page, re.S)
    for name in ("__main__.py", "Pulumi.yaml", "Pulumi.dev.yaml"):
        assert (EXAMPLE / name).read_text() in blocks, name
