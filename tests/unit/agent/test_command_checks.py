"""rollcall.command_checks and the checks of a workload's definition: what counts, what is shown, and that all must be good."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from localcloud.network.http import listen
from rollcall import health
from rollcall.command_checks import CommandCheck, unit_of
from rollcall.health import Health, all_of, check_of
from rollcall.workload_units import units
from tests.patience import came_true


class Systemd:
    """Answers for systemctl. `result` and `status` are those of the unit."""

    def __init__(self, file: Path) -> None:
        self.result, self.status, self.ran, self._file = "success", 0, list[list[str]](), file
        self.output: bytes | None = b""

    def __call__(self, words: Sequence[str], limit: float) -> subprocess.CompletedProcess[str]:
        self.ran.append([*words])
        if words[1] == "start":
            if self.output is not None:
                self._file.write_bytes(self.output)
            return subprocess.CompletedProcess(words, 0 if self.result == "success" else 1, "", "")
        return subprocess.CompletedProcess(words, 0, f"Result={self.result}\nExecMainStatus={self.status}\n", "")


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    return Systemd(tmp_path / "check-workload-shop-1")


def check(systemd: Systemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandCheck:
    made = CommandCheck(unit_of("shop", 1), "./healthy --quick", interval=1, timeout=2, home=tmp_path, run=systemd)
    monkeypatch.setattr(made, "_repeat", lambda: None)
    return made


def test_a_bad_run_counts_once_and_a_good_one_counts_until_the_next(
    systemd: Systemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = check(systemd, tmp_path, monkeypatch)
    watched = Health(all_of([made]), 1, 2)
    watched.run_checks()
    assert made() is None and watched.healthy is None, "nothing is known before the first run"
    made.once()
    assert [watched.run_checks() for _ in range(3)] == [True] * 3
    systemd.result, systemd.status = "exit-code", 3
    made.once()
    assert [watched.run_checks() for _ in range(9)] == [True] * 9, "nine questions about one bad run are one bad run"
    made.once()
    assert watched.run_checks() is False and watched.healthy is False
    systemd.result = "success"
    made.once()
    assert watched.run_checks() is True


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (b"starting\nno database\n\n", "'no database'"),
        (b"\033[2J\xff\xe2\x80\xae", "'\\x1b[2J\\ufffd\\u202e'"),
        (b"x" * 9000, repr("x" * 120)),
        (b"", "''"),
        (None, "''"),
    ],
)
def test_the_last_line_is_the_reason(
    systemd: Systemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: bytes | None, shown: str
) -> None:
    made = check(systemd, tmp_path, monkeypatch)
    systemd.result, systemd.status, systemd.output = "exit-code", 3, message
    made.once()
    assert made() == f"command:./healthy --quick status=3 said={shown}"
    assert systemd.ran[0] == ["systemctl", "start", "check-workload-shop-1.service"]


def test_one_that_takes_too_long_or_cannot_be_started_is_bad(
    systemd: Systemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = check(systemd, tmp_path, monkeypatch)
    systemd.result = "timeout"
    made.once()
    assert made() == "command:./healthy --quick result=timeout said=''"

    def hangs(*_: object) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired("systemctl", 1)

    monkeypatch.setattr(made, "_run", hangs)
    made.once()
    assert made() == "command:./healthy --quick error=TimeoutExpired"


def test_a_thread_repeats_it_until_nothing_asks(
    systemd: Systemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollcall.command_checks._UNUSED_S", 0.2)
    made = CommandCheck(unit_of("shop", 1), "./healthy", interval=0.01, timeout=1, home=tmp_path, run=systemd)
    # On a busy computer the first run may have ended before the first call returns, and the thread may end between two calls. The next
    # call starts it again.
    assert came_true(lambda: made() == "" and len(systemd.ran) > 1, 10)
    thread = made._thread
    assert thread and came_true(lambda: not thread.is_alive(), 10)


@pytest.fixture
def define(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def define(**definition: object) -> None:
        (tmp_path / "shop/current").mkdir(parents=True, exist_ok=True)
        (tmp_path / "shop/current/workload.json").write_text(json.dumps(definition))

    monkeypatch.setattr(health, "WORKLOADS", tmp_path)
    return define


def test_all_checks_of_a_workload_must_be_good(define: Callable[..., None]) -> None:
    with listen("127.0.0.1") as one, listen("127.0.0.1") as other:
        first, second = (f"tcp:{each.getsockname()[1]}" for each in (one, other))
        define(checks=[{"check": first, "timeout": 3}, {"check": second, "timeout": 3}])
        made = check_of("workload:shop")
        assert made() == ""
        other.close()
        assert str(made()).startswith(f"{second} ConnectionRefused")


def test_a_timeout_is_that_of_its_check(define: Callable[..., None]) -> None:
    with listen("127.0.0.1") as listener:
        define(checks=[{"check": f"http:{listener.getsockname()[1]}:/", "timeout": 0.05}])
        assert "timed out" in str(check_of("workload:shop")())


def test_a_workload_that_is_not_there_yet_is_tried_again(define: Callable[..., None]) -> None:
    check = check_of("workload:shop")
    assert check() == "reason=check-before-workload workload=shop"
    with listen("127.0.0.1") as listener:
        define(check=f"tcp:{listener.getsockname()[1]}")
        assert check() == ""


def test_another_release_has_its_own_checks(define: Callable[..., None]) -> None:
    with listen("127.0.0.1") as listener:
        define(check=f"tcp:{listener.getsockname()[1]}")
        check = check_of("workload:shop")
        assert check() == ""
        define(check="tcp:1")
        assert str(check()).startswith("tcp:1 ConnectionRefusedError")


def test_the_unit_of_a_check_is_confined_as_the_workload_and_has_its_user() -> None:
    checks = [{"check": "tcp:80"}, {"check": "command:./healthy --quick", "timeout": 4, "interval": 5}]
    definition = {"run": "./start", "checks": checks, "secrets": ["KEY"], "env": {"A": "b"}, "memory": "64M"}
    found = units("shop", definition, "i-1")
    assert sorted(found) == ["check-workload-shop-1.service", "workload-shop.service"]
    mine, its = (found[name].splitlines() for name in sorted(found))
    end = its.index("# What follows is the same for each workload, and comes last, so it has the last word.")
    shared = [line for line in its[end + 1 :] if line]
    assert mine[-len(shared) :] == shared and "User=workload-shop" in shared and "DynamicUser=yes" in shared
    assert "LoadCredential=KEY:/run/rollcall/secrets/shop/KEY" in shared and "MemoryMax=64M" in shared
    assert "ExecStart=/opt/rollcall/workloads/shop/current/files/healthy --quick" in mine
    assert {"TimeoutStartSec=4", "StandardOutput=truncate:/run/rollcall/checks/check-workload-shop-1"} <= {*mine}
    assert "JoinsNamespaceOf=workload-shop.service" in mine
