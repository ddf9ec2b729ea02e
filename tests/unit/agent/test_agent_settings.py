"""rollcall.agent: what it does when the machine settings change, and when they cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rollcall.agent import CONFIRM, LONGEST, REREAD, REREAD_IN_PLACE, TICK
from rollcall.errors import FatalError, TransientError
from rollcall.in_place import HOLD, WantedRelease
from rollcall.settings import CloudflareJoin
from tests.unit.agent.fakes import ADDRESS, HOST, INSTANCE, OWNER, Guest, memory_folder, runs_well
from tests.unit.agent.settings_fixtures import as_keys

BLOG = "blog.scalability.expert"
SILENT = TransientError("reason=no-metadata error=ConnectTimeout")
DOWN = TransientError("reason=api-failing api=fake status=503")


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    """Without a process for each check and a disk: hours pass here."""
    monkeypatch.setattr("rollcall.health._command", runs_well)
    with memory_folder() as home:
        yield Guest(home)


@pytest.fixture
def joined(guest: Guest) -> Guest:
    guest.pass_time(TICK)
    assert guest.registered == {HOST: ADDRESS}
    guest.dns.calls.clear()
    return guest


class TestDrain:
    def test_it_leaves_stays_away_and_comes_back_when_it_is_lifted(self, joined: Guest) -> None:
        joined.tell(drain=True)
        joined.pass_time(REREAD + TICK)
        assert joined.registered == {} and joined.status()["step"] == "left"
        joined.pass_time(2 * CONFIRM, step=10)
        assert joined.dns.count("join") == 0
        joined.tell(drain=False)
        joined.pass_time(REREAD + TICK)
        assert joined.registered == {HOST: ADDRESS} and joined.status()["step"] == "registered"

    def test_it_stays_away_when_its_workload_recovers_meanwhile(self, joined: Guest) -> None:
        joined.healthy(False)
        joined.tell(drain=True)
        joined.pass_time(REREAD + TICK)
        joined.healthy(True)
        joined.pass_time(60)
        assert joined.registered == {} and joined.dns.count("join") == 0

    def test_a_drained_machine_never_joins(self, guest: Guest) -> None:
        guest.tell(drain=True)
        guest.pass_time(60)
        assert guest.dns.count("join") == 0 and guest.dns.count("leave") == 1

    def test_a_new_process_leaves_what_an_earlier_one_wrote(self, joined: Guest) -> None:
        joined.tell(drain=True)
        successor = joined.restarted()
        successor.pass_time(TICK)
        assert successor.registered == {}

    def test_a_new_process_tries_until_it_has_left(self, joined: Guest) -> None:
        joined.tell(drain=True)
        joined.dns.faults = [DOWN, DOWN]
        successor = joined.restarted()
        successor.pass_time(60)
        assert successor.registered == {} and successor.status()["step"] == "left"


class TestRelease:
    """A release in place (rollcall.releasing) keeps the machine out of DNS for a while, and asks whether it is out."""

    TTL = 20

    @pytest.fixture
    def served(self, guest: Guest) -> Guest:
        guest.tell(joins=(guest.join_of(ttl=self.TTL),))
        guest.pass_time(TICK)
        assert guest.registered == {HOST: ADDRESS} and guest.agent.has_joined
        return guest

    def test_it_leaves_although_it_is_healthy_and_says_when_no_cache_leads_to_it(self, served: Guest) -> None:
        agent = served.agent
        served.dns.others = 0
        agent.away = lambda: True
        served.pass_time(TICK)
        assert served.registered == {} and agent.is_out and not agent.is_forgotten and not agent.has_joined
        served.pass_time(self.TTL - TICK)
        assert not agent.is_forgotten
        served.pass_time(2 * TICK)
        assert agent.is_forgotten and served.dns.count("join") == 1
        agent.away = lambda: False
        served.pass_time(TICK)
        assert served.registered == {HOST: ADDRESS} and agent.has_joined and not (agent.is_out or agent.is_forgotten)

    def test_it_is_not_out_while_the_api_is_down(self, served: Guest) -> None:
        served.dns.broken, served.agent.away = DOWN, lambda: True
        served.pass_time(60)
        assert not served.agent.is_out and served.agent.dns_faults == str(DOWN)
        served.dns.broken = None
        served.pass_time(60)
        assert served.agent.is_out and served.agent.dns_faults == ""

    def test_a_successor_waits_as_long_as_caches_may_lead_to_the_machine(self, served: Guest) -> None:
        served.agent.away = lambda: True
        served.pass_time(TICK)
        successor = served.restarted()
        successor.agent.away = lambda: True
        successor.pass_time(self.TTL)
        assert successor.agent.is_out and not successor.agent.is_forgotten
        successor.pass_time(2 * TICK)
        assert successor.agent.is_forgotten

    def test_after_a_boot_there_is_nothing_to_wait_for(self, guest: Guest) -> None:
        guest.agent.away = lambda: True
        guest.pass_time(TICK)
        assert guest.agent.is_forgotten and guest.dns.count("join") == 0

    @pytest.mark.parametrize("reason", ["drain", "hold"])
    def test_a_machine_that_stays_out_for_another_reason_counts_as_joined(self, served: Guest, reason: str) -> None:
        if reason == "drain":
            served.tell(drain=True)
        served.cloud.extra = {HOLD: "broken fan"} if reason == "hold" else {}
        served.pass_time(REREAD + TICK)
        assert served.registered == {} and served.agent.has_joined

    def test_the_settings_are_read_again_soon_where_releases_are_in_place(self, guest: Guest) -> None:
        guest.pass_time(60)
        seldom = guest.cloud.keys_read
        guest.tell(workloads=("site", "shop", "cart"))
        guest.cloud.extra = {"rollcall-workload-cart": "d" * 64}
        guest.pass_time(REREAD + TICK)
        assert guest.agent.in_place == ("shop",) and guest.agent.wanted == {}
        before = guest.cloud.keys_read
        guest.pass_time(60)
        assert guest.cloud.keys_read - before >= 60 / REREAD_IN_PLACE - 1 > seldom
        wanted = WantedRelease(workload="shop", digest="e" * 64, rollout="0a1b2c3d")
        guest.cloud.extra |= {wanted.key: wanted.words()}
        guest.pass_time(REREAD_IN_PLACE + TICK)
        assert guest.agent.wanted == {"shop": wanted}

    def test_the_status_shows_releases(self, guest: Guest) -> None:
        guest.agent.releases = lambda: {"shop": {"step": "draining"}}
        guest.pass_time(TICK)
        assert guest.status()["releases"] == {"shop": {"step": "draining"}}


class TestHold:
    """A hold is a setting of the running machine: no restart, reboot or `up` ends it."""

    REASON = "2026-11-30T19:00:00Z disk errors"

    def test_it_leaves_and_comes_back_when_the_hold_is_released(self, joined: Guest) -> None:
        joined.cloud.extra = {HOLD: self.REASON}
        joined.pass_time(REREAD + TICK)
        assert joined.registered == {} and joined.status()["step"] == "on hold"
        assert joined.status()["hold"] == self.REASON and joined.cloud.statuses[-1] == "on hold"
        joined.pass_time(2 * CONFIRM, step=10)
        assert joined.dns.count("join") == 0 and joined.agent.on_hold
        joined.cloud.extra = {}
        joined.pass_time(REREAD + TICK)
        assert joined.registered == {HOST: ADDRESS} and joined.status()["step"] == "registered"
        assert not joined.agent.on_hold and "hold" not in joined.status()

    def test_an_agent_that_starts_on_a_machine_on_hold_does_not_join(self, guest: Guest) -> None:
        guest.cloud.extra = {HOLD: self.REASON}
        guest.pass_time(60)
        guest.restarted().pass_time(60)
        assert guest.dns.count("join") == 0 and guest.status()["step"] == "on hold"

    def test_a_floor_does_not_keep_a_machine_on_hold(self, joined: Guest) -> None:
        """The command asks the operator first. An agent that refused would not be out when the operator thinks so."""
        joined.dns.others = 0
        joined.healthy(False)
        joined.cloud.extra = {HOLD: self.REASON}
        joined.pass_time(REREAD + TICK)
        assert joined.registered == {} and joined.status()["step"] == "on hold"

    def test_a_hold_without_a_text_is_a_hold(self, joined: Guest) -> None:
        joined.cloud.extra = {HOLD: ""}
        joined.pass_time(REREAD + TICK)
        assert joined.registered == {} and joined.status()["step"] == "on hold"

    def test_a_drained_machine_on_hold_has_left(self, joined: Guest) -> None:
        joined.cloud.extra = {HOLD: self.REASON}
        joined.tell(drain=True)
        joined.pass_time(REREAD + TICK)
        assert joined.registered == {} and joined.status()["step"] == "left"


class TestChanges:
    @pytest.mark.parametrize("changed", [{"ttl": 60}, {"proxied": True}, {"rise": 2}, {"check": "command:/bin/true"}])
    def test_a_setting_changes_in_place_without_leaving(self, joined: Guest, changed: dict[str, Any]) -> None:
        joined.tell(joins=(joined.join_of(**changed),))
        joined.pass_time(REREAD + 2 * TICK)
        assert joined.registered == {HOST: ADDRESS} and joined.dns.count("leave") == 0
        (_, _, given) = joined.dns.registered[f"host={HOST}"]
        assert isinstance(given, CloudflareJoin) and all(getattr(given, key) == value for key, value in changed.items())

    def test_the_same_settings_change_nothing(self, joined: Guest) -> None:
        joined.tell(joins=(joined.join_of(),))
        joined.pass_time(2 * REREAD)
        assert joined.dns.calls == []

    def test_a_membership_that_is_no_longer_configured_is_left(self, joined: Guest) -> None:
        joined.tell(joins=(joined.join_of(BLOG),))
        joined.pass_time(REREAD + TICK)
        assert joined.registered == {BLOG: ADDRESS}
        assert [each["join"] for each in joined.status()["memberships"]] == [f"host={BLOG}"]

    def test_another_check_is_the_one_that_counts(self, joined: Guest) -> None:
        joined.tell(joins=(joined.join_of(check="command:/bin/false"),))
        joined.pass_time(REREAD + 4 * TICK)
        assert joined.registered == {}

    def test_one_that_moves_to_another_zone_leaves_the_old_one(self, joined: Guest) -> None:
        joined.tell(joins=(joined.join_of(zone="b" * 32),))
        joined.pass_time(REREAD + TICK)
        assert joined.dns.count("leave") == 1

    def test_leaving_what_is_no_longer_configured_is_tried_until_it_is_done(self, joined: Guest) -> None:
        joined.tell(joins=())
        joined.dns.faults = [DOWN, DOWN, DOWN]
        joined.pass_time(REREAD + 3 * LONGEST)
        assert joined.registered == {} and joined.status()["memberships"] == []

    def test_the_roll_call_removes_what_the_agent_may_no_longer_change_and_the_agent_stops_trying(
        self, joined: Guest
    ) -> None:
        """The right to change a record set goes with the membership, in the same `up`, and may be gone first."""
        joined.tell(joins=())
        joined.dns.faults = [FatalError("reason=refused api=route53 code=AccessDenied")] * 100
        joined.pass_time(REREAD + TICK)
        leaves = joined.dns.count("leave")
        joined.pass_time(5 * LONGEST)
        assert 1 <= leaves <= 2 and joined.dns.count("leave") == leaves
        assert joined.agent.leave(within=0) is True

    def test_hundreds_that_are_refused_leave_the_account_to_whoever_fixes_that(self, guest: Guest) -> None:
        guest.dns.faults = [FatalError("reason=refused api=cloudflare status=403")] * 1000
        guest.pass_time(600)
        before = guest.dns.count("join")
        guest.pass_time(3600)
        # 300 of them, against 4 calls a second.
        assert guest.dns.count("join") - before < 3600 * 4 / 300 * 2

    def test_what_is_no_longer_configured_and_not_left_yet_is_left_at_the_end(self, joined: Guest) -> None:
        joined.tell(joins=())
        joined.dns.faults = [TransientError("down", after=1000)]
        joined.pass_time(2 * REREAD)
        assert joined.registered == {HOST: ADDRESS}
        assert joined.agent.leave(within=0) is True and joined.registered == {}

    def test_what_is_configured_again_before_it_was_left_stays(self, joined: Guest) -> None:
        given = joined.cloud.settings.joins
        joined.tell(joins=())
        joined.dns.faults = [TransientError("down", after=25)]
        joined.pass_time(REREAD + TICK)
        joined.tell(joins=given)
        joined.pass_time(60)
        assert joined.registered == {HOST: ADDRESS}

    def test_a_setting_that_changes_while_a_leave_fails_does_not_stop_it(self, joined: Guest) -> None:
        joined.dns.faults = [TransientError("down", after=12)]
        joined.healthy(False)
        joined.pass_time(3 * TICK)
        joined.tell(joins=(joined.join_of(ttl=60),))
        joined.pass_time(60)
        assert joined.registered == {}

    def test_a_second_membership_joins_beside_the_first(self, joined: Guest) -> None:
        joined.tell(joins=(joined.join_of(), joined.join_of(BLOG)))
        joined.pass_time(REREAD + TICK)
        assert joined.registered == {HOST: ADDRESS, BLOG: ADDRESS}
        assert [place for _, _, place in joined.dns.calls] == [f"host={BLOG}"]


class TestSilence:
    def test_metadata_that_is_silent_for_a_while_changes_nothing(self, joined: Guest) -> None:
        joined.cloud.silent = SILENT
        joined.pass_time(120)
        assert joined.registered == {HOST: ADDRESS} and joined.dns.calls == []
        assert (joined.status()["step"], joined.status()["error"]) == ("registered", "")
        assert joined.cloud.statuses[-1] == "registered"

    def test_metadata_are_read_every_ten_seconds(self, joined: Guest) -> None:
        before = joined.cloud.keys_read
        joined.pass_time(6 * REREAD)
        assert 5 <= joined.cloud.keys_read - before <= 6

    def test_health_checks_run_meanwhile(self, joined: Guest) -> None:
        joined.cloud.silent = SILENT
        joined.healthy(False)
        joined.pass_time(5 * TICK)
        assert joined.registered == {}

    def test_a_new_machine_waits_for_its_metadata_and_says_so(self, guest: Guest) -> None:
        guest.cloud.silent = SILENT
        guest.pass_time(20)
        assert guest.registered == {} and guest.status()["step"] == "no settings"
        assert guest.status()["error"] == str(SILENT)
        guest.cloud.silent = None
        guest.pass_time(TICK)
        assert guest.registered == {HOST: ADDRESS} and guest.status()["error"] == ""


class TestMistakes:
    @pytest.mark.parametrize(
        ("extra", "message"),
        [
            ({"rollcall-fleet": ""}, "lack rollcall-fleet"),
            ({"rollcall-join-0": "cloudflare zone=a host=b token=c ttl=soon"}, "ttl must be a whole number"),
            ({"rollcall-join-0": "gopher zone=a"}, "'gopher' is none of"),
            ({"rollcall-format": "2"}, "rollcall-format: has format '2', and this agent reads 1. Replace the machine"),
            ({"rollcall-join-0": "cloudflare zone=a host=b token=c check=udp:53"}, "unknown-check"),
            ({"rollcall-generation": "not six hex digits"}, "generation 'not six hex digits'"),
        ],
    )
    def test_what_cannot_be_used_is_reported_in_one_line(
        self, guest: Guest, extra: dict[str, str], message: str
    ) -> None:
        guest.cloud.extra = extra
        guest.pass_time(6)
        assert guest.registered == {} and guest.status()["step"] == "no settings"
        assert message in guest.status()["error"] and "\n" not in guest.status()["error"]
        guest.cloud.extra = {}
        guest.pass_time(REREAD + TICK)
        assert guest.registered == {HOST: ADDRESS}

    @pytest.mark.parametrize("silent", [None, FatalError("reason=no-metadata key=rollcall-fleet")])
    def test_a_mistake_in_new_settings_does_not_stop_the_health_checks(
        self, joined: Guest, silent: FatalError | None
    ) -> None:
        joined.cloud.extra, joined.cloud.silent = {"rollcall-fleet": ""}, silent
        joined.pass_time(2 * REREAD)
        assert joined.registered == {HOST: ADDRESS} and joined.status()["error"]
        joined.healthy(False)
        joined.pass_time(6 * TICK)
        assert joined.registered == {}

    def test_settings_of_a_newer_format_leave_a_machine_with_those_that_it_has(self, joined: Guest) -> None:
        joined.cloud.extra = {"rollcall-format": "2", "rollcall-join-0": "cloudflare zone=a host=b token=c"}
        joined.pass_time(2 * REREAD)
        assert joined.registered == {HOST: ADDRESS} and "has format '2'" in joined.status()["error"]

    def test_a_fixed_mistake_is_removed_from_the_status(self, joined: Guest) -> None:
        joined.cloud.extra = {"rollcall-fleet": ""}
        joined.pass_time(2 * REREAD)
        joined.cloud.extra = {}
        joined.pass_time(REREAD + TICK)
        assert (joined.status()["step"], joined.status()["error"]) == ("registered", "")


def test_a_record_names_stack_fleet_machine_generation_and_instance(joined: Guest) -> None:
    owner, _, _ = joined.dns.registered[f"host={HOST}"]
    assert owner == OWNER and owner.instance == INSTANCE


def test_a_machine_without_a_name_takes_one_from_its_instance(guest: Guest) -> None:
    guest.cloud.keys = lambda: {  # type: ignore[method-assign]
        key: value
        for key, value in as_keys(guest.cloud.settings).items()
        if key not in ("rollcall-machine", "rollcall-generation")
    }
    guest.pass_time(TICK)
    owner, _, _ = guest.dns.registered[f"host={HOST}"]
    assert owner.machine == owner.generation and owner.instance == INSTANCE
