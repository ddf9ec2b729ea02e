"""For how long a zone's SOA makes resolvers remember what is not there, and what a preview says of it."""

from __future__ import annotations

from typing import Any

import pytest

from components.config.models import ServiceDiscoverySettings
from components.preflight import soa

DIRECTORY = ServiceDiscoverySettings(zone="unilans.net", services=())
ROUTE53 = "ns-2048.awsdns-64.com. awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400"


def answered(ttl: int = 900, value: str = ROUTE53) -> dict[str, Any]:
    return {"Type": "SOA", "TTL": ttl, "ResourceRecords": [{"Value": value}]}


@pytest.mark.parametrize(
    ("ttl", "minimum", "seconds"), [(900, 86400, 900), (900, 60, 60), (30, 86400, 30), (172800, 900, 900)]
)
def test_the_lesser_of_its_ttl_and_its_minimum_counts(ttl: int, minimum: int, seconds: int) -> None:
    """RFC 2308 section 5."""
    assert soa.negative_ttl(answered(ttl, ROUTE53.replace("86400", str(minimum)))) == seconds


def test_a_preview_names_the_zone_and_the_seconds_and_what_to_do() -> None:
    (message,) = soa.warnings(DIRECTORY, lambda name: {"SOA": answered()} if name == "unilans.net." else {})
    assert message == (
        "rollcall:serviceDiscovery.zone: the SOA record of unilans.net makes resolvers remember for 900 s that a name does not exist. If a "
        "client asks for an incarnation before its first machine has registered, it may find this machine up to 900 s late. Set "
        "rollcall:serviceDiscovery.manageSoa to true. Or set the TTL of the zone's SOA record, or the last number in this record, to "
        "60 or less."
    )


@pytest.mark.parametrize("found", [answered(60), answered(900, ROUTE53.replace("86400", "30"))])
def test_seconds_cost_nothing_worth_saying(found: dict[str, Any]) -> None:
    assert soa.warnings(DIRECTORY, lambda _: {"SOA": found}) == ()


def test_a_zone_that_is_still_to_be_made_will_have_route53s_own() -> None:
    (message,) = soa.warnings(DIRECTORY, None)
    assert "resolvers remember for 900 s" in message


@pytest.mark.parametrize("value", ["", "a. b. 1 2 3 4 x", "a. b."])
def test_an_soa_that_cannot_be_read_is_not_spoken_of(value: str) -> None:
    assert soa.warnings(DIRECTORY, lambda _: {"SOA": answered(900, value)}) == ()
    assert soa.warnings(DIRECTORY, lambda _: {}) == ()
