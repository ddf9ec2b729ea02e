"""rollcall.escaping, and the places where the program shows what a machine or a stranger wrote."""

from __future__ import annotations

import os
import subprocess
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.commands import adopt, status
from components.commands.review.findings import code
from components.commands.status import FleetStatus, status_of
from components.compute.ec2 import Ec2View, ec2_instance
from components.compute.locations import Location
from components.compute.triton import triton_instance
from components.config.errors import ConfigurationError
from components.joyent import engine
from components.joyent.errors import FatalError
from components.joyent.records import MachineRecord
from components.model import DesiredState, DnsRecord, ExpectedRecordSet, Instance, Member, RecordKey
from components.registration.diff import Kind, acknowledgement, find_drift, with_doubts
from components.registration.messages import lines
from components.registration.roll_call import RollCallError
from components.resources import ssh_drain
from localcloud.runtime import show
from rollcall.cloudflare import Record
from rollcall.escaping import escaped, escaped_lines
from rollcall.ownership import Owner
from rollcall.settings import FLEET, GENERATION, MACHINE, STACK, STATUS

# A title of the terminal's window, a cursor to the top, 8-bit CSI, a bell, an order to GitHub, a text from right to left.
EVIL = "a\x1b]0;owned\x07\x1b[2J\x9b1;1H\x7f\r\n::error::x##[error]\u202egpj.exe\u2066\u2028z\u200b"
PLACE = RecordKey("www.scalability.expert", "A")
MEMBER = Member(fleet="web", machine="0", generation="aaaaaa", instance="i-00000000000000001")
ROLL = DesiredState(
    stack="local",
    fleet="web",
    members=(MEMBER,),
    record_sets=(ExpectedRecordSet(key=PLACE),),
    fleets=("web",),
    keeper=True,
)


def clean(text: str, lines: bool = False) -> bool:
    """Whether a terminal or a CI log shows the text as it is; with `lines` it may have several."""
    kept = "\n\t" if lines else ""
    harmless = all(each in kept or unicodedata.category(each) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for each in text)
    return harmless and "##[" not in text and not any(each.lstrip().startswith("::") for each in text.split("\n"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web-0 läuft, 日本語", "web-0 läuft, 日本語"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b31m\x85", "\\x9b31m\\x85"),
        ("\x00\x07\x7f", "\\x00\\x07\\x7f"),
        ("one\r\ntwo\tthree", "one\\x0d\\x0atwo\\x09three"),
        ("\u202e\u2066\u200f\u061c", "\\u202e\\u2066\\u200f\\u061c"),
        ("\u2028\u2029\ufeff", "\\u2028\\u2029\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
        ("\udc80", "\\udc80"),
        ("  ::error::x", "  \\x3a:error::x"),
        ("a ##[error]x", "a \\x23#[error]x"),
        ("2001:db8::10 # a", "2001:db8::10 # a"),
        ("::1", "\\x3a:1"),
    ],
)
def test_what_a_terminal_takes_for_an_order_is_written_out(text: str, shown: str) -> None:
    assert escaped(text) == shown and clean(escaped(text))


def test_our_own_lines_stay_lines() -> None:
    assert escaped_lines("one\n\ttwo\x1b[2J\r") == "one\n\ttwo\\x1b[2J\\x0d"


def seen(**changes: Any) -> Instance:
    usual: dict[str, Any] = {
        "instance": MEMBER.instance, "fleet": "web", "machine": "0", "generation": "aaaaaa", "running": True,
        "addresses": ("198.51.100.10",), "state": "running",
    }  # fmt: skip
    return Instance(**{**usual, **changes})


def machine(**changes: Any) -> MachineRecord:
    body = {"id": "5" * 8, "name": "db", "state": "running", "ips": ["198.51.100.10"], "primaryIp": "198.51.100.10"}
    return MachineRecord.of({**body, **changes})


class TestOfAMachine:
    def test_its_console(self) -> None:
        console = SimpleNamespace(get_console_output=lambda **_: {"Output": f"x\nrollcall: step {EVIL}\n"})
        view = Ec2View("us-west-2")
        view._made = console
        (message,) = view.steps([seen()]).values()
        assert message.startswith("step a\\x1b]0;owned") and clean(message)

    def test_its_metadata_and_its_tags_on_triton(self) -> None:
        tags = {STACK: "local", FLEET: EVIL, MACHINE: EVIL, GENERATION: EVIL}
        found = triton_instance(machine(tags=tags, metadata={STATUS: EVIL}, state=EVIL))
        assert all(clean(each) for each in (found.note, found.fleet, found.machine, found.generation, found.state))

    def test_its_tags_and_why_it_stopped_on_ec2(self) -> None:
        tags = [{"Key": key, "Value": EVIL} for key in (FLEET, MACHINE, GENERATION)]
        given = {"InstanceId": "i-1", "State": {"Name": "stopped"}, "StateReason": {"Message": EVIL}, "Tags": tags}
        found = ec2_instance(given)
        assert all(clean(each) for each in (found.note, found.fleet, found.machine, found.generation))

    def test_an_orphans_line(self) -> None:
        found = find_drift(ROLL, [], [seen(instance="i-2", machine=EVIL, state=EVIL)], {})
        doubtful = with_doubts(found, {"i-2": EVIL})
        assert clean(lines(found, Kind.ORPHANED)[0]) and clean(lines(doubtful, Kind.UNPROVEN)[0])


class TestOfARecord:
    @pytest.mark.parametrize("owner", [None, Owner("prod", "web", "0", "aaaaaa", "i-00000000000000009")])
    def test_a_foreign_record(self, owner: Owner | None) -> None:
        drift = find_drift(ROLL, [DnsRecord(key=PLACE, value=EVIL, owner=owner)], [seen()], {})
        (text,) = lines(drift, Kind.FOREIGN)
        assert clean(text) and clean(acknowledgement(drift.findings[0]).value)

    def test_a_record_that_is_left_over_or_stale(self) -> None:
        own = Owner("local", "web", "0", "aaaaaa", MEMBER.instance)
        gone = Owner("local", "web", "7", "bbbbbb", "i-00000000000000007")
        records = [DnsRecord(key=PLACE, value=EVIL, owner=own), DnsRecord(key=PLACE, value=EVIL, owner=gone)]
        found = find_drift(ROLL, records, [seen()], {})
        assert clean(lines(found, Kind.LEFTOVER)[0]) and clean(lines(found, Kind.STALE)[0])

    def test_that_is_to_be_adopted(self) -> None:
        given = adopt.verdict(
            Record(name="www", type="TXT", content=EVIL, comment=EVIL, zone="z", id="1"), "local", [], ()
        )
        assert given is not None and clean(adopt.shown([given], False), lines=True)


@pytest.mark.parametrize(("code", "message"), [(0, ""), (1, "did not leave by SSH (1: ")])
def test_what_a_machine_prints_over_ssh(tmp_path: Path, code: int, message: str) -> None:
    client = tmp_path / "ssh"
    (tmp_path / "printed").write_text(EVIL.replace("\n", " "))
    client.write_text(f"#!/bin/sh\ncat {tmp_path}/printed; cat {tmp_path}/printed >&2; exit {code}\n")
    client.chmod(0o755)
    given = {"ROLLCALL_TO": "admin@198.51.100.10", "ROLLCALL_LEAVE": "true", "ROLLCALL_SSH": str(client)}
    done = subprocess.run(
        ["sh", "-c", ssh_drain._SCRIPT], env={**os.environ, **given}, capture_output=True, text=True, check=True
    )
    assert message in done.stdout and bool(done.stdout) is bool(code) and done.stderr == ""
    assert clean(done.stdout, lines=True) and len(done.stdout.splitlines()) == (1 if code else 0)


class TestWhereItIsPrinted:
    def test_status(self) -> None:
        found = status_of(
            Location(cloud="aws"), ROLL, [], [seen(addresses=(EVIL,), state=EVIL)], find_drift(ROLL, [], [], {})
        )
        fleet = FleetStatus(**{**found.__dict__, "differences": {"missing": (EVIL,)}, "notes": (EVIL,)})
        assert clean(status.shown([fleet]), lines=True)

    def test_a_fault_of_status_and_of_adopt(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fails(_: str) -> Any:
            raise status.StatusError(EVIL)

        monkeypatch.setattr(status, "exported", fails)
        monkeypatch.setattr(adopt, "exported", fails)
        assert status.main([]) == adopt.main([]) == 2
        output = capsys.readouterr().err
        assert "owned" in output and clean(output, lines=True)

    def test_a_line_to_the_engine(self, capsys: pytest.CaptureFixture[str]) -> None:
        engine.Engine("").say(f"web: waiting\n  for {EVIL.replace(chr(10), '')}")
        assert clean(capsys.readouterr().err, lines=True)

    @pytest.mark.parametrize(
        "fault",
        [RollCallError(EVIL), FatalError(EVIL), ConfigurationError([EVIL])],
        ids=lambda each: type(each).__name__,
    )
    def test_what_ends_an_up(self, fault: Exception) -> None:
        assert "owned" in str(fault) and clean(str(fault), lines=True)

    def test_a_comment_of_a_review(self) -> None:
        assert clean(code(EVIL))

    def test_the_end_of_make_up(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        given = {"cloud": "aws", "name": EVIL, "id": EVIL, "state": EVIL, "addresses": [EVIL], "tags": {STACK: EVIL}}
        show.fleet([given], "local")
        done = subprocess.CompletedProcess([], 1, "answered: a\x1b[2J\u202e\n", EVIL)
        faults = show._calls(f"v1{EVIL}", done)
        visit = show.Visit(by=EVIL, fault=EVIL)
        monkeypatch.setattr(show, "_visited", lambda *_: visit)
        monkeypatch.setattr(show, "_records", lambda *_: [])
        faults += show.site("www.scalability.expert", "http://127.0.0.1", "127.0.0.1:53")
        printed = capsys.readouterr().out
        assert "owned" in printed and clean(printed, lines=True) and all(map(clean, faults))
