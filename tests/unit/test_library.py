"""rollcall_pulumi: what it accepts of a program, and how the package is installed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
import tomllib

from components.config.reader import read
from rollcall_pulumi import DeploymentArgs, FleetInputs

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETTINGS = {
    "sites": {"www": {"zone": "example.com", "host": "www"}},
    "fleets": {
        "web": {"cloud": "aws", "count": 1, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]},
        "api": {"cloud": "aws", "count": 1, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]},
        "old": {"cloud": "joyent", "count": 1, "size": "g1.micro", "image": "debian-12", "joins": ["site/www"]},
    },
}


@pytest.fixture(autouse=True)
def loop() -> Iterator[None]:
    """An output needs an event loop."""
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield
    pending = asyncio.all_tasks(made)
    made.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
    made.close()


def test_arguments_have_the_keys_of_the_configuration() -> None:
    args = DeploymentArgs(service_discovery={"zone": "x"}, drain_delay=5, fleets={}, safe_deletes=False)
    assert args.settings() == {"serviceDiscovery": {"zone": "x"}, "drainDelay": 5, "fleets": {}, "safeDeletes": False}
    assert DeploymentArgs().settings() == {}


def test_an_output_in_the_arguments_is_named_by_its_key() -> None:
    late = pulumi.Output.from_input("t3.micro")
    with pytest.raises(pulumi.RunError) as refused:
        DeploymentArgs(fleets={"web": {"size": late, "joins": ["site/www", late]}}, sites=late).settings()  # type: ignore[arg-type]
    assert [line.partition(": ")[0] for line in str(refused.value).splitlines()] == [
        "rollcall:sites",
        "rollcall:fleets.web.size",
        "rollcall:fleets.web.joins[1]",
    ]


ROLE: Any = object()
IN_VPC = FleetInputs(vpc="vpc-1", subnets=["subnet-1"])
OWN_ROLE = FleetInputs(role=ROLE, instance_profile="web")


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"web": IN_VPC, "api": OWN_ROLE}, []),
        ({"wbe": IN_VPC}, ["DeploymentArgs.inputs['wbe']: no fleet has this name. Give one of api, old, web."]),
        ({"old": IN_VPC}, ["DeploymentArgs.inputs['old']: is for a fleet on joyent. Only EC2 fleets take inputs."]),
        ({"web": FleetInputs(vpc="vpc-1")}, ["DeploymentArgs.inputs['web']: has only one of vpc and subnets."]),
        (
            {"web": FleetInputs(subnets=["subnet-1"])},
            ["DeploymentArgs.inputs['web']: has only one of vpc and subnets."],
        ),
        ({"web": FleetInputs(role=ROLE)}, ["DeploymentArgs.inputs['web']: has only one of role and instance_profile."]),
        ({"web": OWN_ROLE, "api": OWN_ROLE}, ["DeploymentArgs.inputs['api']: has the role of another fleet."]),
    ],
)
def test_inputs_are_checked(inputs: dict[str, FleetInputs], expected: list[str]) -> None:
    found = DeploymentArgs(inputs=inputs).faults(read("prod", SETTINGS))
    assert len(found) == len(expected)
    assert all(each.startswith(wanted) for each, wanted in zip(found, expected, strict=True)), found


def test_the_example_has_its_machines_where_its_program_says() -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "userdata")])}
    words = [sys.executable, "-m", "tests.unit.library_graph"]
    found = json.loads(subprocess.run(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, check=True).stdout)
    made, tags = found["made"], found["tags"]
    for index, subnet in enumerate(("subnet-b", "subnet-a")):
        machine = made[f"aws:ec2/instance:Instance::web-{index}"]
        assert machine["subnetId"] == subnet
        assert machine["vpcSecurityGroupIds"] == ["web-group-id", "monitored-id"]
        assert machine["iamInstanceProfile"] == "web-1a2b3c4"
    assert made["aws:ec2/securityGroup:SecurityGroup::web-group"]["vpcId"] == "vpc-1"
    assert made["aws:iam/rolePolicy:RolePolicy::web-policy"]["role"] == "web-1a2b3c4"
    # Rollcall makes neither a role nor a profile, and tags nothing of the program.
    iam = [each for each in tags if each.startswith(("aws:iam/role:", "aws:iam/instanceProfile:"))]
    assert sorted(iam) == ["aws:iam/instanceProfile:InstanceProfile::web", "aws:iam/role:Role::web"]
    ours = {each for each, given in tags.items() if given.get("rollcall-stack") == "local"}
    assert "aws:ec2/securityGroup:SecurityGroup::web-group" in ours
    assert not ours & {*iam, "aws:ec2/securityGroup:SecurityGroup::monitored"}
    assert found["error"].startswith("rollcall_pulumi.Deployment 'second': the program has 'rollcall' already")


def test_all_packages_of_the_program_are_installed() -> None:
    folders = {each.parent.relative_to(ROOT) for each in (ROOT / "components").rglob("*.py")}
    packages = {".".join(each.parts) for each in folders}
    assert packages | {"rollcall", "rollcall_pulumi", "rollcall_userdata"} == set(
        PROJECT["tool"]["setuptools"]["packages"]
    )


def test_the_extra_has_what_the_program_needs() -> None:
    wanted = [each.split("#")[0].strip() for each in (ROOT / "requirements.in").read_text().splitlines()]
    names = {each.split("==")[0] for each in wanted if each}
    given = {*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["pulumi"]}
    assert names == {each.split(">")[0].split("<")[0] for each in given}


def test_another_package_with_the_name_of_the_parts_is_named(tmp_path: Path) -> None:
    (tmp_path / "components").mkdir()
    (tmp_path / "components/__init__.py").write_text("")
    paths = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; sys.path += [{str(ROOT)!r}, {str(ROOT / 'userdata')!r}]"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"{paths}; import rollcall_pulumi"], capture_output=True, text=True, check=False
    )
    assert "Rename the folder `components` of your program." in done.stderr
