"""Zones, their settings, accounts and addresses of the local Cloudflare through the official SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from localcloud.cloudflare import NAME_SERVERS
from tests.cloud.cloudflare_server import EDGES, ZONE, Front, Lab, refused

pytestmark = pytest.mark.clouds


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture
def lab(front: Front) -> Lab:
    return Lab(front)


class TestZones:
    def test_a_zone_is_found_by_its_name_and_read_by_its_id(self, lab: Lab) -> None:
        found = list(lab.api.zones.list(name=ZONE))
        assert [(each.id, each.name, each.status) for each in found] == [(lab.zone, ZONE, "active")]
        zone = lab.api.zones.get(zone_id=lab.zone)
        assert zone is not None and zone == found[0]
        assert zone.name_servers == list(NAME_SERVERS)
        assert zone.account.id == lab.cloud.account_id
        assert zone.plan.legacy_id == "free" and zone.meta.phishing_detected is False

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ({"name": "other.example"}, 0),
            ({"name": "contains:ability"}, 1),
            ({"name": "starts_with:scal"}, 1),
            ({"name": "not_equal:scalability.expert"}, 0),
            ({"status": "active"}, 1),
            ({"status": "pending"}, 0),
            ({"account": {"id": "0" * 32}}, 0),
        ],
        ids=str,
    )
    def test_filters(self, lab: Lab, query: dict[str, Any], count: int) -> None:
        assert len(list(lab.api.zones.list(**query))) == count

    def test_the_account_s_own_id_finds_its_zones(self, lab: Lab) -> None:
        assert len(list(lab.api.zones.list(account={"id": lab.cloud.account_id}))) == 1

    def test_pages_of_zones(self, lab: Lab) -> None:
        for number in range(5):
            lab.cloud.add_zone(f"z{number}.example")
        info = lab.raw("GET", "/zones?per_page=5&page=2").json()["result_info"]
        assert info == {"page": 2, "per_page": 5, "count": 1, "total_count": 6, "total_pages": 2}
        assert lab.raw("GET", "/zones?per_page=51").status_code == 400

    def test_a_new_zone_is_pending_until_its_activation_is_checked(self, lab: Lab) -> None:
        account: Any = {"id": lab.cloud.account_id}
        made = lab.api.zones.create(account=account, name="New.Example")
        assert made is not None and (made.name, made.status, made.paused) == ("new.example", "pending", False)
        assert lab.raw("PUT", f"/zones/{made.id}/activation_check").status_code == 200
        after = lab.api.zones.get(zone_id=made.id)
        assert after is not None and after.status == "active" and after.activated_on is not None

    def test_a_zone_that_exists_is_1061(self, lab: Lab) -> None:
        with refused(400, 1061, ZONE):
            lab.api.zones.create(account={"id": lab.cloud.account_id}, name=ZONE)

    def test_a_deleted_zone_is_gone_with_its_records(self, lab: Lab) -> None:
        lab.record()
        lab.api.zones.delete(zone_id=lab.zone)
        with refused(404, 1001):
            lab.api.zones.get(zone_id=lab.zone)
        with refused(404, 7003):
            lab.api.dns.records.list(zone_id=lab.zone)
        assert lab.cloud.zones() == () and lab.cloud.lookup(ZONE, f"www.{ZONE}") is None

    def test_a_paused_zone_says_so(self, lab: Lab) -> None:
        zone = lab.api.zones.edit(zone_id=lab.zone, paused=True)
        assert zone is not None and zone.paused is True

    def test_an_invalid_identifier_is_7003(self, lab: Lab) -> None:
        with refused(404, 7003, ZONE):
            lab.api.dns.records.list(zone_id=ZONE)
        with refused(404, 7003, "645577699"):
            lab.api.dns.records.get("645577699", zone_id=lab.zone)
        with refused(404, 7003):
            lab.api.user.tokens.get("mine")

    def test_what_the_api_does_not_know_is_7003_and_a_wrong_method_405(self, lab: Lab) -> None:
        assert lab.raw("GET", "/nothing/here").json()["errors"][0]["code"] == 7003
        assert lab.raw("DELETE", "/zones").status_code == 405

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/zones/ZONE/dns_records/export"),
            ("POST", "/zones/ZONE/dns_records/import"),
            ("POST", "/zones/ZONE/dns_records/scan"),
            ("GET", "/zones/ZONE/dns_settings"),
            ("PATCH", "/zones/ZONE/dns_settings"),
            ("PATCH", "/zones/ZONE/dnssec"),
            ("POST", "/zones/ZONE/pagerules"),
            ("GET", "/zones/ZONE/rulesets"),
            ("GET", "/zones/ZONE/firewall/access_rules/rules"),
            ("POST", "/zones/ZONE/purge_cache"),
            ("GET", "/accounts/ACCOUNT/workers/scripts"),
            ("PUT", "/accounts/ACCOUNT"),
            ("PATCH", "/user"),
            ("GET", "/memberships"),
        ],
    )
    def test_what_is_not_emulated_says_so(self, lab: Lab, method: str, path: str) -> None:
        """No 404, which says that a thing is gone, and none of 500 and more, which clients try again."""
        whole = path.replace("ZONE", lab.zone).replace("ACCOUNT", lab.cloud.account_id)
        reply = lab.raw(method, whole, json={})
        body = reply.json()
        assert (reply.status_code, body["success"], body["result"]) == (400, False, None)
        (error,) = body["errors"]
        assert error["message"] == f"The local Cloudflare does not emulate {method} /client/v4{whole}"

    def test_a_zone_is_not_signed_and_has_no_page_rules(self, lab: Lab) -> None:
        signed = lab.api.dns.dnssec.get(zone_id=lab.zone)
        assert signed is not None and (signed.status, signed.ds) == ("disabled", None)
        assert lab.raw("GET", f"/zones/{lab.zone}/pagerules?status=active").json()["result"] == []
        with refused(404, 1001):
            lab.api.dns.dnssec.get(zone_id="0" * 32)


class TestSettings:
    def test_all_settings_come_at_once_and_each_alone(self, lab: Lab) -> None:
        everything = {each["id"]: each for each in lab.raw("GET", f"/zones/{lab.zone}/settings").json()["result"]}
        wanted = {
            "security_level",
            "websockets",
            "always_online",
            "early_hints",
            "http3",
            "0rtt",
            "always_use_https",
            "ssl",
        }
        wanted |= {"min_tls_version", "rocket_loader", "browser_cache_ttl", "cache_level", "websockets", "tls_1_3"}
        assert wanted <= set(everything) and "minify" not in everything
        for name in ("security_level", "0rtt", "browser_cache_ttl"):
            alone = lab.raw("GET", f"/zones/{lab.zone}/settings/{name}").json()["result"]
            assert alone == everything[name]
            assert alone["modified_on"] is None and alone["editable"] is True

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("security_level", "high"),
            ("websockets", "off"),
            ("always_online", "on"),
            ("early_hints", "on"),
            ("http3", "off"),
            ("0rtt", "on"),
            ("always_use_https", "on"),
            ("ssl", "strict"),
            ("min_tls_version", "1.2"),
            ("rocket_loader", "on"),
            ("browser_cache_ttl", 3600),
            ("cache_level", "basic"),
            ("websockets", "off"),
            ("automatic_https_rewrites", "off"),
            ("opportunistic_encryption", "off"),
            ("tls_1_3", "zrt"),
            ("ipv6", "off"),
            ("nel", {"enabled": False}),
            ("security_header", {"strict_transport_security": {"enabled": True, "max_age": 86400}}),
        ],
    )
    def test_a_value_is_kept_and_moves_modified_on_only_when_it_moves(self, lab: Lab, name: str, value: object) -> None:
        path = f"/zones/{lab.zone}/settings/{name}"
        before = lab.raw("GET", path).json()["result"]
        unchanged = lab.raw("PATCH", path, json={"value": before["value"]}).json()["result"]
        assert unchanged == before
        changed = lab.raw("PATCH", path, json={"value": value}).json()["result"]
        assert changed["value"] == value and changed["modified_on"] is not None
        lab.clock.now += 60
        assert lab.raw("PATCH", path, json={"value": value}).json()["result"] == changed

    def test_through_the_sdk(self, lab: Lab) -> None:
        edited = lab.api.zones.settings.edit("websockets", zone_id=lab.zone, value="off")
        assert edited is not None and edited.value == "off"
        assert lab.api.zones.settings.get("websockets", zone_id=lab.zone) == edited

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("security_level", "paranoid"),
            ("websockets", True),
            ("websockets", None),
            ("browser_cache_ttl", 31),
            ("browser_cache_ttl", "3600"),
            ("min_tls_version", "1.4"),
            ("ssl", "origin_pull"),
            ("nel", "on"),
        ],
    )
    def test_a_value_that_is_none_is_1007(self, lab: Lab, name: str, value: object) -> None:
        reply = lab.raw("PATCH", f"/zones/{lab.zone}/settings/{name}", json={"value": value})
        assert (reply.status_code, reply.json()["errors"][0]["code"]) == (400, 1007)

    def test_a_body_without_value_is_1007_as_the_provider_s_users_saw(self, lab: Lab) -> None:
        reply = lab.raw("PATCH", f"/zones/{lab.zone}/settings/websockets", json={})
        assert reply.json()["errors"][0]["message"] == "Invalid value for zone setting websockets"

    @pytest.mark.parametrize("name", ["minify", "brotli", "mirage", "server_side_exclude", "nonsense"])
    def test_an_unknown_setting_is_1006(self, lab: Lab, name: str) -> None:
        with refused(400, 1006, f"Unrecognized zone setting name: {name}"):
            lab.api.zones.settings.edit(name, zone_id=lab.zone, value="on")
        with refused(400, 1006):
            lab.api.zones.settings.get(name, zone_id=lab.zone)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("polish", "lossy"), ("webp", "on"), ("security_level", "off"), ("advanced_ddos", "off")],
    )
    def test_what_the_free_plan_lacks_is_1015(self, lab: Lab, name: str, value: str) -> None:
        with refused(403, 1015, f"Not allowed to edit setting for {name}"):
            lab.api.zones.settings.edit(name, zone_id=lab.zone, value=value)

    def test_a_paid_plan_may_polish(self, lab: Lab) -> None:
        paid = lab.cloud.add_zone("paid.example", plan="pro")
        edited = lab.api.zones.settings.edit("polish", zone_id=paid, value="lossy")
        assert edited is not None and edited.value == "lossy"

    def test_several_at_once_are_all_set_or_none(self, lab: Lab) -> None:
        path = f"/zones/{lab.zone}/settings"
        good, bad = {"id": "websockets", "value": "off"}, {"id": "ssl", "value": "none"}
        assert lab.raw("PATCH", path, json={"items": [good, bad]}).status_code == 400
        assert lab.raw("GET", f"{path}/websockets").json()["result"]["value"] == "on"
        assert lab.raw("PATCH", path, json={"items": [good]}).status_code == 200
        assert lab.raw("GET", f"{path}/websockets").json()["result"]["value"] == "off"

    def test_the_recommender_has_enabled_instead_of_value(self, lab: Lab) -> None:
        path = f"/zones/{lab.zone}/settings/ssl_recommender"
        assert lab.raw("PATCH", path, json={"enabled": False}).json()["result"]["enabled"] is False
        assert lab.raw("PATCH", path, json={"value": "on"}).status_code == 400


def test_the_edge_s_addresses_are_cloudflare_s_ranges_and_need_no_token(lab: Lab) -> None:
    reply = lab.raw("GET", "/ips", token=None)
    assert reply.json()["result"]["ipv4_cidrs"] == [f"{each}/32" for each in EDGES]
    listed = lab.api.ips.list()
    assert listed is not None and listed.ipv4_cidrs == [f"{each}/32" for each in EDGES]


def test_the_account_is_listed_and_read(lab: Lab) -> None:
    assert [each.id for each in lab.api.accounts.list()] == [lab.cloud.account_id]
    account = lab.api.accounts.get(account_id=lab.cloud.account_id)
    assert account is not None and account.name == "Rollcall"
    with refused(403, 9109):
        lab.api.accounts.get(account_id="0" * 32)


def test_every_answer_has_the_envelope_and_a_ray(lab: Lab) -> None:
    for path in ("/zones", "/nothing", f"/zones/{lab.zone}"):
        reply = lab.raw("GET", path)
        assert {"success", "errors", "messages", "result"} <= set(reply.json())
        assert reply.json()["success"] is (reply.status_code == 200)
        assert reply.headers["cf-ray"] and reply.headers["content-type"] == "application/json"


class TestSeveralAccounts:
    """A user may be a member of several; https://developers.cloudflare.com/dns/zone-setups/troubleshooting/cannot-add-domain/"""

    def test_each_has_its_zones_also_of_one_name(self, lab: Lab) -> None:
        other = lab.cloud.add_account("Other")
        twin = lab.raw("POST", "/zones", json={"name": ZONE, "account": {"id": other}}).json()["result"]
        assert (twin["account"], twin["status"]) == ({"id": other, "name": "Other"}, "pending")
        found = {each["id"]: each["account"]["id"] for each in lab.raw("GET", f"/zones?name={ZONE}").json()["result"]}
        assert found == {lab.zone: lab.cloud.account_id, twin["id"]: other}
        assert [each["id"] for each in lab.raw("GET", f"/zones?account.id={other}").json()["result"]] == [twin["id"]]
        assert {each["name"] for each in lab.raw("GET", "/accounts").json()["result"]} == {"Rollcall", "Other"}
        assert lab.raw("GET", f"/accounts/{other}").json()["result"]["name"] == "Other"
        refusal = lab.raw("POST", "/zones", json={"name": "x.example", "account": {"id": "0" * 32}})
        assert refusal.status_code == 403

    def test_a_token_of_one_sees_nothing_of_the_others(self, lab: Lab) -> None:
        twin = lab.cloud.add_zone(ZONE, account=lab.cloud.add_account("Other"), status="pending")
        home = lab.cloud.account_id
        groups = lab.raw("GET", f"/accounts/{home}/tokens/permission_groups").json()["result"]
        wanted = [{"id": each["id"]} for each in groups if each["name"] == "Zone Read"]
        policy = {
            "effect": "allow",
            "permission_groups": wanted,
            "resources": {"com.cloudflare.api.account.zone.*": "*"},
        }
        value = lab.raw("POST", f"/accounts/{home}/tokens", json={"name": "t", "policies": [policy]}).json()["result"][
            "value"
        ]
        assert [each["id"] for each in lab.raw("GET", "/zones", token=value).json()["result"]] == [lab.zone]
        assert lab.raw("GET", f"/zones/{twin}", token=value).status_code == 403

    def test_the_active_one_of_two_answers(self, lab: Lab) -> None:
        twin = lab.cloud.add_zone(ZONE, account=lab.cloud.add_account("Other"), status="pending")
        for zone, address in ((twin, "203.0.113.1"), (lab.zone, "203.0.113.2")):
            lab.raw(
                "POST", f"/zones/{zone}/dns_records", json={"type": "A", "name": "www", "content": address, "ttl": 60}
            )
        (found,) = lab.cloud.lookup(ZONE, f"www.{ZONE}") or ()
        assert found.values == ("203.0.113.2",) and lab.cloud.zones() == (ZONE,)


class TestZonesThatAreNotActive:
    """https://developers.cloudflare.com/dns/zone-setups/reference/domain-status/"""

    @pytest.mark.parametrize("status", ["initializing", "pending", "moved"])
    def test_the_world_asks_other_servers_though_the_api_takes_records(self, lab: Lab, status: str) -> None:
        lab.record()
        assert lab.cloud.lookup(ZONE, f"www.{ZONE}")
        lab.cloud.set_zone(lab.zone, status=status)
        lab.record(content="198.51.100.11")
        assert lab.cloud.zones() == () and lab.cloud.lookup(ZONE, f"www.{ZONE}") is None
        assert lab.raw("GET", f"/zones/{lab.zone}").json()["result"]["status"] == status
        lab.cloud.set_zone(lab.zone, status="active")
        (found,) = lab.cloud.lookup(ZONE, f"www.{ZONE}") or ()
        assert len(found.values) == 2

    def test_a_paused_zone_answers_with_the_origins_of_proxied_names(self, lab: Lab) -> None:
        lab.record(proxied=True)
        lab.cloud.set_zone(lab.zone, paused=True)
        (found,) = lab.cloud.lookup(ZONE, f"www.{ZONE}") or ()
        assert found.values == ("198.51.100.10",) and lab.cloud.edge_origins(f"www.{ZONE}") is None
        lab.cloud.set_zone(lab.zone, paused=False)
        assert {value for each in lab.cloud.lookup(ZONE, f"www.{ZONE}") or () for value in each.values} == set(EDGES)
