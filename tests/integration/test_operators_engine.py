"""What operators do beside a plain `pulumi up`, on the real engine: docs/operators.md has the table. Nothing boots."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.aws_cloud import TRUST
from tests.cloud.joyent_stack import end_session
from tests.integration.conftest import wait_until
from tests.integration.engine_harness import Trial, on_trial

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
PROGRAM = """
import json
import os
import pulumi_aws as aws
from components.compute.ec2 import role_description
from components.config.models import FleetSettings
from components.preflight.existing_resources import fleets, uncounted
from components.preflight.state import prior_state
from components.resources import userdata
from components.resources.fleets.base import FleetArgs
from components.resources.fleets.ec2 import Ec2Fleet
from components.resources.fleets.roll_calls import call_rolls
from components.resources.tags import deployment, tag_everything

options = {"count": 2, "size": "t3.micro"} | json.loads(os.environ["TRIAL"])
userdata.sources_hash = lambda: "one"
tag_everything()
description = role_description(deployment(), "web")
role = aws.iam.Role("role", description=description, assume_role_policy=options["trust"])
profile = aws.iam.InstanceProfile("profile", role=role.name)


def fleet(name, count, size):
    settings = FleetSettings(name=name, cloud="aws", joins=(), count=count, size=size, image="debian-12", timeout=60)
    return Ec2Fleet(name, FleetArgs(settings=settings, memberships=[], needs=[profile], profile=profile.name))


state = prior_state()
call_rolls(
    [fleet("api", 1, "t3.micro"), fleet("web", options["count"], options["size"])],
    fleets(state).fleets, uncounted(state).uncounted,
)
"""
FLEET = "urn:pulumi:trial::trial::rollcall:index:Ec2Fleet$"
ROLL_CALL = f"{FLEET}pulumi-python:dynamic/rollcall:RollCall::web"


def machine(name: str) -> str:
    return f"{FLEET}aws:ec2/instance:Instance::{name}"


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with on_trial(tmp_path, PROGRAM) as made:
        yield made


def running(trial: Trial) -> dict[str, str]:
    """Return the machines that run, by id, with their sizes."""
    found = trial.aws.client("ec2").describe_instances()["Reservations"]
    listed = [each for one in found for each in one["Instances"] if each["State"]["Name"] == "running"]
    return {each["InstanceId"]: each["InstanceType"] for each in listed}


def tags(trial: Trial) -> set[str]:
    """Return the names of all tags of all machines that run."""
    found = trial.aws.client("ec2").describe_instances()["Reservations"]
    listed = [each for one in found for each in one["Instances"] if each["State"]["Name"] == "running"]
    return {tag["Key"] for each in listed for tag in each["Tags"]}


def assert_in_step(trial: Trial, **given: Any) -> None:
    """Assert that the state and the roll calls have exactly the machines that run, and that a preview changes nothing."""
    state = trial.resources()
    counted = {each["instance"] for name in ("web", "api") for each in state[name]["outputs"]["members"]}
    listed = {each["id"] for each in state.values() if each["type"] == "aws:ec2/instance:Instance"}
    assert counted == listed == set(running(trial))
    assert "unchanged" in trial.run("preview", "--expect-no-changes", **given)


def test_machines_are_never_changed_without_the_roll_call_of_their_fleet(trial: Trial) -> None:
    trial.up()
    before = running(trial)
    # The engine would stop the machine, give it the other size, and start it: nothing would serve meanwhile.
    shown = trial.run("preview", "--target", "**Instance::web-*", check=False, size="t3.small")
    assert "web: this run creates or replaces web-0, web-1 and leaves out the RollCall of the fleet" in shown, shown
    # Without a preview the successor is made, and its predecessor stays.
    shown = trial.run("up", "--yes", "--skip-preview", "--target", "**::web-0*", check=False, size="t3.small")
    assert "web: this run creates or replaces web-0 and leaves out the RollCall of the fleet" in shown, shown
    assert "Traceback" not in shown and set(before) < set(running(trial))
    shown = trial.run("up", "--yes", "--skip-preview", "--exclude", ROLL_CALL, check=False, size="t3.small")
    assert "leaves out the RollCall of the fleet" in shown, shown
    assert set(before) < set(running(trial))
    trial.up(size="t3.small")
    assert sorted(running(trial).values()) == ["t3.micro", "t3.small", "t3.small"]
    assert_in_step(trial, size="t3.small")
    # A run that leaves out a fleet with changes, and updates something else, is no error.
    trial.run("up", "--yes", "--skip-preview", "--target", "**::api-group", count=3, size="t3.small")
    # The engine itself refuses a roll call without a machine on which it depends.
    words = ("up", "--yes", "--skip-preview", "--target", "**RollCall::api")
    shown = trial.run(*words, check=False, count=3, size="t3.small")
    assert "was not specified in --target list" in shown, shown
    assert_in_step(trial, size="t3.small")


def test_a_part_of_a_fleet_is_not_destroyed(trial: Trial) -> None:
    trial.up()
    before = running(trial)
    # The provider host is a child of the engine, as on computers of users.
    path = [each for each in trial.environ["PATH"].split(os.pathsep) if not Path(each).parent.name.startswith("warm-")]
    trial.environ["PATH"] = os.pathsep.join(path)
    shown = trial.run("destroy", "--yes", "--skip-preview", "--target", machine("web-0"), check=False)
    assert "--target-dependents" in shown, shown
    words = ("destroy", "--yes", "--skip-preview", "--target", machine("web-0"), "--target-dependents")
    # The refresh of a part does not know the provider of the roll calls, so the engine ends before it deletes anything.
    assert "unknown provider" in trial.run(*words, check=False)
    shown = trial.run(*words, "--refresh=false", check=False)
    assert "would take the machines of the whole fleet out of DNS" in shown, shown
    for part in (("--target", ROLL_CALL), ("--exclude", machine("api-0"))):
        shown = trial.run("destroy", "--yes", "--skip-preview", *part, "--refresh=false", check=False)
        assert "would take the machines of the whole fleet out of DNS" in shown, shown
    assert running(trial) == before and "rollcall-drain" not in tags(trial)
    trial.up()
    assert_in_step(trial)
    trial.run("destroy", "--yes", "--skip-preview")
    assert running(trial) == {}


@pytest.mark.prove
def test_a_machine_or_a_roll_call_is_replaced_on_request(trial: Trial) -> None:
    trial.up()
    before = running(trial)
    trial.run("up", "--yes", "--skip-preview", "--replace", machine("web-0"))
    assert len(set(running(trial)) & set(before)) == 2
    assert_in_step(trial)
    before = running(trial)
    trial.run("up", "--yes", "--skip-preview", "--replace", ROLL_CALL, "--parallel", "1")
    assert running(trial) == before and "rollcall-drain" not in tags(trial)
    trial.run("refresh", "--yes", "--skip-preview")
    assert_in_step(trial)


@pytest.mark.prove
def test_the_state_is_edited_by_hand(trial: Trial) -> None:
    trial.up()
    first = running(trial)
    trial.run("state", "rename", machine("web-0"), "web-x", "--yes")
    trial.up()
    assert len(set(running(trial)) & set(first)) == 2
    assert_in_step(trial)
    trial.run("state", "delete", ROLL_CALL, "--yes")
    second = running(trial)
    trial.up()
    assert running(trial) == second
    assert_in_step(trial)
    # A machine that is in no state is ended, because its cloud proves that the stack made it.
    trial.run("state", "delete", machine("web-1"), "--target-dependents", "--yes")
    trial.up()
    assert len(set(running(trial)) & set(second)) == 2
    assert_in_step(trial)
    trial.run("state", "protect", machine("web-1"), "--yes")
    assert "protect" in trial.run("up", "--yes", "--skip-preview", check=False, count=1)
    trial.run("state", "unprotect", machine("web-1"), "--yes")
    trial.up(count=1)
    assert_in_step(trial, count=1)


@contextmanager
def stopped_run(trial: Trial) -> Iterator[subprocess.Popen[bytes]]:
    """Start an `up`, stop its process when it has the lock, and end it afterwards."""
    locks = trial.folder / "backend/.pulumi/locks"
    process = subprocess.Popen(
        ["pulumi", "up", "--yes", "--skip-preview", "--non-interactive"],
        cwd=trial.folder / "program",
        env={**trial.environ, "TRIAL": json.dumps({"trust": TRUST})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until("the run has the lock", lambda: list(locks.rglob("*.json")), 120)
        os.kill(process.pid, signal.SIGSTOP)
        yield process
    finally:
        end_session(process.pid)
        process.wait()


@pytest.mark.prove
def test_a_second_run_waits_for_the_first_one(trial: Trial) -> None:
    with stopped_run(trial) as process:
        refused = "the stack is currently locked by 1 lock"
        assert refused in trial.run("up", "--yes", "--skip-preview", check=False)
        assert refused in trial.run("destroy", "--yes", "--skip-preview", check=False)
        assert refused in trial.run("refresh", "--yes", "--skip-preview", check=False)
        # A preview only reads.
        trial.run("preview")
        os.kill(process.pid, signal.SIGKILL)
        assert refused in trial.run("up", "--yes", "--skip-preview", check=False)
    trial.run("cancel", "--yes")
    trial.up()
    assert_in_step(trial)


@pytest.mark.prove
def test_cancel_deletes_only_the_lock_of_a_run_that_works(trial: Trial) -> None:
    with stopped_run(trial) as process:
        trial.run("cancel", "--yes")
        assert not list((trial.folder / "backend/.pulumi/locks").rglob("*.json"))
        os.kill(process.pid, signal.SIGCONT)
        wait_until("the run has ended", lambda: process.poll() is not None, 120)
    assert_in_step(trial)
    assert len(running(trial)) == 3


@pytest.mark.prove
def test_a_stack_moves_to_another_backend(trial: Trial) -> None:
    trial.run("config", "set", "--secret", "password", "hush-hush")
    trial.up()
    before, file = running(trial), str(trial.folder / "state.json")
    trial.run("stack", "export", "--file", file)
    assert "hush-hush" not in Path(file).read_text()
    former, other = trial.environ["PULUMI_BACKEND_URL"], trial.folder / "other"
    other.mkdir()
    trial.environ["PULUMI_BACKEND_URL"] = f"file://{other}?metadata=skip"
    trial.run("stack", "init", "trial")
    trial.run("stack", "import", "--file", file)
    assert "unchanged" in trial.run("preview", "--expect-no-changes")
    assert trial.run("config", "get", "password").strip() == "hush-hush"
    # Without this, someone could still deploy with the former state. It deletes no machine.
    trial.environ["PULUMI_BACKEND_URL"] = former
    trial.run("stack", "rm", "--force", "--preserve-config", "--yes")
    assert running(trial) == before
    trial.environ["PULUMI_BACKEND_URL"] = f"file://{other}?metadata=skip"
    trial.up(count=1)
    assert len(running(trial)) == 2 and set(running(trial)) < set(before)
    assert "unchanged" in trial.run("preview", "--expect-no-changes", count=1)
