"""Authentication, tokens with their scopes, and the rate limit of the local Cloudflare."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from localcloud.cloudflare import RateLimit
from localcloud.network.faults import Faults
from tests.cloud.cloudflare_server import OPERATOR, Front, Lab, refused

pytestmark = pytest.mark.clouds

UNKNOWN = "x" * 40


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture
def lab(front: Front) -> Lab:
    return Lab(front)


def first(reply: Any) -> tuple[int, int]:
    return reply.status_code, reply.json()["errors"][0]["code"]


class TestAuthentication:
    def test_a_valid_token_verifies(self, lab: Lab) -> None:
        reply = lab.raw("GET", "/user/tokens/verify").json()
        assert reply["result"]["status"] == "active"
        assert reply["messages"] == [{"code": 10000, "message": "This API Token is valid and active", "type": None}]
        verified = lab.api.user.tokens.verify()
        assert verified is not None and len(verified.id) == 32

    def test_an_unknown_token_does_not(self, lab: Lab) -> None:
        with refused(401, 1000, "Invalid API Token"):
            lab.client(UNKNOWN).user.tokens.verify()
        with refused(403, 9109, "Invalid access token"):
            lab.client(UNKNOWN).zones.list()

    def test_no_header_at_all_is_9106(self, lab: Lab) -> None:
        assert first(lab.raw("GET", "/zones", token=None)) == (400, 9106)

    @pytest.mark.parametrize("header", ["Bearer short", "Bearer " + "x" * 81, "Bearer " + "!" * 40, "Basic " + UNKNOWN])
    def test_a_header_of_the_wrong_form_is_6003_with_6111(self, lab: Lab, header: str) -> None:
        reply = lab.raw("GET", "/zones", token=None, headers={"Authorization": header})
        assert first(reply) == (400, 6003)
        assert reply.json()["errors"][0]["error_chain"][0]["code"] == 6111

    def test_a_global_key_is_none_here(self, lab: Lab) -> None:
        headers = {"X-Auth-Email": "a@b.example", "X-Auth-Key": "k"}
        reply = lab.raw("GET", "/zones", token=None, headers=headers)
        assert reply.json()["errors"][0]["error_chain"][0]["code"] == 6103


class TestScopes:
    def test_dns_write_on_one_zone_writes_and_reads_there_and_nowhere_else(self, lab: Lab) -> None:
        other = lab.cloud.add_zone("other.example")
        machine = lab.token("DNS Write")
        made = machine.dns.records.create(zone_id=lab.zone, type="A", name="a", content="192.0.2.1", ttl=60)
        assert made is not None
        assert [each.id for each in machine.dns.records.list(zone_id=lab.zone)] == [made.id]
        machine.dns.records.delete(made.id, zone_id=lab.zone)
        for zone in (other, "0" * 32):
            with refused(403, 10000, "Authentication error"):
                machine.dns.records.list(zone_id=zone)
            with refused(403, 10000):
                machine.dns.records.create(zone_id=zone, type="A", name="a", content="192.0.2.1", ttl=60)

    @pytest.mark.parametrize(
        "act",
        [
            lambda api, zone: api.zones.get(zone_id=zone),
            lambda api, zone: api.zones.delete(zone_id=zone),
            lambda api, zone: api.zones.edit(zone_id=zone, paused=True),
            lambda api, zone: api.zones.settings.get("ssl", zone_id=zone),
            lambda api, zone: api.zones.settings.edit("ssl", zone_id=zone, value="off"),
            lambda api, zone: api.user.get(),
            lambda api, zone: api.user.tokens.list(),
            lambda api, zone: api.user.tokens.create(name="more", policies=[]),
            lambda api, zone: api.user.tokens.permission_groups.list(),
        ],
    )
    def test_dns_write_does_nothing_else(self, lab: Lab, act: Callable[[Any, str], Any]) -> None:
        with refused(403, 9109, "Unauthorized to access requested resource"):
            act(lab.token("DNS Write"), lab.zone)

    def test_dns_write_lists_no_zone_and_no_account(self, lab: Lab) -> None:
        machine = lab.token("DNS Write")
        assert list(machine.zones.list()) == [] and list(machine.accounts.list()) == []

    def test_dns_read_reads_only(self, lab: Lab) -> None:
        made = lab.record()
        reader = lab.token("DNS Read")
        assert reader.dns.records.get(made.id, zone_id=lab.zone) == made
        with refused(403, 10000):
            reader.dns.records.delete(made.id, zone_id=lab.zone)
        reply = lab.raw("POST", f"/zones/{lab.zone}/dns_records/batch", reader.api_token, json={"deletes": []})
        assert first(reply) == (403, 10000)

    def test_zone_read_lists_the_zones_of_its_resources(self, lab: Lab) -> None:
        lab.cloud.add_zone("other.example")
        assert [each.id for each in lab.token("Zone Read").zones.list()] == [lab.zone]
        everywhere = lab.token("Zone Read", resources={"com.cloudflare.api.account.zone.*": "*"})
        assert len(list(everywhere.zones.list())) == 2

    def test_zone_settings_write_sets(self, lab: Lab) -> None:
        assert lab.token("Zone Settings Write").zones.settings.edit("ssl", zone_id=lab.zone, value="strict")
        reader = lab.token("Zone Settings Read")
        assert reader.zones.settings.get("ssl", zone_id=lab.zone)
        with refused(403, 9109):
            reader.zones.settings.edit("ssl", zone_id=lab.zone, value="off")

    def test_nested_resources_mean_all_zones_of_an_account(self, lab: Lab) -> None:
        def nested(account: str) -> dict[str, Any]:
            return {f"com.cloudflare.api.account.{account}": {"com.cloudflare.api.account.zone.*": "*"}}

        assert (
            list(lab.token("DNS Read", resources=nested(lab.cloud.account_id)).dns.records.list(zone_id=lab.zone)) == []
        )
        with refused(403, 10000):
            lab.token("DNS Read", resources=nested("0" * 32)).dns.records.list(zone_id=lab.zone)

    def test_a_denial_beats_what_is_allowed(self, lab: Lab) -> None:
        group = next(iter(lab.api.user.tokens.permission_groups.list(name="DNS Write"))).id
        one, every = f"com.cloudflare.api.account.zone.{lab.zone}", "com.cloudflare.api.account.zone.*"
        policies: Any = [
            {"effect": "allow", "permission_groups": [{"id": group}], "resources": {every: "*"}},
            {"effect": "deny", "permission_groups": [{"id": group}], "resources": {one: "*"}},
        ]
        made = lab.api.user.tokens.create(name="all but one", policies=policies)
        other = lab.cloud.add_zone("other.example")
        assert made is not None and made.value is not None
        client = lab.client(made.value)
        assert list(client.dns.records.list(zone_id=other)) == []
        with refused(403, 10000):
            client.dns.records.list(zone_id=lab.zone)

    def test_a_token_that_makes_tokens(self, lab: Lab) -> None:
        maker = lab.token("API Tokens Write", resources={f"com.cloudflare.api.user.{lab.cloud.user_id}": "*"})
        assert len(list(maker.user.tokens.list())) == 2
        with refused(403, 9109):
            maker.user.get()


class TestConditions:
    @staticmethod
    def at(moment: float) -> str:
        return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def test_an_expired_token_is_refused_and_says_so_when_verified(self, lab: Lab) -> None:
        token = lab.token("DNS Write", expires_on=self.at(lab.clock.now + 60))
        assert list(token.dns.records.list(zone_id=lab.zone)) == []
        lab.clock.now += 61
        with refused(403, 9109):
            token.dns.records.list(zone_id=lab.zone)
        verified = token.user.tokens.verify()
        assert verified is not None and verified.status == "expired"

    def test_a_token_is_none_before_its_time(self, lab: Lab) -> None:
        token = lab.token("DNS Write", not_before=self.at(lab.clock.now + 60))
        with refused(403, 9109):
            token.dns.records.list(zone_id=lab.zone)
        lab.clock.now += 61
        assert list(token.dns.records.list(zone_id=lab.zone)) == []

    @pytest.mark.parametrize(
        ("limits", "works"),
        [
            ({"in": ["127.0.0.0/8"]}, True),
            ({"in": ["192.0.2.0/24"]}, False),
            ({"not_in": ["127.0.0.1/32"]}, False),
            ({"in": ["127.0.0.0/8"], "not_in": ["127.0.0.1/32"]}, False),
        ],
    )
    def test_the_address_of_the_client_must_be_allowed(self, lab: Lab, limits: dict[str, Any], works: bool) -> None:
        token = lab.token("DNS Write", condition={"request_ip": limits})
        if works:
            assert list(token.dns.records.list(zone_id=lab.zone)) == []
        else:
            with refused(403, 9109, "Cannot use the access token from location: 127.0.0.1"):
                token.dns.records.list(zone_id=lab.zone)


class TestLife:
    def test_the_value_is_shown_once_and_is_forty_characters(self, lab: Lab) -> None:
        value = lab.token("DNS Write").api_token or ""
        assert re.fullmatch(r"[0-9A-Za-z_-]{40}", value)
        listed = lab.raw("GET", "/user/tokens").text
        one = next(each for each in lab.api.user.tokens.list() if each.name == "scoped")
        assert value not in listed and one.id is not None
        assert value not in lab.raw("GET", f"/user/tokens/{one.id}").text
        assert value not in repr(vars(lab.cloud._store.tokens)) and OPERATOR not in repr(
            lab.cloud._store.tokens.__dict__
        )

    def test_what_is_read_back_is_what_was_asked(self, lab: Lab) -> None:
        lab.token("DNS Write")
        one = next(each for each in lab.api.user.tokens.list() if each.name == "scoped")
        assert one.id is not None and one.policies is not None
        policy = one.policies[0]
        assert (policy.effect, policy.permission_groups[0].name) == ("allow", "DNS Write")
        assert policy.resources == {f"com.cloudflare.api.account.zone.{lab.zone}": "*"}
        assert lab.api.user.tokens.get(one.id) == one

    def test_a_rolled_token_has_a_new_value_and_the_old_one_is_dead(self, lab: Lab) -> None:
        token = lab.token("DNS Write")
        one = next(each for each in lab.api.user.tokens.list() if each.name == "scoped")
        assert one.id is not None
        value = lab.api.user.tokens.value.update(one.id)
        assert value is not None and value != token.api_token
        assert list(lab.client(value).dns.records.list(zone_id=lab.zone)) == []
        with refused(403, 9109):
            token.dns.records.list(zone_id=lab.zone)

    def test_a_disabled_token_stops_and_a_deleted_one_is_unknown(self, lab: Lab) -> None:
        token = lab.token("DNS Write")
        one = next(each for each in lab.api.user.tokens.list() if each.name == "scoped")
        assert one.id is not None
        body = lab.raw("GET", f"/user/tokens/{one.id}").json()["result"]
        assert lab.raw("PUT", f"/user/tokens/{one.id}", json=body | {"status": "disabled"}).status_code == 200
        with refused(403, 9109):
            token.dns.records.list(zone_id=lab.zone)
        lab.api.user.tokens.delete(one.id)
        with refused(401, 1000):
            token.user.tokens.verify()
        with refused(404, 1003):
            lab.api.user.tokens.get(one.id)

    @pytest.mark.parametrize(
        "change",
        [
            {"name": ""},
            {"policies": []},
            {"policies": [{"id": "0" * 32}]},
            {"effect": "maybe"},
            {"permission_groups": []},
            {"permission_groups": [{"id": "0" * 32}]},
            {"permission_groups": [{"id": "686d18d5ac6c441c867cbf6771e58a0a"}]},
            {"resources": {}},
            {"resources": {"com.cloudflare.api.account.zone.x": "*"}},
            {"resources": {"com.cloudflare.api.account.zone.*": "read"}},
            {"expires_on": "tomorrow"},
            {"condition": {"request_ip": {"in": ["nowhere"]}}},
            {"not_before": "2030-01-02T00:00:00Z", "expires_on": "2030-01-01T00:00:00Z"},
        ],
        ids=str,
    )
    def test_what_makes_no_token_is_1001(self, lab: Lab, change: dict[str, Any]) -> None:
        policy = {
            "effect": "allow",
            "permission_groups": [{"id": "4755a26eedb94da69e1066d98aa820be"}],
            "resources": {"com.cloudflare.api.account.zone.*": "*"},
        }
        body: dict[str, Any] = {"name": "x", "policies": [policy]}
        assert first_status(lab, body) == 200
        for key, value in change.items():
            (policy if key in policy else body)[key] = value
        reply = lab.raw("POST", "/user/tokens", json=body)
        assert first(reply) == (400, 1001)
        assert len(list(lab.api.user.tokens.list())) == 2

    def test_permission_groups_are_found_by_name_and_scope(self, lab: Lab) -> None:
        groups = lab.api.user.tokens.permission_groups
        found = list(groups.list(name="DNS Write", scope="com.cloudflare.api.account.zone"))
        assert [(each.id, each.scopes) for each in found] == [
            ("4755a26eedb94da69e1066d98aa820be", ["com.cloudflare.api.account.zone"])
        ]
        assert list(groups.list(name="DNS Write", scope="com.cloudflare.api.user")) == []
        assert list(groups.list(name="No Such")) == []
        assert len(list(groups.list())) > 10


def first_status(lab: Lab, body: dict[str, Any]) -> int:
    return lab.raw("POST", "/user/tokens", json=body).status_code


class TestTokensOfTheAccount:
    def make(self, lab: Lab, api: Any, resource: str) -> Any:
        policy = {
            "effect": "allow",
            "permission_groups": [{"id": "4755a26eedb94da69e1066d98aa820be"}],
            "resources": {resource: "*"},
        }
        return api.accounts.tokens.create(account_id=lab.cloud.account_id, name="ours", policies=[policy])

    def test_it_works_and_verifies_at_its_own_address_only(self, lab: Lab) -> None:
        made = self.make(lab, lab.api, f"com.cloudflare.api.account.zone.{lab.zone}")
        client = lab.client(made.value)
        assert list(client.dns.records.list(zone_id=lab.zone)) == []
        assert client.accounts.tokens.verify(account_id=lab.cloud.account_id).status == "active"
        with refused(401, 1000):
            client.user.tokens.verify()
        assert [each.id for each in lab.api.accounts.tokens.list(account_id=lab.cloud.account_id)] == [made.id]

    def test_its_maker_must_hold_what_it_gives_on_a_single_zone(self, lab: Lab) -> None:
        maker = lab.token(
            "Account API Tokens Write", resources={f"com.cloudflare.api.account.{lab.cloud.account_id}": "*"}
        )
        with refused(400, 1001, "Failed common permission check"):
            self.make(lab, maker, f"com.cloudflare.api.account.zone.{lab.zone}")
        assert list(lab.api.accounts.tokens.list(account_id=lab.cloud.account_id)) == []
        assert self.make(lab, maker, "com.cloudflare.api.account.zone.*").value


class TestRateLimit:
    @pytest.fixture
    def lab(self, front: Front) -> Lab:
        return Lab(front, rate_limit=RateLimit(requests=5, seconds=300))

    def test_a_user_over_the_limit_is_blocked_for_the_next_five_minutes(self, lab: Lab) -> None:
        left = [lab.raw("GET", "/zones").headers["ratelimit"] for _ in range(5)]
        assert left[0] == '"default";r=4;t=300' and left[4] == '"default";r=0;t=300'
        lab.clock.now += 100
        blocked = lab.raw("GET", "/zones")
        assert first(blocked) == (429, 10100)
        assert blocked.headers["retry-after"] == "300"
        lab.clock.now += 299
        again = lab.raw("GET", "/zones")
        assert again.status_code == 429 and again.headers["retry-after"] == "1"
        lab.clock.now += 1
        assert lab.raw("GET", "/zones").status_code == 200

    def test_a_window_that_ends_starts_again(self, lab: Lab) -> None:
        for _ in range(4):
            for _ in range(4):
                assert lab.raw("GET", "/zones").status_code == 200
            lab.clock.now += 300

    def test_all_tokens_of_the_user_count_together(self, lab: Lab) -> None:
        token = lab.token("DNS Write").api_token  # two requests of the operator's
        for _ in range(3):
            assert lab.raw("GET", f"/zones/{lab.zone}/dns_records", token).status_code == 200
        assert lab.raw("GET", "/user/tokens/verify").status_code == 429

    def test_the_throttle_fault_answers_as_the_limit_does(self, front: Front, lab: Lab) -> None:
        faults = Faults()
        faults.add("cloudflare throttle times=1")
        app = lab.cloud.app
        throttled = faults.middleware("cloudflare", app, app.throttled)
        front.cloud = type("Behind", (), {"app": staticmethod(throttled)})()
        reply = lab.raw("GET", "/zones")
        assert first(reply) == (429, 10100) and int(reply.headers["retry-after"]) > 0
        assert lab.raw("GET", "/zones").status_code == 200
