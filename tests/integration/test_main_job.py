"""The main job, on booted machines with the real engine: `up`, a stop, a start, a crash, `up` again, `destroy`.

The tests of this file share one deployment and run in the order in which they stand.
"""

from __future__ import annotations

import base64
import gzip
import ipaddress
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from components.resources import userdata
from localcloud.runtime.prepare import ROOT
from localcloud.runtime.sandbox import visit
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.deployed import Deployed

pytestmark = [pytest.mark.machines, pytest.mark.engine]
EVERYTHING = "journalctl --no-pager; cat /var/log/rollcall.log /proc/[0-9]*/cmdline /proc/[0-9]*/environ"
AWS_NET, JOYENT_NET = ipaddress.ip_network("198.51.100.0/24"), ipaddress.ip_network("203.0.113.0/24")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The stack of `make up`, with one machine for each version of the service: these tests are about the site."""
    config = tmp_path_factory.mktemp("main") / "config.yaml"
    stack = yaml.safe_load((ROOT / "Pulumi.local.yaml").read_text())
    for fleet in ("api", "api-next"):
        stack["config"]["rollcall:fleets"][fleet]["count"] = 1
    config.write_text(yaml.safe_dump(stack))
    with sandboxed("main", config) as sandbox:
        deployed = Deployed(sandbox, "")
        deployed.output = deployed.up()
        yield deployed


def test_up_ends_with_four_addresses_of_two_clouds(deployed: Deployed) -> None:
    found = [ipaddress.ip_address(address) for address in deployed.answers()]
    assert len(found) == 4, deployed.output
    assert sum(address in AWS_NET for address in found) == 2
    assert sum(address in JOYENT_NET for address in found) == 2


def test_a_hundred_requests_reach_all_four_machines(deployed: Deployed) -> None:
    served = visit(deployed.env["ROLLCALL_SITE_URL"], 100)
    assert set(served) == {each["id"] for each in deployed.machines("web-")}, served
    assert min(served.values()) >= 10, served


def test_up_again_changes_nothing(deployed: Deployed) -> None:
    assert "unchanged" in (output := deployed.up("--expect-no-changes")), output


def test_each_cloud_has_the_boot_script_and_triton_the_release_with_it(deployed: Deployed) -> None:
    instance = deployed.machine("web-aws-0")["id"]
    attribute = deployed.ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")
    sent = base64.b64decode(attribute["UserData"]["Value"])
    joyent = json.loads(deployed.triton("instance", "get", "-j", deployed.machine("web-joyent-0")["id"]))
    assert len(sent) < 16384
    script, carried = gzip.decompress(sent).decode(), joyent["metadata"]["user-script"]
    # Triton has no room for the steps that a machine without settings of its system does not need.
    assert script == userdata.boot_script() and carried.startswith(userdata.boot_script(system=False))
    assert carried == userdata.build(in_place=False, system=False, dynamic=False)


def test_nginx_logs_its_visitors(deployed: Deployed) -> None:
    visit(deployed.env["ROLLCALL_SITE_URL"], 8)
    for name in ("web-aws-0", "web-joyent-0"):
        log = deployed.inside(deployed.machine(name)["id"], "cat", "/var/log/nginx/access.log")
        assert any(line.startswith(("198.51.100.3 ", "203.0.113.3 ")) for line in log.splitlines()), log[-500:]


def test_a_stop_by_each_clouds_own_client_leaves_and_a_start_returns(deployed: Deployed) -> None:
    aws, joyent = deployed.machine("web-aws-1"), deployed.machine("web-joyent-1")
    deployed.ec2.stop_instances(InstanceIds=[aws["id"]])
    deployed.triton("instance", "stop", "-w", joyent["id"])
    wait_until("the EC2 instance is down", lambda: deployed.machine("web-aws-1")["state"] == "stopped", 60)
    wait_until("both records are gone", lambda: len(deployed.records()) == 2 and len(deployed.answers()) == 2, 5)
    assert set(visit(deployed.env["ROLLCALL_SITE_URL"], 20)) == {
        deployed.machine("web-aws-0")["id"],
        deployed.machine("web-joyent-0")["id"],
    }
    deployed.ec2.start_instances(InstanceIds=[aws["id"]])
    deployed.triton("instance", "start", "-w", joyent["id"])
    wait_until("all four answer again, with no operator", lambda: len(deployed.answers()) == 4, 60)


def test_up_after_they_are_back_changes_no_resource(deployed: Deployed) -> None:
    output = deployed.up()
    assert "created" not in output and "replaced" not in output, output


def test_a_terminated_machine_is_replaced_and_what_a_crash_left_is_removed_by_one_up(deployed: Deployed) -> None:
    old = deployed.machine("web-aws-1")
    deployed.ec2.terminate_instances(InstanceIds=[old["id"]])
    wait_until("its record is gone", lambda: len(deployed.records()) == 3, 60)
    victim = deployed.machine("web-joyent-1")
    address = victim["addresses"][0]
    deployed.sandbox.localcloud("crash", victim["id"])
    wait_until("CloudAPI shows it stopped", lambda: deployed.machine("web-joyent-1")["state"] == "stopped", 30)
    deployed.triton("instance", "delete", "-f", "-w", victim["id"])
    deployed.up()
    assert len(deployed.answers()) == 4
    assert deployed.machine("web-aws-1")["id"] != old["id"]
    assert deployed.machine("web-joyent-1")["id"] != victim["id"]
    assert all(victim["id"] not in (record["comment"] or "") for record in deployed.records()), address


def test_the_token_is_in_no_log_no_state_and_no_process_list(deployed: Deployed) -> None:
    pages = (
        deployed.aws("ssm")
        .get_paginator("get_parameters_by_path")
        .paginate(Path="/rollcall/local", Recursive=True, WithDecryption=True)
    )
    parameters = [each for page in pages for each in page["Parameters"]]
    kept = {each["Name"].rpartition("/")[2]: each["Value"] for each in parameters if each["Type"] == "SecureString"}
    token = kept["token-scalability_expert"]
    assert len(token) == 40, sorted(kept)
    state = deployed.sandbox.pulumi("stack", "export", "--stack", "local", capture=True).stdout
    assert (
        token not in state
        and token not in deployed.output
        and token not in userdata.build(in_place=False, system=False, dynamic=False)
    )
    for file in deployed.sandbox.state.rglob("*"):
        if file.is_file() and not file.is_symlink() and "machines" not in file.parts:
            assert token.encode() not in file.read_bytes(), file
    for each in ("web-aws-0", "web-joyent-0"):
        seen = deployed.inside(deployed.machine(each)["id"], "sh", "-c", EVERYTHING)
        assert "rollcall" in seen and token not in seen


def test_destroy_drains_by_ssh_too_and_a_dead_machine_holds_up_nothing(deployed: Deployed, tmp_path: Path) -> None:
    """`web-aws` has SSH: one of it is alive, one has lost its power."""
    deployed.sandbox.localcloud("crash", deployed.machine("web-aws-1")["id"])
    exits, client = tmp_path / "exits", tmp_path / "ssh"
    client.write_text(f'#!/bin/sh\n{deployed.env["ROLLCALL_SSH"]} "$@"; code=$?\necho $code >>{exits}; exit $code\n')
    client.chmod(0o755)
    given = {"ROLLCALL_SSH": str(client)}
    deployed.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True, extra=given)
    assert deployed.records() == []
    # 0: the agent's unit was stopped, 255: no machine there.
    assert sorted(exits.read_text().split()) == ["0", "255"]
    assert deployed.aws("s3").list_buckets()["Buckets"] == []


def test_stop_leaves_nothing_on_the_machine(deployed: Deployed) -> None:
    instance = deployed.sandbox.instance
    # A copy of the tests' own Python has none of these arguments (tests/warm.py).
    daemon = json.loads((deployed.sandbox.state / "daemon.json").read_text())["pid"]
    deployed.sandbox.stop()
    # The process that made it reaps it.
    wait_until("the local clouds have ended", lambda: not Path(f"/proc/{daemon}").exists(), 30)
    namespaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert instance not in namespaces
    assert instance not in Path("/proc/mounts").read_text()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            assert f"--instance\0{instance}" not in (process / "cmdline").read_text(errors="replace")
        except OSError:
            continue
    left = {each.name for each in (ROOT / ".rollcall" / instance).iterdir()}
    assert left.isdisjoint({"backend", "program", "daemon.json"})
