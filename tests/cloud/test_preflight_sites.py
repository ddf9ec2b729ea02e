"""Sites in several zones of the local Cloudflare: each zone is asked, and a fault names the site that it is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pulumi
import pytest

from components.config.models import Settings
from components.config.reader import read
from components.preflight import checks
from tests.cloud.cloudflare_server import OPERATOR, ZONE, Front, Lab

pytestmark = pytest.mark.clouds
OTHER = "other.example"


def settings(*, count: int = 1, **news: Any) -> Settings:
    fleet = {"cloud": "aws", "count": count, "size": "t3.micro", "image": "debian-12"}
    given = {
        "sites": {
            "www": {"zone": ZONE},
            "shop": {"zone": ZONE, "host": "shop", "apex": False},
            "news": {"zone": OTHER, "host": "news", **news},
        },
        "fleets": {
            "web": {**fleet, "joins": ["site/www", "site/news"]},
            "shop": {**fleet, "joins": ["site/shop"]},
        },
    }
    return read("local", given)


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture
def lab(front: Front, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", front.url)
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", OPERATOR)
    monkeypatch.setattr(pulumi.runtime, "get_config", {}.get)
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: False)
    # A backend that does not give the state.
    monkeypatch.setattr(checks, "prior_state", lambda: None)
    return Lab(front)


def test_a_zone_that_is_not_there_is_named_by_its_site_and_the_other_zone_is_still_checked(lab: Lab) -> None:
    faults, _, usable = checks.in_cloudflare_of(settings())
    assert faults == [
        f"rollcall:sites.news.zone: {OTHER} is not in the account of this Cloudflare token. Add the zone there, correct the name, or set "
        "create: true."
    ]
    assert [each.name for each in usable.sites] == ["www", "shop"]


def test_a_zone_that_does_not_resolve_is_named_where_machines_join_it(lab: Lab) -> None:
    lab.cloud.add_zone(OTHER, status="pending")
    (fault,) = checks.in_cloudflare_of(settings())[0]
    assert fault.startswith(f"rollcall:sites.news.zone: {OTHER} is pending: ")
    assert checks.in_cloudflare_of(settings(count=0))[0] == []


def test_what_is_set_at_one_site_is_named_at_that_site(lab: Lab) -> None:
    lab.cloud.add_zone(OTHER)
    (fault,) = checks.in_cloudflare_of(settings(zoneId="0" * 32))[0]
    assert fault.startswith(f"rollcall:sites.news.zoneId: this Cloudflare token sees no zone {'0' * 32}. ")


def test_all_zones_that_are_right_have_no_fault_and_the_stack_makes_the_tokens(lab: Lab) -> None:
    lab.cloud.add_zone(OTHER)
    faults, found, usable = checks.in_cloudflare_of(settings())
    assert faults == [] and found.api is not None and len(usable.sites) == 3


def test_records_of_others_at_the_host_of_any_site_are_in_the_way(lab: Lab) -> None:
    other = lab.cloud.add_zone(OTHER)
    lab.cloud.add_record(lab.zone, type="CNAME", name="shop", content="elsewhere.example")
    lab.cloud.add_record(other, type="CNAME", name="news", content="elsewhere.example")
    found = checks.existing_found(settings())
    assert [each.partition(" already")[0] for each in found.faults] == [
        f"rollcall:sites.shop.host: shop.{ZONE} is a CNAME to elsewhere.example",
        f"rollcall:sites.news.host: news.{OTHER} is a CNAME to elsewhere.example",
    ]
    assert checks.existing_found(settings(count=0)).faults == ()


def test_the_plan_of_each_zone_is_counted_by_itself(lab: Lab) -> None:
    other = lab.cloud.add_zone(OTHER)
    for number in range(199):
        lab.cloud.add_record(other, type="TXT", name=f"t{number}", content='"x"')
    (fault,) = checks.existing_found(settings()).faults
    assert fault.startswith(
        "rollcall:sites.news.maxRecords: the zone has 199 records of others, and the stack takes up to 3 "
    )


def test_a_token_for_the_machines_that_was_made_elsewhere_must_be_for_all_zones(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.cloud.add_zone(OTHER)
    group = lab.raw("GET", "/user/tokens/permission_groups?name=DNS%20Write").json()["result"][0]["id"]
    resources = {f"com.cloudflare.api.account.zone.{lab.zone}": "*"}
    policies = [{"effect": "allow", "permission_groups": [{"id": group}], "resources": resources}]
    value = lab.raw("POST", "/user/tokens", json={"name": "mine", "policies": policies}).json()["result"]["value"]
    monkeypatch.setattr(pulumi.runtime, "get_config", {"rollcall:machineToken": value}.get)
    monkeypatch.setattr(pulumi.runtime, "is_config_secret", lambda _: True)
    assert checks.in_cloudflare_of(settings())[0] == [
        f"rollcall:machineToken: the token may not read the records of {OTHER} (HTTP 403). Give it DNS Write for this zone."
    ]
