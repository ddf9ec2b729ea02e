"""Prints, as JSON, what the example of docs/library.md asks the engine for, and the error of a second deployment in the program."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pulumi

from tests.unit import resource_graph

EXAMPLE = Path(__file__).resolve().parents[2] / "docs/examples/library"
SITES = {"www": {"zone": "scalability.expert", "host": "www"}}


class Cloud(resource_graph.Cloud):
    """Answers for every provider, and keeps which of them have which tags."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, dict[str, str]] = {}
        self.error = ""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.tags[f"{args.typ}::{args.name}"] = dict(args.inputs.get("tags") or {})
        return super().new_resource(args)

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[Any, Any]:
        if args.token.endswith(":getVpc"):
            return {"id": "vpc-1", "cidrBlock": "10.7.0.0/16"}
        return {"ids": ["subnet-b", "subnet-a"]} if args.token.endswith(":getSubnets") else super().call(args)


def build(cloud: Cloud) -> None:
    from components.config.models import Settings
    from components.config.reader import read
    from components.preflight import checks
    from components.preflight.existing_resources import ExistingReport
    from components.resources import deployment
    from components.workloads.definitions import packed

    def checked(
        stack: str,
        given: Mapping[str, Any] | None = None,
        *,
        given_networks: Collection[str] = (),
        faults_of_program: Callable[[Settings], list[str]] = lambda _: [],
    ) -> Any:
        assert list(given_networks) == ["web"]
        settings, faults = packed(read(stack, {"sites": SITES, **(given or {})}), EXAMPLE)
        assert [*faults, *faults_of_program(settings)] == []
        return settings, ExistingReport()

    checks.checked = checked
    deployment.project_folder = lambda: EXAMPLE  # type: ignore[attr-defined]
    pulumi.runtime.set_config(f"{pulumi.get_project()}:vpc", "vpc-1")
    pulumi.runtime.set_config("aws:region", "us-west-2")
    runpy.run_path(str(EXAMPLE / "__main__.py"))
    import rollcall_pulumi

    try:
        rollcall_pulumi.Deployment("second")
    except pulumi.RunError as refused:
        cloud.error = str(refused)


if __name__ == "__main__":
    cloud = Cloud()
    resource_graph.recorded(lambda: build(cloud), cloud)
    print(json.dumps({"made": resource_graph.graph(cloud), "tags": cloud.tags, "error": cloud.error}))
