"""Keys for private addresses and private hosted zones: what is allowed, what is refused, and the defaults."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from components.config.errors import ConfigurationError
from components.config.reader import read
from components.preflight import private_zones
from rollcall.settings import PRIVATE, PUBLIC

SERVICE: dict[str, Any] = {"port": 4218, "incarnations": {"v1": {}}}
CONFIG: dict[str, Any] = {
    "sites": {"www": {"zone": "scalability.expert"}},
    "serviceDiscovery": {
        "zone": "unilans.net",
        "private": True,
        "services": {"theService": SERVICE, "cart": {**SERVICE}},
    },
    "fleets": {
        "api": {
            "cloud": "aws",
            "size": "t3.micro",
            "image": "debian-12",
            "joins": ["theService/v1", "cart/v1", "site/www"],
        }
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    at, names = config, path.split("/")
    for name in names[:-1]:
        at = at[name]
    at[names[-1]] = value
    return config


def faults(config: dict[str, Any]) -> list[str]:
    try:
        read("local", config)
    except ConfigurationError as wrong:
        return list(wrong.faults)
    return []


def test_a_private_zone_has_private_addresses_unless_a_service_says_something_else() -> None:
    for private, kind in ((True, PRIVATE), (False, PUBLIC)):
        directory = read("local", changed("serviceDiscovery/private", private)).service_discovery
        assert directory is not None
        assert {directory.address_of(each) for each in directory.services} == {kind}
        assert directory.manages_soa is private
    config = changed("serviceDiscovery/services/theService/address", "public")
    config["fleets"]["api"]["joins"] = ["theService/v1", "site/www"]
    directory = read("local", config).service_discovery
    assert directory is not None
    assert {each.name: directory.address_of(each) for each in directory.services} == {
        "cart": PRIVATE,
        "theService": PUBLIC,
    }


def test_a_site_is_public_unless_it_says_something_else() -> None:
    assert read("local", CONFIG).sites[0].address_kind == PUBLIC
    assert read("local", changed("sites/www/address", "private")).sites[0].address_kind == PRIVATE


@pytest.mark.parametrize(
    ("path", "wrong", "right", "fault"),
    [
        ("sites/www", {"zone": "a.example", "proxied": True, "address": "private"}, None, "rollcall:sites.www.address"),
        ("serviceDiscovery/vpcs", ["vpc-1"], None, "rollcall:serviceDiscovery.vpcs"),
        ("serviceDiscovery/vpcs", ["vpc-0123456789abcdef0"], [], "and create is not set"),
        ("serviceDiscovery/private", "yes", True, "Set true or false"),
        ("serviceDiscovery/services/cart/address", "internal", "private", "public, private"),
        (
            "serviceDiscovery/services/cart/address",
            "public",
            "private",
            "rollcall:fleets.api.joins: names theService (address: private) and cart (address: public), and a machine",
        ),
        ("fleets/api/cloud", "joyent", "aws", "the resolvers of Triton's machines do not find it"),
    ],
)
def test_what_contradicts_is_refused(path: str, wrong: Any, right: Any, fault: str) -> None:
    config = changed(path, wrong)
    found = faults(config)
    assert len(found) == 1 and fault in found[0], found
    if right is not None:
        assert faults(changed(path, right)) == []


def test_the_stack_associates_the_vpcs_of_a_zone_that_it_makes() -> None:
    config = changed("serviceDiscovery/create", True)
    config["serviceDiscovery"]["vpcs"] = ["vpc-0123456789abcdef0", "eu-west-1/vpc-01234567"]
    assert faults(config) == []
    config["serviceDiscovery"]["private"] = False
    config["serviceDiscovery"]["services"] = {"theService": SERVICE, "cart": SERVICE}
    assert faults(config) == [
        "rollcall:serviceDiscovery.vpcs: is for a private zone. Leave it out, or set private: true."
    ]


def test_the_kind_of_the_addresses_is_found_by_the_name_in_joins() -> None:
    settings = read("local", CONFIG)
    assert {each: settings.address_of(each) for each in ("site/www", "cart/v1", "none/v1")} == {
        "site/www": PUBLIC,
        "cart/v1": PRIVATE,
        "none/v1": PUBLIC,
    }


@pytest.mark.parametrize(
    ("zone", "private", "warned"),
    [
        ("unilans.net", True, True),
        ("eu.unilans.net", True, True),
        ("unilans.net", False, False),
        ("lans.net", True, False),
    ],
)
def test_a_preview_warns_of_a_site_that_the_private_zone_hides(zone: str, private: bool, warned: bool) -> None:
    config = changed("sites/www/zone", zone)
    config["serviceDiscovery"]["private"] = private
    found = list(private_zones.hidden_sites(read("local", config)))
    assert bool(found) is warned
    if warned:
        assert found[0].startswith(
            f"rollcall:sites.www.zone: www.{zone} is in a public zone, but machines of the fleet api"
        )


def test_a_zone_with_dynamic_updates_is_not_private() -> None:
    config = changed("serviceDiscovery/provider", "rfc2136")
    config["serviceDiscovery"]["server"] = "192.0.2.53"
    assert faults(config) == [
        "rollcall:serviceDiscovery.private: is on, and is for hosted zones of Route53. Leave it out."
    ]
