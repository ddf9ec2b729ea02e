"""rollcall.registry: a machine's record in the local Cloudflare, beside records of others that must keep every byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from rollcall.errors import FatalError, RefusedError
from rollcall.ownership import Owner
from rollcall.registry import CloudflareRegistry
from rollcall.settings import CloudflareJoin
from tests.cloud.cloudflare_server import OPERATOR, ZONE, Front, Lab
from tests.unit.agent.fakes import ADDRESS, OTHER_ADDRESS, OWNER

pytestmark = pytest.mark.clouds
HOST = f"www.{ZONE}"
BROTHER = replace(OWNER, machine="1", generation="bbbbbb", instance="i-bbbbbbbb")
SUCCESSOR = replace(OWNER, generation="cccccc", instance="i-cccccccc")


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture
def lab(front: Front, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", front.url)
    return Lab(front)


class Tokens:
    """The secret, which an operator may change."""

    def __init__(self, token: str = OPERATOR) -> None:
        self.token = token

    def __call__(self) -> str:
        return self.token


def registry(lab: Lab, token: Tokens | None = None, **given: Any) -> CloudflareRegistry:
    join = CloudflareJoin(**{"zone": lab.zone, "host": HOST, "token": "unused", **given})
    return CloudflareRegistry(join, token or Tokens())


def registered(lab: Lab) -> list[tuple[str, str, Owner | None]]:
    """Type, content and owner of what is at the host."""
    found = lab.api.dns.records.list(zone_id=lab.zone, name={"exact": HOST})
    return sorted((str(each.type), str(each.content), Owner.parse(each.comment or "")) for each in found)


def whole(lab: Lab) -> list[dict[str, Any]]:
    """All records of the zone, with every field."""
    found: list[dict[str, Any]] = lab.raw("GET", f"/zones/{lab.zone}/dns_records").json()["result"]
    return found


class TestJoin:
    def test_a_record_is_there_with_its_owner_and_settings_and_joining_again_changes_nothing(self, lab: Lab) -> None:
        mine = registry(lab, ttl=60)
        assert mine.join(OWNER, ADDRESS) is True
        (record,) = before = whole(lab)
        assert (record["name"], record["type"], record["content"]) == (HOST, "A", ADDRESS)
        assert (record["ttl"], record["proxied"], record["comment"]) == (60, False, str(OWNER))
        assert mine.join(OWNER, ADDRESS) is False
        assert whole(lab) == before

    def test_proxied_it_joins_once_too(self, lab: Lab) -> None:
        mine = registry(lab, proxied=True)
        assert mine.join(OWNER, ADDRESS) is True
        assert mine.join(OWNER, ADDRESS) is False

    def test_an_ipv6_address_is_an_aaaa_record(self, lab: Lab) -> None:
        registry(lab).join(OWNER, "2001:db8::1")
        assert registered(lab) == [("AAAA", "2001:db8::1", OWNER)]

    def test_a_new_address_and_a_new_ttl_change_the_same_record(self, lab: Lab) -> None:
        registry(lab).join(OWNER, ADDRESS)
        (before,) = whole(lab)
        assert registry(lab, ttl=300).join(OWNER, OTHER_ADDRESS) is True
        (after,) = whole(lab)
        assert (after["id"], after["content"], after["ttl"]) == (before["id"], OTHER_ADDRESS, 300)

    def test_an_address_of_the_other_family_takes_the_old_one_s_place(self, lab: Lab) -> None:
        registry(lab).join(OWNER, ADDRESS)
        assert registry(lab).join(OWNER, "2001:db8::1") is True
        assert registered(lab) == [("AAAA", "2001:db8::1", OWNER)]
        assert registry(lab).join(OWNER, ADDRESS) is True
        assert registered(lab) == [("A", ADDRESS, OWNER)]

    def test_both_families_are_with_their_owner_and_one_that_changes_is_changed_alone(self, lab: Lab) -> None:
        mine = registry(lab, ipv6=True)
        assert mine.join(OWNER, ADDRESS, "2001:db8::1") is True
        assert registered(lab) == [("A", ADDRESS, OWNER), ("AAAA", "2001:db8::1", OWNER)]
        before = whole(lab)
        assert mine.join(OWNER, ADDRESS, "2001:db8::1") is False and whole(lab) == before
        assert mine.join(OWNER, ADDRESS, "2001:db8::2") is True
        (kept,) = [each for each in whole(lab) if each["type"] == "A"]
        assert kept in before
        assert registered(lab)[1] == ("AAAA", "2001:db8::2", OWNER)
        assert mine.join(OWNER, ADDRESS) is True and registered(lab) == [("A", ADDRESS, OWNER)]
        mine.join(OWNER, ADDRESS, "2001:db8::1")
        assert mine.leave(OWNER) is True and registered(lab) == []

    def test_of_a_proxied_set_all_addresses_are_members(self, lab: Lab) -> None:
        mine = registry(lab, ipv6=True, proxied=True)
        mine.join(OWNER, ADDRESS, "2001:db8::1")
        mine.join(OWNER, ADDRESS, "2001:db8::1")
        assert set(mine.members) == {ADDRESS, "2001:db8::1"}
        assert mine.owner_at(ADDRESS) == mine.owner_at("2001:db8::1") == OWNER

    def test_brothers_are_side_by_side_and_are_counted(self, lab: Lab) -> None:
        mine = registry(lab)
        mine.join(OWNER, ADDRESS)
        registry(lab).join(BROTHER, OTHER_ADDRESS)
        mine.join(OWNER, ADDRESS)
        assert len(registered(lab)) == 2 and mine.size == 2

    def test_the_record_of_a_dead_machine_at_our_address_is_taken_over(self, lab: Lab) -> None:
        registry(lab).join(BROTHER, ADDRESS)
        registry(lab).join(OWNER, OTHER_ADDRESS)
        assert registry(lab).join(OWNER, ADDRESS) is True
        assert registered(lab) == [("A", ADDRESS, OWNER)]


class TestRefused:
    @pytest.mark.parametrize("comment", ["", "the old load balancer", str(replace(OWNER, stack="prod")), f"{OWNER} "])
    def test_foreign_content_is_refused_and_keeps_every_byte(self, lab: Lab, comment: str) -> None:
        lab.record(content=ADDRESS, comment=comment)
        before = whole(lab)
        with pytest.raises(RefusedError, match=f"foreign-record name={HOST} content={ADDRESS}"):
            registry(lab).join(OWNER, ADDRESS)
        assert whole(lab) == before

    def test_a_cname_is_refused_and_named(self, lab: Lab) -> None:
        lab.record(type="CNAME", content="lb.example.com")
        before = whole(lab)
        with pytest.raises(RefusedError, match=r"cname-in-the-way .* target=lb\.example\.com"):
            registry(lab).join(OWNER, ADDRESS)
        assert whole(lab) == before

    def test_what_is_foreign_beside_us_stays_through_join_change_and_leave(self, lab: Lab) -> None:
        lab.record(content="192.0.2.1", comment="the old load balancer", ttl=3600)
        lab.record(type="TXT", content='"v=spf1 -all"')
        lab.record(name="blog", content=ADDRESS)
        before = whole(lab)
        mine = registry(lab)
        mine.join(OWNER, ADDRESS)
        mine.join(OWNER, OTHER_ADDRESS)
        assert [each for each in whole(lab) if each in before] == before
        assert mine.leave(OWNER) is True
        assert whole(lab) == before


class TestLeave:
    def test_leaving_twice_is_done_once(self, lab: Lab) -> None:
        mine = registry(lab)
        mine.join(OWNER, ADDRESS)
        assert mine.leave(OWNER) is True
        assert registered(lab) == [] and mine.leave(OWNER) is False

    def test_a_late_leave_does_not_undo_a_successor(self, lab: Lab) -> None:
        registry(lab).join(OWNER, ADDRESS)
        registry(lab).join(SUCCESSOR, ADDRESS)
        assert registry(lab).leave(OWNER) is False
        assert registered(lab) == [("A", ADDRESS, SUCCESSOR)]

    def test_all_that_it_wrote_goes_whatever_the_address(self, lab: Lab) -> None:
        for content in (ADDRESS, OTHER_ADDRESS):
            lab.record(content=content, comment=str(OWNER))
        registry(lab).join(BROTHER, "198.51.100.12")
        assert registry(lab).leave(OWNER) is True
        assert registered(lab) == [("A", "198.51.100.12", BROTHER)]


class TestToken:
    def test_a_token_that_was_rotated_is_used_at_the_next_call(self, lab: Lab) -> None:
        tokens = Tokens("x" * 40)
        mine = registry(lab, tokens)
        with pytest.raises(FatalError):
            mine.join(OWNER, ADDRESS)
        tokens.token = OPERATOR
        assert mine.join(OWNER, ADDRESS) is True

    def test_the_right_to_edit_the_zone_s_dns_is_all_it_needs(self, lab: Lab) -> None:
        mine = registry(lab, Tokens(str(lab.token("DNS Write").api_token)))
        assert mine.join(OWNER, ADDRESS) is True
        assert mine.join(OWNER, OTHER_ADDRESS) is True
        assert mine.leave(OWNER) is True


class TestChallenge:
    def test_it_is_put_up_once_and_taken_away_and_a_users_text_at_its_name_keeps_every_byte(self, lab: Lab) -> None:
        mine = registry(lab)
        lab.record(name=f"{OWNER.generation}.c.rc.{HOST}", type="TXT", content='"of a user"')
        before = whole(lab)
        assert mine.challenge(OWNER, False) is False
        assert [mine.challenge(OWNER, True), mine.challenge(OWNER, True)] == [False, True]
        assert len(whole(lab)) == 2
        assert mine.challenge(OWNER, False) is True
        assert whole(lab) == before
