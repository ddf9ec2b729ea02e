"""components.status: what is shown of a stack, differences first, and the exit code that monitoring reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError

from components import status
from components.access import cloudflare_token
from components.attendance import Entry, Member, Roll, Seen, Stand, difference
from components.realm import Access
from components.status import FleetStatus, StatusError, shown, status_of
from components.userdata import HOME
from rollcall import console
from rollcall.ownership import Owner

PLACE = "www.scalability.expert A"
MEMBER = Member(fleet="web", machine="0", generation="aaaaaa", instance="i-00000000000000001")
ROLL = Roll(stack="local", fleet="web", members=(MEMBER,), stands=(Stand(place=PLACE),), fleets=("web",), keeper=True)
ENTRY = Entry(place=PLACE, value="198.51.100.10", owner=Owner("local", "web", "0", "aaaaaa", MEMBER.instance), id="z/1")
SEEN = Seen(
    instance=MEMBER.instance,
    fleet="web",
    machine="0",
    generation="aaaaaa",
    running=True,
    addresses=("198.51.100.10",),
    state="running",
    since="2026-11-23T14:00:00Z",
)


def fleet(entries: list[Entry], seen: list[Seen]) -> FleetStatus:
    answers = {PLACE: frozenset(entry.value for entry in entries)}
    return status_of(
        Access(cloud="aws", region="us-west-2"), ROLL, entries, seen, difference(ROLL, entries, seen, answers)
    )


def test_in_step_says_so_first_and_then_each_machine_with_address_and_since_when() -> None:
    lines = shown([fleet([ENTRY], [SEEN])]).splitlines()
    assert lines[0] == "In step: state, clouds and DNS say the same."
    assert "web-0" in lines[3] and "198.51.100.10" in lines[3] and "2026-11-23T14:00:00Z" in lines[3]
    assert lines[4].strip() == f"at {PLACE}"


@pytest.mark.parametrize(
    ("entries", "seen", "said"),
    [
        ([], [SEEN], f"web: missing: web-0 ({MEMBER.instance}) is not at {PLACE}"),
        ([ENTRY], [replace(SEEN, addresses=("198.51.100.77",))], "web: stale: web-0"),
        (
            [ENTRY],
            [SEEN, replace(SEEN, instance="i-00000000000000009", machine="7")],
            "web: orphaned: i-00000000000000009",
        ),
        ([ENTRY, Entry(place=PLACE, value="192.0.2.1", owner=None)], [SEEN], "web: foreign: 192.0.2.1"),
    ],
)
def test_what_differs_stands_first(entries: list[Entry], seen: list[Seen], said: str) -> None:
    found = fleet(entries, seen)
    assert not found.in_step
    lines = shown([found]).splitlines()
    assert lines[0] == "Differences" and said in lines[1]


def test_a_machine_that_its_cloud_does_not_list_is_shown_as_such() -> None:
    assert "not listed by its cloud" in shown([fleet([], [])])


@pytest.mark.parametrize(("entries", "code"), [([ENTRY], 0), ([], 1)])
def test_the_exit_code_tells_monitoring(
    entries: list[Entry], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "exported", lambda stack: ([], {}))
    monkeypatch.setattr(status, "look", lambda *_: [fleet(entries, [SEEN])])
    assert status.main(["--stack", "local", "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert found["in_step"] is (code == 0) and found["fleets"][0]["machines"][0]["instance"] == MEMBER.instance


def test_what_cannot_be_told_is_two_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(stack: str) -> None:
        raise StatusError(f"no stack {stack}")

    monkeypatch.setattr(status, "exported", refuse)
    assert status.main(["--stack", "nope"]) == 2
    assert capsys.readouterr().err == "rollcall status: no stack nope\n"


def test_a_region_that_cannot_be_asked_is_no_difference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise EndpointConnectionError(endpoint_url="https://ec2.eu-west-1.amazonaws.com/")

    monkeypatch.setattr(status, "exported", lambda stack: ([], {}))
    monkeypatch.setattr(status, "look", refuse)
    assert status.main(["--stack", "prod"]) == 2
    assert "ec2.eu-west-1.amazonaws.com" in capsys.readouterr().err


def test_each_fleet_says_where_it_is() -> None:
    found = fleet([ENTRY], [SEEN])
    assert "web (aws us-west-2)" in shown([found])
    assert "web (joyent)" in shown([replace(found, cloud="joyent", region="")])


def test_the_stack_is_the_selected_one_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def pulumi(*words: str) -> str:
        asked.append(words)
        return "{}"

    monkeypatch.setattr(status, "_pulumi", pulumi)
    status.exported("")
    status.exported("prod")
    assert [words[-2:] == ("--stack", "prod") for words in asked] == [False, False, True, True]


def test_a_secret_of_the_config_is_used_where_it_can_be_read_and_missed_where_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may = True

    def pulumi(*words: str) -> str:
        if words[0] == "stack":
            return "{}"
        if "--show-secrets" in words and not may:
            raise StatusError("no passphrase")
        secret = {"secret": True, **({"value": "word"} if "--show-secrets" in words else {})}
        return json.dumps({"aws:region": {"value": "us-west-2", "secret": False}, "cloudflare:apiToken": secret})

    monkeypatch.setattr(status, "_pulumi", pulumi)
    assert status.exported("prod")[1] == {"aws:region": "us-west-2", "cloudflare:apiToken": "word"}
    may = False
    config = status.exported("prod")[1]
    assert config == {"aws:region": "us-west-2"} and config.get("aws:profile") is None
    # Another account would be asked without it.
    with pytest.raises(StatusError, match=r"cloudflare:apiToken: cannot be decrypted \(no passphrase\)"):
        cloudflare_token(config.get)


def test_nothing_deployed_is_said_so() -> None:
    assert shown([]) == "Nothing is deployed: the stack's state has no fleet."


class TestCommand:
    """`rollcall status`: a stack's in the folder of the program, a machine's elsewhere."""

    def test_in_the_programs_folder_it_is_the_stacks(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(status, "exported", lambda stack: ([], {}))
        monkeypatch.chdir(HOME.parent)
        assert console.main(["status", "--stack", "prod"]) == 0
        assert "no fleet" in capsys.readouterr().out

    def test_elsewhere_it_is_the_agents(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert console.main(["status"]) == 1
        assert "reason=not-running" in capsys.readouterr().err

    def test_elsewhere_a_stack_is_not_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert console.main(["status", "--stack", "prod"]) == 2
        assert "cd to the folder of Pulumi.yaml" in capsys.readouterr().err
