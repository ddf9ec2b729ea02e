"""The local Cloudflare's rules as pure functions: whatever is sent is taken or refused, and never anything else."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
from typing import Any

import dns.rdata
import dns.rdataclass
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localcloud.cloudflare import Cloudflare, contents, permissions
from localcloud.cloudflare.errors import ApiError
from localcloud.cloudflare.limits import Limiter, RateLimit
from localcloud.cloudflare.model import PLANS, Plan
from localcloud.cloudflare.rules import drafted
from localcloud.cloudflare.settings import SETTINGS, ZoneSettings
from localcloud.cloudflare.tokens import Tokens
from localcloud.cloudflare.zonedata import Change, ZoneData

ZONE = "scalability.expert"
FREE: Plan = PLANS["free"]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
data = st.dictionaries(
    st.sampled_from(
        [
            "priority",
            "weight",
            "port",
            "target",
            "flags",
            "tag",
            "value",
            "usage",
            "selector",
            "matching_type",
            "certificate",
            "algorithm",
        ]
    ),
    anything | st.integers(0, 10) | st.sampled_from(["h.example.com", "issue", "."]),
)
bodies = st.fixed_dictionaries(
    {"type": st.sampled_from(contents.TYPES) | anything, "name": st.sampled_from(["www", "@", "_a._tcp"]) | anything},
    optional={
        "content": anything | st.sampled_from(["198.51.100.1", "2001:db8::1", "h.example.com", "."]),
        "priority": anything | st.integers(0, 70000),
        "ttl": anything | st.integers(0, 90000),
        "proxied": anything,
        "comment": anything | st.text(min_size=90, max_size=110),
        "tags": anything,
        "settings": anything | st.dictionaries(st.sampled_from(["ipv4_only", "ipv6_only"]), anything),
        "data": anything | data,
    },
)


def _addresses(network: str) -> st.SearchStrategy[ipaddress.IPv4Address]:
    return st.ip_addresses(v=4, network=network)  # type: ignore[return-value]


class TestDrafts:
    @settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
    @given(bodies)
    def test_any_body_is_a_record_that_dns_can_carry_or_a_refusal(self, body: dict[str, Any]) -> None:
        try:
            fields = drafted(body, ZONE, FREE, ())
        except ApiError as refusal:
            assert refusal.status in (400, 403, 404) and refusal.code
            return
        assert fields.name == ZONE or fields.name.endswith(f".{ZONE}")
        assert fields.ttl == 1 or 60 <= fields.ttl <= 86400
        assert fields.ttl == 1 or not fields.proxied
        assert not fields.proxied or fields.type in ("A", "AAAA", "CNAME")
        assert fields.comment is None or 0 < len(fields.comment) <= 100
        dns.rdata.from_text(dns.rdataclass.IN, fields.type, contents.presented(fields))

    @settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
    @given(bodies)
    def test_what_was_taken_is_taken_again_unchanged(self, body: dict[str, Any]) -> None:
        """What the API shows of a record may be sent back to it and changes nothing."""
        change = Change(ZoneData.empty(ZONE), FREE, (), 1.0)
        with contextlib.suppress(ApiError):
            made = change.create(body)
            assert change.overwrite(made.id, made.body()) == made
            assert change.edit(made.id, {}) == made

    @given(st.sampled_from(["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "8.8.0.0/16"]).flatmap(_addresses))
    def test_documentation_addresses_are_proxied_as_public_ones_are(self, address: ipaddress.IPv4Address) -> None:
        body = {"type": "A", "name": "www", "content": str(address), "proxied": True}
        assert drafted(body, ZONE, FREE, ()).proxied

    def test_where_a_location_must_be_a_number_it_is(self) -> None:
        data = {f"{axis}_{part}": 1 for axis in ("lat", "long") for part in ("degrees", "minutes", "seconds")}
        data |= {"lat_direction": "N", "long_direction": "E"}  # type: ignore[dict-item]
        body = {"type": "LOC", "name": "here", "data": data}
        assert drafted(body, ZONE, FREE, ()).content == "1 1 1 N 1 1 1 E 0.00m 1.00m 10000.00m 10.00m"
        wrongs: tuple[object, ...] = ([], "high", True)
        for wrong in wrongs:
            with pytest.raises(ApiError):
                drafted({**body, "data": {**data, "altitude": wrong}}, ZONE, FREE, ())

    @pytest.mark.parametrize("address", ["10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254"])
    def test_each_private_network_is_refused_for_the_proxy_and_allowed_without(self, address: str) -> None:
        body = {"type": "A", "name": "www", "content": address}
        assert drafted(body, ZONE, FREE, ()).content == address
        with pytest.raises(ApiError) as refusal:
            drafted({**body, "proxied": True}, ZONE, FREE, ())
        assert refusal.value.code == 9003

    def test_an_enterprise_zone_has_shorter_ttls(self) -> None:
        body = {"type": "A", "name": "www", "content": "192.0.2.1", "ttl": 30}
        assert drafted(body, ZONE, PLANS["enterprise"], ()).ttl == 30
        with pytest.raises(ApiError):
            drafted(body, ZONE, PLANS["pro"], ())


class TestZoneData:
    @settings(max_examples=100)
    @given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.integers(0, 3)), max_size=30))
    def test_the_index_by_name_always_holds_exactly_the_records(self, steps: list[tuple[str, str, int]]) -> None:
        change = Change(ZoneData.empty(ZONE), FREE, (), 1.0)
        for name, other, number in steps:
            here = [each for each in change.done().records.values() if each.fields.name == f"{name}.{ZONE}"]
            with contextlib.suppress(ApiError):
                if number == 0 and here:
                    change.delete(here[0].id)
                elif number == 1 and here:
                    change.edit(here[0].id, {"name": other})
                else:
                    change.create({"type": "A", "name": name, "content": f"192.0.2.{number}"})
        done = change.done()
        indexed = {each.id: each for found in done.by_name.values() for each in found}
        assert indexed == done.records and all(done.by_name.values())
        assert all(each.fields.name == name for name, found in done.by_name.items() for each in found)

    def test_an_earlier_moment_does_not_change_with_a_later_one(self) -> None:
        first = Change(ZoneData.empty(ZONE), FREE, (), 1.0)
        made = first.create({"type": "A", "name": "www", "content": "192.0.2.1"})
        before = first.done()
        second = Change(before, FREE, (), 2.0)
        second.edit(made.id, {"name": "other"})
        assert list(before.by_name) == [f"www.{ZONE}"] and before.records[made.id] == made
        assert list(second.done().by_name) == [f"other.{ZONE}"]


class TestSettings:
    @settings(max_examples=300)
    @given(st.sampled_from(sorted(SETTINGS)), st.sampled_from(["value", "enabled"]), anything)
    def test_any_value_is_kept_or_refused(self, name: str, field: str, value: object) -> None:
        zone = ZoneSettings(FREE)
        before = zone.body(name)
        try:
            after = zone.edit(name, {field: value}, 5.0)
        except ApiError as refusal:
            assert refusal.code in (1007, 1015) and zone.body(name) == before
        else:
            assert after[field] == value and (after["modified_on"] is None) == (before[field] == value)

    @pytest.mark.parametrize("name", sorted(SETTINGS))
    def test_the_value_of_a_new_zone_is_one_that_the_setting_accepts(self, name: str) -> None:
        assert SETTINGS[name].accepts(SETTINGS[name].start)


class TestTokens:
    @settings(max_examples=200)
    @given(anything, anything, anything, anything)
    def test_any_body_makes_a_token_or_a_refusal(
        self, policies: object, condition: object, moment: object, name: object
    ) -> None:
        tokens = Tokens("o" * 40, 1.0)
        body = {"name": name, "policies": policies, "condition": condition, "expires_on": moment}
        with pytest.raises(ApiError):  # no policy here is well-formed
            tokens.create("user", body, 1.0)
        assert len(tokens.list("user")) == 1

    @settings(max_examples=200)
    @given(anything, anything, anything)
    def test_any_policy_is_understood_or_refused(self, groups: object, resources: object, effect: object) -> None:
        given_policy = {"effect": effect, "permission_groups": groups, "resources": resources}
        for whole in (given_policy, {**given_policy, "effect": "allow"}):
            with pytest.raises(ApiError):
                permissions.parsed([whole], owned_by_account=False)

    def test_a_token_with_conditions_is_of_no_use_where_the_address_is_unknown(self) -> None:
        tokens = Tokens("o" * 40, 1.0)
        operator = tokens.list("user")[0]
        operator.check_use("", 1.0)
        limited = dataclasses.replace(operator, condition={"request_ip": {"not_in": ["192.0.2.0/24"]}})
        limited.check_use("198.51.100.1", 1.0)
        with pytest.raises(ApiError):
            limited.check_use("", 1.0)

    def test_an_operator_token_of_the_wrong_form_is_refused_at_once(self) -> None:
        with pytest.raises(ValueError, match="40 to 80"):
            Cloudflare(operator_token="short", edge_addresses=())

    def test_the_quota_of_tokens_holds(self) -> None:
        tokens = Tokens("o" * 40, 1.0)
        policy = {
            "effect": "allow",
            "permission_groups": [{"id": "4755a26eedb94da69e1066d98aa820be"}],
            "resources": {"com.cloudflare.api.account.zone.*": "*"},
        }
        for _ in range(49):
            tokens.create("user", {"name": "x", "policies": [policy]}, 1.0)
        with pytest.raises(ApiError, match="50"):
            tokens.create("user", {"name": "x", "policies": [policy]}, 1.0)


def test_the_limit_counts_each_user_alone() -> None:
    now = [0.0]
    limiter = Limiter(RateLimit(requests=2, seconds=10), lambda: now[0])
    for who in ("a", "a", "b", "b"):
        limiter.count(who)
    for who in ("a", "b"):
        with pytest.raises(ApiError) as refusal:
            limiter.count(who)
        assert refusal.value.headers["Retry-After"] == "10"
    limiter.count("c")
