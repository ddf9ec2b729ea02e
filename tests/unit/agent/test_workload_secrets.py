"""rollcall.workload_secrets: when a machine fetches the secrets of its workloads, and when it restarts them, on a clock of the test's."""

from __future__ import annotations

import json
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rollcall.agent import TICK, WATCH
from rollcall.containers import Images
from rollcall.errors import FatalError, RollcallError, TransientError
from rollcall.settings import Secrets, SettingsError, parse_secrets
from rollcall.workload_secrets import AGAIN_S, MOST_TURNS, SETTLE_S, TURN_S, WorkloadSecrets
from tests.unit.agent.fakes import ADDRESS, OTHER_ADDRESS, Clock, Guest, memory_folder

MEMORY = "tmpfs / tmpfs rw 0 0\n"


class Store:
    """A cloud's secrets. `fault` is raised instead, where it is set."""

    def __init__(self) -> None:
        self.values = {"/p/shop.DATABASE_URL": "first"}
        self.fault: RollcallError | None = None
        self.reads = 0

    def secret(self, name: str) -> str:
        self.reads += 1
        if self.fault:
            raise self.fault
        return self.values[name]


class Machine:
    def __init__(self, folder: Path) -> None:
        self.clock, self.store, self.others = Clock(), Store(), 1
        self.joined = True
        self.ran: list[str] = []
        self.prepared: list[tuple[str, bool]] = []
        self.images = Images(self._prepare, quick_s=5.0)
        self.registry_answers = threading.Event()
        self.registry_answers.set()
        self.pull_fault: RollcallError | None = None
        self.folder = folder
        (folder / "mounts").write_text(MEMORY)
        self.define(secrets=["DATABASE_URL"])
        self.keeper = self.booted()

    def booted(self) -> WorkloadSecrets:
        """The agent of now. What is below /run is of an agent before it, if that ran since the boot."""
        self.keeper = WorkloadSecrets(
            self.store,  # type: ignore[arg-type]
            lambda: self.others if self.joined else None,
            home=self.folder / "run",
            definitions=self.folder / "opt",
            clock=self.clock,
            systemctl=self._systemctl,
            mounts=self.folder / "mounts",
            images=self.images,
        )
        return self.keeper

    def _prepare(self, workload: str, definition: Mapping[str, Any]) -> None:
        self.prepared.append((workload, (self.folder / "run/shop/registry-password").is_file()))
        self.registry_answers.wait(10)
        if self.pull_fault:
            raise self.pull_fault

    def define(self, **definition: object) -> None:
        place = self.folder / "opt/shop/current"
        place.mkdir(parents=True, exist_ok=True)
        (place / "workload.json").write_text(json.dumps(definition))

    def _systemctl(self, words: Sequence[str]) -> None:
        self.ran.append(" ".join(words))

    def step(self, revision: str = "r1", turn: int = 0, after: float = 0.0) -> list[str]:
        """What ran in a step so many seconds later."""
        self.clock.now += after
        before = len(self.ran)
        self.keeper.step([setting(revision, turn)])
        return self.ran[before:]

    def value(self, name: str = "DATABASE_URL") -> str:
        return (self.folder / "run/shop" / name).read_text()


def setting(revision: str, turn: int = 0) -> Secrets:
    return Secrets(workload="shop", revision=revision, turn=turn, prefix="/p/shop.")


START, RESTART = ["start --no-block workload-shop.service"], ["restart --no-block workload-shop.service"]


@pytest.fixture
def machine() -> Iterator[Machine]:
    with memory_folder() as folder:
        yield Machine(folder)


def test_a_workload_starts_once_it_has_all_of_its_secrets_and_once_only(machine: Machine) -> None:
    machine.define(secrets=["DATABASE_URL", "API_KEY"])
    machine.store.values["/p/shop.API_KEY"] = "key\n"
    assert machine.step() == START and machine.keeper.faults == {}
    assert (machine.value(), machine.value("API_KEY")) == ("first", "key")
    assert machine.step(after=2) == machine.step(after=20) == []
    # An operator may stop it, and an agent that starts again takes over.
    machine.booted()
    reads = machine.store.reads
    assert machine.step(after=2) == [] and machine.store.reads == reads


def test_files_and_folders_are_for_root_alone(machine: Machine) -> None:
    machine.step()
    for path in (machine.folder / "run", *(machine.folder / "run").rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o644 if path.name == ".revision" else 0o600), path


def test_a_folder_that_is_not_in_memory_gets_no_secret(machine: Machine) -> None:
    (machine.folder / "mounts").write_text(f"{MEMORY}/dev/vda1 {machine.folder} ext4 rw 0 0\n")
    assert machine.step() == []
    assert machine.keeper.faults["shop"].startswith("reason=secrets-on-disk folder=")
    assert [each for each in (machine.folder / "run").rglob("*") if each.is_file()] == []


def test_a_store_that_is_down_at_boot_is_waited_for(machine: Machine) -> None:
    machine.store.fault = TransientError("reason=no-secret parameter=/p/shop.DATABASE_URL said='error=ConnectTimeout'")
    assert machine.step() == []
    assert machine.keeper.faults == {"shop": f"{machine.store.fault} workload=shop"}
    # Not asked at each step, and no later than half a minute after it is back.
    reads = machine.store.reads
    for _ in range(150):
        assert machine.step(after=2) == []
    assert 8 <= machine.store.reads - reads <= 40
    assert machine.keeper.faults
    machine.store.fault = None
    assert machine.step(after=30) == START and machine.keeper.faults == {}


def test_one_that_may_not_be_read_is_reported_as_well(machine: Machine) -> None:
    machine.store.fault = FatalError("reason=no-metadata key=shop.DATABASE_URL")
    machine.step()
    assert machine.keeper.faults == {"shop": "reason=no-metadata key=shop.DATABASE_URL workload=shop"}


def test_an_unexpected_fault_shows_no_value(machine: Machine) -> None:
    machine.store.values = {}
    assert machine.step() == []
    assert machine.keeper.faults["shop"].startswith("reason=unexpected error=KeyError at=")


def test_a_workload_that_is_not_in_place_yet_is_waited_for(machine: Machine) -> None:
    (machine.folder / "opt/shop/current/workload.json").unlink()
    assert machine.step() == []
    assert machine.keeper.faults == {"shop": "reason=secrets-before-workload workload=shop"}


def test_another_revision_is_fetched_and_restarts_in_its_turn(machine: Machine) -> None:
    machine.step()
    machine.store.values["/p/shop.DATABASE_URL"] = "second"
    assert machine.step("r2", turn=3) == [] and machine.value() == "first"
    assert machine.step("r2", turn=3, after=SETTLE_S + 3 * TURN_S - 0.1) == [] and machine.value() == "first"
    assert machine.step("r2", turn=3, after=0.2) == RESTART and machine.value() == "second"
    # The same value again, for a rotation.
    assert machine.step("r3") == [] and machine.step("r3", after=SETTLE_S) == RESTART


def test_a_slow_start_makes_longer_turns_and_many_machines_share_them(machine: Machine) -> None:
    machine.define(secrets=["DATABASE_URL"], grace=60)
    machine.step()
    assert machine.step("r2", turn=1) == machine.step("r2", turn=1, after=SETTLE_S + TURN_S + 59) == []
    assert machine.step("r2", turn=1, after=1) == RESTART
    assert machine.step("r3", turn=MOST_TURNS) == [] and machine.step("r3", turn=MOST_TURNS, after=SETTLE_S) == RESTART


@pytest.mark.parametrize(
    ("before", "now", "restarts"),
    [(0, 0, True), (1, 1, True), (1, 0, False), (3, 2, True), (3, 1, False), (9, 5, True)],
)
def test_it_restarts_only_while_half_of_the_others_are_in_dns(
    machine: Machine, before: int, now: int, restarts: bool
) -> None:
    machine.step()
    machine.others = before
    assert machine.step("r2") == []
    machine.others = now
    assert machine.step("r2", after=SETTLE_S) == (RESTART if restarts else [])
    if not restarts:
        needed = (before + 1) // 2
        assert machine.keeper.faults == {
            "shop": f"reason=secrets-wait-for-others others={now} needed={needed} workload=shop"
        }
        machine.others = before
        assert machine.step("r2", after=2) == RESTART and machine.keeper.faults == {}


def test_one_that_has_not_joined_waits_for_no_others(machine: Machine) -> None:
    machine.step()
    machine.others = 1
    machine.step("r2")
    machine.joined = False
    assert machine.step("r2", after=SETTLE_S) == RESTART


def test_a_store_that_fails_at_a_rotation_keeps_the_workload_running_with_what_it_has(machine: Machine) -> None:
    machine.step()
    machine.step("r2")
    machine.store.fault = TransientError("reason=no-secret")
    assert machine.step("r2", after=SETTLE_S) == [] and machine.value() == "first"
    machine.store.fault = None
    assert machine.step("r2", after=30) == RESTART


def test_a_value_of_before_that_a_store_still_had_is_replaced(machine: Machine) -> None:
    machine.step()
    machine.step("r2")
    assert machine.step("r2", after=SETTLE_S) == RESTART and machine.value() == "first"
    machine.store.values["/p/shop.DATABASE_URL"] = "second"
    assert machine.step("r2", after=AGAIN_S - 1) == []
    assert machine.step("r2", after=1) == RESTART and machine.value() == "second"
    reads = machine.store.reads
    assert machine.step("r2", after=AGAIN_S) == [] and machine.store.reads == reads


def test_a_secret_that_is_no_longer_one_is_removed(machine: Machine) -> None:
    machine.step()
    machine.define(secrets=["API_KEY"])
    machine.store.values["/p/shop.API_KEY"] = "key"
    machine.step("r2")
    machine.step("r2", after=SETTLE_S)
    assert sorted(each.name for each in (machine.folder / "run/shop").iterdir()) == [".revision", "API_KEY"]


def test_the_machine_setting_is_read_as_it_was_written() -> None:
    assert parse_secrets("rollcall-secrets-shop", setting("r1", 7).words) == setting("r1", 7)
    for wrong in ("", "revision=a turn=x prefix=b", "revision=a prefix=b"):
        with pytest.raises(SettingsError, match=r"rollcall-secrets-shop: .* is not revision=… turn=… prefix=…"):
            parse_secrets("rollcall-secrets-shop", wrong)


def test_a_status_and_the_cloud_say_why_a_workload_waits(tmp_path: Path) -> None:
    guest = Guest(tmp_path)
    guest.pass_time(TICK)
    why = "reason=no-secret parameter=/p/shop.DATABASE_URL workload=shop"
    guest.agent.secret_faults = lambda: {"shop": why}
    guest.pass_time(2 * TICK)
    assert (
        guest.cloud.statuses[-1] == f"registered: {why}" and guest.cloud.statuses.count(guest.cloud.statuses[-1]) == 1
    )
    assert guest.status()["secrets"] == why and guest.status()["step"] == "registered"
    guest.agent.secret_faults = dict
    guest.pass_time(TICK)
    assert guest.cloud.statuses[-1] == "registered" and guest.status()["secrets"] == ""


def test_a_machine_has_its_secrets_in_its_settings_and_counts_the_others(tmp_path: Path) -> None:
    guest = Guest(tmp_path)
    assert len(guest.agent.secrets) == 0 and guest.agent.others() is None
    guest.tell(secrets=(setting("r1", 2),))
    guest.pass_time(20)
    assert [*guest.agent.secrets] == [setting("r1", 2)]
    assert guest.agent.others() == 0
    guest.dns.answers(frozenset({ADDRESS, OTHER_ADDRESS, "198.51.100.12"}))
    guest.pass_time(WATCH + TICK)
    assert guest.agent.others() == 2


class TestReleasesInPlace:
    """Another release may have other secrets (rollcall.releasing)."""

    def test_its_secrets_are_there_before_it_starts_and_those_of_the_former_one_stay(self, machine: Machine) -> None:
        machine.step()
        machine.store.values["/p/shop.SMTP"] = "second"
        machine.keeper.ensure(setting("r1"), {"secrets": ["DATABASE_URL", "SMTP"]})
        assert machine.value() == "first" and machine.value("SMTP") == "second"
        reads = machine.store.reads
        machine.store.fault = TransientError("down")
        machine.keeper.ensure(setting("r1"), {"secrets": ["SMTP"]})
        assert machine.store.reads == reads, "a release whose secrets are here needs no store"
        with pytest.raises(TransientError, match="down"):
            machine.keeper.ensure(setting("r1"), {"secrets": ["OTHER"]})
        machine.keeper.forget("shop", ["SMTP"])
        assert sorted(each.name for each in (machine.folder / "run/shop").iterdir()) == [".revision", "SMTP"]
        machine.keeper.forget("another", [])

    def test_a_release_that_was_started_is_not_started_again(self, machine: Machine) -> None:
        machine.keeper.ensure(setting("r1"), {"secrets": ["DATABASE_URL"]})
        machine.keeper.started(setting("r1"))
        assert machine.step("r1") == [] == machine.step("r1", after=60)
        assert machine.step("r2") == [] and machine.step("r2", after=SETTLE_S) == [
            "restart --no-block workload-shop.service"
        ]


def test_the_image_of_a_container_is_there_before_it_starts_and_the_password_for_its_registry_before_that(
    machine: Machine,
) -> None:
    machine.define(container={"image": "ghcr.io/acme/shop@sha256:…", "registry": {"user": "acme"}})
    machine.store.values = {"/p/shop.registry-password": "hush-hush"}
    machine.pull_fault = TransientError("reason=image-failed image=…")
    assert machine.step() == [] and machine.keeper.faults == {"shop": "reason=image-failed image=… workload=shop"}
    machine.pull_fault = None
    assert machine.step(after=60) == START and machine.keeper.faults == {}
    assert machine.prepared == [("shop", True)] * 2 and machine.value("registry-password") == "hush-hush"
    # It is there for a restart.
    assert machine.step("r2") == [] and machine.step("r2", after=SETTLE_S) == RESTART
    assert len(machine.prepared) == 2


def test_the_image_of_a_release_in_place_is_pulled_with_its_secrets_while_the_former_one_serves(
    machine: Machine,
) -> None:
    machine.store.values["/p/shop.registry-password"] = "hush-hush"
    settings = {
        "secrets": ["DATABASE_URL"],
        "container": {"image": "ghcr.io/acme/shop@sha256:…", "registry": {"user": "acme"}},
    }
    machine.pull_fault = TransientError("reason=image-failed image=…")
    with pytest.raises(TransientError, match="image-failed"):
        machine.keeper.ensure(setting("r1"), settings)
    machine.pull_fault = None
    machine.keeper.ensure(setting("r1"), settings)
    assert machine.prepared == [("shop", True)] * 2 and machine.value("registry-password") == "hush-hush"
    assert machine.ran == []


def test_a_slow_registry_holds_up_no_other_workload(machine: Machine) -> None:
    image = "ghcr.io/acme/shop@sha256:…"
    machine.define(container={"image": image})
    machine.images = Images(machine._prepare, quick_s=0.0)
    machine.booted()
    machine.registry_answers.clear()
    began = time.monotonic()
    waits = f"reason=image-is-pulled image={image} workload=shop"
    assert machine.step() == machine.step(after=2) == [] and machine.keeper.faults == {"shop": waits}
    assert machine.keeper.ensure(setting("r1"), {"container": {"image": image}}) == waits
    assert time.monotonic() - began < 60 and len(machine.prepared) <= 1
    machine.registry_answers.set()
    machine.images.quick_s = 60.0
    assert machine.step(after=2) == START and len(machine.prepared) == 1 and machine.keeper.faults == {}


def test_the_login_of_a_pull_stays_while_secrets_are_cleaned_up(machine: Machine) -> None:
    machine.step()
    (machine.folder / "run/shop/.login").write_text("{}")
    machine.keeper.forget("shop", [])
    assert sorted(each.name for each in (machine.folder / "run/shop").iterdir()) == [".login", ".revision"]
