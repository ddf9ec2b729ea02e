"""`up` and `destroy` killed in the middle, engine and all: the next one ends with promise 1 true and nothing forgotten.

The tests of this file share one deployment and run in the order in which they stand.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import sandboxed
from tests.integration.instep import InStep
from tests.integration.log_inspection import config_file

pytestmark = [pytest.mark.machines, pytest.mark.engine]
CONFIG = """\
config:
  aws:region: us-west-2
  rollcall:drainDelay: 3
  rollcall:sites: {{ www: {{ zone: scalability.expert, host: www, ttl: 60 }} }}
  rollcall:serviceDiscovery: {{ zone: unilans.net, services: {{ theService: {{ port: 4218, ttl: 5, incarnations: {{ v1: {{}} }} }} }} }}
  rollcall:fleets:
    web-aws: {{ cloud: aws, count: {aws}, size: {size}, image: debian-12, timeout: 120, joins: [site/www, theService/v1] }}
    web-joyent: {{ cloud: joyent, count: {joyent}, size: g1.micro, image: debian-12, timeout: 120, joins: [site/www, theService/v1] }}
"""


class Interrupted(InStep):
    config: Path
    sessions: list[int]

    def configure(self, aws: int = 1, joyent: int = 1, size: str = "t3.micro") -> None:
        self.config.write_text(CONFIG.format(aws=aws, joyent=joyent, size=size))
        self.sandbox.write_config()

    def kill(self, verb: str, when: Callable[[str], object]) -> str:
        """Run `pulumi VERB` in its own session and kill the engine's whole process group as soon as `when` holds of what
        it has printed. What it had printed; fails the test if it ended before. Its provider hosts are left as they are."""
        printed = self.sandbox.state / "killed.log"
        # A file, since the hosts that outlive the engine would hold a pipe open.
        with printed.open("w") as output:
            process = subprocess.Popen(
                ["pulumi", verb, "--yes", "--skip-preview", "--stack", "local", "--non-interactive"],
                cwd=self.sandbox.work,
                env=self.sandbox.engines_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.sessions.append(process.pid)
        try:
            end = time.monotonic() + 120
            while not when(printed.read_text()):
                assert process.poll() is None, f"{verb} ended before it could be killed:\n{printed.read_text()}"
                assert time.monotonic() < end, f"the moment never came:\n{printed.read_text()}"
                time.sleep(0.05)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return printed.read_text()

    def kill_at(self, moment: float) -> bool:
        """Kill `up` at this moment; whether it had ended before."""
        try:
            self.kill("up", lambda _: time.monotonic() >= moment)
        except AssertionError as early:
            if "ended before" not in str(early):
                raise
            return True
        return False

    def recover(self, verb: str = "up") -> str:
        """The next one, as `make` does it: a dead process's lock is cleared first."""
        self.sandbox.lay_out()
        return self.sandbox.pulumi(verb, "--yes", "--skip-preview", "--stack", "local", capture=True).stdout

    def booting(self, known: set[str]) -> bool:
        """Whether a machine boots that was not there before."""
        return any(each.parent.name not in known for each in self.sandbox.state.glob("machines/*/upper"))

    def disks(self) -> set[str]:
        return {each.parent.name for each in self.sandbox.state.glob("machines/*/upper")}


def _members(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interrupted]:
    config = config_file(tmp_path_factory.mktemp("interrupted"), CONFIG.format(aws=1, joyent=1, size="t3.micro"))
    with sandboxed("interrupted", config) as sandbox:
        stack = Interrupted(sandbox)
        stack.config, stack.sessions = config, []
        try:
            yield stack
        finally:
            for process in (each for session in stack.sessions for each in _members(session)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def test_killed_before_the_first_machine(stack: Interrupted) -> None:
    """Role and user, without which no machine is asked for, are being made: IAM is slow, so that none can have been asked for,
    however late the engine prints and however busy the computer is."""
    stack.sandbox.localcloud("fault", "iam", "slow=3", capture=True)
    stack.kill("up", lambda printed: re.search(r"iam\S*:Role \S+ creating", printed))
    stack.sandbox.localcloud("fault", "--clear", "iam", capture=True)
    stack.assert_tagged(set())
    # As if it had been killed a moment later: what has a fixed name is there, and no state knows of it.
    ssm = stack.aws("ssm")
    left = "/rollcall/local/web-aws/token-scalability_expert"
    ssm.put_parameter(Name=left, Type="SecureString", Value="of the killed one", Overwrite=True)
    stack.recover()
    assert ssm.get_parameter(Name=left, WithDecryption=True)["Parameter"]["Value"] != "of the killed one"
    assert len(stack.assert_in_step()) == 2


def test_killed_while_machines_boot(stack: Interrupted) -> None:
    before = stack.disks()
    stack.configure(aws=1, joyent=2)
    stack.kill("up", lambda _: stack.booting(before))
    stack.recover()
    assert len(stack.assert_in_step()) == 3


def test_killed_while_predecessors_drain_in_a_replacement(stack: Interrupted) -> None:
    before = stack.assert_in_step()
    stack.configure(aws=1, joyent=2, size="t3.small")
    stack.kill("up", lambda printed: re.search(r"1 left; waiting|web-aws-0 \(\S+\) to leave", printed))
    stack.recover()
    after = stack.assert_in_step()
    assert len(after) == 3 and len(after & before) == 2, (before, after)


def test_killed_while_machines_are_deleted_in_a_scale_down(stack: Interrupted) -> None:
    stack.configure(aws=1, joyent=1, size="t3.small")
    stack.kill("up", lambda printed: re.search(r"- .*joyent:Machine web-joyent-1 deleting", printed))
    stack.recover()
    assert len(stack.assert_in_step()) == 2


def test_killed_in_the_middle_of_a_roll_call(stack: Interrupted) -> None:
    stack.configure(aws=2, joyent=1, size="t3.small")
    stack.kill("up", lambda printed: "web-aws: 1 of 2 answer" in printed)
    stack.recover()
    assert len(stack.assert_in_step()) == 3


def test_killed_while_an_instance_boots(stack: Interrupted) -> None:
    """`RunInstances` was answered and the state does not know: the next `up` makes another instance under the same
    Deregistration, hence with the same generation, and ends this one."""
    before = stack.disks()
    stack.configure(aws=3, joyent=1, size="t3.small")
    stack.kill("up", lambda _: stack.booting(before))
    stack.recover()
    assert len(stack.assert_in_step()) == 4


@pytest.mark.prove
def test_killed_at_thirty_random_moments(stack: Interrupted) -> None:
    seed = random.randrange(2**32)  # noqa: S311
    chance = random.Random(seed)  # noqa: S311
    print(f"\nseed {seed}")
    for count in range(30):
        aws, joyent, size = chance.randint(1, 2), chance.randint(1, 2), chance.choice(["t3.micro", "t3.small"])
        stack.configure(aws, joyent, size)
        ended = stack.kill_at(time.monotonic() + chance.uniform(1, 30))
        stack.recover()
        assert len(stack.assert_in_step()) == aws + joyent, (count, aws, joyent, size)
        print(
            f"{count + 1}: {aws} and {joyent} of {size}, {'it had ended' if ended else 'killed'}: in step", flush=True
        )


def test_killed_during_destroy(stack: Interrupted) -> None:
    stack.kill("destroy", lambda printed: re.search(r"- .*Machine web-joyent-\d deleting", printed))
    stack.recover("destroy")
    assert stack.resources() == [] or stack.in_state() == set()
    stack.assert_tagged(set())
    assert stack.owners() == {"site": set(), "hosts": set(), "service": set()}
