"""rollcall.releasing: releases in place on a machine of the test's, with restarts, failures and power cuts at any step."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import get_release
from rollcall import releasing, workloads
from rollcall.errors import FatalError, RollcallError, TransientError
from rollcall.in_place import WantedRelease, parse_report
from rollcall.releasing import KEPT, Host, Releases
from rollcall.settings import Secrets
from tests.unit.agent.fakes import Clock

OLD, NEW, NEXT = ("a" * 64, "b" * 64, "c" * 64)
WANTED = WantedRelease(workload="shop", digest=NEW, rollout="00000001", healthy_s=4, deadline_s=30)
LINES = ("Traceback", "KeyError: 'PORT'")


class Job:
    """A process that gets a release ready. It ends with the machine's `code` when that is set."""

    def __init__(self, machine: Machine, digest: str) -> None:
        self.machine, self.digest, self.killed = machine, digest, False

    def poll(self) -> int | None:
        if self.machine.code == 0:
            self.machine.disk.add(self.digest)
        return self.machine.code

    def communicate(self) -> tuple[str, str]:
        return "", f"fetched release=x\n{self.machine.message}\n"

    def kill(self) -> None:
        self.killed = True


class Machine:
    """A machine and its agent, as far as a release in place reaches."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, Clock()
        self.current, self.disk = OLD, {OLD}
        self.definitions: dict[str, dict[str, Any]] = {}
        self.bad: set[str] = set()
        self.code: int | None = 0
        self.message = ""
        self.jobs: list[Job] = []
        self.events: list[str] = []
        self.reports: list[str] = []
        self.switch_fault = self.hook_waits = ""
        self.secret_fault: RollcallError | None = None
        self.image_waits = ""
        self.agent = SimpleNamespace(
            in_place=("shop",),
            wanted={},
            is_out=False,
            is_forgotten=False,
            has_joined=True,
            dns_faults="",
            checks=(),
            secrets=(),
            on_hold=False,
        )
        self.cloud = SimpleNamespace(instance=lambda: "i-1", report=self.reports.append)
        self.releases = self.started()

    def started(self) -> Releases:
        """A process of the agent."""
        host: Any = self
        self.releases = Releases(
            self.agent,  # type: ignore[arg-type]
            host=host,
            state=self.folder,
            clock=self.clock,
            cloud_of=lambda: self.cloud,  # type: ignore[arg-type, return-value]
        )
        return self.releases

    # The host.

    def runs(self, name: str) -> str:
        return self.current

    def kept(self, name: str) -> tuple[str, ...]:
        return tuple(sorted(self.disk))

    def definition(self, name: str, digest: str) -> dict[str, Any]:
        return self.definitions.get(digest, {"check": "tcp:80"})

    def prepare(self, name: str, instance: str, digest: str) -> Job:
        self.jobs.append(Job(self, digest))
        self.events.append(f"prepare {digest[0]}")
        return self.jobs[-1]

    def switch(self, name: str, instance: str, digest: str) -> None:
        self.events.append(f"switch {digest[0]}")
        assert digest in self.disk and self.kept_step() == "switching", "the progress is on the disk before the switch"
        if self.switch_fault:
            raise TransientError(self.switch_fault)
        self.current = digest

    def unit(self, name: str) -> tuple[str, str]:
        return "active", f"run of {self.current}"

    def log(self, name: str) -> tuple[str, ...]:
        self.events.append(f"log {self.current[0]}")
        return LINES

    def clean_up(self, name: str, needed: set[str]) -> None:
        self.events.append("clean up " + "".join(sorted(each[:1] for each in needed)))

    # The secrets and the hook.

    def ensure(self, wanted: Secrets, definition: Mapping[str, Any]) -> str:
        if self.secret_fault:
            raise self.secret_fault
        self.events.append(f"secrets {wanted.revision} {' '.join(definition.get('secrets', ()))}")
        return self.image_waits

    def started_with(self, wanted: Secrets) -> None:
        self.events.append(f"started {wanted.revision}")

    def forget(self, workload: str, names: Any) -> None:
        self.events.append(f"forget all but {' '.join(names)}".strip())

    def hook(self, workload: str, definition: Mapping[str, Any], digest: str) -> str:
        return self.hook_waits

    # The test.

    def kept_step(self) -> str:
        return str(json.loads((self.folder / "shop.json").read_text())["step"])

    @property
    def step(self) -> str:
        return self.releases._all["shop"].progress.step

    def wants(self, wanted: WantedRelease) -> None:
        self.agent.wanted = {"shop": wanted}

    def act(self, seconds: float = 1.0) -> str:
        """A step of the agent's thread, and a tick of the agent; the step in which that ends."""
        self.clock.now += seconds
        keeper: Any = SimpleNamespace(ensure=self.ensure, started=self.started_with, forget=self.forget)
        self.releases.step(self.cloud, keeper, self.hook)  # type: ignore[arg-type]
        if self.releases._reporter:
            self.releases._reporter.join(5)
        away = self.releases.is_away()
        self.agent.has_joined = not away and self.current not in self.bad
        self.agent.is_forgotten = self.agent.is_out and away
        self.agent.is_out = away
        return self.step

    def until(self, step: str, most: int = 100) -> None:
        for _ in range(most):
            if self.act() == step:
                return
        raise AssertionError(f"{self.step} {self.releases.waits} {self.events}")

    def reported(self) -> Any:
        report = parse_report(self.reports[-1])
        assert report is not None and report.instance == "i-1"
        return report.workloads["shop"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    check: Callable[[str], Any] = lambda text: lambda: "tcp:80 refused" if made.current in made.bad else ""  # noqa: E731
    monkeypatch.setattr(releasing, "check_of", check)
    return made


def test_another_release_is_served_after_a_drain(machine: Machine) -> None:
    machine.wants(WANTED)
    machine.until("done")
    assert machine.current == NEW and machine.events == ["prepare b", "switch b", "clean up b", "forget all but"]
    machine.act(60)
    reported = machine.reported()
    assert (reported.wanted, reported.rollout, reported.runs, reported.step) == (NEW, WANTED.rollout, NEW, "done")
    assert reported.kept == (OLD, NEW) and reported.reason == reported.waits == ""
    assert machine.releases.shown()["shop"]["step"] == "done"


def test_the_first_release_is_installed_as_soon_as_its_setting_appears(machine: Machine) -> None:
    machine.current, machine.disk = "", set()
    machine.act()
    assert machine.releases.waits == {"shop": "reason=no-release-yet workload=shop"} and not machine.releases.has(
        "shop"
    )
    assert machine.reported().waits == "reason=no-release-yet workload=shop"
    machine.wants(WANTED)
    machine.act()
    machine.act()
    assert machine.current == NEW and machine.releases.is_away() and machine.releases.has("shop")
    machine.until("done")
    assert "clean up b" in machine.events


@pytest.mark.parametrize("drains", [True, False])
def test_a_broken_release_is_taken_back_and_reported_with_its_log(machine: Machine, drains: bool) -> None:
    machine.bad.add(NEW)
    machine.wants(replace(WANTED, drains=drains))
    machine.until("checking")
    machine.until("failed")
    assert machine.current == OLD and machine.releases.is_away() is False
    assert machine.events[:4] == ["prepare b", "switch b", "log b", "switch a"], "the log is that of the broken one"
    machine.act(60)
    reported = machine.reported()
    assert (reported.step, reported.failed_step, reported.runs, reported.log) == ("failed", "checking", OLD, LINES)
    assert reported.reason == "reason=check-failed seconds=30 check=tcp:80 refused"
    assert machine.releases.waits["shop"].startswith("reason=release-failed step=checking reason=check-failed")
    # It is not tried again, not even by another process, until another roll-out wants it.
    for _ in range(3):
        machine.started()
        machine.act(60)
    assert machine.events.count("switch b") == 1 and machine.step == "failed"
    machine.bad.clear()
    machine.wants(replace(WANTED, rollout="00000002", drains=drains))
    machine.until("done")
    assert machine.current == NEW


@pytest.mark.parametrize("is_bad", [False, True])
def test_an_agent_that_is_restarted_at_any_step_goes_on(machine: Machine, is_bad: bool) -> None:
    machine.bad.update({NEW} if is_bad else ())
    machine.wants(WANTED)
    seen = set[str]()
    for _ in range(300):
        step = machine.act()
        if step not in seen:
            seen.add(step)
            was_away = machine.releases.is_away()
            machine.started()
            assert machine.releases.is_away() is was_away, "from its first moment"
        if step in ("done", "failed"):
            break
    assert machine.step == ("failed" if is_bad else "done") and machine.current == (OLD if is_bad else NEW)
    assert seen >= {"leaving", "draining", "checking"}


def test_a_power_cut_in_the_middle_of_a_switch_repeats_it(machine: Machine) -> None:
    machine.wants(WANTED)
    machine.until("leaving")

    def cut(*_: Any) -> None:
        machine.current = NEW
        raise KeyboardInterrupt

    switch = machine.switch
    machine.switch = cut  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        machine.until("done")
    machine.switch = switch  # type: ignore[method-assign]
    assert machine.kept_step() == "switching"
    machine.started()
    assert machine.releases.is_away()
    machine.until("done")
    assert machine.events.count("switch b") == 1


def test_a_process_for_another_release_than_the_wanted_one_is_ended(machine: Machine) -> None:
    machine.code = None
    machine.wants(WANTED)
    machine.act()
    machine.act()
    machine.wants(replace(WANTED, digest=NEXT, rollout="00000002"))
    machine.act()
    assert [each.killed for each in machine.jobs] == [True, False] and machine.jobs[1].digest == NEXT
    machine.code = 0
    machine.until("done")
    assert machine.current == NEXT and NEW not in machine.disk


def test_a_store_that_is_down_is_waited_for_while_the_former_release_serves(machine: Machine) -> None:
    machine.code, machine.message = 1, "reason=store-failed release=bbb status=503 workload=shop"
    machine.wants(WANTED)
    for _ in range(60):
        assert machine.act() == "fetching" and not machine.releases.is_away()
    assert machine.releases.waits == {"shop": machine.message} and machine.reported().waits == machine.message
    assert 4 < len(machine.jobs) < 50, "it backs off"
    machine.code = 0
    machine.until("done")


def test_a_release_that_the_machine_refuses_has_failed_at_once(machine: Machine) -> None:
    machine.code, machine.message = 2, "reason=unit-refused unit=x said='User=root' workload=shop"
    machine.wants(WANTED)
    machine.until("failed", most=3)
    reported = machine.reported()
    assert (reported.failed_step, reported.reason, reported.runs) == ("fetching", machine.message, OLD)
    machine.code = 0
    machine.act(60)
    assert machine.step == "failed" and len(machine.jobs) == 1
    machine.wants(replace(WANTED, rollout="00000002"))
    machine.until("done")


def test_a_switch_that_fails_is_undone(machine: Machine) -> None:
    machine.switch_fault = "reason=command-failed command='systemctl daemon-reload'"
    machine.wants(WANTED)
    machine.until("switching")
    machine.act()
    assert machine.events.count("switch a") == 1, "going back fails too, and is tried again"
    machine.act(30)
    assert machine.events.count("switch a") == 2 and machine.reported().failed_step == "switching"
    machine.switch_fault = ""
    machine.clock.now += 30
    machine.until("failed")
    assert machine.current == OLD


def test_a_hook_runs_before_the_machine_leaves(machine: Machine) -> None:
    machine.definitions[NEW] = {"before": {"run": "./migrate", "timeout": 9}, "check": "tcp:80"}
    machine.hook_waits = "reason=before-runs workload=shop machine=i-2"
    machine.wants(WANTED)
    for _ in range(20):
        assert machine.act() == "fetching" and not machine.releases.is_away()
    assert machine.releases.waits == {"shop": machine.hook_waits}
    machine.hook_waits = ""
    machine.until("done")
    assert machine.events[-3:] == ["started none", "clean up b", "forget all but"]


def test_a_hook_that_fails_is_a_failed_release(machine: Machine) -> None:
    machine.hook_waits = "reason=before-failed workload=shop machine=i-2 status=1"
    machine.wants(WANTED)
    machine.until("failed")
    assert machine.current == OLD and machine.reported().reason == machine.hook_waits


def test_the_secrets_of_a_release_are_there_before_it_starts(machine: Machine) -> None:
    machine.definitions[NEW] = {"secrets": ["A", "B"], "check": "tcp:80"}
    machine.wants(WANTED)
    machine.act()
    machine.act()
    assert machine.releases.waits["shop"] == "reason=no-setting key=rollcall-secrets-shop workload=shop"
    assert machine.step == "fetching"
    machine.agent.secrets = (Secrets(workload="shop", revision="r7", turn=0, prefix="/p/"),)
    machine.secret_fault = FatalError("reason=no-metadata key=shop.A")
    for _ in range(30):
        assert machine.act() == "fetching", "the key may arrive a moment later"
    machine.secret_fault = None
    machine.events.clear()
    machine.until("done")
    expected = ["secrets r7 A B", "secrets r7 A B", "switch b", "started r7", "clean up b"]
    assert machine.events == [*expected, "forget all but A B"]


def test_a_release_waits_for_its_image_while_the_former_one_serves(machine: Machine) -> None:
    machine.definitions[NEW] = {"container": {"image": "ghcr.io/acme/shop@sha256:…"}, "check": "tcp:80"}
    machine.image_waits = "reason=image-is-pulled image=ghcr.io/acme/shop@sha256:… workload=shop"
    machine.wants(WANTED)
    for _ in range(30):
        assert machine.act() == "fetching" and machine.current == OLD
    machine.image_waits = ""
    machine.until("done")
    assert machine.current == NEW


def test_a_machine_is_reported_only_when_something_has_changed(machine: Machine) -> None:
    machine.wants(WANTED)
    machine.until("done")
    machine.act(60)
    known = len(machine.reports)
    for _ in range(20):
        machine.act(30)
    assert len(machine.reports) == known <= 10
    machine.agent.on_hold = True
    machine.act()
    assert len(machine.reports) == known + 1 and '"on_hold":true' in machine.reports[-1]


def test_a_store_of_reports_that_hangs_or_fails_stops_no_release(machine: Machine) -> None:
    hangs, tries = threading.Event(), list[str]()

    def report(text: str) -> None:
        tries.append(text)
        hangs.wait(20)
        raise TransientError("reason=s3-down")

    machine.cloud.report = report
    machine.wants(WANTED)
    for _ in range(100):
        machine.clock.now += 1
        keeper: Any = SimpleNamespace(ensure=None, started=None, forget=lambda *_: None)
        machine.releases.step(machine.cloud, keeper, machine.hook)  # type: ignore[arg-type]
        machine.agent.is_out = machine.agent.is_forgotten = machine.releases.is_away()
    assert machine.step == "done" and len(tries) == 1
    hangs.set()
    time.sleep(0.05)
    for _ in range(30):
        machine.act(10)
    assert 2 < len(tries) < 25, "with pauses"
    machine.cloud.report = machine.reports.append
    machine.act(300)
    assert machine.reported().step == "done"


def test_progress_that_cannot_be_read_is_none(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.wants(WANTED)
    machine.until("done")
    for text in ("", "[]", '{"wanted": ["rollcall-wanted-shop", "x"]}'):
        (machine.folder / "shop.json").write_text(text)
        machine.started()
        machine.until("done")
        assert machine.events.count("switch b") == 1 and "unreadable progress" in caplog.text


def test_one_workload_that_fails_stops_no_other(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.agent.in_place = ("cart", "shop")
    runs = machine.runs

    def fails(name: str) -> str:
        if name == "cart":
            raise OSError("broken disk")
        return runs(name)

    monkeypatch.setattr(machine, "runs", fails)
    monkeypatch.setattr(machine.releases, "_report", lambda: None)
    machine.wants(WANTED)
    machine.until("done")
    assert machine.releases.waits["cart"].startswith("reason=unexpected error=OSError")


class Root:
    """A machine's disk, on which each command that would change the machine is only noted."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.host = root, Host(str(root))
        self.home = workloads.home_of("shop", str(root))
        self.ran: list[str] = []
        monkeypatch.setattr(Host, "_run", lambda _, *words: self._ran(" ".join(words)))

    def _ran(self, words: str) -> str:
        self.ran.append(words)
        return ""

    def holds(self, digest: str, **definition: Any) -> None:
        text = json.dumps({"run": "./start", **definition} if "nginx" not in definition else definition)

        def write(partial: Path) -> None:
            (partial / "files").mkdir()
            (partial / "workload.json").write_text(text)

        get_release.place(self.home, digest, write)

    def unit(self) -> str:
        return (self.root / "etc/systemd/system/workload-shop.service").read_text()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    return Root(tmp_path, monkeypatch)


class TestHost:
    def test_a_program_is_restarted_with_its_new_unit_and_enabled(self, root: Root) -> None:
        root.holds(OLD)
        root.holds(NEW, env={"COLOUR": "blue"})
        root.host.switch("shop", "i-1", OLD)
        root.ran.clear()
        root.host.switch("shop", "i-1", NEW)
        assert root.ran == [
            "systemctl daemon-reload",
            "systemctl restart --no-block workload-shop.service",
            "systemctl enable -q --no-reload workload-shop.service",
        ]
        assert root.host.runs("shop") == NEW and "COLOUR=blue" in root.unit() and "ROLLCALL_INSTANCE=i-1" in root.unit()

    def test_a_program_with_secrets_is_not_started_by_systemd_at_boot(self, root: Root) -> None:
        root.holds(NEW, secrets=["KEY"])
        root.host.switch("shop", "i-1", NEW)
        assert root.ran[-1] == "systemctl disable -q --no-reload workload-shop.service"
        assert "[Install]" not in root.unit()

    def test_a_static_site_is_switched_and_nginx_reads_its_settings_again(self, root: Root) -> None:
        for digest in (OLD, NEW):
            root.holds(digest, nginx={"root": "public"})
            root.ran.clear()
            root.host.switch("shop", "i-1", digest)
            assert root.host.runs("shop") == digest
        folder = "/opt/rollcall/workloads/shop/current/files/public"
        words = "instance=i-1 /bin/sh /usr/local/lib/rollcall/boot.sh serve_workload shop"
        assert root.ran == [f"env verb=reload-or-restart {words} {folder}"]

    def test_another_kind_of_workload_replaces_the_former_one(self, root: Root) -> None:
        root.holds(OLD, nginx={"root": "."})
        root.holds(NEW)
        root.host.switch("shop", "i-1", OLD)
        served = root.root / "etc/nginx/conf.d/rollcall.conf"
        served.parent.mkdir(parents=True)
        served.touch()
        root.host.switch("shop", "i-1", NEW)
        assert not served.exists() and "systemctl reload nginx.service" in root.ran
        root.ran.clear()
        root.host.switch("shop", "i-1", OLD)
        assert root.ran[0] == "systemctl disable -q --now workload-shop.service"

    @pytest.mark.parametrize("step", ["replace", "fsync", "utime"])
    def test_after_a_power_cut_at_any_step_of_a_switch_another_call_does_the_rest(
        self, root: Root, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        """Cut at the first, second, … call of a step until none is left: `current` always leads to a whole release."""
        root.holds(OLD)
        root.holds(NEW, env={"COLOUR": "blue"})
        where: Any = Path if step == "replace" else os
        real, cuts = getattr(where, step), 0
        while True:
            root.host.switch("shop", "i-1", OLD)
            left = iter(range(cuts))

            def call(*given: Any, left: Iterator[int] = left) -> Any:
                if next(left, None) is None:
                    raise KeyboardInterrupt
                return real(*given)

            monkeypatch.setattr(where, step, call)
            try:
                root.host.switch("shop", "i-1", NEW)
            except KeyboardInterrupt:
                cuts += 1
            else:
                break
            finally:
                monkeypatch.setattr(where, step, real)
            assert root.host.runs("shop") in (OLD, NEW)
            assert root.host.definition("shop", root.host.runs("shop"))["run"] == "./start"
            root.host.switch("shop", "i-1", NEW)
            assert root.host.runs("shop") == NEW and "COLOUR=blue" in root.unit()
            assert root.ran[-2:] == [
                "systemctl restart --no-block workload-shop.service",
                "systemctl enable -q --no-reload workload-shop.service",
            ]
        assert cuts >= 1

    def test_the_last_releases_stay_on_the_disk_and_those_that_are_needed(self, root: Root) -> None:
        digests = [f"{number:064x}" for number in range(9)]
        for number, digest in enumerate(digests):
            root.holds(digest)
            os.utime(root.home / "releases" / digest, (1000 + number, 1000 + number))
        (root.home / "releases/.x.partial").mkdir()
        root.host.clean_up("shop", {digests[0], ""})
        assert {each.name for each in (root.home / "releases").iterdir()} == {digests[0], *digests[-KEPT:]}
        assert root.host.kept("shop") == (*reversed(digests[-KEPT:]), digests[0])

    def test_a_release_that_runs_again_counts_as_new(self, root: Root) -> None:
        for number, digest in enumerate((OLD, NEW, NEXT)):
            root.holds(digest)
            os.utime(root.home / "releases" / digest, (1000 + number, 1000 + number))
        root.host.switch("shop", "i-1", OLD)
        assert root.host.kept("shop") == (OLD, NEXT, NEW)

    def test_a_command_that_fails_is_named(self) -> None:
        with pytest.raises(TransientError, match="reason=command-failed command='sh -c echo no >&2; exit 3' said='no'"):
            Host()._run("sh", "-c", "echo no >&2; exit 3")
        with pytest.raises(TransientError, match="reason=command-failed command=/nowhere error=FileNotFoundError"):
            Host()._run("/nowhere")
