"""rollcall.before: of all machines that run a release one runs its hook, and what happens if it fails, crashes or is late."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from rollcall.before import Hook, Hooks, S3Claims, hooked, unit_of
from rollcall.errors import FatalError, TransientError
from rollcall.workload_units import units
from tests.patience import came_true

DIGEST = "d" * 64
KEY = f"before/shop/{DIGEST}"


class Store:
    """Claims in memory, with the conditions of S3."""

    where = "s3://bucket"

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.is_down = False

    def create(self, key: str, text: str) -> bool:
        self._check()
        return self.texts.setdefault(key, text) == text

    def read(self, key: str) -> str:
        self._check()
        return self.texts[key]

    def change(self, key: str, old: str, new: str) -> bool:
        self._check()
        if self.texts.get(key) != old:
            return False
        self.texts[key] = new
        return True

    def _check(self) -> None:
        if self.is_down:
            raise TransientError("reason=unreachable api=s3")

    @property
    def state(self) -> str:
        return str(json.loads(self.texts[KEY])["state"])


class Machine:
    """A machine with a hook: its systemd, its disk and its clock. `go` lets the unit end."""

    def __init__(self, name: str, store: Store, root: Path) -> None:
        self.name, self.store, self.done = name, store, root / name
        self.now, self.runs, self.fails = 0.0, 0, False
        self.go, self.state = threading.Event(), "inactive"
        self.lines = ["one", "two", "no such table\033[2J"]
        self.restart()

    def restart(self) -> None:
        """Start the agent again."""
        self.hook = Hook(
            "shop", DIGEST, 100, self.store, self.name, done=self.done, clock=lambda: self.now, run=self._systemd
        )

    def step(self, seconds: float = 10) -> str:
        self.now += seconds
        return self.hook.step()

    def ends(self) -> None:
        """Let the unit end, and wait until the agent knows it."""
        self.go.set()
        thread = self.hook._thread
        assert thread is not None
        thread.join(10)

    def _systemd(self, words: Sequence[str], limit: float) -> subprocess.CompletedProcess[str]:
        verb, out = words[1], ""
        if verb == "start" and self.state != "active":
            self.runs += self.state == "inactive"
            self.state = "activating"
            assert self.go.wait(20)
            self.state = "failed" if self.fails else "active"
        elif verb in ("stop", "reset-failed"):
            self.state = "inactive"
        elif verb == "show":
            out = f"ActiveState={self.state}\nResult=exit-code\nExecMainStatus=3\n"
        elif words[0] == "journalctl" and verb != "--sync":
            out = "\n".join(self.lines)
        return subprocess.CompletedProcess(words, int(self.state == "failed" and verb == "start"), out, "")


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def machines(store: Store, tmp_path: Path) -> tuple[Machine, Machine]:
    return Machine("i-1", store, tmp_path), Machine("i-2", store, tmp_path)


RUNS = "reason=before-runs workload=shop"


def test_one_machine_runs_it_and_all_start_when_it_has_succeeded(
    machines: tuple[Machine, Machine], store: Store
) -> None:
    one, other = machines
    assert one.step() == one.step() == RUNS
    assert other.step() == f"{RUNS} machine=i-1"
    one.ends()
    assert store.state == "runs" and one.step() == "" and store.state == "done"
    assert other.step() == "" and (one.runs, other.runs) == (1, 0)
    # From now on neither needs the store, nor after a boot.
    store.is_down = True
    for each in machines:
        each.restart()
        each.state = "inactive"
        assert each.step() == "" and each.runs == (each is one)


def test_where_it_has_failed_no_machine_starts_and_each_says_why(
    machines: tuple[Machine, Machine], store: Store
) -> None:
    one, other = machines
    one.fails = True
    one.step()
    one.ends()
    assert one.step() == "reason=before-ended workload=shop status=3 said='one / two / no such table\\x1b[2J'"
    why = (
        "reason=before-failed workload=shop machine=i-1 status=3 said='one / two / no such table\\x1b[2J'"
        f" fix='aws s3 rm s3://bucket/{KEY}'"
    )
    for _ in range(50):
        assert one.step() == why and other.step() == why
    assert (one.runs, other.runs) == (1, 0)
    # The operator has corrected the cause.
    del store.texts[KEY]
    one.fails = False
    assert one.step() == RUNS and other.step() == f"{RUNS} machine=i-1"
    one.ends()
    assert one.step() == "" and other.step() == "" and one.runs == 2


def test_a_machine_that_crashes_in_it_is_followed_by_another_after_its_time(machines: tuple[Machine, Machine]) -> None:
    one, other = machines
    one.step()
    waited = 0
    while other.step() == f"{RUNS} machine=i-1":
        waited += 10
    assert 160 <= waited <= 180 and other.hook._thread is not None
    # The first one was only late: its result does not count.
    one.ends()
    assert one.step() == "reason=before-ended workload=shop "
    assert one.step() == f"{RUNS} machine=i-2"
    other.ends()
    assert other.step() == "" and one.step() == ""


def test_a_claim_that_changes_is_waited_for_again(machines: tuple[Machine, Machine], store: Store) -> None:
    one, other = machines
    one.step()
    for _ in range(30):
        store.texts[KEY] = json.dumps({"state": "runs", "machine": "i-3", "try": len(store.texts[KEY])})
        store.texts[KEY] += " " * (_ + 1)
        assert other.step() == f"{RUNS} machine=i-3"


@pytest.mark.parametrize("fails", [False, True])
def test_an_agent_that_is_restarted_goes_on_with_its_own_run(
    machines: tuple[Machine, Machine], store: Store, fails: bool
) -> None:
    one, _ = machines
    one.fails = fails
    one.step()
    assert came_true(lambda: one.state == "activating", 10)
    one.restart()
    assert one.step() == RUNS
    one.ends()
    one.step()
    assert store.state == ("failed" if fails else "done") and one.runs == 1


def test_one_that_ended_while_the_agent_was_away_is_not_run_again(
    machines: tuple[Machine, Machine], store: Store
) -> None:
    for fails in (False, True):
        one = machines[fails]
        store.texts.clear()
        one.fails = fails
        one.step()
        one.ends()
        one.restart()
        assert one.step() == RUNS
        one.ends()
        one.step()
        assert store.state == ("failed" if fails else "done") and one.runs == 1


def test_a_machine_that_loses_its_power_in_it_runs_it_again(machines: tuple[Machine, Machine]) -> None:
    one, _ = machines
    one.step()
    one.ends()
    # The unit is gone with the power, and the claim is still this machine's.
    one.state = "inactive"
    one.restart()
    assert one.step() == RUNS
    one.ends()
    assert one.step() == "" and one.runs == 2


def test_without_the_store_nothing_runs_and_no_result_is_lost(machines: tuple[Machine, Machine], store: Store) -> None:
    one, _ = machines
    store.is_down = True
    with pytest.raises(TransientError):
        one.step()
    assert one.hook._thread is None
    store.is_down = False
    one.step()
    one.ends()
    store.is_down = True
    with pytest.raises(TransientError):
        one.step()
    store.is_down = False
    assert one.step() == "" and store.state == "done" and one.runs == 1


@pytest.mark.parametrize("text", ["", "[]", "null", "x"])
def test_a_claim_that_cannot_be_read_runs_nothing(machines: tuple[Machine, Machine], store: Store, text: str) -> None:
    store.texts[KEY] = text
    with pytest.raises(FatalError, match="reason=garbled-claim"):
        machines[0].step()
    assert machines[0].runs == 0


@pytest.mark.parametrize(
    "setting",
    ["", "s3 bucket=x", "gcs bucket=x region=y", "s3 bucket=x region=y more=z", "s3 endpoint=https://x region=y"],
)
def test_a_machine_without_a_bucket_says_so(setting: str) -> None:
    with pytest.raises(FatalError, match="reason=no-bucket key=rollcall-store"):
        Hooks(lambda: {"rollcall-store": setting}, lambda: "i-1").waits("shop", {"before": {"timeout": 1}}, DIGEST)
    assert Hooks(dict, str).waits("shop", {}, DIGEST) == ""
    assert S3Claims("s3 bucket=x region=y").where == "s3://x"
    own = "s3 endpoint=https://rollcall-releases-1a.s3.us-west-2.amazonaws.com region=us-west-2 key=route53-key"
    assert S3Claims(own).where == "s3://rollcall-releases-1a"
    assert S3Claims("s3 endpoint=https://s3.example bucket=b region=auto key=k").where == "s3://b"


def test_the_unit_of_a_hook_is_confined_as_the_workload_and_the_agent_starts_both(tmp_path: Path) -> None:
    definition = {"run": "./start", "before": {"run": "./migrate --to head", "timeout": 90}, "secrets": ["KEY"]}
    found = units("shop", definition, "i-1")
    assert sorted(found) == ["before-workload-shop.service", "workload-shop.service"] and unit_of("shop") in found
    hook, its = (found[name].splitlines() for name in sorted(found))
    assert "ExecStart=/opt/rollcall/workloads/shop/current/files/migrate --to head" in hook
    assert {"TimeoutStartSec=90", "Type=oneshot", "RemainAfterExit=yes"} <= {*hook}
    end = its.index("# What follows is the same for each workload, and comes last, so it has the last word.")
    assert hook[-20:] == its[end + 1 :][-20:] and "User=workload-shop" in hook and "[Install]" not in hook + its
    assert "LoadCredential=KEY:/run/rollcall/secrets/shop/KEY" in hook
    # Without a secret, the agent knows by the definition that it starts the workload.
    (tmp_path / "shop/current").mkdir(parents=True)
    file = tmp_path / "shop/current/workload.json"
    texts = {
        '{"before": {}}': ["shop"],
        '{"before": {}, "secrets": ["X"]}': [],
        '{"container": {}}': ["shop"],
        '{"container": {"registry": {}}}': [],
        "{}": [],
    }
    for text, names in texts.items():
        file.write_text(text)
        assert [each.workload for each in hooked(["shop", "site"], tmp_path)] == names
