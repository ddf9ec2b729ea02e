"""components.resources.zone_soa on the local Route53: the SOA's TTL is set, watched, and put back; one stack alone may do so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from components.config.models import ServiceDiscoverySettings
from components.dns.route53_zones import sets_of
from components.preflight import soa
from components.resources import zone_soa
from components.resources.zone_soa import TTL_S, ZoneSoaError, ZoneSoaProvider, mark_name
from localcloud.aws.route53 import UNLIMITED
from tests.cloud.aws_cloud import Cloud, point_shell_at, running

pytestmark = pytest.mark.clouds
DOMAIN = "unilans.net"


@pytest.fixture(scope="module")
def shared() -> Iterator[Cloud]:
    with running(route53_limits=UNLIMITED) as made:
        yield made


@pytest.fixture
def cloud(shared: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    point_shell_at(shared, monkeypatch)
    yield shared
    for zone in shared.aws.route53.store.all():
        shared.aws.route53.store._zones.pop(zone.id)


@pytest.fixture
def props(cloud: Cloud) -> dict[str, Any]:
    return {"zone": cloud.aws.add_zone(DOMAIN), "domain": DOMAIN, "stack": "local", "ttl": TTL_S, "before": None}


@pytest.fixture
def provider() -> ZoneSoaProvider:
    made = ZoneSoaProvider()
    made.config = {"aws:region": "us-west-2"}
    return made


def at(cloud: Cloud, props: Mapping[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = dict(sets_of(cloud.client("route53"), props["zone"])(f"{name}."))
    return found


def set_ttl(cloud: Cloud, props: Mapping[str, Any], ttl: int) -> None:
    changed = {**at(cloud, props, DOMAIN)["SOA"], "TTL": ttl}
    batch = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": changed}]}
    cloud.client("route53").change_resource_record_sets(HostedZoneId=props["zone"], ChangeBatch=batch)


def test_the_ttl_is_set_and_put_back_and_the_value_keeps_every_byte(
    cloud: Cloud, provider: ZoneSoaProvider, props: dict[str, Any]
) -> None:
    before = at(cloud, props, DOMAIN)["SOA"]
    made = provider.create(props)
    assert at(cloud, props, DOMAIN)["SOA"] == {**before, "TTL": TTL_S}
    assert soa.negative_ttl(at(cloud, props, DOMAIN)["SOA"]) == TTL_S
    assert made.outs is not None and made.outs["before"] == before["TTL"] == 900
    provider.delete(made.id, made.outs)
    assert at(cloud, props, DOMAIN)["SOA"] == before and at(cloud, props, mark_name(DOMAIN)) == {}


def test_what_another_owner_sets_is_a_difference_and_is_set_again(
    cloud: Cloud, provider: ZoneSoaProvider, props: dict[str, Any]
) -> None:
    outs: dict[str, Any] = dict(provider.create(props).outs or {})
    set_ttl(cloud, props, 1800)
    read: dict[str, Any] = dict(provider.read("x", outs).outs or {})
    assert read["ttl"] == 1800 and provider.diff("x", read, props).changes
    assert not provider.diff("x", outs, props).changes
    updated = provider.update("x", read, props)
    assert (
        at(cloud, props, DOMAIN)["SOA"]["TTL"] == TTL_S and updated.outs is not None and updated.outs["before"] == 900
    )


def test_a_delete_leaves_what_another_owner_has_set(
    cloud: Cloud, provider: ZoneSoaProvider, props: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    outs = dict(provider.create(props).outs or {})
    set_ttl(cloud, props, 300)
    provider.delete("x", outs)
    assert at(cloud, props, DOMAIN)["SOA"]["TTL"] == 300 and at(cloud, props, mark_name(DOMAIN)) == {}
    assert "has a TTL of 300 that Rollcall did not set: it stays" in capsys.readouterr().err


def test_an_up_that_was_killed_is_taken_over_with_what_was_before(
    cloud: Cloud, provider: ZoneSoaProvider, props: dict[str, Any]
) -> None:
    provider.create(props)
    again = provider.create(props)
    assert again.outs is not None and again.outs["before"] == 900


def test_a_second_stack_is_refused_before_it_changes_anything(
    cloud: Cloud, provider: ZoneSoaProvider, props: dict[str, Any]
) -> None:
    provider.create(props)
    set_ttl(cloud, props, 61)
    with pytest.raises(
        ZoneSoaError,
        match=r"serviceDiscovery\.manageSoa: the stack local sets the TTL of the SOA of unilans\.net\. Set",
    ):
        provider.create({**props, "stack": "staging"})
    assert at(cloud, props, DOMAIN)["SOA"]["TTL"] == 61
    sets = sets_of(cloud.client("route53"), props["zone"])
    for managed, stack, count in ((True, "staging", 1), (True, "local", 0), (False, "staging", 0)):
        directory = ServiceDiscoverySettings(zone=DOMAIN, services=(), manage_soa=managed)
        found = soa.faults(directory, sets, stack)
        assert len(found) == count and all("the stack local" in each for each in found)
    assert soa.warnings(ServiceDiscoverySettings(zone=DOMAIN, services=(), manage_soa=True), None) == ()


def test_a_zone_that_was_deleted_needs_nothing(cloud: Cloud, provider: ZoneSoaProvider, props: dict[str, Any]) -> None:
    outs = dict(provider.create(props).outs or {})
    cloud.aws.route53.store._zones.pop(props["zone"])
    assert provider.read("x", outs).id == ""
    provider.delete("x", outs)


@pytest.mark.parametrize(
    ("values", "owner"),
    [
        (['"local ttl-before=900"'], ("local", 900)),
        (['"v=spf1"', '"shop.prod ttl-before=60"'], ("shop.prod", 60)),
        (['"local"'], None),
        ([], None),
    ],
)
def test_a_mark_names_the_stack_and_what_was_before(values: list[str], owner: tuple[str, int] | None) -> None:
    assert zone_soa.owner_of(values) == owner


@pytest.mark.parametrize(
    ("create", "key", "managed"), [(True, None, True), (False, None, False), (True, False, False), (False, True, True)]
)
def test_a_zone_that_the_stack_made_is_managed_by_default(create: bool, key: bool | None, managed: bool) -> None:
    assert ServiceDiscoverySettings(zone=DOMAIN, services=(), create=create, manage_soa=key).manages_soa is managed
