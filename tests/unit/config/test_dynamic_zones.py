"""Sites and directories with `provider: rfc2136`: which keys go with it."""

from __future__ import annotations

from typing import Any

import pytest

from components.config.errors import ConfigurationError
from components.config.reader import read
from components.config.servers import at_port
from rollcall.settings import KINDS, Rfc2136Join, Rfc2136SiteJoin, format_join, parse_join

SITE: dict[str, Any] = {"zone": "example.org", "provider": "rfc2136", "server": "192.0.2.53"}
SERVICES = {"theService": {"port": 4218, "incarnations": {"v1": {}}}}
FLEET = {"cloud": "joyent", "size": "g1.micro", "image": "debian-12", "joins": ["site/www", "theService/v1"]}


def faults(sites: dict[str, Any] | None = None, serviceDiscovery: dict[str, Any] | None = None) -> tuple[str, ...]:
    given = {
        "sites": {"www": {**SITE, **(sites or {})}},
        "serviceDiscovery": {**SITE, "services": SERVICES, **(serviceDiscovery or {})},
    }
    try:
        read("local", {**given, "fleets": {"web": FLEET}})
    except ConfigurationError as error:
        return error.faults
    return ()


def test_a_server_is_all_that_it_takes() -> None:
    assert faults() == ()


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"server": None}, "server: is missing"),
        ({"server": "ns1.example.org"}, "server: 'ns1.example.org' is not the address of a name server"),
        ({"server": "192.0.2.53:0"}, "server: '192.0.2.53:0' is not the address of a name server"),
        ({"create": True}, "create: is on, and a zone of provider: rfc2136 is made at its server"),
        ({"provider": "bind"}, "provider: 'bind' is "),
    ],
)
@pytest.mark.parametrize("key", ["sites", "serviceDiscovery"])
def test_a_key_that_is_wrong_is_an_error(key: str, changed: dict[str, Any], fault: str) -> None:
    found = faults(**{key: changed})
    assert len(found) == 1 and found[0].startswith(f"rollcall:{key}{'.www' * (key == 'sites')}.{fault}"), found


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"proxied": True}, "proxied"),
        ({"acceleration": True}, "acceleration"),
        ({"protection": "high"}, "protection"),
        ({"ttl": 1}, "ttl"),
        ({"zoneId": "0" * 32}, "zoneId"),
        ({"provider": "cloudflare"}, "server"),
    ],
)
def test_what_is_cloudflare_s_is_an_error_of_a_site(changed: dict[str, Any], key: str) -> None:
    found = faults(sites=changed)
    assert len(found) == 1 and found[0].startswith(f"rollcall:sites.www.{key}: "), found


@pytest.mark.parametrize(
    ("changed", "key"),
    [({"manageSoa": True}, "manageSoa"), ({"zoneId": "Z1"}, "zoneId"), ({"provider": "route53"}, "server")],
)
def test_what_is_route53_s_is_an_error_of_a_directory(changed: dict[str, Any], key: str) -> None:
    found = faults(serviceDiscovery=changed)
    assert len(found) == 1 and found[0].startswith(f"rollcall:serviceDiscovery.{key}: "), found


@pytest.mark.parametrize(
    ("server", "given"),
    [
        ("192.0.2.53", "192.0.2.53@53"),
        ("192.0.2.53:5353", "192.0.2.53@5353"),
        ("2001:db8::53", "2001:db8::53@53"),
        ("[2001:db8::53]:5353", "2001:db8::53@5353"),
    ],
)
def test_a_server_s_address_fits_a_tag_of_ec2(server: str, given: str) -> None:
    assert at_port(server) == given
    join = Rfc2136SiteJoin(server=given, host="www.example.org", key="tsig-key")
    assert parse_join(format_join(join)) == join


def test_settings_of_services_survive_the_way_to_a_machine() -> None:
    join = Rfc2136Join(
        server="192.0.2.53@53",
        domain="example.org",
        service="_s._tcp",
        incarnation="v1",
        port=1,
        key="k",
        srv="service",
    )
    assert parse_join(format_join(join)) == join and format_join(join).startswith("rfc2136 ")
    assert KINDS["rfc2136"] is Rfc2136Join


def test_a_stack_without_aws_needs_no_region() -> None:
    settings = read(
        "local",
        {"serviceDiscovery": {**SITE, "services": SERVICES}, "fleets": {"web": {**FLEET, "joins": ["theService/v1"]}}},
    )
    assert not settings.uses_aws
    assert settings.without_dynamic_zones().service_discovery is None and settings.service_discovery is not None
