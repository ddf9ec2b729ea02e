"""components.resources.workload_secrets: where a workload's secrets are in the graph, and where they are not."""

from __future__ import annotations

import json
from typing import Any

from components.resources.workload_secrets import digest
from rollcall.settings import Secrets, parse_secrets
from tests.unit.graphs import Graphs

VALUES = {"DATABASE_URL": "postgres://secret-one", "API_KEY": "secret-two", "registry-password": "secret-three"}
SETTING = "rollcall-secrets-shop"


def graph(graphs: Graphs) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = graphs["secrets"]["graph"]
    return found


def secrets_given_to(graphs: Graphs, machine: str) -> Secrets:
    kinds = ("aws:ec2/instance:Instance", "pulumi-python:dynamic/joyent:Machine")
    (found,) = [graph(graphs)[name] for kind in kinds if (name := f"{kind}::{machine}") in graph(graphs)]
    return parse_secrets(SETTING, (found.get("metadata") or found["tags"])[SETTING])


def test_values_are_in_ssm_parameters_and_secret_metadata_and_nowhere_else(graphs: Graphs) -> None:
    holders = {
        name for name, inputs in graph(graphs).items() if any(one in json.dumps(inputs) for one in VALUES.values())
    }
    parameters = {name for name in holders if name.startswith("aws:ssm/parameter:Parameter::shops-shop.")}
    machines = holders - parameters
    assert {graph(graphs)[name]["name"] for name in parameters} == {
        "/rollcall/local/shops/shop.API_KEY",
        "/rollcall/local/shops/shop.DATABASE_URL",
        "/rollcall/local/shops/shop.registry-password",
    }
    assert {graph(graphs)[name]["type"] for name in parameters} == {"SecureString"}
    assert sorted(each.rpartition("::")[2] for each in machines) == ["there-0", "there-1"]
    for name in machines:
        inputs = dict(graph(graphs)[name])
        # As the engine marks a secret.
        sealed = inputs.pop("secret_metadata")
        assert {f"shop.{key}": value for key, value in VALUES.items()}.items() <= sealed["value"].items()
        assert not any(one in json.dumps(inputs) for one in VALUES.values())


def test_a_role_reads_only_the_secrets_of_its_fleets_workloads(graphs: Graphs) -> None:
    def readable(fleet: str) -> list[str]:
        policy = json.loads(graph(graphs)[f"aws:iam/rolePolicy:RolePolicy::{fleet}-policy"]["policy"])
        (statement,) = [each for each in policy["Statement"] if each["Sid"] == "ReadOwnSecrets"]
        assert statement["Action"] == "ssm:GetParameter"
        found: list[str] = statement["Resource"]
        return found

    shop = ["arn:shops-shop.API_KEY", "arn:shops-shop.DATABASE_URL", "arn:shops-shop.registry-password"]
    assert readable("shops") == ["arn:shops-probe-key", *shop, "arn:shops-token-scalability_expert"]
    assert readable("plains") == ["arn:plains-probe-key", "arn:plains-token-scalability_expert"]


def test_machines_of_all_fleets_take_their_turns(graphs: Graphs) -> None:
    found = {name: secrets_given_to(graphs, name) for name in ("shops-0", "there-0", "shops-1", "there-1")}
    assert [each.turn for each in found.values()] == [0, 1, 2, 3]
    assert len({each.revision for each in found.values()}) == 1
    assert found["shops-0"].prefix == "/rollcall/local/shops/shop." and found["there-1"].prefix == "shop."
    (plain,) = [each for name, each in graph(graphs).items() if name.endswith("Instance::plains-0")]
    assert SETTING not in plain["tags"]


def test_a_revision_changes_with_a_value_and_with_a_rotation_and_tells_nothing_without_the_key() -> None:
    made = digest("key", "shop", "values")
    assert made == digest("key", "shop", "values") and len(made) == 16
    assert (
        len({made, digest("another", "shop", "values"), digest("key", "web", "values"), digest("key", "shop", "")}) == 4
    )
