"""rollcall.agent: when a machine joins and leaves, on a clock of the test's own."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollcall import retrying
from rollcall.agent import CACHE_CLOCK_S, EACH_MEMBER, LONGEST, REREAD, TICK, WATCH
from rollcall.errors import FatalError, TransientError
from tests.unit.agent.fakes import (
    ADDRESS,
    HOST,
    IPV6,
    OTHER_ADDRESS,
    OTHER_IPV6,
    PRIVATE_ADDRESS,
    TOKEN,
    TOKEN_NAME,
    Guest,
    memory_folder,
)

MOST = 1.2  # how far jitter stretches an interval
LEAST = 0.8
DOWN = TransientError("reason=api-failing api=fake status=503")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """The agents write their status at every tick."""
    with memory_folder() as folder:
        yield folder


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


@pytest.fixture
def joined(guest: Guest) -> Guest:
    guest.pass_time(TICK)
    assert guest.registered == {HOST: ADDRESS} and guest.status()["step"] == "registered"
    guest.dns.calls.clear()
    return guest


class TestCaches:
    """For how long callers may still be led to a machine that has left."""

    def test_it_is_the_longest_ttl_of_what_the_machine_stood_in(self, guest: Guest) -> None:
        guest.tell(joins=(guest.join_of(ttl=60), guest.join_of(host="b.a.example", ttl=90)))
        assert guest.agent.cached_for() == 0.0
        guest.pass_time(TICK)
        assert guest.agent.cached_for() == 90.0 + CACHE_CLOCK_S
        guest.agent.leave()
        assert guest.agent.cached_for() == 90.0 + CACHE_CLOCK_S
        guest.agent.leave()
        assert guest.agent.cached_for() == 0.0, "it had left before"

    def test_it_begins_when_no_name_server_answers_with_the_address(self, guest: Guest) -> None:
        guest.tell(joins=(guest.join_of(ttl=60),))
        guest.pass_time(TICK)
        answered = dict(guest.registered)
        guest.agent.leave()
        guest.agent._look_up = lambda name: frozenset({answered[name]})
        for _ in range(2):
            assert guest.agent.cached_for() == 60.0 + CACHE_CLOCK_S
            guest.clock.now += 5
        guest.agent._look_up = lambda _: frozenset()
        assert guest.agent.cached_for() == 60.0 + CACHE_CLOCK_S
        guest.clock.now += 5
        assert guest.agent.cached_for() == 55.0 + CACHE_CLOCK_S
        guest.clock.now += 90
        assert guest.agent.cached_for() == 0.0

    @pytest.mark.parametrize(
        ("ttl", "proxied", "seconds"), [(1, False, 300.0 + CACHE_CLOCK_S), (1, True, 0.0), (60, True, 0.0)]
    )
    def test_an_automatic_ttl_is_cloudflares_and_behind_the_edge_nothing_is_cached(
        self, guest: Guest, ttl: int, proxied: bool, seconds: float
    ) -> None:
        guest.tell(joins=(guest.join_of(ttl=ttl, proxied=proxied),))
        guest.pass_time(TICK)
        assert guest.agent.cached_for() == seconds


class TestHealth:
    def test_it_joins_at_the_first_healthy_check(self, guest: Guest) -> None:
        guest.healthy(False)
        guest.pass_time(20)
        assert guest.registered == {} and guest.dns.count("join") == 0
        guest.healthy(True)
        guest.pass_time(TICK)
        assert guest.registered == {HOST: ADDRESS}

    def test_it_leaves_at_the_fifth_bad_check_and_joins_again(self, joined: Guest) -> None:
        """What is over within 8 s is no reason."""
        joined.healthy(False)
        joined.pass_time(4 * TICK)
        assert joined.registered == {HOST: ADDRESS}
        joined.pass_time(TICK)
        assert joined.registered == {} and joined.status()["step"] == "workload unhealthy"
        assert joined.status()["error"].startswith("command:/") and "status=1 said=''" in joined.status()["error"]
        assert any(each.startswith("workload unhealthy: command:/") for each in joined.cloud.statuses)
        joined.healthy(True)
        joined.pass_time(TICK)
        assert joined.registered == {HOST: ADDRESS} and joined.status()["step"] == "registered"

    def test_the_number_of_checks_can_be_configured(self, tmp_path: Path) -> None:
        guest = Guest(tmp_path, rise=3, fall=1)
        guest.pass_time(2 * TICK)
        assert guest.registered == {}
        guest.pass_time(TICK)
        assert guest.registered == {HOST: ADDRESS}
        guest.healthy(False)
        guest.pass_time(TICK)
        assert guest.registered == {}

    def test_a_leave_that_fails_is_tried_until_it_is_done(self, joined: Guest) -> None:
        joined.dns.faults = [DOWN] * 3
        joined.healthy(False)
        joined.pass_time(60)
        assert joined.registered == {} and joined.dns.count("leave") == 4

    def test_unhealthy_from_its_start_it_takes_away_what_an_earlier_process_wrote(self, joined: Guest) -> None:
        joined.healthy(False)
        successor = joined.restarted()
        successor.pass_time(4 * TICK)
        assert successor.registered == {HOST: ADDRESS}
        successor.pass_time(2 * TICK)
        assert successor.registered == {}
        successor.pass_time(60)
        assert successor.dns.count("leave") == 1


class TestRegistered:
    def test_what_vanished_from_dns_is_written_again_at_the_next_check(self, joined: Guest) -> None:
        joined.dns.registered.clear()
        joined.pass_time(WATCH * MOST + TICK)
        assert joined.registered == {HOST: ADDRESS}

    def test_a_name_that_answers_is_asked_about_no_more_than_that(self, joined: Guest) -> None:
        joined.dns.size = 1
        joined.restarted().pass_time(WATCH * 12)
        assert 10 <= joined.dns.queries <= 13
        assert 12 / MOST - 2 <= joined.dns.count("join") <= 12 / LEAST and joined.dns.count("leave") == 0

    def test_nothing_more_follows_from_a_resolver_that_does_not_answer(self, joined: Guest) -> None:
        joined.dns.size = 1
        joined.restarted()
        joined.dns.answers(None)
        joined.pass_time(WATCH * 4)
        assert joined.dns.count("join") <= 5 and joined.dns.queries >= 3

    def test_a_resolver_that_keeps_an_older_answer_does_not_make_the_api_busier(self, joined: Guest) -> None:
        joined.dns.size = 300
        joined.restarted().pass_time(TICK)
        joined.dns.answers(frozenset({OTHER_ADDRESS}))
        joined.dns.calls.clear()
        joined.pass_time(115)
        assert joined.dns.count("join") <= 4

    @pytest.mark.parametrize("proxied", [False, True])
    def test_what_vanished_behind_a_resolver_s_back_is_found_within_seconds(
        self, tmp_path: Path, proxied: bool
    ) -> None:
        """A mark, a TTL, and the addresses of a proxied name: only the API knows them."""
        guest = Guest(tmp_path, proxied=proxied)
        guest.dns.size = 1
        guest.restarted().pass_time(TICK)
        guest.dns.answers(frozenset({ADDRESS}))
        guest.dns.registered.clear()
        guest.pass_time(WATCH * MOST + TICK)
        assert guest.registered == {HOST: ADDRESS}

    @pytest.mark.parametrize(("proxied", "sites", "size"), [(False, 1, 300), (True, 1, 300), (False, 10, 30)])
    def test_the_members_of_large_sets_ask_twice_a_second_together(
        self, tmp_path: Path, proxied: bool, sites: int, size: int
    ) -> None:
        """Cloudflare's limit is one for all sites of a stack: ten with 30 machines each are as one with 300."""
        guest = Guest(tmp_path, proxied=proxied, sites=sites)
        guest.dns.size = size
        guest.pass_time(TICK)
        every = 300 * EACH_MEMBER
        guest.pass_time(every * LEAST - TICK)
        assert guest.dns.count("join") == 1
        guest.pass_time(every * (MOST - LEAST) + 2 * TICK)
        assert guest.dns.count("join") == 2

    def test_another_number_of_sites_in_the_stack_changes_no_record(self, joined: Guest) -> None:
        joined.tell(joins=(joined.join_of(sites=3),))
        joined.pass_time(REREAD + TICK)
        assert joined.registered == {HOST: ADDRESS} and joined.dns.count("leave") == 0
        assert joined.agent.memberships[0].join.api_shares == 3


class TestAddress:
    def test_a_new_address_takes_the_place_of_the_old_one(self, joined: Guest) -> None:
        joined.cloud.known = (OTHER_ADDRESS,)
        joined.pass_time(REREAD + TICK)
        assert joined.registered == {HOST: OTHER_ADDRESS} and joined.dns.count("leave") == 0

    def test_without_a_public_address_it_waits_and_says_so(self, guest: Guest) -> None:
        guest.cloud.known = ()
        guest.pass_time(TICK)
        assert guest.registered == {} and "no-public-address" in guest.status()["error"]
        guest.cloud.known = (ADDRESS,)
        # After a failed check the next one may be a whole pause later.
        guest.pass_time(REREAD + LONGEST + TICK)
        assert guest.registered == {HOST: ADDRESS} and guest.status()["error"] == ""

    def test_a_record_set_with_private_addresses_gets_the_private_one(self, joined: Guest) -> None:
        """The setting changes, and the record changes in place."""
        joined.tell(joins=(joined.join_of(address="private"),))
        joined.pass_time(REREAD + TICK)
        assert joined.registered == {HOST: PRIVATE_ADDRESS} and joined.dns.count("leave") == 0
        assert {each.address for each in joined.agent.probed()} == {PRIVATE_ADDRESS}
        joined.tell(joins=(joined.join_of(),))
        joined.pass_time(REREAD + TICK)
        assert joined.registered == {HOST: ADDRESS} and joined.dns.count("leave") == 0

    def test_without_a_private_address_it_waits_and_says_so(self, tmp_path: Path) -> None:
        guest = Guest(tmp_path, address="private")
        guest.cloud.private = ()
        guest.pass_time(TICK)
        assert guest.registered == {} and "no-private-address" in guest.status()["error"]

    # The machine's addresses, whether its settings want IPv6, and the addresses that are registered.
    FAMILIES = (
        ((ADDRESS, IPV6), True, f"{ADDRESS} {IPV6}"),
        ((ADDRESS, IPV6), False, ADDRESS),
        ((ADDRESS,), True, ADDRESS),
        ((IPV6,), True, IPV6),
        ((ADDRESS, OTHER_ADDRESS, IPV6, OTHER_IPV6), True, f"{ADDRESS} {IPV6}"),
        ((IPV6, ADDRESS), True, f"{ADDRESS} {IPV6}"),
    )

    @pytest.mark.parametrize(("known", "given", "expected"), FAMILIES)
    def test_one_of_each_family_where_it_is_configured_so(
        self, tmp_path: Path, known: tuple[str, ...], given: bool, expected: str
    ) -> None:
        guest = Guest(tmp_path, ipv6=given)
        guest.cloud.known = known
        guest.pass_time(TICK)
        assert guest.registered == {HOST: expected} and guest.status()["step"] == "registered"
        guest.pass_time(60)
        assert guest.dns.count("join") == 1, "it is registered as it should be"

    def test_an_ipv6_address_that_comes_later_joins_and_one_that_goes_leaves(self, tmp_path: Path) -> None:
        guest = Guest(tmp_path, ipv6=True)
        for known in ((ADDRESS,), (ADDRESS, IPV6), (ADDRESS, OTHER_IPV6), (ADDRESS,)):
            guest.cloud.known = known
            guest.pass_time(REREAD + TICK)
            assert guest.registered == {HOST: " ".join(known)} and guest.dns.count("leave") == 0

    @pytest.mark.parametrize("answered", [(ADDRESS,), (IPV6,), (ADDRESS, IPV6)])
    def test_what_vanished_of_one_family_is_written_again(self, tmp_path: Path, answered: tuple[str, ...]) -> None:
        guest = Guest(tmp_path, ipv6=True)
        guest.cloud.known = (ADDRESS, IPV6)
        guest.pass_time(TICK)
        guest.dns.answers(frozenset(answered))
        guest.pass_time(WATCH * MOST + 2 * TICK)
        assert guest.dns.count("join") == (1 if len(answered) == 2 else 2)


class TestFaults:
    def test_it_backs_off_while_the_api_fails_and_then_joins(self, guest: Guest) -> None:
        guest.dns.broken = DOWN
        guest.pass_time(600)
        tries = guest.dns.times("join")
        gaps = [after - before for before, after in itertools.pairwise(tries)]
        assert all(TICK / 2 <= gap <= LONGEST + TICK for gap in gaps)
        assert all(gap <= 2**at * 2 + TICK for at, gap in enumerate(gaps))
        assert 600 / (LONGEST + TICK) <= len(tries) < 100
        guest.dns.broken = None
        guest.pass_time(LONGEST + TICK)
        assert guest.registered == {HOST: ADDRESS} and guest.status()["error"] == ""

    def test_machines_that_fail_together_come_back_apart(self, tmp_path: Path) -> None:
        seconds = set()
        for at in range(12):
            (tmp_path / str(at)).mkdir()
            guest = Guest(tmp_path / str(at))
            guest.dns.broken = DOWN
            guest.pass_time(40)
            seconds.add(tuple(guest.dns.times("join")))
        assert len(seconds) > 6

    def test_no_sooner_than_the_api_asked_for(self, guest: Guest) -> None:
        guest.dns.faults = [TransientError("reason=api-failing api=fake status=429", after=50)]
        guest.pass_time(TICK + 49)
        assert guest.dns.count("join") == 1
        guest.pass_time(2 * TICK)
        assert guest.dns.count("join") == 2 and guest.registered == {HOST: ADDRESS}

    def test_a_rotated_token_is_read_again_at_a_refusal_and_nothing_fails(self, joined: Guest) -> None:
        joined.dns.token = joined.cloud.secrets[TOKEN_NAME] = "the-new-one"
        joined.healthy(False)
        joined.pass_time(60)
        assert joined.registered == {} and joined.cloud.secrets_read == 2
        joined.healthy(True)
        joined.dns.token = joined.cloud.secrets[TOKEN_NAME] = "a-third-one"
        joined.pass_time(TICK)
        assert joined.registered == {HOST: ADDRESS} and joined.status()["memberships"][0]["error"] == ""

    def test_a_refusal_with_the_token_that_is_valid_is_not_tried_again_at_once(self, joined: Guest) -> None:
        joined.dns.token = "of another zone"
        joined.healthy(False)
        joined.pass_time(TICK * 5)
        assert joined.dns.count("leave") == 1 and "9109" in joined.status()["memberships"][0]["error"]

    def test_a_transient_fault_reads_no_secret_again(self, joined: Guest) -> None:
        joined.dns.faults = [DOWN]
        joined.healthy(False)
        joined.pass_time(60)
        assert joined.registered == {} and joined.cloud.secrets_read == 1

    def test_one_fault_is_logged_once(self, guest: Guest, caplog: pytest.LogCaptureFixture) -> None:
        guest.dns.broken = DOWN
        guest.pass_time(120)
        assert guest.dns.count("join") > 3
        assert sum("status=503" in each.message for each in caplog.records if HOST in each.message) == 1

    def test_a_fault_of_one_membership_does_not_hold_up_another(self, guest: Guest) -> None:
        guest.tell(joins=(guest.join_of(), guest.join_of("blog.scalability.expert")))
        guest.dns.faults = [TransientError("down", after=1000)]
        guest.pass_time(TICK)
        assert guest.registered == {"blog.scalability.expert": ADDRESS}


class TestLeave:
    def test_all_records_go(self, guest: Guest) -> None:
        guest.tell(joins=(guest.join_of(), guest.join_of("blog.scalability.expert")))
        guest.pass_time(TICK)
        assert len(guest.registered) == 2
        assert guest.agent.leave() is True
        assert guest.registered == {} and guest.status()["step"] == "left"

    def test_another_process_s_record_goes_too(self, joined: Guest) -> None:
        successor = joined.restarted()
        successor.agent.settle()
        assert successor.agent.leave() is True and successor.registered == {}

    def test_it_ends_within_its_bound_and_every_membership_is_tried(
        self, guest: Guest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Without jitter, so that one wait fits into the bound and two do not.
        monkeypatch.setattr(retrying, "FIRST", 0.0)
        hosts = [f"h{at}.scalability.expert" for at in range(5)]
        guest.tell(joins=tuple(guest.join_of(each) for each in hosts))
        guest.pass_time(TICK)
        guest.dns.broken = TransientError("reason=api-failing api=fake status=429", after=0.04)
        began = time.monotonic()
        assert guest.agent.leave(within=0.05) is False
        assert time.monotonic() - began < 0.15
        assert {place for _, verb, place in guest.dns.calls if verb == "leave"} == {f"host={each}" for each in hosts}
        assert guest.status()["step"] == "leave failed"

    def test_one_that_cannot_be_left_is_named_and_the_rest_goes(
        self, guest: Guest, caplog: pytest.LogCaptureFixture
    ) -> None:
        guest.tell(joins=(guest.join_of(), guest.join_of("blog.scalability.expert")))
        guest.pass_time(TICK)
        guest.dns.faults = [FatalError("reason=refused code=9109")]
        assert guest.agent.leave() is False
        assert guest.registered == {HOST: ADDRESS}
        assert any(each.levelno == logging.ERROR and "code=9109" in each.message for each in caplog.records)

    def test_a_machine_that_stops_right_after_a_rotation_leaves(self, joined: Guest) -> None:
        joined.dns.token = joined.cloud.secrets[TOKEN_NAME] = "the-new-one"
        assert joined.agent.leave(within=0) is True and joined.registered == {}

    def test_a_secret_that_is_out_of_reach_at_shutdown_is_remembered(self, joined: Guest) -> None:
        joined.cloud.silent = DOWN
        assert joined.agent.leave(within=0) is True and joined.registered == {}


class TestStatus:
    def test_a_membership_that_is_registered_does_not_hide_why_another_does_not(self, guest: Guest) -> None:
        guest.tell(joins=(guest.join_of(), guest.join_of("blog.scalability.expert")))
        guest.dns.faults = [DOWN]
        guest.pass_time(TICK)
        assert list(guest.registered) == ["blog.scalability.expert"]
        assert guest.cloud.statuses[-1] == f"registered: {DOWN}"
        guest.pass_time(LONGEST)
        assert len(guest.registered) == 2 and guest.cloud.statuses[-1] == "registered"

    def test_it_says_how_far_each_membership_has_come(self, joined: Guest) -> None:
        shown = joined.status()
        assert abs(shown.pop("since") - time.time()) < 60
        given = {"join": f"host={HOST}", "joined": True, "healthy": True, "error": ""}
        assert shown.pop("watch").startswith("no member is watched: rollcall-probe is not set")
        assert shown == {"step": "registered", "error": "", "secrets": "", "releases": {}, "memberships": [given]}
        joined.dns.broken = DOWN
        joined.healthy(False)
        joined.pass_time(6 * TICK)
        assert joined.status()["memberships"] == [{**given, "healthy": False, "error": str(DOWN)}]

    def test_each_step_is_reported_to_the_cloud_once(self, joined: Guest) -> None:
        joined.pass_time(1200, step=10)
        assert joined.dns.count("join") >= 1 and joined.cloud.statuses == ["settings read", "registered"]

    def test_no_secret_is_in_the_status_the_log_or_what_the_cloud_gets(
        self, guest: Guest, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        seen = []
        guest.dns.token = "another"
        for healthy in (True, False, True):
            guest.healthy(healthy)
            guest.pass_time(40)
            guest.dns.token = TOKEN
            seen.append(guest.status_file.read_text())
        guest.agent.leave()
        assert guest.dns.count("leave") and guest.cloud.secrets_read > 1 and "registered" in caplog.text
        assert TOKEN not in caplog.text + "".join(seen) + guest.status_file.read_text() + "".join(guest.cloud.statuses)

    def test_a_status_that_cannot_be_written_stops_nothing(self, guest: Guest) -> None:
        guest.status_file.parent.write_text("a file where a folder should be")
        guest.pass_time(TICK)
        assert guest.registered == {HOST: ADDRESS}
