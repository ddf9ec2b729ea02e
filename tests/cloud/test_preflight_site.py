"""components.preflight.checks on the local Cloudflare: which zone is meant, and whether names in it resolve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pulumi
import pytest

from components.config.errors import ConfigurationError
from components.config.models import Settings, SiteSettings
from components.config.reader import read
from components.config.site_zones import ZoneSettings, zones_of
from components.preflight.checks import configured
from components.preflight.credentials import cloudflare_fault
from components.preflight.zone_store import ZoneStore
from components.resources.site import apex_comment
from rollcall.errors import FatalError
from rollcall.ownership import Owner
from tests.cloud.cloudflare_server import OPERATOR, ZONE, Front, Lab

pytestmark = pytest.mark.clouds


def fault_of(site: SiteSettings, *, joined: bool = False) -> str | None:
    return cloudflare_fault(ZoneSettings(sites=(site,)), joined=joined)


PLAIN = SiteSettings(name="www", zone=ZONE)
PROXIED = replace(PLAIN, proxied=True)
SERVERS = "ada.ns.cloudflare.com, bob.ns.cloudflare.com"


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
    return Lab(front)


class TestStatus:
    @pytest.mark.parametrize("site", [PLAIN, PROXIED], ids=["plain", "proxied"])
    @pytest.mark.parametrize(
        ("status", "why"),
        [
            ("pending", "its registrar does not name Cloudflare's name servers yet"),
            ("initializing", "Cloudflare is still setting it up"),
            ("moved", "its registrar names other name servers than Cloudflare's now"),
        ],
    )
    def test_machines_in_a_zone_that_is_not_active_are_refused(
        self, lab: Lab, status: str, why: str, site: SiteSettings
    ) -> None:
        assert fault_of(site, joined=True) is None
        lab.cloud.set_zone(lab.zone, status=status)
        lab.record(name="www", proxied=site.proxied)
        assert lab.cloud.zones() == (), "the world asks others"
        assert fault_of(site, joined=True) == (
            f"rollcall:sites.www.zone: {ZONE} is {status}: {why}, so no name in it resolves. Set its name servers to {SERVERS} at the "
            "registrar, and run it again when the zone is active."
        )
        assert fault_of(site) is None, "without machines there is nothing to answer"

    def test_a_paused_zone_is_refused_where_only_the_edge_may_come(self, lab: Lab) -> None:
        lab.cloud.set_zone(lab.zone, paused=True)
        assert fault_of(PLAIN, joined=True) is None
        message = str(fault_of(PROXIED, joined=True))
        assert message.startswith(
            f"rollcall:sites.www.proxied: {ZONE} is paused, so Cloudflare answers with the machines' own addresses"
        )
        assert message.endswith("Resume the zone, or set proxied: false.")

    @pytest.mark.parametrize(
        ("kind", "site", "refused"),
        [
            ("partial", PLAIN, True),
            ("partial", PROXIED, False),
            ("secondary", PLAIN, True),
            ("secondary", PROXIED, True),
            ("internal", PROXIED, True),
        ],
    )
    def test_a_zone_of_another_type_is_refused_where_its_records_are_not_answered(
        self, lab: Lab, kind: str, site: SiteSettings, refused: bool
    ) -> None:
        lab.cloud.add_zone("other.example", type=kind)
        message = fault_of(replace(site, zone="other.example"), joined=True)
        assert bool(message) == refused and (not message or f"other.example is a {kind} zone" in message)

    def test_machines_in_a_zone_that_is_to_be_made_are_refused_with_the_steps(self, lab: Lab) -> None:
        made = replace(PLAIN, zone="new.example", create=True)
        message = str(fault_of(made, joined=True))
        assert message.startswith(
            "rollcall:sites.www.create: the zone new.example is to be made, and no name in it resolves before"
        )
        assert "Set the count of the fleets that join its sites to 0 for one `pulumi up`" in message
        assert fault_of(made) is None
        zone = lab.raw("POST", "/zones", json={"name": "new.example"}).json()["result"]["id"]
        assert "new.example is pending" in str(fault_of(made, joined=True))
        lab.raw("PUT", f"/zones/{zone}/activation_check")
        assert fault_of(made, joined=True) is None


class TestChoice:
    @pytest.fixture
    def twin(self, lab: Lab) -> str:
        return lab.cloud.add_zone(ZONE, account=lab.cloud.add_account("Other"), status="pending")

    def test_two_of_one_name_are_named_with_their_accounts_and_the_key(self, lab: Lab, twin: str) -> None:
        message = str(fault_of(PLAIN))
        assert message.startswith(f"rollcall:sites.www.zone: 2 zones are called {ZONE}: ")
        assert f"{lab.zone} in account Rollcall ({lab.cloud.account_id}), active" in message
        assert f"{twin} in account Other (" in message and "), pending" in message
        assert message.endswith("Set rollcall:sites.www.zoneId to one of these ids.")

    def test_the_id_chooses(self, lab: Lab, twin: str) -> None:
        store = ZoneStore(OPERATOR)
        for zone in (lab.zone, twin):
            chosen = replace(PLAIN, zone_id=zone)
            assert fault_of(chosen) is None and store.zone(ZoneSettings(sites=(chosen,))) == zone
        assert fault_of(replace(PLAIN, zone_id=lab.zone), joined=True) is None
        assert "is pending" in str(fault_of(replace(PLAIN, zone_id=twin), joined=True))

    def test_nothing_takes_the_first_of_two(self, lab: Lab, twin: str) -> None:
        with pytest.raises(FatalError, match="2 zones are called"):
            ZoneStore(OPERATOR).zone(ZoneSettings(sites=(PLAIN,)))

    def test_an_id_that_is_not_there_or_of_another_zone_is_named(self, lab: Lab) -> None:
        assert fault_of(replace(PLAIN, zone_id="0" * 32)) == (
            f"rollcall:sites.www.zoneId: this Cloudflare token sees no zone {'0' * 32}. Correct the id, or give the token the zone."
        )
        other = lab.cloud.add_zone("other.example")
        assert fault_of(replace(PLAIN, zone_id=other)) == (
            f"rollcall:sites.www.zoneId: {other} is the zone other.example, not {ZONE}. Correct the one or the other."
        )

    def test_of_several_accounts_one_must_be_chosen_for_a_new_zone(self, lab: Lab) -> None:
        made = replace(PLAIN, zone="new.example", create=True)
        assert fault_of(made) is None
        other = lab.cloud.add_account("Other")
        assert fault_of(made) == (
            f"rollcall:sites.www.create: this Cloudflare token sees 2 accounts. Set rollcall:sites.www.accountId to one of {other} (Other)"
            f", {lab.cloud.account_id} (Rollcall)."
        )
        assert fault_of(replace(made, account_id=other)) is None
        assert "sees no account" in str(fault_of(replace(made, account_id="0" * 32)))


def test_an_id_in_the_place_of_the_name_is_looked_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = '{"web": {"cloud": "aws", "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}}'
    config = {"rollcall:sites": f'{{"www": {{"zone": "{lab.zone}"}}}}', "rollcall:fleets": fleet}
    monkeypatch.setattr("components.preflight.checks.config", config.get)
    (site,) = configured("local").sites
    assert (site.zone, site.zone_id, site.fqdn) == (ZONE, lab.zone, f"www.{ZONE}")
    config["rollcall:sites"] = f'{{"www": {{"zone": "{"0" * 32}"}}}}'
    with pytest.raises(
        ConfigurationError,
        match=r"rollcall:sites\.www\.zone: the name of zone 0+ was not found: CLOUDFLARE_API_TOKEN: ",
    ):
        configured("local")


class TestRoom:
    """Cloudflare counts all records of a zone (81045), and a free one made since September 2024 has 200."""

    def settings(self, count: int, **site: object) -> Settings:
        fleet = {"cloud": "aws", "count": count, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}
        return read("local", {"sites": {"www": {"zone": ZONE, **site}}, "fleets": {"web": fleet}})

    def room_faults(self, settings: Settings) -> list[str]:
        (zone,) = zones_of(settings)
        return ZoneStore(OPERATOR).room_faults(settings, zone)

    def test_records_of_others_leave_less_room(self, lab: Lab) -> None:
        for number in range(159):
            lab.cloud.add_record(lab.zone, type="TXT", name=f"t{number}", content='"x"')
        assert self.room_faults(self.settings(20)) == []
        lab.cloud.add_record(lab.zone, type="TXT", name="one-more", content='"x"')
        (fault,) = self.room_faults(self.settings(20))
        assert fault.startswith(
            "rollcall:sites.www.maxRecords: the zone has 160 records of others, and the stack takes up to 41 while its"
        )
        assert "the plan holds 200. Delete some" in fault
        assert self.room_faults(self.settings(19)) == [] == self.room_faults(self.settings(0))
        assert self.room_faults(self.settings(20, maxRecords=250)) == [], "the owner knows of a raised quota"

    def test_ours_are_not_counted_twice(self, lab: Lab) -> None:
        for number in range(100):
            owner = Owner("local", "web", str(number), "0a1b2c", "i-0123456789abcdef0")
            lab.cloud.add_record(
                lab.zone, type="A", name="www", content=f"198.51.100.{number}", ttl=60, comment=str(owner)
            )
        lab.cloud.add_record(
            lab.zone, type="CNAME", name="@", content=f"www.{ZONE}", proxied=True, comment=apex_comment("local")
        )
        assert self.room_faults(self.settings(99)) == []
        lab.cloud.add_record(lab.zone, type="TXT", name="a", content='"x"')
        lab.cloud.add_record(lab.zone, type="TXT", name="b", content='"x"')
        assert len(self.room_faults(self.settings(99))) == 1

    def test_a_paid_or_an_old_plan_allows_more_records_than_the_settings_say(self, lab: Lab) -> None:
        lab.clock.now = 1_720_000_000.0
        old = lab.cloud.add_zone("old.example")
        lab.clock.now = 1_790_000_000.0
        paid = lab.cloud.add_zone("paid.example", "pro")
        for zone, name in ((old, "old.example"), (paid, "paid.example")):
            for number in range(190):
                lab.cloud.add_record(zone, type="TXT", name=f"t{number}", content='"x"')
            assert self.room_faults(self.settings(20, zone=name)) == []
