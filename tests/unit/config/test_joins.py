"""components.config.joins: every setting of a membership comes from one list, which checks and machines share."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from typing import Any

import pulumi
import pytest

from components.config import checks
from components.config.joins import service_join, site_join
from components.config.models import FleetSettings, Settings
from components.config.reader import read
from components.resources import memberships
from rollcall.settings import CloudflareJoin, Rfc2136Join, Rfc2136SiteJoin, Route53Join, parse_join
from tests.unit.config.test_models import GOOD

# What only one provider has: the zone's id or server, the names of secrets, the proxy, the limits of the API.
OWN = {"view", "zone", "server", "key", "token", "proxied", "origin", "apex", "sites", "tls", "certificate"}


@pytest.fixture
def settings() -> Settings:
    return read("local", GOOD)


def fleet_of(settings: Settings, join: str) -> FleetSettings:
    return next(each for each in settings.fleets if join in each.joins)


@pytest.mark.parametrize("kind", [CloudflareJoin, Rfc2136SiteJoin])
def test_the_list_has_every_setting_of_a_site(settings: Settings, kind: Any) -> None:
    found: dict[str, Any] = site_join(dict, settings.sites[0], ipv6=False, floors=(1, 1))
    assert {*found} == {each.name for each in fields(kind)} - OWN


@pytest.mark.parametrize("kind", [Route53Join, Rfc2136Join])
def test_the_list_has_every_setting_of_a_service(settings: Settings, kind: Any) -> None:
    directory = settings.service_discovery
    assert directory is not None
    service = directory.services[0]
    incarnation = service.incarnations[0]
    fleet = fleet_of(settings, f"{service.name}/{incarnation.name}")
    found: dict[str, Any] = service_join(dict, fleet, directory, service, incarnation, shard=0, floor=1)
    assert {*found} == {each.name for each in fields(kind)} - OWN


def test_a_machine_gets_the_settings_that_were_measured(settings: Settings) -> None:
    directory = settings.service_discovery
    assert directory is not None
    service = directory.services[0]
    incarnation = service.incarnations[0]
    fleet = fleet_of(settings, f"{service.name}/{incarnation.name}")

    async def words() -> Any:
        zone = pulumi.Output.from_input("Z1")
        found = memberships.service_membership(
            fleet, directory, f"{service.name}/{incarnation.name}", zone, {"route53-key": zone}
        )
        return await found.words(0).future()

    measured = parse_join(checks._service_join(settings, directory, service, incarnation, fleet))
    assert isinstance(measured, Route53Join)
    assert parse_join(asyncio.run(words())) == replace(measured, zone="Z1")
