"""rollcall.prepare: the time zone and the log target are those of the settings, and a failure of them keeps no machine from serving."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from rollcall.prepare import prepare

SYSLOG, FORWARD = "etc/rsyslog.d/60-rollcall.conf", "etc/systemd/journald.conf.d/rollcall.conf"
UPLOAD = "etc/systemd/journal-upload.conf.d/rollcall.conf"


class Machine:
    """A root with two time zones; `fails` are the commands that fail, by a part of them."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls, self.fails = root, list[str](), ""
        for name in ("Etc/UTC", "Europe/Berlin"):
            zone = root / "usr/share/zoneinfo" / name
            zone.parent.mkdir(parents=True, exist_ok=True)
            zone.write_text(name)
        (root / "etc").mkdir()
        (root / "etc/localtime").symlink_to(root / "usr/share/zoneinfo/Etc/UTC")

    def run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        line = " ".join(words)
        self.calls.append(line)
        failed = bool(self.fails) and self.fails in line
        return subprocess.CompletedProcess(
            words, int(failed), "", "ERROR boot: reason=package-missing x" if failed else ""
        )

    def prepare(self, **settings: str) -> list[str]:
        """The commands that were run."""
        self.calls.clear()
        prepare({f"rollcall-{key}": value for key, value in settings.items()}, self.root, self.run)
        return self.calls

    def text(self, path: str) -> str:
        return (self.root / path).read_text() if (self.root / path).exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_without_settings_is_left_as_it_is(machine: Machine) -> None:
    before = sorted(machine.root.rglob("*"))
    assert machine.prepare() == []
    assert sorted(machine.root.rglob("*")) == before


def test_the_time_zone_is_set_and_stays_without_the_setting(machine: Machine) -> None:
    machine.prepare(timezone="Europe/Berlin")
    assert (machine.root / "etc/localtime").read_text() == "Europe/Berlin"
    assert machine.text("etc/timezone") == "Europe/Berlin\n"
    machine.prepare()
    assert (machine.root / "etc/localtime").read_text() == "Europe/Berlin"


def test_an_unknown_time_zone_is_one_line_and_nothing_changes(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.prepare(timezone="Europe/Nowhere")
    assert capsys.readouterr().err == "going on: step=timezone reason=no-timezone timezone=Europe/Nowhere\n"
    assert (machine.root / "etc/localtime").read_text() == "Etc/UTC"


def test_the_journal_goes_to_a_syslog_server_by_a_queue(machine: Machine) -> None:
    calls = machine.prepare(logs="syslog=logs.example.net:6514")
    assert 'target="logs.example.net" port="6514" protocol="tcp"' in machine.text(SYSLOG)
    assert 'queue.filename="rollcall"' in machine.text(SYSLOG)
    assert machine.text(FORWARD) == "[Journal]\nForwardToSyslog=yes\n"
    assert calls == [
        "systemctl restart systemd-journald.service",
        "/bin/sh /usr/local/lib/rollcall/boot.sh need rsyslog",
        "systemctl enable --quiet rsyslog.service",
        "systemctl restart rsyslog.service",
    ]
    # Nothing is restarted at the next boot.
    assert machine.prepare(logs="syslog=logs.example.net:6514")[1:] == [
        "systemctl enable --quiet rsyslog.service",
        "systemctl start rsyslog.service",
    ]


def test_an_address_of_ipv6_has_no_brackets_in_the_rule(machine: Machine) -> None:
    machine.prepare(logs="syslog=[2001:db8::9]:514")
    assert 'target="2001:db8::9" port="514"' in machine.text(SYSLOG)


def test_another_target_takes_the_place_of_the_first_and_none_ends_it(machine: Machine) -> None:
    machine.prepare(logs="syslog=a:1")
    calls = machine.prepare(logs="http=https://logs.example.net:19532")
    assert (machine.text(SYSLOG), machine.text(FORWARD)) == ("", "")
    assert machine.text(UPLOAD) == "[Upload]\nURL=https://logs.example.net:19532\n"
    assert "systemctl try-restart rsyslog.service" in calls
    assert "/bin/sh /usr/local/lib/rollcall/boot.sh need systemd-journal-remote" in calls
    assert calls[-1] == "systemctl restart systemd-journal-upload.service"
    assert machine.prepare() == ["systemctl disable --now --quiet systemd-journal-upload.service"]
    assert machine.text(UPLOAD) == ""


@pytest.mark.parametrize(
    ("fails", "message"), [("need", "reason=package-missing x"), ("enable", "reason=not-started unit=rsyslog")]
)
def test_logs_that_cannot_be_sent_are_one_line(
    machine: Machine, capsys: pytest.CaptureFixture[str], fails: str, message: str
) -> None:
    machine.fails = fails
    machine.prepare(logs="syslog=a:1")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"going on: step=logs {message}")
