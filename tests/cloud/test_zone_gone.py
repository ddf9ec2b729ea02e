"""A DNS zone that was deleted before the stack, on the local clouds: it holds no records, so nothing waits for it. A zone that the
credentials may not see is an error, and never taken for a deleted one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from components.dns.cloudflare import Place, SiteRecords
from components.dns.cloudflare_store import RecordStore
from components.dns.deleted_zones import PresentRecords, ZoneGoneError
from components.dns.route53 import ServicePlace
from components.model import DnsRecord, RecordKey
from components.preflight.zone_store import ZoneStore
from components.registration import providers, snapshots
from components.registration.props import registries_of
from components.registration.providers import DeregistrationProvider, RollCallProvider
from components.registration.roll_call import RollCallError
from components.registration.snapshots import SnapshotCache
from components.resources import origin_tls
from components.resources.origin_tls import RevocationError, RevocationProvider
from localcloud.aws.route53 import UNLIMITED
from localcloud.machines.compute import InstantHypervisor
from rollcall import zoneview as resolving
from rollcall.cloudflare import Record
from rollcall.errors import FatalError
from rollcall.ownership import Owner
from tests.cloud.aws_accounts import two_accounts
from tests.cloud.aws_cloud import Cloud, allow, point_shell_at, running
from tests.cloud.cloudflare_server import OPERATOR as TOKEN
from tests.cloud.cloudflare_server import Front, Lab
from tests.unit.registration.test_registration import World

pytestmark = pytest.mark.clouds
SITE, HOST, SERVICES = "scalability.expert", "www.scalability.expert", "unilans.net"
MEMBER = {"machine": "0", "generation": "aaaaaa", "instance": "i-00000000000000001"}
OWNER = Owner("local", "web", "0", "aaaaaa", MEMBER["instance"])


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture
def lab(front: Front, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", TOKEN)
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", front.url)
    return Lab(front)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with running(hypervisor=InstantHypervisor(), route53_limits=UNLIMITED) as made:
        yield made


@pytest.fixture(autouse=True)
def environment(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    point_shell_at(cloud, monkeypatch)
    monkeypatch.setattr(resolving, "name_servers", lambda *_: resolving.Discovery())
    monkeypatch.setattr(resolving, "own_resolvers", lambda: ())


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> World:
    """Collects messages, on a clock that only sleeps move. The clouds are the local ones."""
    world = World()
    monkeypatch.setattr(providers, "Engine", lambda: world)
    monkeypatch.setattr("components.registration.roll_call.time.monotonic", lambda: world.now)
    monkeypatch.setattr(providers, "CALLED", set())
    monkeypatch.setattr(snapshots, "SNAPSHOTS", SnapshotCache(lambda: world.now))
    monkeypatch.setattr(snapshots, "DEPARTURES", SnapshotCache(lambda: world.now))
    return world


def at_site(zone: str) -> dict[str, Any]:
    return Place(zone=zone, domain=SITE, host=HOST, ttl=60, proxied=False).as_inputs()


def in_service(zone: str) -> dict[str, Any]:
    return ServicePlace(
        zone=zone, domain=SERVICES, service="_s._tcp", incarnation="v1", port=1, priority=10, weight=10, ttl=30
    ).as_inputs()


def roll_call(*places: dict[str, Any], members: tuple[dict[str, str], ...] = (MEMBER,)) -> dict[str, Any]:
    return {
        "stack": "local", "fleet": "web", "fleets": ["web"], "members": list(members), "places": list(places), "timeout": 60,
        "drain_delay": 0, "cloud": {"cloud": "aws", "region": "us-west-2"}, "missing": [], "stale": [], "leftover": [], "foreign": [],
    }  # fmt: skip


def deregistration(*places: dict[str, Any]) -> dict[str, Any]:
    return {**roll_call(*places), "machine": "0", "generation": "aaaaaa"}


def gone_zones(lab: Lab, cloud: Cloud) -> tuple[dict[str, Any], dict[str, Any]]:
    """The places of a site and of a service. Their zones existed, with a machine in each, and were deleted."""
    lab.record(comment=str(OWNER))
    lab.api.zones.delete(zone_id=lab.zone)
    route53 = cloud.client("route53")
    zone = cloud.aws.add_zone(SERVICES)
    route53.delete_hosted_zone(Id=zone)
    return at_site(lab.zone), in_service(zone)


class TestWhereBothZonesWereDeleted:
    @pytest.fixture
    def places(self, lab: Lab, cloud: Cloud) -> tuple[dict[str, Any], dict[str, Any]]:
        return gone_zones(lab, cloud)

    @pytest.fixture
    def warnings(self, places: tuple[dict[str, Any], ...]) -> list[str]:
        return [f"the zone {each['domain']} ({each['zone']}) was deleted" for each in places]

    def test_a_refresh_finds_every_member_missing(
        self, places: tuple[dict[str, Any], ...], warnings: list[str], engine: World
    ) -> None:
        outs = RollCallProvider().read("local/web", roll_call(*places)).outs
        who = f"web-0 ({MEMBER['instance']}) is not at"
        assert outs["missing"] == [f"{who} rc.{SERVICES} A", f"{who} v1._s._tcp.{SERVICES} SRV", f"{who} {HOST} A"]
        assert all(any(each in line for line in engine.messages) for each in warnings)

    def test_a_roll_call_is_deleted_with_a_warning(
        self, places: tuple[dict[str, Any], ...], warnings: list[str], engine: World
    ) -> None:
        RollCallProvider().delete("local/web", roll_call(*places))
        assert all(any(each in line for line in engine.messages) for each in warnings)

    def test_each_deregistration_is_deleted_with_a_warning(
        self, places: tuple[dict[str, Any], ...], warnings: list[str], engine: World
    ) -> None:
        DeregistrationProvider().delete("web-0-aaaaaa", deregistration(*places))
        assert all(any(line.startswith("web-0: ") and each in line for line in engine.messages) for each in warnings)

    def test_a_fleet_that_shrinks_to_nothing_is_updated(
        self, places: tuple[dict[str, Any], ...], engine: World
    ) -> None:
        made = RollCallProvider().update("", roll_call(*places), roll_call(*places, members=()))
        assert made.outs is not None and made.outs["members"] == []

    def test_an_up_that_wants_machines_there_fails_at_once_with_the_zone(
        self, places: tuple[dict[str, Any], ...], engine: World
    ) -> None:
        with pytest.raises(
            RollCallError, match=rf"web: the zone {SITE} \({places[0]['zone']}\), {SERVICES} .* was deleted"
        ):
            RollCallProvider().create(roll_call(*places))
        assert engine.now == 0

    def test_what_was_seen_there_before_is_removed_without_an_error(self, places: tuple[dict[str, Any], ...]) -> None:
        registries = registries_of(roll_call(*places), {})
        leftovers = [
            DnsRecord(
                key=RecordKey(HOST, "A"), value="198.51.100.10", owner=OWNER, id=f"{places[0]['zone']}/{'a' * 32}"
            ),
            DnsRecord(
                key=RecordKey(f"rc.{SERVICES}", "A"), value="198.51.100.10", owner=OWNER, id=f"aaaaaa.rc.{SERVICES}"
            ),
        ]
        registries.remove(leftovers)
        registries.unchallenge(OWNER)
        assert len(registries.gone) == 2 and registries.still_answered(leftovers) == []


class TestAnOriginCertificate:
    """Of a closed site; it has no place in the zone, and is listed by it."""

    def revoke(self, lab: Lab, monkeypatch: pytest.MonkeyPatch, engine: World) -> None:
        monkeypatch.setattr(origin_tls, "Engine", lambda: engine)
        props = {"certificate": "1", "zone": lab.zone, "host": HOST, "expires": "2027-01-01"}
        RevocationProvider().delete("1", props)

    def test_is_let_go_with_a_warning_where_its_zone_was_deleted(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch, engine: World
    ) -> None:
        lab.api.zones.delete(zone_id=lab.zone)
        self.revoke(lab, monkeypatch, engine)
        (message,) = engine.messages
        assert message == (
            f"the origin certificate 1: its zone {lab.zone} was deleted, so it is not revoked and expires on 2027-01-01"
        )

    def test_is_an_error_where_the_zone_may_not_be_seen(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch, engine: World
    ) -> None:
        other = lab.cloud.add_zone("other.example")
        scoped = lab.token("Zone Read", resources={f"com.cloudflare.api.account.zone.{other}": "*"})
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", str(scoped.api_token))
        with pytest.raises(RevocationError, match="does not let this token"):
            self.revoke(lab, monkeypatch, engine)


def test_a_zone_that_was_made_again_with_another_id_is_joined_and_the_old_one_is_left(
    lab: Lab, cloud: Cloud, engine: World
) -> None:
    old = gone_zones(lab, cloud)
    new = lab.cloud.add_zone(SITE)
    # The machine has read the new id in its settings.
    lab.api.dns.records.create(zone_id=new, type="A", name=HOST, content="198.51.100.10", ttl=60, comment=str(OWNER))
    wanted = roll_call({**at_site(new), "proxied": True})
    made = RollCallProvider().update("", roll_call(*old), wanted)
    assert made.outs is not None and made.outs["places"][0]["zone"] == new
    assert [each for each in engine.messages if SERVICES in each and "was deleted" in each]
    DeregistrationProvider().delete("web-0-aaaaaa", deregistration(old[0]))
    assert [each.content for each in lab.api.dns.records.list(zone_id=new)] == ["198.51.100.10"]


class TestWhereTheCredentialsMayNotSeeTheZone:
    def test_of_cloudflare_it_is_an_error_that_says_so(
        self, lab: Lab, engine: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = lab.cloud.add_zone("other.example")
        scoped = lab.token("DNS Write", "Zone Read", resources={f"com.cloudflare.api.account.zone.{other}": "*"})
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", str(scoped.api_token))
        for act in everything(at_site(lab.zone)):
            with pytest.raises(
                FatalError, match="CLOUDFLARE_API_TOKEN: Cloudflare does not let this token GET"
            ) as refused:
                act()
            assert not isinstance(refused.value, ZoneGoneError)

    def test_of_route53_it_is_an_error_where_a_policy_forbids_it(
        self, cloud: Cloud, engine: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        zone = cloud.aws.add_zone(SERVICES)
        iam = cloud.client("iam")
        iam.create_user(UserName="reader")
        iam.put_user_policy(UserName="reader", PolicyName="own", PolicyDocument=json.dumps(allow("ec2:*")))
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        for act in everything(in_service(zone)):
            with pytest.raises(FatalError, match="code=AccessDenied"):
                act()

    def test_of_route53_it_is_an_error_where_another_account_has_the_zone(
        self, engine: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with two_accounts() as world:
            zone = world.people.add_zone(SERVICES)
            monkeypatch.setenv("AWS_ENDPOINT_URL", world.url)
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", world.root[0])
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", world.root[1])
            for act in everything(in_service(zone)):
                with pytest.raises(FatalError, match="code=AccessDenied"):
                    act()

    def test_an_address_at_which_no_path_is_known_says_nothing_about_a_zone(self, lab: Lab) -> None:
        store = RecordStore(TOKEN, f"{lab.url}/x", retries=False)
        with pytest.raises(FatalError) as refused:
            store.list(lab.zone, HOST)
        assert not isinstance(refused.value, ZoneGoneError)


def everything(place: dict[str, Any]) -> list[Callable[[], Any]]:
    return [
        lambda: RollCallProvider().read("local/web", roll_call(place)),
        lambda: RollCallProvider().delete("local/web", roll_call(place)),
        lambda: DeregistrationProvider().delete("web-0-aaaaaa", deregistration(place)),
    ]


@pytest.mark.parametrize("retries", [True, False])
def test_deleting_a_record_that_is_gone_is_not_an_error(lab: Lab, retries: bool) -> None:
    store = RecordStore(TOKEN, retries=retries) if not retries else ZoneStore(TOKEN)
    record = lab.record()
    store.delete(lab.zone, record.id)
    store.delete(lab.zone, record.id)
    assert store.list(lab.zone, HOST) == ()
    with pytest.raises(FatalError, match="Record does not exist"):
        ZoneStore(TOKEN).comment(Record(name=HOST, type="A", content="x", zone=lab.zone, id=record.id), "text")


def test_a_zone_that_comes_back_is_there_again(lab: Lab) -> None:
    records = PresentRecords(SiteRecords(Place.from_inputs(at_site(lab.zone)), RecordStore(TOKEN, retries=False)))
    zone = lab.cloud._store.zones.pop(lab.zone)
    assert records.dns_records() == () and records.gone
    lab.cloud._store.zones[lab.zone] = zone
    lab.record(comment=str(OWNER))
    assert [each.value for each in records.dns_records()] == ["198.51.100.10"] and not records.gone
