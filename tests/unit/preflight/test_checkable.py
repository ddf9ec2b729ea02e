"""components.preflight.checkable: which parts of settings with faults a cloud can be asked about."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic.alias_generators import to_camel

from components.config.models import FleetSettings, ServiceDiscoverySettings, SiteSettings
from components.config.reader import read_whole
from components.preflight.checkable import _NEEDED, part, without_cloud

FLEET = {"cloud": "aws", "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}
CONFIG: dict[str, Any] = {
    "sites": {"www": {"zone": "scalability.expert"}},
    "serviceDiscovery": {"zone": "unilans.net", "services": {"theService": {"port": 4218, "incarnations": {"v1": {}}}}},
    "fleets": {"web": FLEET, "api": {**FLEET, "cloud": "joyent", "size": "g1.micro"}},
}
ALL = "site serviceDiscovery services web api"


def changed(at: str, value: Any) -> dict[str, Any]:
    """The configuration with `value` at a dotted path."""
    *path, last = at.split(".")
    whole = {key: dict(item) for key, item in CONFIG.items()}
    here: Any = whole
    for each in path:
        here[each] = dict(here.get(each) or {})
        here = here[each]
    here[last] = value
    return whole


def checked_parts(machine_settings: dict[str, Any]) -> str:
    settings, faults = read_whole("local", machine_settings)
    assert faults
    rest = part(settings, faults)
    site = ["site"] if rest.sites else []
    directory = ["serviceDiscovery"] if rest.service_discovery else []
    services = ["services"] if rest.service_discovery and rest.service_discovery.services else []
    return " ".join([*site, *directory, *services, *(each.name for each in rest.fleets)])


@pytest.mark.parametrize(
    ("at", "value", "left"),
    [
        ("drainDelai", 5, ALL),
        ("drainDelay", -1, ALL),
        ("sites.www.ttl", 5, ALL),
        ("sites.www.tll", 5, ALL),
        ("sites.www.check", "nothing", ALL),
        ("sites.www.zone", "no zone", ALL.replace("site ", "")),
        ("sites.www.accountId", "x", ALL.replace("site ", "")),
        ("serviceDiscovery.ttl", -1, ALL),
        ("serviceDiscovery.zoneId", "x", ALL.replace("serviceDiscovery services ", "")),
        ("serviceDiscovery.services.theService.port", 0, ALL.replace("services ", "")),
        ("fleets.web.count", -1, ALL),
        ("fleets.web.joins", ["nowhere"], ALL),
        ("fleets.web.weigth", 5, ALL),
        ("fleets.web.runs", ["nothing"], ALL),
        ("fleets.web.cloud", "gcp", ALL.replace(" web", "")),
        ("fleets.web.region", "Ireland", ALL.replace(" web", "")),
        ("fleets.web.ssh", {"usr": "root"}, ALL.replace(" web", "")),
        ("fleets.web", [], ALL.replace(" web", "")),
        ("joyent.url", "nothing", ALL.replace(" api", "")),
    ],
)
def test_a_fault_keeps_only_what_it_is_about_from_being_asked(at: str, value: Any, left: str) -> None:
    assert checked_parts(changed(at, value)) == left


@pytest.mark.parametrize(
    ("part_of", "model"),
    [("sites", SiteSettings), ("serviceDiscovery", ServiceDiscoverySettings), ("fleets", FleetSettings)],
)
def test_only_keys_that_exist_keep_a_part_from_being_asked(part_of: str, model: type) -> None:
    assert set(_NEEDED[part_of]) <= {to_camel(each.name) for each in fields(model)}


def test_a_key_that_is_written_twice_has_a_value_all_the_same() -> None:
    doubled = "rollcall:fleets.web.size: is written 2 times in Pulumi.local.yaml (lines 2, 3), and the last one counts."
    assert len(part(read_whole("local", CONFIG)[0], [doubled]).fleets) == 2


@pytest.mark.parametrize(
    ("cloud", "faults", "left"),
    [
        ("aws", [], ["api", "web"]),
        ("aws", ["rollcall:serviceDiscovery.zone: there is none"], ["api", "web"]),
        ("aws", ["rollcall:fleets.web.region: is not enabled"], ["api"]),
        ("aws", ["AWS_ACCESS_KEY_ID: AWS does not accept it"], ["api"]),
        ("joyent", ["rollcall:joyent: no key"], ["web"]),
        ("joyent", ["rollcall:fleets.api.region: there is no such data centre"], ["web"]),
    ],
)
def test_what_a_cloud_refuses_keeps_the_rest_of_it_from_being_asked(
    cloud: str, faults: list[str], left: list[str]
) -> None:
    rest = without_cloud(read_whole("local", CONFIG)[0], cloud, faults)
    assert sorted(each.name for each in rest.fleets) == left
    assert (rest.service_discovery is None) == (cloud == "aws" and bool(faults) and "web.region" not in faults[0])
