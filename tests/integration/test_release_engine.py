"""Releases in place under the real engine, on machines that boot nothing: small agents take the releases and write reports to S3."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.commands import abort, promote, roll_outs, rollback
from components.workloads.packing import pack
from localcloud.runtime.prepare import ROOT
from rollcall.in_place import GATE, WANTED, report_key
from tests.cloud.aws_cloud import point_shell_at
from tests.cloud.joyent_stack import end_session
from tests.integration.engine_harness import Trial, on_trial
from tests.simulated_fleet import Machine

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
BUCKET, REGION = "rollcall-releases-1a2b3c4", "us-west-2"
# The clock of the agents is so many times faster.
FASTER = 10
PROGRAM = f"""
import json
import os
import pulumi
import pulumi_aws as aws
from components.config.models import FleetSettings
from components.resources.fleets.base import FleetArgs
from components.resources.fleets.ec2 import Ec2Fleet
from components.resources.fleets.roll_calls import call_rolls
from components.resources.fleets.roll_outs import roll_out
from components.resources import userdata
from components.resources.tags import tag_everything
from components.workloads.packing import pack

options = {{"count": 3, "canary": 0, "batch": "1", "how": "in-place", "runs": True}} | json.loads(os.environ["TRIAL"])
userdata.sources_hash = lambda: "one"
tag_everything()
role = aws.iam.Role("role", assume_role_policy=options["trust"])
profile = aws.iam.InstanceProfile("profile", role=role.name)
release = pack({{"name": "www", "run": "./start " + options["word"]}})
settings = FleetSettings(
    name="web", cloud="aws", joins=(), count=options["count"], size="t3.micro", image="debian-12", timeout=60,
    runs=("www",), release=options["how"], batch=options["batch"], canary=options["canary"],
    min_healthy_time=10, deadline=60,
)
object.__setattr__(settings, "digests", {{"www": release.digest}})
args = FleetArgs(
    settings=settings, memberships=[], needs=[profile], profile=profile.name,
    store="s3 bucket={BUCKET} region={REGION}", report_to="machines/web/AROAEXAMPLE",
)
fleet = Ec2Fleet("web", args)
call_rolls([fleet], releases=roll_out([fleet], lambda _: release))
"""


def digest(word: str) -> str:
    return pack({"name": "www", "run": f"./start {word}"}).digest


class Agents:
    """An agent for each machine that EC2 lists. `broken` are releases that become healthy on no machine, or on one of them."""

    def __init__(self, trial: Trial) -> None:
        self.ec2, self.s3 = trial.aws.client("ec2"), trial.aws.client("s3")
        self.machines: dict[str, Machine] = {}
        self.broken: dict[str, str] = {}
        self.now = 0
        self.most_out = 0
        self._written: dict[str, str] = {}
        self._stop = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[Agents]:
        with ThreadPoolExecutor(1) as pool:
            ran = pool.submit(self._run)
            try:
                yield self
            finally:
                self._stop.set()
            ran.result()

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            self._tick()

    def _tick(self) -> None:
        listed = self.listed()
        for instance, tags in listed.items():
            number = int(tags["rollcall-machine"])
            machine = self.machines.setdefault(instance, Machine(number=number, instance=instance))
            machine.live = {key: value for key, value in tags.items() if key.startswith((WANTED, GATE))}
            machine.broken = {found for found, which in self.broken.items() if which in ("all", str(number))}
        for _ in range(FASTER // 2):
            self.now += 1
            for instance in listed:
                self.machines[instance].tick(self.now)
            self.most_out = max(self.most_out, sum(self.machines[each].out_by_release for each in listed))
        for instance in listed:
            report = self.machines[instance].report
            if report is not None and self._written.get(instance) != report.text():
                self._written[instance] = report.text()
                key = report_key("machines/web/AROAEXAMPLE", instance)
                self.s3.put_object(Bucket=BUCKET, Key=key, Body=report.text().encode())

    def listed(self) -> dict[str, dict[str, str]]:
        """Return the tags of each instance that runs."""
        found = self.ec2.describe_instances()["Reservations"]
        running = [each for one in found for each in one["Instances"] if each["State"]["Name"] == "running"]
        return {each["InstanceId"]: {tag["Key"]: tag["Value"] for tag in each["Tags"]} for each in running}

    def runs(self) -> list[str]:
        """Return the release that each machine runs, in the order of their numbers."""
        here = [self.machines[each] for each in self.listed() if each in self.machines]
        return [each.runs.get("www", "") for each in sorted(here, key=lambda each: each.number)]


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with on_trial(tmp_path, PROGRAM) as made:
        project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
        ours = {key: value for key, value in project["config"].items() if key.startswith("aws:")}
        (tmp_path / "program/Pulumi.yaml").write_text(
            yaml.safe_dump({"name": "trial", "runtime": "python", "options": {"refresh": "always"}, "config": ours})
        )
        made.aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield made


@pytest.fixture
def agents(trial: Trial) -> Iterator[Agents]:
    with Agents(trial).running() as found:
        yield found


def killed_up(trial: Trial, word: str, when: Callable[[], bool]) -> bool:
    """Run `up`, and kill the engine and its hosts at this moment. Return whether it was still running."""
    usual = {"trust": "", "word": word}
    from tests.cloud.aws_cloud import TRUST

    process = subprocess.Popen(
        ["pulumi", "up", "--yes", "--skip-preview", "--non-interactive"],
        cwd=trial.folder / "program",
        env={**trial.environ, "TRIAL": json.dumps({**usual, "trust": TRUST})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 120
        while process.poll() is None and not when():
            assert time.monotonic() < end
            time.sleep(0.05)
        running = process.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    finally:
        end_session(process.pid)
        process.wait()
    trial.run("cancel", "--yes", word=word)
    return running


def command(trial: Trial, monkeypatch: pytest.MonkeyPatch, module: Any, *words: str) -> int:
    """Run a command about the stack, with the state of the trial."""
    point_shell_at(trial.aws, monkeypatch)

    def exported(_: str) -> tuple[list[Any], dict[str, str]]:
        state = json.loads(trial.run("stack", "export", word="a"))
        return state["deployment"]["resources"], {"aws:region": REGION}

    monkeypatch.setattr(roll_outs, "exported", exported)
    code: int = module.main(["web", *words])
    return code


def test_a_release_rolls_through_a_fleet_and_comes_back(
    trial: Trial, agents: Agents, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c, d = map(digest, "abcd")
    trial.up(word="a")
    machines = set(agents.listed())
    assert agents.runs() == [a, a, a]
    assert "unchanged" in trial.run("preview", "--expect-no-changes", word="a")

    # A roll-out that is killed is continued.
    shown = trial.run("preview", word="b")
    assert f"www: release {a[:6]} -> {b[:6]}, 0 files changed, 3 machines in batches of 1 (fleet web)" in shown, shown
    assert killed_up(trial, "b", when=lambda: b in agents.runs())
    trial.up(word="b")
    assert agents.runs() == [b, b, b]
    assert "unchanged" in trial.run("preview", "--expect-no-changes", word="b")
    trial.run("refresh", "--yes", "--skip-preview", word="b")
    assert "unchanged" in trial.run("preview", "--expect-no-changes", word="b")

    # A broken release goes back, and `up` says why.
    agents.broken = {c: "1"}
    shown = trial.run("up", "--yes", "--skip-preview", check=False, word="c")
    assert "failed at checking of www" in shown and "reason=check-failed" in shown and "boom" in shown, shown
    assert agents.runs() == [b, b, b]
    assert "unchanged" in trial.run("preview", "--expect-no-changes", word="b")

    # A canary waits, and is promoted.
    assert "canary waiting" in trial.up(word="d", canary=1)
    assert agents.runs() == [d, b, b]
    shown = trial.run("up", "--yes", "--skip-preview", "--expect-no-changes", word="d", canary=1)
    assert f"rollcall promote web {d[:12]}" in shown and "unchanged" in shown, shown
    assert command(trial, monkeypatch, promote, d[:7]) == 0
    trial.up(word="d", canary=1)
    assert agents.runs() == [d, d, d]

    # A rollback needs neither the engine nor a store, and `up` does not undo it.
    assert command(trial, monkeypatch, rollback) == 0
    assert agents.runs() == [b, b, b]
    shown = trial.run("preview", "--expect-no-changes", word="d", canary=1)
    assert f"www: release {d[:12]} was rolled back" in shown and "unchanged" in shown, shown
    assert command(trial, monkeypatch, promote, d[:7]) == 0
    trial.up(word="d", canary=1)
    assert agents.runs() == [d, d, d]
    assert set(agents.listed()) == machines
    assert agents.most_out == 1

    # A canary that is aborted leaves nothing.
    trial.up(word="a", canary=2, batch="100%")
    assert agents.runs() == [a, a, d]
    assert command(trial, monkeypatch, abort) == 0
    assert agents.runs() == [d, d, d]
    assert "unchanged" in trial.run("preview", "--expect-no-changes", word="a", canary=2)

    # A changed tag is a difference, and is put right.
    first = sorted(agents.listed())[0]
    other = f"{b} rollout=deadbeef drain=yes healthy=10 deadline=60"
    agents.ec2.create_tags(Resources=[first], Tags=[{"Key": f"{WANTED}www", "Value": other}])
    shown = trial.run("preview", "--diff", word="d")
    assert "differing" in shown and f"should have www {d[:6]}" in shown, shown
    trial.up(word="d")
    assert "unchanged" in trial.run("preview", "--expect-no-changes", word="d")

    # New machines get the release of the fleet, and all of them leave no setting behind.
    trial.up(word="d", count=4)
    assert agents.runs() == [d, d, d, d]
    trial.run("destroy", "--yes", "--skip-preview", word="d")
    assert agents.listed() == {}


@pytest.mark.prove
def test_a_roll_out_that_is_killed_at_any_moment_is_continued(trial: Trial, agents: Agents) -> None:
    """The moments are drawn from the whole time of an `up`: before its roll-out, in it, and after it."""
    trial.up(word="a")
    began = time.monotonic()
    trial.up(word="b")
    whole, seed = time.monotonic() - began, secrets.randbits(32)
    dice, killed = random.Random(seed), 0  # noqa: S311
    for at in range(20):
        word, end = f"killed{at}", time.monotonic() + dice.uniform(0, whole)
        killed += killed_up(trial, word, when=lambda end=end: time.monotonic() >= end)  # type: ignore[misc]
        before = agents.runs()
        trial.up(word=word)
        print(f"seed {seed}, {at}: killed when {before.count(digest(word))} of 3 machines had the release", flush=True)
        assert agents.runs() == [digest(word)] * 3
        assert "unchanged" in trial.run("preview", "--expect-no-changes", word=word)
    assert killed >= 15
    assert agents.most_out == 1


def test_a_fleet_changes_between_replace_and_in_place(trial: Trial, agents: Agents) -> None:
    trial.up(word="a", count=2)
    first = set(agents.listed())
    trial.up(word="b", count=2, how="replace")
    second = agents.listed()
    assert not first & set(second)
    assert not [key for tags in second.values() for key in tags if key.startswith((WANTED, GATE))]
    trial.up(word="c", count=2)
    assert not set(second) & set(agents.listed())
    assert agents.runs() == [digest("c")] * 2
    assert "unchanged" in trial.run("preview", "--expect-no-changes", word="c", count=2)
