"""docs/interoperability.md names what other tools must leave alone. Each name that a machine or `up` writes must be among it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from components.resources.zone_soa import MARK
from rollcall.ownership import Owner
from rollcall.route53 import set_name, srv_names
from rollcall.settings import HOSTS_LABEL, CloudflareJoin, Route53Join, challenge_name

PAGE = Path(__file__).parents[2] / "docs/interoperability.md"
OWNER = Owner("prod", "web", "0", "1f2e3d", "i-0123456789abcdef0")
SERVICE = Route53Join(
    zone="Z1",
    domain="unilans.net",
    service="_theService._tcp",
    incarnation="v1",
    port=4218,
    srv="service",
)
SITE = CloudflareJoin(zone="0" * 32, host="www.scalability.expert", token="t")


def rejected() -> dict[str, list[str]]:
    """Return the reject lists of the octoDNS configuration on the page, by the names of the processors."""
    block = re.search(r"```yaml\n(providers:.*?)```", PAGE.read_text(), re.S)
    assert block
    return {name: each["rejectlist"] for name, each in yaml.safe_load(block[1])["processors"].items()}


def rejects(rules: list[str], name: str) -> bool:
    """Return whether octoDNS leaves this name out: a rule between slashes is a search, another one the whole name.

    https://github.com/octodns/octodns/blob/main/octodns/processor/filter.py (_NameBaseFilter)
    """
    searches = [rule[1:-1] for rule in rules if rule.startswith("/")]
    return name in rules or any(re.search(each, name) for each in searches)


@pytest.mark.parametrize(
    "name",
    [
        "_services._dns-sd._udp",
        "_theservice._tcp",
        *(name.removesuffix(".unilans.net") for name in (set_name(SERVICE), *srv_names(SERVICE))),
        f"1f2e3d.{HOSTS_LABEL}",
        f"1f2e3d-k3x9.{HOSTS_LABEL}",
        challenge_name(OWNER, SERVICE).removesuffix(".unilans.net"),
        MARK,
    ],
)
def test_octodns_leaves_each_name_of_a_service_alone(name: str) -> None:
    assert rejects(rejected()["not-the-directory"], name)


@pytest.mark.parametrize("name", ["www", challenge_name(OWNER, SITE).removesuffix(".scalability.expert")])
def test_octodns_leaves_each_name_of_a_site_alone(name: str) -> None:
    assert rejects(rejected()["not-the-site"], name)


@pytest.mark.parametrize("name", ["", "mail", "arc", "tcp", "www2", "rc-old", "_dmarc"])
def test_octodns_has_every_other_name(name: str) -> None:
    assert not rejects(rejected()["not-the-directory"], name)
    assert not rejects(rejected()["not-the-site"], name)
