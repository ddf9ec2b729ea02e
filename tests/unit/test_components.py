"""The resource graph that the components make, against golden files. `UPDATE_GOLDEN=1 pytest …` writes them again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rollcall.ownership import Owner
from tests.unit.graphs import Graphs, built

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"


@pytest.mark.parametrize(
    "cloud",
    [
        "aws",
        "joyent",
        "closed",
        "services",
        "regions",
        "ipv6",
        "workloads",
        "dynamic",
        "sites",
        "mirrors",
        "in-place",
        "certificates",
        "vpcs",
        "machines",
    ],
)
def test_the_graph_is_the_golden_one(graphs: Graphs, cloud: str) -> None:
    found = graphs[cloud]["graph"]
    golden = GOLDEN / f"{cloud}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(f"{json.dumps(found, indent=2, sort_keys=True)}\n")
    assert found == json.loads(golden.read_text())


def test_another_release_changes_only_its_objects_where_machines_change_in_place(graphs: Graphs) -> None:
    before, after = (graphs[each]["graph"] for each in ("in-place", "in-place-next"))
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    releases = {name for name in changed if ":Release::" in name}
    assert {name.rpartition("::")[2] for name in releases} == {"web", "stored", "delivered"}
    # The fleet `old` replaces its machines.
    assert {name.rpartition("::")[2].partition("-")[0] for name in changed - releases} <= {"old"}, changed
    assert before.keys() == after.keys()


def test_a_site_with_a_certificate_opens_its_ports_and_gives_machines_its_name_and_a_word_that_changes_with_it(
    graphs: Graphs,
) -> None:
    found: dict[str, dict[str, Any]] = graphs["certificates"]["graph"]
    group = found["aws:ec2/securityGroup:SecurityGroup::web-group"]
    assert {(each["protocol"], each["fromPort"]) for each in group["ingress"]} == {
        ("tcp", 80),
        ("tcp", 443),
        ("udp", 4217),
    }
    words = found["aws:ec2/instance:Instance::web-0"]["tags"]["rollcall-join-0"].split()
    assert {"tls=/rollcall/local/web/tls-www", "certificate=1a2b3c4d"} <= {*words}, words
    there = found["pulumi-python:dynamic/joyent:Machine::there-0"]
    assert {"tls=tls-www", "certificate=1a2b3c4d"} <= {*there["metadata"]["rollcall-join-0"].split()}
    assert json.dumps(there["secret_metadata"]).count("BUNDLE") == 1
    assert found["aws:ssm/parameter:Parameter::web-tls-docs"]["type"] == "SecureString"
    assert not [name for name in found if name.startswith("aws:ec2") and "BUNDLE" in json.dumps(found[name])]


def test_two_builds_ask_for_the_same(graphs: Graphs) -> None:
    other: Graphs = json.loads(built(("aws", "services"), seed="1"))
    for config, found in other.items():
        assert json.dumps(found["graph"]) == json.dumps(graphs[config]["graph"])
    assert len(other) == 2


def test_off_means_that_no_zone_setting_is_touched() -> None:
    from components.config.models import SiteSettings
    from components.config.site_zones import ZoneSettings
    from components.resources.site import zone_settings

    plain, other = SiteSettings(zone="scalability.expert"), SiteSettings(zone="scalability.expert", host="shop")
    assert zone_settings(ZoneSettings(sites=(plain, other))) == {}
    asking = SiteSettings(zone="scalability.expert", protection="high", acceleration=True)
    on = zone_settings(ZoneSettings(sites=(plain, asking)))
    assert on["security_level"] == "high" and on["http3"] == "on"


def test_every_setting_is_one_that_the_free_plan_may_edit() -> None:
    from components.config.models import PROTECTIONS, SiteSettings
    from components.config.site_zones import ZoneSettings
    from components.resources.site import zone_settings
    from localcloud.cloudflare.settings import SETTINGS

    for protection in PROTECTIONS:
        settings = SiteSettings(zone="scalability.expert", protection=protection, acceleration=True)
        for name, value in zone_settings(ZoneSettings(sites=(settings,))).items():
            setting = SETTINGS[name]
            assert setting.accepts(value) and "free" in setting.plans, name
            assert "free" in setting.only.get(value, ("free",)), (name, value)


def test_a_machines_policy_names_its_own_parameters_and_nothing_else() -> None:
    from components.resources.dns_credentials import read_statements

    assert read_statements([]) == []
    (statement,) = read_statements(["arn:b", "arn:a"])
    assert statement["Action"] == "ssm:GetParameter" and statement["Resource"] == ["arn:a", "arn:b"]


def test_every_taggable_resource_has_its_owner_in_its_tags(graphs: Graphs) -> None:
    takes = {"Bucket", "Instance", "SecurityGroup", "Role", "InstanceProfile", "User", "Parameter"}
    for config in ("aws", "services"):
        for name, inputs in graphs[config]["graph"].items():
            if name.startswith("aws:") and name.split(":")[2] in takes:
                tags = {key: inputs["tags"][key] for key in ("rollcall-stack", "rollcall-project", "managed-by")}
                assert list(tags.values()) == ["local", "rollcall", "pulumi"], name
            else:
                assert "tags" not in inputs or "joyent" in name, name
            if "rootBlockDevice" in inputs:
                assert inputs["rootBlockDevice"]["tags"].items() >= {**tags, "Name": inputs["tags"]["Name"]}.items()


def test_with_ipv6_a_machine_its_group_its_subnets_and_its_roll_call_have_it_and_the_fleet_beside_it_has_not(
    graphs: Graphs,
) -> None:
    found: dict[str, dict[str, Any]] = graphs["ipv6"]["graph"]
    for fleet, on in (("web", True), ("plain", False)):
        machine = found[f"aws:ec2/instance:Instance::{fleet}-0"]
        assert machine.get("ipv6AddressCount") == (1 if on else None)
        group = found[f"aws:ec2/securityGroup:SecurityGroup::{fleet}-group"]
        for rule in (*group["ingress"], *group["egress"]):
            assert rule["cidrBlocks"] == ["0.0.0.0/0"] and rule.get("ipv6CidrBlocks") == (["::/0"] if on else None)
        words = [value for key, value in machine["tags"].items() if key.startswith("rollcall-join-")]
        assert len(words) == 2 and all((" ipv6=true" in value) == on for value in words)
        (call,) = [each for name, each in found.items() if name.endswith(f":RollCall::{fleet}")]
        assert [each.get("ipv6") for each in call["places"]] == [True if on else None] * 2


def test_another_project_with_a_stack_of_the_same_name_is_another_deployment() -> None:
    from components.resources.tags import named

    assert (named("rollcall", "prod"), named("shop", "prod")) == ("prod", "shop.prod")
    assert Owner.parse(str(Owner(named("shop", "prod"), "web", "0", "ab12cd", "i-0123456789abcdef0"))) is not None


def test_every_machine_has_its_bracket(graphs: Graphs) -> None:
    for cloud, machine in (("aws", "aws:ec2/instance:Instance"), ("joyent", "pulumi-python:dynamic/joyent:Machine")):
        found: dict[str, dict[str, Any]] = graphs[cloud]["graph"]
        machines = [name for name in found if name.startswith(machine)]
        brackets = [name for name in found if ":Deregistration::" in name]
        calls = [each for name, each in found.items() if ":RollCall::" in name]
        assert len(machines) == len(brackets) == 2 and len(calls) == 1
        assert [member["generation"] for member in calls[0]["members"]] == ["ab12cd", "ab12cd"]
        assert {each["tags"]["rollcall-generation"] for name, each in found.items() if name in machines} == {"ab12cd"}


def test_what_is_of_a_region_is_made_by_that_regions_provider_and_what_is_global_is_not(graphs: Graphs) -> None:
    found: dict[str, dict[str, Any]] = graphs["regions"]["graph"]
    assert found["pulumi:providers:aws::aws-eu-west-1"]["region"] == "eu-west-1"
    assert sum(name.startswith("pulumi:providers:aws") for name in found) == 1, "one for a region, whatever its fleets"
    aws = [name for name in found if name.startswith("aws:")]
    abroad = {name.split(":")[2] for name in aws if name.endswith(" by aws-eu-west-1")}
    stores = {name for name in aws if name.startswith("aws:s3/")}
    assert abroad == {"Instance", "SecurityGroup", "InstanceState", "Parameter"} | {
        each.split(":")[2] for each in stores
    }
    for name in stores:
        assert ("eu-west-1" in name.rpartition("::")[2].split(" ")[0]) == name.endswith(" by aws-eu-west-1"), name
    assert len(stores) == 2 * 7
    for name in {*aws} - stores:
        words = name.rpartition("::")[2]
        fleet, regional = words.split(" ")[0].partition("-")[0], name.split(":")[2] in abroad
        assert words.endswith(" by aws-eu-west-1") == (regional and fleet in ("away", "beside")), name


def test_roll_calls_know_whom_they_share_a_place_with_and_the_other_places_of_their_cloud(graphs: Graphs) -> None:
    found: dict[str, dict[str, Any]] = graphs["regions"]["graph"]
    calls = {each["fleet"]: each for name, each in found.items() if ":RollCall::" in name}
    assert {name: each["peers"] for name, each in calls.items()} == {
        "home": ["home"], "away": ["away", "beside"], "beside": ["away", "beside"], "here": ["here"], "there": ["there"],
    }  # fmt: skip
    regions = {name: each["cloud"]["region"] for name, each in calls.items()}
    assert regions == {"home": "", "away": "eu-west-1", "beside": "eu-west-1", "here": "", "there": "us-east-2"}
    elsewhere = {name: [one["region"] for one in each.get("elsewhere", ())] for name, each in calls.items()}
    assert elsewhere == {"home": ["eu-west-1"], "away": [""], "beside": [""], "here": ["us-east-2"], "there": [""]}


def test_a_fleet_in_another_data_centre_has_all_that_it_makes_there(graphs: Graphs) -> None:
    found: dict[str, dict[str, Any]] = graphs["regions"]["graph"]
    for kind in ("Machine", "Ready", "FirewallRule"):
        mine = {name.rpartition("::")[2]: each for name, each in found.items() if f"joyent:{kind}::" in name}
        assert {each.get("datacenter") for name, each in mine.items() if name.startswith("there")} == {"us-east-2"}
        assert {each.get("datacenter") for name, each in mine.items() if name.startswith("here")} == {None}


def test_another_regions_provider_has_all_settings_of_the_stacks_provider() -> None:
    from components.resources.ec2_lookups import provider_settings

    config = {
        "profile": "operators", "region": "us-west-2", "skipMetadataApiCheck": "true", "maxRetries": "5",
        "defaultTags": '{"tags": {"team": "web"}}', "assumeRoles": '[{"roleArn": "arn:aws:iam::1:role/deploy"}]',
    }  # fmt: skip
    assert provider_settings(config.get) == {
        "profile": "operators", "region": "us-west-2", "skip_metadata_api_check": True, "max_retries": 5,
        "default_tags": {"tags": {"team": "web"}}, "assume_roles": [{"roleArn": "arn:aws:iam::1:role/deploy"}],
    }  # fmt: skip
