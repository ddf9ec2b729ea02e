"""Prints, as JSON, what the components of one fleet ask the engine for: `python tests/unit/resource_graph.py aws|joyent`.

A process of its own, since pulumi keeps its event loops and its settings for the life of the process.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import pulumi
from pulumi.runtime import mocks


class Cloud(mocks.Mocks):
    """Answers for every provider, and keeps what was asked for."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        inputs = {key: value for key, value in args.inputs.items() if key != "__provider"}
        self.made[args.name if args.typ.startswith("rollcall") else f"{args.typ}::{args.name}"] = inputs
        outs = {**inputs, "arn": f"arn:{args.name}", "publicIp": "198.51.100.10", "value": "secret"}
        if args.typ.endswith(":Deregistration"):
            outs["generation"] = "ab12cd"
        if args.typ.endswith(":Ready"):
            outs["addresses"] = {}
        return f"{args.name}-id", outs

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[Any, Any]:
        answers: dict[str, dict[str, Any]] = {
            "cloudflare:index/getZone:getZone": {"id": "z" * 32, "zoneId": "z" * 32},
            "cloudflare:index/getApiTokenPermissionGroupsList:getApiTokenPermissionGroupsList": {
                "results": [{"id": "dns-write", "name": "DNS Write"}]
            },
            "aws:ssm/getParameter:getParameter": {"value": "ami-0123456789abcdef0"},
            "aws:ec2/getSubnets:getSubnets": {"ids": ["subnet-b", "subnet-a", "subnet-c"]},
            "aws:ec2/getVpc:getVpc": {"id": "vpc-1"},
        }
        return answers[args.token]


def graph(build: Callable[[], Any]) -> dict[str, dict[str, Any]]:
    """What `build` asks the engine for, by type and name. Values that move with every source change are named, not shown."""
    cloud = Cloud()
    asyncio.set_event_loop(asyncio.new_event_loop())
    mocks.set_mocks(cloud, project="rollcall", stack="local", preview=False)
    pulumi.runtime.test(build)()
    found: dict[str, dict[str, Any]] = json.loads(json.dumps(cloud.made, default=str, sort_keys=True))
    for inputs in found.values():
        for moving in ("userDataBase64", "userdata"):
            if moving in inputs:
                inputs[moving] = f"<{moving}>"
    return found


def fleets(cloud: str) -> Callable[[], Any]:
    def build() -> Any:
        from components.fleet import Ec2Fleet, FleetArgs, JoyentFleet, Membership, call_rolls, site_place
        from components.registrar import Ec2Registrar, Ec2RegistrarArgs, SiteToken, SiteTokenArgs
        from components.settings import FleetSettings, SiteSettings
        from components.site import Site, SiteArgs

        told = (
            SiteSettings(zone="scalability.expert", protection="high", acceleration=True)
            if cloud == "aws"
            else SiteSettings(zone="scalability.expert")
        )
        site = Site("site", SiteArgs(settings=told))
        token = SiteToken("machines", SiteTokenArgs(zone_id=site.zone_id))
        place = site_place(site.zone_id, told.zone, told.fqdn, told.ttl, told.proxied)
        size = "t3.micro" if cloud == "aws" else "g1.micro"
        fleet = FleetSettings(
            name="web",
            cloud="aws" if cloud == "aws" else "joyent",
            count=2,
            size=size,
            image="debian-12",
            joins=("site",),
        )
        if cloud == "aws":
            registrar = Ec2Registrar("ec2", Ec2RegistrarArgs(secrets={"cloudflare-token": token.value}))
            name: Any = registrar.parameters["cloudflare-token"]
            member = Membership(
                place=place, workload="site", host=told.fqdn, ttl=told.ttl, proxied=told.proxied, token=name
            )
            made: Any = Ec2Fleet("web", FleetArgs(settings=fleet, memberships=[member]), profile=registrar.profile)
        else:
            member = Membership(
                place=place,
                workload="site",
                host=told.fqdn,
                ttl=told.ttl,
                proxied=told.proxied,
                token="cloudflare-token",
                secret=token.value,
            )
            made = JoyentFleet("web", FleetArgs(settings=fleet, memberships=[member]))
        call_rolls([made])

    return build


if __name__ == "__main__":
    print(json.dumps(graph(fleets(sys.argv[1])), indent=2, sort_keys=True))
