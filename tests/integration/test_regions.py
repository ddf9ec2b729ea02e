"""One site and one service over two AWS regions and two Triton data centres, a machine in each, by one deployment.

The tests share it and run in the order in which they stand.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.joyent.credentials import Credentials
from components.joyent.session import session_of
from localcloud.aws.catalogue import REGIONS
from localcloud.runtime.cli import PASSED_ON
from localcloud.runtime.sandbox import GONE
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.instep import SERVICE, InStep
from tests.integration.log_inspection import Prober, config_file

pytestmark = [pytest.mark.machines, pytest.mark.engine]
HOME, AWAY = REGIONS
HERE, THERE = "local-1", "local-2"
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 5
  rollcall:sites: {{ www: {{ zone: scalability.expert, host: www, ttl: 60 }} }}
  rollcall:serviceDiscovery:
    {{ zone: unilans.net, services: {{ theService: {{ port: 4218, ttl: 5, incarnations: {{ v1: {{}} }} }} }} }}
  rollcall:fleets:
    home: {{ cloud: aws, size: t3.micro, image: debian-12, joins: [site/www, theService/v1] }}
    away: {{ cloud: aws, region: {region}, size: t3.micro, image: debian-12, joins: [site/www, theService/v1] }}
    here: {{ cloud: joyent, size: g1.micro, image: debian-12, joins: [site/www, theService/v1] }}
    there: {{ cloud: joyent, region: {datacenter}, size: g1.micro, image: debian-12, joins: [site/www, theService/v1] }}
"""


ASK_METADATA = """
from urllib.request import Request, urlopen
at, header = "http://169.254.169.254/latest/", "X-aws-ec2-metadata-token"
token = urlopen(Request(at + "api/token", method="PUT", headers={header + "-ttl-seconds": "60"}), timeout=5).read().decode()
print(urlopen(Request(at + "meta-data/placement/region", headers={header: token}), timeout=5).read().decode())
"""


class Spread(InStep):
    config: Path

    def configure(self, region: str = AWAY, datacenter: str = THERE) -> None:
        self.config.write_text(CONFIG.format(region=region, datacenter=datacenter))
        self.sandbox.write_config()

    def ec2_in(self, region: str) -> Any:
        return self.aws("ec2", {"AWS_REGION": region})

    def places(self) -> dict[str, str]:
        """Where each machine is that there is, by its fleet, as the clouds list them."""
        found: list[dict[str, Any]] = self.sandbox.ask("ps")
        return {each["name"].split("-")[0]: each["region"] for each in found if each["state"] not in GONE}

    def tagged(self) -> set[str]:
        found: set[str] = set()
        wanted = [{"Name": "tag:rollcall-stack", "Values": ["local"]}]
        for region in REGIONS:
            reservations = self.ec2_in(region).describe_instances(Filters=wanted)["Reservations"]
            here = [each for reservation in reservations for each in reservation["Instances"]]
            found |= {each["InstanceId"] for each in here if each["State"]["Name"] not in (*GONE, "shutting-down")}
        for datacenter in (HERE, THERE):
            machines = self.cloudapi(datacenter).list_machines(tags={"rollcall-stack": "local"})
            found |= {each.id for each in machines if each.state not in GONE}
        return found

    def cloudapi(self, datacenter: str) -> Any:
        settings = Credentials.read(self.env)
        machine_settings = {
            "url": settings.url,
            "account": settings.account,
            "keyId": settings.key_id,
            "keyFile": settings.key_file,
        }
        return session_of(machine_settings, datacenter).api

    def status(self) -> tuple[int, dict[str, Any]]:
        """`rollcall status --json`: its exit code and what it prints."""
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        words = [sys.executable, "-m", "components.commands.status", "--stack", "local", "--json"]
        done = subprocess.run(
            words, cwd=self.sandbox.work, env={**passed, **self.env}, capture_output=True, text=True, check=False
        )
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, found

    def differences(self) -> dict[str, list[str]]:
        """The orphans that each fleet's roll call shows."""
        return {
            each["fleet"]: each["differences"]["orphaned"] + each["differences"]["unproven"]
            for each in self.status()[1]["fleets"]
        }


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spread]:
    config = config_file(tmp_path_factory.mktemp("regions"), CONFIG.format(region=AWAY, datacenter=THERE))
    with sandboxed("regions", config) as sandbox:
        spread = Spread(sandbox)
        spread.config = config
        began = time.monotonic()
        spread.output = spread.up()
        print(f"\nup: 4 machines in {time.monotonic() - began:.0f} s")
        yield spread


def test_each_machine_is_in_its_place_and_all_four_answer(spread: Spread) -> None:
    assert spread.places() == {"home": HOME, "away": AWAY, "here": HERE, "there": THERE}
    state = spread.assert_in_step()
    assert len(state) == 4
    assert {spread.ask_site() for _ in range(24)} == state
    assert {spread.ask_service() for _ in range(24)} == state


def test_a_machine_knows_its_own_region_and_asks_its_parameter_store(spread: Spread) -> None:
    away, there = spread.machine("away-0")["id"], spread.machine("there-0")["id"]
    assert spread.inside(away, "python3", "-c", ASK_METADATA).strip() == AWAY
    assert spread.inside(there, "mdata-get", "sdc:datacenter_name").strip() == THERE
    assert "/rollcall/local/away/token-scalability_expert" in spread.parameters(AWAY)
    assert not any("/local/away/" in name for name in spread.parameters(HOME))


def test_state_clouds_and_dns_are_in_step_and_a_preview_shows_nothing(spread: Spread) -> None:
    code, machine_settings = spread.status()
    assert (code, machine_settings["in_step"]) == (0, True), machine_settings
    regions = {each["fleet"]: (each["cloud"], each["region"]) for each in machine_settings["fleets"]}
    assert regions == {
        "home": ("aws", HOME), "away": ("aws", AWAY), "here": ("joyent", ""), "there": ("joyent", THERE),
    }  # fmt: skip
    assert "unchanged" in (shown := spread.up("--expect-no-changes")), shown


def test_an_orphan_is_found_once_by_whom_it_is_of_or_by_the_keeper_of_its_region(spread: Spread) -> None:
    ec2 = spread.ec2_in(AWAY)
    (like,) = ec2.describe_instances(InstanceIds=[spread.machine("away-0")["id"]])["Reservations"][0]["Instances"]
    made = {}
    for fleet in ("away", "home", "given-up"):
        tags = {"rollcall-stack": "local", "rollcall-fleet": fleet, "rollcall-machine": "7", "Name": f"{fleet}-7"}
        tags["rollcall-generation"] = "ffffff"
        launched = ec2.run_instances(
            ImageId=like["ImageId"],
            InstanceType="t3.micro",
            MinCount=1,
            MaxCount=1,
            SubnetId=like["SubnetId"],
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            ],
        )
        made[fleet] = launched["Instances"][0]["InstanceId"]
    found = spread.differences()
    assert len(found.pop("away")) == 2 and not any(found.values()), found
    code, machine_settings = spread.status()
    shown = next(each["differences"]["unproven"] for each in machine_settings["fleets"] if each["fleet"] == "away")
    assert code == 1
    assert [line.split()[0] for line in shown] == [made["away"], made["given-up"]], "sorted by their fleets"
    diff = spread.sandbox.pulumi("preview", "--diff", "--stack", "local", capture=True).stdout
    assert made["away"] in diff and made["given-up"] in diff, diff
    # They have the tags of ours and nothing else, so they are named, and are the operator's to end.
    output = spread.up()
    assert all(
        f"{made[each]} (running) is tagged" in output and "so it is not ended" in output
        for each in ("away", "given-up")
    )
    assert set(made.values()) <= spread.tagged()
    ec2.terminate_instances(InstanceIds=[*made.values()])
    wait_until("all three are gone", lambda: not set(made.values()) & spread.tagged(), 90)
    spread.up()
    spread.assert_in_step()


@pytest.mark.parametrize(
    ("place", "fleet", "machine_settings"),
    [
        ("another region", "away", {"region": HOME}),
        ("another data centre", "there", {"region": HOME, "datacenter": HERE}),
        ("back to both", "away", {}),
    ],
)
def test_no_client_gets_a_dead_address_while_a_fleet_moves_to(
    spread: Spread, place: str, fleet: str, machine_settings: dict[str, str]
) -> None:
    before = spread.in_state()
    known = set(before)
    spread.configure(**machine_settings)
    probers = {"site": Prober(spread.ask_site, 0.2), "service": Prober(spread.ask_service, 0.2)}
    with probers["site"].running(), probers["service"].running():
        wait_until("clients are at work", lambda: all(len(each.answers) > 10 for each in probers.values()), 20)
        began = time.monotonic()
        spread.up()
        took = time.monotonic() - began
        wait_until("asked after it", lambda: all(each.answers[-1][0] > began + took for each in probers.values()), 20)
    after = spread.assert_in_step()
    known |= after
    moved = 2 if place == "back to both" else 1
    assert len(before - after) == moved and len(after) == 4
    failed = {name: each.failures(known.__contains__) for name, each in probers.items()}
    counts = {name: len(each.answers) for name, each in probers.items()}
    print(
        f"\n{fleet} to {place}: up took {took:.0f} s; asked {counts}; failed { {k: len(v) for k, v in failed.items()} }"
    )
    assert failed == {"site": [], "service": []}
    where = {"region": AWAY, "datacenter": THERE, **machine_settings}
    assert spread.places() == {"home": HOME, "away": where["region"], "here": HERE, "there": where["datacenter"]}
    assert "unchanged" in (shown := spread.up("--expect-no-changes")), shown


def test_destroy_leaves_nothing_in_either_region_or_data_centre(spread: Spread) -> None:
    spread.sandbox.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
    spread.assert_tagged(set())
    assert spread.answers() == [] and spread.dig(SERVICE, "SRV") == []
    for region in REGIONS:
        groups = spread.ec2_in(region).describe_security_groups()["SecurityGroups"]
        assert [each["GroupName"] for each in groups if each["GroupName"] != "default"] == [], region
        assert spread.parameters(region) == [], region
    assert spread.aws("iam").list_roles()["Roles"] == []
