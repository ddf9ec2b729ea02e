"""A release in place as data: the setting that a machine gets, and the report that it gives."""

from __future__ import annotations

import pytest

from rollcall.in_place import (
    HOLD,
    LIVE,
    LOG_LINES,
    PATCH,
    Hold,
    ReleaseReport,
    WantedRelease,
    WorkloadReport,
    parse_hold,
    parse_report,
    parse_wanted,
)
from rollcall.settings import SettingsError

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
WANTED = WantedRelease(workload="www", digest=DIGEST, rollout="0a1b2c3d", drains=False, healthy_s=5, deadline_s=60)


def test_a_wanted_release_is_read_back_from_its_setting() -> None:
    assert parse_wanted(WANTED.key, WANTED.words()) == WANTED


def test_words_of_a_newer_program_are_ignored_and_absent_words_have_defaults() -> None:
    assert parse_wanted("rollcall-wanted-www", f"{DIGEST} rollout=0a1b2c3d colour=blue") == WantedRelease(
        workload="www", digest=DIGEST, rollout="0a1b2c3d"
    )


@pytest.mark.parametrize(
    "text", ["", DIGEST, "abc rollout=0a1b2c3d", f"{DIGEST} rollout=x", f"{DIGEST} rollout=0a1b2c3d healthy=soon"]
)
def test_a_wrong_setting_is_refused_by_its_key(text: str) -> None:
    with pytest.raises(SettingsError, match="rollcall-wanted-www"):
        parse_wanted("rollcall-wanted-www", text)


def test_a_setting_that_a_machine_would_refuse_is_not_written() -> None:
    with pytest.raises(SettingsError, match="rollcall-wanted-www"):
        WantedRelease(workload="www", digest="abc", rollout="0a1b2c3d").words()


def test_a_report_is_read_back_from_its_text() -> None:
    failed = WorkloadReport(
        wanted=DIGEST,
        rollout="0a1b2c3d",
        runs="",
        step="failed",
        failed_step="checking",
        reason="reason=check-failed",
        log=("a", "b"),
    )
    report = ReleaseReport(instance="i-0abc", workloads={"www": failed}, on_hold=True)
    assert parse_report(report.text()) == report


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"format":2,"instance":"i","workloads":{}}',
        '{"format":1,"instance":"i","workloads":[]}',
    ],
)
def test_a_text_of_another_form_gives_none(text: str) -> None:
    assert parse_report(text) is None


def test_a_report_has_at_most_the_last_lines_of_a_log() -> None:
    many = WorkloadReport(wanted=DIGEST, rollout="0a1b2c3d", runs="", step="failed", log=tuple(map(str, range(99))))
    read = parse_report(ReleaseReport(instance="i", workloads={"www": many}).text())
    assert read is not None
    assert len(read.workloads["www"].log) == LOG_LINES
    assert read.workloads["www"].log[-1] == "98"


def test_a_hold_is_read_back_from_its_setting() -> None:
    hold = Hold(since="2026-11-30T19:00:00Z", reason="disk errors: see OPS-12")
    assert hold.words() == "2026-11-30T19:00:00Z disk errors: see OPS-12" and parse_hold(hold.words()) == hold


@pytest.mark.parametrize(
    ("text", "since", "reason"),
    [
        ("", "", "no reason given"),
        ("broken fan", "", "broken fan"),
        ("2026-11-30T19:00:00Z", "2026-11-30T19:00:00Z", "no reason given"),
    ],
)
def test_any_text_of_a_hold_that_was_written_by_hand_is_a_hold(text: str, since: str, reason: str) -> None:
    assert parse_hold(text) == Hold(since=since, reason=reason)


@pytest.mark.parametrize("reason", ["", "a\nb", "\x1b[2J", "x" * 236, "50% off"])
def test_a_reason_that_a_tag_or_a_terminal_would_not_take_is_refused(reason: str) -> None:
    with pytest.raises(SettingsError, match=r"rollcall-hold: .* Use up to 235 letters"):
        Hold(since="2026-11-30T19:00:00Z", reason=reason).words()


def test_the_engine_ignores_what_operators_write_to_running_machines() -> None:
    assert HOLD in LIVE and PATCH in LIVE
