"""localcloud.runtime.named: the zones and packages that a stack names are found, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from localcloud.runtime.named import packages, zones

SITE: dict[str, Any] = {"zone": "Shop.example", "host": "www"}


@pytest.mark.parametrize(
    ("config", "cloudflare", "route53"),
    [
        ({}, [], []),
        ({"rollcall:sites": {"www": SITE}}, ["shop.example"], []),
        ({"rollcall:sites": {"www": {**SITE, "create": True}}}, [], []),
        ({"rollcall:sites": {"www": {**SITE, "provider": "rfc2136"}}}, [], []),
        ({"rollcall:sites": {"www": {**SITE, "zone": "023e105f4ecef8ad9ca31a8372d0c353"}}}, [], []),
        ({"rollcall:sites": {"www": SITE, "docs": {"zone": "docs.example"}}}, ["docs.example", "shop.example"], []),
        ({"rollcall:serviceDiscovery": {"zone": "i.example", "services": {}}}, [], ["i.example"]),
        ({"rollcall:serviceDiscovery": {"zone": "Z0123456789"}}, [], []),
        ({"rollcall:sites": None, "rollcall:serviceDiscovery": None}, [], []),
        ({"rollcall:serviceDiscovery": "text", "rollcall:sites": {"a": 1, "b": {"zone": 2}}}, [], []),
    ],
)
def test_zones(config: dict[str, Any], cloudflare: list[str], route53: list[str]) -> None:
    assert zones(config) == {"cloudflare": cloudflare, "route53": route53}


def test_a_container_needs_podman() -> None:
    fleets = {"web": {"image": "debian-13", "runs": ["cart"]}}
    config = {"rollcall:workloads": {"cart": {"container": "ghcr.io/acme/cart"}}, "rollcall:fleets": fleets}
    assert packages(config) == {"debian-13": ["podman", "runc"]}


def test_packages_are_those_of_the_workloads_that_fleets_run_by_release() -> None:
    workloads = {
        "shop": {"packages": ["gunicorn", "python3-venv"]},
        "api": {"packages": ["gunicorn", 3]},
        "idle": {"packages": ["postgresql"]},
        "wrong": "text",
    }
    fleets = {
        "a": {"image": "debian-12", "runs": ["shop", "site"]},
        "b": {"image": "ubuntu-24.04", "runs": ["api", "wrong", ["x"]]},
        "c": {"image": "debian-13-bare", "runs": ["api"]},
        "d": {"image": "ami-0123", "runs": ["idle"]},
        "e": {"runs": ["idle"]},
        "f": None,
        "g": {"image": "debian-12", "runs": "idle"},
    }
    assert packages({"rollcall:workloads": workloads, "rollcall:fleets": fleets}) == {
        "debian-12": ["gunicorn", "python3-venv"],
        "debian-13": ["gunicorn"],
    }
    assert packages({"rollcall:workloads": workloads}) == packages({"rollcall:fleets": fleets}) == {}
    assert packages({"rollcall:workloads": None, "rollcall:fleets": {"a": fleets["a"]}}) == {}
