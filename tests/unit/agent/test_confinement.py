"""rollcall.confinement: what is asked of systemd to find out whether a machine confines workloads, and what is made of its answers."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from get_release import ReleaseError
from rollcall import confinement
from rollcall.workloads import confine


class Systemd:
    """Answers for systemd-run and systemctl. `status` is the probe's exit code, `fault` is raised instead."""

    def __init__(self) -> None:
        self.status, self.output, self.ran = 0, "", list[list[str]]()
        self.fault: Exception | None = None

    def __call__(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.ran.append([*words])
        if words[0] == "systemd-run":
            if self.fault:
                raise self.fault
            return subprocess.CompletedProcess(words, 1 if self.status else 0, "", self.output)
        return subprocess.CompletedProcess(words, 0, f"{self.status}\n" if "show" in words else "", "")

    @property
    def probe(self) -> list[str]:
        (found,) = [each for each in self.ran if each[0] == "systemd-run"]
        return found


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Systemd:
    made = Systemd()
    monkeypatch.setattr(confinement, "_run", made)
    return made


def test_the_probe_is_confined_by_every_line_that_confines_a_workload(systemd: Systemd) -> None:
    assert confinement.lacking("/opt/x", metadata=True) == ""
    properties = {each.partition("=")[2] for each in systemd.probe if each.startswith("--property=")}
    lines = [each for each in confinement.lines("/opt/x").splitlines() if "=" in each and not each.startswith("#")]
    assert properties == {*lines, "Type=oneshot", "DynamicUser=yes"} and len(lines) > 15
    assert "BindReadOnlyPaths=-/opt/x" in lines
    at = systemd.probe.index("-c")
    assert systemd.probe[at + 2] == "169.254.169.254" and "/opt/rollcall/releases" in systemd.probe[at + 3 :]
    # A unit of this name that failed before is in the way of none, and none stays behind.
    assert systemd.ran[0] == systemd.ran[-1] == ["systemctl", "reset-failed", "rollcall-confinement.service"]


def test_where_there_is_no_metadata_service_none_is_asked(systemd: Systemd) -> None:
    confinement.lacking("/opt/x", metadata=False)
    assert systemd.probe[systemd.probe.index("-c") + 2] == ""


@pytest.mark.parametrize(
    ("status", "lacks"),
    [(1, "metadata"), (2, "files"), (3, "files,metadata"), (226, "unknown status=226 said='Job failed'")],
)
def test_a_machine_that_does_not_confine_refuses_the_workload(systemd: Systemd, status: int, lacks: str) -> None:
    systemd.status, systemd.output = status, "Job failed\n"
    with pytest.raises(ReleaseError, match=rf"^reason=not-confined lacks={lacks} fix='confinement: best-effort'$"):
        confine("shop", {}, "/opt/x", is_ec2=True)
    # One that runs since before this boot's probe does not go on.
    assert systemd.ran[-1] == ["systemctl", "stop", "--no-block", "workload-shop.service"]


def test_a_site_that_is_not_confined_is_not_served(systemd: Systemd) -> None:
    systemd.status = 2
    with pytest.raises(ReleaseError):
        confine("www", {"nginx": {"root": "."}}, "/opt/x", is_ec2=True)
    assert systemd.ran[-1] == ["systemctl", "stop", "--no-block", "nginx.service"]


@pytest.mark.parametrize("fault", [FileNotFoundError("systemd-run"), subprocess.TimeoutExpired("systemd-run", 30)])
def test_a_machine_that_cannot_be_asked_refuses_it_as_well(systemd: Systemd, fault: Exception) -> None:
    systemd.fault = fault
    assert confinement.lacking("/opt/x", metadata=True) == f"unknown error={type(fault).__name__}"


def test_best_effort_runs_it_and_says_what_is_lacking(systemd: Systemd, capsys: pytest.CaptureFixture[str]) -> None:
    systemd.status = 2
    confine("shop", {"confinement": "best-effort"}, "/opt/x", is_ec2=False)
    assert not any("stop" in each for each in systemd.ran)
    assert capsys.readouterr().err == "reason=not-confined lacks=files workload=shop said='best-effort'\n"
    systemd.status = 0
    confine("shop", {}, "/opt/x", is_ec2=False)
    assert capsys.readouterr().err == ""


def test_a_release_in_place_that_is_refused_leaves_the_former_one_running(systemd: Systemd) -> None:
    systemd.status = 2
    with pytest.raises(ReleaseError):
        confine("shop", {}, "/opt/x", is_ec2=False, stops=False)
    assert not any("stop" in each for each in systemd.ran)


def test_the_probe_itself_tells_what_it_may_from_what_it_may_not(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exit_code(address: str, *paths: str) -> int:
        done = subprocess.run(["/usr/bin/python3", "-c", confinement._PROBE, address, *paths], check=False)
        return done.returncode

    assert exit_code("", str(tmp_path / "absent")) == 0
    assert exit_code("", str(tmp_path)) == 2
    # Nothing keeps a datagram to this machine back, and none is sent elsewhere.
    assert exit_code("127.0.0.1", str(tmp_path)) == 3 and exit_code("127.0.0.1") == 1
