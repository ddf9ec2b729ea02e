"""components.preflight.policy_sizes: what is measured is what will be written, and what IAM would refuse is refused beforehand."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from components.config.models import Settings
from components.config.reader import read
from components.preflight import policy_sizes
from components.preflight.policy_sizes import MOST, document, faults, len_of
from components.workloads.definitions import packed
from tests.unit.graphs import Graphs
from tests.unit.resource_graph import CONFIGS

_POLICIES = {"aws:iam/rolePolicy:RolePolicy": "aws", "aws:iam/userPolicy:UserPolicy": "joyent"}


def settings(cloud: str, shards: int, joins: list[str] | None = None, **more: Any) -> Settings:
    fleet = {"cloud": cloud, "size": "s", "image": "debian-12", "joins": joins or ["theService/v1"], **more}
    services = {"theService": {"port": 4218, "incarnations": {f"v{each}": {"shards": shards} for each in range(1, 4)}}}
    directory = {"zone": "unilans.net", "services": services}
    sites = {"www": {"zone": "s.example"}} if "site/www" in fleet["joins"] else {}
    return read("local", {"sites": sites, "serviceDiscovery": directory, "fleets": {"web": fleet}})


@pytest.mark.parametrize("config", CONFIGS)
def test_the_text_is_the_one_that_the_program_writes(graphs: Graphs, config: str) -> None:
    """Of every fleet of every configuration, with the ARNs of the mocks in the places of AWS's."""
    given, made = packed(read("local", CONFIGS[config]), Path())[0], graphs[config]["graph"]
    written: dict[str, str] = {}
    for name, inputs in made.items():
        token, _, resource = name.partition("::")
        # The policy of a role for workloads is the operator's.
        if token in _POLICIES and not resource.partition(" ")[0].endswith("-workloads-policy"):
            written[resource.partition(" ")[0].removesuffix("-policy")] = inputs["policy"]
    directory = CONFIGS[config].get("serviceDiscovery") or {}
    arn = "arn:directory-zone" if directory.get("create") else "arn:aws:route53:::hostedzone/Z1"

    def measured(name: str) -> str:
        fleet = next(each for each in given.fleets if each.name == name or f"{each.name}-{each.region}" == name)
        region = f"-{fleet.region}" if fleet.region else ""
        objects = f"arn:rollcall-releases{region}/releases/*"
        found = document(given, fleet, arn, lambda short: f"arn:{name}-{short}", objects)
        return re.sub("releases/[0-9a-f]{64}", "releases/<digest>", found)

    assert {name: measured(name) for name in written} == written


@pytest.mark.parametrize(("cloud", "owner", "fits"), [("joyent", "user", 18), ("aws", "role", 100)])
def test_a_policy_that_does_not_fit_is_a_fault_with_what_to_do(cloud: str, owner: str, fits: int) -> None:
    assert faults(settings(cloud, fits), zone="Z" * 21, region="us-west-2") == []
    all_three = settings(cloud, 100, [f"theService/v{each}" for each in range(1, 4)])
    (fault,) = faults(all_three, zone="Z" * 21, region="us-west-2")
    message = f"rollcall:fleets.web.joins: the fleet joins 300 SRV sets, so the policy of its IAM {owner} would have "
    assert fault.startswith(message) and f"and IAM takes {MOST[owner]}. Let it join fewer incarnations" in fault


def test_releases_that_a_user_may_fetch_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_sizes, "project_folder", lambda: tmp_path)
    workloads = {}
    for number in range(6):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "start").write_bytes(os.urandom(20_000))
        workloads[f"w{number}"] = {"files": str(number), "run": "./start"}
    directory = {"zone": "unilans.net", "services": {"theService": {"port": 4218, "incarnations": {"v1": {}}}}}
    fleet = {"cloud": "joyent", "size": "s", "image": "debian-12", "joins": ["theService/v1"], "runs": [*workloads]}
    given = {"serviceDiscovery": directory, "workloads": workloads, "fleets": {"web": fleet}}
    many = packed(read("local", given), tmp_path)[0]
    (fault,) = faults(many, zone="Z" * 21, region="us-west-2")
    assert fault.startswith(
        "rollcall:fleets.web.runs: the fleet joins 3 SRV sets and fetches 6 workloads from the stack's bucket, so "
    )
    assert fault.endswith(f"and IAM takes {MOST['user']}. Make one workload of several, or split the fleet.")
    fleet["runs"] = ["w1"]
    assert faults(packed(read("local", given), tmp_path)[0], zone="Z" * 21, region="us-west-2") == []


def test_the_limit_itself_fits_and_blanks_are_not_counted() -> None:
    given, most = settings("joyent", 18), MOST["user"]
    text = document(given, given.fleets[0], "arn:aws:route53:::hostedzone/", str, "")
    room = most - len_of(text)
    # The zone's ARN is in each of the three statements.
    at_limit, over = "Z" * (room // 3), "Z" * (room // 3 + 1)
    assert faults(given, zone=at_limit, region="") == [] and len(faults(given, zone=over, region="")) == 1
    assert len_of(json.dumps(json.loads(text), indent=9)) == len_of(text) < len(text)


def test_arns_of_other_partitions_are_longer() -> None:
    given = settings("joyent", 18)
    room = MOST["user"] - len_of(document(given, given.fleets[0], "arn:aws:route53:::hostedzone/", str, ""))
    at_limit = "Z" * (room // 3)
    assert faults(given, zone=at_limit, region="us-west-2") == []
    assert faults(given, zone=at_limit, region="us-gov-west-1") and faults(given, zone=at_limit, region="cn-north-1")


def test_a_zone_that_is_to_be_made_counts_with_the_longest_id() -> None:
    given = settings("joyent", 18)
    length = len_of(document(given, given.fleets[0], f"arn:aws:route53:::hostedzone/{'Z' * 32}", str, ""))
    assert bool(faults(given, zone="", region="")) == (length > MOST["user"])


@pytest.mark.parametrize("joins", [["site/www"], ["site/www", "theService/v1"]])
def test_a_role_without_a_policy_or_with_a_short_one_is_not_a_fault(joins: list[str]) -> None:
    more: Mapping[str, Any] = {"count": 0}
    assert faults(settings("joyent", 1, joins, **more), zone="", region="us-west-2") == []
    assert faults(settings("aws", 1, joins, **more), zone="", region="us-west-2") == []
